"""``drill``: show that a rollback works, by rolling an endpoint back and forward. Weekly, or from a form.

Every endpoint whose manifest asks for drills (``drills.every``) is drilled each week; the form drills the one that it
names. A drill costs no user anything; the last environment of a manifest has to allow it (``drills.allowed``).
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_provider_mlpipex import RollbackDrillOperator, read_manifests
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest


def endpoints_to_drill(folder: Path) -> list[str]:
    """Endpoints whose manifest asks for drills."""
    return [
        f"{environment}/{manifest.name}"
        for manifest in read_manifests(folder).values()
        if isinstance(manifest, Manifest)
        for environment, spec in manifest.environments.items()
        if spec.serve and spec.drills and spec.drills.every
    ]


ENDPOINTS = endpoints_to_drill(Path(__file__).parent / "manifests")

with DAG(
    "drill",
    schedule="0 10 * * 2",
    catchup=False,
    max_active_runs=1,
    params={
        "endpoint": Param(
            None,
            type=["null", "string"],
            pattern="^[^/]+/[^/]+$",
            examples=ENDPOINTS,
            title="Endpoint",
            description="environment/name. Empty: every endpoint whose manifest asks for drills.",
        )
    },
    tags=["mlpipex", "drill"],
    doc_md=__doc__,
):

    @task
    def chosen(params: dict[str, str | None] | None = None) -> list[str]:
        """The endpoints to drill, one task each."""
        named = (params or {}).get("endpoint")
        return [named] if named else ENDPOINTS

    RollbackDrillOperator.partial(task_id="drill", reason="Dag {{ dag.dag_id }}", retries=0).expand(endpoint=chosen())
