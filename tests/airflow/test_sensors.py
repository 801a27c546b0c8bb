"""Sensors: they look before they defer, believe the ledger and not the event, and never soft-fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_mlpipex import (
    CanarySensor,
    EndpointHealthSensor,
    PromoteModelOperator,
    RollbackOperator,
    RolloutTrigger,
    ShadowSensor,
)
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, LedgerUnavailable
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged
from airflow_provider_mlpipex.operators.base import ROLLOUT_ID
from airflow_provider_mlpipex.sensors.rollout import RolloutSensor
from tests.airflow.release_run import PRODUCTION, ReleaseRun, TaskRun
from tests.support.stages import failed_stages

SENSORS = [ShadowSensor, CanarySensor, EndpointHealthSensor]


def shadow_watch(run: ReleaseRun, **kwargs: Any) -> ShadowSensor:
    return ShadowSensor(task_id="shadow_watch", **run.common, **kwargs)


def canary_watch(run: ReleaseRun, step: int = 0) -> CanarySensor:
    return CanarySensor(task_id=f"canary_{step}_watch", step=step, **run.common)


def watch(run: ReleaseRun) -> EndpointHealthSensor:
    return EndpointHealthSensor(task_id="watch", **run.common)


def scheduled() -> EndpointHealthSensor:
    return EndpointHealthSensor(task_id="health", endpoint=str(PRODUCTION), rollout_id="")


def context(run: ReleaseRun, sensor: RolloutSensor) -> Any:
    return TaskRun(sensor.task_id, run_id=run.run_id, try_number=2).context


def defers(run: ReleaseRun, sensor: RolloutSensor) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context(run, sensor))
    return deferred.value


def comes_back(run: ReleaseRun, sensor: RolloutSensor, event: dict[str, Any] | None) -> Any:
    return sensor.execute_complete(context(run, sensor), event)


SHADOW_PASSED = {"status": "passed", "verdict": "pass"}


def looks(run: ReleaseRun, stage: str) -> int:
    return sum(isinstance(e.event, GatesJudged) and e.event.stage == stage for e in run.entries)


def promoted(run: ReleaseRun) -> None:
    """To the rollback window of a second release."""
    run.to_canary(2)
    run.pass_canary()
    run.execute(canary_watch(run, 2))
    run.execute(run.promote_task())


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("argument", ["soft_fail", "never_fail"])
def test_none_takes_an_argument_that_would_turn_a_rollback_into_a_skip(
    sensor: type[RolloutSensor], argument: str
) -> None:
    step = {"step": 0} if sensor is CanarySensor else {}
    with pytest.raises(ConfigurationInvalid, match=argument):
        sensor(task_id="watch", endpoint=str(PRODUCTION), **step, **{argument: True})


@pytest.mark.parametrize("sensor", SENSORS)
def test_the_rollout_is_that_of_the_dag_run(sensor: type[RolloutSensor]) -> None:
    step = {"step": 0} if sensor is CanarySensor else {}
    made = sensor(task_id="watch", endpoint=str(PRODUCTION), **step)
    assert made.rollout_id == ROLLOUT_ID == "{{ dag.dag_id }}/{{ run_id }}"
    assert tuple(made.template_fields) == ("endpoint", "rollout_id")


# Before it defers.


def test_a_stage_under_way_defers_to_a_trigger_that_holds_ids_only(second: ReleaseRun) -> None:
    second.to_shadow()
    deferred = defers(second, shadow_watch(second, poke_interval=7.0))
    assert (deferred.method_name, deferred.kwargs, deferred.timeout) == ("execute_complete", None, None)
    assert isinstance(deferred.trigger, RolloutTrigger)
    _, kwargs = deferred.trigger.serialize()
    assert kwargs == {
        "mlpipex_conn_id": "mlpipex_default",
        "endpoint": str(PRODUCTION),
        "rollout_id": "run-2",
        "stage": "shadow",
        "step": -1,
        "poll_interval": 7.0,
        "give_up_after": 600.0,
        "task": {
            "dag_id": "release__fraud_scorer",
            "run_id": "run-2",
            "task_id": "shadow_watch",
            "try_number": 2,
        },
    }
    assert second.stages("shadow")[-1].outcome == "deferred"


def test_the_look_before_deferring_renews_the_lease(second: ReleaseRun) -> None:
    second.to_shadow()
    plan = second.state.planned
    assert plan is not None
    assert plan.lease_s is not None
    for _ in range(3):
        second.platform.clock.advance(plan.lease_s * 0.9)
        defers(second, shadow_watch(second))
    in_force = second.platform.plane.plan_in_force(PRODUCTION)
    assert in_force is not None
    assert in_force.id == plan.id


def test_a_stage_that_has_passed_does_not_defer(second: ReleaseRun) -> None:
    second.to_shadow()
    second.pass_shadow()
    assert second.execute(shadow_watch(second)).items() >= SHADOW_PASSED.items()
    assert second.execute(shadow_watch(second), try_number=2).items() >= SHADOW_PASSED.items()
    assert looks(second, "shadow") == 1


def test_a_stage_that_fails_at_the_first_look_is_reverted_there(second: ReleaseRun) -> None:
    before = second.current
    second.to_canary(0)
    second.traffic(seconds=5, errors=500)
    with pytest.raises(AirflowFailException) as failed:
        canary_watch(second).execute(context(second, canary_watch(second)))
    for part in ("rollout run-2", "'rolled-back'", "runbook: rolled-back"):
        assert part in str(failed.value)
    assert second.state.results["run-2"].ending == "rolled-back"
    plan = second.platform.plane.plan_in_force(PRODUCTION)
    assert plan is not None
    assert plan.weights == {before: 10_000}
    ended = second.stages("canary")[-1]
    assert ended.outcome == "failed"
    assert "rollback_cause" in ended.facts


def test_a_first_release_has_nothing_to_wait_for(first: ReleaseRun) -> None:
    first.open()
    for sensor in (shadow_watch(first), canary_watch(first)):
        assert first.execute(sensor)["status"] == "passed"
    first.execute(first.promote_task())
    assert first.execute(watch(first))["status"] == "passed"


def test_a_stage_that_has_not_begun_is_not_waited_for(second: ReleaseRun) -> None:
    second.open()
    with pytest.raises(AirflowFailException, match="run the task that begins this stage"):
        shadow_watch(second).execute(context(second, shadow_watch(second)))


def test_a_ledger_that_is_away_is_left_to_a_retry(second: ReleaseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    second.to_shadow()

    def away(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailable("ledger in memory", value="away")

    with monkeypatch.context() as patched:
        patched.setattr(second.platform.ledger, "read", away)
        patched.setattr(second.platform.ledger, "state", away)
        with pytest.raises(LedgerUnavailable):
            shadow_watch(second).execute(context(second, shadow_watch(second)))
    defers(second, shadow_watch(second))


# When it comes back.

PASSED = {"status": "passed", "verdict": "pass", "cause": "", "results": [], "rollout_id": "run-2"}
ENDED = {"status": "ended", "verdict": "fail", "cause": "made up", "results": [], "rollout_id": "run-2"}
ERROR = {"status": "error", "error": "PlaneUnavailable", "thing": "plane", "rollout_id": "run-2"}


@pytest.mark.parametrize("event", [PASSED, ENDED, ERROR, {}, None], ids=["passed", "ended", "error", "empty", "lost"])
def test_while_the_stage_is_under_way_it_waits_on_whatever_the_event_says(
    second: ReleaseRun, event: dict[str, Any] | None
) -> None:
    second.to_shadow()
    with pytest.raises(TaskDeferred):
        comes_back(second, shadow_watch(second), event)
    assert second.state.rollout is not None
    assert "rollback_cause" not in second.stages("shadow")[-1].facts


@pytest.mark.parametrize("event", [PASSED, ENDED, ERROR, {}, None], ids=["passed", "ended", "error", "empty", "lost"])
def test_when_the_stage_has_passed_it_goes_on_whatever_the_event_says(
    second: ReleaseRun, event: dict[str, Any] | None
) -> None:
    second.to_shadow()
    second.pass_shadow()
    told = comes_back(second, shadow_watch(second), event)
    assert told.items() >= SHADOW_PASSED.items()
    # The same event once more is as harmless.
    assert comes_back(second, shadow_watch(second), event) == told


def test_a_shadow_that_has_passed_hands_over_how_both_releases_answered(second: ReleaseRun) -> None:
    second.to_shadow()
    second.pass_shadow()
    handed_over = second.execute(shadow_watch(second))
    judged = next(e.event for e in reversed(second.entries) if isinstance(e.event, GatesJudged))
    assert judged.stage == "shadow"
    assert handed_over["comparison"] == judged.facts
    assert (judged.facts or {})["pairs"] > 0
    assert len(json.dumps(handed_over)) < 10_000
    assert second.stages("shadow")[-1].facts["pairs"] == handed_over["comparison"]["pairs"]


def test_a_shadow_that_was_rolled_back_leaves_the_comparison_in_log_and_ledger(second: ReleaseRun) -> None:
    second.to_shadow()
    second.traffic(seconds=300, latency_ms=500.0)
    with pytest.raises(AirflowFailException, match="runbook: rolled-back"):
        shadow_watch(second).execute(context(second, shadow_watch(second)))
    assert second.stages("shadow")[-1].facts["pairs"] > 0


@pytest.mark.parametrize("event", [PASSED, ENDED, ERROR, {}, None], ids=["passed", "ended", "error", "empty", "lost"])
def test_when_the_rollout_was_rolled_back_it_fails_whatever_the_event_says(
    second: ReleaseRun, event: dict[str, Any] | None
) -> None:
    second.to_canary(0)
    second.execute(RollbackOperator(task_id="roll_back", endpoint=str(PRODUCTION), cause="wrong fares"))
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="wrong fares"):
            comes_back(second, canary_watch(second), event)
    in_chain = failed_stages(second.platform.ledger, PRODUCTION)
    assert [(ended.stage, ended.outcome) for ended in in_chain] == [("canary", "failed")] * 2


def test_a_trial_that_the_plane_took_back_fails_the_task(second: ReleaseRun) -> None:
    second.to_canary(0)
    plan = second.state.planned
    assert plan is not None
    assert plan.lease_s is not None
    second.platform.clock.advance(plan.lease_s + 1)
    with pytest.raises(AirflowFailException, match="watcher"):
        comes_back(second, canary_watch(second), None)
    assert second.state.results["run-2"].ending == "rolled-back"


# The window after promotion, and the scheduled watch.


def test_the_window_passes_when_it_is_over(second: ReleaseRun) -> None:
    promoted(second)
    defers(second, watch(second))
    second.platform.clock.advance(31 * 60)
    assert comes_back(second, watch(second), PASSED)["status"] == "passed"
    assert second.state.rollout is None
    assert second.state.results["run-2"].ending == "promoted"


def test_a_failure_in_the_window_returns_to_the_release_before(second: ReleaseRun) -> None:
    before = second.current
    promoted(second)
    second.platform.clock.advance(61)
    second.platform.plane.serve(PRODUCTION, second.current, requests=2000, errors=500)
    second.platform.clock.advance(5)
    with pytest.raises(AirflowFailException, match="runbook: rolled-back"):
        watch(second).execute(context(second, watch(second)))
    assert second.current == before


def test_the_scheduled_watch_of_an_open_window_defers_and_carries_its_rollout(second: ReleaseRun) -> None:
    promoted(second)
    deferred = defers(second, scheduled())
    assert isinstance(deferred.trigger, RolloutTrigger)
    assert deferred.trigger.rollout_id == "run-2"
    assert deferred.trigger.stage == "watch"


def test_the_scheduled_watch_fails_when_what_it_watched_was_rolled_back(second: ReleaseRun) -> None:
    promoted(second)
    second.execute(RollbackOperator(task_id="roll_back", endpoint=str(PRODUCTION), cause="wrong fares"))
    with pytest.raises(AirflowFailException, match="wrong fares"):
        comes_back(second, scheduled(), ENDED)


def test_the_scheduled_watch_outside_a_window_alerts_and_reverts_nothing(first: ReleaseRun) -> None:
    first.first_release()
    current = first.current
    assert first.execute(scheduled())["status"] == "passed"
    first.platform.clock.advance(61)
    first.platform.plane.serve(PRODUCTION, current, requests=2000, errors=500)
    first.platform.clock.advance(5)
    with pytest.raises(AirflowFailException) as failed:
        scheduled().execute(context(first, scheduled()))
    assert "runbook: gate-failed" in str(failed.value)
    assert f"mlpipex rollback {PRODUCTION}" in str(failed.value)
    assert first.current == current
    assert first.platform.alerter.sent[-1].title == f"{PRODUCTION} unhealthy"


def test_the_scheduled_watch_that_cannot_measure_fails_as_undecided(first: ReleaseRun) -> None:
    first.first_release()
    first.platform.plane.telemetry_trouble = "the log was cut"
    with pytest.raises(AirflowFailException, match="runbook: gate-undecided"):
        scheduled().execute(context(first, scheduled()))


def test_the_scheduled_watch_of_an_endpoint_without_a_release_is_content(first: ReleaseRun) -> None:
    assert first.execute(scheduled())["status"] == "passed"


def test_promotion_after_a_lost_watch_is_still_the_ledgers_to_decide(second: ReleaseRun) -> None:
    """Somebody marks the waiting task as successful: the next stage asks for the verdict all the same."""
    second.to_canary(2)
    with pytest.raises(AirflowFailException, match="canary-2"):
        PromoteModelOperator(task_id="promote", **second.common).execute(TaskRun("promote", run_id="run-2").context)
