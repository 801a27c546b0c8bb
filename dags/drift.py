"""``drift__<environment>__<name>``: every hour, look at what an endpoint was asked, beside what it was trained on.

A drift that moves the score alerts on-call with the batch that carries it, and updates the endpoint's drift Asset,
which the retrain Dag listens to. The task fails where something is broken, and is skipped where too few rows came to
tell.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_mlpipex import DriftCheckOperator, read_manifests
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest

for manifest in read_manifests(Path(__file__).parent / "manifests").values():
    if not isinstance(manifest, Manifest):
        continue
    for environment, spec in manifest.environments.items():
        if spec.drift is None:
            continue
        with DAG(
            f"drift__{environment}__{manifest.name}".replace("-", "_"),
            # A shorter window is looked at as often as it is long, so that no row goes unseen.
            schedule=min(timedelta(hours=1), spec.drift.window),
            catchup=False,
            max_active_runs=1,
            tags=["mlpipex", "drift"],
            doc_md=__doc__,
        ):
            DriftCheckOperator(
                task_id="check",
                endpoint=f"{environment}/{manifest.name}",
                on_drift="announce",
                undecided="skip",
                retries=2,
                retry_delay=30.0,
            )
