"""Ready-made pieces of a Dag: from data to a registered model, and from there through every environment.

Both return what can be chained: ``check >> training_tasks(…)``, ``release_tasks(…) >> announce``. Both read the
manifest when the Dag file is parsed, so that canary steps are visible tasks. That is plain YAML and pydantic; nothing
is contacted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, TaskGroup, XComArg, chain
from airflow.sdk.definitions._internal.mixins import DependencyMixin

from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.canary_schedule import step_durations
from airflow_provider_mlpipex.domain.planning.sampling import look_every
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.manifest_files import read_manifest_shape
from airflow_provider_mlpipex.operators.base import expect_code_version
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

#: What may stand before a piece: tasks, their outputs, task groups, other pieces.
Before = DependencyMixin | Sequence[DependencyMixin]

#: Every verb may be run twice, and an error that does not pass by itself fails the task whatever retries it has. What
#: is left to retry is a worker that was killed, a database or plane that restarts, a task that Airflow lost on its way
#: to the triggerer. The waits add up to less than the lease of a trial.
_RETRIES: dict[str, Any] = {
    "retries": 4,
    "retry_delay": 2.0,
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": 15.0,
}


class Piece(DependencyMixin):
    """Tasks from a first to a last one. What is put before it runs before its first, what is put behind it after its
    last, and only if that one has succeeded.

    :param first: the task that everything else in the piece waits for.
    :param last: the task that says how the piece has ended.
    """

    def __init__(self, *, first: BaseOperator, last: BaseOperator) -> None:
        self.first = first
        self.last = last

    @property
    def roots(self) -> Sequence[DependencyMixin]:
        return [self.first]

    @property
    def leaves(self) -> Sequence[DependencyMixin]:
        return [self.last]

    def set_upstream(self, other: Before, edge_modifier: Any = None) -> None:
        self.first.set_upstream(other, edge_modifier)

    def set_downstream(self, other: Before, edge_modifier: Any = None) -> None:
        self.last.set_downstream(other, edge_modifier)


class TrainingTasks(Piece):
    """What :func:`training_tasks` made. ``output`` is what the registering task returns: ``model``, ``version``, …"""

    last: RegisterModelOperator

    @property
    def output(self) -> XComArg:
        return self.last.output


class ReleaseTasks(Piece):
    """What :func:`release_tasks` made. Each environment is a piece for itself: ``gate >> released["production"]``."""

    def __init__(self, environments: Mapping[str, Piece]) -> None:
        pieces = list(environments.values())
        super().__init__(first=pieces[0].first, last=pieces[-1].last)
        self.environments = dict(environments)

    def __getitem__(self, environment: str) -> Piece:
        return self.environments[environment]


def training_tasks(
    manifest: str,
    *,
    as_of: str = AS_OF,
    after: Before = (),
    group_id: str = "model",
    mlpipex_conn_id: str = MlpipexHook.default_conn_name,
) -> TrainingTasks:
    """Snapshot, train and register; where the manifest pins a model version or adopts a model,
    only look that up or adopt it.

    :param manifest: path of the deployment manifest.
    :param as_of: end of the evaluation window, ISO 8601.
    :param after: tasks that must have succeeded before.
    :raises RegistrationRefused: nobody knows which code would train: no git checkout around the manifest, and no
        ``MLPIPEX_CODE_VERSION`` where Dags are parsed.
    :return: to be chained, and to be handed to :func:`release_tasks`; its ``output`` to other tasks.
    """
    common: dict[str, Any] = {"manifest": manifest, "mlpipex_conn_id": mlpipex_conn_id, **_RETRIES}
    with TaskGroup(group_id):
        if not read_manifest_shape(manifest).model.trained:
            register = RegisterModelOperator(task_id="register", **common)
            made = TrainingTasks(first=register, last=register)
        else:
            expect_code_version(manifest)
            snapshot = SnapshotDatasetOperator(task_id="snapshot", as_of=as_of, for_training=True, **common)
            trained = TrainModelOperator(task_id="train", snapshot=snapshot.output, **common)
            register = RegisterModelOperator(task_id="register", trained=trained.output, **common)
            made = TrainingTasks(first=snapshot, last=register)
    _put_after(made, after)
    return made


def _put_after(piece: Piece, after: Before) -> None:
    # An XComArg can be chained, and would say of itself that it can be iterated.
    for before in (after,) if isinstance(after, DependencyMixin) else after:
        piece.set_upstream(before)


def release_tasks(
    manifest: str,
    *,
    registered: TrainingTasks | RegisterModelOperator,
    after: Before = (),
    mlpipex_conn_id: str = MlpipexHook.default_conn_name,
) -> ReleaseTasks:
    """One task group an environment, in the manifest's order; each begins when the one before has promoted and has been
    watched for its rollback window.

    A group ends with a teardown that ends the rollout if it is still on trial, whatever happened before it. The Dag
    run's state is that of the other tasks.

    The gates that the Dag declares for an endpoint (``@task.gate``) come before its group, whether they are chained or
    not, and nothing there opens, steps or is promoted unless each has passed.

    :param manifest: path of the deployment manifest.
    :param registered: what registers (or looks up) the model.
    :param after: tasks that must have succeeded before.
    :return: to be chained.
    """
    spec = read_manifest_shape(manifest)
    before: DependencyMixin = registered
    made: dict[str, Piece] = {}
    for name, environment in spec.environments.items():
        made[name] = _environment_tasks(manifest, spec, name, environment, registered, mlpipex_conn_id)
        made[name].set_upstream(before)
        before = made[name]
    released = ReleaseTasks(made)
    _put_after(released, after)
    return released


def _environment_tasks(
    manifest: str,
    spec: Manifest,
    name: str,
    environment: EnvironmentSpec,
    registered: TrainingTasks | RegisterModelOperator,
    mlpipex_conn_id: str,
) -> Piece:
    """The group of one environment, up to its last task that counts."""
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
            endpoint_hint=common["endpoint"],
            mlpipex_conn_id=mlpipex_conn_id,
            **_RETRIES,
        )
        # Also where this manifest asks for none: the one in force may, and only a task can be answered. Where neither
        # does, it says so and passes at once.
        review = spec.review_in(name)
        waits: dict[str, Any] = {"response_timeout": review.timeout} if review else {}
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
        chain(*stages)
        stages[-1] >> abandon
    return Piece(first=gates, last=stages[-1])


def _poll(stage: timedelta) -> float:
    """Seconds between looks at a stage that lasts so long."""
    return look_every(stage).total_seconds()
