"""ScoreBatchOperator on fakes: what the Dag file says, what the stage checks, and how failures become task states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_mlpipex import ScoreBatchOperator
from airflow_provider_mlpipex.domain.errors import (
    BatchUnanswered,
    ConfigurationInvalid,
    InvariantBroken,
    ReleaseNotReady,
)
from airflow_provider_mlpipex.domain.rollout.events import BatchServed, StageEnded
from airflow_provider_mlpipex.services.batches.origin import batches_of
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.airflow.release_run import PRODUCTION, ReleaseRun, TaskRun
from tests.support.stages import failed_stages, stage_ends

PAYMENTS = pd.DataFrame({"id": ["p0", "p1", "p2"], "amount": [1.5, 20.5, 300.5], "country": [0.0, 1.0, 2.0]})


def load_payments(*, rows: int = 3) -> pd.DataFrame:
    return PAYMENTS.head(rows)


@pytest.fixture
def served(first: ReleaseRun) -> MemoryPlatform:
    """A first release is current in production; its model takes ``amount`` and ``country``."""
    first.first_release()
    return first.platform


def score(output: Path, task: TaskRun | None = None, **parameters: Any) -> dict[str, Any]:
    task = task or TaskRun("score", dag_id="nightly", run_id="2026-03-01")
    given = {"load": load_payments, "batch": "nightly/2026-03-01", "chunk_rows": 2, **parameters}
    operator = ScoreBatchOperator(
        task_id=task.task_id, endpoint=str(PRODUCTION), output_path=str(output / "scores.parquet"), **given
    )
    return dict(json.loads(json.dumps(operator.execute(task.context))))


def stage(platform: MemoryPlatform) -> StageEnded:
    return stage_ends(platform.ledger, PRODUCTION)[-1]


@pytest.mark.parametrize("source", [load_payments, f"{__name__}:load_payments", "file"])
def test_a_table_is_scored_and_the_ledger_says_by_whom(served: MemoryPlatform, tmp_path: Path, source: Any) -> None:
    table: dict[str, Any] = {"load": source}
    if source == "file":
        PAYMENTS.to_parquet(tmp_path / "payments.parquet")
        table = {"load": None, "path": str(tmp_path / "payments.parquet")}
    result = score(tmp_path, **table)
    current = served.plane.observe(PRODUCTION).plan
    assert current is not None
    digest = served.snapshots.digest(PAYMENTS, name="payments")
    assert result == {
        "batch": "nightly/2026-03-01",
        "rows": 3,
        "digest": digest,
        "answered": {current.current: 3},
        "resumed": 0,
        "output": str(tmp_path / "scores.parquet"),
    }
    assert pd.read_parquet(result["output"])["prediction"].tolist() == [1.5, 20.5, 300.5]
    facts = batches_of(served, PRODUCTION, ["nightly/2026-03-01"])["nightly/2026-03-01"]
    assert (facts.dag_id, facts.run_id, facts.task_id, facts.digest) == ("nightly", "2026-03-01", "score", digest)
    ended = stage(served)
    assert (ended.stage, ended.outcome, ended.facts["answered"]) == ("score", "succeeded", {current.current: 3})


def test_arguments_of_the_callable_are_passed_on(served: MemoryPlatform, tmp_path: Path) -> None:
    assert score(tmp_path, load_kwargs={"rows": 1})["rows"] == 1


def test_by_default_the_batch_is_the_dag_run() -> None:
    operator = ScoreBatchOperator(task_id="score", endpoint=str(PRODUCTION), output_path="o.parquet", path="p.csv")
    assert operator.batch == "{{ dag.dag_id }}/{{ run_id }}"
    assert {"batch", "output_path", "endpoint", "path", "load_kwargs"} == set(operator.template_fields)


def test_an_endpoint_that_does_not_answer_is_left_to_a_retry_which_goes_on(
    served: MemoryPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_mlpipex.operators.score.time.sleep", lambda seconds: None)
    served.predictor.trouble = [200, *[503] * 5]
    with pytest.raises(BatchUnanswered, match="chunk 2 of 2"):
        score(tmp_path)
    assert failed_stages(served.ledger, PRODUCTION)[-1].error is not None
    again = score(tmp_path, TaskRun("score", dag_id="nightly", run_id="2026-03-01", try_number=2))
    assert (again["resumed"], sum(again["answered"].values())) == (2, 3)


def test_rows_that_are_refused_fail_the_task_for_good(served: MemoryPlatform, tmp_path: Path) -> None:
    served.predictor.trouble = [400]
    with pytest.raises(AirflowFailException, match=f"{PRODUCTION}, chunk 1 of 2.*HTTP 400"):
        score(tmp_path)
    with pytest.raises(AirflowFailException, match="columns country"):
        score(tmp_path, load=lambda: PAYMENTS.drop(columns="country"))


@pytest.mark.parametrize("output", ["../scores.parquet", "scores.csv", "a\nb.parquet"])
def test_an_output_that_is_no_parquet_file_is_refused_before_anything_is_sent(
    served: MemoryPlatform, tmp_path: Path, output: str
) -> None:
    task = TaskRun("score")
    operator = ScoreBatchOperator(
        task_id="score", endpoint=str(PRODUCTION), output_path=f"{tmp_path}/{output}", load=load_payments, batch="b"
    )
    with pytest.raises(AirflowFailException, match="runbook: configuration-invalid"):
        operator.execute(task.context)
    assert served.predictor.sent == []


# What must hold before.


def test_an_endpoint_without_a_release_is_not_asked(fakes: MemoryPlatform, tmp_path: Path) -> None:
    with pytest.raises(InvariantBroken, match="has no current release"):
        score(tmp_path)
    assert fakes.predictor.sent == []


def test_a_release_that_is_down_is_not_asked(served: MemoryPlatform, tmp_path: Path) -> None:
    current = served.plane.observe(PRODUCTION).plan
    assert current is not None
    served.plane.break_release(current.current, ReleaseNotReady("a release"))
    with pytest.raises(InvariantBroken, match=f"current release {current.current} is failed"):
        score(tmp_path)
    assert [e for e in served.ledger.read(PRODUCTION) if isinstance(e.event, BatchServed)] == []


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"load": None}, "the table | value: 'none of them'"),
        ({"path": "payments.csv"}, "the table | value: 'load, path'"),
        ({"chunk_rows": 0}, "chunk_rows | value: 0"),
    ],
)
def test_a_dag_file_that_could_never_work_does_not_parse(tmp_path: Path, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        score(tmp_path, **parameters)
    assert f"ScoreBatchOperator score, {says}" in str(refused.value)
