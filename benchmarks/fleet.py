"""A fleet on one triggerer: CPU, memory and lag of the standing watch and of the rollouts beside it.

- 1,000 endpoints under the standing watch and 200 rollouts under way (half of them canaries, half fresh promotions),
  each with its own trigger, in one event loop as on a triggerer; the ledger is a SQLite file, the plane is in memory,
  and every endpoint is asked all the time.
- 100 endpoints on a real plane: supervisor, control API, Envoy and its attempts log, asked by clients through Envoy. A
  hundred model servers do not fit beside that on a small machine (200 MB each), so light processes stand in for them.
- Airflow's parse of each Dag file with 500 manifests; that of the watch reads none.

*Lag* is how long after the moment at which it was due an endpoint's look was done, by the wall clock. So this wants a
machine to itself: what other programs take is lag too.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from airflow_provider_mlpipex.adapters.embedded.plane import EmbeddedPlane
from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.adapters.system_clock import SystemClock
from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import (
    CanaryStepped,
    Event,
    Promoted,
    RolloutOpened,
    RolloutPolicy,
    TrafficConfirmed,
    TrafficPlanned,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from airflow_provider_mlpipex.testing.platform import memory_platform
from benchmarks.dag_parse import many_manifests, parse_dag_file
from benchmarks.table import Bar, Table, quantile
from tests.support.factories import ORIGIN, make_release
from tests.support.manifests import make_manifest
from tests.support.mlflow_server import free_port
from tests.support.polling import until

ENDPOINTS, ROLLOUTS, REAL_ENDPOINTS = 1000, 200, 100
#: Seconds between two looks, of the standing watch and of each rollout.
LOOK_EVERY_S = 5.0
#: Requests a second and endpoint.
RATE_IN_MEMORY, RATE = 10, 1.0
MAX_LAG_S = 2.0
#: A canary that errors of one request in a thousand do not end, and gates of two windows on what serves.
EDITS = (
    ("        - zero critical errors in a 30-minute canary window\n", ""),
    ("max: 2%, window: 1m}\n", "max: 2%, window: 1m}\n        - p95 latency under 90ms over 5m\n"),
)
POLICY = RolloutPolicy(offline_gates=False, canary_weights=(500, 10_000), rollback_window_s=1800.0, lease_s=600.0)


@dataclass
class Lags:
    """Seconds from the moment at which a look was due to its end."""

    seen: list[float] = field(default_factory=list)
    #: Of a standing watch, its first round.
    first: float = float("nan")

    def bar(self, what: str) -> Bar:
        return Bar(f"lag p99 of {what}", self.p99(), MAX_LAG_S, " s")

    def p99(self) -> float:
        return quantile(self.seen, 0.99) if len(self.seen) > 1 else float("nan")


def run(*, quick: bool = False) -> Table:
    share, seconds = (10, 20.0) if quick else (1, 120.0)
    table = Table(("on one triggerer", "looks", "lag p50 s", "lag p99 s", "CPU of a core", "RSS MiB"))
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as folder:
        _in_memory(table, Path(folder), ENDPOINTS // share, ROLLOUTS // share, seconds)
        _real(table, Path(folder), REAL_ENDPOINTS // share, seconds)
    _parse(table, 50 if quick else 500)
    return table


# What the ledger holds.


def _released(endpoint: EndpointRef, release: Release, manifest: Manifest) -> list[Event]:
    """A release that nobody watches any more."""
    return [*_promoted(endpoint, "run-1", release, manifest), WatchPassed(rollout_id="run-1", verdict="pass")]


def _promoted(endpoint: EndpointRef, rollout_id: str, release: Release, manifest: Manifest) -> list[Event]:
    plan = TrafficPlan(endpoint=endpoint, current=release.id)
    opened = RolloutOpened(rollout_id=rollout_id, release=release, policy=POLICY, manifest=manifest.to_json())
    ends = datetime.now(UTC) + timedelta(seconds=POLICY.rollback_window_s)
    promoted = Promoted(rollout_id=rollout_id, watch_until=ends)
    return [opened, *_shift(plan), promoted]


def _canary(endpoint: EndpointRef, current: Release, candidate: Release, manifest: Manifest) -> list[Event]:
    plan = TrafficPlan(
        endpoint=endpoint, current=current.id, candidate=candidate.id, candidate_weight=500, lease_s=POLICY.lease_s
    )
    opened = RolloutOpened(rollout_id="run-2", release=candidate, policy=POLICY, manifest=manifest.to_json())
    return [opened, CanaryStepped(rollout_id="run-2", step=0, weight=500), *_shift(plan)]


def _shift(plan: TrafficPlan) -> list[Event]:
    return [TrafficPlanned(plan=plan, reason="benchmark"), TrafficConfirmed(plan_id=plan.id, acknowledged_ms=1.0)]


def _put(platform: Platform, endpoint: EndpointRef, releases: Sequence[Release], events: Sequence[Event]) -> None:
    """Write the past of an endpoint, and put its last plan in force."""
    for release in releases:
        platform.plane.ensure(endpoint, release, timeout_s=60.0)
    platform.ledger.append(endpoint, expected_seq=0, events=events, origin=ORIGIN)
    planned = platform.ledger.state(endpoint).planned
    assert planned is not None
    platform.plane.apply(planned)


# The triggers, as a triggerer runs them.


@contextmanager
def _handed_out(platform: Platform) -> Iterator[None]:
    from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook

    async def handed_out(_: MlpipexHook, origin: Any) -> Platform:
        return platform.acting_as(origin)

    with patch.object(MlpipexHook, "platform_async", handed_out):
        yield


def _rollout_trigger(endpoint: EndpointRef, stage: str, lags: Lags) -> Any:
    from airflow_provider_mlpipex.triggers.rollout import RolloutTrigger

    class Timed(RolloutTrigger):
        due = 0.0

        async def _look(self, platform: Platform, endpoint: EndpointRef) -> Any:
            due = self.due or time.monotonic()
            seen = await super()._look(platform, endpoint)
            now = time.monotonic()
            lags.seen.append(now - due)
            assert seen.status == "watching", seen
            self.due = now + self.poll_interval
            return seen

    return Timed(
        mlpipex_conn_id="mlpipex_default",
        endpoint=str(endpoint),
        rollout_id="run-2",
        stage=stage,  # type: ignore[arg-type]
        step=0 if stage == "canary" else -1,
        poll_interval=LOOK_EVERY_S,
    )


def _standing_watch(lags: Lags, rounds: list[Any]) -> Any:
    from airflow_provider_mlpipex.triggers.standing_watch import StandingWatchTrigger

    class Timed(StandingWatchTrigger):
        @staticmethod
        def _measure(found: Any, *, took: float, lag: float) -> None:
            # The first round reads every state, once in six hours.
            if rounds:
                lags.seen.append(lag + took)
            else:
                lags.first = lag + took
            rounds.append(found)

    ends = datetime.now(UTC) + timedelta(hours=1)
    return Timed(mlpipex_conn_id="mlpipex_default", until=ends.isoformat(), poll_interval=LOOK_EVERY_S)


async def _play(triggers: Sequence[Any], seconds: float) -> None:
    async def watch(trigger: Any) -> None:
        async for event in trigger.run():
            raise AssertionError(event.payload)

    running = []
    for trigger in triggers:
        running.append(asyncio.create_task(watch(trigger)))
        # Nobody begins two hundred stages in one instant.
        await asyncio.sleep(min(0.01, LOOK_EVERY_S / len(triggers)))
    done, _ = await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for task in done:
        task.result()


@dataclass
class Usage:
    """CPU of a process, as a share of one core, and its memory at the end."""

    cpu: float = 0.0
    rss_mib: float = 0.0


@contextmanager
def _used(process: psutil.Process) -> Iterator[Usage]:
    usage, before, began = Usage(), process.cpu_times(), time.monotonic()
    yield usage
    after = process.cpu_times()
    usage.cpu = (after.user + after.system - before.user - before.system) / (time.monotonic() - began)
    usage.rss_mib = process.memory_info().rss / 2**20


# The two fleets.


def _in_memory(table: Table, folder: Path, endpoints: int, rollouts: int, seconds: float) -> None:
    clock, manifest = SystemClock(), make_manifest(*EDITS)
    plane = MemoryPlane(clock)
    ledger = SqlLedger(f"sqlite:///{folder}/fleet.db", clock=clock)
    platform: Platform = replace(memory_platform(), ledger=ledger, plane=plane, clock=clock)
    old, new = make_release("1.0.0"), make_release("1.1.0")
    triggers, watches, looks, rounds = [], Lags(), Lags(), list[Any]()
    asked: dict[EndpointRef, tuple[str, ...]] = {}
    for number in range(endpoints):
        endpoint = EndpointRef.parse(f"production/model-{number}")
        _put(platform, endpoint, [old], _released(endpoint, old, manifest))
        asked[endpoint] = (old.id,)
    for number in range(rollouts):
        endpoint, stage = EndpointRef.parse(f"production/rollout-{number}"), ("canary", "watch")[number % 2]
        second = (
            _canary(endpoint, old, new, manifest) if stage == "canary" else _promoted(endpoint, "run-2", new, manifest)
        )
        _put(platform, endpoint, [old, new], [*_released(endpoint, old, manifest), *second])
        triggers.append(_rollout_trigger(endpoint, stage, looks))
        asked[endpoint] = (old.id, new.id) if stage == "canary" else (new.id,)
    with _handed_out(platform), _asking(plane, asked), _used(psutil.Process()) as usage:
        asyncio.run(_play([_standing_watch(watches, rounds), *triggers], seconds))
    assert rounds[-1].watched == endpoints + rollouts
    shown = (f"{usage.cpu:.2f}", f"{usage.rss_mib:.0f}")
    _row(table, f"{endpoints + rollouts:,} endpoints under the standing watch, plane in memory", watches, *shown)
    table.ratios.append(f"the first round of a run, which reads every state, took {watches.first:.2f} s")
    _row(table, f"{rollouts:,} rollouts beside it, each with its trigger", looks, "", "")
    table.bars += [watches.bar("the standing watch, plane in memory"), looks.bar("the rollouts beside it")]


@contextmanager
def _asking(plane: MemoryPlane, asked: dict[EndpointRef, tuple[str, ...]]) -> Iterator[None]:
    """Requests at every endpoint, a thousandth of them failing, in a thread."""
    stopping = threading.Event()

    def ask() -> None:
        for number in itertools.count():
            for at, (endpoint, releases) in enumerate(asked.items()):
                for release in releases:
                    plane.serve(endpoint, release, requests=RATE_IN_MEMORY, errors=int((number + at) % 100 == 0))
            if stopping.wait(1.0):
                return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield
    stopping.set()
    thread.join()


def _real(table: Table, folder: Path, endpoints: int, seconds: float) -> None:
    state_dir, ingress, control = folder / "plane", free_port(), free_port()
    manifest, release = make_manifest(*EDITS), make_release("1.0.0")
    names = [f"production/model-{number}" for number in range(endpoints)]
    watches, rounds = Lags(), list[Any]()
    with ExitStack() as stack:
        daemon = _program(stack, folder, "plane", state_dir, ingress, control)
        plane = EmbeddedPlane(f"http://127.0.0.1:{control}", lambda: (state_dir / "token").read_text())
        until(lambda: _answers(plane), within_s=300.0, what="the plane answers")
        ledger = SqlLedger(f"sqlite:///{folder}/real.db")
        platform: Platform = replace(memory_platform(), ledger=ledger, plane=plane, clock=SystemClock())
        for name in names:
            endpoint = EndpointRef.parse(name)
            _put(platform, endpoint, [release], _released(endpoint, release, manifest))
        _program(stack, folder, "clients", ingress, state_dir / "client-token", RATE, *names)
        stack.enter_context(_handed_out(platform))
        of_plane = stack.enter_context(_used(psutil.Process(daemon.pid)))
        of_watch = stack.enter_context(_used(psutil.Process()))
        asyncio.run(_play([_standing_watch(watches, rounds)], seconds))
        since = datetime.now(UTC) - timedelta(seconds=seconds / 2)
        counted = plane.telemetry(EndpointRef.parse(names[-1]), since=since, until=datetime.now(UTC))
    served = counted.releases[release.id].requests
    assert served >= RATE * seconds / 4, f"the last endpoint had {served} requests"
    assert rounds[-1].watched == endpoints and not rounds[-1].due
    what = f"{endpoints} endpoints on a real plane, light model servers"
    _row(table, what, watches, f"{of_watch.cpu:.2f}", f"{of_watch.rss_mib:.0f}")
    table.rows.append(
        ("its supervisor, which tails and sums", "", "", "", f"{of_plane.cpu:.2f}", f"{of_plane.rss_mib:.0f}")
    )
    table.bars.append(watches.bar("the standing watch, real plane"))


def _answers(plane: EmbeddedPlane) -> bool:
    try:
        plane.survey([], until=datetime.now(UTC))
        plane.observe(EndpointRef.parse("production/nobody"))
    except (PlaneUnavailable, FileNotFoundError):
        return False
    return True


def _program(stack: ExitStack, folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """A part of :mod:`benchmarks.light_plane`, ended with ``stack``."""
    log = stack.enter_context((folder / f"{arguments[0]}.log").open("ab"))
    command = [sys.executable, "-m", "benchmarks.light_plane", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=120)


def _row(table: Table, what: str, lags: Lags, cpu: str, rss: str) -> None:
    p50 = quantile(lags.seen, 0.5) if len(lags.seen) > 1 else float("nan")
    table.rows.append((what, f"{len(lags.seen):,}", f"{p50:.3f}", f"{lags.p99():.3f}", cpu, rss))


def _parse(table: Table, manifests: int) -> None:
    """Every reference Dag file, parsed by a fresh process as Airflow's Dag processor does."""
    dags = Path(__file__).parents[1] / "dags"
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as folder:
        environment = {
            **os.environ,
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "MLPIPEX_CODE_VERSION": "benchmark",
            "MLPIPEX_MANIFESTS": many_manifests(Path(folder), manifests),
        }
        slowest = ("", 0.0)
        for file in sorted(dags.glob("*.py")):
            parse = parse_dag_file(file, environment)
            slowest = max(slowest, (file.name, parse.wall), key=lambda each: each[1])
            what = f"parse of {file.name}, {manifests} manifests"
            table.rows.append((what, parse.tasks, "", "", f"{parse.alone:.2f} s", ""))
    table.bars.append(Bar(f"parse of the slowest Dag file ({slowest[0]})", slowest[1], 10.0, " s"))
