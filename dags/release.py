"""``release__<name>``: one Dag a manifest, from data to production. Trigger it with the form; retrain does, too."""

from __future__ import annotations

import re
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_provider_mlpipex import read_manifests, release_tasks, training_tasks
from airflow_provider_mlpipex.domain.errors import ManifestInvalid


def release_dag(path: Path, name: str) -> DAG:
    """Train (or look up) a model and carry it through every environment of its manifest."""
    as_of = Param(
        None,
        type=["null", "string"],
        title="As of",
        description="End of the evaluation window, ISO 8601; the run's own time if empty.",
    )
    with DAG(
        f"release__{name}".replace("-", "_"),
        schedule=None,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        params={"as_of": as_of},
        tags=["mlpipex", "release"],
        doc_md=__doc__,
    ) as dag:
        release_tasks(str(path), registered=training_tasks(str(path)))
    return dag


def broken_dag(path: Path, error: ManifestInvalid, taken: set[str]) -> DAG:
    """A Dag that says what is wrong with a manifest, where people look for the Dag that it should have become.

    :param taken: names of the manifests that can work; a broken file must not take the place of one.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)
    with DAG(
        f"release__{name}{'__invalid' if name in taken else ''}".replace("-", "_"),
        schedule=None,
        tags=["mlpipex", "release", "manifest-invalid"],
        doc_md=f"```\n{error}\n```",
    ) as dag:

        @task(retries=0)
        def read_manifest() -> None:
            raise error

        read_manifest()
    return dag


manifests = read_manifests(Path(__file__).parent / "manifests")
names = {manifest.name for manifest in manifests.values() if not isinstance(manifest, ManifestInvalid)}
for path, manifest in manifests.items():
    if isinstance(manifest, ManifestInvalid):
        broken_dag(path, manifest, names)
    else:
        release_dag(path, manifest.name)
