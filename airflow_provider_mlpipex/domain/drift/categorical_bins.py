"""Bins of a column of categories: the frequent ones listed, all others by a hash of their name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest
from typing import Any, Literal
from zlib import crc32

import numpy as np

from airflow_provider_mlpipex.domain.drift.column_values import (
    Column,
    LabelKind,
    Labels,
    label_of,
    read_labels,
)
from airflow_provider_mlpipex.domain.drift.group_scores import Scores, no_scores, sum_by_group
from airflow_provider_mlpipex.domain.drift.sketches import Ints, Sketch
from airflow_provider_mlpipex.domain.values import digest_of

#: Categories that get a bin of their own; all others share :data:`TAIL_BINS` bins by a hash of their name.
LISTED = 1000
TAIL_BINS = 16
#: A column is open-ended, its listed categories not all there are, if more than this share of rows is one of a kind.
MAX_SINGLE_SHARE = 0.05
#: Rows that a category of an open-ended column needs to be listed.
MIN_LISTED_ROWS = 5
#: A category with at least this share of the training rows is a group of its own, the first 40 at most.
GROUP_SHARE = 0.005
CATEGORY_GROUPS = 40


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
            place = self._bin_of(value)
            if isinstance(place, str):
                outside[place] += rows
            else:
                counts[place] += rows
            bin_of[value] = self.size if isinstance(place, str) else place
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
            return no_scores(self.starts)
        group = self._group_of(labels, bin_of)
        return sum_by_group(group, scores, groups=len(self.starts) + 1)


def tail_bin(label: str) -> int:
    """Which bin of the tail a category falls in: the same on every machine and in every year."""
    return crc32(label.encode()) % TAIL_BINS


def fit_categories(labels: Labels) -> CategoricalBins:
    """Bins for the labels of training rows."""
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
    complete = len(rows_of) <= LISTED and once <= MAX_SINGLE_SHARE * rows
    listed = [text for text, count in most if complete or count >= MIN_LISTED_ROWS]
    own = sum(rows_of[text] >= GROUP_SHARE * rows for text in listed[:CATEGORY_GROUPS])
    rare = [own] if own < len(listed) else []
    tail = range(len(listed), len(listed) + (1 if complete else TAIL_BINS))
    return CategoricalBins(
        categories=tuple(listed),
        starts=np.array([*range(own), *rare, *tail], dtype=np.int64),
        complete=complete,
        label_kinds=tuple(sorted(kinds)),
    )
