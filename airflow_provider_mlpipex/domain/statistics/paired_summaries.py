"""Sufficient statistics of what a shadow's gates judge beside shares, means and quantiles: slices and distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Literal

from pydantic import Field, model_validator

from airflow_provider_mlpipex.domain.statistics import confidence as statistics
from airflow_provider_mlpipex.domain.statistics.confidence import Interval
from airflow_provider_mlpipex.domain.values import Value

DistanceName = Literal["psi", "ks", "js"]


class Worst(Value):
    """Yes-or-no outcomes of many slices, of which the worst is judged.

    :param parts: (events, trials, part of the alpha) of each slice. The parts are fixed whatever the slices show, so
        that looking at many of them raises no more false alarms than looking at one.
    """

    kind: Literal["worst"] = "worst"
    parts: tuple[tuple[int, int, float], ...]

    @model_validator(mode="after")
    def _possible(self) -> Worst:
        if not all(0 <= events <= trials and 0.0 < share <= 1.0 for events, trials, share in self.parts):
            raise ValueError("events of each slice are among its trials, and its part of the alpha is from 0 to 1")
        if sum(share for *_, share in self.parts) > 1.0 + 1e-9:
            raise ValueError("the parts of the alpha add up to more than all of it")
        return self

    def interval(self, *, alpha: float) -> Interval:
        """Confidence sequence of the highest of their probabilities."""
        each = [
            statistics.proportion(events, trials, alpha=alpha * share) for events, trials, share in self.parts if trials
        ]
        if not each:
            return Interval(0.0, 1.0)
        return Interval(max(part.lower for part in each), max(part.upper for part in each))


class Apart(Value):
    """Two sides counted in the same groups, of which the distance is judged.

    :param first: count of each group, ``second`` likewise.
    """

    kind: Literal["apart"] = "apart"
    distance: DistanceName
    first: tuple[int, ...] = Field(min_length=1)
    second: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _lined_up(self) -> Apart:
        if len(self.first) != len(self.second) or min(*self.first, *self.second) < 0:
            raise ValueError("both sides have a count of 0 or more for every group")
        return self

    def interval(self, *, alpha: float) -> Interval:
        """Confidence sequence of the distance between the two sides over these groups.

        Each side's share of each group has a confidence sequence of its own, at an even part of ``alpha``. What all
        shares in them allow is the interval: wider than it need be, because nothing is assumed of how the sides hang
        together, and right for that very reason. Of KS the groups hide what happens inside them, and the upper end
        allows for it.
        """
        if self.distance == "ks":
            return self._kolmogorov_smirnov(alpha)
        term = _psi_term if self.distance == "psi" else _jensen_shannon_term
        parts = [_least_and_most(p, q, term) for p, q in zip(*self._shares(alpha), strict=True)]
        lower, upper = (math.fsum(ends) for ends in zip(*parts, strict=True))
        if self.distance == "psi":
            return Interval(lower, upper)
        return Interval(math.sqrt(lower), math.sqrt(min(1.0, upper)))

    def _shares(self, alpha: float) -> tuple[list[Interval], list[Interval]]:
        part = alpha / (2 * len(self.first))
        left, right = (
            [statistics.proportion(count, sum(side), alpha=part) for count in side]
            for side in (self.first, self.second)
        )
        return left, right

    def _kolmogorov_smirnov(self, alpha: float) -> Interval:
        sides = [
            [
                statistics.proportion(count, sum(side), alpha=alpha / (4 * len(side)))
                for count in list(accumulate(side))[:-1]
            ]
            for side in (self.first, self.second)
        ]
        gaps = [Interval(p.lower - q.upper, p.upper - q.lower) for p, q in zip(*sides, strict=True)]
        least = max((max(0.0, gap.lower, -gap.upper) for gap in gaps), default=0.0)
        most = max((max(-gap.lower, gap.upper) for gap in gaps), default=0.0)
        inside = max(min(p.upper, q.upper) for p, q in zip(*self._shares(alpha / 2.0), strict=True))
        return Interval(least, min(1.0, most + inside))


def _least_and_most(p: Interval, q: Interval, term: Callable[[float, float], float]) -> tuple[float, float]:
    """Least and largest value of ``term`` over two intervals; it is 0 where both shares are equal, and grows as they
    move apart."""
    apart = [(p.lower, q.upper), (p.upper, q.lower)]
    if p.lower > q.upper:
        least = term(p.lower, q.upper)
    elif q.lower > p.upper:
        least = term(p.upper, q.lower)
    else:
        least = 0.0
    return least, max(term(*ends) for ends in apart)


def _psi_term(p: float, q: float) -> float:
    if p == q:
        return 0.0
    return math.inf if p == 0.0 or q == 0.0 else (q - p) * math.log(q / p)


def _jensen_shannon_term(p: float, q: float) -> float:
    middle = (p + q) / 2.0
    return sum(share * math.log2(share / middle) for share in (p, q) if share > 0.0) / 2.0
