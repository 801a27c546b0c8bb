"""Waiting for drift, as for an alarm: whatever runs downstream runs when it is found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_mlpipex.domain.errors import DriftUndecided
from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.operators.base import StageRun, task_origin
from airflow_provider_mlpipex.operators.drift import DRIFT_ALIAS, DriftTask, Undecided, summary_of
from airflow_provider_mlpipex.sensors.base import refuse_soft_fail

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mlpipex.services.drift.check import DriftCheck

#: What a triggerer may be late by, before Airflow itself ends the waiting.
_LATE = timedelta(minutes=10)


class DriftSensor(DriftTask, BaseSensorOperator):
    """Wait until an endpoint drifts. Succeeds when it does, and updates the Asset ``mlpipex://drift/<name>``.

    Where the time is over without drift the task is *skipped*, and whatever waits for it too: an alarm that did not
    ring has not failed. Where the last look could not decide, nobody knows that, and the task fails. It looks once,
    then defers: the trigger measures from counts, and only the task writes to the ledger and tells on-call.

    The Asset is updated once for the same drift; the sensor of the next Dag run succeeds all the same while the drift
    lasts. Returns what ``DriftCheckOperator`` returns.

    :param endpoint: ``environment/name``.
    :param manifest: path of a manifest by whose numbers to judge, instead of the one that the current release was
        promoted under.
    :param release: identifier of another release than the current one.
    :param undecided: ``fail``, or ``skip`` where in the end there is nothing current or too few rows.
    :param poke_interval: seconds between looks on the triggerer.
    :param mlpipex_conn_id: connection of type ``mlpipex``.
    :raises ConfigurationInvalid: ``soft_fail`` or ``never_fail``, which would turn a broken look into a skipped task.
    """

    template_fields: Sequence[str] = ("endpoint", "manifest", "release")

    def __init__(
        self,
        *,
        endpoint: str,
        manifest: str | None = None,
        release: str = "",
        undecided: Undecided = "fail",
        poke_interval: float = 300.0,
        mlpipex_conn_id: str = MlpipexHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        refuse_soft_fail(
            self,
            limit="a task is skipped where there was no drift, and fails where nobody knows",
            remedy="remove it; undecided='skip' skips where there are too few rows to tell",
        )
        self.endpoint = endpoint
        self.manifest = manifest
        self.release = release
        self.undecided = undecided
        self.mlpipex_conn_id = mlpipex_conn_id
        self.check_endpoint()
        self.require_one_of("undecided", undecided, Undecided)
        self.add_outlets([DRIFT_ALIAS])

    def execute(self, context: Context) -> dict[str, Any]:
        return self._wait(context, until=None, over=False)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Come back from the trigger: look again, for what its ``event`` says may be over by now."""
        payload = event or {}
        until = datetime.fromisoformat(payload["until"]) if "until" in payload else None
        return self._wait(context, until=until, over=payload.get("status") == "over")

    def _wait(self, context: Context, *, until: datetime | None, over: bool) -> dict[str, Any]:
        """:param until: when the waiting ends; as long from now as ``timeout`` says if not known yet."""
        skipped = ""
        with self.in_stage(context) as run:
            until = until or run.platform.clock.now() + timedelta(seconds=self.timeout)
            check = self._look(run, over=over)
            if check is not None and check.verdict == "fail":
                self.announce(run, check)
                return summary_of(check)
            if over:
                skipped = self._quiet(run, check)
            else:
                run.envelope.outcome = "deferred"
            left = until - run.platform.clock.now()
        if skipped:
            raise AirflowSkipException(skipped)
        self._defer(context, until, left)

    def _look(self, run: StageRun, *, over: bool) -> DriftCheck | None:
        """What was found; ``None`` where nothing is current, which may change while there is time."""
        try:
            return self.look_once(run)
        except DriftUndecided:
            if over and self.undecided == "fail":
                raise
            return None

    def _quiet(self, run: StageRun, check: DriftCheck | None) -> str:
        """Why the task is skipped, now that the time is over.

        :raises DriftUndecided: it is not: nobody knows whether there was drift.
        """
        if self.may_skip(run, check.verdict if check else "inconclusive"):
            return check.reason if check else f"nothing is current on {run.endpoint}"
        if check is not None:
            from airflow_provider_mlpipex.services.drift.check import require

            require(check)
        run.envelope.outcome = "skipped"
        return f"no drift of {run.endpoint} within {format_duration(timedelta(seconds=self.timeout))}"

    def _defer(self, context: Context, until: datetime, left: timedelta) -> NoReturn:
        from airflow_provider_mlpipex.triggers.drift import DriftTrigger

        origin = task_origin(context)
        self.defer(
            trigger=DriftTrigger(
                mlpipex_conn_id=self.mlpipex_conn_id,
                endpoint=self.endpoint,
                until=until.isoformat(),
                manifest=self.manifest or "",
                release=self.release,
                poll_interval=self.poke_interval,
                task=origin.model_dump(include={"dag_id", "run_id", "task_id", "try_number"}),
            ),
            method_name="execute_complete",
            timeout=max(left, timedelta(0)) + _LATE,
        )
