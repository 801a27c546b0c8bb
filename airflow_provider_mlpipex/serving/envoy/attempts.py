"""Telemetry from Envoy's log of attempts: every attempt counts, mirrored and rescued ones too.

A tail folds the log into buckets of one second a release: requests, errors, client errors, and a latency histogram
whose bounds stand 5 % apart. After two hours seconds are folded into ten minutes, because a stage that has to see a
small excess may last for days. Any window is then a sum. Memory is bounded by the time kept, not by traffic.
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from airflow_provider_mlpipex.domain.gates.evidence import LatencyHistogram, ReleaseTelemetry, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import slug_of
from airflow_provider_mlpipex.domain.rollout.traffic_plan import MODEL_FAULT
from airflow_provider_mlpipex.serving.envoy.config import read_cluster_name

#: Upper bounds in milliseconds, 5 % apart, from 0.1 ms to a minute.
BOUNDS_MS = tuple(round(0.1 * 1.05**step, 6) for step in range(274))
#: For so long every second is kept by itself, and what is older by ten minutes.
FINE_S, COARSE_S = 2 * 3600, 600
KEPT_S = 14 * 24 * 3600
ROTATE_BYTES = 64_000_000
#: Envoy flushes its log every 200 ms; a window that ends later than this before now may still grow.
SETTLED_S = 0.5
#: Our own cap on mirrored copies (``UO``: overflow) says nothing about the release.
_NOT_THE_RELEASE = frozenset({"UO"})


@dataclass
class Bucket:
    """One second of one release, or ten minutes that are past."""

    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    unfinished: int = 0
    latency: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, other: Bucket) -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.client_errors += other.client_errors
        self.unfinished += other.unfinished
        for at, count in other.latency.items():
            self.latency[at] += count


class _Follower:
    """One log of attempts, read as it grows and put aside where it has grown too large.

    :param reopen: tells its Envoy to reopen it after a rotation; may raise.
    """

    def __init__(self, log: Path, reopen: Callable[[], None]) -> None:
        self._log = log
        self.rotated = log.with_suffix(".1.jsonl")
        self._reopen = reopen
        self._reopen_due = False
        # Held open, so that a file that was renamed is read to its end.
        self._stream: BinaryIO | None = None
        self._torn = b""

    def new_lines(self) -> list[bytes]:
        """Whole lines since the last call; what a killed writer left torn is returned as a line of its own."""
        if self._stream is None:
            self._stream = self._open()
            if self._stream is None:
                return []
        lines = self._read_lines(self._stream)
        if self._was_replaced(self._stream):
            # The writer has opened the new file, so this is the last that came into the old one.
            lines += [*self._read_lines(self._stream), self._torn]
            self._stream.close()
            self._torn = b""
            self._stream = self._open()
            lines += self._read_lines(self._stream) if self._stream is not None else []
        return lines

    def bound(self) -> None:
        """:raises MlpipexError: Envoy could not be told of a rotation; the next call tells it."""
        # Once renamed, the file at hand stays the old one until Envoy's writer has opened a new one.
        if self._stream is not None and self._stream.tell() > ROTATE_BYTES and self._log.exists():
            os.replace(self._log, self.rotated)
            self._reopen_due = True
        if self._reopen_due:
            self._reopen()
            self._reopen_due = False

    def _open(self) -> BinaryIO | None:
        try:
            return self._log.open("rb")
        except FileNotFoundError:
            return None

    def _read_lines(self, stream: BinaryIO) -> list[bytes]:
        *lines, self._torn = (self._torn + stream.read()).split(b"\n")
        return lines

    def _was_replaced(self, stream: BinaryIO) -> bool:
        """Whether another file stands at the log's path, or the same one cut short."""
        held = os.fstat(stream.fileno())
        try:
            there = self._log.stat()
        except FileNotFoundError:
            return False
        return there.st_ino != held.st_ino or there.st_size < stream.tell()


