"""Operators before any traffic: snapshot, training, registration, and the offline gates."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator

from airflow_provider_mlpipex import (
    RegisterModelOperator,
    SnapshotDatasetOperator,
    training_tasks,
)
from airflow_provider_mlpipex.domain.errors import RegistrationRefused
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation
from tests.airflow.release_run import ReleaseRun, TaskRun, failure
from tests.support import acme
from tests.support.acme import manifest_text
from tests.support.stages import failed_stages

# From data to a registered model.


def test_snapshot_tells_digest_rows_and_the_manifest_it_followed(first: ReleaseRun) -> None:
    told = first.snapshot()
    assert told["snapshot"]["rows"] == 90 * 24
    assert told["snapshot"]["window_end"] == "2026-03-01T00:00:00Z"
    assert told["expectations"] == 1
    assert first.snapshot() == told


def test_data_that_breaks_an_expectation_is_not_kept_and_says_what_is_wrong(first: ReleaseRun) -> None:
    first.platform.validator.broken = (
        BrokenExpectation(
            expectation="column_values_to_not_be_null",
            column="amount",
            expected="mostly 0.99",
            observed="40 % null",
        ),
    )
    operator = SnapshotDatasetOperator(task_id="snapshot", manifest=str(first.manifest), as_of="2026-03-01")
    sentence, task = failure(first, operator)
    for part in ("amount", "40 % null", "all 1 expectations", "do: ", "runbook: data-quality-failed"):
        assert part in sentence
    assert task.xcoms["refused"]["error"] == "DataQualityFailed"
    assert first.platform.snapshots.tables == {}


@pytest.mark.parametrize("as_of", ["tomorrow", "2026-13-01"])
def test_a_moment_that_is_none_is_named(first: ReleaseRun, as_of: str) -> None:
    operator = SnapshotDatasetOperator(task_id="snapshot", manifest=str(first.manifest), as_of=as_of)
    sentence, _ = failure(first, operator)
    assert as_of in sentence
    assert "ISO 8601" in sentence


CODE_VERSION = "MLPIPEX_CODE_VERSION"


def test_data_for_a_training_by_code_that_nobody_knows_is_not_even_loaded(
    first: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CODE_VERSION, raising=False)
    where = {"manifest": str(first.manifest), "as_of": "2026-03-01"}
    sentence, _ = failure(first, SnapshotDatasetOperator(task_id="snapshot", for_training=True, **where))
    assert "runbook: registration-refused" in sentence and CODE_VERSION in sentence
    assert first.platform.snapshots.tables == {}
    # A snapshot by itself is of no code.
    assert first.execute(SnapshotDatasetOperator(task_id="snapshot", **where))["snapshot"]["rows"] == 90 * 24


def test_a_dag_that_would_train_by_code_that_nobody_knows_is_refused_when_it_is_parsed(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CODE_VERSION, raising=False)
    with DAG("release", schedule=None), pytest.raises(RegistrationRefused, match=CODE_VERSION):
        training_tasks(str(manifest))
    (manifest.parent / ".git").mkdir()
    with DAG("release", schedule=None):
        training_tasks(str(manifest))


def test_what_a_training_callable_sets_in_mlflow_does_not_outlast_its_training(
    first: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``mlflow.set_experiment`` writes this variable, for the children of the process."""
    train = acme.train

    def setting(context: Any) -> Any:
        os.environ["MLFLOW_EXPERIMENT_ID"] = "47"
        return train(context)

    monkeypatch.setattr(acme, "train", setting)
    first.train(first.snapshot())
    assert "MLFLOW_EXPERIMENT_ID" not in os.environ


def test_training_again_returns_the_run_that_was_completed(first: ReleaseRun) -> None:
    snapshot = first.snapshot()
    told = first.train(snapshot)
    assert 0.8 < told["record"]["metrics"]["accuracy"] < 1.0
    assert first.train(snapshot) == told


def test_registering_again_returns_the_same_version(first: ReleaseRun) -> None:
    trained = first.train(first.snapshot())
    operator = RegisterModelOperator(task_id="register", manifest=str(first.manifest), trained=trained)
    told = first.execute(operator)
    assert (told["model"], told["version"]) == ("fraud-scorer", "1.0.0")
    assert first.execute(operator)["version"] == "1.0.0"
    assert len(first.platform.registry.versions("fraud-scorer")) == 1


def test_a_pinned_model_is_looked_up(first: ReleaseRun) -> None:
    first.register()
    first.manifest.write_text(manifest_text(("version: auto", "version: 1.0.0")), encoding="utf-8")
    told = first.execute(RegisterModelOperator(task_id="register", manifest=str(first.manifest)))
    assert (told["version"], told["bump"], told["reasons"]) == ("1.0.0", "none", ["pinned by the manifest"])


def test_a_pinned_model_that_is_not_there_is_named(first: ReleaseRun) -> None:
    first.manifest.write_text(manifest_text(("version: auto", "version: 9.0.0")), encoding="utf-8")
    sentence, _ = failure(first, RegisterModelOperator(task_id="register", manifest=str(first.manifest)))
    assert "9.0.0" in sentence
    assert "runbook: model-not-found" in sentence


def test_a_manifest_that_changes_during_a_run_stops_it(first: ReleaseRun) -> None:
    snapshot = first.snapshot()
    first.manifest.write_text(manifest_text(("depth: 3", "depth: 5")), encoding="utf-8")
    sentence, _ = failure(first, first.train_task(snapshot))
    assert str(first.manifest) in sentence
    assert "start a new Dag run" in sentence
    assert "runbook: manifest-changed" in sentence


