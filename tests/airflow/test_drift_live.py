"""From a batch that a Dag scores through a real plane, by way of counts, to the alarm that names its Dag run."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.sdk import DAG
from sklearn.linear_model import LinearRegression

from airflow_provider_mlpipex import DriftCheckOperator, ScoreBatchOperator
from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.drift.references import SCORE
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.domain.rollout.events import DriftJudged
from airflow_provider_mlpipex.services.drift import check as drift_check
from airflow_provider_mlpipex.services.drift.attribution import attribute
from airflow_provider_mlpipex.services.platform import Platform
from tests.support.manifests import make_manifest
from tests.support.plane import READY_TIMEOUT_S, RealPlane, real_plane, release_of
from tests.support.polling import until
from tests.support.served_endpoint import connected, make_current

__all__ = ["real_plane"]

pytestmark = pytest.mark.system

ENDPOINT = EndpointRef.parse("production/fraud-scorer")
ROWS = 3000
BLOCK = ("    alerts: {on", "    drift: {window: 1h}\n    alerts: {on")


def payments(seed: int, *, shifted: float = 0.0) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    return pd.DataFrame({"amount": chance.normal(50.0 + shifted, 10.0, ROWS), "hour": chance.uniform(0.0, 24.0, ROWS)})


@pytest.fixture
def release(real_plane: RealPlane, tmp_path: Path) -> Release:
    """A model whose score is the amount, registered with a reference of rows like those of every day."""
    rows = payments(0)
    signature = save_model(
        TrainedModel(
            model=LinearRegression().fit(rows, rows["amount"]),
            predict_method="predict",
            examples=rows.head(3),
            metrics={"mae": 0.0},
            evaluation_rows=ROWS,
            evaluated=rows,
        ),
        tmp_path / "model",
    )
    made = release_of(tmp_path / "model", "7.0.0")
    return made.model_copy(update={"model": made.model.model_copy(update={"signature": signature})})


@pytest.fixture
def platform(real_plane: RealPlane, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """What the connection of the test leads to: the real plane with the release current, and a ledger of its own."""
    platform = connected(real_plane, tmp_path, monkeypatch)
    real_plane.port.ensure(ENDPOINT, release, timeout_s=READY_TIMEOUT_S)
    make_current(platform, ENDPOINT, release, manifest=make_manifest(BLOCK).to_json())
    return platform


def play(dag: DAG) -> Any:
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    return dag.test(logical_date=datetime(2026, 3, 1, tzinfo=UTC))


def score(dag_id: str, folder: Path, **rows: Any) -> str:
    """The batch that a Dag run has sent."""
    with DAG(dag_id, schedule=None) as dag:
        ScoreBatchOperator(
            task_id="score",
            endpoint=str(ENDPOINT),
            load=payments,
            load_kwargs=rows,
            output_path=f"{folder}/{dag_id}.parquet",
            chunk_rows=500,
        )
    played = play(dag)
    assert str(played.state) == "success"
    return f"{dag_id}/{played.run_id}"


@pytest.mark.usefixtures("airflow_db")
def test_the_alarm_names_the_dag_run_whose_rows_drifted(platform: Platform, tmp_path: Path) -> None:
    def counted(rows: int) -> None:
        until(
            lambda: drift_check.measure(platform, ENDPOINT).rows >= rows, within_s=60, what=f"{rows} rows are counted"
        )

    score("morning", tmp_path, seed=1)
    counted(ROWS)
    assert drift_check.measure(platform, ENDPOINT).verdict == "pass"

    batch = score("evening", tmp_path, seed=2, shifted=40.0)
    counted(2 * ROWS)
    with DAG("looks", schedule=None) as dag:
        DriftCheckOperator(task_id="check", endpoint=str(ENDPOINT))
    assert str(play(dag).state) == "failed"

    entry, traced = attribute(platform, ENDPOINT)
    assert isinstance(entry.event, DriftJudged)
    assert (entry.event.verdict, entry.event.facts["raising"]) == ("fail", [SCORE, "amount"])
    assert (entry.origin.dag_id, entry.event.facts["rows"]) == ("looks", 2 * ROWS)
    (source,) = traced.batches
    assert source.batch == batch and source.rows == ROWS and min(source.shares.values()) > 0.9
    assert source.sent is not None and source.sent.dag_id == "evening"
    assert source.sent.digest == platform.snapshots.digest(payments(2, shifted=40.0), name="payments")
    assert len(source.sample) == 5 and all(row.inputs["amount"] > 40 for row in source.sample)
