"""Rollback from wherever a rollout is, by whoever calls it, with whatever is broken at the time."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.errors import (
    IllegalTransition,
    LedgerUnavailable,
    PlaneUnavailable,
    ReleaseNotReady,
    RolloutEnded,
    RolloutInProgress,
)
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    Origin,
    RollbackDecided,
    RolledBack,
    RolloutRejected,
)
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import rollback
from airflow_provider_mlpipex.services.rollout.traffic import converge
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.manifests import MANIFEST
from tests.support.rollouts import ENDPOINT, Phase, World

AFTER_THE_REVIEW: tuple[Phase, ...] = ("shadow", "canary-0", "canary-1", "canary-2", "watching", "promoted")
WAITING: tuple[Phase, ...] = ("opened", "review")
NOBODY = "nobody was notified: this raised no alert"
ROLLED_BACK = ("risk-pager", "production/fraud-scorer rolled back")


class NobodyHome:
    """A registry, store or resolver that must not be called."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a rollback called {name}")


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("phase", AFTER_THE_REVIEW)
def test_all_traffic_returns_to_the_last_good_release(world: World, phase: Phase) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    state = world.roll_back("too slow")
    assert world.weights == {first.id: 10_000}
    plan = world.memory.plane.plan_in_force(ENDPOINT)
    assert plan is not None and plan.mirror is None and plan.lease_s is None
    assert (state.current, state.previous, state.rollout, state.rollback) == (first, None, None, None)
    outcome = state.results["run-2"]
    assert (outcome.ending, outcome.cause) == ("rolled-back", "too slow")
    (decided,) = world.events(RollbackDecided)
    assert (decided.from_release, decided.to_release) == (world.release("1.1.0").id, first.id)
    assert world.alerts == [ROLLED_BACK]
    assert world.memory.alerter.sent[0].body == "too slow"
    assert world.memory.alerter.sent[0].severity == "critical"
    assert world.memory.alerter.sent[0].facts["serving now"] == first.id
    assert world.memory.alerter.sent[0].facts["owner"] == "risk, oncall@example.com"


@pytest.mark.parametrize("phase", AFTER_THE_REVIEW)
def test_twice_is_once(world: World, phase: Phase) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    world.roll_back()
    after = world.state
    assert world.roll_back("double click") == after
    assert world.roll_back("again", rollout_id="run-2") == after
    assert world.alerts == [ROLLED_BACK]
    assert len(world.events(RolledBack)) == 1


@pytest.mark.parametrize("phase", WAITING)
def test_what_has_no_traffic_is_rejected_where_there_is_no_release_to_return_to(world: World, phase: Phase) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    plans = len(world.memory.plane.applied)
    report = rollback.answer_request(world.platform, ENDPOINT, cause="changed our minds")
    assert report.ended == {"run-2": "rejected"}
    assert report.sentence == (
        f"rollout run-2 rejected; {ENDPOINT} serves {first.id} as before: there is no previous release to return to; "
        f"{NOBODY}"
    )
    assert world.weights == {first.id: 10_000}
    assert len(world.memory.plane.applied) == plans


@pytest.mark.parametrize("phase", WAITING)
def test_while_another_rollout_waits_the_release_that_users_have_is_taken_away(world: World, phase: Phase) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    bad = world.state.current
    assert bad is not None
    world.bring("run-3", "1.2.0", to=phase)
    report = rollback.answer_request(world.platform, ENDPOINT, cause="wrong currency")
    assert world.weights == {first.id: 10_000}
    assert report.ended == {"run-3": "rejected", "run-2": "rolled-back"}
    assert (report.current, report.previous, report.returned_from) == (first.id, None, bad.id)
    assert report.sentence == (
        f"rollout run-3 rejected; rollout run-2 rolled back; {ENDPOINT} serves {first.id} instead of {bad.id}; "
        f"held back until mlpipex resume {ENDPOINT}: releases up to 1.1.0 and those of its commit; "
        "notified: channel risk-pager, receiver 1 of 1 (memory)"
    )
    assert ROLLED_BACK in world.alerts
    after = world.state
    again = rollback.answer_request(world.platform, ENDPOINT, cause="double click")
    assert again.ended == {}
    assert again.sentence.startswith(f"nothing was left to undo; {ENDPOINT} serves {first.id} as before; held back ")
    assert again.sentence.endswith(NOBODY)
    assert world.state == after


