"""Anytime-valid inference: intervals that may be looked at after every request.

A confidence *sequence* at level ``alpha`` contains the truth at *all* sample sizes at once with probability at least
``1 - alpha``. So a gate may look a thousand times and still raise a false alarm at most ``alpha`` of the time, which a
fixed-sample test looked at repeatedly does not (29 % after 30 daily looks at a nominal 5 %).

- Proportions, and through them quantiles: Beta-binomial mixture martingale with Ville's inequality. Exact at every
  count, so rare errors and small samples need no normal approximation (Robbins 1970; Howard et al. 2021,
  arXiv:1810.08240).
- Two arms with known traffic shares: the same martingale on the *arm of each error*. Exact under equal error rates
  whatever that rate is, because a request is assigned to an arm before it can fail.
- Two arms whatever their shares: one joint region of both probabilities, from the product of the arms' martingales,
  which is a martingale itself in whatever order the arms were asked.
- Bounded means (paired differences of probabilities, flips): predictably mixed betting, hedged over both sides
  (Waudby-Smith & Ramdas 2024, arXiv:2010.09686). Exact for any distribution in the bounds. Where only count, sum and
  sum of squares are kept: Fan's self-normalised martingale (Fan, Grama & Liu 2015), exact as well.

"Exact" speaks of requests that fail independently of one another at one rate. An outage fails them in clumps: it is
told apart from a bad release by comparing arms over the same minutes, not by counting more of it.

Nothing here is random and nothing needs numpy; sizes are counts, so cost does not grow with traffic.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

#: Prior of the mixture. Beta(1/2, 1/2) pays about half a log-count at the edges, where error rates live.
_PRIOR = 0.5
_BISECTIONS = 60
#: Of the joint region of two arms, whose every step is a search of its own. A billionth is enough for an error rate.
_JOINT_BISECTIONS = 32
#: Bets of Fan's martingale: halved from 1/2, with weights that add up to less than 1. Up to 1/2 the martingale only
#: falls on the way from a bound of the mean to its estimate, so bisection finds where it crosses.
_BETS = tuple((0.5**step, math.log(1.0 / (step * (step + 1)))) for step in range(1, 20))


@dataclass(frozen=True)
class Interval:
    """A closed interval that holds the truth; ``lower <= upper``."""

    lower: float
    upper: float

    def __contains__(self, value: float) -> bool:
        return self.lower <= value <= self.upper

    def __neg__(self) -> Interval:
        return Interval(-self.upper, -self.lower)

    def shifted(self, by: float) -> Interval:
        return Interval(self.lower + by, self.upper + by)


def proportion(successes: int, trials: int, *, alpha: float) -> Interval:
    """Confidence sequence of a Bernoulli probability after ``trials`` observations.

    :param successes: 0 ≤ ``successes`` ≤ ``trials``.
    :raises ValueError: on counts or ``alpha`` out of range.
    """
    _check(successes, trials, alpha)
    if trials == 0:
        return Interval(0.0, 1.0)
    limit = math.log(1.0 / alpha)
    estimate = successes / trials
    evidence = _Evidence(successes, trials)

    def outside(p: float) -> bool:
        return evidence.against(p) > limit

    lower = 0.0 if successes == 0 else _boundary(outside, 0.0, estimate)
    upper = 1.0 if successes == trials else _boundary(outside, 1.0, estimate)
    return Interval(lower, upper)


def log_evidence_against(p: float, successes: float, trials: float) -> float:
    """Logarithm of the mixture martingale against "the probability is ``p``"; > log(1/alpha) rejects it.

    Counts that are expected, rather than counted, need not be whole.
    """
    return _Evidence(successes, trials).against(p)


class _Evidence:
    """The mixture martingale of one arm, with what does not depend on ``p`` computed once. Convex in ``p``."""

    def __init__(self, successes: float, trials: float) -> None:
        self.successes, self.failures = successes, trials - successes
        mixed = _log_beta(_PRIOR + self.successes, _PRIOR + self.failures)
        self._mixture = mixed - _log_beta(_PRIOR, _PRIOR)
        self.estimate = successes / trials if trials else 0.5

    def against(self, p: float) -> float:
        if (p <= 0.0 and self.successes) or (p >= 1.0 and self.failures):
            return math.inf
        likelihood = self.successes * math.log(p) if self.successes else 0.0
        return self._mixture - likelihood - (self.failures * math.log1p(-p) if self.failures else 0.0)

    def slope(self, p: float) -> float:
        """Derivative of :meth:`against`; towards the inside where rounding has put ``p`` on an edge."""
        if (p <= 0.0 and self.successes) or (p >= 1.0 and self.failures):
            return -math.inf if p <= 0.0 else math.inf
        return (self.failures / (1.0 - p) if self.failures else 0.0) - (self.successes / p if self.successes else 0.0)


def quantile_exceedance(above: int, observations: int, *, alpha: float) -> Interval:
    """Confidence sequence of ``P(X > limit)``, given how many of ``observations`` lay above ``limit``.

    "p95 is at most the limit" is the same claim as "this probability is at most 0.05", so a quantile gate needs no
    density and no sorting.
    """
    return proportion(above, observations, alpha=alpha)


def quantile(edges: Sequence[float], above: Sequence[int], observations: int, *, q: float, alpha: float) -> Interval:
    """Confidence sequence of the ``q``-quantile, by inverting :func:`quantile_exceedance` at each edge.

    Every edge is tested at the whole of ``alpha``, however many there are: the interval misses only if the test of the
    *true* quantile rejects, which is one martingale, and counts above an edge bound its counts from either side.

    :param edges: rising values that observations were counted by.
    :param above: for each edge, how many of ``observations`` are greater.
    :return: ends are edges (the lower one just beyond), or minus and plus infinity.
    """
    _check(0, observations, alpha)
    limit = math.log(1.0 / alpha)
    allowed = 1.0 - q

    def rejects(at: int) -> bool:
        return log_evidence_against(allowed, above[at], observations) > limit

    below = range(len(edges))
    # Too many above an edge: the quantile lies beyond it. Too few: it lies before. Both are monotone in the edge.
    low = bisect.bisect_left(below, True, key=lambda i: not (above[i] > allowed * observations and rejects(i)))
    high = bisect.bisect_left(below, True, key=lambda i: above[i] < allowed * observations and rejects(i))
    # What is rejected lies up to the edge, the edge included.
    lower = math.nextafter(edges[low - 1], math.inf) if low else -math.inf
    return Interval(lower, edges[high] if high < len(edges) else math.inf)


def relative_risk(candidate_errors: int, control_errors: int, *, candidate_share: float, alpha: float) -> Interval:
    """Confidence sequence of the candidate's error rate over the control's, from errors alone.

    :param candidate_share: share of the two arms' requests that the candidate receives, fixed by the traffic plan.
    :return: the ratio; ``[0, inf]`` while there are no errors to learn from.
    """
    if not 0.0 < candidate_share < 1.0:
        raise ValueError(f"candidate_share must lie strictly between 0 and 1, got {candidate_share}")
    of_candidate = proportion(candidate_errors, candidate_errors + control_errors, alpha=alpha)
    odds_of_equal = candidate_share / (1.0 - candidate_share)
    return Interval(_odds(of_candidate.lower) / odds_of_equal, _odds(of_candidate.upper) / odds_of_equal)


def difference_of_proportions(
    successes: int, trials: int, baseline_successes: int, baseline_trials: int, *, alpha: float, scale: float = 1.0
) -> Interval:
    """Confidence sequence of ``p - scale * p_baseline``.

    The product of both arms' martingales is a martingale too, in whatever order and at whatever shares the arms are
    asked. Pairs of probabilities that it does not reject at ``alpha`` are a joint region for all sample sizes; what the
    difference takes in it is the interval. It needs no known traffic share: hashing users into arms does not give one.
    Against an interval an arm at half of ``alpha`` it needs a third fewer requests where the shares are 25 to 75 %, and
    as many at 5 %.

    :param scale: 1.1 for "within 10 % of the baseline", at least 0.
    """
    _check(successes, trials, alpha)
    _check(baseline_successes, baseline_trials, alpha)
    if scale < 0.0:
        raise ValueError(f"scale must not be negative, got {scale}")
    limit = math.log(1.0 / alpha)
    own, base = _Evidence(successes, trials), _Evidence(baseline_successes, baseline_trials)
    difference = own.estimate - scale * base.estimate

    def outside(gap: float) -> bool:
        return _least_evidence(own, base, gap, scale) > limit

    return Interval(
        _boundary(outside, -scale, difference, _JOINT_BISECTIONS),
        _boundary(outside, 1.0, difference, _JOINT_BISECTIONS),
    )


def difference_exceeds(
    gap: float, successes: int, trials: int, baseline_successes: int, baseline_trials: int, *, alpha: float
) -> bool:
    """Whether the whole of :func:`difference_of_proportions` lies above ``gap``, without computing its ends."""
    _check(successes, trials, alpha)
    _check(baseline_successes, baseline_trials, alpha)
    own, base = _Evidence(successes, trials), _Evidence(baseline_successes, baseline_trials)
    if own.estimate - base.estimate <= gap:
        return False
    return _least_evidence(own, base, gap, 1.0) > math.log(1.0 / alpha)


def _least_evidence(own: _Evidence, base: _Evidence, gap: float, scale: float) -> float:
    """The least joint evidence against any pair of probabilities with ``p = scale * p_baseline + gap``."""
    if scale == 0.0:
        return own.against(min(1.0, max(0.0, gap))) + base.against(base.estimate)
    low, high = max(0.0, -gap / scale), min(1.0, (1.0 - gap) / scale)
    if low >= high:
        return own.against(min(1.0, max(0.0, scale * low + gap))) + base.against(min(1.0, low))
    # The sum is convex along the line, so its slope changes sign once. The middle is always strictly inside.
    for _ in range(_JOINT_BISECTIONS):
        middle = (low + high) / 2.0
        if base.slope(middle) + scale * own.slope(scale * middle + gap) > 0.0:
            high = middle
        else:
            low = middle
    candidates = (low, (low + high) / 2.0, high)
    return min(own.against(min(1.0, max(0.0, scale * p + gap))) + base.against(p) for p in candidates)


@dataclass(frozen=True)
class Moments:
    """Sufficient summary of a stream: count, sum and sum of squares. Mergeable, so windows add up."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan

    @property
    def variance(self) -> float:
        """Population variance, never negative."""
        return max(0.0, self.squares / self.count - self.mean**2) if self.count else math.nan


