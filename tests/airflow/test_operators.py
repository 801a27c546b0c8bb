"""Operators on fakes: what they leave in XCom and ledger, what fails a task at once, and what is left to a retry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

import pytest
from airflow.sdk.exceptions import AirflowFailException

import airflow_provider_mlpipex as public
from airflow_provider_mlpipex import (
    CanaryDeployOperator,
    CanarySensor,
    DeploymentReviewOperator,
    DriftCheckOperator,
    DriftSensor,
    GateCheckOperator,
    IngestOutcomesOperator,
    PromoteModelOperator,
    RegisterModelOperator,
    RollbackDrillOperator,
    RollbackOperator,
    ScoreBatchOperator,
    ShadowSensor,
)
from airflow_provider_mlpipex.domain.errors import (
    ConfigurationInvalid,
    InvariantBroken,
    PlaneUnavailable,
    ReleaseNotReady,
)
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import StageEnded, StageName
from airflow_provider_mlpipex.operators.base import ManifestOperator
from airflow_provider_mlpipex.services.rollout import drill as drills
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.airflow.release_run import PRODUCTION, ReleaseRun, TaskRun, failure
from tests.support.acme import manifest_text
from tests.support.rollouts import World
from tests.support.stages import stage_records

#: XCom is kept in Airflow's database: results are pointers and numbers, not data.
XCOM_LIMIT_BYTES = 8_000
#: A standing watch looks at every endpoint, and what it finds of one is told by that endpoint's stage.
WITHOUT_STAGE = {"StandingWatchOperator"}
STAGED = [name for name in public.__all__ if name.endswith(("Operator", "Sensor")) and name not in WITHOUT_STAGE]


@pytest.mark.parametrize("name", STAGED)
def test_each_belongs_to_a_stage_and_its_template_fields_are_its_own(name: str) -> None:
    operator = getattr(public, name)
    assert operator.stage_name in get_args(StageName)
    required: dict[str, dict[str, Any]] = {
        "CanaryDeployOperator": {"step": 0},
        "CanarySensor": {"step": 0},
        "GateCheckOperator": {"environment": "production", "registered": {}},
        "IngestOutcomesOperator": {"path": "labels.parquet"},
        "QualityCheckOperator": {
            "path": "orders.parquet",
            "expectations": [{"expect": "column_values_to_not_be_null", "column": "id"}],
        },
        "ScoreBatchOperator": {"path": "payments.parquet", "output_path": "scores.parquet"},
        "TrainModelOperator": {"snapshot": {}},
    }
    where = {"manifest": "m.yaml"} if issubclass(operator, ManifestOperator) else {"endpoint": str(PRODUCTION)}
    made = operator(task_id="task", **where, **required.get(name, {}))
    assert made.mlpipex_conn_id == "mlpipex_default"
    for field in made.template_fields:
        assert hasattr(made, field)
    # A path with a template extension would be read as a template and replaced by its text.
    assert not made.template_ext


def test_every_operator_and_sensor_leaves_a_small_json_dict_behind(second: ReleaseRun) -> None:
    results = {
        "snapshot": (snapshot := second.snapshot()),
        "train": (trained := second.train(snapshot)),
        "register": (
            registered := second.execute(
                RegisterModelOperator(task_id="register", manifest=str(second.manifest), trained=trained)
            )
        ),
        "gates": second.execute(second.gates_task(registered)),
    }
    second.approve()
    results["shadow"] = second.execute(second.shadow_task())
    for name, result in results.items():
        assert isinstance(result, dict), name
        assert len(json.dumps(result)) < XCOM_LIMIT_BYTES, name


# Traffic.


def test_a_first_release_has_nothing_to_shadow_nor_to_step(first: ReleaseRun) -> None:
    first.open()
    assert first.execute(first.shadow_task()) == {"mirrored_to": None, "fraction": 0.0}
    assert first.execute(first.canary_task(0))["weights"] == {}
    told = first.execute(first.promote_task())
    assert (told["current"], told["previous"]) == (first.current, None)


def test_shadow_canary_and_promotion_twice_are_as_once(second: ReleaseRun) -> None:
    second.open()
    candidate, current = second.candidate, second.current
    told = second.execute(second.shadow_task())
    assert told == {"mirrored_to": candidate, "fraction": 0.5}
    assert second.execute(second.shadow_task(), try_number=2) == told

    second.pass_shadow()
    second.execute(public.ShadowSensor(task_id="shadow_watch", **second.common))
    for step, weight in enumerate((500, 5000, 9_500)):
        told = second.execute(second.canary_task(step))
        rest = {current: 10_000 - weight} if weight < 10_000 else {}
        assert told == {"step": step, "weights": {candidate: weight, **rest}}
        applied = len(second.platform.plane.applied)
        assert second.execute(second.canary_task(step), try_number=2) == told
        assert len(second.platform.plane.applied) == applied
        second.pass_canary()
        second.execute(public.CanarySensor(task_id="watch", step=step, **second.common))
    told = second.execute(second.promote_task())
    assert told == {"current": candidate, "previous": current}
    assert second.execute(second.promote_task(), try_number=2) == told
    assert second.platform.registry.aliases["fraud-scorer"]["production"] == candidate.partition("-")[0]


def test_a_step_whose_predecessor_has_not_passed_is_refused(second: ReleaseRun) -> None:
    second.to_canary(0)
    sentence, _ = failure(second, second.canary_task(1))
    assert "canary-0" in sentence
    assert "verdict pass" in sentence


def test_promotion_without_the_verdicts_is_refused(second: ReleaseRun) -> None:
    second.to_canary(0)
    sentence, _ = failure(second, second.promote_task())
    assert "runbook: gate-undecided" in sentence
    assert second.state.current is not None
    assert second.state.current.model.version == "1.0.0"


def test_a_plane_that_is_away_is_left_to_a_retry_and_the_retry_goes_on(second: ReleaseRun) -> None:
    second.open()
    second.platform.plane.away = True
    operator = second.shadow_task()
    with pytest.raises(PlaneUnavailable):
        operator.execute(TaskRun("shadow", run_id=second.run_id).context)
    second.platform.plane.away = False
    assert second.execute(operator, try_number=2)["mirrored_to"] == second.candidate
    assert [stage.outcome for stage in second.stages("shadow")][-2:] == ["failed", "succeeded"]


def test_a_candidate_that_will_not_run_ends_its_rollout_before_any_traffic(second: ReleaseRun) -> None:
    second.open()
    second.platform.plane.break_release(second.candidate, ReleaseNotReady("release", value="exit code 1"))
    sentence, _ = failure(second, second.shadow_task())
    assert "exit code 1" in sentence
    assert second.state.rollout is None
    assert second.state.results["run-2"].ending == "rejected"


def test_a_release_that_dies_under_its_traffic_is_not_called_promoted(
    first: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.open()
    plane = first.platform.plane
    apply = plane.apply

    def apply_and_die(plan: Any, **given: Any) -> Any:
        applied = apply(plan, **given)
        plane.break_release(plan.current, ReleaseNotReady("release", value="killed"))
        return applied

    monkeypatch.setattr(plane, "apply", apply_and_die)
    with pytest.raises(InvariantBroken, match="every release with traffic is ready"):
        first.promote_task().execute(TaskRun("promote", run_id=first.run_id).context)
    assert first.stages("promote")[-1].outcome == "failed"
    plane.mend_release(first.current)
    assert first.execute(first.promote_task(), try_number=2)["current"] == first.current


# Rollback.


def test_rollback_returns_to_the_release_before_and_tells_on_call(second: ReleaseRun) -> None:
    before = second.current
    second.to_canary(0)
    operator = RollbackOperator(task_id="roll_back", endpoint=str(PRODUCTION), cause="wrong fares")
    told = second.execute(operator)
    done = f"rollout run-2 rolled back; {PRODUCTION} serves {before} as before"
    assert told["done"].startswith(f"{done}; held back until mlpipex resume {PRODUCTION}: ")
    assert (told["rolled_back"], told["current"], told["not_notified"]) == (True, before, [])
    assert told["notified"] == ["channel on-call, receiver 1 of 1 (memory)"]
    assert second.state.results["run-2"].cause == "wrong fares"
    plan = second.platform.plane.plan_in_force(PRODUCTION)
    assert plan is not None
    assert plan.weights == {before: 10_000}
    # Whom the first try has notified is said by the one that finds it done.
    assert second.execute(operator, try_number=2)["notified"] == told["notified"]
    assert [alert.body for alert in second.platform.alerter.sent] == ["wrong fares"]


def test_rollback_says_what_it_did_and_a_retry_that_nothing_was_left(second: ReleaseRun) -> None:
    before = second.current
    second.open()
    operator = RollbackOperator(task_id="roll_back", endpoint=str(PRODUCTION))
    told = second.execute(operator)
    assert told["done"].startswith(f"rollout run-2 rejected; {PRODUCTION} serves {before} as before")
    assert told["rolled_back"] is True
    again = second.execute(operator, try_number=2)
    assert again["done"].startswith(f"nothing was left to undo; {PRODUCTION} serves {before} as before; ")
    assert again["rolled_back"] is False
    assert second.stages("rollback")[-1].outcome == "skipped"
    assert [e.event.type for e in second.entries].count("rollout-rejected") == 1


@pytest.mark.parametrize(("hold", "held"), [(True, True), ("True", True), ("False", False), (False, False)])
def test_the_form_says_whether_a_rollback_holds(second: ReleaseRun, hold: bool | str, held: bool) -> None:
    """A form's answer comes as the text that a template makes of it."""
    second.to_canary(0)
    second.execute(RollbackOperator(task_id="roll_back", endpoint=str(PRODUCTION), hold=hold))
    assert (second.state.held_back is not None) == held


