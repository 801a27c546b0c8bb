"""``rollback``: return an endpoint to its last good release, from a form. No build, no registry.

The form opens empty: nobody takes back a service by one click that was meant for another. The release is named by who
takes it back, in the form or, where that is left empty, by answering ``confirm``: it shows what serves now and what it
would return to. The manifests only fill the form's suggestions: whatever has become of them, this Dag is there.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param

from airflow_provider_mlpipex import RollbackConfirmationOperator, RollbackOperator, read_manifests
from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest


def known_endpoints(folder: Path) -> list[str]:
    """Endpoints that the manifests name, the last environment of each first."""
    try:
        manifests = read_manifests(folder).values()
    except ManifestInvalid:
        return []
    return [
        f"{environment}/{manifest.name}"
        for manifest in manifests
        if isinstance(manifest, Manifest)
        for environment, spec in reversed(manifest.environments.items())
        if spec.serve
    ]


ENDPOINTS = known_endpoints(Path(__file__).parent / "manifests")

with DAG(
    "rollback",
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    params={
        "endpoint": Param(
            type="string",
            minLength=3,
            pattern="^[^/]+/[^/]+$",
            examples=ENDPOINTS,
            title="Endpoint",
            description="environment/name, for example production/fraud-scorer",
        ),
        "cause": Param(
            type="string", minLength=3, maxLength=500, title="Why", description="Stands in ledger and alert."
        ),
        "release": Param(
            None,
            type=["null", "string"],
            maxLength=200,
            title="Release to take back",
            description="As an alert names it. Empty: the task confirm shows what serves now, and asks.",
        ),
        "hold": Param(
            True,
            type="boolean",
            title="Hold",
            description="Keep retraining and other automation from releasing it here again, until mlpipex resume.",
        ),
    },
    tags=["mlpipex", "rollback"],
    doc_md=__doc__,
):
    confirm = RollbackConfirmationOperator(
        task_id="confirm",
        endpoint="{{ params.endpoint }}",
        cause="{{ params.cause }}",
        release="{{ params.release or '' }}",
        retries=3,
        retry_delay=1.0,
    )
    RollbackOperator(
        task_id="roll_back",
        endpoint="{{ params.endpoint }}",
        cause="{{ params.cause }}",
        release=confirm.output["release"],
        hold="{{ params.hold }}",
        retries=3,
        retry_delay=1.0,
    )
