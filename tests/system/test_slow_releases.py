"""Releases that are slow, that hang and that die, through a real plane: what clients of the current release get."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.state_dir import Places
from airflow_provider_mlpipex.serving.turns import whose_turn
from tests.support.plane import (
    READY_TIMEOUT_S,
    RealPlane,
    Traffic,
    fresh_window,
    invocation,
    now,
    number_of,
    path_of,
    real_plane,
)
from tests.support.polling import until

__all__ = ["real_plane"]

pytestmark = pytest.mark.system

SLOW = EndpointRef.parse("production/slow")
CURRENT, CANDIDATE, PREVIOUS = 1, 2, 0


def ask(plane: RealPlane, count: int) -> Counter[tuple[int, object]]:
    """(status, number of the model that answered, or the body) of ``count`` requests, twenty at a time."""

    def one(number: int) -> tuple[int, object]:
        with plane.client() as client:
            answer = client.post(path_of(SLOW), json=invocation(), headers={"x-user-id": f"user-{number}"})
        return answer.status_code, number_of(answer) if answer.status_code == 200 else answer.text[:200]

    with ThreadPoolExecutor(20) as pool:
        return Counter(pool.map(one, range(count)))


def slow_down(plane: RealPlane, number: int, latency_ms: float) -> None:
    path = f"/v1/endpoints/{SLOW}/releases/{plane.release(number).id}/fault"
    assert plane.control("PUT", path, json={"latency_ms": latency_ms}).is_success


@pytest.fixture(scope="module")
def plane(real_plane: RealPlane) -> RealPlane:
    real_plane.ensure(SLOW, PREVIOUS, CURRENT, CANDIDATE)
    return real_plane


def plan_of(plane: RealPlane, *, weight: int = 0, fallback: bool = False, timeout_s: float = 2.0) -> TrafficPlan:
    return TrafficPlan(
        endpoint=SLOW,
        current=plane.release(CURRENT).id,
        candidate=plane.release(CANDIDATE).id if weight else None,
        candidate_weight=weight,
        fallback=plane.release(PREVIOUS).id if fallback else None,
        lease_s=600 if weight else None,
        timeout_s=timeout_s,
    )


def test_a_canary_beside_a_slow_current_release_costs_no_request(plane: RealPlane) -> None:
    for number in (CURRENT, CANDIDATE):
        slow_down(plane, number, 2500)
    try:
        since = fresh_window()
        plane.port.apply(plan_of(plane, weight=500))
        answers = ask(plane, 60)
        assert {status for status, _ in answers} == {200}, answers
        seen = plane.port.telemetry(SLOW, since=since, until=now()).releases[plane.release(CURRENT).id]
        assert seen.errors == 0

        # A candidate that hangs, and a current release that takes longer than the candidate may.
        plane.port.apply(plan_of(plane, weight=5000, timeout_s=0.5))
        hung = plane.server(SLOW, plane.release(CANDIDATE))
        hung.send_signal(signal.SIGSTOP)
        try:
            answers = ask(plane, 60)
            assert answers == Counter({(200, CURRENT): 60})
        finally:
            hung.send_signal(signal.SIGCONT)
    finally:
        for number in (CURRENT, CANDIDATE):
            slow_down(plane, number, 0)


@contextmanager
def dead(plane: RealPlane, number: int) -> Iterator[None]:
    """Every process of the release is killed, its standby too, and cannot come back before the block ends: how fast a
    machine starts one again decides nothing."""
    release = plane.release(number)
    spec = plane.state_dir / "servers" / f"{SLOW.environment}--{SLOW.name}--{release.slug}" / "spec.json"
    hidden = spec.rename(spec.with_suffix(".hidden"))
    try:
        servers = [psutil.Process(pid) for pid in plane.processes()]
        killed = [server for server in servers if str(spec) in server.cmdline()]
        for server in killed:
            server.kill()
        psutil.wait_procs(killed, timeout=10)
        yield
    finally:
        hidden.rename(spec)


def test_the_previous_release_answers_while_current_is_dead(plane: RealPlane) -> None:
    since = fresh_window()
    plane.port.apply(plan_of(plane, fallback=True))
    previous, current = plane.release(PREVIOUS).id, plane.release(CURRENT).id
    with dead(plane, CURRENT):
        assert ask(plane, 60) == Counter({(200, PREVIOUS): 60})

        def counted() -> bool:
            releases = plane.port.telemetry(SLOW, since=since, until=now()).releases
            return releases[previous].requests >= 60 and releases[current].errors >= 60

        until(counted, within_s=20.0, what="telemetry says who answered, and who could not")
    until(
        lambda: plane.port.observe(SLOW).releases[current].state == "ready",
        within_s=READY_TIMEOUT_S,
        what="current is back",
    )
    assert ask(plane, 20) == Counter({(200, CURRENT): 20})


def test_a_standby_takes_over_when_a_current_release_without_a_previous_one_is_killed(plane: RealPlane) -> None:
    current = plane.release(CURRENT)
    plane.ensure(SLOW, CURRENT)
    plane.port.apply(plan_of(plane))
    turn = Places(plane.state_dir).socket(SLOW, current.id)

    def loaded() -> set[int]:
        """Pids of the processes that have the model loaded: the one that serves and the one that waits for its turn."""
        servers = [psutil.Process(pid) for pid in plane.processes()]
        return {s.pid for s in servers if any(turn.stem in opened.path for opened in s.open_files())}

    until(lambda: len(loaded()) == 2, within_s=180.0, what="the standby waits")
    with Traffic(plane, SLOW) as traffic:
        traffic.wait_for(30)
        serving = whose_turn(turn)
        assert serving is not None
        psutil.Process(serving).kill()
        traffic.wait_for(100)
    assert traffic.failures == {}
    assert traffic.answered_by == {CURRENT}
    assert whose_turn(turn) != serving
