"""Watching every endpoint for hours, from one deferred task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, PlaneUnavailable, error_from_dict
from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.log_fields import ReadableLog
from airflow_provider_mlpipex.operators.base import task_origin

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Records that one run prunes at most: the next run goes on.
MAX_PRUNED = 100_000


class StandingWatchOperator(BaseOperator):
    """Watch every endpoint that the ledger knows, from one deferred task that holds no worker.

    Inside a rollback window it reverts like the watch of the release Dag, whose sensor may have been killed. Outside
    one, on-call is notified once that an endpoint is unhealthy, reminded every hour, and told when it is healthy again;
    a person decides. While nothing happens nothing is written.

    A run lasts ``lifetime`` and then gives way to the next one, so that neither its log nor an outdated version of the
    provider stays for ever. Give the Dag ``schedule="* * * * *"``, ``catchup=False`` and ``max_active_runs=1``: the
    next run begins at once when one ends, and a watch that cannot begin is tried once a minute. A run also forgets
    routine records of the ledger that are older than ``records_kept``.

    :param endpoints: patterns of endpoints (``production/*``); all if empty.
    :param look_every: seconds between looks at all of them.
    :param lifetime: of one run.
    :param give_up_after: seconds without a single answer of ledger and plane, after which the task fails.
    :param records_kept: age of routine records (``mlpipex ledger prune``); ``None`` keeps them all.
    :param mlpipex_conn_id: connection of type ``mlpipex``.
    """

    template_fields: Sequence[str] = ("endpoints",)

    def __init__(
        self,
        *,
        endpoints: Sequence[str] = (),
        look_every: float = 5.0,
        lifetime: timedelta = timedelta(hours=6),
        give_up_after: float = 600.0,
        records_kept: timedelta | None = timedelta(days=90),
        mlpipex_conn_id: str = MlpipexHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoints = endpoints
        self.look_every = look_every
        self.lifetime = lifetime
        self.give_up_after = give_up_after
        self.records_kept = records_kept
        self.mlpipex_conn_id = mlpipex_conn_id
        if not 0 < look_every <= lifetime.total_seconds():
            raise ConfigurationInvalid(
                f"StandingWatchOperator {self.task_id}, look_every",
                value=look_every,
                limit=f"seconds, above 0 and within the lifetime of {format_duration(lifetime)}",
                remedy="correct the Dag file",
            )
        if isinstance(endpoints, str):
            raise ConfigurationInvalid(
                f"StandingWatchOperator {self.task_id}, endpoints",
                value=endpoints,
                limit="a list of patterns, like ['production/*']",
                remedy="correct the Dag file",
            )

    def execute(self, context: Context) -> None:
        from airflow_provider_mlpipex.observability import RECORDS_PRUNED
        from airflow_provider_mlpipex.services.rollout import history
        from airflow_provider_mlpipex.triggers.standing_watch import StandingWatchTrigger

        platform = MlpipexHook(self.mlpipex_conn_id).platform(task_origin(context))
        if self.records_kept is not None:
            pruned = history.prune(platform, older_than=self.records_kept, limit=MAX_PRUNED)
            ReadableLog(self.log).info(RECORDS_PRUNED, records=pruned)
        origin = task_origin(context)
        self.defer(
            trigger=StandingWatchTrigger(
                mlpipex_conn_id=self.mlpipex_conn_id,
                until=(platform.clock.now() + self.lifetime).isoformat(),
                endpoints=self.endpoints,
                poll_interval=self.look_every,
                give_up_after=self.give_up_after,
                task=origin.model_dump(include={"dag_id", "run_id", "task_id", "try_number"}),
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """End the run; the next one watches on.

        :raises MlpipexError: nobody could look for ``give_up_after``; the next run tries again.
        """
        payload = dict(event or {})
        if payload.pop("status", None) == "error":
            raise error_from_dict(payload, nearest=PlaneUnavailable)
        return {"rounds": payload.get("rounds", 0)}
