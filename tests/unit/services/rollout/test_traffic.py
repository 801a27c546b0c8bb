"""Intent, effect, confirmation: a process killed between any two of them, and two processes at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.errors import (
    LedgerConflict,
    LedgerUnavailable,
    MlpipexError,
    PlaneUnavailable,
    RolloutEnded,
    RolloutInProgress,
)
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    Promoted,
    RollbackDecided,
    RolloutOpened,
    TrafficConfirmed,
    TrafficPlanned,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import invariants, traffic
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.faults import Killed
from tests.support.manifests import MANIFEST
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, SHADOW_S, STEP_S, Phase, World

LIVE_STAGES = MANIFEST[MANIFEST.index("    shadow:") : MANIFEST.index("    alerts:")]
#: Verbs that move traffic: where the rollout stands before, the call, and the weights of 1.1.0 when it is done.
MOVES: dict[str, tuple[Phase, Callable[[World], object], int]] = {
    "shadow": ("review", lambda w: w.shadow("run-2"), 0),
    "first canary step": ("shadow", lambda w: w.canary("run-2", 0), 500),
    "second canary step": ("canary-0", lambda w: w.canary("run-2", 1), 5000),
    "promotion": ("canary-2", lambda w: w.promote("run-2"), 10_000),
    "rollback of a trial": ("canary-1", lambda w: w.roll_back(), 0),
    "rollback of a promotion": ("watching", lambda w: w.roll_back(), 0),
}


@pytest.fixture
def world() -> World:
    return World()


def ready_for(world: World, move: str) -> Callable[[World], object]:
    phase, act, _ = MOVES[move]
    world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    if phase == "review":
        world.decide("run-2")
    elif phase == "shadow":
        world.watch("run-2", "shadow", seconds=SHADOW_S)
    elif phase.startswith("canary") and not move.startswith("rollback"):
        world.watch("run-2", "canary", int(phase[-1]), seconds=STEP_S)
    return act


def agreed(world: World) -> bool:
    """The plane serves what the ledger says, and nothing is half done."""
    state, plan = world.state, world.memory.plane.plan_in_force(ENDPOINT)
    return state.confirmed and state.rollback is None and (plan and plan.id) == (state.planned and state.planned.id)


# Killed.


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("moment", ["before", "after"], ids=["between intent and effect", "before the confirmation"])
@pytest.mark.parametrize("comes_next", ["the same", "anybody", "the scheduled watch"])
def test_whoever_comes_after_a_kill_converges(world: World, move: str, moment: str, comes_next: str) -> None:
    act = ready_for(world, move)
    world.plane.once(moment, "apply", Killed())
    with pytest.raises(Killed):
        act(world)
    assert not world.state.confirmed
    if comes_next == "the same":
        act(world)
    elif comes_next == "anybody":
        traffic.converge(world.platform, ENDPOINT)
    else:
        world.look("run-2", "watch") if world.state.rollout.phase == "watching" else traffic.converge(
            world.platform, ENDPOINT
        )
    assert agreed(world)
    assert world.weights.get(world.release("1.1.0").id, 0) == MOVES[move][2]
    state = world.state
    if move == "promotion":
        assert state.current == world.release("1.1.0") and state.rollout.phase == "watching"
    if move.startswith("rollback"):
        assert state.results["run-2"].ending == "rolled-back"
        assert [title for _, title in world.alerts] == ["production/fraud-scorer rolled back"]


@pytest.mark.parametrize("move", MOVES)
def test_a_kill_before_the_intent_changes_nothing(world: World, move: str) -> None:
    act = ready_for(world, move)
    before, plan = world.state, world.memory.plane.plan_in_force(ENDPOINT)
    world.ledger.once("before", "append", Killed())
    with pytest.raises(Killed):
        act(world)
    assert (world.state, world.memory.plane.plan_in_force(ENDPOINT)) == (before, plan)
    act(world)
    assert agreed(world)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_first_release_that_was_killed_on_its_way_is_promoted_by_whoever_comes_next(
    world: World, moment: str
) -> None:
    world.bring("run-1", "1.0.0", to="review")
    world.decide("run-1")
    world.plane.once(moment, "apply", Killed())
    with pytest.raises(Killed):
        world.promote("run-1")
    assert world.end_trial("run-1") is None, "there is nothing to return to, and everything has passed"
    assert agreed(world)
    assert world.state.current == world.release("1.0.0")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_promotion_without_a_trial_that_was_killed_can_be_rolled_back(moment: str) -> None:
    world = World((LIVE_STAGES, ""))
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="review")
    world.decide("run-2")
    world.plane.once(moment, "apply", Killed())
    with pytest.raises(Killed):
        world.promote("run-2")
    world.roll_back("changed our minds")
    assert agreed(world)
    assert world.weights == {first.id: 10_000}
    assert world.state.results["run-2"].ending == "rolled-back"


def test_a_shift_that_nobody_finished_within_the_lease_begins_anew(world: World) -> None:
    act = ready_for(world, "first canary step")
    world.plane.once("after", "apply", Killed())
    with pytest.raises(Killed):
        act(world)
    world.clock.advance(3600)
    act(world)
    assert agreed(world)
    assert world.state.rollout.since == world.clock.now(), "a step begins when its traffic flows"


def test_a_plane_that_went_away_in_between_leaves_the_intent(world: World) -> None:
    act = ready_for(world, "second canary step")
    world.plane.once("before", "apply", PlaneUnavailable("plane", limit="an answer", remedy="wait"))
    with pytest.raises(PlaneUnavailable):
        act(world)
    assert world.state.results.get("run-2") is None, "no answer is not a refusal"
    act(world)
    assert agreed(world)


def test_a_promotion_is_one_decision_however_often_it_is_cut_short(world: World) -> None:
    act = ready_for(world, "promotion")
    away = LedgerUnavailable("ledger", limit="a limit", remedy="a remedy")
    world.plane.once("after", "apply", lambda: world.ledger.once("before", "append", away))
    with pytest.raises(LedgerUnavailable):
        act(world)
    assert world.events(Promoted)[-1].rollout_id == "run-1"
    act(world)
    act(world)
    assert [event.rollout_id for event in world.events(Promoted)] == ["run-1", "run-2"]


# What the plane did by itself.


@pytest.mark.parametrize("phase", ["shadow", "canary-0", "canary-2"])
@pytest.mark.parametrize("who", ["converge", "look", "next step", "promote", "gate check", "end of the run"])
def test_a_lease_that_ran_out_is_a_rollback_in_the_ledger(world: World, phase: Phase, who: str) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    world.clock.advance(61)
    if who == "converge":
        traffic.converge(world.platform, ENDPOINT)
    elif who == "look":
        step = int(phase[-1]) if phase.startswith("canary") else -1
        assert world.look("run-2", "canary" if step >= 0 else "shadow", step).status == "ended"
    elif who == "gate check":
        assert world.open("run-3", "1.2.0").verdict == "pass"
    elif who == "end of the run":
        assert world.end_trial("run-2") is None
    else:
        with pytest.raises(RolloutEnded, match="watcher went silent"):
            world.canary("run-2", 1) if who == "next step" else world.promote("run-2")
    assert world.state.results["run-2"].ending == "rolled-back"
    assert world.weights == {first.id: 10_000}
    assert agreed(world)
    assert world.alerts == [("risk-pager", "production/fraud-scorer rolled back")]


@pytest.mark.parametrize("phase", ["watching", "promoted", "review"])
def test_another_plan_in_force_than_the_confirmed_one_is_put_right(world: World, phase: Phase) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    confirmed = world.memory.plane.plan_in_force(ENDPOINT)
    assert confirmed is not None
    other = world.release("1.1.0") if confirmed.current == first.id else first
    world.memory.plane.ensure(ENDPOINT, other, timeout_s=1)
    world.memory.plane.apply(TrafficPlan(endpoint=ENDPOINT, current=other.id))
    traffic.converge(world.platform, ENDPOINT)
    assert world.memory.plane.plan_in_force(ENDPOINT) == confirmed
    assert agreed(world)
    assert world.events(TrafficPlanned)[-1].reason == "the plane did not serve the confirmed plan"
    outcomes = world.state.results
    traffic.converge(world.platform, ENDPOINT)
    assert world.state.results == outcomes


def test_a_plane_that_lost_everything_is_restored(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.memory.plane._endpoints.clear()
    traffic.converge(world.platform, ENDPOINT)
    assert world.weights == {world.release("1.1.0").id: 10_000}


def test_converging_on_nothing_is_nothing(world: World) -> None:
    world.memory.plane.away = True
    assert traffic.converge(world.platform, ENDPOINT).seq == 0


# Two at once.


def test_a_stale_writer_puts_the_newer_plan_back(world: World) -> None:
    act = ready_for(world, "second canary step")
    first = world.state.current

    def somebody_rolls_back() -> None:
        world.roll_back("somebody else")
        assert world.weights == {first.id: 10_000}

    world.plane.once("before", "apply", somebody_rolls_back)
    with pytest.raises(LedgerConflict, match="written meanwhile"):
        act(world)
    assert world.weights == {first.id: 10_000}, "the slow writer came last to the plane, and must not win by that"
    assert agreed(world)
    with pytest.raises(RolloutEnded, match="somebody else"):
        act(world)


def test_a_stale_writer_that_is_killed_before_it_can_is_put_right_by_the_next(world: World) -> None:
    act = ready_for(world, "second canary step")
    first = world.state.current
    world.plane.once("before", "apply", lambda: world.roll_back("somebody else"))
    world.plane.once("after", "apply", lambda: world.plane.once("after", "apply", Killed()))
    with pytest.raises(Killed):
        act(world)
    assert world.weights != {first.id: 10_000}
    traffic.converge(world.platform, ENDPOINT)
    assert world.weights == {first.id: 10_000}
    assert agreed(world)


def test_a_shift_seen_half_done_by_a_watcher_is_no_lost_lease(world: World) -> None:
    """The scheduled watch reads the ledger, then the release Dag steps the canary, then the watch asks the plane."""
    act = ready_for(world, "second canary step")
    world.plane.once("before", "observe", lambda: None)  # the step's own look
    world.plane.once("before", "observe", lambda: act(world))
    traffic.converge(world.platform, ENDPOINT)
    traffic.converge(world.platform, ENDPOINT)
    assert world.events(RollbackDecided) == []
    assert world.state.rollout.step == 1
    assert agreed(world)


def test_a_promotion_concluded_by_a_watcher_is_no_error_for_the_promoter(world: World) -> None:
    act = ready_for(world, "promotion")
    world.plane.once("after", "apply", lambda: traffic.converge(world.platform, ENDPOINT))
    act(world)
    assert world.state.rollout.phase == "watching"
    assert [event.rollout_id for event in world.events(Promoted)] == ["run-1", "run-2"]


def test_a_promotion_without_a_watch_that_a_watcher_concludes_is_no_error() -> None:
    world = World((LIVE_STAGES, ""))
    world.first_release()
    world.bring("run-2", "1.1.0", to="review")
    world.decide("run-2")
    world.plane.once("after", "apply", lambda: traffic.converge(world.platform, ENDPOINT))
    world.promote("run-2")
    assert world.state.results["run-2"].ending == "promoted"
    assert [event.rollout_id for event in world.events(Promoted)] == ["run-1", "run-2"]


def test_a_fact_written_meanwhile_costs_a_second_look_only(world: World) -> None:
    act = ready_for(world, "first canary step")
    for _ in range(3):
        world.ledger.once("before", "append", lambda: journal.note(world.memory, ENDPOINT, AlertRaised(title="a fact")))
    act(world)
    assert agreed(world)
    assert world.weights[world.release("1.1.0").id] == 500


def test_a_writer_in_a_loop_is_named(world: World) -> None:
    world.first_release()

    def in_the_way() -> None:
        journal.note(world.memory, ENDPOINT, AlertRaised(title="again"))
        world.ledger.once("before", "append", in_the_way)

    world.ledger.once("before", "append", in_the_way)
    with pytest.raises(LedgerConflict, match="20 appends lost in a row"):
        world.open("run-2", "1.1.0")
    assert world.state.rollout is None


@pytest.fixture(params=["memory", "sqlite"])
def share(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Makes a world whose ledger threads can share; takes edits of its manifest."""
    memory = memory_platform()
    if request.param == "memory":
        return partial(World, memory=memory)
    # Nobody may be told that the database is locked because the machine that runs the tests is busy.
    monkeypatch.setattr("airflow_provider_mlpipex.adapters.sql.database.LOCK_TIMEOUT_S", 60)
    return partial(World, memory=memory, ledger=SqlLedger(f"sqlite:///{tmp_path}/ledger.db", clock=memory.clock))


