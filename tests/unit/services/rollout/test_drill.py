"""A rollback that is tried: there and back, whatever goes wrong on the way, and users are where they were after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import (
    IllegalTransition,
    LedgerConflict,
    NotPermitted,
    PlaneUnavailable,
    ReleaseNotReady,
    RolloutInProgress,
)
from airflow_provider_mlpipex.domain.rollout.events import RollbackDrillEnded
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import drill as drills
from airflow_provider_mlpipex.services.rollout import traffic
from tests.support.faults import Killed
from tests.support.rollouts import ENDPOINT, World


def world_of(*, allowed: bool = True, releases: int = 2) -> World:
    world = World()
    if allowed:
        raw = world.manifest.to_json()
        raw["environments"]["production"]["drills"] = {"allowed": True}
        world = World(manifest=type(world.manifest).model_validate(raw))
    for number in range(releases):
        world.bring(f"run-{number}", f"1.{number}.0", to="promoted")
    return world


def drill(world: World, *, meanwhile: Callable[[], object] = lambda: None) -> RollbackDrillEnded:
    def wait(seconds: float) -> None:
        meanwhile()
        world.clock.advance(seconds)

    return drills.drill(world.platform, ENDPOINT, reason="Tuesday", dwell_s=5, wait=wait)


def test_every_request_goes_to_the_previous_release_and_back() -> None:
    world, weights = world_of(), []
    before = world.state
    assert before.current and before.previous

    def look() -> None:
        weights.append(dict(world.weights))
        world.memory.plane.serve(ENDPOINT, next(iter(world.weights)), requests=50)

    ended = drill(world, meanwhile=look)
    assert weights == [{before.previous.id: 10_000}, {before.current.id: 10_000}]
    assert (ended.ok, ended.failed_requests) == (True, 0) and ended.requests
    assert (ended.back_ms, ended.forth_ms) == (0.0, 0.0)
    after = world.state
    kept = {"seq", "planned", "confirmed_at", "last_drill"}
    assert after.model_dump(exclude=kept) == before.model_dump(exclude=kept)
    assert after.planned == before.planned
    assert after.last_drill and (after.last_drill.ok, after.last_drill.to_release) == (True, before.previous.id)
    assert world.roll_back().current == before.previous


def test_requests_that_fail_meanwhile_fail_the_drill_and_on_call_hears() -> None:
    world = world_of()
    previous = world.state.previous
    assert previous

    def fail() -> None:
        if previous.id in world.weights:
            world.memory.plane.serve(ENDPOINT, previous.id, requests=50, errors=3)

    ended = drill(world, meanwhile=fail)
    assert (ended.ok, ended.requests, ended.failed_requests) == (False, 50, 3)
    assert world.memory.alerter.sent[-1].title == f"{ENDPOINT} drill failed"
    assert world.weights == {world.state.current.id: 10_000}  # type: ignore[union-attr]


def test_the_last_environment_needs_its_manifests_word() -> None:
    world = world_of(allowed=False)
    seq = world.state.seq
    with pytest.raises(NotPermitted, match="drills.allowed: true"):
        drill(world)
    assert world.state.seq == seq


@pytest.mark.parametrize("phase", ["opened", "canary-0", "watching"])
def test_nothing_is_drilled_while_a_rollout_is_open(phase: Any) -> None:
    world = world_of()
    world.bring("run-9", "1.9.0", to=phase)
    weights = world.weights
    with pytest.raises(RolloutInProgress):
        drill(world)
    assert world.weights == weights


def test_nothing_to_return_to_cannot_be_drilled() -> None:
    world = world_of(releases=1)
    with pytest.raises(IllegalTransition):
        drill(world)


def test_a_previous_release_that_does_not_come_up_fails_the_drill_and_nothing_else() -> None:
    world = world_of()
    state = world.state
    assert state.previous and state.current
    world.memory.plane.break_release(state.previous.id, ReleaseNotReady("server", value="out of memory"))
    ended = drill(world)
    assert not ended.ok and "out of memory" in ended.detail
    assert (ended.back_ms, ended.forth_ms) == (None, 0.0)
    assert world.weights == {state.current.id: 10_000}
    assert (world.state.drill, world.state.planned, world.state.confirmed) == (None, state.planned, True)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["append", "apply"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_drill_that_is_killed_costs_nobody_anything(when: str, verb: str, nth: int) -> None:
    """Whoever looks at the endpoint next, and the plane by itself before that, has users on the current release."""
    world = world_of()
    state = world.state
    assert state.current
    port = world.ledger if verb == "append" else world.plane
    for _ in range(nth - 1):
        port.once(when, verb, lambda: None)
    port.once(when, verb, Killed())
    with pytest.raises(Killed):
        drill(world)
    world.ledger.clear()
    world.plane.clear()
    world.clock.advance(drills.GRACE_S + 10)
    traffic.converge(world.platform, ENDPOINT)
    world.clock.advance(drills.GRACE_S + 10)
    traffic.converge(world.platform, ENDPOINT)
    assert world.weights == {state.current.id: 10_000}
    after = world.state
    assert (after.drill, after.current, after.previous, after.planned) == (
        None,
        state.current,
        state.previous,
        state.planned,
    )


def test_the_plane_itself_returns_what_a_dead_drill_has_left() -> None:
    world = world_of()
    state = world.state
    assert state.current
    world.ledger.once("after", "append", lambda: None)

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        drill(world, meanwhile=die)
    world.clock.advance(5 + drills.GRACE_S + 1)
    assert world.weights == {state.current.id: 10_000}
    traffic.converge(world.platform, ENDPOINT)
    last = world.state.last_drill
    assert last and not last.ok and "went silent" in last.detail


def test_a_rollback_in_the_middle_of_a_drill_wins() -> None:
    world = world_of()
    previous = world.state.previous
    assert previous
    done: list[bool] = []

    def roll_back() -> None:
        if not done:
            done.append(True)
            world.roll_back("for real")

    ended = drill(world, meanwhile=roll_back)
    assert not ended.ok and "somebody else moved traffic" in ended.detail
    assert world.weights == {previous.id: 10_000}
    assert world.state.current == previous and world.state.drill is None


def test_a_plane_that_goes_away_in_between_is_put_right_afterwards() -> None:
    world = world_of()
    state = world.state
    assert state.current

    def away() -> None:
        world.memory.plane.away = True

    ended = drill(world, meanwhile=away)
    assert not ended.ok and ended.requests is None
    world.memory.plane.away = False
    world.clock.advance(60)
    traffic.converge(world.platform, ENDPOINT)
    assert world.weights == {state.current.id: 10_000}
    assert (world.state.drill, world.state.confirmed, world.state.rollback) == (None, True, None)


def test_two_drills_at_once_are_one() -> None:
    world = world_of()
    refused: list[type[Exception]] = []

    def second() -> None:
        if not refused:
            with pytest.raises((RolloutInProgress, LedgerConflict, PlaneUnavailable)) as error:
                drills.drill(world.platform, ENDPOINT, reason="too", wait=lambda _: None)
            refused.append(error.type)

    assert drill(world, meanwhile=second).ok
    assert refused == [RolloutInProgress]


def test_an_old_ledger_knows_no_drill() -> None:
    world = world_of()
    assert (world.state.drill, world.state.last_drill) == (None, None)
    assert journal.load(world.memory, ENDPOINT).to_json()["drill"] is None
