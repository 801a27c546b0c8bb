"""What evidence was computed from, kept beside its value: enough to judge it again, at another alpha or another limit.

A share without its count, or a p95 without its histogram, is a point without an interval. These are sufficient
statistics: they add up over windows, they are a few hundred bytes of JSON, and :mod:`statistics` needs nothing else.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from airflow_provider_mlpipex.domain.statistics import confidence as statistics
from airflow_provider_mlpipex.domain.statistics.confidence import Interval, Moments
from airflow_provider_mlpipex.domain.statistics.paired_summaries import Apart, Worst
from airflow_provider_mlpipex.domain.statistics.same_rows import Estimated
from airflow_provider_mlpipex.domain.values import Value


class Counted(Value):
    """Yes-or-no outcomes: ``events`` of ``trials`` (errors of requests, agreeing of pairs)."""

    kind: Literal["counted"] = "counted"
    events: int = Field(ge=0)
    trials: int = Field(ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Counted:
        if self.events > self.trials:
            raise ValueError(f"{self.events} events of {self.trials} trials")
        return self


class Timed(Value):
    """A latency histogram without its empty buckets.

    :param buckets: (over ms, up to ms, count > 0), rising; the last may have no upper end (``None``).
    """

    kind: Literal["timed"] = "timed"
    buckets: tuple[tuple[float, float | None, int], ...] = ()

    @model_validator(mode="after")
    def _rising(self) -> Timed:
        counted = all(over < up_to and count > 0 for over, up_to, count in self._bounded)
        if not counted or any(before[1] > after[0] for before, after in pairwise(self._bounded)):
            raise ValueError("buckets rise, do not overlap and hold something")
        return self

    @cached_property
    def _bounded(self) -> tuple[tuple[float, float, int], ...]:
        return tuple((over, math.inf if up_to is None else up_to, count) for over, up_to, count in self.buckets)

    @cached_property
    def total(self) -> int:
        return sum(count for _, _, count in self.buckets)

    @cached_property
    def edges(self) -> tuple[float, ...]:
        """Finite bucket edges in milliseconds, rising."""
        return tuple(sorted({edge for over, up_to, _ in self._bounded for edge in (over, up_to) if edge < math.inf}))

    @cached_property
    def above(self) -> tuple[int, ...]:
        """For each of :attr:`edges`, how many observations took longer."""
        left, counts, rest = self.total, [], list(reversed(self._bounded))
        for edge in self.edges:
            while rest and rest[-1][1] <= edge:
                left -= rest.pop()[2]
            counts.append(left)
        return tuple(counts)

    def slower_than(self, limit: float) -> tuple[int, int]:
        """How many observations took longer than ``limit``: at least, and at most, as its bucket may hold both."""
        surely = sum(count for over, _, count in self._bounded if over >= limit)
        return surely, sum(count for _, up_to, count in self._bounded if up_to > limit)

    def quantile(self, q: float) -> float | None:
        """The ``q``-quantile in milliseconds, interpolated in its bucket; ``None`` without observations."""
        rank, below = q * self.total, 0
        for over, up_to, count in self.buckets:
            if below + count >= rank:
                return over if up_to is None else over + (up_to - over) * max(0.0, rank - below) / count
            below += count
        return None


class Summed(Value):
    """Values of which the mean is judged.

    :param lower: with ``upper``, what no value can go beyond; the interval of the mean is exact then.
    """

    kind: Literal["summed"] = "summed"
    count: int = Field(ge=0)
    total: float
    squares: float = Field(ge=0, description="sum of the squared values")
    lower: float | None = None
    upper: float | None = None

    @property
    def moments(self) -> Moments:
        return Moments(self.count, self.total, self.squares)


Summary = Annotated[Counted | Timed | Summed | Worst | Apart | Estimated, Field(discriminator="kind")]


def interval(summary: Summary, *, alpha: float, quantile: float | None = None) -> Interval:
    """Confidence sequence of what ``summary`` estimates.

    :param quantile: which one, for :class:`Timed` (0.95 for p95).
    :raises ValueError: a histogram without a quantile to ask of it, or an estimate, of which there is no sequence.
    """
    if isinstance(summary, Counted):
        return statistics.proportion(summary.events, summary.trials, alpha=alpha)
    if isinstance(summary, Timed):
        if quantile is None:
            raise ValueError("a histogram is judged by one of its quantiles")
        bounds = statistics.quantile(summary.edges, summary.above, summary.total, q=quantile, alpha=alpha)
        # A latency is no less than 0; a difference of latencies may be.
        least = min(0.0, summary.edges[0]) if summary.edges else 0.0
        return Interval(max(least, bounds.lower), bounds.upper)
    if isinstance(summary, Estimated):
        raise ValueError("a variance that was estimated once allows one look")
    if isinstance(summary, Worst | Apart):
        return summary.interval(alpha=alpha)
    if summary.lower is None or summary.upper is None:
        return statistics.mean_asymptotic(summary.moments, alpha=alpha)
    return statistics.mean_of_bounded(summary.moments, lower=summary.lower, upper=summary.upper, alpha=alpha)


def excess(own: Summary, base: Summary, *, scale: float, alpha: float, quantile: float | None = None) -> Interval:
    """Confidence sequence of the candidate's value minus ``scale`` times the baseline's, ``scale`` at least 0.

    Shares have one joint region; of quantiles and means each arm has half of ``alpha``.
    """
    if isinstance(own, Counted) and isinstance(base, Counted):
        return statistics.difference_of_proportions(
            own.events, own.trials, base.events, base.trials, alpha=alpha, scale=scale
        )
    mine = interval(own, alpha=alpha / 2, quantile=quantile)
    theirs = interval(base, alpha=alpha / 2, quantile=quantile)
    if scale == 0.0:
        return mine
    return Interval(mine.lower - scale * theirs.upper, mine.upper - scale * theirs.lower)
