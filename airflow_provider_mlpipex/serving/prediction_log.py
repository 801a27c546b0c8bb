"""The prediction log: bounded, off the request path, and never a reason not to answer.

Requests hand records to a bounded queue; one thread writes them as JSON lines. A full queue or a full disk drops
records and counts them. Segments are ``00000001.jsonl.open`` while written and ``00000001.jsonl`` when closed.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

STATS_FILE = "stats.json"
FLUSH_S = 0.2
_SEGMENT = re.compile(r"(\d{8})\.jsonl(\.open)?")


class PredictionLog:
    """:param folder: one folder an endpoint and release.
    :param queue_size: records waiting before new ones are dropped.
    :param segment_bytes: size at which a segment is closed.
    :param segments_kept: closed segments that stay; older ones are deleted.
    """

    def __init__(self, folder: Path, *, queue_size: int, segment_bytes: int, segments_kept: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments_kept = segments_kept
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(maxsize=queue_size)
        self._stream: Any = None
        self._stats_written_at = 0.0
        self.written = 0
        self.dropped = 0
        self.trouble = ""
        self._thread = threading.Thread(target=self._write_forever, name="prediction-log", daemon=True)
        self._thread.start()

    def put(self, record: dict[str, Any]) -> None:
        """Hand over one record; never blocks, never raises."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def stats(self) -> dict[str, Any]:
        return {"written": self.written, "dropped": self.dropped, "trouble": self.trouble}

    def close(self) -> None:
        """Write what is queued and close the segment."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _write_forever(self) -> None:
        while True:
            batch, last = self._next_batch()
            if batch:
                self._write(batch)
            self._write_stats(force=last)
            if last:
                self._close_segment()
                return

    def _next_batch(self) -> tuple[list[dict[str, Any]], bool]:
        """Everything that is queued, after at most :data:`FLUSH_S`; and whether the log is being closed."""
        batch: list[dict[str, Any]] = []
        try:
            record = self._queue.get(timeout=FLUSH_S)
            while record is not None:
                batch.append(record)
                record = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, batch: list[dict[str, Any]]) -> None:
        lines = b"".join(orjson.dumps(record, option=_OPTIONS, default=str) + b"\n" for record in batch)
        try:
            stream = self._stream or self._open_segment()
            stream.write(lines)
            stream.flush()
        except OSError as error:
            # A full disk must cost log records, not answers. Try a fresh segment with the next batch.
            self.dropped += len(batch)
            self.trouble = f"{type(error).__name__}: {error.strerror}"
            self._stream = None
            return
        self.written += len(batch)
        self.trouble = ""
        if stream.tell() >= self._segment_bytes:
            self._close_segment()

    def _open_segment(self) -> Any:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What a killed server left open is closed as it is: readers skip a torn last line.
        for left in self._folder.glob("*.jsonl.open"):
            left.rename(left.with_suffix(""))
        numbers = [int(found.group(1)) for path in self._folder.iterdir() if (found := _SEGMENT.fullmatch(path.name))]
        for old in sorted(self._folder.glob("*.jsonl"))[: -self._segments_kept]:
            old.unlink(missing_ok=True)
        path = self._folder / f"{max(numbers, default=0) + 1:08d}.jsonl.open"
        self._stream = path.open("ab")
        return self._stream

    def _close_segment(self) -> None:
        if self._stream is None:
            return
        path = Path(self._stream.name)
        self._stream.close()
        self._stream = None
        path.rename(path.with_suffix(""))

    def _write_stats(self, *, force: bool) -> None:
        now = time.monotonic()
        if not force and now - self._stats_written_at < 1.0:
            return
        self._stats_written_at = now
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            scratch = self._folder / f".{STATS_FILE}"
            scratch.write_text(json.dumps(self.stats()), encoding="utf-8")
            scratch.replace(self._folder / STATS_FILE)
        except OSError as error:
            self.trouble = f"{type(error).__name__}: {error.strerror}"


_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def read_stats(folder: Path) -> dict[str, int]:
    """Counters as last written: ``written``, ``dropped``; zeros where there is no log yet."""
    try:
        found = json.loads((folder / STATS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {"written": 0, "dropped": 0}
    return {"written": int(found["written"]), "dropped": int(found["dropped"])}


def segments(folder: Path) -> list[Path]:
    """Segments in order of writing, the open one last."""
    return sorted((p for p in folder.glob("*.jsonl*") if _SEGMENT.fullmatch(p.name)), key=lambda p: p.name[:8])


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """Every whole record; a line torn by a crash is skipped."""
    for path in segments(folder):
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield orjson.loads(line)