def mean_asymptotic(moments: Moments, *, alpha: float, tuned_for: int = 1000) -> Interval:
    """Asymptotic confidence sequence of an *unbounded* mean (Waudby-Smith et al. 2021, arXiv:2103.06476).

    Valid as counts grow; for bounded values prefer :func:`mean_bounded`, which is exact.

    :param tuned_for: sample size at which the interval is tightest.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    n = moments.count
    if n < 2:
        return Interval(-math.inf, math.inf)
    rho_squared = (-2.0 * math.log(alpha) + math.log(-2.0 * math.log(alpha) + 1.0)) / tuned_for
    width = math.sqrt(
        2.0 * (n * rho_squared + 1.0) / (n * n * rho_squared) * math.log(math.sqrt(n * rho_squared + 1.0) / alpha)
    )
    half = width * math.sqrt(moments.variance)
    return Interval(moments.mean - half, moments.mean + half)


def mean_bounded(values: Iterable[float], *, lower: float, upper: float, alpha: float) -> Interval:
    """Confidence sequence of the mean of values in ``[lower, upper]``: hedged empirical-Bernstein form.

    Predictable plug-in: every weight uses only what came before it, which is what makes the bound exact whatever the
    distribution is.

    :raises ValueError: a value outside the bounds, or NaN. Telling is better than clipping.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    span = upper - lower
    if span <= 0:
        raise ValueError(f"upper ({upper}) must exceed lower ({lower})")
    log_term = math.log(2.0 / alpha)
    weight_sum = weighted = penalty = 0.0
    running_total, running_squares = 0.5, 0.25
    running_lower, running_upper = 0.0, 1.0
    for n, value in enumerate(values, start=1):
        if not lower <= value <= upper:
            raise ValueError(f"value {value} lies outside [{lower}, {upper}]")
        x = (value - lower) / span
        mean_before = running_total / n
        variance_before = running_squares / n
        weight = min(math.sqrt(2.0 * log_term / (variance_before * n * math.log(1.0 + n))), 0.5)
        psi = (-math.log1p(-weight) - weight) / 4.0
        weight_sum += weight
        weighted += weight * x
        penalty += 4.0 * (x - mean_before) ** 2 * psi
        centre, half = weighted / weight_sum, (log_term + penalty) / weight_sum
        # The intersection over time is valid as well: the truth lies in all of them at once.
        running_lower, running_upper = max(running_lower, centre - half), min(running_upper, centre + half)
        running_total += x
        running_squares += (x - running_total / (n + 1)) ** 2
    if running_lower > running_upper:  # only with probability alpha: report the point where the sequences crossed
        running_lower = running_upper = (running_lower + running_upper) / 2.0
    return Interval(lower + span * running_lower, lower + span * running_upper)


