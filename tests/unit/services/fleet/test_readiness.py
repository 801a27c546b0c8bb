"""The lamp: red exactly where a rollback would not work, tried on the plane that would have to carry it out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import MlpipexError, ReleaseNotReady
from airflow_provider_mlpipex.domain.rollout.readiness import OnPlane, Readiness, readiness
from airflow_provider_mlpipex.domain.rollout.state import DrillResult
from airflow_provider_mlpipex.domain.rollout.summary import EndpointSummary
from airflow_provider_mlpipex.services.fleet.endpoint import view
from airflow_provider_mlpipex.services.fleet.overview import overview
from tests.support.rollouts import ENDPOINT, World


@pytest.fixture
def world() -> World:
    world = World()
    world.bring("run-1", "1.0.0", to="promoted")
    world.bring("run-2", "1.1.0", to="promoted")
    return world


def lamp(world: World) -> Readiness:
    whole, (line,) = view(world.memory, ENDPOINT).overview.readiness, overview(world.memory).endpoints
    assert (whole.lamp, bool(whole.reason)) == (line.readiness.lamp, bool(line.readiness.reason))
    return whole


def goes_away(world: World) -> None:
    world.memory.plane.away = True


def previous_is_retired(world: World) -> None:
    assert world.state.previous
    world.memory.plane.retire(ENDPOINT, world.state.previous.id)
    world.memory.plane.break_release(world.state.previous.id, ReleaseNotReady("it"))


def previous_has_failed(world: World) -> None:
    assert world.state.previous
    world.memory.plane.break_release(world.state.previous.id, ReleaseNotReady("it"))


@pytest.mark.parametrize("break_it", [goes_away, previous_is_retired, previous_has_failed])
def test_the_lamp_is_red_where_a_rollback_then_fails(world: World, break_it: Any) -> None:
    assert lamp(world).lamp == "green"
    break_it(world)
    assert lamp(world).lamp == "red"
    with pytest.raises(MlpipexError):
        world.roll_back()


def test_the_lamp_is_green_where_a_rollback_then_works(world: World) -> None:
    previous = world.state.previous
    assert lamp(world).lamp == "green"
    assert world.roll_back().current == previous
    assert (lamp(world).lamp, lamp(world).reason) == ("red", lamp(world).checks[0].detail)


def test_beside_a_trial_a_rollback_returns_to_current(world: World) -> None:
    current = world.state.current
    world.bring("run-3", "1.2.0", to="canary-0")
    assert current and lamp(world).checks[0].detail.startswith(current.id)
    assert lamp(world).lamp == "green"


def test_what_nobody_can_tell_is_amber(world: World) -> None:
    """A plane of before it said which releases are warm."""
    state = EndpointSummary.of(world.state)
    found = readiness(state, OnPlane(plan=state.planned and state.planned.id), now=world.clock.now())
    assert (found.lamp, found.reason) == (
        "amber",
        f"nobody can tell whether {state.previous and state.previous.id} is warm",
    )


@pytest.mark.parametrize(
    ("days", "every", "expected"),
    [
        (None, None, "green"),
        (None, 30, "red"),
        (29, 30, "green"),
        (30, 30, "green"),
        (31, 30, "red"),
        (500, None, "green"),
    ],
)
def test_a_drill_that_is_too_old_is_none(world: World, days: int | None, every: int | None, expected: str) -> None:
    state, now = world.state, world.clock.now()
    assert state.previous and state.planned and state.current_manifest
    asked = {"drills": {"allowed": True, "every": f"{every}d"} if every else None}
    manifest = {**state.current_manifest, "environments": {ENDPOINT.environment: asked}}
    last = None if days is None else DrillResult(at=now - timedelta(days=days), ok=True, to_release="x")
    state = state.model_copy(update={"current_manifest": manifest, "last_drill": last})
    plane = OnPlane(plan=state.planned and state.planned.id, warm={state.previous.id: True})  # type: ignore[union-attr]
    found = readiness(EndpointSummary.of(state), plane, now=now)
    assert found.lamp == expected