@pytest.fixture
def shared(share: Callable[..., World]) -> World:
    return share()


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Run ``acts`` in threads that start together; what each returned or raised."""
    barrier = threading.Barrier(len(acts))
    answers: list[object] = [None] * len(acts)

    def run(position: int) -> None:
        barrier.wait(10)
        try:
            answers[position] = acts[position]()
        except MlpipexError as error:
            answers[position] = error

    threads = [threading.Thread(target=run, args=(position,)) for position in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return answers


def test_of_many_rollouts_at_once_one_wins_and_the_others_are_told_who(shared: World) -> None:
    shared.first_release()
    answers = at_once(*(lambda n=n: shared.open(f"run-{n}", f"1.{n}.0") for n in range(2, 8)))
    lost = [answer for answer in answers if isinstance(answer, MlpipexError)]
    (winner,) = [event.rollout_id for event in shared.events(RolloutOpened) if event.rollout_id != "run-1"]
    assert len(lost) == 5
    assert all(isinstance(error, RolloutInProgress) and f"{winner} holds it" in str(error) for error in lost)
    assert shared.state.rollout.id == winner
    hash_chain.verify(shared.ledger.port.read(ENDPOINT))


def test_two_promoters_of_one_rollout_promote_it_once(shared: World) -> None:
    shared.first_release()
    shared.bring("run-2", "1.1.0", to="canary-2")
    shared.watch("run-2", "canary", 2, seconds=STEP_S)
    answers = at_once(*[lambda: shared.promote("run-2")] * 4)
    assert not [answer for answer in answers if isinstance(answer, MlpipexError)], answers
    assert [event.rollout_id for event in shared.events(Promoted)] == ["run-1", "run-2"]
    assert agreed(shared)


def test_promotion_against_rollback_has_one_winner_and_no_half(share: Callable[..., World]) -> None:
    shared = share((LIVE_STAGES, ""))
    first = shared.first_release()
    for number in range(2, 8):
        run = f"run-{number}"
        shared.bring(run, f"1.{number}.0", to="review")
        shared.decide(run)
        at_once(
            lambda run=run: shared.promote(run),
            lambda run=run: shared.roll_back("drill", rollout_id=run),
            lambda: traffic.converge(shared.platform, ENDPOINT),
        )
        traffic.converge(shared.platform, ENDPOINT)
        assert agreed(shared)
        assert shared.state.results[run].ending in ("rejected", "rolled-back"), "a rollback is never lost"
        assert shared.weights == {first.id: 10_000}
        assert (shared.state.current, shared.state.rollout) == (first, None)
    hash_chain.verify(shared.ledger.port.read(ENDPOINT))


def test_two_watchers_and_a_stepper_at_once_agree(shared: World) -> None:
    shared.first_release()
    shared.bring("run-2", "1.1.0", to="canary-0")
    shared.watch("run-2", "canary", 0, seconds=STEP_S - LOOK_EVERY)
    shared.serve(LOOK_EVERY)
    shared.clock.advance(LOOK_EVERY)
    at_once(*[lambda: shared.look("run-2", "canary", 0)] * 3)
    at_once(
        lambda: shared.canary("run-2", 1), lambda: shared.canary("run-2", 1), lambda: shared.look("run-2", "canary", 0)
    )
    assert agreed(shared)
    rollout = shared.state.rollout
    assert (rollout.step, "canary-1" in rollout.verdicts) == (1, False)


# Invariants.


def test_the_invariants_hold_whenever_nothing_is_half_done(world: World) -> None:
    serves, ready = invariants.plane_serves_what_the_ledger_confirmed, invariants.every_planned_release_is_ready
    assert serves(world.platform, ENDPOINT) is None and ready(world.platform, ENDPOINT) is None
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert serves(world.platform, ENDPOINT) is None and ready(world.platform, ENDPOINT) is None
    second = world.release("1.1.0").id
    world.memory.plane.break_release(second, PlaneUnavailable("it", limit="a limit", remedy="a remedy"))
    assert ready(world.platform, ENDPOINT) == f"{second} is failed"
    world.clock.advance(61)
    plan = world.memory.plane.plan_in_force(ENDPOINT)
    assert serves(world.platform, ENDPOINT) == (f"plan {plan.id} in force, ledger confirmed {world.state.planned.id}")


def test_confirmations_name_the_plan_that_they_confirm(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    planned = [event.plan.id for event in world.events(TrafficPlanned)]
    assert [event.plan_id for event in world.events(TrafficConfirmed)] == planned
