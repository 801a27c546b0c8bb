"""Ready-made pieces of a Dag: from data to a registered model, and from there through every environment.

Both read the manifest when the Dag file is parsed, so that canary steps are visible tasks. That is plain YAML and
pydantic; nothing is contacted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskGroup, chain

from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.canary_schedule import step_durations
from airflow_provider_mlpipex.domain.planning.sampling import look_every
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.operators.canary import CanaryDeployOperator
from airflow_provider_mlpipex.operators.gate import GateCheckOperator
from airflow_provider_mlpipex.operators.promote import PromoteModelOperator
from airflow_provider_mlpipex.operators.register import RegisterModelOperator
from airflow_provider_mlpipex.operators.review import DeploymentReviewOperator
from airflow_provider_mlpipex.operators.rollback import RollbackOperator
from airflow_provider_mlpipex.operators.shadow import ShadowDeployOperator
from airflow_provider_mlpipex.operators.snapshot import AS_OF, SnapshotDatasetOperator
from airflow_provider_mlpipex.operators.train import TrainModelOperator
from airflow_provider_mlpipex.sensors.rollout import CanarySensor, EndpointHealthSensor, ShadowSensor

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

#: Every verb may be run twice, and an error that does not pass by itself fails the task whatever retries it has. What
#: is left to retry is a worker that was killed, a database or plane that restarts, a task that Airflow lost on its way
#: to the triggerer. The waits add up to less than the lease of a trial.
_RETRIES: dict[str, Any] = {
    "retries": 4,
    "retry_delay": 2.0,
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": 15.0,
}


def training_tasks(
    manifest: str,
    *,
    as_of: str = AS_OF,
    group_id: str = "model",
    mlpipex_conn_id: str = MlpipexHook.default_conn_name,
) -> RegisterModelOperator:
    """Snapshot, train and register; where the manifest pins a model version, only look that up.

    :param manifest: path of the deployment manifest.
    :param as_of: end of the evaluation window, ISO 8601.
    :return: the registering task; hand it to :func:`release_tasks`.
    """
    common: dict[str, Any] = {"manifest": manifest, "mlpipex_conn_id": mlpipex_conn_id, **_RETRIES}
    with TaskGroup(group_id):
        if load_manifest_file(manifest).model.pinned:
            return RegisterModelOperator(task_id="register", **common)
        snapshot = SnapshotDatasetOperator(task_id="snapshot", as_of=as_of, **common)
        trained = TrainModelOperator(task_id="train", snapshot=snapshot.output, **common)
        return RegisterModelOperator(task_id="register", trained=trained.output, **common)


def release_tasks(
    manifest: str,
    *,
    registered: RegisterModelOperator,
    mlpipex_conn_id: str = MlpipexHook.default_conn_name,
) -> None:
    """One task group an environment, in the manifest's order; each begins when the one before has promoted and has been
    watched for its rollback window.

    A group ends with a teardown that ends the rollout if it is still on trial, whatever happened before it. The Dag
    run's state is that of the other tasks.

    :param manifest: path of the deployment manifest.
    :param registered: the task that registered (or looked up) the model.
    """
    spec = load_manifest_file(manifest)
    before: BaseOperator = registered
    for name, environment in spec.environments.items():
        before = _environment_tasks(manifest, spec, name, environment, registered, before, mlpipex_conn_id)


def _environment_tasks(
    manifest: str,
    spec: Manifest,
    name: str,
    environment: EnvironmentSpec,
    registered: RegisterModelOperator,
    before: BaseOperator,
    mlpipex_conn_id: str,
) -> BaseOperator:
    """The group of one environment; returns its last task that counts."""
    common: dict[str, Any] = {
        "endpoint": str(EndpointRef(environment=name, name=spec.name)),
        "mlpipex_conn_id": mlpipex_conn_id,
        **_RETRIES,
    }
    with TaskGroup(name):
        gates = GateCheckOperator(
            task_id="gates",
            manifest=manifest,
            environment=name,
            registered=registered.output,
            mlpipex_conn_id=mlpipex_conn_id,
            **_RETRIES,
        )
        # Also where this manifest asks for none: the one in force may, and only a task can be answered. Where neither
        # does, it says so and passes at once.
        waits: dict[str, Any] = {"response_timeout": environment.review.timeout} if environment.review else {}
        stages: list[BaseOperator] = [gates, DeploymentReviewOperator(task_id="review", **waits, **common)]
        if environment.shadow:
            poke = _poll(environment.shadow.duration)
            stages.append(ShadowDeployOperator(task_id="shadow", **common))
            stages.append(ShadowSensor(task_id="shadow_watch", poke_interval=poke, **common))
        if environment.canary:
            durations = step_durations(environment, spec.traffic.expected_rate)
            for step, share in enumerate(environment.canary.steps):
                poke = _poll(durations[step])
                label = f"canary_{share * 100:g}".replace(".", "_")
                stages.append(CanaryDeployOperator(task_id=label, step=step, **common))
                stages.append(CanarySensor(task_id=f"{label}_watch", step=step, poke_interval=poke, **common))
        promote = PromoteModelOperator(task_id="promote", **common)
        stages.append(promote)
        if environment.rollback and environment.serve:
            poke = _poll(environment.rollback.window)
            stages.append(EndpointHealthSensor(task_id="watch", poke_interval=poke, **common))
        abandon = RollbackOperator(
            task_id="end_trial", cause="the Dag run did not get to the promotion", only_open=True, **common
        ).as_teardown()
        chain(before, *stages)
        stages[-1] >> abandon
    return stages[-1]


def _poll(stage: timedelta) -> float:
    """Seconds between looks at a stage that lasts so long."""
    return look_every(stage).total_seconds()
