"""Waiting for a stage under watch: shadow, one canary step, and the window after promotion.

Each sensor looks once and then defers: the trigger goes on looking, and reverts by itself. When the task comes back it
reads the ledger, not the event, so a lost, late or doubled event changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseSensorOperator

from airflow_provider_mlpipex.domain.errors import GateFailed, GateUndecided, RolloutEnded
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.links.mlpipex import HealthPageLink
from airflow_provider_mlpipex.operators.base import ROLLOUT_ID, StageRun, StageTask, task_origin
from airflow_provider_mlpipex.sensors.base import refuse_soft_fail

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mlpipex.services.rollout.watch import WatchedStage, WatchResult


class RolloutSensor(StageTask, BaseSensorOperator):
    """Base of the sensors: succeeds when the stage has passed, fails when the rollout was rolled back.

    It never soft-fails: a safety gate that could not look is not a gate that passed. It needs no ``timeout`` either: a
    stage that is undecided for several times its duration is put on hold, and on-call is asked. Give it retries:
    Airflow may lose a task on its way to the triggerer or back, and running it again changes nothing.

    :param endpoint: ``environment/name``.
    :param rollout_id: the rollout; one a Dag run by default.
    :param poke_interval: seconds between looks on the triggerer.
    :param mlpipex_conn_id: connection of type ``mlpipex``.
    :raises ConfigurationInvalid: ``soft_fail`` or ``never_fail``, which would turn a rollback into a skipped task.
    """

    watched: ClassVar[WatchedStage]
    template_fields: Sequence[str] = ("endpoint", "rollout_id")
    operator_extra_links = (HealthPageLink(),)
    step = -1

    def __init__(
        self,
        *,
        endpoint: str,
        rollout_id: str = ROLLOUT_ID,
        poke_interval: float = 5.0,
        mlpipex_conn_id: str = MlpipexHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        refuse_soft_fail(
            self,
            limit="a rollback fails the task that waited",
            remedy="remove it; downstream tasks that should run all the same get trigger_rule='all_done'",
        )
        self.endpoint = endpoint
        self.rollout_id = rollout_id
        self.mlpipex_conn_id = mlpipex_conn_id
        self.check_endpoint()

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def execute(self, context: Context) -> dict[str, Any]:
        with self.in_stage(context) as run:
            result = self._look(run)
            run.envelope.gates(result.results)
            if result.status != "watching":
                return self._conclude(run, result)
            run.envelope.outcome = "deferred"
        self._wait(context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Come back from the trigger. Its ``event`` is told; what is true is read from the ledger."""
        from airflow_provider_mlpipex.domain.gates.verdict import GateResult

        with self.in_stage(context) as run:
            payload = event or {}
            run.envelope.gates([GateResult.model_validate(result) for result in payload.get("results", ())])
            self.rollout_id = self.rollout_id or str(payload.get("rollout_id", ""))
            watched = self._look(run)
            if watched.status != "watching":
                return self._conclude(run, watched)
            run.envelope.outcome = "deferred"
        self._wait(context)

    def _look(self, run: StageRun) -> WatchResult:
        from airflow_provider_mlpipex.services.rollout import watch

        HealthPageLink.push(run, rollout_id=self.rollout_id)
        return watch.look(
            run.platform, endpoint=run.endpoint, rollout_id=self.rollout_id, stage=self.watched, step=self.step
        )

    def _conclude(self, run: StageRun, result: WatchResult) -> dict[str, Any]:
        run.envelope.add(verdict=result.verdict)
        if result.status == "ended":
            run.envelope.rolled_back(result.cause)
            raise RolloutEnded(
                f"rollout {self.rollout_id} of {run.endpoint}",
                value=result.ending,
                limit=result.cause,
                remedy="traffic is back on the last good release; mend the candidate, then start a new run",
            )
        return {"status": result.status, "verdict": result.verdict}

    def _wait(self, context: Context) -> NoReturn:
        from airflow_provider_mlpipex.triggers.rollout import RolloutTrigger

        origin = task_origin(context)
        self.defer(
            trigger=RolloutTrigger(
                mlpipex_conn_id=self.mlpipex_conn_id,
                endpoint=self.endpoint,
                rollout_id=self.rollout_id,
                stage=self.watched,
                step=self.step,
                poll_interval=self.poke_interval,
                task=origin.model_dump(include={"dag_id", "run_id", "task_id", "try_number"}),
            ),
            method_name="execute_complete",
        )


class ShadowSensor(RolloutSensor):
    """Wait until the shadow has mirrored for its duration and its gates pass.

    Its XCom also holds ``comparison``: both releases' answers to the same requests, with the worst slices
    (``domain.paired.shadow_report``). The log and the ledger hold it too, whether the stage has passed or not.
    """

    stage_name = "shadow"
    watched = "shadow"

    def _conclude(self, run: StageRun, result: WatchResult) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout.judgements import last_judgement

        judged = last_judgement(run.platform, run.endpoint, rollout_id=self.rollout_id, stage="shadow")
        facts = judged.facts if judged else None
        if facts:
            run.envelope.compared(facts)
        return {**super()._conclude(run, result), **({"comparison": facts} if facts else {})}


class CanarySensor(RolloutSensor):
    """Wait until one canary step has baked for its duration and its gates pass.

    :param step: index into the manifest's ``canary.steps``, from 0.
    """

    stage_name = "canary"
    watched = "canary"

    def __init__(self, *, step: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.check_step(step)


class EndpointHealthSensor(RolloutSensor):
    """Watch what was promoted until its rollback window ends; reverts by itself when a gate fails.

    Without a ``rollout_id`` (the scheduled watch) it judges whatever is current: inside a rollback window exactly like
    that, outside one with a single look that fails and alerts when a gate does, and reverts nothing.

    :param endpoint: ``environment/name``.
    :param rollout_id: the rollout whose promotion is watched; empty: whatever is current.
    """

    stage_name = "watch"
    watched = "watch"

    def _look(self, run: StageRun) -> WatchResult:
        if not self.rollout_id:
            from airflow_provider_mlpipex.services import journal

            rollout = journal.load(run.platform, run.endpoint).rollout
            if rollout is None or rollout.phase != "watching":
                return self._look_outside_window(run)
            self.rollout_id = rollout.id
        return super()._look(run)

    def _look_outside_window(self, run: StageRun) -> WatchResult:
        from airflow_provider_mlpipex.services.rollout.health import check_health

        health = check_health(run.platform, run.endpoint)
        if health.verdict in ("fail", "error"):
            run.envelope.gates(health.results)
            raise (GateFailed if health.verdict == "fail" else GateUndecided)(
                f"health of {run.endpoint}",
                value=health.cause,
                limit="every rollback gate of its manifest passes",
                remedy=f"decide whether to return to the previous release: mlpipex rollback {run.endpoint}",
            )
        return health.model_copy(update={"status": "passed"})
