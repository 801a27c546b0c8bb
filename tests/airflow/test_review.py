"""The deployment review: it parks, people or policy answer, silence rejects, and the ledger says who it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from airflow_provider_mlpipex import DeploymentReviewOperator, RollbackOperator
from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.errors import LedgerUnavailable
from airflow_provider_mlpipex.domain.rollout.events import ReviewDecided, ReviewOpened, RollbackDecided
from airflow_provider_mlpipex.operators.review import describe
from airflow_provider_mlpipex.services.rollout.review import ReviewRequest
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from tests.airflow.release_run import PRODUCTION, ReleaseRun, TaskRun, failure
from tests.support.acme import manifest_text

TIMEOUT = timedelta(hours=24)


class Asked:
    """Takes the place of Airflow's API: what people would be asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []

    def __call__(self, **request: Any) -> None:
        self.requests.append(request)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    recorder = Asked()
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", recorder)
    return recorder


@pytest.fixture
def judged(second: ReleaseRun) -> ReleaseRun:
    """A run whose offline gates have passed."""
    second.execute(second.gates_task(second.register()))
    return second


def review(run: ReleaseRun, **kwargs: Any) -> DeploymentReviewOperator:
    return DeploymentReviewOperator(task_id="review", response_timeout=TIMEOUT, **run.common, **kwargs)


def park(run: ReleaseRun) -> tuple[TaskRun, TaskAwaitingInput]:
    task = TaskRun("review", run_id=run.run_id)
    with pytest.raises(TaskAwaitingInput) as parked:
        review(run).execute(task.context)
    return task, parked.value


def answer(option: str, *, note: str | None = None, **changes: Any) -> dict[str, Any]:
    """The event as Airflow 3.3 makes it from a person's answer (``HITLDetail.as_resume_event_payload``)."""
    return {
        "chosen_options": [option],
        "params_input": {"note": note},
        "responded_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "Ada"},
        "timedout": False,
        **changes,
    }


SILENCE = {"error": "The Human-in-the-loop response timeout has passed without a response.", "error_type": "timeout"}


def complete(run: ReleaseRun, event: dict[str, Any]) -> Any:
    return review(run).execute_complete(TaskRun("review", run_id=run.run_id).context, event)


def decisions(run: ReleaseRun) -> list[ReviewDecided]:
    return [e.event for e in run.entries if isinstance(e.event, ReviewDecided) and e.event.rollout_id == run.run_id]


def test_the_review_parks_and_shows_typed_changes_and_gates(judged: ReleaseRun, asked: Asked) -> None:
    task, parked = park(judged)
    assert (parked.method_name, parked.timeout) == ("execute_complete", TIMEOUT)
    (request,) = asked.requests
    assert request["options"] == ["Approve", "Reject"]
    assert request["defaults"] is None
    assert request["subject"] == f"Deployment review: {PRODUCTION}"
    body = request["body"]
    assert "| model | model fraud-scorer | 1.0.0 (" in body
    assert "| evaluation.accuracy within 0.5% of the baseline | pass | observed " in body
    assert [change["kind"] for change in task.xcoms["changes"]][0] == "model"
    assert judged.stages("review")[-1].outcome == "deferred"
    assert decisions(judged) == []


REVIEW = ("    review:\n      auto_approve: [data]\n      timeout: 24h\n", "")


def test_a_manifest_that_drops_its_review_goes_through_that_of_the_one_in_force(
    first: ReleaseRun, asked: Asked
) -> None:
    first.first_release()
    first.manifest.write_text(manifest_text(("depth: 3", "depth: 4"), REVIEW), encoding="utf-8")
    run = ReleaseRun(first.platform, first.manifest, run_id="run-2")
    run.execute(run.gates_task(run.register()))
    park(run)
    assert len(asked.requests) == 1
    assert complete(run, answer("Approve"))["approved"] is True
    assert run.execute(run.shadow_task())["fraction"] == 0.5


def test_where_no_manifest_asks_for_a_review_it_passes_at_once_and_says_so(first: ReleaseRun, asked: Asked) -> None:
    first.manifest.write_text(manifest_text(REVIEW), encoding="utf-8")
    first.execute(first.gates_task(first.register()))
    told = first.execute(review(first))
    assert told == {"approved": True, "asked": False, "why": "no manifest asks for a review here"}
    assert asked.requests == []
    assert [e for e in first.entries if isinstance(e.event, (ReviewOpened, ReviewDecided))] == []
    first.execute(first.promote_task())
    assert first.state.current is not None


