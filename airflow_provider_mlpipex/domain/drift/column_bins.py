"""Bins of one column, fixed once from the training rows: what every later sketch of it is counted in.

Two resolutions in one set of counts. *Fine* bins carry what needs the whole distribution (KS, Wasserstein); *groups*
of neighbouring fine bins, about twenty, carry what compares shares (PSI, Jensen-Shannon, chi-square) and the score's
mean along the column. One more group, the last, holds the rows that are in no bin at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest
from typing import Any, Literal, NamedTuple, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from airflow_provider_mlpipex.domain.drift.column_values import (
    Column,
    LabelKind,
    Labels,
    holds_moments,
    is_numeric,
    label_of,
    moment_text,
    read_labels,
    read_moments,
    read_numbers,
)
from airflow_provider_mlpipex.domain.drift.sketches import FARTHEST, STEPS, Floats, Ints, Sketch, empty
from airflow_provider_mlpipex.domain.values import digest_of

#: Quantiles of the training rows that become edges: KS is then exact to 1.5 / QUANTILES = 7.4e-4.
QUANTILES = 2048
#: Numbers that differ by no more than this share of themselves are one value: single precision keeps seven digits, and
#: sums in another order lose one more. A column of whole numbers has no such tolerance.
SAME_VALUE = 2e-6
#: The same beside 0, where a share of the value is nothing: in standard deviations.
_SAME_AS_ZERO = 1e-12
#: Groups of a numeric column, each with about the same share of the training rows.
NUMERIC_GROUPS = 20
#: Categories that get a bin of their own; all others share :data:`TAIL_BINS` bins by a hash of their name.
LISTED = 1000
TAIL_BINS = 16
#: A column is open-ended, its listed categories not all there are, if more than this share of rows is one of a kind.
MAX_SEEN_ONCE = 0.05
#: Rows that a category of an open-ended column needs to be listed.
SEEN_ENOUGH = 5
#: A category with at least this share of the training rows is a group of its own, the first 40 at most.
GROUP_SHARE = 0.005
CATEGORY_GROUPS = 40


class Scores(NamedTuple):
    """Fixed-point score of each row, and which of them mean anything."""

    fixed: Ints
    given: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class NumericBins:
    """Bins ``(edges[i - 1], edges[i]]``; the first holds what is below all training rows, the last what is above.

    :param edges: rising. A value that many training rows share has a bin of its own, one float wide as it is stored;
        what is counted in it is all that is the same number but for its float width (:attr:`counting_edges`).
    :param starts: first bin of each group.
    :param centre: mean of the training rows; ``deviation`` their standard deviation, 0 where all are equal.
    :param moments: the column is of moments, counted in seconds since 1970; rows may give them as ISO 8601.
    """

    edges: Floats
    starts: Ints
    centre: float = 0.0
    deviation: float = 0.0
    moments: bool = False
    kind: Literal["numeric"] = "numeric"

    @property
    def size(self) -> int:
        return len(self.edges) + 1

    @cached_property
    def identity(self) -> str:
        return digest_of(self.to_json())[:16]

    @property
    def scale(self) -> float:
        """Unit of fixed-point sums: the standard deviation, or the constant itself, or 1."""
        return self.deviation or abs(self.centre) or 1.0

    @property
    def positions(self) -> Floats:
        """The edges in standard deviations from the mean."""
        return self.fixed(self.edges) / STEPS

    @cached_property
    def counting_edges(self) -> Floats:
        """The edges that rows are counted by: a common value's bin is as wide as float width makes its values differ.

        A column trained in single precision is served as decimals, and a score is computed in another order: without
        this every row would move off the common values. It never reaches half way to the next value. The stored edges
        stay what they are, so counts of references of any age add up.
        """
        edges = self.edges
        upper = np.flatnonzero(np.nextafter(edges[:-1], np.inf) == edges[1:]) + 1
        if self.moments or not len(upper) or self._whole(upper):
            return edges
        values = edges[upper]
        tolerance = np.maximum(SAME_VALUE * np.abs(values), _SAME_AS_ZERO * self.deviation)
        before = np.append(-np.inf, edges)[upper - 1]
        after = np.append(edges, np.inf)[upper + 1]
        widened = edges.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            widened[upper - 1] = np.minimum(edges[upper - 1], values - np.minimum(tolerance, (values - before) / 3))
            widened[upper] = values + np.minimum(tolerance, (after - values) / 3)
        return widened if np.isfinite(widened).all() and (widened[1:] > widened[:-1]).all() else edges

    def _whole(self, upper: Ints) -> bool:
        """Whether all training values at edges are whole numbers: codes, counts, identifiers."""
        values = np.delete(self.edges, upper - 1)
        return bool((values == np.rint(values)).all())

    def resolution(self, trained: Sketch) -> float:
        """How much KS may differ from that of the rows themselves: the largest share of training in a wide bin."""
        if not trained.usable or self.size < 3:
            return 0.0
        wide = np.nextafter(self.edges[:-1], np.inf) < self.edges[1:]
        return float(trained.dense(self.size)[1:-1][wide].max(initial=0)) / trained.usable

    def fixed(self, values: Floats) -> Ints:
        """``values`` as fixed-point distance from the mean."""
        with np.errstate(over="ignore"):
            distance = (values - self.centre) / self.scale
        return np.rint(np.clip(distance, -FARTHEST, FARTHEST) * STEPS).astype(np.int64)

    def unfixed(self, distance: float) -> float:
        """A distance in standard deviations as a value of the column."""
        return self.centre + distance * self.scale

    def count(self, column: Column, scores: Scores | None = None) -> Sketch:
        """The sketch of a column's rows; ``scores`` are of the same rows."""
        read = read_moments(column) if self.moments else read_numbers(column)
        finite = np.sort(read.finite)
        counts = np.diff(np.searchsorted(finite, self.counting_edges, side="right"), prepend=0, append=len(finite))
        filled = np.flatnonzero(counts)
        rows, sums = self._by_group(read.values, read.usable, scores)
        total, squares, beyond = self._sums(finite)
        return Sketch(
            bins=self.identity,
            filled=filled,
            counts=counts[filled],
            group_rows=rows,
            group_scores=sums,
            missing=read.missing,
            nan=read.nan,
            infinite=read.infinite,
            unreadable=read.unreadable,
            minimum=float(finite[0]) if len(finite) else np.inf,
            maximum=float(finite[-1]) if len(finite) else -np.inf,
            total=total,
            squares=squares,
            beyond=beyond,
        )

    def shown(self, value: float) -> str:
        """A value of the column as people read it."""
        return moment_text(value) if self.moments else f"{value:.6g}"

    def label(self, group: int) -> str:
        """A group as people read it: ``(3.2, 7.1]``, or ``0`` for a group of one value."""
        if group == len(self.starts):
            return "no usable value"
        ends = [*self.starts.tolist(), self.size]
        first, last = ends[group], ends[group + 1] - 1
        lower, upper = self._text(first - 1, below=False), self._text(last, below=True)
        if first and last < len(self.edges) and lower[1:] == upper[:-1]:
            return lower[1:]
        return f"{lower}, {upper}"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "edges": self.edges.tolist(),
            "starts": self.starts.tolist(),
            "centre": self.centre,
            "deviation": self.deviation,
            # Left out of all other columns: the identity of their bins is what it was before there were moments.
            **({"moments": True} if self.moments else {}),
        }

    def _text(self, edge: int, *, below: bool) -> str:
        """One end of a group, seen from ``below`` or from above. A pair of edges one float apart is one value."""
        if not 0 <= edge < len(self.edges):
            return "∞)" if below else "(-∞"
        paired = edge + 1 < len(self.edges) and np.nextafter(self.edges[edge], np.inf) == self.edges[edge + 1]
        value = self.shown(float(self.edges[edge + 1] if paired else self.edges[edge]))
        if below:
            return f"{value})" if paired else f"{value}]"
        return f"[{value}" if paired else f"({value}"

    def _sums(self, finite: Floats) -> tuple[int, int, int]:
        distance = self.fixed(finite)
        squares = distance * distance
        beyond = 0
        if len(self.edges):
            low, high = self.fixed(self.edges[[0, -1]])
            beyond = int(np.maximum(low - distance, 0).sum() + np.maximum(distance - high, 0).sum())
        # In two halves, because a billion far values would not fit 64 bits.
        return int(distance.sum()), (int((squares >> 20).sum()) << 20) + int((squares & (2**20 - 1)).sum()), beyond

    def group_of(self, column: Column) -> Ints:
        """The group of each row; the last for rows without a usable value."""
        read = read_moments(column) if self.moments else read_numbers(column)
        return self._group_of(read.values, read.usable)

    def _group_of(self, values: Floats, usable: NDArray[np.bool_]) -> Ints:
        group = np.searchsorted(self.counting_edges[self.starts[1:] - 1], values, side="left")
        group[~usable] = len(self.starts)
        return group

    def _by_group(self, values: Floats, usable: NDArray[np.bool_], scores: Scores | None) -> tuple[Ints, Ints]:
        if scores is None:
            return _no_scores(self.starts)
        group = self._group_of(values, usable)
        return _sum_by_group(group, scores, groups=len(self.starts) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class CategoricalBins:
    """One bin a listed category, most frequent first, then :data:`TAIL_BINS` for all other values by hash.

    The tail is what keeps a column of a million categories bounded, and still shows when its tail collapses.

    :param complete: every category of the training rows is listed, so whatever is in the tail is new.
    :param label_kinds: kinds of values in training; a value of another kind is unreadable: the column was retyped.
    """

    categories: tuple[str, ...]
    starts: Ints
    complete: bool
    label_kinds: tuple[LabelKind, ...]
    kind: Literal["categorical"] = "categorical"

    @property
    def size(self) -> int:
        return len(self.categories) + TAIL_BINS

    @cached_property
    def identity(self) -> str:
        return digest_of(self.to_json())[:16]

    def count(self, column: Column, scores: Scores | None = None) -> Sketch:
        """The sketch of a column's rows; ``scores`` are of the same rows."""
        labels = read_labels(column)
        outside = {"missing": 0, "nan": 0, "unreadable": 0}
        counts = np.zeros(self.size, dtype=np.int64)
        bin_of: dict[Any, int] = {}
        for value, rows in labels.distinct.items():
            found = self._bin_of(value)
            if isinstance(found, str):
                outside[found] += rows
            else:
                counts[found] += rows
            bin_of[value] = self.size if isinstance(found, str) else found
        filled = np.flatnonzero(counts)
        rows_, sums = self._by_group(labels, bin_of, scores)
        return Sketch(
            bins=self.identity, filled=filled, counts=counts[filled], group_rows=rows_, group_scores=sums, **outside
        )

    def label(self, group: int) -> str:
        """A group as people read it: the category, or ``rare``, ``new``, ``unlisted``."""
        if group == len(self.starts):
            return "no usable value"
        first = int(self.starts[group])
        if first >= len(self.categories):
            return "new" if self.complete else f"unlisted {first - len(self.categories) + 1} of {TAIL_BINS}"
        last = int([*self.starts, self.size][group + 1])
        return self.categories[first] if last - first == 1 else "rare"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "categories": list(self.categories),
            "starts": self.starts.tolist(),
            "complete": self.complete,
            "label_kinds": list(self.label_kinds),
        }

    def resolution(self, trained: Sketch) -> float:
        """Categories have no order, and so no KS."""
        return 0.0

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {category: number for number, category in enumerate(self.categories)}

    def _bin_of(self, value: Any) -> int | str:
        label = label_of(value)
        if label.outside:
            return label.outside
        if self.label_kinds and label.kind not in self.label_kinds:
            return "unreadable"
        number = self._numbers.get(label.text)
        return len(self.categories) + tail_bin(label.text) if number is None else number

    def group_of(self, column: Column) -> Ints:
        """The group of each row; the last for rows without a usable value."""
        labels = read_labels(column)
        numbers = {value: self._bin_of(value) for value in labels.distinct}
        bin_of = {value: self.size if isinstance(number, str) else number for value, number in numbers.items()}
        return self._group_of(labels, bin_of)

    def _group_of(self, labels: Labels, bin_of: Mapping[Any, int]) -> Ints:
        return np.searchsorted([*self.starts[1:], self.size], labels.numbered(bin_of), side="right")

    def _by_group(self, labels: Labels, bin_of: Mapping[Any, int], scores: Scores | None) -> tuple[Ints, Ints]:
        if scores is None:
            return _no_scores(self.starts)
        group = self._group_of(labels, bin_of)
        return _sum_by_group(group, scores, groups=len(self.starts) + 1)


