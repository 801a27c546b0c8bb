"""Rollback: from the decision to the last request that the bad release answered, against starting the good one again.

Each round promotes release B over A on a real plane (Envoy, two model servers, SQLite ledger) under steady traffic and
rolls it back through the same service that CLI, HTTP and trigger call. A request counts for the release that answered
it and for the moment at which it was *sent*. Beside it: what a rollback costs that has to start the previous release.
"""

from __future__ import annotations

import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import httpx

from airflow_provider_mlpipex.composition import Settings, build_platform
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.sampling import REVERT
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.events import Origin, RolloutPolicy
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import promote
from airflow_provider_mlpipex.services.rollout.rollback import roll_back
from benchmarks.table import Bar, Table, quantile
from tests.support.plane import RealPlane, invocation, number_of, path_of

ENDPOINT = EndpointRef.parse("production/bench")
POLICY = RolloutPolicy(offline_gates=False, rollback_window_s=3600.0)
READY_S = 120.0


class Client(threading.Thread):
    """Asks without a pause and remembers when it sent what, and who answered."""

    def __init__(self, plane: RealPlane, endpoint: EndpointRef = ENDPOINT) -> None:
        super().__init__(daemon=True)
        self._plane, self._path = plane, path_of(endpoint)
        self.stopping = threading.Event()
        self.answers: list[tuple[float, int]] = []
        self.failed = 0

    def run(self) -> None:
        with self._plane.client() as client:
            while not self.stopping.is_set():
                sent = time.time()
                try:
                    answer = client.post(self._path, json=invocation())
                except httpx.HTTPError:
                    self.failed += 1
                    continue
                if answer.status_code == 200:
                    self.answers.append((sent, number_of(answer)))
                else:
                    self.failed += 1

    def last_sent_to(self, number: int, since: float) -> float | None:
        return max(
            (sent for sent, answered_by in self.answers if answered_by == number and sent >= since), default=None
        )


def run(*, quick: bool = False) -> Table:
    rounds = 20 if quick else 200
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as folder:
        plane = RealPlane(Path(folder))
        plane.start()
        try:
            return _measure(plane, Path(folder), rounds)
        finally:
            plane.stop()


def _measure(plane: RealPlane, folder: Path, rounds: int) -> Table:
    settings = Settings(ledger_url=f"sqlite:///{folder}/bench.db", snapshot_root=folder)
    platform = build_platform(settings, Origin(kind="test"), plane=plane.port)
    good, bad = plane.release(1), plane.release(2)
    promote_release(platform, good, "first")
    platform.plane.ensure(ENDPOINT, bad, timeout_s=READY_S)
    clients = [Client(plane) for _ in range(2)]
    for client in clients:
        client.start()
    after_decision, whole_call = [], []
    for number in range(rounds):
        promote_release(platform, bad, f"round-{number}")
        began = time.time()
        time.sleep(0.05)
        called = time.monotonic()
        roll_back(platform, ENDPOINT, cause="benchmark")
        whole_call.append((time.monotonic() - called) * 1000)
        time.sleep(0.05)
        last = max((sent for client in clients if (sent := client.last_sent_to(2, began)) is not None), default=None)
        if last is not None:
            after_decision.append(max(0.0, (last - _decided_at(platform).timestamp()) * 1000))
    for client in clients:
        client.stopping.set()
        client.join()
    cold = _cold_starts(plane, rounds=3)
    table = Table(("what", "rounds", "p50 ms", "p99 ms"))
    for name, values in (
        ("decision -> last request sent to the bad release", after_decision),
        ("the whole call, ledger entries included", whole_call),
        ("start of the previous release, had it not been kept warm", cold),
    ):
        table.rows.append((name, len(values), f"{quantile(values, 0.5):.1f}", f"{quantile(values, 0.99):.1f}"))
    sent, failed = sum(len(client.answers) for client in clients), sum(client.failed for client in clients)
    table.ratios = [
        f"keeping the previous release warm is {quantile(cold, 0.5) / quantile(whole_call, 0.5):.0f} times as fast",
        f"clients sent {sent + failed} requests",
    ]
    promised = REVERT.total_seconds() * 1000
    table.bars = [
        Bar("decision -> last request sent to the bad release, p99", quantile(after_decision, 0.99), promised, " ms"),
        Bar("client requests that failed", failed, 0),
    ]
    return table


def promote_release(platform: Platform, release: Release, rollout_id: str, *, endpoint: EndpointRef = ENDPOINT) -> None:
    """Open a rollout and promote it at once."""
    journal.decide(
        platform,
        endpoint,
        lambda state: decisions.open_rollout(state, rollout_id=rollout_id, release=release, policy=POLICY, manifest={}),
    )
    state = promote.promote(platform, endpoint=endpoint, rollout_id=rollout_id, timeout_s=READY_S)
    assert state.current is not None and state.current.id == release.id


def _decided_at(platform: Platform) -> datetime:
    (decided,) = platform.ledger.read(ENDPOINT, types=("rollback-decided",), newest_first=True, limit=1)
    return decided.recorded_at


def _cold_starts(plane: RealPlane, *, rounds: int) -> list[float]:
    """Milliseconds until a release that was stopped answers again; artifact and runtime are cached."""
    other = EndpointRef.parse("production/cold")
    release = plane.release(1)
    plane.port.ensure(other, release, timeout_s=READY_S)
    found = []
    for _ in range(rounds):
        plane.port.retire(other, release.id)
        began = time.monotonic()
        plane.port.ensure(other, release, timeout_s=READY_S)
        found.append((time.monotonic() - began) * 1000)
    return found
