"""What the model says of each group of a column: what a drift from one to another does to the score."""

from __future__ import annotations

import numpy as np

from airflow_provider_mlpipex.domain.drift.references import SCORE, ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.sketches import STEPS, Floats

#: Rows that a group needs in training before its mean score is believed.
ENOUGH = 30


def effects(reference: Reference, column: ColumnReference) -> Floats | None:
    """How far the score of each group ``[groups + 1]`` lies from that of all rows, in standard deviations.

    NaN for a group that training hardly had. ``None`` where nothing is known: training rows were not scored, all alike,
    or answered by classes.
    """
    scored = reference.columns.get(SCORE)
    if scored is None or reference.score is None or not column.sketch.group_rows.any():
        return None
    variance = scored.sketch.variance
    if not variance > 0:
        return None
    rows = column.sketch.group_rows
    overall = column.sketch.group_scores.sum() / rows.sum()
    means = np.where(rows >= ENOUGH, column.sketch.group_scores / np.maximum(rows, 1), np.nan)
    away: Floats = np.abs(means - overall) / STEPS / np.sqrt(variance)
    return away