def mean_of_bounded(moments: Moments, *, lower: float, upper: float, alpha: float) -> Interval:
    """Confidence sequence of the mean of values in ``[lower, upper]``, from count, sum and squares alone.

    For ``x >= -1`` with mean 0 and a bet ``b`` in [0, 1), ``exp(b x + (b + log(1 - b)) x^2)`` has mean at most 1.
    Summed up that needs no order of the values, so it can be judged again later, at another ``alpha``. Each side gets
    half of ``alpha``, spread over bets of every size.

    :raises ValueError: moments that no values in the bounds can have.
    """
    _check(0, moments.count, alpha)
    span = upper - lower
    if span <= 0:
        raise ValueError(f"upper ({upper}) must exceed lower ({lower})")
    n = moments.count
    if n == 0:
        return Interval(lower, upper)
    mean = (moments.mean - lower) / span
    slack = 1e-9
    if not -slack <= mean <= 1.0 + slack:
        raise ValueError(f"a mean of {moments.mean} of values in [{lower}, {upper}]")
    mean, variance = min(1.0, max(0.0, mean)), moments.variance / span**2
    limit = math.log(2.0 / alpha)

    def outside(m: float) -> bool:
        distance = abs(mean - m)
        square = variance + distance**2
        logs = [log_weight + n * (bet * distance + (bet + math.log1p(-bet)) * square) for bet, log_weight in _BETS]
        largest = max(logs)
        return largest + math.log(sum(math.exp(log - largest) for log in logs)) > limit

    return Interval(lower + span * _boundary(outside, 0.0, mean), lower + span * _boundary(outside, 1.0, mean))


def share_alpha(alpha: float, gates: int) -> float:
    """One rollout's ``alpha`` split evenly among its gates (union bound)."""
    if gates < 1:
        raise ValueError(f"gates must be at least 1, got {gates}")
    return alpha / gates


def _boundary(outside: Callable[[float], bool], edge: float, inside: float, bisections: int = _BISECTIONS) -> float:
    """Where ``outside`` changes between ``edge`` (outside, or the interval's end) and ``inside``; errs outward."""
    if not outside(edge):
        return edge
    out, within = edge, inside
    for _ in range(bisections):
        middle = (out + within) / 2.0
        if outside(middle):
            out = middle
        else:
            within = middle
    return out


def _odds(p: float) -> float:
    return math.inf if p >= 1.0 else p / (1.0 - p)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _check(successes: int, trials: int, alpha: float) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"0 <= successes <= trials, got {successes} of {trials}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