@pytest.mark.parametrize("phase", WAITING)
def test_one_rollout_alone_can_be_ended_while_it_waits(world: World, phase: Phase) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    second = world.state.current
    assert second is not None
    world.bring("run-3", "1.2.0", to=phase)
    report = rollback.answer_request(world.platform, ENDPOINT, cause="not this one", rollout_id="run-3")
    assert (report.ended, report.current) == ({"run-3": "rejected"}, second.id)
    assert report.sentence == f"rollout run-3 rejected; {ENDPOINT} serves {second.id} as before; {NOBODY}"
    assert world.state.previous is not None


# Which release is to go.


def test_a_call_that_names_the_release_can_be_made_again_however_long_after(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="canary-0")
    rollout = world.state.rollout
    assert rollout is not None
    bad = rollout.candidate.id
    assert rollback.answer_request(world.platform, ENDPOINT, cause="slow", release_id=bad).ended == {
        "run-3": "rolled-back"
    }
    before = world.state
    assert before.previous == first
    # Without a name, the second call would have taken the release before it away as well.
    assert rollback.answer_request(world.platform, ENDPOINT, cause="slow", release_id=bad).ended == {}
    assert world.state == before
    assert before.current is not None
    by_name = rollback.answer_request(world.platform, ENDPOINT, cause="slow, too", release_id=before.current.id)
    assert (by_name.current, world.weights) == (first.id, {first.id: 10_000})


@pytest.mark.parametrize("phase", WAITING)
def test_a_waiting_release_that_is_named_is_rejected_and_no_other_touched(world: World, phase: Phase) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to=phase)
    rollout = world.state.rollout
    assert rollout is not None
    assert rollback.answer_request(world.platform, ENDPOINT, cause="?", release_id=first.id).ended == {}
    named = rollback.answer_request(world.platform, ENDPOINT, cause="?", release_id=rollout.candidate.id)
    assert named.ended == {"run-3": "rejected"}
    assert named.returned_from is None


def test_current_cannot_be_taken_away_beside_a_trial_without_ending_that_first(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="canary-0")
    current = world.state.current
    assert current is not None
    with pytest.raises(IllegalTransition, match="is on trial beside it"):
        rollback.answer_request(world.platform, ENDPOINT, cause="?", release_id=current.id)


def test_a_task_that_is_run_again_does_not_undo_a_second_time(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="canary-0")
    tries = [
        world.platform.acting_as(
            Origin(kind="task", dag_id="rollback", run_id=run, task_id="roll_back", try_number=number)
        )
        for run, number in (("one", 1), ("one", 2), ("two", 1))
    ]
    assert rollback.answer_request(tries[0], ENDPOINT, cause="slow").ended == {"run-3": "rolled-back"}
    assert rollback.answer_request(tries[1], ENDPOINT, cause="slow").ended == {}
    assert rollback.answer_request(tries[2], ENDPOINT, cause="still slow").ended == {"run-2": "rolled-back"}


def test_without_a_previous_release_the_error_says_so(world: World) -> None:
    first = world.first_release()
    with pytest.raises(IllegalTransition, match="no previous release to return to"):
        world.roll_back()
    assert world.weights == {first.id: 10_000}
    assert world.alerts == []


def test_on_an_endpoint_that_never_had_a_release(world: World) -> None:
    with pytest.raises(IllegalTransition, match="current none"):
        world.roll_back()


