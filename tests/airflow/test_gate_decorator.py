"""``@task.gate``: a team's own measurement, judged and recorded like any other gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_mlpipex import release_tasks, training_tasks
from airflow_provider_mlpipex.decorators.gate import GateDecoratedOperator
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, MlpipexError
from airflow_provider_mlpipex.domain.rollout.events import StageEnded, TaskGateJudged
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.airflow.release_run import PRODUCTION, TaskRun
from tests.support.stages import stage_ends

GATES = ["auc at least 70% from at least 1000 rows"]


def gate(measure: Callable[..., Any], gates: Any = GATES, **kwargs: Any) -> GateDecoratedOperator:
    """The operator that a Dag file gets from ``@task.gate`` on ``measure``."""
    with DAG("judge", schedule=None):
        made: Any = task.gate(endpoint=str(PRODUCTION), gates=gates, **kwargs)(measure)()
    operator = made.operator
    assert isinstance(operator, GateDecoratedOperator)
    return operator


def judge(measured: Any, gates: Any = GATES) -> tuple[Any, TaskRun]:
    run = TaskRun("measure")
    return gate(lambda: measured, gates, task_id="measure").execute(run.context), run


def parsed(measured: Any = None, gates: Any = GATES, **kwargs: Any) -> str:
    """What a Dag file is refused with when it is parsed."""
    with pytest.raises(MlpipexError) as refusal:
        gate(lambda: measured, gates, task_id="measure", **kwargs)
    return str(refusal.value)


def refused(measured: Any, gates: Any = GATES) -> tuple[str, TaskRun]:
    run = TaskRun("measure")
    with pytest.raises(AirflowFailException) as failed:
        gate(lambda: measured, gates, task_id="measure").execute(run.context)
    return str(failed.value), run


def ended(fakes: MemoryPlatform) -> StageEnded:
    return stage_ends(fakes.ledger, PRODUCTION)[-1]


def test_what_passes_goes_on_and_is_written_down(fakes: MemoryPlatform) -> None:
    result, run = judge({"auc": 0.8, "samples": 2000})
    assert result["verdict"] == "pass"
    (kept,) = run.xcoms["gates"]
    assert (kept["verdict"], kept["evidence"]["value"], kept["evidence"]["samples"]) == ("pass", 0.8, 2000)
    assert (ended(fakes).stage, ended(fakes).outcome, ended(fakes).facts["verdict"]) == ("gate", "succeeded", "pass")
    assert recorded(fakes) == [("measure", "pass")]


def recorded(fakes: MemoryPlatform) -> list[tuple[str, str]]:
    """Task and verdict of every gate of the Dag's own, as the ledger has them."""
    events = [entry.event for entry in fakes.ledger.read(PRODUCTION)]
    return [(event.gate, event.verdict) for event in events if isinstance(event, TaskGateJudged)]


@pytest.mark.parametrize(
    ("measured", "verdict", "runbook"),
    [
        pytest.param({"auc": 0.6, "samples": 2000}, "fail", "gate-failed", id="too low"),
        pytest.param({"auc": 0.8, "samples": 10}, "inconclusive", "gate-undecided", id="too few"),
        pytest.param({"auc": 0.8}, "inconclusive", "gate-undecided", id="how many is not said"),
        pytest.param({"accuracy": 0.8, "samples": 2000}, "inconclusive", "gate-undecided", id="something else"),
        pytest.param({}, "inconclusive", "gate-undecided", id="nothing"),
        pytest.param(None, "inconclusive", "gate-undecided", id="None"),
        pytest.param({"auc": "good", "samples": 2000}, "error", "gate-undecided", id="no number"),
        pytest.param({"auc": float("nan"), "samples": 2000}, "error", "gate-undecided", id="not a number"),
        pytest.param({"auc": 0.8, "samples": "many"}, "error", "gate-undecided", id="no count"),
        pytest.param({"auc": True, "samples": 2000}, "error", "gate-undecided", id="a flag"),
        pytest.param(0.8, "error", "gate-undecided", id="a bare number"),
        pytest.param({"auc": {"value": 0.8, "sample": 9}}, "error", "gate-undecided", id="an unknown field"),
        pytest.param({"auc": {"broken": "the lake is away"}}, "error", "gate-undecided", id="said to be broken"),
    ],
)
def test_everything_else_stops(fakes: MemoryPlatform, measured: Any, verdict: str, runbook: str) -> None:
    sentence, run = refused(measured)
    assert f"runbook: {runbook}" in sentence
    (kept,) = run.xcoms["gates"]
    assert kept["verdict"] == verdict
    assert kept["reason"] in sentence
    assert ended(fakes).outcome == "failed"
    assert recorded(fakes) == [("measure", verdict)]


@pytest.mark.usefixtures("fakes")
def test_a_number_that_rests_on_nothing_passes_no_gate() -> None:
    sentence, run = refused({"auc": 0.8}, ["auc at least 70%"])
    assert run.xcoms["gates"][0]["verdict"] == "inconclusive"
    assert "0 samples, at least 1 needed" in sentence