Bins = NumericBins | CategoricalBins


def fit_bins(column: Column, *, categorical: bool | None = None) -> Bins:
    """Bins for a training column.

    :param categorical: treat numbers as categories; found out from the values if not given.
    """
    if categorical is None and holds_moments(column):
        return _fit_numbers(np.sort(read_moments(column).finite), moments=True)
    if categorical or (categorical is None and not is_numeric(column)):
        return _fit_categories(read_labels(column))
    return _fit_numbers(np.sort(read_numbers(column).finite))


def no_rows(bins: Bins) -> Sketch:
    """The sketch of no rows over ``bins``."""
    return empty(bins.identity, groups=len(bins.starts) + 1)


def bins_from_json(stored: Mapping[str, Any]) -> Bins:
    """What ``to_json`` of either kind of bins wrote.

    :raises KeyError, TypeError, ValueError: it is not that.
    """
    starts = np.asarray(stored["starts"], dtype=np.int64)
    bins: Bins
    if stored["kind"] == "numeric":
        bins = NumericBins(
            edges=np.asarray(stored["edges"], dtype=np.float64),
            starts=starts,
            centre=float(stored["centre"]),
            deviation=float(stored["deviation"]),
            moments=bool(stored.get("moments", False)),
        )
        if not (bins.edges[1:] > bins.edges[:-1]).all() or not np.isfinite(bins.edges).all():
            raise ValueError("edges that do not rise")
    else:
        bins = CategoricalBins(
            categories=tuple(stored["categories"]),
            starts=starts,
            complete=bool(stored["complete"]),
            label_kinds=cast(tuple[LabelKind, ...], tuple(stored["label_kinds"])),
        )
    if not len(starts) or starts[0] != 0 or not (np.diff(starts) > 0).all() or starts[-1] >= bins.size:
        raise ValueError("groups that do not follow one another")
    return bins


