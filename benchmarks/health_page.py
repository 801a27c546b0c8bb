"""The health page's API with 500 endpoints, one of them with 100,000 ledger entries: every answer that a page needs.

Asked through Airflow's own app, auth manager included, in this process; the ledger is a SQLite file, the plane is in
memory. Each route is asked of the endpoint with the old chain and of one with a young one: what an answer takes must
not depend on it. Times are of CPU, so that other programs on the machine are not in them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import (
    Event,
    Promoted,
    RolloutOpened,
    TrafficConfirmed,
    TrafficPlanned,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from benchmarks.ledger_age import _age, _past
from benchmarks.rollback import POLICY
from benchmarks.table import Bar, Table, quantile
from tests.support import airflow_home
from tests.support.factories import NOON, ORIGIN, make_release
from tests.support.manifests import make_manifest

ENDPOINTS, OLD, YOUNG = 500, 100_000, 200
#: What an answer may take, in milliseconds.
LIMIT_MS = 300.0
#: The first one of a process, which builds what the later ones use.
FIRST_LIMIT_MS = 1000.0
#: What the old chain may cost beside the young one.
AGE_LIMIT = 1.5


def run(*, quick: bool = False) -> Table:
    airflow_home.prepare()
    table = Table(("route", "endpoint", "first ms", "p50 ms", "p95 ms", "KiB"))
    entries, rounds = (OLD // 10, 20) if quick else (OLD, 60)
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as folder:
        memory, names = _fleet(Path(folder), entries)
        with _asked(memory, Path(folder)) as client:
            old, young = names[0], names[1]
            fleet = _times(client, "fleet?limit=50", rounds=rounds, first=True)
            _row(table, "fleet, worst first", "all 500", fleet)
            table.bars.append(Bar("fleet of 500, first answer of a process", fleet[0], FIRST_LIMIT_MS, " ms"))
            table.bars.append(Bar("fleet of 500, p95", quantile(fleet[1], 0.95), LIMIT_MS, " ms"))
            at = (NOON + timedelta(minutes=5)).isoformat().replace("+00:00", "Z")
            routes = (
                "",
                "/rollouts",
                f"/rollout?id={'run-2'}",
                "/entries",
                "/history",
                "/decisions",
                "/alerts",
                "/drift",
                "/batches",
                f"/as-of?at={at}",
                "/telemetry",
                "/audit",
                "/readiness",
            )
            for route in routes:
                sides = {}
                for name, endpoint in (("old", old), ("young", young)):
                    sides[name] = _times(client, f"endpoints/{endpoint}{route}", rounds=rounds)
                    _row(table, route or "/", name, sides[name])
                worst = max(quantile(times, 0.95) for _, times, _ in sides.values())
                table.bars.append(Bar(f"{route.partition('?')[0] or 'endpoint'}, p95", worst, LIMIT_MS, " ms"))
            medians = [
                sum(
                    quantile(_times(client, f"endpoints/{each}{route}", rounds=rounds)[1], 0.5)
                    for route in ("", "/rollouts", "/decisions", "/alerts", "/audit")
                )
                for each in (old, young)
            ]
            table.bars.append(Bar("five of these, old beside young", medians[0] / medians[1], AGE_LIMIT, " times"))
    return table


def _fleet(folder: Path, entries: int) -> tuple[MemoryPlatform, list[EndpointRef]]:
    """Endpoints that were promoted twice and serve. The first one's chain is old, and all but two are short."""
    memory = memory_platform()
    ledger = SqlLedger(f"sqlite:///{folder}/ledger.db", clock=memory.clock)
    names = [EndpointRef.parse(f"production/endpoint-{number:03}") for number in range(ENDPOINTS)]
    manifest = make_manifest().to_json()
    for number, endpoint in enumerate(names):
        if number < 2:
            _age(ledger, endpoint, entries if number == 0 else YOUNG, _past())
        for run, version in (("run-1", "1.0.0"), ("run-2", "1.1.0")):
            release = make_release(version)
            memory.plane.ensure(endpoint, release, timeout_s=1)
            plan = TrafficPlan(endpoint=endpoint, current=release.id)
            until = memory.clock.now() + timedelta(hours=1)
            events: list[Event] = [
                RolloutOpened(rollout_id=run, release=release, policy=POLICY, manifest=manifest),
                TrafficPlanned(plan=plan, reason="promotion"),
                TrafficConfirmed(plan_id=plan.id, acknowledged_ms=1.0),
                Promoted(rollout_id=run, watch_until=until),
                WatchPassed(rollout_id=run, verdict="pass"),
            ]
            ledger.append(endpoint, expected_seq=ledger.state(endpoint).seq, events=events, origin=ORIGIN)
            memory.plane.apply(plan)
            memory.plane.serve(endpoint, release.id, requests=100)
        memory.clock.advance(0.01)
    memory.clock.advance(30)
    return memory, names


@contextmanager
def _asked(memory: MemoryPlatform, folder: Path) -> Iterator[Any]:
    """A client with the role of a viewer."""
    from airflow.utils.db import initdb

    from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
    from tests.support.api_server import client_of

    initdb()
    url = f"sqlite:///{folder}/ledger.db"
    with patch.object(
        MlpipexHook,
        "platform",
        # As the hook does it: adapters are made for each request.
        lambda hook, origin: replace(memory, ledger=SqlLedger(url)).acting_as(origin),  # type: ignore[arg-type]
    ):
        yield client_of("viewer")


def _times(client: Any, path: str, *, rounds: int, first: bool = False) -> tuple[float, list[float], int]:
    """Milliseconds of CPU of the first answer, of those after it, and bytes of one."""
    from tests.support.api_server import API

    if not first:
        client.get(f"{API}/me")  # whatever any request would have paid for
    times, size = [], 0
    for _ in range(rounds + 1):
        began = time.process_time()
        answer = client.get(f"{API}/{path}")
        times.append((time.process_time() - began) * 1000)
        assert answer.status_code == 200, answer.text
        size = len(answer.content)
    return times[0], times[1:], size


def _row(table: Table, route: str, endpoint: str, times: tuple[float, list[float], int]) -> None:
    first, later, size = times
    p50, p95 = (quantile(later, q) for q in (0.5, 0.95))
    table.rows.append((route, endpoint, f"{first:.1f}", f"{p50:.1f}", f"{p95:.1f}", f"{size / 1024:.1f}"))