def test_evidence_may_be_given_with_its_baseline(fakes: MemoryPlatform) -> None:
    relative = [{"name": "no-worse", "metric": "evaluation.auc", "within": "1%"}]
    good = {"evaluation.auc": {"value": 0.8, "samples": 50, "baseline": 0.805, "baseline_samples": 50}}
    assert judge(good, relative)[0] == {"verdict": "pass", "gates": ["no-worse"]}
    worse = {"evaluation.auc": {"value": 0.7, "samples": 50, "baseline": 0.805, "baseline_samples": 50}}
    assert "runbook: gate-failed" in refused(worse, relative)[0]


@pytest.mark.usefixtures("fakes")
def test_an_advisory_gate_stops_nothing_but_is_kept() -> None:
    gates = [*GATES, {"name": "calibrated", "metric": "evaluation.brier", "max": 0.1, "advisory": True}]
    result, run = judge({"auc": 0.8, "brier": 0.3, "samples": 2000}, gates)
    assert result["verdict"] == "pass"
    assert {kept["gate"]: kept["verdict"] for kept in run.xcoms["gates"]}["calibrated"] == "fail"


@pytest.mark.parametrize(
    ("gates", "part"),
    [
        (["auc should be nice"], "0"),
        ([{"name": "x", "metric": "evaluation.auc"}], "exactly one of"),
        ([], "no gates"),
        ([{"name": "x", "metric": "evaluation.auc", "min": 0.7, "advisory": True}], "only advisory gates"),
    ],
)
def test_gates_that_cannot_be_read_or_have_no_say_are_refused_when_the_dag_is_parsed(gates: Any, part: str) -> None:
    sentence = parsed(gates=gates)
    assert "@task.gate measure" in sentence
    assert part in sentence
    assert "runbook: manifest-invalid" in sentence


@pytest.mark.usefixtures("fakes")
def test_gates_that_are_a_template_are_read_when_the_task_runs() -> None:
    operator = gate(lambda: {"auc": 0.8, "samples": 2000}, ["{{ params.gate }}"], task_id="measure")
    operator.gates = GATES  # as rendered
    assert operator.execute(TaskRun("measure").context)["verdict"] == "pass"
    operator.gates = ["auc should be nice"]
    with pytest.raises(AirflowFailException, match="manifest-invalid"):
        operator.execute(TaskRun("measure").context)


@pytest.mark.parametrize("endpoint", ["production", "Production/fraud", "production/fraud scorer", "", None, 7])
def test_an_endpoint_that_can_be_none_is_refused_when_the_dag_is_parsed(endpoint: Any) -> None:
    with DAG("judge", schedule=None), pytest.raises(ConfigurationInvalid, match="measure, endpoint"):
        task.gate(endpoint=endpoint, gates=GATES)(lambda: None).override(task_id="measure")()


def test_a_gate_cannot_be_mapped_in_a_dag_that_releases(manifest: Path) -> None:
    with DAG("judge", schedule=None):

        @task.gate(endpoint=str(PRODUCTION), gates=GATES)
        def measure(country: str) -> dict[str, float]:
            return {"auc": 0.8, "samples": 2000}

        measure.expand(country=["de", "fr"])
        with pytest.raises(ConfigurationInvalid, match="gate measure .* 'a mapped task'"):
            release_tasks(str(manifest), registered=training_tasks(str(manifest)))


def test_a_gate_in_a_mapped_group_is_refused_when_it_runs(fakes: MemoryPlatform) -> None:
    run = TaskRun("measure", map_index=1)
    with pytest.raises(AirflowFailException, match="measure every slice in one task"):
        gate(lambda: {"auc": 0.8, "samples": 2000}, task_id="measure").execute(run.context)
    assert recorded(fakes) == []


def test_a_function_that_raises_is_written_down_and_left_to_a_retry(fakes: MemoryPlatform) -> None:
    def measure() -> None:
        raise ConnectionError("the lake is away")

    with pytest.raises(ConnectionError):
        gate(measure).execute(TaskRun("measure").context)
    assert (ended(fakes).outcome, ended(fakes).facts["error_class"]) == ("failed", "ConnectionError")


@pytest.mark.usefixtures("fakes")
def test_a_gate_task_takes_arguments_like_any_task() -> None:
    with DAG("judge", schedule=None) as dag:

        @task
        def count() -> int:
            return 2000

        @task.gate(endpoint=str(PRODUCTION), gates=GATES)
        def measure(samples: int, *, auc: float) -> dict[str, float]:
            return {"auc": auc, "samples": samples}

        measure(count(), auc=0.8)
    assert dag.get_task("measure").upstream_task_ids == {"count"}
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert read.get_task("measure").upstream_task_ids == {"count"}
    operator: Any = dag.get_task("measure")
    operator.op_args = [2000]  # as it is rendered before the task runs
    assert operator.execute(TaskRun("measure").context)["verdict"] == "pass"
    assert {"endpoint", "gates", "op_args", "op_kwargs"} <= set(operator.template_fields)
