"""The reference of a season: its rows of the same hours of the day, or of the same weekday and hours, as a window.

A night beside nights, a Sunday beside Sundays: what a column does over day and week is taken off before anything is
compared, so that a short window tells a fault from the time of day, also a fault that makes a night look like a day.

Which season, where the manifest leaves that open, the reference itself says (:func:`chosen`): the week, where what a
column does on different days goes with the weekday; the hours, for a window that is shorter than a day, where what it
does goes with them. A season that explains little would only leave fewer rows to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from airflow_provider_mlpipex.domain.drift.chunks import DAY, PERIOD_S, Chunks, Window
from airflow_provider_mlpipex.domain.drift.references import ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.report import Season
from airflow_provider_mlpipex.domain.drift.sketches import OUTSIDE_BINS, Sketch

#: A season is chosen that explains at least so much of how the stretches of one column differ,
_EXPLAINS = 0.5
#: and by which its phases differ more than chance makes them, by so many standard deviations of Fisher's F,
_BEYOND_CHANCE = 3.5
#: where the reference has each of its phases so many times.
_TIMES: Mapping[Season, int] = {"week": 3, "day": 7}


class Explained(NamedTuple):
    """What a season explains best. :param part: of how the stretches of ``column`` differ, 0 to 1."""

    season: Season
    column: str
    part: float


def chosen(reference: Reference, window: Window) -> Explained | None:
    """The season that ``reference`` asks for where nobody has named one, or ``None``.

    The week for a window of less than a week, else the hours of the day for one of less than a day.
    """
    length_s = (window.until - window.since).total_seconds()
    for season in ("week", "day"):
        if length_s < PERIOD_S[season]:
            best = _explained(reference, season)
            if best is not None and best.part >= _EXPLAINS:
                return best
    return None


def _explained(reference: Reference, season: Season) -> Explained | None:
    parts = {}
    for name, column in reference.columns.items():
        if column.chunks is None:
            return None  # a season needs the times of every column
        parts[name] = explained(column.chunks, season)
    best = max(parts, key=lambda name: parts[name], default=None)
    return None if best is None else Explained(season, best, parts[best])


def explained(chunks: Chunks, season: Season) -> float:
    """How much of what stretches of a column differ by goes with their phase of ``season``: days and their weekday, or
    slots and their hour. The part of the variance of the cells' shares that lies between phases, both adjusted for
    their degrees of freedom, what chance adds taken off (analysis of variance): about 0 where there is no such cycle.

    0 where the reference does not have each phase often enough, and where chance does as much (Fisher's F).
    """
    a_day = max(1, DAY // chunks.slot_s)
    width = a_day if season == "week" else 1
    first = -(chunks.begin // chunks.slot_s) % width  # days begin at midnight
    units = (chunks.slots - first) // width
    phases = PERIOD_S[season] // (width * chunks.slot_s)
    if phases < 2 or units < _TIMES[season] * phases:
        return 0.0
    rows = chunks.counts[first : first + units * width].reshape(units, width, -1).sum(axis=1)
    phase = ((chunks.begin // chunks.slot_s + first) // width + np.arange(units)) % phases
    rows, phase = rows[rows.sum(axis=1) > 0], phase[rows.sum(axis=1) > 0]
    present = np.unique(phase)
    if len(rows) < _TIMES[season] * len(present) or len(present) < 2:
        return 0.0
    shares = rows / rows.sum(axis=1, keepdims=True)
    total = float(((shares - shares.mean(axis=0)) ** 2).sum())
    within = sum(float(((part - part.mean(axis=0)) ** 2).sum()) for part in (shares[phase == each] for each in present))
    between, free = len(present) - 1, len(rows) - len(present)
    # What so few rows differ by anyway is no difference of their stretches, and comes in about so many directions.
    alike = float((shares.mean(axis=0) ** 2).sum())
    noise, directions = (1.0 - alike) * float((1.0 / rows.sum(axis=1)).mean()), max(1.0, (1.0 - alike) ** 2 / alike)
    largest = 1.0 + _BEYOND_CHANCE * math.sqrt(2.0 / directions * (1.0 / between + 1.0 / free))
    by_chance = (total - within) / between < largest * within / free
    varies, left = total / (len(rows) - 1) - noise, within / free - noise
    return 0.0 if by_chance or varies <= 0.0 else 1.0 - max(0.0, left) / varies


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
