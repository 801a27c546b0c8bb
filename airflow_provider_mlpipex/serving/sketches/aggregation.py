"""Compaction: whole records of a prediction log are read once, in order, and counted into the release's sketches.

Every answered row counts once for each time that it was logged: a request that was answered twice was asked twice. What
cannot be counted (torn lines, times that cannot be, segments that were deleted before they were read, rows that the
model server had to drop) is counted as dropped, in the minute of the record before it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference
from airflow_provider_mlpipex.domain.drift.served import REST
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, merge
from airflow_provider_mlpipex.serving.prediction_log.reader import read_segments
from airflow_provider_mlpipex.serving.sketches.store import MINUTE, TOTALS_KEPT_S, Counted, Position, SketchStore

#: Bytes that are read at once: some thousand lines. A longer line is read whole.
CHUNK_BYTES = 1_000_000
#: A record may be this many seconds ahead: servers' clocks differ.
AHEAD_S = 3600.0
#: Longer names of batches are left together.
MAX_BATCH_LENGTH = 200
#: Minutes over which lost rows are spread at most.
_SPREAD = 1440


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some lines of one segment.

    :param lost_bytes: of segments that were deleted since ``before`` and had not been read; an estimate, all segments
        being about as large as the oldest that is left.
    """

    lines: Sequence[bytes]
    before: Position
    after: Position
    lost_bytes: int = 0


@dataclass(kw_only=True)
class Rows:
    """Rows that have the same columns, read from a chunk."""

    labels: list[int] = field(default_factory=list)
    inputs: list[Sequence[Any]] = field(default_factory=list)
    scores: list[Any] = field(default_factory=list)


@dataclass(kw_only=True)
class _Read:
    """A chunk's records. ``rows``: columns that they have -> rows; ``labels``: (batch, minute) -> its number."""

    rows: dict[tuple[str, ...], Rows] = field(default_factory=dict)
    labels: dict[tuple[str, int], int] = field(default_factory=dict)
    dropped: Counter[int] = field(default_factory=Counter)
    at: float | None = None
    first_at: float | None = None


def compact(
    folder: Path,
    store: SketchStore,
    *,
    now: Callable[[], float],
    goes_on: Callable[[], bool] = lambda: True,
) -> int:
    """Count what the log in ``folder`` has beyond the store's position; the number of rows that were lost unread.

    :param goes_on: asked between two chunks, each of which is stored by itself.
    :raises OSError, sqlite3.Error: the log cannot be read, or the store not be written; the next time tries again.
    """
    lost = 0
    while goes_on() and (chunk := next_chunk(folder, store.position())) is not None:
        lost += count(chunk, store, now=now())
    store.prune(now())
    return lost


def next_chunk(folder: Path, position: Position) -> Chunk | None:
    """The lines after ``position``; ``None`` where there are none yet."""
    return read_segments([folder], lambda paths: _next_chunk({int(path.name[:8]): path for path in paths}, position))


def count(chunk: Chunk, store: SketchStore, *, now: float) -> int:
    """Store what ``chunk`` holds, with its end as the new position; the number of rows that were lost before it."""
    read = _read(chunk, store.reference, now)
    lost = _estimate(chunk)
    if lost:
        read.dropped.update(_spread(lost, chunk.before.at, read.first_at or read.at or now))
    with store.writing():
        names = store.admitted(read.labels)
        counted = _counted(read, names, store.reference)
        store.add(Counted(sketches=counted, dropped=read.dropped), replace(chunk.after, at=read.at))
    return lost


def _next_chunk(segments: Mapping[int, Path], position: Position) -> Chunk | None:
    if segments and max(segments) < position.segment:
        # The log was removed and begun again.
        position = Position(at=position.at)
    number = position.segment
    if number not in segments or position.closed:
        later = [other for other in segments if other > number]
        if not later:
            return None
        number = min(later)
    path, begun = segments[number], number == position.segment
    # Nothing is added to a segment once it is closed, or once there is a newer one.
    closed = path.suffix != ".open" or number < max(segments)
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        offset = position.offset if begun and position.offset <= size else 0
        stream.seek(offset)
        raw = _whole_lines(stream.read(CHUNK_BYTES), stream, closed=closed)
    end = offset + len(raw)
    after = Position(segment=number, offset=end, closed=closed and end >= size, at=position.at)
    if after == position or not raw and not closed:
        return None
    lost_bytes = 0
    if not begun:
        unread = 0 if position.closed or position.segment == 0 else max(1, size - position.offset)
        lost_bytes = (number - position.segment - 1) * size + unread
    return Chunk(lines=raw.split(b"\n"), before=position, after=after, lost_bytes=lost_bytes)


def _whole_lines(raw: bytes, stream: Any, *, closed: bool) -> bytes:
    """``raw`` up to its last line's end, or up to the end of the line that fills all of it.

    A torn line is whole when nothing will be added to it.
    """
    end = raw.rfind(b"\n") + 1
    if len(raw) < CHUNK_BYTES:
        return raw if closed else raw[:end]
    return raw[:end] if end else _whole_line(raw + stream.readline(), closed=closed)


