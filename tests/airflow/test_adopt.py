"""From a model that another pipeline logged to a release, by the operators, on fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_mlpipex import CanarySensor, RegisterModelOperator, training_tasks
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged, ReviewOpened, RolloutOpened
from airflow_provider_mlpipex.services.rollout.review import open_review
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.airflow.release_run import PRODUCTION, ReleaseRun, failure
from tests.support.plain_mlflow import payments, save_lightgbm

MANIFEST = """\
apiVersion: mlpipex/v1
kind: Deployment
name: fraud-scorer
owner: {team: risk, contact: oncall@example.com}
model: {adopt: models:/fraud@champion}
evaluation: {file: holdout.csv, task: binary, target: fraud}
runtime: {version: 1.0.0, environment: provider}
traffic: {expected_rate: 100/s}
environments:
  production:
    provenance: recorded-as-missing
    gates: [accuracy at least 60%]
    canary: {steps: [10%, 100%], step_duration: 15m, gates: [error rate at most 1%]}
    rollback: {window: 30m, gates: [error rate at most 1%]}
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("mlflow")
    return {
        "models:/fraud/7": save_lightgbm(folder / "7"),
        "models:/fraud/8": save_lightgbm(folder / "8", trees=30),
        "models:/fraud@champion": "models:/fraud/7",
    }


@pytest.fixture
def run(fakes: MemoryPlatform, tmp_path: Path, saved: dict[str, Any]) -> ReleaseRun:
    fakes.registry.elsewhere |= saved
    payments(seed=2).to_csv(tmp_path / "holdout.csv", index=False)
    (tmp_path / "fraud.yaml").write_text(MANIFEST, encoding="utf-8")
    return ReleaseRun(fakes, tmp_path / "fraud.yaml")


def edit(run: ReleaseRun, before: str, after: str) -> None:
    text = run.manifest.read_text(encoding="utf-8")
    assert before in text
    run.manifest.write_text(text.replace(before, after), encoding="utf-8")


def register(run: ReleaseRun, **kwargs: Any) -> Any:
    return run.execute(RegisterModelOperator(task_id="register", manifest=str(run.manifest), **kwargs))


def test_an_adopted_model_is_released_and_the_ledger_says_what_it_is(run: ReleaseRun) -> None:
    registered = register(run)
    assert (registered["model"], registered["version"], registered["bump"]) == (
        "fraud-scorer-adopted",
        "7.0.0",
        "adopted",
    )
    run.execute(run.gates_task(registered))
    run.approve()
    run.execute(run.promote_task())
    assert run.current.startswith("7.0.0-rt1.0.0-")
    (opened,) = [e.event for e in run.entries if isinstance(e.event, RolloutOpened)]
    adopted = opened.release.model.adopted
    assert adopted is not None
    assert (adopted.source, adopted.missing) == ("models:/fraud/7", ("training-data", "code-version", "configuration"))


def test_an_alias_that_moved_opens_a_review_and_goes_through_its_canary(run: ReleaseRun) -> None:
    run.execute(run.gates_task(register(run)))
    run.approve()
    run.execute(run.promote_task())
    run.platform.registry.elsewhere["models:/fraud@champion"] = "models:/fraud/8"
    second = ReleaseRun(run.platform, run.manifest, run_id="run-2")
    assert register(second)["version"] == "8.0.0"
    assert second.current.startswith("7.0.0-"), "registering changes nothing that serves"
    second.execute(second.gates_task(register(second)))
    asked = open_review(run.platform, endpoint=PRODUCTION, rollout_id="run-2")
    assert asked.needs_person, "the manifest has no review block, and the alias can be moved by anybody"
    assert [change.what for change in asked.changes if change.kind == "model"] == ["model fraud-scorer-adopted"]
    message, _ = failure(second, second.canary_task(0))
    assert "not approved" in message
    second.approve()
    for step in (0, 1):
        second.execute(second.canary_task(step))
        second.traffic(seconds=16 * 60)
        second.execute(CanarySensor(task_id=f"watch_{step}", step=step, **second.common))
    second.execute(second.promote_task())
    assert second.current.startswith("8.0.0-")
    assert [e.event for e in second.entries if isinstance(e.event, ReviewOpened)]


def test_the_same_alias_again_is_already_current(run: ReleaseRun) -> None:
    run.execute(run.gates_task(register(run)))
    run.approve()
    run.execute(run.promote_task())
    again = ReleaseRun(run.platform, run.manifest, run_id="run-2")
    registered = register(again)
    assert registered["bump"] == "none"
    assert again.execute(again.gates_task(registered))["already_current"]


