"""The Dag that trains my-model and carries it through every environment of its manifest."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airflow_provider_mlpipex import release_tasks, training_tasks

MANIFEST = str(Path(__file__).with_name("my-model.yaml"))


@dag(schedule="@weekly", catchup=False, max_active_runs=1, tags=["mlpipex"])
def release_my_model() -> None:
    """Snapshot, train and register; then gates, review, canary, promotion and watch."""
    release_tasks(MANIFEST, registered=training_tasks(MANIFEST))


release_my_model()