def _whole_line(line: bytes, *, closed: bool) -> bytes:
    return line if closed or line.endswith(b"\n") else b""


def _read(chunk: Chunk, reference: Reference, now: float) -> _Read:
    read = _Read(at=chunk.before.at)
    places = _Places(reference)
    for line in chunk.lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            if line.strip():
                read.dropped[_minute(now if read.at is None else read.at)] += 1
            continue
        moment, lost = record.get("t"), record.get("dropped")
        answered = record.get("status") == 200
        if isinstance(moment, bool) or not isinstance(moment, int | float) or not _is_possible(moment, now):
            rows = lost if isinstance(lost, int) and lost > 0 else int(answered)
            read.dropped[_minute(now if read.at is None else read.at)] += rows
            continue
        read.at = moment
        read.first_at = moment if read.first_at is None else read.first_at
        if isinstance(lost, int) and lost > 0:
            read.dropped[_minute(moment)] += lost
        elif answered:
            columns, picked = places.picked(record.get("columns"), record.get("inputs"))
            label = read.labels.setdefault((_batch(record), _minute(moment)), len(read.labels))
            rows_ = read.rows.setdefault(columns, Rows())
            rows_.labels.append(label)
            rows_.inputs.append(picked)
            # A plain number leaves out its label, because it is its own.
            rows_.scores.append(record.get(reference.answer_field, record.get("score")))
    return read


class _Places:
    """Where a reference's columns stand in rows; clients send few different headers, so each is looked at once."""

    def __init__(self, reference: Reference) -> None:
        self._wanted = [name for name in reference.columns if name != SCORE]
        self._known: dict[tuple[Any, ...], tuple[tuple[str, ...], tuple[int, ...]]] = {}

    def picked(self, header: Any, row: Any) -> tuple[tuple[str, ...], Sequence[Any]]:
        """Columns of the reference that a row has, and its values; none where a row is not named columns."""
        if not isinstance(header, list) or not isinstance(row, list) or len(header) != len(row):
            return (), ()
        columns, places = self._of(tuple(map(str, header)))
        return columns, [row[place] for place in places]

    def _of(self, header: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        known = self._known.get(header)
        if known is None:
            place_of = {name: place for place, name in enumerate(header)}
            columns = tuple(name for name in self._wanted if name in place_of)
            known = self._known[header] = columns, tuple(place_of[name] for name in columns)
        return known


def _counted(
    read: _Read, names: Mapping[tuple[str, int], str], reference: Reference
) -> dict[tuple[str, int], dict[str, Sketch]]:
    # Batches that have no name of their own are counted together, not one by one.
    admitted = [(names[key], key[1]) for key in read.labels]
    number_of = {key: number for number, key in enumerate(dict.fromkeys(admitted))}
    numbers = [number_of[key] for key in admitted]
    counted: dict[int, list[dict[str, Sketch]]] = {}
    for columns, rows in read.rows.items():
        values = dict(zip(columns, zip(*rows.inputs, strict=True), strict=True)) if columns else {}
        labels = [numbers[label] for label in rows.labels]
        for label, sketches in reference.sketch_by(labels, values, scores=rows.scores).items():
            counted.setdefault(int(label), []).append(sketches)  # type: ignore[call-overload]
    return {
        key: {name: merge(part[name] for part in counted[number]) for name in reference.columns}
        for key, number in number_of.items()
    }


def _batch(record: Mapping[str, Any]) -> str:
    batch = record.get("batch")
    if batch is None:
        return ""
    return batch if isinstance(batch, str) and len(batch) <= MAX_BATCH_LENGTH else REST


def _is_possible(moment: float, now: float) -> bool:
    return math.isfinite(moment) and now - TOTALS_KEPT_S < moment <= now + AHEAD_S


def _minute(moment: float) -> int:
    return int(moment // MINUTE * MINUTE)


def _estimate(chunk: Chunk) -> int:
    """Rows in the segments that are gone, as long as those of ``chunk``; at least one where anything is gone."""
    if not chunk.lost_bytes:
        return 0
    lines = [line for line in chunk.lines if line]
    read = sum(map(len, lines)) + len(lines)
    return max(1, round(chunk.lost_bytes * len(lines) / read)) if read else 1


def _spread(rows: int, since: float | None, until: float) -> dict[int, int]:
    """``rows`` evenly over the minutes of a time, which begins with ``until`` where nobody knows when it began."""
    first, last = _minute(until if since is None else min(since, until)), _minute(until)
    step = max(1, -(-(last - first + MINUTE) // MINUTE // _SPREAD)) * MINUTE
    minutes = range(first, last + 1, step)
    ends = [rows * (place + 1) // len(minutes) for place in range(len(minutes))]
    return {
        minute: end - before for minute, end, before in zip(minutes, ends, [0, *ends], strict=False) if end > before
    }
