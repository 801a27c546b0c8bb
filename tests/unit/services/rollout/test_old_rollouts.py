"""A state holds what is recent; of rollouts from long before, verbs ask the ledger."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.errors import LedgerTampered, RolloutEnded
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, RolloutRejected
from airflow_provider_mlpipex.domain.rollout.fold import KEPT_ALERTS, KEPT_RESULTS
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import history, promote, watch
from airflow_provider_mlpipex.services.rollout.rollback import roll_back
from tests.support.rollouts import ENDPOINT, World


@pytest.fixture(scope="module")
def world() -> World:
    """Promoted, rolled back and rejected rollouts, and after them more rejected ones than a state holds."""
    world = World()
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="promoted")
    roll_back(world.platform, ENDPOINT, cause="customers complain")
    world.bring("run-4", "1.3.0", to="promoted")
    for number in range(KEPT_RESULTS + 5):
        world.open(f"rejected-{number}", "2.0.0", accuracy=0.1)
    return world


def test_a_state_is_bounded_and_holds_what_can_still_be_undone(world: World) -> None:
    results = world.state.results
    assert len(results) == KEPT_RESULTS + 1
    assert results["run-4"].ending == "promoted"
    assert world.state.last_result is not None
    assert world.state.last_result.rollout_id == f"rejected-{KEPT_RESULTS + 4}"
    assert not {"run-1", "run-2", "run-3", "rejected-0"} & set(results)


@pytest.mark.parametrize(
    ("rollout_id", "ending", "cause"),
    [
        ("run-1", "promoted", "not watched: the first release here has none to return to"),
        ("run-2", "promoted", "watch ended pass"),
        ("run-3", "rolled-back", "customers complain"),
        ("rejected-0", "rejected", "accuracy"),
    ],
)
def test_how_an_old_rollout_ended_is_looked_up(world: World, rollout_id: str, ending: str, cause: str) -> None:
    assert world.state.result_of(rollout_id) is None
    result = journal.load(world.platform, ENDPOINT, rollout_id=rollout_id).result_of(rollout_id)
    assert result is not None
    assert (result.rollout_id, result.ending) == (rollout_id, ending)
    assert cause in result.cause


def test_a_rollout_that_never_was_has_no_result(world: World) -> None:
    assert journal.load(world.platform, ENDPOINT, rollout_id="never").result_of("never") is None


def test_an_old_rollout_is_not_opened_again(world: World) -> None:
    before = world.state
    for rollout_id in ("run-1", "run-3", "rejected-0"):
        with pytest.raises(RolloutEnded, match=rollout_id):
            world.open(rollout_id, "9.0.0")
    assert world.state == before


def test_verbs_of_an_old_rollout_say_how_it_ended(world: World) -> None:
    assert watch.look(world.platform, endpoint=ENDPOINT, rollout_id="run-3", stage="watch").ending == "rolled-back"
    assert watch.look(world.platform, endpoint=ENDPOINT, rollout_id="run-2", stage="watch").status == "passed"
    with pytest.raises(RolloutEnded, match="customers complain"):
        promote.promote(world.platform, endpoint=ENDPOINT, rollout_id="run-3", timeout_s=1)
    promote.promote(world.platform, endpoint=ENDPOINT, rollout_id="run-2", timeout_s=1)
    before, alerts = world.state, len(world.memory.alerter.sent)
    roll_back(world.platform, ENDPOINT, cause="late", rollout_id="run-2")
    assert (world.state, len(world.memory.alerter.sent)) == (before, alerts), "of an old ending nobody is told again"


def test_alerts_of_one_rollout_are_bounded_and_the_latest_stay() -> None:
    world = World()
    world.open("run-1", "1.0.0")
    for number in range(KEPT_ALERTS + 3):
        journal.note(world.platform, ENDPOINT, AlertRaised(title=f"alert {number}"))
    journal.note(world.platform, ENDPOINT, AlertRaised(title="alert 9"))
    rollout = world.state.rollout
    assert rollout is not None
    assert (len(rollout.alerts), rollout.alerts[-1], rollout.alerts.count("alert 9")) == (KEPT_ALERTS, "alert 9", 1)


def test_the_audit_tells_a_kept_state_that_is_none_of_its_chain(world: World) -> None:
    ledger = world.memory.ledger
    assert history.audit(world.platform) == {str(ENDPOINT): world.state.seq}
    kept = ledger._projections[ENDPOINT]
    try:
        for forged, what in (
            (kept.model_copy(update={"state": kept.state.model_copy(update={"current": None})}), "current"),
            (kept.model_copy(update={"hash": "0" * 64}), "hash"),
            (kept.moved_to(kept.seq + 1, kept.hash), "cut off the end"),
        ):
            ledger._projections[ENDPOINT] = forged
            with pytest.raises(LedgerTampered, match=what):
                history.audit(world.platform)
    finally:
        ledger._projections[ENDPOINT] = kept


def test_the_state_as_of_a_moment_is_what_it_was_then() -> None:
    world = World()
    moments = []
    for number in range(3):
        journal.note(world.platform, ENDPOINT, RolloutRejected(rollout_id=f"x-{number}", cause="no"))
        moments.append((world.clock.now(), world.state))
        world.clock.advance(60)
    for at, state in moments:
        assert history.as_of(world.platform, ENDPOINT, at) == state
