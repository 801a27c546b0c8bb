"""The demo's outage upstream, played on a platform in memory: what it breaks and mends, and what it would let pass."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_mlpipex.demo.outage import MAX_OUTAGE_S, Outage
from airflow_provider_mlpipex.demo.progress import Progress
from airflow_provider_mlpipex.demo.report import Step
from airflow_provider_mlpipex.demo.scene import Cause, Run, Scene
from airflow_provider_mlpipex.demo.traffic import Answer, LiveTraffic
from airflow_provider_mlpipex.testing.clock import ManualClock
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, WATCH_S, World

CONTROL = ("rollback:\n      window: 30m", "rollback:\n      window: 30m\n      control: 10%")
WATCH = "production.watch"
WATCHING = {WATCH: "deferred"}
ENDED = Run(run_id="run-2", state="success", tasks={})


class Pager:
    """What on-call was told, as the web hook of the demo shows it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def received(self) -> list[dict[str, Any]]:
        return [{"title": title} for _, title in self._world.alerts]


class DrillPort:
    """The part of the control API that breaks releases: ``calls`` in their order, ``broken`` as they stand."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.client = httpx.Client(base_url="http://plane", transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        release = request.url.path.split("/")[-2]
        self.calls.append((request.method, release))
        (self.broken.add if request.method == "PUT" else self.broken.discard)(release)
        return httpx.Response(204)


@pytest.fixture
def world() -> World:
    """A second release, just promoted, beside the first, and the clock of whoever looks at it."""
    world = World(CONTROL, memory=memory_platform(clock=ManualClock(datetime.now(UTC))))
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    return world


@pytest.fixture
def drill() -> DrillPort:
    return DrillPort()


@pytest.fixture
def outage(world: World, drill: DrillPort) -> Outage:
    scene = Scene(
        airflow=None,  # type: ignore[arg-type]
        platform=world.platform,
        drills=drill.client,
        rollbacks=drill.client,
        clients=None,  # type: ignore[arg-type]
        traffic=LiveTraffic.__new__(LiveTraffic),
        alerts=Pager(world),  # type: ignore[arg-type]
        environment={},
        say=lambda _: None,
        logs=Path("logs"),
        progress=Progress(began=time.monotonic()),
    )
    scene.traffic._answers = []
    return Outage(scene, ENDPOINT, task=WATCH)


def judged(outage: Outage, run: Run = ENDED) -> Step:
    outage.judge(run)
    return outage.scene.report.steps[-1]


def watch(world: World, seconds: float = WATCH_S, **traffic: Any) -> None:
    world.watch("run-2", "watch", seconds=seconds, **traffic)


def test_both_releases_fail_until_on_call_is_told_and_the_watch_ends_well(
    world: World, outage: Outage, drill: DrillPort
) -> None:
    new, old = world.release("1.1.0").id, world.release("1.0.0").id
    outage.play({WATCH: "running"})
    assert drill.calls == [], "not before the trigger alone is watching"
    outage.play(WATCHING)
    assert drill.calls == [("PUT", old), ("PUT", new)]
    outage.play(WATCHING)
    assert drill.broken == {old, new}, "not before somebody has been told"
    watch(world, 5 * LOOK_EVERY, outage=1.0)
    outage.play(WATCHING)
    assert drill.calls[2:] == [("DELETE", new), ("DELETE", old)]
    watch(world)
    step = judged(outage)
    assert step.ok, step
    assert step.observed == f"production serves {new}; 1 alerts; 0 rollbacks; Dag run success"
    assert {result["gate"] for result in step.facts["excused"]} == {"failing"}
    assert step.facts["notified_after_ms"] > 0


def test_an_outage_of_which_nobody_is_told_is_mended_and_no_success(
    world: World, outage: Outage, drill: DrillPort
) -> None:
    outage.play(WATCHING)
    assert outage.cause.at is not None
    outage.cause.at -= MAX_OUTAGE_S + 1
    outage.play(WATCHING)
    assert drill.broken == set()
    watch(world)
    assert not judged(outage).ok


def test_a_rollback_is_no_success(world: World, outage: Outage, drill: DrillPort) -> None:
    outage.play(WATCHING)
    watch(world, failing=0.9)
    step = judged(outage, Run(run_id="run-2", state="failed", tasks={}))
    assert not step.ok
    assert "1 rollbacks" in step.observed
    assert drill.broken == set(), "whatever came of it, nothing stays broken"


def test_a_watch_that_was_never_disturbed_is_no_success(world: World, outage: Outage) -> None:
    watch(world)
    assert not judged(outage).ok


@pytest.mark.parametrize(
    ("sent", "release", "covered"),
    [(1, "new", True), (1, "other", False), (1, "", False), (-2, "new", False), (6, "new", False)],
)
def test_a_cause_covers_what_broken_releases_answered_in_its_time(sent: float, release: str, covered: bool) -> None:
    cause = Cause("outage", rescued=False)
    now = time.time()
    assert not cause.covers(Answer(now, now, 500, "new")), "nothing is broken yet"
    cause.strike("new", "old")
    assert cause.at is not None
    cause.reverted = cause.at + 5
    assert cause.covers(Answer(cause.at + sent, cause.at + sent + 0.1, 500, release)) == covered