def test_asking_twice_opens_one_review(judged: ReleaseRun, asked: Asked) -> None:
    park(judged)
    park(judged)
    opened = [e for e in judged.entries if isinstance(e.event, ReviewOpened) and e.event.rollout_id == "run-2"]
    assert len(opened) == 1
    assert len(asked.requests) == 2


@pytest.mark.usefixtures("asked")
def test_an_approval_is_recorded_with_reviewer_and_note(judged: ReleaseRun) -> None:
    park(judged)
    told = complete(judged, answer("Approve", note="numbers are fine"))
    assert told == {"approved": True, "asked": True, "reviewer": "Ada", "why": "numbers are fine"}
    (decided,) = decisions(judged)
    assert (decided.approved, decided.reviewer, decided.note) == (True, "Ada", "numbers are fine")
    assert decided.automatic == ""
    # The same answer again, after a worker was lost.
    assert complete(judged, answer("Approve", note="numbers are fine")) == told
    assert len(decisions(judged)) == 1
    assert judged.execute(judged.shadow_task())["fraction"] == 0.5


@pytest.mark.usefixtures("asked")
def test_a_task_that_is_cleared_after_its_answer_asks_nobody_again(judged: ReleaseRun, asked: Asked) -> None:
    park(judged)
    complete(judged, answer("Approve"))
    told = judged.execute(review(judged), try_number=2)
    assert told["approved"] is True
    assert len(asked.requests) == 1


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("event", "reviewer", "cause"),
    [
        pytest.param(answer("Reject", note="too soon"), "Ada", "review rejected by Ada: too soon", id="a person"),
        pytest.param(SILENCE, "deadline", "review rejected by deadline: nobody answered within 1 day", id="silence"),
        pytest.param(
            answer("Approve", timedout=True, responded_by_user=None),
            "deadline",
            "review rejected by deadline: nobody answered within 1 day",
            id="silence with a default that approves",
        ),
        pytest.param(answer("Maybe"), "Ada", "review rejected by Ada", id="another answer"),
        pytest.param(
            {"error": "the trigger was lost", "error_type": "unknown"},
            "airflow",
            "review rejected by airflow: the trigger was lost",
            id="a broken resume",
        ),
    ],
)
def test_everything_but_an_approval_rejects(
    judged: ReleaseRun, event: dict[str, Any], reviewer: str, cause: str
) -> None:
    before = judged.state.current
    plans = len(judged.platform.plane.applied)
    park(judged)
    with pytest.raises(AirflowFailException) as failed:
        complete(judged, event)
    assert f"rejected by {reviewer}" in str(failed.value)
    assert "runbook: review-rejected" in str(failed.value)
    (decided,) = decisions(judged)
    assert (decided.approved, decided.reviewer) == (False, reviewer)
    outcome = judged.state.results["run-2"]
    assert outcome.ending == "rejected"
    assert outcome.cause.startswith(cause)
    # Nothing that serves has changed, and the endpoint is free.
    assert (judged.state.current, judged.state.rollout) == (before, None)
    assert len(judged.platform.plane.applied) == plans


