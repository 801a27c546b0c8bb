"""``score__flight_delay``: a week of flights sent through production, and a look at what that did to its drift.

Such a Dag would run every night. Here its form says which week, what the job that prepares the rows gets wrong, and
since when the look at drift counts.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Param

from airflow_provider_mlpipex.demo.scored import DAG_ID, ENDPOINT
from airflow_provider_mlpipex.operators.drift import DriftCheckOperator
from airflow_provider_mlpipex.operators.score import ScoreBatchOperator

with DAG(
    DAG_ID,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params={
        "start": Param("2013-07-03", type="string", title="First day"),
        "fault": Param("", enum=["", "clock-times"], title="Planted fault"),
        "since": Param("", type="string", title="Look at drift since", description="ISO 8601; as the manifest says"),
    },
    tags=["mlpipex", "score"],
    doc_md=__doc__,
):
    scored = ScoreBatchOperator(
        task_id="score",
        endpoint=str(ENDPOINT),
        load="airflow_provider_mlpipex.demo.flights:week",
        load_kwargs={"start": "{{ params.start }}", "fault": "{{ params.fault }}"},
        output_path=str(Path(os.environ["AIRFLOW_HOME"]) / "scores" / "{{ params.start }}.parquet"),
        retries=2,
        retry_delay=2.0,
    )
    checked = DriftCheckOperator(
        task_id="drift",
        endpoint=str(ENDPOINT),
        since="{{ params.since }}",
        on_drift="announce",
        retries=2,
        retry_delay=2.0,
    )
    scored >> checked
