"""Telemetry from Envoy's log of attempts: every attempt counts, mirrored and rescued ones too.

A tail reads what was written since it read last, and counts it for each release: requests, errors, client errors, and
a latency histogram whose bounds stand 5 % apart. Any window is then a sum (:mod:`.attempt_counts`). Memory is bounded
by the time kept, not by traffic; a log is bounded by its rotation.
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from airflow_provider_mlpipex.domain.gates.evidence import LatencyHistogram, ReleaseTelemetry, Split, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import slug_of
from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    MODEL_FAULT,
    REFUSED_ROWS,
    TIMEOUT_S,
    TrafficPlan,
)
from airflow_provider_mlpipex.serving.envoy.attempt_counts import AttemptCounts, Bucket, Horizon
from airflow_provider_mlpipex.serving.envoy.config import BY_CHANCE, read_cluster_name
from airflow_provider_mlpipex.serving.envoy.refusals import Refusals
from airflow_provider_mlpipex.serving.envoy.running_totals import RunningTotals, Total
from airflow_provider_mlpipex.serving.envoy.split_counts import SplitCounts
from airflow_provider_mlpipex.serving.steady_clock import SteadyClock
from airflow_provider_mlpipex.serving.timeouts import request_limit_s

#: Upper bounds in milliseconds, 5 % apart, from 0.1 ms to a minute.
BOUNDS_MS = tuple(round(0.1 * 1.05**step, 6) for step in range(274))
ROTATE_BYTES = 64_000_000
#: Envoy flushes its log every 200 ms; a window that ends later than this before now may still grow.
SETTLED_S = 0.5
#: Our own cap on mirrored copies (``UO``: overflow) says nothing about the release.
_NOT_THE_RELEASE = frozenset({"UO"})


class _Follower:
    """One log of attempts, read as it grows and put aside where it has grown too large.

    :param reopen: tells its Envoy to reopen it after a rotation; may raise.
    """

    def __init__(self, log: Path, reopen: Callable[[], None]) -> None:
        self._log = log
        self.rotated = log.with_suffix(".1.jsonl")
        self._reopen = reopen
        self._reopen_due = False
        #: Whether the file at hand stands at the log's path no more: Envoy is told so once.
        self._left = False
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
            self._torn, self._left = b"", False
            self._stream = self._open()
            lines += self._read_lines(self._stream) if self._stream is not None else []
        return lines

    def bound(self) -> None:
        """:raises MlpipexError: Envoy could not be told of a rotation; the next call tells it."""
        # Once renamed, the file at hand stays the old one until Envoy's writer has opened a new one.
        if self._stream is not None and not self._left:
            there = self._log.exists()
            if there and self._stream.tell() > ROTATE_BYTES:
                os.replace(self._log, self.rotated)
                there = False
            if not there:
                # Also where somebody removed it: Envoy would write on to a file that nothing bounds.
                self._left = self._reopen_due = True
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
    """:param logs: attempts log of each Envoy, and what tells that one to reopen it after a rotation; may raise.
    :param clock: by which what is old is put away.
    """

    def __init__(self, logs: Mapping[Path, Callable[[], None]], *, clock: SteadyClock | None = None) -> None:
        self._clock = clock or SteadyClock()
        self._followers = [_Follower(log, reopen) for log, reopen in logs.items()]
        #: Name of a model server's socket -> (endpoint, release slug). The socket says who answered an attempt; the
        #: cluster only says who was asked first, and a composite has two.
        self.owners: dict[str, tuple[str, str]] = {}
        self._counts: dict[tuple[str, str], AttemptCounts] = defaultdict(AttemptCounts)
        #: Endpoint -> the split of its plan in force, where that has more than one release.
        self._splits: dict[str, SplitCounts] = {}
        self._refusals = Refusals()
        self._totals = RunningTotals()
        self._horizon = Horizon()
        self._lock = threading.Lock()
        self._read_until = 0.0
        self._held_since = time.time()
        self.unreadable = 0

    def poll(self) -> None:
        """Read what was written since, and rotate logs that have grown too large.

        :raises MlpipexError: Envoy could not be told of a rotation; everything was read, and the next call tells it.
        """
        now, set_back_by = self._clock.read()
        lines = [line for follower in self._followers for line in follower.new_lines()]
        with self._lock:
            for line in lines:
                self._add(line)
            if set_back_by:
                self._redate(set_back_by)
            self._read_until = time.time()
            self._forget(now)
        for follower in self._followers:
            follower.bound()

    def recover(self) -> None:
        """After a restart: what the logs still hold counts again, the rotated ones first."""
        with self._lock:
            self._horizon = Horizon()
            # Without a rotated log nothing has ever been put away: what is held reaches back to the first attempt.
            self._held_since = 0.0
            for rotated in (follower.rotated for follower in self._followers if follower.rotated.exists()):
                with rotated.open("rb") as stream:
                    ended = [moment for line in stream if (moment := self._add(line)) is not None]
                self._held_since = max(self._held_since, float(min(ended, default=int(time.time()))))
        self.poll()
        with self._lock:
            # Whoever collects them has had these from the supervisor before this one.
            self._totals = RunningTotals()

    def split(self, plan: TrafficPlan) -> None:
        """``plan`` is in force from now on: who is sent where is counted by its shares. The same shares count on."""
        weights = {slug_of(release): weight for release, weight in plan.weights.items()}
        with self._lock:
            self._totals.follow(plan)
            known = self._splits.get(str(plan.endpoint))
            if len(weights) < 2:
                self._splits.pop(str(plan.endpoint), None)
            elif known is None or known.weights != weights:
                # Of a request that fails, current is asked when the candidate has had its time.
                settles_s = 2 * request_limit_s(plan.timeout_s or TIMEOUT_S) + SETTLED_S
                self._splits[str(plan.endpoint)] = SplitCounts(weights, since=time.time(), settles_s=settles_s)

    def totals(self) -> dict[tuple[str, str], Total]:
        """Since this tail began: (endpoint, role) -> what was answered."""
        with self._lock:
            return {key: replace(total, latency=dict(total.latency)) for key, total in self._totals.of.items()}

    def telemetry(self, endpoint: EndpointRef, releases: list[str], *, since: datetime, until: datetime) -> Telemetry:
        """Counts of ``releases`` in the window. Seconds, and past ten minutes, are counted whole: those that *begin* in
        the window."""
        with self._lock:
            return self._telemetry(endpoint, releases, since, until)

    def survey(
        self, asked: Iterable[tuple[EndpointRef, str, tuple[datetime, ...]]], *, until: datetime
    ) -> dict[EndpointRef, tuple[Telemetry, ...]]:
        """:meth:`telemetry` of many endpoints: of each one release, in the windows that begin so."""
        answered = {}
        for endpoint, release, begins in asked:
            # Let go between two endpoints: the log is read meanwhile.
            with self._lock:
                answered[endpoint] = tuple(self._telemetry(endpoint, [release], since, until) for since in begins)
        return answered

    def _telemetry(self, endpoint: EndpointRef, releases: list[str], since: datetime, until: datetime) -> Telemetry:
        start, end = since.timestamp(), min(until.timestamp(), time.time())
        behind, trouble = end - self._read_until, ""
        if behind > SETTLED_S + 1.0:
            trouble = f"the attempts log was last read {behind:.1f} s before the window's end"
        elif start < self._held_since - 1.0:
            trouble = f"the window begins {self._held_since - start:.1f} s before what is held"
        return Telemetry(
            endpoint=str(endpoint),
            since=since,
            until=until,
            releases={release: self._sum(endpoint, release, start, end) for release in releases},
            complete=not trouble,
            detail=trouble,
            split=self._split_of(endpoint, releases, end),
        )

    def _split_of(self, endpoint: EndpointRef, releases: list[str], end: float) -> Split | None:
        counts = self._splits.get(str(endpoint))
        if counts is None:
            return None
        units, users = counts.until(min(end, self._read_until))
        named = {slug: release for release in releases if (slug := slug_of(release)) in units}
        if len(named) < len(units):
            return None
        groups = {release: counts.groups(slug) for slug, release in named.items()}
        return Split(
            since=datetime.fromtimestamp(counts.since, tz=UTC),
            weights={release: counts.weights[slug] for slug, release in named.items()},
            units={release: units[slug] for slug, release in named.items()},
            users=users,
            groups=groups if any(groups.values()) else None,
        )

    def _add(self, line: bytes) -> int | None:
        """Count one attempt; the second in which it ended, ``None`` where it is nobody's."""
        if not line.strip():
            return None
        try:
            attempt = orjson.loads(line)
            host, cluster = attempt["host"] or "", attempt["cluster"] or ""
            asked = read_cluster_name(cluster)
            owner = self.owners.get(os.path.basename(host)) or asked
            elapsed_ms = float(attempt["ms"] or 0)
            ended = int(float(attempt["ts"]) + elapsed_ms / 1000.0)
            flags = set((attempt["flags"] or "").split(","))
            code = int(attempt["code"] or 0)
            fault, rid = attempt.get("fault"), str(attempt.get("rid") or "")
            by_model = fault == MODEL_FAULT
            if attempt["us"] not in (None, "-"):
                elapsed_ms = float(attempt["us"]) / 1000.0
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            # Torn by a crash. Counted, because it may have been anybody's.
            self.unreadable += 1
            return None
        if owner is None or flags & _NOT_THE_RELEASE:
            return None
        self._count_unit(attempt, cluster)
        counts, total = self._counts[owner].at(ended, self._horizon), self._totals.find(owner)
        buckets = (*counts, total)
        if code == 0 and not flags - {"", "-"}:
            # Nothing went wrong with it: the client hung up, or another release that was asked beside it was faster.
            for bucket in buckets:
                bucket.unfinished += 1
            return ended
        # Also with 200, which MLflow's contract gives an answer that is no number.
        failed = code >= 500 or code == 0 or by_model
        self._count_answer(attempt, owner, failed=failed)
        took = bisect.bisect_left(BOUNDS_MS, elapsed_ms)
        for bucket in buckets:
            bucket.requests += 1
            if failed:
                bucket.errors += 1
            elif code >= 400:
                bucket.client_errors += 1
        for bucket in counts:
            bucket.latency[took] = bucket.latency.get(took, 0) + 1
        total.time(elapsed_ms)
        if fault == REFUSED_ROWS and 400 <= code < 500:
            self._refusals.refused(rid, buckets)
        elif owner != asked and 200 <= code < 400 and not by_model:
            self._refusals.answered(rid)
        return ended

    def _count_unit(self, attempt: dict[str, Any], cluster: str) -> None:
        """Whom a split request was of, and where it was sent: by its cluster, whoever answered it in the end."""
        unit, assigned = attempt.get("unit"), read_cluster_name(cluster)
        split = self._splits.get(assigned[0]) if assigned else None
        if split is None or assigned is None or not isinstance(unit, str) or not unit:
            return
        is_user = unit != BY_CHANCE
        split.add(assigned[1], unit if is_user else str(attempt["rid"]), is_user=is_user, began=float(attempt["ts"]))

    def _count_answer(self, attempt: dict[str, Any], owner: tuple[str, str], *, failed: bool) -> None:
        """What became of a split request of a user: of whoever answered it."""
        unit, split = attempt.get("unit"), self._splits.get(owner[0])
        if split is not None and isinstance(unit, str) and unit and unit != BY_CHANCE:
            split.answered(owner[1], unit, failed=failed, began=float(attempt["ts"]))

    def _sum(self, endpoint: EndpointRef, release: str, start: float, end: float) -> ReleaseTelemetry:
        counts = self._counts.get((str(endpoint), slug_of(release)))
        whole = counts.sum(start, end, self._horizon) if counts else Bucket()
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

    def _redate(self, seconds: float) -> None:
        """The clock was wrong and has been set back: what is dated later than now was answered so much earlier."""
        now = time.time()
        for counts in self._counts.values():
            counts.redate(now, by=round(seconds), horizon=self._horizon)
        if self._held_since > now:
            self._held_since -= seconds

    def _forget(self, now: float) -> None:
        """Fold and drop what is past, once a minute."""
        horizon = Horizon.at(now)
        self._held_since = max(self._held_since, float(horizon.kept))
        if horizon.fine <= self._horizon.fine:
            return
        self._horizon = horizon
        for owner, counts in list(self._counts.items()):
            counts.fold(horizon)
            if not len(counts):
                del self._counts[owner]
