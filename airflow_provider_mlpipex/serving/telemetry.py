"""Telemetry from Envoy's log of attempts: every attempt counts, mirrored and rescued ones too.

A tail folds the log into buckets of one second a release: requests, errors, client errors, and a latency histogram
whose bounds stand 5 % apart. Any window is then a sum. Memory is bounded by the time kept, not by traffic.
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from airflow_provider_mlpipex.domain.evidence import LatencyHistogram, ReleaseTelemetry, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release import slug_of
from airflow_provider_mlpipex.serving.envoy_config import read_cluster_name

#: Upper bounds in milliseconds, 5 % apart, from 0.1 ms to a minute.
BOUNDS_MS = tuple(round(0.1 * 1.05**step, 6) for step in range(274))
KEPT_S = 2 * 3600
ROTATE_BYTES = 64_000_000
_POLL_S = 0.1
#: Envoy flushes its log every 200 ms; a window that ends later than this before now may still grow.
SETTLED_S = 0.5
#: Our own cap on mirrored copies (``UO``: overflow) says nothing about the release.
_NOT_THE_RELEASE = frozenset({"UO"})


@dataclass
class Bucket:
    """One second of one release."""

    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    latency: dict[int, int] = field(default_factory=lambda: defaultdict(int))


class AttemptTail:
    """:param log: Envoy's attempts log. :param reopen: tells Envoy to reopen it after a rotation."""

    def __init__(self, log: Path, *, reopen: Any) -> None:
        self._log = log
        self._reopen = reopen
        #: Name of a model server's socket -> (endpoint, release slug). The socket says who answered an attempt; the
        #: cluster only says who was asked first, and a composite has two.
        self.owners: dict[str, tuple[str, str]] = {}
        self._buckets: dict[tuple[str, str], dict[int, Bucket]] = defaultdict(dict)
        self._lock = threading.Lock()
        self._offset = 0
        self._inode = 0
        self._torn = b""
        self._read_until = 0.0
        self._held_since = time.time()
        self.unreadable = 0

    def poll(self) -> None:
        """Read what was written since, and rotate a log that has grown too large."""
        now = time.time()
        try:
            with self._log.open("rb") as stream:
                found = os.fstat(stream.fileno())
                if found.st_ino != self._inode or found.st_size < self._offset:
                    self._inode, self._offset, self._torn = found.st_ino, 0, b""
                stream.seek(self._offset)
                chunk = stream.read()
                self._offset += len(chunk)
        except FileNotFoundError:
            chunk = b""
        *lines, self._torn = (self._torn + chunk).split(b"\n")
        with self._lock:
            for line in lines:
                self._add(line)
            self._read_until = now
            self._forget(now)
        if self._offset > ROTATE_BYTES:
            self._rotate()

    def recover(self) -> None:
        """After a restart: what the logs still hold counts again, the rotated one first."""
        rotated = self._log.with_suffix(".1.jsonl")
        if rotated.exists():
            with rotated.open("rb") as stream, self._lock:
                for line in stream:
                    self._add(line)
        self.poll()
        with self._lock:
            first = [min(seconds) for seconds in self._buckets.values() if seconds]
            self._held_since = min([self._held_since, *map(float, first)])

    def telemetry(self, endpoint: EndpointRef, releases: list[str], *, since: datetime, until: datetime) -> Telemetry:
        """Counts of ``releases`` in the window. Seconds are counted whole: those that *begin* in the window."""
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

    def _add(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            attempt = orjson.loads(line)
            owner = self.owners.get(os.path.basename(attempt["host"] or "")) or read_cluster_name(
                attempt["cluster"] or ""
            )
            at = float(attempt["ts"]) + float(attempt["ms"] or 0) / 1000.0
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            self.unreadable += 1
            return
        flags = set((attempt["flags"] or "").split(",")) - {"-", ""}
        if owner is None or flags & _NOT_THE_RELEASE:
            return
        bucket = self._buckets[owner].setdefault(int(at), Bucket())
        bucket.requests += 1
        code = int(attempt["code"] or 0)
        if code >= 500 or code == 0:
            bucket.errors += 1
        elif code >= 400:
            bucket.client_errors += 1
        microseconds = attempt["us"]
        milliseconds = float(microseconds) / 1000.0 if microseconds not in (None, "-") else float(attempt["ms"] or 0)
        bucket.latency[bisect.bisect_left(BOUNDS_MS, milliseconds)] += 1

    @staticmethod
    def _sum(release: str, seconds: dict[int, Bucket], start: float, end: float) -> ReleaseTelemetry:
        counts = [0] * (len(BOUNDS_MS) + 1)
        requests = errors = client_errors = 0
        for second, bucket in seconds.items():
            if start <= second < end:
                requests += bucket.requests
                errors += bucket.errors
                client_errors += bucket.client_errors
                for at, count in bucket.latency.items():
                    counts[at] += count
        return ReleaseTelemetry(
            release=release,
            requests=requests,
            errors=errors,
            client_errors=client_errors,
            latency=LatencyHistogram(bounds_ms=BOUNDS_MS, counts=tuple(counts)),
        )

    def _forget(self, now: float) -> None:
        horizon = int(now - KEPT_S)
        for seconds in self._buckets.values():
            for second in [second for second in seconds if second < horizon]:
                del seconds[second]
        self._held_since = max(self._held_since, float(horizon))

    def _rotate(self) -> None:
        os.replace(self._log, self._log.with_suffix(".1.jsonl"))
        self._reopen()
        # Lines written between rename and reopen are in the renamed file, past our offset.
        with self._log.with_suffix(".1.jsonl").open("rb") as stream:
            stream.seek(self._offset)
            rest = stream.read()
        with self._lock:
            for line in (self._torn + rest).split(b"\n"):
                self._add(line)
        self._offset, self._inode, self._torn = 0, 0, b""