def make_train(run: ReleaseRun, given: Any) -> BaseOperator:
    return run.train_task(given)


def make_register(run: ReleaseRun, given: Any) -> BaseOperator:
    return RegisterModelOperator(task_id="register", manifest=str(run.manifest), trained=given)


def make_gates(run: ReleaseRun, given: Any) -> BaseOperator:
    return run.gates_task(given)


@pytest.mark.parametrize("make", [make_train, make_register, make_gates])
@pytest.mark.parametrize("given", [None, "{{ ti.xcom_pull('before') }}"])
def test_a_task_before_that_left_nothing_is_named(
    first: ReleaseRun, make: Callable[[ReleaseRun, Any], BaseOperator], given: Any
) -> None:
    """So it is when somebody marks that task as successful, or hands over a template that is not native."""
    sentence, _ = failure(first, make(first, given))
    assert "Operator returned" in sentence
    assert "clear the task" in sentence


def test_a_manifest_that_is_gone_is_named(first: ReleaseRun) -> None:
    first.manifest.unlink()
    sentence, _ = failure(first, SnapshotDatasetOperator(task_id="snapshot", manifest=str(first.manifest)))
    assert str(first.manifest) in sentence


# Gates.


def test_gates_leave_observed_value_threshold_and_margin(second: ReleaseRun) -> None:
    operator = second.gates_task(second.register())
    task = TaskRun("gates", run_id=second.run_id)
    told = operator.execute(task.context)
    assert told["verdict"] == "pass"
    (gate,) = task.xcoms["gates"]
    assert gate["verdict"] == "pass"
    assert 0.8 < gate["evidence"]["value"] < 1.0
    assert gate["threshold"] == pytest.approx(gate["evidence"]["baseline"] * 0.995)
    assert gate["margin"] > 0
    # A second try finds the rollout that the first has opened.
    assert operator.execute(task.context) == told


def test_a_failed_gate_fails_the_task_and_its_numbers_are_kept(first: ReleaseRun) -> None:
    first.manifest.write_text(manifest_text(("accuracy at least 60%", "accuracy at least 99.99%")), encoding="utf-8")
    sentence, task = failure(first, first.gates_task(first.register(), "staging"))
    assert "runbook: gate-failed" in sentence
    (gate,) = task.xcoms["gates"]
    assert gate["reason"] in sentence
    assert (gate["verdict"], gate["threshold"]) == ("fail", 0.9999)
    # The endpoint is free again for whoever comes next.
    first.manifest.write_text(manifest_text(), encoding="utf-8")
    other = ReleaseRun(first.platform, first.manifest, run_id="run-9")
    assert other.execute(other.gates_task(other.register(), "staging"))["verdict"] == "pass"


def test_a_gate_without_enough_evidence_is_undecided_and_fails_the_task(first: ReleaseRun) -> None:
    edit = ("accuracy at least 60%", "accuracy at least 60% from at least 700 rows")
    first.manifest.write_text(manifest_text(edit, ("evaluate: 30d", "evaluate: 1d")), encoding="utf-8")
    sentence, task = failure(first, first.gates_task(first.register(), "staging"))
    assert "runbook: gate-undecided" in sentence
    assert task.xcoms["gates"][0]["verdict"] == "inconclusive"


def test_a_second_run_does_not_get_an_endpoint_that_is_held(second: ReleaseRun) -> None:
    second.open()
    other = ReleaseRun(second.platform, second.manifest, run_id="run-3")
    sentence, _ = failure(other, other.gates_task(other.register()))
    assert "rollout run-2 holds it" in sentence


def test_an_environment_that_the_manifest_lacks_is_written_down_where_its_first_one_is(first: ReleaseRun) -> None:
    registered = first.register()
    sentence, _ = failure(first, first.gates_task(registered, environment="prodution"))
    assert "prodution" in sentence and "staging" in sentence and "did you mean production?" in sentence
    ended = failed_stages(first.platform.ledger, EndpointRef.parse("staging/fraud-scorer"))[-1]
    assert (ended.stage, ended.outcome) == ("gate", "failed")
    assert ended.error is not None and ended.error["error"] == "ManifestInvalid"


def test_an_error_before_anybody_knows_the_endpoint_is_in_log_and_metrics(
    first: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest names the ledger; without it the stage can be recorded in none."""
    lines: list[tuple[str, dict[str, Any]]] = []
    counted: list[dict[str, str]] = []
    operator = first.gates_task({})
    log = SimpleNamespace(
        info=lambda event, **facts: lines.append((event, facts)),
        error=lambda event, **facts: lines.append((event, facts)),
        warning=lambda event, **facts: None,  # of Airflow, that no task runner called
    )
    monkeypatch.setattr(type(operator), "log", log)
    monkeypatch.setattr("airflow.sdk.observability.stats.incr", lambda *_, tags, **__: counted.append(tags))
    first.manifest.unlink()
    failure(first, operator)
    assert [event for event, _ in lines] == ["stage failed", "stage ended"]
    assert "ManifestInvalid" in lines[0][1]["why"]
    assert (lines[1][1]["outcome"], lines[1][1]["stage"]) == ("failed", "gate")
    assert counted == [{"stage": "gate", "endpoint": "", "outcome": "failed"}]
