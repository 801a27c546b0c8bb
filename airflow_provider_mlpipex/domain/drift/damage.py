"""What the model says of each group of a column: what a drift from one to another does to the score.

Measured by permuting the column through the model, at registration: some rows are answered again and again, each time
with the column's value of another row, one of each group, and all their other values as they are. So a column that the
model does not use has no effect, however much it goes with one that it uses (the day of the month with the weather).
References of before this was kept know the mean score of the rows in each group only: effect by association.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from airflow_provider_mlpipex.domain.drift.column_bins import Bins
from airflow_provider_mlpipex.domain.drift.sketches import STEPS, Floats, Ints, Sketch

#: Rows that a group needs in training before its mean score is believed.
ENOUGH = 30
_UNUSED = 1e-9
#: Rows that are answered with a value of each group, at most and at least; answers that all columns together may take.
MAX_ROWS, MIN_ROWS, MAX_ANSWERS = 256, 32, 100_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects:
    """Of one column, in standard deviations of the score; NaN for a group of which training had no row.

    :param away: ``[groups + 1]`` how far a row's score moves from its mean over the column when its value is of this
        group, on average over rows.
    :param mean: ``[groups + 1]`` the same with its sign: by how much more than the mean rows of this group are scored.
    :param influence: part of the score's variance that the column moves, with all that it interacts with, 0 to 1.
    """

    away: Floats
    mean: Floats
    influence: float

    @property
    def used(self) -> bool:
        """Whether the model uses the column at all: else no value does anything, known to training or not."""
        return self.influence > _UNUSED

    def to_json(self) -> dict[str, Any]:
        def listed(values: Floats) -> list[float | None]:
            return [None if math.isnan(value) else round(value, 6) for value in values.tolist()]

        return {"away": listed(self.away), "mean": listed(self.mean), "influence": round(self.influence, 9)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Effects:
        """What :meth:`to_json` wrote.

        :raises KeyError, TypeError, ValueError: it is not that.
        """
        away, mean = (
            np.array([math.nan if value is None else float(value) for value in stored[name]])
            for name in ("away", "mean")
        )
        if away.shape != mean.shape or away.ndim != 1:
            raise ValueError("effects of different groups")
        return cls(away=away, mean=mean, influence=float(stored["influence"]))


def rows_to_ask(columns: int, groups: int) -> int:
    """How many rows are answered with a value of each group."""
    return max(MIN_ROWS, min(MAX_ROWS, MAX_ANSWERS // max(1, columns * groups)))


def effects_of(answers: Floats, shares: Floats, *, deviation: float) -> Effects:
    """:param answers: ``[row, groups + 1]`` score of each row with a value of each group; NaN where there is none.
    :param shares: ``[groups + 1]`` of the reference rows. :param deviation: of the score over reference rows, not 0.
    """
    known = ~np.isnan(answers).any(axis=0)
    weights = np.where(known, shares, 0.0)
    weights = weights / weights.sum() if weights.sum() else weights
    filled = np.where(known, answers, 0.0)
    moved = (filled - (filled @ weights)[:, None]) / deviation
    nothing = np.where(known, 0.0, math.nan)
    return Effects(
        away=np.abs(moved).mean(axis=0) + nothing,
        mean=moved.mean(axis=0) + nothing,
        influence=min(1.0, float(((moved**2) @ weights).mean())),
    )


def by_association(sketch: Sketch, variance: float) -> Floats:
    """How far the mean score of each group lies from that of all rows: what old references know. NaN for a group that
    training hardly had."""
    rows = sketch.group_rows
    mean_score = sketch.group_scores.sum() / rows.sum()
    means = np.where(rows >= ENOUGH, sketch.group_scores / np.maximum(rows, 1), math.nan)
    away: Floats = np.abs(means - mean_score) / STEPS / math.sqrt(variance)
    return away


def one_row_of_each(group_of: Ints, groups: int, rows: int) -> Ints:
    """``[rows, groups]`` numbers of reference rows, each of its group, drawn at random; -1 where a group has none.

    :param group_of: group of each reference row.
    """
    chance = np.random.default_rng(0)  # the same model and rows give the same reference, and so the same digest
    picked = np.full((rows, groups), -1, dtype=np.int64)
    for group in range(groups):
        members = np.flatnonzero(group_of == group)
        if len(members):
            picked[:, group] = members[chance.integers(0, len(members), rows)]
    return picked


def group_count(bins: Bins) -> int:
    """Groups of a column, that of the rows without a usable value with them."""
    return len(bins.starts) + 1
