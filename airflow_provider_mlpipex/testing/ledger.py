"""The ledger in memory: the fake that passes the contract suite of the real one."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from airflow_provider_mlpipex.adapters.system_clock import SystemClock
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import Entry, Event, Origin, RoutineRecord, subject_of
from airflow_provider_mlpipex.domain.rollout.fold import fold
from airflow_provider_mlpipex.domain.rollout.projection import Projection, empty
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.summary import EndpointSummary
from airflow_provider_mlpipex.ports import Clock


class MemoryLedger:
    """One process only. Safe among threads."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._chains: dict[EndpointRef, list[Entry]] = defaultdict(list)
        self._projections: dict[EndpointRef, Projection] = {}
        self._records: list[RoutineRecord] = []
        self._lock = threading.Lock()

    def append(
        self, endpoint: EndpointRef, *, expected_seq: int, events: Sequence[Event], origin: Origin
    ) -> list[Entry]:
        with self._lock:
            entries = self._chains[endpoint]
            if len(entries) != expected_seq:
                raise hash_chain.lost_race(endpoint, expected=expected_seq, actual=len(entries))
            head = entries[-1] if entries else None
            linked = hash_chain.extend(endpoint, head, events, now=self._clock.now(), origin=origin)
            entries.extend(linked)
            if linked:
                before = self._projections.get(endpoint) or empty(endpoint)
                self._projections[endpoint] = before.advanced(linked)
            return linked

    def read(
        self,
        endpoint: EndpointRef,
        *,
        after_seq: int = 0,
        before_seq: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        types: Sequence[str] = (),
        subject: str | None = None,
        task: Origin | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[Entry]:
        with self._lock:
            first, last = self._place(endpoint, since, until)
            end = last if before_seq is None else min(last, before_seq - 1)
            entries = self._chains[endpoint][max(after_seq, first - 1) : end]
        chosen = [
            entry
            for entry in (reversed(entries) if newest_first else entries)
            if (not types or entry.event.type in types)
            and (subject is None or subject_of(entry.event) == subject)
            and (task is None or _task(entry.origin) == _task(task))
        ]
        return chosen[:limit]

    def _place(self, endpoint: EndpointRef, since: datetime | None, until: datetime | None) -> tuple[int, int]:
        """The first and the last entry between two moments; none where the last is before the first. What is dated
        later than now was written by a clock that was wrong, and no moment leads to it."""
        chain = self._chains[endpoint]
        if since is None and until is None:
            return 1, len(chain)
        soon = self._clock.now() + hash_chain.CLOCK_SLACK
        latest = min(until, soon) if until is not None else soon
        after = [(e.recorded_at, e.seq) for e in chain if since is not None and since <= e.recorded_at <= soon]
        before = [(e.recorded_at, e.seq) for e in chain if e.recorded_at <= latest]
        first = min(after)[1] if after else len(chain) + 1
        last = max(before)[1] if before else 0
        return (first if since is not None else 1), (last if until is not None else len(chain))

    def state(self, endpoint: EndpointRef) -> EndpointState:
        projection = self.projection(endpoint)
        return projection.state if projection else EndpointState(endpoint=endpoint)

    def state_at(self, endpoint: EndpointRef, at: datetime) -> EndpointState:
        return fold(endpoint, self.read(endpoint, until=at))

    def projection(self, endpoint: EndpointRef) -> Projection | None:
        with self._lock:
            return self._projections.get(endpoint)

    def checkpoints(self, endpoint: EndpointRef, *, after_seq: int = 0, limit: int) -> list[Projection]:
        return []

    def summaries(self) -> list[EndpointSummary]:
        return [EndpointSummary.of(self.state(endpoint)) for endpoint in self.endpoints()]

    def endpoints(self) -> list[EndpointRef]:
        with self._lock:
            return sorted((endpoint for endpoint, entries in self._chains.items() if entries), key=str)

    def heads(self) -> dict[EndpointRef, int]:
        with self._lock:
            return {endpoint: len(entries) for endpoint, entries in self._chains.items() if entries}

    def record(self, endpoint: EndpointRef, event: Event, *, origin: Origin) -> RoutineRecord:
        record = RoutineRecord(endpoint=endpoint, recorded_at=self._clock.now(), origin=origin, event=event)
        with self._lock:
            self._records.append(record)
        return record

    def records(
        self,
        endpoint: EndpointRef,
        *,
        since: datetime | None = None,
        types: Sequence[str] = (),
        subject: str | None = None,
        limit: int | None = None,
    ) -> list[RoutineRecord]:
        with self._lock:
            chosen = [
                record
                for record in reversed(self._records)
                if record.endpoint == endpoint
                and (since is None or record.recorded_at >= since)
                and (not types or record.event.type in types)
                and (subject is None or subject_of(record.event) == subject)
            ]
        return chosen[:limit]

    def prune(self, *, before: datetime, limit: int | None = None) -> int:
        with self._lock:
            outdated = [record for record in self._records if record.recorded_at < before][:limit]
            forgotten = set(map(id, outdated))
            self._records = [record for record in self._records if id(record) not in forgotten]
        return len(outdated)


def _task(origin: Origin) -> tuple[str, str, str, str]:
    return origin.kind, origin.dag_id, origin.run_id, origin.task_id
