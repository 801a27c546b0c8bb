"""The prediction log: bounded, off the request path, and never a reason not to answer.

Requests hand records to a bounded queue; one thread writes them as JSON lines. A full queue or a full disk drops
records and counts them, and a line ``{"t": …, "dropped": n}`` says so where they are missing, so that a window can be
told from the days before it. Segments are ``00000001.jsonl.open`` while written and ``00000001.jsonl`` when closed.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.serving.prediction_log.reader import SEGMENT, STATS_FILE
from airflow_provider_mlpipex.serving.prediction_log.record import SERVER_FIELDS

FLUSH_S = 0.2
#: Wide rows fill the memory long before there are ten thousand of them.
QUEUE_BYTES = 64_000_000
STATS_S = 1.0
#: A longer record is kept without its inputs: DuckDB gives up a whole log for one line beyond 16 MB.
RECORD_BYTES = 1_000_000


class _Entry(NamedTuple):
    """Records of one request, as the lines that they will be, and how many those are."""

    lines: bytes
    rows: int


class PredictionLog:
    """:param folder: one folder an endpoint and release.
    :param queue_size: records waiting before new ones are dropped.
    :param segment_bytes: size at which a segment is closed.
    :param segments_kept: closed segments that stay; older ones are deleted.
    :param queue_bytes: of waiting records before new ones are dropped; one request's more than that may wait.
    """

    def __init__(
        self,
        folder: Path,
        *,
        queue_size: int,
        segment_bytes: int,
        segments_kept: int,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._folder = folder
        self._queue_size = queue_size
        self._queue_bytes = queue_bytes
        self._segment_bytes = segment_bytes
        self._segments_kept = segments_kept
        self._queue: deque[_Entry] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._stream: Any = None
        self._stats_written_at = 0.0
        self.written = 0
        # Pairs of counters, because each has one thread that adds to it.
        self._given = 0
        self._taken = 0
        self._given_bytes = 0
        self._taken_bytes = 0
        self._dropped_by_queue = 0
        self._dropped_by_disk = 0
        self._dropped_reported = 0
        self.trouble = ""
        self._thread = threading.Thread(target=self._write_forever, name="prediction-log", daemon=True)
        self._thread.start()

    def put(self, record: dict[str, Any], rows: Sequence[dict[str, Any]] = ({},)) -> None:
        """Hand over one record, or one for each of ``rows``; never blocks, never raises. For one thread.

        :param rows: what each record has beside what stands in ``record`` for all of them; no field in both.
        """
        waiting = self._given - self._taken
        if waiting >= self._queue_size or self._given_bytes - self._taken_bytes >= self._queue_bytes:
            self._dropped_by_queue += len(rows)
            return
        self._given += len(rows)
        # Encoded here and not by the writer: objects that wait keep the garbage collector busy, bytes do not.
        entry = _Entry(_lines(record, rows), len(rows))
        self._given_bytes += len(entry.lines)
        self._queue.append(entry)
        # Otherwise the writer comes by itself: to wake it for each request would keep both threads from their work.
        if 2 * (waiting + len(rows)) > self._queue_size:
            self._wake.set()

    @property
    def dropped(self) -> int:
        return self._dropped_by_queue + self._dropped_by_disk

    def stats(self) -> dict[str, Any]:
        return {"t": time.time(), "written": self.written, "dropped": self.dropped, "trouble": self.trouble}

    def close(self) -> None:
        """Write what is queued and close the segment."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=10)

    def _write_forever(self) -> None:
        while True:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            closing = self._closing
            self._write(self._next_batch())
            last = closing and not self._queue
            self._write_stats(last=last)
            if last:
                self._close_segment()
                return
            if self._queue:
                self._wake.set()

    def _next_batch(self) -> list[_Entry]:
        """What is queued, but not much more than the queue is meant to hold."""
        batch: list[_Entry] = []
        count = 0
        while self._queue and count < self._queue_size:
            batch.append(self._queue.popleft())
            count += batch[-1].rows
        self._taken += count
        self._taken_bytes += sum(len(entry.lines) for entry in batch)
        return batch

    def _write(self, batch: list[_Entry]) -> None:
        unreported = self.dropped - self._dropped_reported
        if not batch and not unreported:
            return
        count = sum(entry.rows for entry in batch)
        marker = _line({"t": time.time(), "dropped": unreported}) if unreported else b""
        lines = b"".join([marker, *(entry.lines for entry in batch)])
        try:
            stream = self._stream or self._open_segment()
            stream.write(lines)
            stream.flush()
        except OSError as error:
            # A full disk must cost log records, not answers. Try a fresh segment with the next batch.
            self._dropped_by_disk += count
            self.trouble = f"{type(error).__name__}: {error.strerror}"
            self._abandon_segment()
            return
        self.written += count
        self._dropped_reported += unreported
        self.trouble = ""
        if stream.tell() >= self._segment_bytes:
            self._close_segment()

    def _open_segment(self) -> Any:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What a killed server left open is closed as it is: readers skip a torn last line.
        for left in self._folder.glob("*.jsonl.open"):
            left.rename(left.with_suffix(""))
        numbers = [int(match.group(1)) for path in self._folder.iterdir() if (match := SEGMENT.fullmatch(path.name))]
        for old in sorted(self._folder.glob("*.jsonl"))[: -self._segments_kept]:
            old.unlink(missing_ok=True)
        path = self._folder / f"{max(numbers, default=0) + 1:08d}.jsonl.open"
        self._stream = path.open("ab")
        return self._stream

    def _close_segment(self) -> None:
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        path = Path(stream.name)
        try:
            stream.close()
            path.rename(path.with_suffix(""))
        except OSError as error:
            # It stays ``.open``; readers read it all the same, and the next segment closes it.
            self.trouble = f"{type(error).__name__}: {error.strerror}"

    def _abandon_segment(self) -> None:
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        with suppress(OSError):
            stream.close()
        path = Path(stream.name)
        with suppress(OSError):
            # One is tried with every batch: empty ones would push out those that hold something.
            if path.stat().st_size == 0:
                path.unlink()

    def _write_stats(self, *, last: bool) -> None:
        now = time.monotonic()
        if not last and now - self._stats_written_at < STATS_S:
            return
        self._stats_written_at = now
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_write(self._folder / STATS_FILE, json.dumps({**self.stats(), "closed": last}))
        except OSError as error:
            self.trouble = f"{type(error).__name__}: {error.strerror}"