def tail_bin(label: str) -> int:
    """Which bin of the tail a category falls in: the same on every machine and in every year."""
    return crc32(label.encode()) % TAIL_BINS


def _fit_numbers(ordered: Floats, *, moments: bool = False) -> NumericBins:
    rows = len(ordered)
    if not rows:
        return NumericBins(edges=np.zeros(0), starts=np.zeros(1, dtype=np.int64), moments=moments)
    ranks = (np.arange(1, QUANTILES + 1, dtype=np.int64) * rows + QUANTILES - 1) // QUANTILES - 1
    cuts = np.unique(ordered[ranks])
    shared_by = np.searchsorted(ordered, cuts, side="right") - np.searchsorted(ordered, cuts, side="left")
    # Set apart from the gap below it, or rows that move off a common value by a hair would not be seen.
    common = cuts[shared_by * 2 * QUANTILES >= rows]
    with np.errstate(over="ignore"):  # below the lowest float lies nothing, and no edge
        just_below = np.nextafter(np.append(ordered[:1], common), -np.inf)
    edges = np.unique(np.append(just_below, cuts))
    edges = edges[np.isfinite(edges)]
    seen = np.searchsorted(ordered, edges, side="right")
    # Divided first: sums and squares of the largest floats would overflow.
    largest = float(np.abs(ordered[[0, -1]]).max()) or 1.0
    return NumericBins(
        edges=edges,
        starts=_numeric_groups(seen, rows),
        centre=float((ordered / largest).mean()) * largest,
        deviation=float((ordered / largest).std()) * largest if ordered[0] < ordered[-1] else 0.0,
        moments=moments,
    )