@pytest.mark.usefixtures("asked")
def test_an_answer_that_cannot_be_recorded_is_left_to_a_retry(
    judged: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    park(judged)

    def away(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailable("ledger in memory", value="away")

    with monkeypatch.context() as patched:
        patched.setattr(judged.platform.ledger, "append", away)
        with pytest.raises(LedgerUnavailable):
            complete(judged, answer("Approve"))
    assert decisions(judged) == []
    assert complete(judged, answer("Approve"))["approved"] is True


def test_what_the_policy_approves_asks_nobody(first: ReleaseRun, asked: Asked) -> None:
    policy = ("auto_approve: [data]", "{required_for: [runtime], auto_approve: [data, model, features, policy]}")
    text = manifest_text(("review:\n      " + policy[0] + "\n      timeout: 24h", f"review: {policy[1]}"))
    first.manifest.write_text(text, encoding="utf-8")
    first.first_release()
    first.manifest.write_text(text.replace("depth: 3", "depth: 4"), encoding="utf-8")
    run = ReleaseRun(first.platform, first.manifest, run_id="run-2")
    run.execute(run.gates_task(run.register()))
    told = run.execute(review(run))
    assert (told["approved"], told["asked"]) == (True, False)
    assert asked.requests == []
    (decided,) = decisions(run)
    assert (decided.approved, decided.reviewer) == (True, "policy")
    assert "model" in decided.automatic
    assert run.execute(run.shadow_task())["fraction"] == 0.5


def test_a_release_that_is_current_needs_no_review(first: ReleaseRun, asked: Asked) -> None:
    first.first_release()
    again = ReleaseRun(first.platform, first.manifest, run_id="run-5")
    again.execute(again.gates_task(again.register()))
    assert again.execute(review(again))["approved"] is True
    assert asked.requests == []


def test_the_note_is_a_field_of_the_form_and_reviewers_can_be_named(second: ReleaseRun, asked: Asked) -> None:
    operator = review(second, assigned_users=[{"id": "7", "name": "Ada"}])
    assert set(operator.serialized_params) == {"note"}
    second.execute(second.gates_task(second.register()))
    with pytest.raises(TaskAwaitingInput):
        operator.execute(TaskRun("review", run_id=second.run_id).context)
    assert asked.requests[0]["assigned_users"] == [{"id": "7", "name": "Ada"}]


def test_a_pipe_in_a_change_does_not_break_the_table() -> None:
    change = Change(kind="policy", what="a|b", before="1\n2", after="")
    assert "| policy | a\\|b | 1 2 |  |" in describe(ReviewRequest(needs_person=True, changes=(change,), why="why"))


def test_a_reviewer_sees_where_the_model_comes_from_and_how_it_compares_whether_gated_or_not(
    judged: ReleaseRun, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryRegistry, "page", lambda _, run_id: f"https://mlflow.example/#/runs/{run_id}")
    park(judged)
    body = asked.requests[0]["body"]
    assert f"- release **{judged.candidate}** would replace {judged.current}" in body
    assert "- commit `0123abc`, [training run](https://mlflow.example/#/runs/" in body
    assert "- on its way: shadow of 50% → canary 5% → canary 50% → canary 100% → all requests → watched for 30m" in body
    assert "- owner: risk, oncall@example.com" in body
    state = judged.state
    assert state.current is not None and state.rollout is not None
    now, then = state.rollout.candidate.model.metrics, state.current.model.metrics
    assert len(now) > 1, "more than the one metric that is gated"
    for name, value in now.items():
        assert f"| {name} | {then[name]:.6g} | {value:.6g} |" in body
    assert "was rolled back" not in body and "was rejected" not in body


def test_a_reviewer_is_told_that_this_very_release_was_taken_back_before_and_why(
    second: ReleaseRun, asked: Asked
) -> None:
    second.to_canary()
    release = second.candidate
    fares = {"endpoint": str(PRODUCTION), "cause": "wrong fares", "hold": False}
    second.execute(RollbackOperator(task_id="roll_back", **fares))
    again = ReleaseRun(second.platform, second.manifest, run_id="run-3")
    again.execute(again.gates_task(again.register()))
    assert again.candidate == release
    park(again)
    at = next(e.recorded_at for e in second.entries if isinstance(e.event, RollbackDecided))
    assert f"- **this very release was rolled back on {at:%Y-%m-%d %H:%M} UTC, because" in asked.requests[-1]["body"]
    assert "UTC, because wrong fares**" in asked.requests[-1]["body"]
    with pytest.raises(AirflowFailException):
        complete(again, answer("Reject", note="not before the fares are mended"))
    third = ReleaseRun(second.platform, second.manifest, run_id="run-4")
    third.execute(third.gates_task(third.register()))
    park(third)
    body = asked.requests[-1]["body"]
    assert body.index("was rejected on") < body.index("was rolled back on"), "the newest first"
    assert "because review rejected by Ada: not before the fares are mended" in body


def test_a_rollout_that_nobody_opened_has_no_review_that_passes(first: ReleaseRun, asked: Asked) -> None:
    sentence, _ = failure(first, review(first))
    assert "no rollout is in progress" in sentence
    assert asked.requests == []
