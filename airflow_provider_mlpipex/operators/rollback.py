"""Rollback: all traffic back to the last good release."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_mlpipex.domain.errors import ReviewRejected
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.links.mlpipex import EndpointLink, HealthPageLink
from airflow_provider_mlpipex.operators.base import StageRun, StageTask, TrafficOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class RollbackOperator(TrafficOperator):
    """Return an endpoint to its last good release. Rebuilds nothing and needs no registry.

    A rollout that merely waits, for a review or its first traffic, is rejected with it. A retry does not undo twice.
    Returns whether anything was ``rolled_back``, ``current``, what was ``done``, and who was ``notified`` and who was
    ``not_notified``, with why.

    :param endpoint: ``environment/name``.
    :param cause: why; goes into ledger and alert.
    :param release: take only this release away, by its id; where another one serves, nothing is done. Empty: whichever
        serves.
    :param hold: whether no automation may release its lineage here again until somebody resumes
        (``mlpipex resume``); a template may answer ``true`` or ``false``.
    :param only_open: clean up instead, as the teardown of a release: end this run's rollout if it is still on trial,
        and do nothing after a promotion or an ordinary end.
    :param rollout_id: for ``only_open``, the rollout to end.
    """

    stage_name = "rollback"
    template_fields: Sequence[str] = (*TrafficOperator.template_fields, "cause", "release", "hold")
    operator_extra_links = (EndpointLink(), HealthPageLink())

    def __init__(
        self,
        *,
        cause: str = "manual rollback",
        release: str = "",
        hold: bool | str = True,
        only_open: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cause = cause
        self.release = release
        self.hold = hold
        self.only_open = only_open

    def _holds(self) -> bool:
        """:raises ConfigurationInvalid: the template answered neither yes nor no: nothing is taken back by a guess."""
        said = str(self.hold).strip().lower()
        if said not in ("true", "false"):
            raise self.invalid("hold", self.hold, "true or false")
        return said == "true"

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout import rollback

        HealthPageLink.push(run)
        if self.only_open:
            report = rollback.end_trial(run.platform, run.endpoint, cause=self.cause, rollout_id=self.rollout_id)
        else:
            report = rollback.answer_request(
                run.platform, run.endpoint, cause=self.cause, release_id=self.release or None, hold=self._holds()
            )
        undone = report is not None and bool(report.ended or report.returned_from)
        if undone:
            run.envelope.rolled_back(self.cause)
        else:
            run.envelope.outcome = "skipped"
        EndpointLink.push(run)
        return {"rolled_back": undone, **(report.facts if report else {})}


class RollbackConfirmationOperator(StageTask, HITLOperator):
    """Show what an endpoint serves and what a rollback would return it to, and let a person say which release to take
    back, by its name.

    A form of Airflow is drawn before anything of this provider runs, so it cannot show what serves; this task can.
    Where ``release`` is given, nobody is asked. Returns ``release``, for :class:`RollbackOperator`, and who chose it;
    is skipped, and with it what comes behind it, where the person leaves everything as it is or nothing is left to
    undo. Nothing is changed by this task.

    :param endpoint: ``environment/name``.
    :param cause: why, shown beside the question.
    :param release: the release to take back, where it is known already.
    :param response_timeout: after this without an answer the task fails.
    :param mlpipex_conn_id: connection of type ``mlpipex``.
    """

    LEAVE = "Leave it as it is"
    stage_name = "rollback"
    template_fields = ("endpoint", "cause", "release", "subject", "body")

    def __init__(
        self,
        *,
        endpoint: str,
        cause: str = "",
        release: str = "",
        response_timeout: timedelta = timedelta(hours=1),
        mlpipex_conn_id: str = MlpipexHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("subject", f"Rollback of {endpoint}")
        # Each item under its own key, as whoever writes ``confirm.output["release"]`` expects.
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(options=[self.LEAVE], response_timeout=response_timeout, **kwargs)
        self.endpoint = endpoint
        self.cause = cause
        self.release = release
        self.mlpipex_conn_id = mlpipex_conn_id
        self.check_endpoint()

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def execute(self, context: Context) -> dict[str, Any] | None:
        from airflow_provider_mlpipex.services.rollout.rollback import offer

        with self.in_stage(context) as run:
            if self.release:
                return {"release": self.release, "asked": False}
            offered = offer(run.platform, run.endpoint)
            run.envelope.add(**offered.to_json())
            run.envelope.outcome = "deferred" if offered.takes else "skipped"
        if offered.takes is None:
            raise AirflowSkipException("; ".join(offered.sentences))
        self.options = [f"{_TAKE}{offered.takes}", self.LEAVE]
        why = [f"- why: {self.cause}"] if self.cause else []
        self.body = "\n".join([f"- {sentence}" for sentence in offered.sentences] + why)
        answered: dict[str, Any] | None = super().execute(context)
        return answered

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        with self.in_stage(context) as run:
            if "error" in event or event.get("timedout"):
                raise ReviewRejected(
                    f"rollback of {run.endpoint}",
                    value=f"nobody answered within {self.response_timeout}",
                    limit="a person who names the release to take back",
                    remedy=f"nothing was changed; if it must go: mlpipex rollback {run.endpoint} --cause '…'",
                )
            person = event.get("responded_by_user") or {}
            by = str(person.get("name") or person.get("id") or "unknown")
            # Airflow takes no answer but one of those that were offered.
            (answer,) = event["chosen_options"]
            taken = str(answer).removeprefix(_TAKE) if str(answer).startswith(_TAKE) else None
            run.envelope.add(by=by, takes=taken)
            if taken is None:
                run.envelope.outcome = "skipped"
        if taken is None:
            raise AirflowSkipException(f"{by} leaves {self.endpoint} as it is")
        return {"release": taken, "asked": True, "by": by}


#: What the button that takes a release back begins with.
_TAKE = "Take back "
