"""Slices of the paired requests, and which of them are worse than the rest, after so many have been looked at.

Look at fifty airports and one of them is bad by chance. So the slices share one alpha, and a slice is named only if its
own confidence sequence excludes the value of all pairs together. (That value contains the slice, so by chance the two
lie closer to each other than the slice lies to the truth.)

How many slices there are is not known beforehand, and more may appear with every look; the share of each must not
depend on what it shows. A slice is looked at from the moment it has :data:`MIN_PAIRS` pairs. When ``d`` values of a
column have as many, each gets ``1 / (2 m (1 + log(m / MAX_VALUES))^2)`` of the column's alpha, with ``m`` the larger
of ``d`` and :data:`MAX_VALUES`. The ``i``-th value to get there never has more than that share at ``d = i``, and these
add up to 1/2 for the first :data:`MAX_VALUES`, and to at most 1/2 for all that ever follow: never to more than alpha,
however many there come to be, and whichever of them are shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from airflow_provider_mlpipex.domain.statistics import summaries
from airflow_provider_mlpipex.domain.statistics.confidence import Interval
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summed
from airflow_provider_mlpipex.domain.values import Value

#: Pairs below which nothing is said about a slice.
MIN_PAIRS = 30
#: Values of a column that are looked at: those with the most pairs. The others are only counted.
MAX_VALUES = 50
#: Columns that a manifest may slice by.
MAX_COLUMNS = 8
#: Slices that are named.
MAX_NAMED = 10
#: Longer values are cut, so that a column of documents stays bounded.
MAX_VALUE_LENGTH = 64
#: Chance that any slice is named although none differs, however often one looks.
ALPHA = 0.05
#: Within so many standard errors no sequence excludes anything: its log evidence is at most half their square (of a
#: mean) or the square (of a share), and what a slice needs is log(4 x MAX_VALUES / ALPHA) = 8.3 at the least.
_NEAR = 2.0


class Slice(Value):
    """The pairs that share one value of a column.

    :param value: as the client sent it, up to :data:`MAX_VALUE_LENGTH` characters; ``None`` where the request has none.
    :param count: pairs with a number on both sides; ``total`` and ``squares`` of their differences.
    :param inputs: distinct rows among the pairs, ``flipped_inputs`` those whose first pair flipped; ``None``: nobody
        has counted them.
    """

    value: str | None
    pairs: int = Field(ge=0)
    flips: int = Field(ge=0)
    count: int = Field(default=0, ge=0)
    total: float = 0.0
    squares: float = Field(default=0.0, ge=0)
    inputs: int | None = None
    flipped_inputs: int = 0

    @property
    def flipped(self) -> Counted:
        """What the interval of its flip rate is computed from."""
        if self.inputs is None:
            return Counted(events=self.flips, trials=self.pairs)
        return Counted(events=self.flipped_inputs, trials=self.inputs)


class SlicedColumn(Value):
    """One column's slices.

    :param slices: the values with the most pairs, at most :data:`MAX_VALUES`, each with at least
        :data:`MIN_PAIRS`.
    :param large_enough: values with as many pairs, shown or not.
    :param values: distinct values.
    :param others: pairs of the values that are not among ``slices``.
    """

    column: str
    slices: tuple[Slice, ...] = ()
    large_enough: int = 0
    values: int = 0
    others: int = 0

    def share(self, columns: int) -> float:
        """Part of the alpha that one slice of this column has, of ``columns`` together."""
        most = max(MAX_VALUES, self.large_enough)
        return 1.0 / (columns * 2.0 * most * (1.0 + math.log(most / MAX_VALUES)) ** 2)


class WorseSlice(Value):
    """A slice that differs from the whole by more than chance does.

    :param flip_rate: with its interval; ``overall_flip_rate`` is that of all pairs.
    :param mean_difference: with its interval; ``None`` where there are no numbers.
    :param because: which of the two excludes the whole.
    """

    column: str
    value: str | None
    pairs: int
    because: tuple[str, ...]
    flip_rate: float
    flip_interval: tuple[float, float]
    overall_flip_rate: float
    mean_difference: float | None = None
    mean_interval: tuple[float, float] | None = None
    overall_mean_difference: float | None = None

    def to_facts(self) -> dict[str, Any]:
        """JSON without what it does not know."""
        return {name: value for name, value in self.to_json().items() if value is not None}


def worst(
    columns: Sequence[SlicedColumn], *, flipped: Counted, mean: Summed, alpha: float = ALPHA
) -> tuple[WorseSlice, ...]:
    """The slices that are worse than all pairs together, worst first, at most :data:`MAX_NAMED`.

    A slice is worse if its answers flip more often, or if its mean difference lies farther from 0, on either side. Half
    of ``alpha`` goes to each question. Flips come first, by how much is certain of them; then differences, likewise.

    :param flipped: flips of all pairs.
    :param mean: differences of all pairs, with the bounds that each slice shares.
    """
    candidates = [ranked for column in columns for ranked in _worse(column, len(columns), flipped, mean, alpha)]
    candidates.sort(key=lambda ranked: ranked[0], reverse=True)
    return tuple(worse for _, worse in candidates[:MAX_NAMED])


def worst_flip_rate(columns: Sequence[SlicedColumn], *, alpha: float = ALPHA) -> tuple[str, Slice] | None:
    """The column and slice of which the highest flip rate is certain; ``None`` where no slice is large enough."""
    certain = [
        (_flips(part, alpha * column.share(len(columns))).lower, part.flips / part.pairs, column.column, part)
        for column in columns
        for part in column.slices
    ]
    if not certain:
        return None
    _, _, name, part = max(certain, key=lambda each: each[:2])
    return name, part


def _worse(
    column: SlicedColumn, columns: int, flipped: Counted, mean: Summed, alpha: float
) -> Iterator[tuple[tuple[float, float], WorseSlice]]:
    """Each slice of ``column`` that is worse, with how much of it is certain."""
    share = alpha / 2.0 * column.share(columns)
    flip_rate = flipped.events / flipped.trials if flipped.trials else 0.0
    for part in column.slices:
        own = part.flipped
        flips_stray = own.events / own.trials - flip_rate > _NEAR * math.sqrt(flip_rate * (1 - flip_rate) / own.trials)
        means_stray = part.count > 1 and mean.count > 1 and _strays(part, mean)
        if not flips_stray and not means_stray:
            continue
        flips = _flips(part, share)
        more = max(0.0, flips.lower - flip_rate)
        differences = _mean_interval(part, mean, share) if part.count else None
        farther = _farther(differences, abs(mean.moments.mean)) if differences and mean.count else 0.0
        because = [name for name, by in (("flip rate", more), ("mean difference", farther)) if by > 0]
        if because:
            yield (
                (more, farther),
                WorseSlice(
                    column=column.column,
                    value=part.value,
                    pairs=part.pairs,
                    because=tuple(because),
                    flip_rate=part.flips / part.pairs,
                    flip_interval=(flips.lower, flips.upper),
                    overall_flip_rate=flip_rate,
                    mean_difference=part.total / part.count if part.count else None,
                    mean_interval=(differences.lower, differences.upper) if differences else None,
                    overall_mean_difference=mean.moments.mean if mean.count else None,
                ),
            )


def _flips(part: Slice, alpha: float) -> Interval:
    return summaries.interval(part.flipped, alpha=alpha)


def _mean_interval(part: Slice, whole: Summed, alpha: float) -> Interval:
    own = whole.model_copy(update={"count": part.count, "total": part.total, "squares": part.squares})
    return summaries.interval(own, alpha=alpha)


def _strays(part: Slice, whole: Summed) -> bool:
    own = Summed(count=part.count, total=part.total, squares=part.squares).moments
    return abs(own.mean - whole.moments.mean) > _NEAR * math.sqrt(own.variance / own.count)


def _farther(interval: Interval, size: float) -> float:
    """By how much ``interval`` lies farther from 0 than ``size``, on either side; 0 if it reaches nearer."""
    return max(0.0, interval.lower - size, -size - interval.upper)
