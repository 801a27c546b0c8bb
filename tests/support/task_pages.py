"""A Dag whose every stage fails, each in its own way, so that the page of each failed task can be opened; and a
manifest of one environment that is released and taken back in moments."""

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

#: It releases what others have registered, so nothing is trained for it.
TRIAL_MANIFEST = """
apiVersion: mlpipex/v1
kind: Deployment
name: flight-trial
owner: {team: ml-platform, contact: on-call@localhost}
model: {name: flight-delay, version: 1.0.0}
runtime: {version: 1.0.0, environment: provider}
features:
  columns: [hour, weekday, sched_dep_time, carrier, origin, dest, distance, temp, wind_speed, precip, visib, pressure,
            humid]
traffic: {expected_rate: 40/s, sticky_header: x-user-id, timeout: 2s}
quality:
  predictions:
    - {expect: column_values_to_be_between, column: score, min_value: 0, max_value: 1}
environments:
  production:
    gates: [auc at least 55%]
    review: {timeout: 1h}
    canary:
      steps: [50%, 100%]
      step_duration: 4s
      gates: [zero critical errors in a 4-second canary window]
    rollback:
      window: 30m
      gates: [error rate at most 50% over 4 seconds]
"""