def test_a_hold_that_is_neither_yes_nor_no_takes_nothing_back(second: ReleaseRun) -> None:
    second.to_canary(0)
    sentence, _ = failure(second, RollbackOperator(task_id="roll_back", endpoint=str(PRODUCTION), hold="maybe"))
    assert "true or false" in sentence
    assert second.state.rollback is None and second.state.rollout is not None


def test_a_drill_goes_there_and_back_and_says_how_long_it_took(
    first: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = World().manifest.to_json()
    raw["environments"]["production"]["drills"] = {"allowed": True}
    world = World(memory=first.platform, manifest=Manifest.model_validate(raw))
    world.bring("run-1", "1.0.0", to="promoted")
    world.bring("run-2", "1.1.0", to="promoted")
    before = world.state
    assert before.previous is not None
    monkeypatch.setattr(drills, "drill", partial(drills.drill, wait=world.clock.advance))
    operator = RollbackDrillOperator(task_id="drill", endpoint=str(PRODUCTION), reason="Tuesday")
    ended = first.execute(operator)
    assert ended == {"ok": True, "back_ms": 0.0, "forth_ms": 0.0, "requests": 0, "failed_requests": 0}
    assert (world.state.current, world.state.previous) == (before.current, before.previous)
    first.platform.plane.break_release(before.previous.id, ReleaseNotReady("server", value="out of memory"))
    with pytest.raises(InvariantBroken, match="out of memory"):
        first.execute(operator)


def test_rollback_of_a_release_that_does_not_serve_takes_no_other_away(second: ReleaseRun) -> None:
    current = second.current
    guard = {"endpoint": str(PRODUCTION), "cause": "wrong fares"}
    told = second.execute(RollbackOperator(task_id="roll_back", release="9.9.9-rt1.0.0-0123abcd", **guard))
    assert (told["rolled_back"], told["current"]) == (False, current)
    assert second.current == current


def test_rollback_needs_no_registry(second: ReleaseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    second.to_canary(0)

    class Away:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the registry was asked for {name}")

    object.__setattr__(second.platform, "registry", Away())
    assert second.execute(RollbackOperator(task_id="roll_back", endpoint=str(PRODUCTION)))["rolled_back"]


def test_rollback_with_nothing_to_return_to_fails_for_good(first: ReleaseRun) -> None:
    sentence, _ = failure(first, RollbackOperator(task_id="roll_back", endpoint=str(PRODUCTION)))
    assert "runbook: illegal-transition" in sentence


def teardown(run: ReleaseRun) -> RollbackOperator:
    return RollbackOperator(task_id="end_trial", cause="the Dag run failed", only_open=True, **run.common)


def test_the_teardown_ends_a_trial(second: ReleaseRun) -> None:
    before = second.current
    second.to_canary(0)
    ended = second.execute(teardown(second))
    assert (ended["rolled_back"], ended["current"]) == (True, before)
    assert (ended["notified"], ended["not_notified"]) == (["channel on-call, receiver 1 of 1 (memory)"], [])
    assert second.execute(teardown(second), try_number=2) == {"rolled_back": False}
    assert second.state.results["run-2"].cause == "the Dag run failed"


def test_the_teardown_leaves_a_promotion_alone(first: ReleaseRun) -> None:
    first.first_release()
    assert first.execute(teardown(first)) == {"rolled_back": False}
    assert first.stages("rollback")[-1].outcome == "skipped"
    assert first.state.current is not None


def test_the_teardown_of_a_run_that_never_began_here_is_nothing(second: ReleaseRun) -> None:
    assert second.execute(teardown(second)) == {"rolled_back": False}
    assert second.state.current is not None


def test_the_teardown_does_not_end_the_rollout_of_another_run(second: ReleaseRun) -> None:
    second.to_canary(0)
    other = ReleaseRun(second.platform, second.manifest, run_id="run-3")
    assert other.execute(teardown(other)) == {"rolled_back": False}
    assert second.state.rollout is not None


# The stage envelope.


def test_every_stage_is_written_down_with_dag_run_task_and_try(second: ReleaseRun) -> None:
    second.open()
    second.execute(second.shadow_task(), try_number=3)
    records = stage_records(second.platform.ledger, PRODUCTION)
    written = [record for record in records if record.origin.run_id == "run-2"]
    last = written[-1]
    assert isinstance(last.event, StageEnded)
    assert (last.event.stage, last.event.outcome) == ("shadow", "succeeded")
    origin = last.origin
    assert (origin.kind, origin.dag_id) == ("task", "release__fraud_scorer")
    assert (origin.task_id, origin.try_number) == ("shadow", 3)


def test_a_failure_is_written_down_with_its_parts(first: ReleaseRun) -> None:
    first.manifest.write_text(manifest_text(("accuracy at least 60%", "accuracy at least 99.99%")), encoding="utf-8")
    operator: GateCheckOperator = first.gates_task(first.register(), "staging")
    failure(first, operator)
    entries = first.platform.ledger.read(EndpointRef.parse("staging/fraud-scorer"))
    ended = [e.event for e in entries if isinstance(e.event, StageEnded) and e.event.stage == "gate"]
    assert ended[-1].outcome == "failed"
    assert ended[-1].error is not None
    assert ended[-1].error["runbook"] == "gate-failed"


class Lines:
    """A log that keeps event names and fields."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, Any]]] = []

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))

    warning = error = info


def test_the_log_has_event_names_and_fields_not_sentences(second: ReleaseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = second.register()
    log = Lines()
    monkeypatch.setattr(GateCheckOperator, "log", log)
    second.execute(second.gates_task(registered))
    # Airflow itself grumbles that no task runner calls execute here.
    lines = [(event, facts) for event, facts in log.lines if "outside of the Task Runner" not in event]
    assert [event for event, _ in lines] == ["stage started", "gate judged", "stage ended"]
    judged, ended = lines[1][1], lines[2][1]
    assert {"gate", "verdict", "observed", "threshold", "margin", "samples"} <= judged.keys()
    assert (ended["stage"], ended["outcome"], ended["endpoint"]) == ("gate", "succeeded", str(PRODUCTION))


def test_an_endpoint_that_is_none_fails_before_anything_is_asked(fakes: MemoryPlatform) -> None:
    operator = PromoteModelOperator(task_id="promote", endpoint="{{ params.endpoint }}", rollout_id="run-1")
    operator.endpoint = "Production"  # as rendered
    with pytest.raises(AirflowFailException, match="environment/name"):
        operator.execute(TaskRun("promote").context)
    assert fakes.ledger.endpoints() == []


@pytest.mark.parametrize("endpoint", ["Production", "production/", "production/Fraud", "", None])
@pytest.mark.parametrize(
    "make",
    [
        PromoteModelOperator,
        DeploymentReviewOperator,
        RollbackOperator,
        ShadowSensor,
        DriftCheckOperator,
        DriftSensor,
        partial(CanarySensor, step=0),
        partial(ScoreBatchOperator, output_path="answers.parquet", path="rows.parquet"),
        partial(IngestOutcomesOperator, path="labels.parquet"),
    ],
)
def test_an_endpoint_that_can_be_none_is_refused_when_the_dag_is_parsed(make: Any, endpoint: Any) -> None:
    with pytest.raises(ConfigurationInvalid, match="task, endpoint .*correct the Dag file"):
        make(task_id="task", endpoint=endpoint)


@pytest.mark.parametrize("step", [-1, 1.0, True, "0", None])
@pytest.mark.parametrize("make", [CanaryDeployOperator, CanarySensor])
def test_a_step_that_counts_none_is_refused_when_the_dag_is_parsed(make: Any, step: Any) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"task, step .*canary\.steps, from 0"):
        make(task_id="task", endpoint="production/fraud-scorer", step=step)
