"""Scores of rows, summed by the group of bins that each row is in: the score's mean along a column."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airflow_provider_mlpipex.domain.drift.sketches import Ints


class Scores(NamedTuple):
    """Fixed-point score of each row, and which of them mean anything."""

    fixed: Ints
    given: NDArray[np.bool_]


def no_scores(starts: Ints) -> tuple[Ints, Ints]:
    """Rows and sums of every group, where no row has a score."""
    return np.zeros(len(starts) + 1, dtype=np.int64), np.zeros(len(starts) + 1, dtype=np.int64)


def sum_by_group(group: Ints, scores: Scores, *, groups: int) -> tuple[Ints, Ints]:
    """Rows that have a score, and the sum of these, in each of ``groups`` groups.

    :param group: of each row.
    """
    fixed = scores.fixed
    if not scores.given.all():
        group, fixed = group[scores.given], fixed[scores.given]
    rows = np.bincount(group, minlength=groups)
    # Weights are whole numbers far below 2^53, so float sums are exact.
    return rows, np.bincount(group, weights=fixed, minlength=groups).astype(np.int64)
