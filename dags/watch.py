"""``watch__<environment>__<name>``: every five minutes, judge what an endpoint serves by its rollback gates.

Inside a rollback window it reverts, exactly like the watch of the release Dag, whose sensor may have been killed.
Outside one it alerts, and a person decides. One Dag an endpoint: a watch that waits for the end of a window does not
keep other endpoints from being looked at.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_mlpipex import EndpointHealthSensor, read_manifests
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest

for manifest in read_manifests(Path(__file__).parent / "manifests").values():
    if not isinstance(manifest, Manifest):
        continue
    for environment, spec in manifest.environments.items():
        if not (spec.serve and spec.rollback):
            continue
        with DAG(
            f"watch__{environment}__{manifest.name}".replace("-", "_"),
            schedule="*/5 * * * *",
            catchup=False,
            max_active_runs=1,
            is_paused_upon_creation=False,
            tags=["mlpipex", "watch"],
            doc_md=__doc__,
        ):
            EndpointHealthSensor(
                task_id="health",
                endpoint=f"{environment}/{manifest.name}",
                rollout_id="",
                retries=2,
                retry_delay=5.0,
            )