def test_the_bad_release_is_not_what_the_next_rollback_returns_to(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.roll_back()
    world.bring("run-3", "1.2.0", to="promoted")
    assert world.state.previous == first
    world.roll_back()
    assert world.weights == {first.id: 10_000}


def test_every_verb_of_a_rolled_back_rollout_is_refused(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.roll_back("too slow")
    for act in (
        lambda: world.open("run-2", "1.1.0"),
        lambda: world.review("run-2"),
        lambda: world.shadow("run-2"),
        lambda: world.canary("run-2", 1),
        lambda: world.promote("run-2"),
    ):
        with pytest.raises(RolloutEnded, match="too slow"):
            act()
    seen = world.look("run-2", "canary", 0)
    assert (seen.status, seen.cause) == ("ended", "too slow")


def test_a_rollback_needs_ledger_and_plane_and_nothing_else(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    gone = NobodyHome()
    crippled = replace(world.platform, registry=gone, snapshots=gone, validator=gone, runtimes=gone)
    rollback.roll_back(crippled, ENDPOINT, cause="the registry is down, too")
    assert world.weights == {first.id: 10_000}


def test_an_alerter_that_fails_is_recorded_and_stops_nothing(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    world.memory.alerter.trouble = "not delivered"
    world.roll_back()
    assert world.weights == {first.id: 10_000}
    assert world.state.results["run-2"].ending == "rolled-back"
    (raised,) = world.events(AlertRaised)
    assert raised.failures == ("channel risk-pager: not delivered",)


def test_a_good_release_that_died_is_revived(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    world.memory.plane.retire(ENDPOINT, first.id)
    world.roll_back()
    assert world.weights == {first.id: 10_000}


def test_a_named_rollout_is_undone_and_no_other(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="canary-0")
    before = world.state
    with pytest.raises(RolloutInProgress, match="run-3 holds"):
        world.roll_back(rollout_id="run-2")
    assert world.roll_back(rollout_id="run-1") == before, "run-1 is not what was promoted last"
    with pytest.raises(IllegalTransition, match="run-3 is in progress"):
        world.roll_back(rollout_id="run-9")
    world.roll_back(rollout_id="run-3")
    assert world.state.results["run-3"].ending == "rolled-back"
    assert world.state.results["run-2"].ending == "promoted"


def test_what_was_promoted_last_is_known_even_while_the_clock_stands_still() -> None:
    live_stages = MANIFEST[MANIFEST.index("    shadow:") : MANIFEST.index("    alerts:")]
    world = World((live_stages, ""))
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="promoted")
    assert len({outcome.at for outcome in world.state.results.values()}) == 1
    world.roll_back(rollout_id="run-3")
    assert world.weights == {world.release("1.1.0").id: 10_000}
    assert world.roll_back() == world.state, "undone already"


def test_what_ended_last_is_known_even_if_it_had_ended_before(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.open("run-3", "1.2.0", accuracy=0.1)
    world.roll_back()
    assert list(world.state.results) == ["run-1", "run-3", "run-2"]
    assert world.roll_back("double click") == world.state
    assert world.weights == {first.id: 10_000}


# Broken at the time.


def test_a_plane_that_is_away_is_no_secret_and_whoever_comes_next_carries_it_out(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    world.memory.plane.away = True
    with pytest.raises(PlaneUnavailable, match="decided and not carried out"):
        world.roll_back("errors")
    assert world.state.rollback is not None and world.state.rollback.to_release == first.id
    assert world.alerts == [("risk-pager", "production/fraud-scorer rollback not carried out")]
    world.memory.plane.away = False
    assert world.look("run-2", "watch").status == "ended"
    assert world.weights == {first.id: 10_000}
    assert world.alerts[1:] == [ROLLED_BACK]


def test_a_good_release_that_will_not_come_back_is_told(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    world.memory.plane.break_release(first.id, ReleaseNotReady("release", limit="a limit", remedy="a remedy"))
    with pytest.raises(ReleaseNotReady):
        world.roll_back()
    assert world.alerts == [("risk-pager", "production/fraud-scorer rollback not carried out")]
    assert world.state.rollback is not None
    world.memory.plane.mend_release(first.id)
    converge(world.platform, ENDPOINT)
    assert world.weights == {first.id: 10_000}
    assert world.alerts[1:] == [ROLLED_BACK]


@pytest.mark.parametrize("phase", ["shadow", "canary-1", "watching"])
def test_a_ledger_that_is_away_leaves_everything_as_it_was(world: World, phase: Phase) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    before, plan = world.state, world.memory.plane.plan_in_force(ENDPOINT)
    world.ledger.once("before", "append", LedgerUnavailable("ledger", limit="a limit", remedy="a remedy"))
    with pytest.raises(LedgerUnavailable):
        world.roll_back()
    assert world.state == before
    assert world.memory.plane.plan_in_force(ENDPOINT) == plan
    assert world.alerts == []


def test_a_ledger_that_goes_away_after_the_decision_is_caught_up_with(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    away = LedgerUnavailable("ledger", limit="a limit", remedy="a remedy")
    world.plane.once("after", "apply", lambda: world.ledger.once("before", "append", away))
    with pytest.raises(LedgerUnavailable):
        world.roll_back()
    assert world.weights == {first.id: 10_000}, "users are safe before the ledger knows"
    assert world.state.rollback is not None
    converge(world.platform, ENDPOINT)
    assert world.state.results["run-2"].ending == "rolled-back"
    assert world.alerts == [ROLLED_BACK]


def test_a_locked_database_is_named_and_nothing_is_half_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_mlpipex.adapters.sql.database.LOCK_TIMEOUT_S", 0.2)
    memory = memory_platform()
    world = World(memory=memory, ledger=SqlLedger(f"sqlite:///{tmp_path}/ledger.db", clock=memory.clock))
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    before, plan = world.state, memory.plane.plan_in_force(ENDPOINT)
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        world.roll_back()
    assert memory.plane.plan_in_force(ENDPOINT) == plan
    holder.execute("ROLLBACK")
    holder.close()
    assert world.state == before
    world.roll_back()
    assert world.weights == {first.id: 10_000}


# Cleaning up after a run.


@pytest.mark.parametrize("phase", ["opened", "review"])
def test_a_run_that_ends_before_traffic_is_rejected(world: World, phase: Phase) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    ended = world.end_trial("run-2")
    assert ended is not None and ended.ended == {"run-2": "rejected"}
    assert [event.cause for event in world.events(RolloutRejected)] == ["the run ended"]
    assert world.weights == {first.id: 10_000}
    assert world.end_trial("run-2") is None


@pytest.mark.parametrize("phase", ["shadow", "canary-0", "canary-2"])
def test_a_run_that_ends_on_trial_is_rolled_back_and_its_release_stopped(world: World, phase: Phase) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    ended = world.end_trial("run-2")
    assert ended is not None and ended.ended == {"run-2": "rolled-back"}
    assert world.weights == {first.id: 10_000}
    assert set(world.memory.plane.observe(ENDPOINT).releases) == {first.id}
    assert world.end_trial("run-2") is None


@pytest.mark.parametrize("phase", ["watching", "promoted"])
def test_a_promotion_is_left_alone(world: World, phase: Phase) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    before = world.state
    assert world.end_trial("run-2") is None
    assert world.state == before


def test_the_rollout_of_another_run_is_left_alone(world: World) -> None:
    world.first_release()
    world.bring("run-3", "1.2.0", to="canary-0")
    before, weights = world.state, world.weights
    assert world.end_trial("run-2") is None
    assert (world.state, world.weights) == (before, weights)
    assert world.release("1.2.0").id in world.memory.plane.observe(ENDPOINT).releases


def test_a_trial_whose_release_died_is_ended_all_the_same(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    assert world.watch("run-2", "shadow", seconds=600).status == "passed"
    world.plane.once("after", "ensure", lambda: world.memory.plane.break_release(second, not_ready))
    second = world.release("1.1.0").id
    not_ready = ReleaseNotReady("release", limit="a limit", remedy="a remedy")
    with pytest.raises(ReleaseNotReady):
        world.canary("run-2", 0)
    assert world.weights == {first.id: 10_000}
    world.end_trial("run-2")
    state = journal.load(world.platform, ENDPOINT)
    assert (state.rollout, state.results["run-2"].ending) == (None, "rolled-back")
    assert set(world.memory.plane.observe(ENDPOINT).releases) == {first.id}
