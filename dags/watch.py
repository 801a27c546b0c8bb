"""``watch``: every five minutes, judge what each endpoint serves by the rollback gates of its manifest.

Inside a rollback window it reverts, exactly like the watch of the release Dag, whose sensor may have been killed.
Outside one it alerts, and a person decides.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_mlpipex import EndpointHealthSensor, read_manifests
from airflow_provider_mlpipex.domain.manifest import Manifest

with DAG(
    "watch",
    schedule="*/5 * * * *",
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["mlpipex", "watch"],
    doc_md=__doc__,
):
    for manifest in read_manifests(Path(__file__).parent / "manifests").values():
        if not isinstance(manifest, Manifest):
            continue
        for environment, spec in manifest.environments.items():
            if spec.serve and spec.rollback:
                EndpointHealthSensor(
                    task_id=f"{environment}__{manifest.name}".replace("-", "_"),
                    endpoint=f"{environment}/{manifest.name}",
                    rollout_id="",
                    retries=2,
                    retry_delay=5.0,
                )
