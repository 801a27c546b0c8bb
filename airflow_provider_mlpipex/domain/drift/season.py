"""The reference of a season: its rows of the same hours of the day, or of the same weekday and hours, as a window.

A night beside nights, a Sunday beside Sundays: what a column does over day and week is taken off before anything is
compared, so that a short window tells a fault from the time of day, also a fault that makes a night look like a day.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from airflow_provider_mlpipex.domain.drift.chunks import Chunks, Window
from airflow_provider_mlpipex.domain.drift.references import ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.sketches import OUTSIDE_BINS, Sketch


def in_season(reference: Reference, window: Window) -> Reference | None:
    """``reference`` with the rows of the season of ``window``, and itself where that has none.

    ``None`` where it does not know the times of its rows.
    """
    if window.season is None:
        return reference
    columns = {name: column_in_season(column, window) for name, column in reference.columns.items()}
    complete = {name: column for name, column in columns.items() if column is not None}
    return Reference(columns=complete) if len(complete) == len(columns) else None


def column_in_season(column: ColumnReference, window: Window) -> ColumnReference | None:
    """One column of :func:`in_season`."""
    if window.season is None:
        return column
    if column.chunks is None:
        return None
    return replace(column, sketch=_sketch(column, column.chunks, window))


def _sketch(column: ColumnReference, chunks: Chunks, window: Window) -> Sketch:
    """Counts of the season's cells; inside a cell rows are spread as in the whole reference."""
    whole = column.sketch
    assert window.season is not None  # all rows otherwise
    first = round(window.since.timestamp() / chunks.slot_s)
    cells = np.rint(chunks.in_season(first, chunks.length_of(window), window.season))
    dense = whole.dense(column.bins.size).astype(np.float64)
    in_cell = np.add.reduceat(dense, chunks.starts)
    cell_of = np.searchsorted(chunks.starts, np.arange(column.bins.size), side="right") - 1
    shares = np.divide(dense, in_cell[cell_of], out=np.zeros_like(dense), where=in_cell[cell_of] > 0)
    # Rounded where cells end exactly on whole numbers, so that every cell keeps its count.
    counts = np.diff(np.rint(np.cumsum(shares * cells[cell_of])), prepend=0.0).astype(np.int64)
    filled = np.flatnonzero(counts)
    usable, unusable = int(counts.sum()), int(cells[-1])
    part = usable / whole.usable if whole.usable else 0.0
    outside = {name: getattr(whole, name) for name in OUTSIDE_BINS}
    kinds = {name: round(rows * unusable / whole.unusable) if whole.unusable else 0 for name, rows in outside.items()}
    return Sketch(
        bins=whole.bins,
        filled=filled,
        counts=counts[filled],
        # Mean and spread of the whole reference: what distances are expressed in.
        total=round(whole.total * part),
        squares=round(whole.squares * part),
        group_rows=whole.group_rows,
        group_scores=whole.group_scores,
        minimum=whole.minimum,
        maximum=whole.maximum,
        **kinds,
    )
