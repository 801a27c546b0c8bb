"""Sketches: what one column did in one minute of one batch, as counts over bins that were fixed at registration.

Fixed bins are what makes sketches add up: any window, any set of batches and any release is a sum of counts, without
raw rows. Sums of values are kept as whole numbers in units of the reference's standard deviation, so merging is exact:
associative and commutative to the last bit, whatever the order in which a log was compacted.

The bins themselves, and the reading of values into them, are in :mod:`column_bins`; the reference that is stored with
a release is in :mod:`references`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator, AwareDatetime, Field

from airflow_provider_mlpipex.domain.errors import SketchUnusable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.values import Value

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Group = TypeVar("Group", bound=Hashable)

#: Steps of a fixed-point number in one standard deviation of the reference.
STEPS = 1024
#: Values farther out than this many standard deviations count as this far in sums, so that one wild value cannot
#: hide all others. Counts, minimum and maximum are not touched.
FARTHEST = 1024

#: Rows that are in no bin: null · NaN · plus or minus infinity · of another type than in training · column not there.
OUTSIDE_BINS = ("missing", "nan", "infinite", "unreadable", "absent")
_SUMS = ("total", "squares", "beyond")
_NUMBERS = (*OUTSIDE_BINS, *_SUMS)
_INT_ARRAYS = ("offsets", "filled", "counts", "group_rows", "group_scores", "whole")
_LOW_HALF = 2**32 - 1


def _whole_minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


class SketchKey(Value):
    """Whose sketch it is. ``minute`` is kept in UTC and cut down to the minute that a moment lies in.

    :param release: release identifier.
    :param batch: what a drift event is traced to: a partition of served requests.
    """

    endpoint: EndpointRef
    release: str = Field(min_length=1, max_length=200)
    column: str
    batch: str = Field(min_length=1, max_length=200)
    minute: Annotated[AwareDatetime, AfterValidator(_whole_minute)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Sketch:
    """Counts of one column.

    :param bins: identity of the bins; only sketches over the same bins can be merged or compared.
    :param filled: bins that hold rows, rising; ``counts`` rows in each of them, all above zero.
    :param missing: one count for each of :data:`OUTSIDE_BINS`, as are the four after it.
    :param minimum: smallest finite value, ``inf`` where there is none; ``maximum`` likewise.
    :param total: sum of the finite values, as distance from the reference's mean in steps of 1/1024 of its standard
        deviation; ``squares`` the sum of their squares; ``beyond`` the summed distance of values outside the
        reference's range.
    :param group_rows: rows with a score in each coarse group (the last: rows outside all bins); ``group_scores`` the
        sums of those scores, fixed-point like ``total``. Zeros where no scores were given.
    """

    bins: str
    filled: Ints
    counts: Ints
    group_rows: Ints
    group_scores: Ints
    missing: int = 0
    nan: int = 0
    infinite: int = 0
    unreadable: int = 0
    absent: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: int = 0
    squares: int = 0
    beyond: int = 0

    @property
    def usable(self) -> int:
        """Rows that are in a bin."""
        return int(self.counts.sum())

    @property
    def unusable(self) -> int:
        """Rows that are in no bin, for whatever reason."""
        return sum(int(getattr(self, name)) for name in OUTSIDE_BINS)

    @property
    def rows(self) -> int:
        return self.usable + self.unusable

    @property
    def mean(self) -> float:
        """Mean of the finite values in standard deviations from the reference's mean; NaN without any."""
        return self.total / STEPS / self.usable if self.usable else math.nan

    @property
    def variance(self) -> float:
        """Population variance of the finite values in the reference's variance; NaN without any."""
        if not self.usable:
            return math.nan
        # Exact whole numbers up to the last division, so nothing cancels.
        return (self.squares * self.usable - self.total**2) / (STEPS * self.usable) ** 2

    def dense(self, size: int) -> Ints:
        """Rows in each of ``size`` bins, empty ones included."""
        counts = np.zeros(size, dtype=np.int64)
        counts[self.filled] = self.counts
        return counts

    def __add__(self, other: Sketch) -> Sketch:
        return merge((self, other))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def to_json(self) -> dict[str, Any]:
        """JSON-ready and compact: only bins with rows, only numbers that are not zero."""
        stored: dict[str, Any] = {"bins": self.bins, "groups": len(self.group_rows)}
        stored |= {name: number for name in _NUMBERS if (number := getattr(self, name))}
        if len(self.filled):
            stored |= {"filled": self.filled.tolist(), "counts": self.counts.tolist()}
        if self.minimum <= self.maximum:
            stored |= {"minimum": self.minimum, "maximum": self.maximum}
        if self.group_rows.any():
            stored |= {"group_rows": self.group_rows.tolist(), "group_scores": self.group_scores.tolist()}
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Sketch:
        """What :meth:`to_json` wrote.

        :raises SketchUnusable: it is not that.
        """
        try:
            zeros = [0] * int(stored["groups"])
            sketch = cls(
                bins=str(stored["bins"]),
                filled=np.asarray(stored.get("filled", []), dtype=np.int64),
                counts=np.asarray(stored.get("counts", []), dtype=np.int64),
                group_rows=np.asarray(stored.get("group_rows", zeros), dtype=np.int64),
                group_scores=np.asarray(stored.get("group_scores", zeros), dtype=np.int64),
                minimum=float(stored.get("minimum", math.inf)),
                maximum=float(stored.get("maximum", -math.inf)),
                **{name: int(stored.get(name, 0)) for name in _NUMBERS},
            )
            _Stored.read(to_arrays([sketch]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _unreadable(f"{type(error).__name__}: {error}") from error
        return sketch


def empty(bins: str, *, groups: int) -> Sketch:
    """The sketch of no rows: what merging starts from. ``groups`` counts the group of unusable rows as well."""
    none, zeros = np.zeros(0, dtype=np.int64), np.zeros(groups, dtype=np.int64)
    return Sketch(bins=bins, filled=none, counts=none, group_rows=zeros, group_scores=zeros)


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """One sketch of all rows of all ``sketches``, in any order the same; exact while no bin holds 2^53 rows.

    :raises SketchUnusable: none given, or not all over the same bins.
    """
    parts = list(sketches)
    require_same_bins(parts)
    filled = np.concatenate([part.filled for part in parts])
    weights = np.concatenate([part.counts for part in parts])
    counts = np.bincount(filled, weights=weights).astype(np.int64)
    kept = np.flatnonzero(counts)
    return Sketch(
        bins=parts[0].bins,
        filled=kept,
        counts=counts[kept],
        group_rows=np.sum([part.group_rows for part in parts], axis=0, dtype=np.int64),
        group_scores=np.sum([part.group_scores for part in parts], axis=0, dtype=np.int64),
        minimum=min(part.minimum for part in parts),
        maximum=max(part.maximum for part in parts),
        **{name: sum(getattr(part, name) for part in parts) for name in _NUMBERS},
    )


def merge_by(sketches: Iterable[tuple[SketchKey, Sketch]], group: Callable[[SketchKey], Group]) -> dict[Group, Sketch]:
    """Sketches merged within each ``group`` of their keys, for example whole batches: ``key.column, key.batch``."""
    members: dict[Group, list[Sketch]] = {}
    for key, sketch in sketches:
        members.setdefault(group(key), []).append(sketch)
    return {name: merge(parts) for name, parts in members.items()}


def require_same_bins(sketches: Sequence[Sketch], bins: str | None = None) -> None:
    """:raises SketchUnusable: no sketch, or one over other bins than the first (or than ``bins``)."""
    if not sketches:
        raise SketchUnusable("sketches to merge", value=0, limit="at least one", remedy="start from an empty sketch")
    expected = bins or sketches[0].bins
    strangers = sorted({sketch.bins for sketch in sketches} - {expected})
    if strangers or len({len(sketch.group_rows) for sketch in sketches}) > 1:
        raise SketchUnusable(
            "sketches over different bins",
            value=strangers or "different numbers of groups",
            limit=f"all over {expected}",
            remedy="compare only sketches that were made with the reference of one release",
        )


def to_arrays(sketches: Sequence[Sketch]) -> dict[str, NDArray[Any]]:
    """Many sketches over the same bins as a handful of arrays, for one file or one blob a column.

    ``filled`` and ``counts`` hold all sketches one after another; sketch ``i`` has ``offsets[i]:offsets[i + 1]``.

    :raises SketchUnusable: no sketch, or not all over the same bins.
    """
    require_same_bins(sketches)
    return {
        "bins": np.array(sketches[0].bins),
        "offsets": np.cumsum([0, *(len(sketch.filled) for sketch in sketches)]),
        "filled": np.concatenate([sketch.filled for sketch in sketches]).astype(np.int32),
        "counts": np.concatenate([sketch.counts for sketch in sketches]),
        "group_rows": np.array([sketch.group_rows for sketch in sketches]),
        "group_scores": np.array([sketch.group_scores for sketch in sketches]),
        "extremes": np.array([[sketch.minimum, sketch.maximum] for sketch in sketches]),
        # Sums may exceed 64 bits where billions of far values were merged: kept as two halves.
        "whole": np.array([_halves(sketch) for sketch in sketches], dtype=np.int64),
    }


def from_arrays(arrays: Mapping[str, ArrayLike]) -> list[Sketch]:
    """What :func:`to_arrays` gave.

    :raises SketchUnusable: it is not that.
    """
    stored = _Stored.read(arrays)
    return [
        Sketch(
            bins=stored.bins,
            filled=stored.filled[first:last],
            counts=stored.counts[first:last],
            group_rows=rows,
            group_scores=scores,
            minimum=minimum,
            maximum=maximum,
            **dict(zip(_NUMBERS, numbers, strict=True)),
        )
        for first, last, rows, scores, (minimum, maximum), numbers in zip(
            stored.offsets[:-1].tolist(),
            stored.offsets[1:].tolist(),
            stored.group_rows,
            stored.group_scores,
            stored.extremes.tolist(),
            stored.numbers(),
            strict=True,
        )
    ]


def merge_arrays(arrays: Mapping[str, ArrayLike], chosen: ArrayLike | None = None) -> Sketch:
    """``merge(from_arrays(arrays))`` without an object a sketch: weeks of minutes in milliseconds.

    :param chosen: a mask or indices of the sketches to merge; all if not given.
    :raises SketchUnusable: ``arrays`` are not what :func:`to_arrays` gave, or none is chosen.
    """
    stored = _Stored.read(arrays)
    picked = np.zeros(len(stored.offsets) - 1, dtype=bool)
    if chosen is None:
        picked[:] = True
    elif np.size(chosen):
        picked[np.asarray(chosen)] = True
    if not picked.any():
        require_same_bins([])
    filled, weights = stored.filled, stored.counts
    if not picked.all():
        inside = np.repeat(picked, np.diff(stored.offsets))
        filled, weights = filled[inside], weights[inside]
    counts = np.bincount(filled, weights=weights).astype(np.int64)
    kept = np.flatnonzero(counts)
    return Sketch(
        bins=stored.bins,
        filled=kept,
        counts=counts[kept],
        group_rows=stored.group_rows[picked].sum(axis=0),
        group_scores=stored.group_scores[picked].sum(axis=0),
        minimum=float(stored.extremes[picked, 0].min()),
        maximum=float(stored.extremes[picked, 1].max()),
        **dict(zip(_NUMBERS, _joined(stored.whole[picked].sum(axis=0).tolist()), strict=True)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stored:
    """Arrays of :func:`to_arrays`, checked."""

    bins: str
    offsets: Ints
    filled: Ints
    counts: Ints
    group_rows: Ints
    group_scores: Ints
    extremes: Floats
    whole: Ints

    @classmethod
    def read(cls, arrays: Mapping[str, ArrayLike]) -> _Stored:
        try:
            ints = {name: np.asarray(arrays[name], dtype=np.int64) for name in _INT_ARRAYS}
            extremes = np.asarray(arrays["extremes"], dtype=np.float64)
            stored = cls(bins=str(arrays["bins"]), extremes=extremes, **ints)
            sketches = {len(stored.offsets) - 1, *(len(a) for a in (extremes, stored.whole, stored.group_rows))}
            if stored.filled.ndim != 1 or stored.group_rows.ndim != 2:
                raise ValueError("arrays of other dimensions")
            if len(sketches) > 1 or stored.whole.shape[1:] != (2 * len(_NUMBERS),) or extremes.shape[1:] != (2,):
                raise ValueError("arrays of different numbers of sketches")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise _unreadable(f"{type(error).__name__}: {error}") from error
        stored.check()
        return stored

    def numbers(self) -> list[list[int]]:
        """For each sketch its :data:`_NUMBERS`."""
        return [_joined(halves) for halves in self.whole.tolist()]

    def check(self) -> None:
        """:raises SketchUnusable: counts that no sketch can have."""
        ends = self.offsets[-1] if len(self.offsets) else -1
        rising = np.diff(self.filled, prepend=-1) > 0
        rising[self.offsets[:-1][self.offsets[:-1] < len(rising)]] = True
        for what, broken in (
            ("filled bins and their counts differ in number", not len(self.filled) == len(self.counts) == ends),
            ("sketches that do not follow one another", bool((np.diff(self.offsets, prepend=0) < 0).any())),
            ("filled bins that do not rise", not rising.all() or bool((self.filled < 0).any())),
            ("counts below one", bool((self.counts < 1).any())),
            ("negative numbers of rows", bool((self.whole[:, : 2 * len(OUTSIDE_BINS)] < 0).any())),
            ("scores of other groups", self.group_rows.shape != self.group_scores.shape),
            ("extremes that are no numbers", bool(np.isnan(self.extremes).any())),
        ):
            if broken:
                raise _unreadable(what)


def _halves(sketch: Sketch) -> list[int]:
    numbers = [getattr(sketch, name) for name in _NUMBERS]
    return [half for number in numbers for half in (number >> 32, number & _LOW_HALF)]


def _joined(halves: list[int]) -> list[int]:
    # The lower halves may be sums of many, and so overflow into the upper ones.
    return [(high << 32) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]


def _unreadable(what: str) -> SketchUnusable:
    return SketchUnusable(
        "stored sketch", value=what, limit="as it was written", remedy="compact this part of the prediction log again"
    )
