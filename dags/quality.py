"""``quality__<name>``: every night, judge the rows that a training would take now by the manifest's expectations.

Bad data is known before anybody trains on it, and nothing else depends on this Dag: a release judges its own snapshot.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_mlpipex import QualityCheckOperator, read_manifests
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest

for path, manifest in read_manifests(Path(__file__).parent / "manifests").items():
    if not isinstance(manifest, Manifest) or not manifest.quality.snapshot:
        continue
    with DAG(
        f"quality__{manifest.name}".replace("-", "_"),
        schedule="0 5 * * *",
        catchup=False,
        max_active_runs=1,
        tags=["mlpipex", "quality"],
        doc_md=__doc__,
    ):
        QualityCheckOperator(task_id="rows", manifest=str(path), retries=2, retry_delay=5.0)