def _lines(record: dict[str, Any], rows: Sequence[dict[str, Any]]) -> bytes:
    """One line for each of ``rows``. What they share, ``record``, is encoded once, and the rows all together."""
    try:
        shared = orjson.dumps(record, option=_OPTIONS, default=str)[:-1]
        separated: list[Any] = [_SEPARATOR] * (2 * len(rows) - 1)
        separated[::2] = rows
        together = orjson.dumps(separated, option=_OPTIONS, default=str)
    except TypeError:
        together = b""
    if together and record and all(rows) and len(together) + len(shared) <= RECORD_BYTES:
        return b"%b,%b\n" % (shared, together[2:-1].replace(_BETWEEN, b"\n" + shared + b","))
    return b"".join(_line({**record, **row}) for row in rows)


#: Told apart from everything that a client could send, because no client knows it.
_SEPARATOR = secrets.randbits(62) | 1 << 62
_BETWEEN = b",%d,{" % _SEPARATOR


def _line(record: dict[str, Any]) -> bytes:
    """``record`` as one line; without what the client sent, where that cannot be read back. Never raises."""
    try:
        line = orjson.dumps(record, option=_OPTIONS, default=str)
        if len(line) <= RECORD_BYTES:
            return line + b"\n"
    except TypeError:
        # JSON can say integers beyond 64 bits, halves of surrogate pairs and any depth, so clients may send them;
        # neither orjson nor DuckDB can read them.
        pass
    said = {name: _sayable(record[name]) for name in SERVER_FIELDS if name in record}
    return orjson.dumps(said, option=_OPTIONS, default=str) + b"\n"


def _sayable(value: Any) -> Any:
    """Text that UTF-8 can say stays as it is: it is compared with what another release said."""
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()[:_MAX_TEXT]


_MAX_TEXT = 100_000
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
