"""Anytime-valid inference: intervals that may be looked at after every request.

A confidence *sequence* at level ``alpha`` contains the truth at *all* sample sizes at once with probability at least
``1 - alpha``. So a gate may look a thousand times and still raise a false alarm at most ``alpha`` of the time, which a
fixed-sample test looked at repeatedly does not (29 % after 30 daily looks at a nominal 5 %).

- Proportions, and through them quantiles: Beta-binomial mixture martingale with Ville's inequality. Exact at every
  count, so rare errors and small samples need no normal approximation (Robbins 1970; Howard et al. 2021,
  arXiv:1810.08240).
- Two arms with known traffic shares: the same martingale on the *arm of each error*. Exact under equal error rates
  whatever that rate is, because a request is assigned to an arm before it can fail.
- Bounded means (paired differences of probabilities, flips): predictably mixed betting, hedged over both sides
  (Waudby-Smith & Ramdas 2024, arXiv:2010.09686). Exact for any distribution in the bounds.

Nothing here is random and nothing needs numpy; sizes are counts, so cost does not grow with traffic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: Prior of the mixture. Beta(1/2, 1/2) pays about half a log-count at the edges, where error rates live.
_PRIOR = 0.5
_BISECTIONS = 60


@dataclass(frozen=True)
class Interval:
    """A closed interval that holds the truth; ``lower <= upper``."""

    lower: float
    upper: float

    def __contains__(self, value: float) -> bool:
        return self.lower <= value <= self.upper


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

    def outside(p: float) -> bool:
        return log_evidence_against(p, successes, trials) > limit

    lower = 0.0 if successes == 0 else _boundary(outside, 0.0, estimate)
    upper = 1.0 if successes == trials else _boundary(outside, 1.0, estimate)
    return Interval(lower, upper)


def log_evidence_against(p: float, successes: int, trials: int) -> float:
    """Logarithm of the mixture martingale against "the probability is ``p``"; > log(1/alpha) rejects it."""
    failures = trials - successes
    if (p <= 0.0 and successes) or (p >= 1.0 and failures):
        return math.inf
    mixture = _log_beta(_PRIOR + successes, _PRIOR + failures) - _log_beta(_PRIOR, _PRIOR)
    likelihood = (successes * math.log(p) if successes else 0.0) + (failures * math.log1p(-p) if failures else 0.0)
    return mixture - likelihood


def quantile_exceedance(above: int, observations: int, *, alpha: float) -> Interval:
    """Confidence sequence of ``P(X > limit)``, given how many of ``observations`` lay above ``limit``.

    "p95 is at most the limit" is the same claim as "this probability is at most 0.05", so a quantile gate needs no
    density and no sorting.
    """
    return proportion(above, observations, alpha=alpha)


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
    successes: int, trials: int, baseline_successes: int, baseline_trials: int, *, alpha: float
) -> Interval:
    """Confidence sequence of ``p - p_baseline``: each arm at half of ``alpha``, so both hold at once.

    Conservative against one joint sequence, and exact at every count of either arm.
    """
    own = proportion(successes, trials, alpha=alpha / 2)
    base = proportion(baseline_successes, baseline_trials, alpha=alpha / 2)
    return Interval(own.lower - base.upper, own.upper - base.lower)


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


def share_alpha(alpha: float, gates: int) -> float:
    """One rollout's ``alpha`` split evenly among its gates (union bound)."""
    if gates < 1:
        raise ValueError(f"gates must be at least 1, got {gates}")
    return alpha / gates


def trials_to_detect(p0: float, p1: float, *, alpha: float) -> int:
    """Expected trials until :func:`proportion` excludes ``p0`` when the truth is ``p1``.

    Found by following the expected counts: the martingale grows by the relative entropy a trial, less the mixture's
    price. Accurate to about a tenth, which is what a plan needs to say "30 minutes cannot decide".
    """
    for name, p in (("p0", p0), ("p1", p1)):
        if not 0.0 < p < 1.0:
            raise ValueError(f"{name} must lie strictly between 0 and 1, got {p}")
    if p0 == p1:
        raise ValueError("equal probabilities can never be told apart")
    limit = math.log(1.0 / alpha)
    low, high = 1, 1
    while _expected_log_evidence(p0, p1, high) <= limit:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if _expected_log_evidence(p0, p1, middle) > limit:
            high = middle
        else:
            low = middle
    return high


def _expected_log_evidence(p0: float, p1: float, trials: int) -> float:
    successes = p1 * trials
    failures = trials - successes
    mixture = _log_beta(_PRIOR + successes, _PRIOR + failures) - _log_beta(_PRIOR, _PRIOR)
    return mixture - successes * math.log(p0) - failures * math.log1p(-p0)


def _boundary(outside: Callable[[float], bool], edge: float, inside: float) -> float:
    """Where ``outside`` changes between ``edge`` (outside, or the interval's end) and ``inside``; errs outward."""
    if not outside(edge):
        return edge
    out, within = edge, inside
    for _ in range(_BISECTIONS):
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
