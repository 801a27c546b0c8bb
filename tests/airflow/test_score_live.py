"""A Dag that scores a batch, run by ``dag.test()`` through a real plane: from its rows to the ledger."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.sdk import DAG

from airflow_provider_mlpipex import ScoreBatchOperator
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.services.batches.origin import batches_of
from airflow_provider_mlpipex.services.platform import Platform
from tests.support.plane import RealPlane, now, real_plane
from tests.support.polling import until
from tests.support.served_endpoint import connected, make_current

__all__ = ["real_plane"]

pytestmark = pytest.mark.system

SCORED = EndpointRef.parse("production/scored")
INPUTS = {"distance": "double", "hour": "long", "carrier": "string"}
ROWS = 25


def load_flights() -> pd.DataFrame:
    hours = [number % 24 for number in range(ROWS)]
    return pd.DataFrame(
        {"carrier": "AA", "flight": range(ROWS), "distance": [number + 0.5 for number in range(ROWS)], "hour": hours}
    )


@pytest.fixture
def platform(real_plane: RealPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """What the connection of the test leads to: the real plane with release 1 current, and a ledger of its own."""
    platform = connected(real_plane, tmp_path, monkeypatch)
    real_plane.ensure(SCORED, 1)
    make_current(platform, SCORED, _release(real_plane))
    return platform


def _release(plane: RealPlane) -> Release:
    """Release 1 with the signature that its model has."""
    release = plane.release(1)
    signature = {"inputs": json.dumps([{"name": name, "type": kind} for name, kind in INPUTS.items()])}
    return release.model_copy(update={"model": release.model.model_copy(update={"signature": signature})})


@pytest.mark.usefixtures("airflow_db")
def test_a_batch_goes_through_the_endpoint_and_is_traced_to_its_dag_run(
    platform: Platform, real_plane: RealPlane, tmp_path: Path
) -> None:
    with DAG("nightly_scores", schedule=None) as dag:
        ScoreBatchOperator(
            task_id="score",
            endpoint=str(SCORED),
            load=load_flights,
            output_path=f"{tmp_path}/{{{{ dag.dag_id }}}}/{{{{ ds }}}}.parquet",
            chunk_rows=10,
        )
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    run = dag.test(logical_date=datetime(2026, 3, 1, tzinfo=UTC))
    assert str(run.state) == "success"

    scored = pd.read_parquet(tmp_path / "nightly_scores" / "2026-03-01.parquet")
    assert scored["flight"].tolist() == list(range(ROWS))
    assert scored["prediction"].tolist() == pytest.approx([number + 1000.5 for number in range(ROWS)])
    release = real_plane.release(1).id
    assert set(scored["release"]) == {release}

    batch = f"nightly_scores/{run.run_id}"
    facts = batches_of(platform, SCORED, [batch])[batch]
    assert (facts.dag_id, facts.run_id, facts.task_id) == ("nightly_scores", run.run_id, "score")
    assert (facts.rows, facts.answered) == (ROWS, {release: ROWS})
    assert facts.digest == platform.snapshots.digest(load_flights(), name="flights")

    def logged() -> list[str]:
        sample = real_plane.port.predictions(
            SCORED, release, since=now() - timedelta(minutes=5), until=now() + timedelta(seconds=5), limit=1000
        )
        return [row.batch for row in sample.rows]

    until(lambda: len(logged()) >= ROWS, within_s=30, what="every row is in the prediction log")
    assert logged() == [batch] * ROWS