def test_where_provenance_is_required_it_is_refused_with_what_is_missing(run: ReleaseRun) -> None:
    edit(run, "    provenance: recorded-as-missing\n", "")
    message, task = failure(run, run.gates_task(register(run)))
    assert "nobody knows its training-data, code-version, configuration" in message
    assert "provenance: recorded-as-missing" in message
    (result,) = [gate for gate in task.xcoms["gates"] if gate["gate"] == "provenance"]
    assert (result["verdict"], result["advisory"]) == ("fail", False)
    assert run.state.rollout is None and run.state.current is None


def test_what_is_missing_is_written_down_where_it_stops_nothing(run: ReleaseRun) -> None:
    run.execute(run.gates_task(register(run)))
    (judged,) = [e.event for e in run.entries if isinstance(e.event, GatesJudged)]
    (result,) = [each for each in judged.results if each.gate == "provenance"]
    assert (judged.verdict, result.verdict, result.advisory) == ("pass", "fail", True)


def test_a_pinned_adopted_version_is_judged_by_its_provenance_too(run: ReleaseRun) -> None:
    register(run)
    edit(run, "{adopt: models:/fraud@champion}", "{name: fraud-scorer-adopted, version: 7.0.0}")
    edit(
        run,
        "evaluation: {file: holdout.csv, task: binary, target: fraud}\n",
        "features: {columns: [amount, country, age]}\n",
    )
    edit(run, "    provenance: recorded-as-missing\n", "")
    message, _ = failure(run, run.gates_task(register(run)))
    assert "nobody knows its training-data" in message


def test_the_operator_may_say_what_is_adopted(run: ReleaseRun) -> None:
    assert register(run, adopt="models:/fraud/8")["version"] == "8.0.0"


def test_trained_and_adopted_is_a_slip_in_the_dag_file(run: ReleaseRun) -> None:
    with pytest.raises(ConfigurationInvalid, match="either trained or adopted"):
        RegisterModelOperator(task_id="register", manifest=str(run.manifest), trained={}, adopt="models:/fraud/8")


def test_rows_that_are_gone_are_told(run: ReleaseRun) -> None:
    (run.manifest.parent / "holdout.csv").unlink()
    with pytest.raises(Exception, match=r"evaluation\.file"):
        register(run)


def test_nothing_is_trained_so_the_dag_has_one_task(run: ReleaseRun) -> None:
    from airflow.sdk import DAG

    with DAG("adopting", schedule=None) as dag:
        training_tasks(str(run.manifest))
    assert list(dag.task_dict) == ["model.register"]


def test_gates_on_the_metrics_of_the_adopted_model_decide(run: ReleaseRun) -> None:
    edit(run, "accuracy at least 60%", "accuracy at least 99.9%")
    with pytest.raises(AirflowFailException, match="accuracy-min fail: observed"):
        run.execute(run.gates_task(register(run)))


QUALITY = """\
quality:
  snapshot: [{expect: column_values_to_be_between, column: amount, min_value: 0}]
  features: [{expect: column_values_to_not_be_null, column: country}]
environments:
"""
BROKEN = BrokenExpectation(
    expectation="column_values_to_be_between", column="amount", expected="min_value=0", observed="-3"
)


def test_the_rows_are_judged_before_anything_is_registered(run: ReleaseRun) -> None:
    edit(run, "environments:\n", QUALITY)
    run.platform.validator.broken = (BROKEN,)
    operator = RegisterModelOperator(task_id="register", manifest=str(run.manifest))
    sentence, task = failure(run, operator)
    assert "rows that fraud-scorer-adopted is proven on" in sentence and "amount" in sentence
    assert "nothing was registered" in sentence and "runbook: data-quality-failed" in sentence
    assert task.xcoms["quality"]["broken"][0]["column"] == "amount"
    assert run.platform.registry.versions("fraud-scorer-adopted") == []


def test_a_model_that_is_known_is_judged_by_what_is_expected_today(run: ReleaseRun) -> None:
    assert register(run)["bump"] == "adopted"
    edit(run, "environments:\n", QUALITY)
    run.platform.validator.broken = (BROKEN,)
    sentence, _ = failure(run, RegisterModelOperator(task_id="register", manifest=str(run.manifest)))
    assert "runbook: data-quality-failed" in sentence
    run.platform.validator.broken = ()
    assert register(run)["bump"] == "none"
