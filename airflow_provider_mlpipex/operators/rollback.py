"""Rollback: all traffic back to the last good release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_mlpipex.links.mlpipex import EndpointLink
from airflow_provider_mlpipex.operators.base import StageRun, TrafficOperator


class RollbackOperator(TrafficOperator):
    """Return an endpoint to its last good release. Rebuilds nothing and needs no registry.

    A rollout that merely waits, for a review or its first traffic, is rejected with it. A retry does not undo twice.
    Returns whether anything was ``rolled_back``, ``current`` and what was ``done``.

    :param endpoint: ``environment/name``.
    :param cause: why; goes into ledger and alert.
    :param release: take only this release away, by its id; where another one serves, nothing is done. Empty: whichever
        serves.
    :param only_open: clean up instead, as the teardown of a release: end this run's rollout if it is still on trial,
        and do nothing after a promotion or an ordinary end.
    :param rollout_id: for ``only_open``, the rollout to end.
    """

    stage_name = "rollback"
    template_fields: Sequence[str] = (*TrafficOperator.template_fields, "cause", "release")
    operator_extra_links = (EndpointLink(),)

    def __init__(
        self, *, cause: str = "manual rollback", release: str = "", only_open: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.cause = cause
        self.release = release
        self.only_open = only_open

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout import rollback

        if self.only_open:
            state = rollback.end_trial(run.platform, run.endpoint, cause=self.cause, rollout_id=self.rollout_id)
            if state is None:
                run.envelope.outcome = "skipped"
                EndpointLink.push(run)
                return {"rolled_back": False}
        else:
            report = rollback.answer_request(
                run.platform, run.endpoint, cause=self.cause, release_id=self.release or None
            )
            undone = bool(report.ended or report.returned_from)
            if undone:
                run.envelope.rolled_back(self.cause)
            else:
                run.envelope.outcome = "skipped"
            EndpointLink.push(run)
            return {
                "rolled_back": undone,
                "current": report.current,
                "done": report.sentence,
                "notified": list(report.notified),
                "not_notified": list(report.not_notified),
            }
        run.envelope.rolled_back(self.cause)
        EndpointLink.push(run)
        return {"rolled_back": True, "current": state.current.id if state.current else None}
