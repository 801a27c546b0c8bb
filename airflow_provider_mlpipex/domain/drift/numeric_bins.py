"""Bins of a column of numbers or moments: edges at quantiles of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from airflow_provider_mlpipex.domain.drift.column_values import (
    Column,
    moment_text,
    read_moments,
    read_numbers,
)
from airflow_provider_mlpipex.domain.drift.group_scores import Scores, no_scores, sum_by_group
from airflow_provider_mlpipex.domain.drift.sketches import FARTHEST, STEPS, Floats, Ints, Sketch
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
            return no_scores(self.starts)
        group = self._group_of(values, usable)
        return sum_by_group(group, scores, groups=len(self.starts) + 1)


def fit_numbers(ordered: Floats, *, moments: bool = False) -> NumericBins:
    """Bins for training rows, given in rising order, the finite ones alone."""
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
    cumulative = np.searchsorted(ordered, edges, side="right")
    # Divided first: sums and squares of the largest floats would overflow.
    largest = float(np.abs(ordered[[0, -1]]).max()) or 1.0
    return NumericBins(
        edges=edges,
        starts=_numeric_groups(cumulative, rows),
        centre=float((ordered / largest).mean()) * largest,
        deviation=float((ordered / largest).std()) * largest if ordered[0] < ordered[-1] else 0.0,
        moments=moments,
    )


def _numeric_groups(cumulative: Ints, rows: int) -> Ints:
    """First bins of groups with about equal shares; ``cumulative[i]``: training rows up to edge ``i``.

    The outer groups are open, as usual, so that a few values beyond training do not count for much. Not where such a
    group would be one common value: then what lies beyond is a group of its own, or a constant could never drift.
    """
    targets = np.arange(1, NUMERIC_GROUPS) * rows / NUMERIC_GROUPS
    ends = np.unique(np.searchsorted(cumulative, targets, side="left"))
    starts = [0, *(int(end) + 1 for end in ends if cumulative[end] < rows)]
    first_of_last = starts[-1]
    filled = np.diff(cumulative, prepend=0) > 0
    if filled[first_of_last : len(cumulative)].sum() == 1:
        starts.append(len(cumulative))
    if filled[: starts[1] if len(starts) > 1 else len(cumulative)].sum() == 1 and not filled[0]:
        starts.insert(1, 1)
    return np.array(starts, dtype=np.int64)
