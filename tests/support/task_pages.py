"""A Dag whose every stage fails, each in its own way, so that the page of each failed task can be opened."""

from __future__ import annotations

STAGES = "team__stages"
ENDPOINT = "production/never-released"
#: Its tasks, and the page that each error names.
RUNBOOKS = {
    "snapshot": "manifest-invalid",
    "train": "configuration-invalid",
    "register": "configuration-invalid",
    "gates": "manifest-invalid",
    "own_gate": "gate-failed",
    "review": "illegal-transition",
    "shadow": "illegal-transition",
    "shadow_watch": "illegal-transition",
    "canary": "illegal-transition",
    "canary_watch": "illegal-transition",
    "promote": "illegal-transition",
    "watch": "illegal-transition",
    "rollback": "illegal-transition",
    "drift": "drift-unmeasurable",
}
STAGES_DAG = f"""
import os

from airflow.sdk import dag, task
from airflow_provider_mlpipex import *

MANIFEST = os.path.join(os.environ["MLPIPEX_MANIFESTS"], "flight-delay.yaml")
HERE = {{"endpoint": "{ENDPOINT}"}}

@dag("{STAGES}", schedule=None, catchup=False, is_paused_upon_creation=False)
def stages():
    SnapshotDatasetOperator(task_id="snapshot", manifest=MANIFEST, as_of="yesterday, about noon")
    TrainModelOperator(task_id="train", manifest=MANIFEST, snapshot=None)
    RegisterModelOperator(task_id="register", manifest=MANIFEST, trained=None)
    GateCheckOperator(task_id="gates", manifest=MANIFEST, environment="nowhere", registered={{}})

    @task.gate(gates=["recall at least 80% from at least 5000 samples"], **HERE)
    def own_gate():
        return {{"recall": 0.01, "samples": 12_000}}

    own_gate()
    DeploymentReviewOperator(task_id="review", **HERE)
    ShadowDeployOperator(task_id="shadow", **HERE)
    ShadowSensor(task_id="shadow_watch", **HERE)
    CanaryDeployOperator(task_id="canary", step=0, **HERE)
    CanarySensor(task_id="canary_watch", step=0, **HERE)
    PromoteModelOperator(task_id="promote", **HERE)
    EndpointHealthSensor(task_id="watch", **HERE)
    RollbackOperator(task_id="rollback", **HERE)
    DriftCheckOperator(task_id="drift", **HERE)

stages()
"""
