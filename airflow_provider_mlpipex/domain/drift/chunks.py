"""Reference rows by the time they are of, and how far stretches of them lie from the rest: what drift is *not*.

A night beside a whole month differs, and so does a rainy day. What a column does by itself is measured in its own
reference: every stretch ("chunk") of it that is as long as the window that is looked at, and begins at the same time of
day, is compared with the rest of the reference. A window drifts when it lies farther from the reference than such
chunks do. Chunks longer than a day are too few to be counted: they are put together from shorter blocks, each of the
same time of day, drawn with replacement (the moving-block bootstrap of Künsch 1989).
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from airflow_provider_mlpipex.domain.drift import divergence, student
from airflow_provider_mlpipex.domain.drift.column_bins import Bins
from airflow_provider_mlpipex.domain.drift.divergence import Comparison
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins
from airflow_provider_mlpipex.domain.drift.report import MIN_CHUNKS, Measure, Season
from airflow_provider_mlpipex.domain.drift.sketches import Floats, Ints, Sketch

HOUR, DAY = 3600, 86_400
#: Length of a slot in seconds: the shortest of which a reference needs no more than :data:`MAX_SLOTS`; a day otherwise.
SLOTS_S = (HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY)
#: Slots that are kept: six weeks of hours. Of more, the newest.
MAX_SLOTS = 1008
#: Cells of a column that has no more bins than these; of others each group of a numeric column is this many.
MAX_CELLS, CELLS_A_GROUP = 64, 3
#: Chunks that are compared at most, evenly spread.
MAX_CHUNKS = 100
#: Windows that a bootstrap puts together.
_DRAWS = 400

PERIOD_S: Mapping[Season, int] = {"day": DAY, "week": 7 * DAY}


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a look sees, and with which rows of the reference it is compared: those of the same season, or all."""

    since: datetime
    until: datetime
    season: Season | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunks:
    """The reference rows of one column in slots of time.

    :param begin: beginning of the first slot, epoch seconds; a multiple of ``slot_s``.
    :param starts: first fine bin of each cell; every group begins a cell.
    :param counts: ``[slot, cells + 1]`` rows, those without a usable value in the last.
    """

    begin: int
    slot_s: int
    starts: Ints
    counts: Ints

    def to_json(self) -> dict[str, Any]:
        packed = zlib.compress(self.counts.astype("<u4").tobytes(), 6)
        return {
            "begin": self.begin,
            "slot_s": self.slot_s,
            "starts": self.starts.tolist(),
            "counts": base64.b64encode(packed).decode(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Chunks:
        """What :meth:`to_json` wrote.

        :raises KeyError, TypeError, ValueError: it is not that.
        """
        starts = np.asarray(stored["starts"], dtype=np.int64)
        try:
            raw = zlib.decompress(base64.b64decode(stored["counts"]))
        except zlib.error as error:
            raise ValueError(f"chunks: {error}") from error
        counts = np.frombuffer(raw, dtype="<u4").reshape(-1, len(starts) + 1).astype(np.int64)
        chunks = cls(begin=int(stored["begin"]), slot_s=int(stored["slot_s"]), starts=starts, counts=counts)
        if chunks.slot_s not in SLOTS_S or chunks.begin % chunks.slot_s:
            raise ValueError(f"chunks: slots of {chunks.slot_s} s from {chunks.begin}")
        return chunks

    @property
    def slots(self) -> int:
        return len(self.counts)

    @cached_property
    def cumulative(self) -> Ints:
        """Rows before each slot, ``[slot + 1, cells + 1]``."""
        return np.vstack([np.zeros((1, self.counts.shape[1]), dtype=np.int64), np.cumsum(self.counts, axis=0)])

    def length_of(self, window: Window) -> int:
        """Slots that a window is long: at least one."""
        return max(1, round((window.until - window.since).total_seconds() / self.slot_s))

    def phase_of(self, window: Window, period_s: int = DAY) -> int:
        """Slot of the period in which a window begins."""
        return round(window.since.timestamp() / self.slot_s) % self._slots_in(period_s)

    def _slots_in(self, period_s: int) -> int:
        return max(1, period_s // self.slot_s)

    def starts_like(self, window: Window) -> Ints:
        """First slots of chunks as long as ``window`` that begin at its time of day; of any time in a season."""
        first = np.arange(self.slots - self.length_of(window) + 1, dtype=np.int64)
        if window.season is None:
            a_day = self._slots_in(DAY)
            first = first[(self.begin // self.slot_s + first) % a_day == self.phase_of(window)]
        if len(first) > MAX_CHUNKS:
            first = first[np.linspace(0, len(first) - 1, MAX_CHUNKS).astype(np.int64)]
        return first

    def taken(self, first: Ints | int, length: int) -> Ints:
        """Rows of the ``length`` slots from ``first`` on."""
        return self.cumulative[first + length] - self.cumulative[first]

    def in_season(
        self, first_slot: int, length: int, season: Season, *, without: tuple[int, int] | None = None
    ) -> Floats:
        """Reference rows ``[cells + 1]`` of the season's phases that ``length`` slots from ``first_slot`` cover.

        :param first_slot: since the epoch. :param without: first slot and length of a chunk that is left out.
        """
        period = self._slots_in(PERIOD_S[season])
        phases = (first_slot + np.arange(length)) % period
        weight = np.bincount(phases, minlength=period).astype(np.float64)
        own = weight[(self.begin // self.slot_s + np.arange(self.slots)) % period]
        if without is not None:
            own[without[0] : without[0] + without[1]] = 0.0
        rows: Floats = own @ self.counts / max(1.0, float(weight.max()))
        return rows


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far chunks of the reference lie from the rest of it, chance taken off.

    :param value: what one more such chunk exceeds with the probability that was asked for, in the measure's unit.
    :param chunks: that were compared. :param length_s: seconds that each is long. :param rows: of each, on average.
    """

    value: float
    chunks: int
    length_s: int
    rows: float


def make_chunks(bins: Bins, sketches: Mapping[int, Sketch], *, whole: Sketch, begin: int, slot_s: int) -> Chunks:
    """:param sketches: number of a slot from ``begin`` on -> its rows. :param whole: all rows."""
    starts = _cells(bins, whole)
    counts = np.zeros((max(sketches) + 1, len(starts) + 1), dtype=np.int64)
    for slot, sketch in sketches.items():
        counts[slot, :-1] = np.add.reduceat(sketch.dense(bins.size), starts)
        counts[slot, -1] = sketch.unusable
    return Chunks(begin=begin, slot_s=slot_s, starts=starts, counts=counts)


def slots_of(seconds: Floats) -> tuple[Ints, int, int] | None:
    """Slot of each row (-1: too old to be kept), beginning of the first, and length of a slot.

    ``None`` where all rows are of one moment, as those whose times nobody knows.

    :param seconds: epoch seconds of each row.
    """
    first, last = float(seconds.min()), float(seconds.max())
    slot_s = next((slot for slot in SLOTS_S if (last - first) / slot < MAX_SLOTS - 1), DAY)
    numbers = np.floor(seconds / slot_s).astype(np.int64)
    newest = int(numbers.max())
    begin = max(int(numbers.min()), newest - MAX_SLOTS + 1)
    if begin == newest:
        return None
    return np.where(numbers >= begin, numbers - begin, -1), begin * slot_s, slot_s


def reach(bins: Bins, chunks: Chunks, measure: Measure, window: Window, *, alpha: float) -> Reach | None:
    """How far from its reference a window lies that is like the reference; ``None`` where nobody can say.

    A chunk beside the rest of the reference is what a window beside the reference is: both are some time of the same
    process. Distances of days are about normal on the scale of a shift (the root of a PSI), so the bound is that of one
    more of them by Student's t, and no less than the farthest.

    :param alpha: probability with which a window of the same process may lie farther.
    """
    length = chunks.length_of(window)
    day = chunks._slots_in(DAY)
    distances = np.array([value for value in _distances(bins, chunks, measure, window) if math.isfinite(value)])
    few = len(distances) < MIN_CHUNKS
    if length > day and window.season is None:
        drawn = _drawn(bins, chunks, measure, window)
        if drawn is not None:
            value = max(float(np.quantile(drawn, 1 - alpha)), float(distances.max(initial=0.0)))
            return _reach(chunks, measure, value, compared=len(distances), length=length)
    if few:
        return None
    bound = student.exceeded_with(min(alpha, 0.49), len(distances) - 1) * math.sqrt(1 + 1 / len(distances))
    value = max(float(distances.mean() + bound * distances.std(ddof=1)), float(distances.max()))
    return _reach(chunks, measure, value, compared=len(distances), length=length)


def _reach(chunks: Chunks, measure: Measure, value: float, *, compared: int, length: int) -> Reach:
    rows = float(chunks.cumulative[-1].sum()) * length / chunks.slots
    return Reach(value=_unrooted(measure, value), chunks=compared, length_s=length * chunks.slot_s, rows=rows)


def _distances(bins: Bins, chunks: Chunks, measure: Measure, window: Window) -> Iterator[float]:
    """Of each chunk like ``window`` from the rest of the reference, on the scale of a shift."""
    length = chunks.length_of(window)
    whole = chunks.cumulative[-1]
    for first in chunks.starts_like(window).tolist():
        taken = chunks.taken(first, length)
        if window.season is None:
            rest = (whole - taken).astype(np.float64)
        else:
            start = chunks.begin // chunks.slot_s + first
            rest = chunks.in_season(start, length, window.season, without=(first, length))
        if taken.sum() > 0 and rest.sum() > 0:
            compared = _compared(bins, chunks.starts, rest, taken.astype(np.float64))
            if measure in compared.measures:
                yield float(_on_scale(measure, compared))


def _drawn(bins: Bins, chunks: Chunks, measure: Measure, window: Window) -> Floats | None:
    """Distances of windows put together from blocks of whole days, each as long as the cube root of the reference says
    (Künsch), and as many as the window is long."""
    day, length = chunks._slots_in(DAY), chunks.length_of(window)
    days = chunks.slots // day
    block = min(length, max(1, math.ceil(days ** (1 / 3))) * day)
    starts = np.arange(chunks.slots - block + 1, dtype=np.int64)
    starts = starts[(chunks.begin // chunks.slot_s + starts) % day == chunks.phase_of(window)]
    if len(starts) < MIN_CHUNKS:
        return None
    chance = np.random.default_rng(0)  # the same window is judged alike each time
    pieces = math.ceil(length / block)
    picked = starts[chance.integers(0, len(starts), (_DRAWS, pieces))]
    # The last block is cut to the length of the window.
    lengths = np.full(pieces, block)
    lengths[-1] = length - block * (pieces - 1)
    drawn = sum(chunks.taken(picked[:, place], int(lengths[place])) for place in range(pieces))
    compared = _compared(bins, chunks.starts, chunks.cumulative[-1].astype(np.float64), np.asarray(drawn, dtype=float))
    if measure not in compared.measures:
        return None
    distances = _on_scale(measure, compared)
    # The reference is itself such a draw, of all its days.
    scale = math.sqrt(1 + length / chunks.slots)
    kept = distances[np.isfinite(distances)]
    return scale * kept


def _compared(bins: Bins, starts: Ints, reference: Floats, counts: Floats) -> Comparison:
    """Comparison over cells; the groups that a look compares are made of them."""
    groups = np.searchsorted(starts, bins.starts)

    def grouped(cells: Floats) -> Floats:
        return np.concatenate([np.add.reduceat(cells[..., :-1], groups, axis=-1), cells[..., -1:]], axis=-1)

    numeric = isinstance(bins, NumericBins)
    positions = None
    if isinstance(bins, NumericBins) and bins.deviation > 0 and len(starts) > 1:
        positions = bins.positions[starts[1:] - 1]
    return Comparison(
        reference_groups=grouped(reference),
        groups=grouped(counts),
        reference_fine=reference[:-1],
        fine=counts[..., :-1],
        ordered=numeric,
        positions=positions,
    )


def _cells(bins: Bins, whole: Sketch) -> Ints:
    if bins.size <= MAX_CELLS:
        return np.arange(bins.size, dtype=np.int64)
    if not isinstance(bins, NumericBins):
        return bins.starts
    rows = np.cumsum(whole.dense(bins.size))
    ends = [*bins.starts[1:].tolist(), bins.size]
    cells: set[int] = set()
    for first, end in zip(bins.starts.tolist(), ends, strict=True):
        before = int(rows[first - 1]) if first else 0
        targets = before + (int(rows[end - 1]) - before) * np.arange(CELLS_A_GROUP) / CELLS_A_GROUP
        inner = first + np.searchsorted(rows[first:end], targets[1:], side="left") + 1
        cells |= {first, *(int(cell) for cell in inner if first < cell < end)}
    return np.array(sorted(cells), dtype=np.int64)


def _on_scale(measure: Measure, compared: Comparison) -> Floats:
    """Distance on the scale of a shift, without what chance adds: all of it near 0, and ever less of it far away, where
    chance moves a distance to either side."""
    observed, expected = divergence.distance(measure, compared), divergence.by_chance(measure, compared)
    if measure in ("jensen_shannon", "chi_square"):
        return divergence.excess(measure, compared)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(observed > expected, observed - expected**2 / observed, observed * 0.0)
    return np.asarray(np.sqrt(left) if measure == "psi" else left)


def _unrooted(measure: Measure, value: float) -> float:
    return value * value if measure == "psi" else value
