"""``retrain__<name>``: release again on newer rows, every month and whenever the endpoint's drift Asset is updated.

It only triggers the release Dag: a retrained model goes through the same gates, review, shadow and canary as any other.
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from airflow_provider_mlpipex import drift_asset, read_manifests
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest

for manifest in read_manifests(Path(__file__).parent / "manifests").values():
    if not isinstance(manifest, Manifest) or not manifest.model.trained:
        continue
    with DAG(
        f"retrain__{manifest.name}".replace("-", "_"),
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable("0 6 1 * *", timezone="UTC"), assets=[drift_asset(manifest.name)]
        ),
        catchup=False,
        max_active_runs=1,
        tags=["mlpipex", "retrain"],
        doc_md=__doc__,
    ):
        TriggerDagRunOperator(task_id="release", trigger_dag_id=f"release__{manifest.name}".replace("-", "_"))
