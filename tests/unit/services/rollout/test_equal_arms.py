"""Latency of arms that are not of equal size: whoever answers more requests waits longer for its processors.

Latencies come from a simulated queue (Lindley's recursion for two servers and constant service times), which knows
nothing of gates.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from airflow_provider_mlpipex.domain.rollout.events import TrafficPlanned
from airflow_provider_mlpipex.domain.rollout.traffic_plan import EVEN_ARMS, TOTAL_WEIGHT
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from tests.support.rollouts import ENDPOINT, STEP_S, WATCH_S, World

#: Requests a second to the endpoint, and processors of each release.
RATE, SERVERS = 40, 2
#: Seconds between two looks.
EVERY = 20
LATENCY = (
    ("error_rate, max: 1%, min_samples: 100", "latency_p95, max: 120ms, min_samples: 100"),
    (
        "rollback:\n      window: 30m\n      gates:\n"
        "        - {name: failing, metric: serving.error_rate, max: 2%, window: 1m}",
        "rollback:\n      window: 30m\n      control: 10%\n      gates:\n"
        "        - {name: slow, metric: serving.latency_p95, max: 120ms, window: 2m, min_samples: 100}",
    ),
    ("step_duration: 15m", "step_duration: 4m"),
    ("duration: 10m", "duration: 4m"),
    ("window: 30m", "window: 8m"),
    ("zero critical errors in a 30-minute canary window", "error rate at most 1%"),
)


class Busy(World):
    """Releases that take ``service_ms`` (by version) of a processor for each request."""

    def __init__(self, *, limit: str = "120ms", **service_ms: float) -> None:
        super().__init__(*((old, new.replace("120ms", limit)) for old, new in LATENCY))
        self.service_ms = service_ms
        self._random = Random(20130111)

    def serve(self, seconds: float, *, failing: float = 0.0, latency_ms: float = 10.0, outage: float = 0.0) -> None:
        plan = self.memory.plane.plan_in_force(ENDPOINT)
        if plan is None:
            return
        if plan.mirror:
            self.memory.plane.answer_pairs(ENDPOINT, primary=plan.current, shadow=plan.mirror.release, pairs=200)
            super().serve(seconds)
        for release, weight in plan.weights.items():
            took = self.service_ms["v" + release.partition("-")[0].replace(".", "_")] / 1000.0
            arrivals = RATE * weight / TOTAL_WEIGHT
            for latency_ms, requests in self.queued(release, arrivals, seconds, took).items():
                self.memory.plane.serve(ENDPOINT, release, requests=requests, latency_ms=latency_ms)

    def queued(self, release: str, rate: float, seconds: float, took: float) -> Counter[float]:
        now, free, latencies = 0.0, [0.0] * SERVERS, Counter[float]()
        while (now := now + self._random.expovariate(rate)) < seconds:
            first = min(range(SERVERS), key=free.__getitem__)
            free[first] = max(now, free[first]) + took
            latencies[round(1000 * (free[first] - now), -1)] += 1
        return latencies

    def candidate_share(self) -> float:
        return self.weights.get(self.release("1.1.0").id, 0) / TOTAL_WEIGHT

    def step(self, step: int) -> WatchResult:
        self.canary("run-2", step)
        return self.watch("run-2", "canary", step, seconds=3 * STEP_S, every=EVERY)

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events(TrafficPlanned)]


class Behind(Busy):
    """Releases whose queues outlast a look, and clients that give up after ``PATIENT_S``."""

    PATIENT_S = 2.0

    def __init__(self, **service_ms: float) -> None:
        super().__init__(limit="300ms", **service_ms)
        self._free: dict[str, list[float]] = {}

    def queued(self, release: str, rate: float, seconds: float, took: float) -> Counter[float]:
        began = self.clock.now().timestamp()
        free = self._free.setdefault(release, [began] * SERVERS)
        now, latencies = began, Counter[float]()
        while (now := now + self._random.expovariate(rate)) < began + seconds:
            first = min(range(SERVERS), key=free.__getitem__)
            starts = max(now, free[first])
            gives_up = starts - now > self.PATIENT_S
            if not gives_up:
                free[first] = starts + took
            latencies[round(1000 * (self.PATIENT_S if gives_up else free[first] - now), -1)] += 1
        return latencies


def at_full_load(world: Busy) -> WatchResult:
    """The candidate after a canary of 5 % and 50 %, in its last step."""
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    assert world.watch("run-2", "canary", 1, seconds=STEP_S, every=EVERY).status == "passed"
    return world.step(2)


def test_a_release_as_fast_as_the_current_one_is_not_taken_back_for_its_load() -> None:
    """45 ms each, two processors: with 38 requests a second the candidate is slower than the limit, and the current
    release, with two, is not."""
    world = Busy(v1_0_0=45.0, v1_1_0=45.0)
    assert at_full_load(world).status == "passed"
    assert world.candidate_share() == EVEN_ARMS / TOTAL_WEIGHT
    assert world.reasons()[-1] == "equal arms, to tell a slow release from a busy one: errors"
    world.promote("run-2")
    assert world.watch("run-2", "watch", seconds=WATCH_S + EVERY, every=EVERY).status == "passed"
    assert world.state.current.id == world.release("1.1.0").id
    assert ("risk-pager", "production/fraud-scorer: slow broken, and the previous release is no better") in world.alerts


def test_what_waited_at_full_load_is_not_held_against_a_release_with_half() -> None:
    """64 ms each: with 38 requests a second the candidate falls behind, and it still is when it gets half of them."""
    world = Behind(v1_0_0=20.0, v1_1_0=20.0)
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    assert world.watch("run-2", "canary", 1, seconds=STEP_S, every=2).status == "passed"
    world.service_ms = dict.fromkeys(world.service_ms, 64.0)
    world.canary("run-2", 2)
    world.watch("run-2", "canary", 2, seconds=EVERY, every=EVERY)
    assert world.reasons()[-1] == "equal arms, to tell a slow release from a busy one: errors"
    assert world.watch("run-2", "canary", 2, seconds=STEP_S, every=2).status == "passed"
    assert world.candidate_share() == EVEN_ARMS / TOTAL_WEIGHT


def test_what_waited_after_promotion_is_not_held_against_it_either() -> None:
    """The previous release could not carry all requests either."""
    world = Behind(v1_0_0=64.0, v1_1_0=64.0)
    assert at_full_load(world).status == "passed"
    world.promote("run-2")
    world.watch("run-2", "watch", seconds=EVERY, every=EVERY)
    assert world.reasons()[-1] == "a control arm that can tell an outage: slow broken"
    assert world.watch("run-2", "watch", seconds=WATCH_S, every=2).status == "passed"


def test_a_release_that_becomes_slow_goes_back_between_equal_arms() -> None:
    world = Busy(v1_0_0=20.0, v1_1_0=20.0)
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    assert world.watch("run-2", "canary", 1, seconds=STEP_S, every=EVERY).status == "passed"
    world.service_ms["v1_1_0"] = 150.0
    began = world.clock.now()
    ended = world.step(2)
    assert (ended.status, ended.ending) == ("ended", "rolled-back")
    assert "the current release showed" in ended.cause and "not told from its load" not in ended.cause
    assert (world.clock.now() - began).total_seconds() < 120, "not the whole step"


def test_a_release_that_only_the_full_load_breaks_goes_back_where_the_previous_one_carried_it() -> None:
    """45 ms beside 20 ms: with half of the requests each neither is beyond 120 ms."""
    world = Busy(v1_0_0=20.0, v1_1_0=45.0)
    assert at_full_load(world).status == "passed", "a canary says that it is no worse at an equal load"
    world.promote("run-2")
    ended = world.watch("run-2", "watch", seconds=WATCH_S, every=EVERY)
    assert (ended.status, ended.ending) == ("ended", "rolled-back")
    assert world.reasons()[-2] == "a control arm that can tell an outage: slow broken"
    assert world.state.current.id == world.release("1.0.0").id


@pytest.mark.parametrize("step", [0, 1])
def test_a_slow_candidate_with_no_more_than_half_goes_back_at_once(step: int) -> None:
    world = Busy(v1_0_0=20.0, v1_1_0=20.0)
    world.first_release()
    world.bring("run-2", "1.1.0", to=f"canary-{step}")  # type: ignore[arg-type]
    world.service_ms["v1_1_0"] = 150.0
    planned = len(world.reasons())
    assert world.watch("run-2", "canary", step, seconds=STEP_S, every=EVERY).ending == "rolled-back"
    assert len(world.reasons()) == planned + 1, "the plan of the rollback, and none before it"
