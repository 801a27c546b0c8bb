"""Two models that answered the same rows: what their difference is known to, at one look at a sample of fixed size.

Both err on much the same rows, so what tells them apart is only where they differ. Two of 5,000 rows each counted by
itself would be as uncertain as two different samples; counted in pairs they are not.

- Shares (accuracy, recall): the *score interval* of a paired difference (Tango 1998, Statistics in Medicine 17). Where
  the baseline is scaled (``within 0.5%`` of it) the same score, of ``p - scale * p_baseline``, gives that of a paired
  ratio (Nam & Blackwelder 2002; Tang, Tang & Chan 2003). It holds for few rows and for no disagreement at all.
- AUC: variances and covariance by DeLong, DeLong & Clarke-Pearson (1988).
- Everything else that an evaluation yields: the same three numbers by a bootstrap that draws rows, and with a row both
  models' answers.

What is measured is kept (a few numbers), so that another gate can be judged on it later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import Field

from airflow_provider_mlpipex.domain.statistics.confidence import Interval
from airflow_provider_mlpipex.domain.values import Value

#: With fewer rows, or fewer of a class, a variance that was estimated from them says nothing.
MIN_ROWS = 50
_BISECTIONS = 44
#: Finer, because where a cell is empty the multiplier lies within a billionth of where its range ends.
_INNER_BISECTIONS = 64
#: Stands for a cell that nobody fell in, so that the likeliest probabilities may still put something there.
_EMPTY = 1e-9


class Discordant(Value):
    """Rows by which of the two models was right on them."""

    kind: Literal["discordant"] = "discordant"
    both: int = Field(ge=0)
    only_candidate: int = Field(ge=0)
    only_baseline: int = Field(ge=0)
    neither: int = Field(ge=0)

    @property
    def rows(self) -> int:
        return self.both + self.only_candidate + self.only_baseline + self.neither

    @property
    def differing(self) -> int:
        """Rows that tell the two apart."""
        return self.only_candidate + self.only_baseline


class Covaried(Value):
    """Variances of both models' estimates, and how they vary together.

    :param rows: that they were estimated from; of a ranking, twice the rows of the rarer class.
    """

    kind: Literal["covaried"] = "covaried"
    rows: int = Field(ge=0)
    variance: float = Field(ge=0)
    baseline_variance: float = Field(ge=0)
    covariance: float
    by: Literal["delong", "bootstrap"]

    def variance_of(self, scale: float) -> float:
        """Of the candidate's estimate minus ``scale`` times the baseline's."""
        return max(0.0, self.variance + scale**2 * self.baseline_variance - 2.0 * scale * self.covariance)


Paired = Annotated[Discordant | Covaried, Field(discriminator="kind")]


class Estimated(Value):
    """One model's estimate by itself: its variance, and from how many rows (:class:`Covaried`)."""

    kind: Literal["estimated"] = "estimated"
    rows: int = Field(ge=0)
    variance: float = Field(ge=0)


def excess_on_same_rows(paired: Paired, *, own: float, base: float, scale: float, level: float) -> Interval | None:
    """Interval of ``own - scale * base``, each of whose ends is wrong with probability ``1 - level``.

    :param own: the candidate's estimate; ``base`` the baseline's.
    :return: ``None`` where so few rows say nothing at all.
    """
    z = NormalDist().inv_cdf(level)
    if isinstance(paired, Discordant):
        return _score_interval(paired, scale, z) if paired.rows else None
    return _normal(own - scale * base, paired.variance_of(scale), paired.rows, z)


def share_of_rows(events: int, trials: int, *, level: float) -> Interval | None:
    """Wilson's score interval of a share; each end is wrong with probability ``1 - level``."""
    if not trials:
        return None
    alone = Discordant(both=events, only_candidate=0, only_baseline=0, neither=trials - events)
    return _score_interval(alone, 0.0, NormalDist().inv_cdf(level))


def estimate(value: float, summary: Estimated, *, level: float) -> Interval | None:
    """Interval of one model's estimate; ``None`` where so few rows say nothing at all."""
    return _normal(value, summary.variance, summary.rows, NormalDist().inv_cdf(level))


def _normal(value: float, variance: float, rows: int, z: float) -> Interval | None:
    if rows < MIN_ROWS:
        return None
    half = z * math.sqrt(variance)
    return Interval(value - half, value + half)


def _score_interval(paired: Discordant, scale: float, z: float) -> Interval:
    """The values of ``p - scale * p_baseline`` that a score test does not reject."""
    cells = (
        (1.0 - scale, paired.both),
        (1.0, paired.only_candidate),
        (-scale, paired.only_baseline),
        (0.0, paired.neither),
    )
    observed = sum(value * count for value, count in cells) / paired.rows
    lowest, highest = min(value for value, _ in cells), max(value for value, _ in cells)

    def score(truth: float) -> float:
        return _score(cells, paired.rows, observed, truth)

    lower = lowest if observed <= lowest else _crossing(lowest, observed, lambda truth: score(truth) > z)
    upper = highest if observed >= highest else _crossing(highest, observed, lambda truth: score(truth) < -z)
    return Interval(lower, upper)


def _crossing(outside: float, inside: float, rejects: Callable[[float], bool]) -> float:
    """Where ``rejects`` begins on the way from ``inside`` to ``outside``."""
    far, near = outside, inside
    for _ in range(_BISECTIONS):
        middle = (far + near) / 2.0
        far, near = (middle, near) if rejects(middle) else (far, middle)
    return near


def _score(cells: tuple[tuple[float, int], ...], rows: int, observed: float, truth: float) -> float:
    """Standard deviations between the observed mean and ``truth``, of the spread that is likeliest if it is true."""
    probabilities = _likeliest(cells, rows, truth)
    squares = sum(value**2 * p for (value, _), p in zip(cells, probabilities, strict=True))
    variance = squares - truth**2
    apart = observed - truth
    if variance <= 0.0:
        return 0.0 if apart == 0.0 else math.copysign(math.inf, apart)
    return apart / math.sqrt(variance / rows)


def _likeliest(cells: tuple[tuple[float, int], ...], rows: int, truth: float) -> list[float]:
    """The likeliest probabilities of the cells whose mean is ``truth``, by one Lagrange multiplier: ``count / (rows +
    multiplier * (value - truth))``, which falls in the multiplier as long as every denominator is positive."""
    counts = [max(float(count), _EMPTY) for _, count in cells]
    apart = [value - truth for value, _ in cells]
    low, high = -rows / max(apart), rows / -min(apart)
    (n1, n2, n3, n4), (a1, a2, a3, a4) = counts, apart
    for _ in range(_INNER_BISECTIONS):
        middle = (low + high) / 2.0
        mean = n1 * a1 / (rows + middle * a1) + n2 * a2 / (rows + middle * a2)
        mean += n3 * a3 / (rows + middle * a3) + n4 * a4 / (rows + middle * a4)
        low, high = (middle, high) if mean > 0.0 else (low, middle)
    multiplier = (low + high) / 2.0
    weights = [n / (rows + multiplier * a) for n, a in zip(counts, apart, strict=True)]
    whole = sum(weights)
    return [weight / whole for weight in weights]
