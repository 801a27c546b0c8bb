"""The ledger in memory: the fake that passes the contract suite of the real one."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from airflow_provider_mlpipex.adapters.system_clock import SystemClock
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import Entry, Event, Origin
from airflow_provider_mlpipex.ports import Clock


class MemoryLedger:
    """One process only. Safe among threads."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._chains: dict[EndpointRef, list[Entry]] = defaultdict(list)
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
            return linked

    def read(self, endpoint: EndpointRef, *, after_seq: int = 0, until: datetime | None = None) -> list[Entry]:
        with self._lock:
            entries = self._chains[endpoint][after_seq:]
        return [entry for entry in entries if until is None or entry.recorded_at <= until]

    def endpoints(self) -> list[EndpointRef]:
        with self._lock:
            return sorted((endpoint for endpoint, entries in self._chains.items() if entries), key=str)
