"""A watch beside the previous release: an outage alerts, a bad release goes back, and the end of it all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable, ReleaseNotReady
from airflow_provider_mlpipex.domain.rollout.events import (
    GatesJudged,
    RollbackDecided,
    TrafficConfirmed,
    TrafficPlanned,
    WatchPassed,
)
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from tests.support.faults import Killed
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, WATCH_S, World

CONTROL = ("rollback:\n      window: 30m", "rollback:\n      window: 30m\n      control: 10%")
RELATIVE = (
    "{name: failing, metric: serving.error_rate, max: 2%, window: 1m}",
    "{name: failing, metric: serving.error_rate, within: 50%}",
)
OUTAGE = ("risk-pager", "production/fraud-scorer: failing broken, and the previous release is no better")
ROLLED_BACK = ("risk-pager", "production/fraud-scorer rolled back")


@pytest.fixture
def world() -> World:
    """A second release, just promoted, beside the first."""
    return watched(World(CONTROL))


def watched(world: World) -> World:
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    return world


def shares(world: World) -> dict[str, int]:
    names = {
        release.id: name for name, release in (("new", world.state.current), ("old", world.state.previous)) if release
    }
    return {names[release]: weight for release, weight in world.weights.items()}


def failing(seen: WatchResult) -> str:
    return next(result.verdict for result in seen.results if result.gate == "failing")


def test_the_previous_release_keeps_its_share_during_the_watch(world: World) -> None:
    assert shares(world) == {"new": 9000, "old": 1000}
    assert world.watch("run-2", "watch", seconds=WATCH_S - LOOK_EVERY).status == "watching"
    assert shares(world) == {"new": 9000, "old": 1000}


def test_at_the_end_of_the_watch_all_traffic_is_on_the_new_release(world: World) -> None:
    seen = world.watch("run-2", "watch", seconds=WATCH_S)
    assert (seen.status, seen.verdict) == ("passed", "pass")
    assert shares(world) == {"new": 10_000}
    assert world.alerts == []
    kinds = [type(event) for event in world.events()]
    planned = len(kinds) - 1 - kinds[::-1].index(TrafficPlanned)
    assert kinds[planned:] == [TrafficPlanned, TrafficConfirmed, GatesJudged, WatchPassed], "intent before effect"


def test_a_bad_release_goes_back(world: World) -> None:
    seen = world.watch("run-2", "watch", seconds=WATCH_S, failing=0.5)
    assert (seen.status, seen.verdict) == ("ended", "fail")
    assert "the previous release showed 0%, the new one 50%" in seen.cause
    assert shares(world) == {"new": 10_000} and world.state.current == world.release("1.0.0")
    assert world.alerts == [ROLLED_BACK]


def reacting(world: World, *, looks: int, every: float = 5.0, **traffic: float) -> WatchResult:
    """Looks as the trigger makes them: sooner, where a look asks for it."""
    seen, pause = WatchResult(status="watching"), every
    for _ in range(looks):
        world.serve(pause, **traffic)
        world.clock.advance(pause)
        seen = world.look("run-2", "watch")
        if seen.status != "watching":
            return seen
        pause = min(every, seen.look_again_s or every)
    return seen


SMALL = ("rollback:\n      window: 30m", "rollback:\n      window: 30m\n      control: 0.5%")


def test_a_small_control_arm_grows_when_a_limit_breaks_and_tells_an_outage() -> None:
    world = watched(World(SMALL))
    seen = reacting(world, looks=1, outage=0.6)
    assert (seen.status, failing(seen), seen.look_again_s) == ("watching", "fail", 1.0)
    assert shares(world) == {"new": 5000, "old": 5000}, "0 of 0 requests tell nothing: it gets half of them"
    seen = reacting(world, looks=20, outage=0.6)
    assert (seen.status, failing(seen)) == ("watching", "inconclusive")
    assert world.alerts == [OUTAGE]
    # It is over: the arm is small again, and the watch ends as it would have.
    seen = reacting(world, looks=60)
    assert shares(world) == {"new": 9950, "old": 50}
    assert world.watch("run-2", "watch", seconds=WATCH_S).status == "passed"
    assert world.alerts == [OUTAGE] and world.state.current == world.release("1.1.0")


def test_a_bad_release_is_told_by_the_grown_arm_before_half_as_long_again() -> None:
    world = watched(World(SMALL))
    began = world.clock.now()
    seen = reacting(world, looks=60, failing=0.6)
    assert (seen.status, seen.verdict) == ("ended", "fail")
    assert world.clock.now() - began <= 1.5 * timedelta(seconds=5)
    assert shares(world) == {"new": 10_000} and world.state.current == world.release("1.0.0")


def test_what_the_grown_arm_cannot_tell_in_time_goes_back() -> None:
    """Nobody asks the previous release any more: what is undecided is no excuse."""
    world = watched(World(SMALL))
    assert reacting(world, looks=1, failing=0.6).status == "watching"
    began = world.clock.now()
    for _ in range(3):
        world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=2, errors=2)
        world.clock.advance(1)
        seen = world.look("run-2", "watch")
        if seen.status == "ended":
            break
    assert seen.status == "ended" and "not told from an outage" in seen.cause
    assert world.clock.now() - began <= timedelta(seconds=3)


def test_a_gate_may_revert_at_once() -> None:
    at_once = ("max: 2%, window: 1m", "max: 2%, window: 1m, on_fail: revert")
    world = watched(
        World(("rollback:\n      window: 30m", "rollback:\n      window: 30m\n      control: 50%"), at_once)
    )
    world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=30, errors=15)
    world.memory.plane.serve(ENDPOINT, world.release("1.0.0").id, requests=1)
    world.clock.advance(5)
    assert world.look("run-2", "watch").status == "ended"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_watcher_killed_while_the_arm_grows_leaves_it_to_the_next(when: str) -> None:
    world = watched(World(SMALL))
    world.serve(5.0, outage=0.6)
    world.clock.advance(5.0)
    world.plane.once(when, "apply", Killed())
    with pytest.raises(Killed):
        world.look("run-2", "watch")
    seen = reacting(world, looks=20, outage=0.6)
    assert (seen.status, failing(seen)) == ("watching", "inconclusive")
    assert shares(world) == {"new": 5000, "old": 5000}


def test_an_outage_alerts_once_and_the_watch_goes_on(world: World) -> None:
    seen = world.watch("run-2", "watch", seconds=5 * LOOK_EVERY, outage=0.6)
    assert (seen.status, failing(seen)) == ("watching", "inconclusive")
    assert world.alerts == [OUTAGE]
    assert shares(world) == {"new": 9000, "old": 1000}
    judged = world.events(GatesJudged)[-1]
    assert (judged.stage, judged.verdict) == ("watch", "inconclusive")
    assert judged.results[0].excused is not None
    # The outage is over, and so is the watch in the end.
    assert world.watch("run-2", "watch", seconds=WATCH_S).status == "passed"
    assert world.alerts == [OUTAGE]
    assert world.state.current == world.release("1.1.0")


def test_an_outage_that_outlasts_the_watch_is_no_pass(world: World) -> None:
    seen = world.watch("run-2", "watch", seconds=WATCH_S, outage=0.6)
    assert (seen.status, seen.verdict) == ("passed", "inconclusive")
    assert world.state.current == world.release("1.1.0")


def test_an_outage_that_is_over_when_the_limit_breaks_takes_nothing_back() -> None:
    """A gate over the whole watch breaks late in an outage, when eight good minutes have outweighed it for the arm."""
    whole = ("max: 2%, window: 1m", "max: 2%")
    world = watched(World(CONTROL, whole))
    assert world.watch("run-2", "watch", seconds=480, every=15.0, outage=0.008).status == "watching"
    for outage in (0.5, 0.5, *[0.008] * 20):
        world.serve(15.0, outage=outage)
        world.clock.advance(15.0)
        assert world.look("run-2", "watch").status == "watching"
    assert OUTAGE in world.alerts


def test_a_release_that_is_worse_than_an_outage_goes_back(world: World) -> None:
    assert world.watch("run-2", "watch", seconds=3 * LOOK_EVERY, outage=0.3).status == "watching"
    seen = world.watch("run-2", "watch", seconds=WATCH_S, outage=0.3, failing=0.9)
    assert seen.status == "ended"
    assert world.alerts == [OUTAGE, ROLLED_BACK]


def test_a_failure_late_in_the_watch_is_not_diluted(world: World) -> None:
    assert world.watch("run-2", "watch", seconds=WATCH_S - 8 * LOOK_EVERY).status == "watching"
    assert world.watch("run-2", "watch", seconds=6 * LOOK_EVERY, failing=0.5).status == "ended"


def test_without_a_control_arm_an_outage_takes_the_release_back() -> None:
    world = watched(World())
    assert shares(world) == {"new": 10_000}
    assert world.watch("run-2", "watch", seconds=WATCH_S, outage=0.6).status == "ended"


def test_a_relative_gate_judges_beside_the_control() -> None:
    outage, bad = watched(World(CONTROL, RELATIVE)), watched(World(CONTROL, RELATIVE))
    assert outage.watch("run-2", "watch", seconds=WATCH_S, outage=0.5).status == "passed"
    assert outage.alerts == [], "it compares, so there is nothing to tell"
    assert bad.watch("run-2", "watch", seconds=WATCH_S, failing=0.5).status == "ended"


def test_a_first_release_has_nothing_to_be_compared_with() -> None:
    world = World(CONTROL)
    world.first_release()
    assert shares(world) == {"new": 10_000}


# What goes wrong.


def test_a_control_arm_ends_when_nobody_watches_and_comes_back_with_the_watcher(world: World) -> None:
    world.clock.advance(3600 // 4)
    assert shares(world) == {"new": 10_000}, "the plane takes it back by itself"
    assert world.look("run-2", "watch").status == "watching"
    assert shares(world) == {"new": 9000, "old": 1000}


def test_a_control_that_does_not_run_is_no_reason_to_withhold_a_promotion() -> None:
    world = World(CONTROL)
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-2")
    assert world.watch("run-2", "canary", 2, seconds=900).status == "passed"
    dead = ReleaseNotReady("release", value="dead", limit="ready", remedy="look at its log")
    world.memory.plane.break_release(first.id, dead)
    state = world.promote("run-2")
    assert state.current == world.release("1.1.0")
    assert shares(world) == {"new": 10_000}
    reasons = [event.reason for event in world.events(TrafficPlanned)]
    assert reasons[-2] == "promotion" and reasons[-1].startswith("no control arm:")


def test_a_control_that_dies_in_the_watch_protects_nobody_from_a_bad_release(world: World) -> None:
    """Its lease ran out, and it does not come back: from now on the limit counts by itself."""
    first = world.state.previous
    assert first is not None
    dead = ReleaseNotReady("release", value="dead", limit="ready", remedy="look at its log")
    world.memory.plane.break_release(first.id, dead)
    world.clock.advance(120)
    assert world.look("run-2", "watch").status == "watching"
    assert shares(world) == {"new": 10_000}
    world.memory.plane.mend_release(first.id)
    assert world.watch("run-2", "watch", seconds=WATCH_S, failing=0.5).status == "ended"
    assert world.state.current == first


@pytest.mark.parametrize(
    ("when", "verb"), [("before", "apply"), ("after", "apply"), ("before", "append"), ("after", "append")]
)
def test_a_watcher_killed_at_the_end_of_the_watch_leaves_it_to_the_next(world: World, when: str, verb: str) -> None:
    assert world.watch("run-2", "watch", seconds=WATCH_S - LOOK_EVERY).status == "watching"
    world.serve(LOOK_EVERY)
    world.clock.advance(LOOK_EVERY)
    port = world.plane if verb == "apply" else world.ledger
    port.once(when, verb, Killed())
    with pytest.raises(Killed):
        world.look("run-2", "watch")
    assert world.state.rollout is not None
    assert world.look("run-2", "watch").status == "passed"
    assert shares(world) == {"new": 10_000}
    assert world.state.rollout is None and world.state.current == world.release("1.1.0")


def test_a_plane_that_is_away_at_the_end_of_the_watch_keeps_it_open(world: World) -> None:
    assert world.watch("run-2", "watch", seconds=WATCH_S - LOOK_EVERY).status == "watching"
    world.clock.advance(LOOK_EVERY)
    world.plane.once("before", "apply", PlaneUnavailable("plane", limit="an answer", remedy="again"))
    with pytest.raises(PlaneUnavailable):
        world.look("run-2", "watch")
    assert world.state.rollout is not None and world.state.rollout.phase == "watching"
    assert world.look("run-2", "watch").status == "passed"
    assert shares(world) == {"new": 10_000}


def test_a_rollback_by_hand_in_the_watch_leaves_no_control_arm(world: World) -> None:
    world.roll_back()
    assert world.weights == {world.release("1.0.0").id: 10_000}
    assert len(world.events(RollbackDecided)) == 1


def test_a_scheduled_look_inside_the_window_compares_as_well(world: World) -> None:
    from airflow_provider_mlpipex.services.rollout.health import check_health

    for _ in range(4):
        world.serve(LOOK_EVERY, outage=0.6)
        world.clock.advance(LOOK_EVERY)
        seen = check_health(world.platform, ENDPOINT)
    assert (seen.status, failing(seen)) == ("watching", "inconclusive")
    assert world.alerts == [OUTAGE]
    window = seen.results[0].evidence.until - seen.results[0].evidence.since
    assert window <= timedelta(seconds=90)