def _numeric_groups(seen: Ints, rows: int) -> Ints:
    """First bins of groups with about equal shares; ``seen[i]``: training rows up to edge ``i``.

    The outer groups are open, as usual, so that a few values beyond training do not count for much. Not where such a
    group would be one common value: then what lies beyond is a group of its own, or a constant could never drift.
    """
    targets = np.arange(1, NUMERIC_GROUPS) * rows / NUMERIC_GROUPS
    ends = np.unique(np.searchsorted(seen, targets, side="left"))
    starts = [0, *(int(end) + 1 for end in ends if seen[end] < rows)]
    first_of_last = starts[-1]
    filled = np.diff(seen, prepend=0) > 0
    if filled[first_of_last : len(seen)].sum() == 1:
        starts.append(len(seen))
    if filled[: starts[1] if len(starts) > 1 else len(seen)].sum() == 1 and not filled[0]:
        starts.insert(1, 1)
    return np.array(starts, dtype=np.int64)


def _fit_categories(labels: Labels) -> CategoricalBins:
    rows_of: dict[str, int] = {}
    kinds: set[LabelKind] = set()
    for value, rows in labels.distinct.items():
        label = label_of(value)
        if not label.outside:
            rows_of[label.text] = rows_of.get(label.text, 0) + rows
            kinds.add(label.kind)
    most = nsmallest(LISTED, rows_of.items(), key=lambda item: (-item[1], item[0]))
    rows = sum(rows_of.values())
    once = sum(count == 1 for count in rows_of.values())
    # Good and Turing: the share of values never seen before is about that of those seen once. Where it is high, as for
    # identifiers, new values are the rule, and listing those that happened to be seen would only call them drift.
    complete = len(rows_of) <= LISTED and once <= MAX_SEEN_ONCE * rows
    listed = [text for text, count in most if complete or count >= SEEN_ENOUGH]
    own = sum(rows_of[text] >= GROUP_SHARE * rows for text in listed[:CATEGORY_GROUPS])
    rare = [own] if own < len(listed) else []
    tail = range(len(listed), len(listed) + (1 if complete else TAIL_BINS))
    return CategoricalBins(
        categories=tuple(listed),
        starts=np.array([*range(own), *rare, *tail], dtype=np.int64),
        complete=complete,
        label_kinds=tuple(sorted(kinds)),
    )


def _no_scores(starts: Ints) -> tuple[Ints, Ints]:
    return np.zeros(len(starts) + 1, dtype=np.int64), np.zeros(len(starts) + 1, dtype=np.int64)


def _sum_by_group(group: Ints, scores: Scores, *, groups: int) -> tuple[Ints, Ints]:
    fixed = scores.fixed
    if not scores.given.all():
        group, fixed = group[scores.given], fixed[scores.given]
    rows = np.bincount(group, minlength=groups)
    # Weights are whole numbers far below 2^53, so float sums are exact.
    return rows, np.bincount(group, weights=fixed, minlength=groups).astype(np.int64)
