"""Releases that are slow, that hang and that die, through a real plane: what clients of the current release get."""

from __future__ import annotations

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from tests.support.plane import RealPlane, Traffic, fresh_window, invocation, now, number_of, path_of, real_plane
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


def test_the_previous_release_answers_while_current_is_dead(plane: RealPlane) -> None:
    since = fresh_window()
    plane.port.apply(plan_of(plane, fallback=True))
    current = plane.server(SLOW, plane.release(CURRENT))
    current.kill()
    answers = ask(plane, 60)
    assert {status for status, _ in answers} == {200}, answers
    assert answers[(200, PREVIOUS)] > 0
    previous = plane.release(PREVIOUS).id

    def told() -> bool:
        seen = plane.port.telemetry(SLOW, since=since, until=now()).releases[previous].requests
        return seen >= answers[(200, PREVIOUS)]

    until(told, within_s=20.0, what="telemetry says who answered")


def test_a_standby_takes_over_when_a_current_release_without_a_previous_one_is_killed(plane: RealPlane) -> None:
    current = plane.release(CURRENT)
    plane.ensure(SLOW, CURRENT)
    plane.port.apply(plan_of(plane))
    standby = f"{SLOW.environment}--{SLOW.name}--{current.slug}--standby"
    record = plane.state_dir / "children" / f"{standby}.json"
    until(record.exists, within_s=60.0, what="a standby is started")
    log = plane.state_dir / "servers" / f"{SLOW.environment}--{SLOW.name}--{current.slug}" / "standby.log"
    until(lambda: log.exists() and "waiting for its turn" in log.read_text(), within_s=180.0, what="the standby waits")
    with Traffic(plane, SLOW) as traffic:
        traffic.wait_for(30)
        plane.server(SLOW, current).kill()
        traffic.wait_for(100)
    assert traffic.failures == {}
    assert traffic.answered_by == {CURRENT}
