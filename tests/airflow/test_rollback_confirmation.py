"""Taking a release back from Airflow's form: a person sees what serves, and names it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput

from airflow_provider_mlpipex import CanarySensor, RollbackConfirmationOperator, RollbackOperator
from airflow_provider_mlpipex.testing.dags import run_dag
from tests.airflow.release_run import PRODUCTION, ReleaseRun, TaskRun
from tests.support.airflow_home import DAGS

FORM: dict[str, Any] = {"endpoint": str(PRODUCTION), "cause": "wrong currency"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Airflow is told to ask people."""
    questions: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **question: questions.append(question)
    )
    return questions


@pytest.fixture
def promoted(second: ReleaseRun) -> ReleaseRun:
    """A second release has been promoted; the first one is what a rollback returns to."""
    second.to_canary(2)
    second.pass_canary()
    second.execute(CanarySensor(task_id="canary_2_watch", step=2, **second.common))
    second.execute(second.promote_task())
    return second


def confirm(**changes: Any) -> RollbackConfirmationOperator:
    return RollbackConfirmationOperator(task_id="confirm", **{**FORM, **changes})


def park() -> None:
    with pytest.raises(TaskAwaitingInput):
        confirm().execute(TaskRun("confirm").context)


def answered(option: str) -> Any:
    event = {"chosen_options": [option], "params_input": {}, "responded_by_user": {"id": "7", "name": "Ada"}}
    return confirm().execute_complete(TaskRun("confirm").context, event)


def test_the_question_shows_what_serves_and_what_it_would_return_to(
    promoted: ReleaseRun, asked: list[dict[str, Any]]
) -> None:
    current, previous = promoted.state.current, promoted.state.previous
    assert current is not None and previous is not None
    park()
    (question,) = asked
    assert question["options"] == [f"Take back {current.id}", "Leave it as it is"]
    assert f"{PRODUCTION} serves {current.id} since 20" in question["body"]
    assert f"all traffic returns to {previous.id}" in question["body"]
    assert "why: wrong currency" in question["body"]
    assert promoted.stages("rollback")[-1].outcome == "deferred"
    assert promoted.state.current == current


def test_the_reference_dag_takes_back_the_release_that_its_form_names(promoted: ReleaseRun) -> None:
    """By Airflow itself: what one task returns must reach the other one."""
    current, previous = promoted.state.current, promoted.state.previous
    assert current is not None and previous is not None
    dag = DagBag(dag_folder=str(DAGS / "rollback.py")).dags["rollback"]
    ran = run_dag(dag, logical_date=datetime(2026, 3, 1, tzinfo=UTC), conf={**FORM, "release": current.id})
    assert ran.state == "success", ran
    assert promoted.state.current == previous


def test_the_release_that_is_named_is_taken_back(promoted: ReleaseRun, asked: list[dict[str, Any]]) -> None:
    current, previous = promoted.state.current, promoted.state.previous
    assert current is not None and previous is not None
    park()
    named = answered(asked[0]["options"][0])
    assert named == {"release": current.id, "asked": True, "by": "Ada"}
    done = promoted.execute(RollbackOperator(task_id="roll_back", release=named["release"], **FORM))
    assert (done["rolled_back"], done["current"]) == (True, previous.id)


def test_another_release_that_serves_meanwhile_is_not_taken_back(
    promoted: ReleaseRun, asked: list[dict[str, Any]]
) -> None:
    park()
    named = answered(asked[0]["options"][0])
    promoted.execute(RollbackOperator(task_id="somebody_else", **FORM))
    current = promoted.state.current
    done = promoted.execute(RollbackOperator(task_id="roll_back", release=named["release"], **FORM))
    assert (done["rolled_back"], promoted.state.current) == (False, current)


def test_what_is_left_as_it_is_skips_the_rollback(promoted: ReleaseRun, asked: list[dict[str, Any]]) -> None:
    park()
    with pytest.raises(AirflowSkipException, match="Ada leaves"):
        answered("Leave it as it is")
    assert promoted.stages("rollback")[-1].outcome == "skipped"


def test_who_names_the_release_in_the_form_is_not_asked(promoted: ReleaseRun, asked: list[dict[str, Any]]) -> None:
    result = confirm(release="1.1.0-rt1.0.0-abc").execute(TaskRun("confirm").context)
    assert result == {"release": "1.1.0-rt1.0.0-abc", "asked": False}
    assert asked == []


def test_a_rollout_that_waits_is_named_by_its_candidate(second: ReleaseRun, asked: list[dict[str, Any]]) -> None:
    second.execute(second.gates_task(second.register()))
    rollout = second.state.rollout
    assert rollout is not None
    park()
    assert asked[0]["options"][0] == f"Take back {rollout.candidate.id}"
    assert f"rollout {rollout.id}, which has no traffic yet, is rejected" in asked[0]["body"]


def test_nothing_to_undo_asks_nobody(promoted: ReleaseRun, asked: list[dict[str, Any]]) -> None:
    promoted.execute(RollbackOperator(task_id="roll_back", **FORM))
    with pytest.raises(AirflowSkipException, match="nothing is left to undo"):
        confirm().execute(TaskRun("confirm").context)
    assert asked == []


@pytest.mark.usefixtures("first")
def test_an_endpoint_without_a_release_to_return_to_is_refused(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(AirflowFailException, match="no previous release"):
        confirm().execute(TaskRun("confirm").context)
    assert asked == []


def test_silence_changes_nothing(promoted: ReleaseRun, asked: list[dict[str, Any]]) -> None:
    park()
    current = promoted.state.current
    with pytest.raises(AirflowFailException, match="nobody answered within 1:00:00"):
        confirm().execute_complete(TaskRun("confirm").context, {"error": "timed out", "error_type": "timeout"})
    assert promoted.state.current == current