class AttemptTail:
    """:param logs: attempts log of each Envoy, and what tells that one to reopen it after a rotation; may raise."""

    def __init__(self, logs: Mapping[Path, Callable[[], None]]) -> None:
        self._followers = [_Follower(log, reopen) for log, reopen in logs.items()]
        #: Name of a model server's socket -> (endpoint, release slug). The socket says who answered an attempt; the
        #: cluster only says who was asked first, and a composite has two.
        self.owners: dict[str, tuple[str, str]] = {}
        self._buckets: dict[tuple[str, str], dict[int, Bucket]] = defaultdict(dict)
        self._lock = threading.Lock()
        self._read_until = 0.0
        self._held_since = time.time()
        self._folded_until = 0
        self.unreadable = 0

    def poll(self) -> None:
        """Read what was written since, and rotate logs that have grown too large.

        :raises MlpipexError: Envoy could not be told of a rotation; everything was read, and the next call tells it.
        """
        now = time.time()
        lines = [line for follower in self._followers for line in follower.new_lines()]
        with self._lock:
            for line in lines:
                self._add(line)
            self._read_until = now
            self._forget(now)
        for follower in self._followers:
            follower.bound()

    def recover(self) -> None:
        """After a restart: what the logs still hold counts again, the rotated ones first."""
        with self._lock:
            self._folded_until = 0
            # Without a rotated log nothing has ever been put away: what is held reaches back to the first attempt.
            self._held_since = 0.0
            for rotated in (follower.rotated for follower in self._followers if follower.rotated.exists()):
                with rotated.open("rb") as stream:
                    ended = [moment for line in stream if (moment := self._add(line)) is not None]
                self._held_since = max(self._held_since, float(min(ended, default=int(time.time()))))
        self.poll()

    def telemetry(self, endpoint: EndpointRef, releases: list[str], *, since: datetime, until: datetime) -> Telemetry:
        """Counts of ``releases`` in the window. Seconds, and past ten minutes, are counted whole: those that *begin* in
        the window."""
        start, end = since.timestamp(), min(until.timestamp(), time.time())
        with self._lock:
            seen = {
                release: self._sum(release, self._buckets.get((str(endpoint), slug_of(release)), {}), start, end)
                for release in releases
            }
            behind = end - self._read_until
            trouble = ""
            if behind > SETTLED_S + 1.0:
                trouble = f"the attempts log was last read {behind:.1f} s before the window's end"
            elif start < self._held_since - 1.0:
                trouble = f"the window begins {self._held_since - start:.1f} s before what is held"
        return Telemetry(
            endpoint=str(endpoint),
            since=since,
            until=until,
            releases=seen,
            complete=not trouble,
            detail=trouble,
        )

    def _add(self, line: bytes) -> int | None:
        """Count one attempt; the second in which it ended, ``None`` where it is nobody's."""
        if not line.strip():
            return None
        try:
            attempt = orjson.loads(line)
            host, cluster = attempt["host"] or "", attempt["cluster"] or ""
            owner = self.owners.get(os.path.basename(host)) or read_cluster_name(cluster)
            elapsed_ms = float(attempt["ms"] or 0)
            ended = int(float(attempt["ts"]) + elapsed_ms / 1000.0)
            flags = set((attempt["flags"] or "").split(","))
            code = int(attempt["code"] or 0)
            by_model = attempt.get("fault") == MODEL_FAULT
            if attempt["us"] not in (None, "-"):
                elapsed_ms = float(attempt["us"]) / 1000.0
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            # Torn by a crash. Counted, because it may have been anybody's.
            self.unreadable += 1
            return None
        if owner is None or flags & _NOT_THE_RELEASE:
            return None
        if code == 0 and not flags - {"", "-"}:
            # Nothing went wrong with it: the client hung up, or another release that was asked beside it was faster.
            self._buckets[owner].setdefault(ended, Bucket()).unfinished += 1
            return ended
        bucket = self._buckets[owner].setdefault(ended, Bucket())
        bucket.requests += 1
        # Also with 200, which MLflow's contract gives an answer that is no number.
        if code >= 500 or code == 0 or by_model:
            bucket.errors += 1
        elif code >= 400:
            bucket.client_errors += 1
        bucket.latency[bisect.bisect_left(BOUNDS_MS, elapsed_ms)] += 1
        return ended

    @staticmethod
    def _sum(release: str, seconds: dict[int, Bucket], start: float, end: float) -> ReleaseTelemetry:
        whole = Bucket()
        for second, bucket in seconds.items():
            if start <= second < end:
                whole.add(bucket)
        return ReleaseTelemetry(
            release=release,
            requests=whole.requests,
            errors=whole.errors,
            client_errors=whole.client_errors,
            unfinished=whole.unfinished,
            latency=LatencyHistogram(
                bounds_ms=BOUNDS_MS, counts=tuple(whole.latency.get(at, 0) for at in range(len(BOUNDS_MS) + 1))
            ),
        )

    def _forget(self, now: float) -> None:
        """Fold what is past into ten minutes, each of them once it is past as a whole, and drop what is older still."""
        past, horizon = int(now - FINE_S) // COARSE_S * COARSE_S, int(now - KEPT_S)
        self._held_since = max(self._held_since, float(horizon))
        if past == self._folded_until:
            return
        self._folded_until = past
        for seconds in self._buckets.values():
            for second in [second for second in seconds if second < past and second % COARSE_S]:
                seconds.setdefault(second // COARSE_S * COARSE_S, Bucket()).add(seconds.pop(second))
            for second in [second for second in seconds if second < horizon]:
                del seconds[second]
