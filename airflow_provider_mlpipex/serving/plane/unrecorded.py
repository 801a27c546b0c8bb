"""Traffic that was taken back while the ledger could not be written: the routes first, and the record after.

Until the ledger has it, the plane takes no plan with the release that went: a task that reads an older ledger would put
it in force again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from airflow_provider_mlpipex.domain.errors import PlanRefused
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.serving.periodic import Background
from airflow_provider_mlpipex.serving.plane_log import ROLLBACK_RECORDED, plane_log

EVERY_S = 5.0


class TakenBack(Value):
    """:param release: what users have no longer. :param returned_to: what they have. :param cause: in words.
    :param user: who asked for it. :param at: when.
    """

    release: str
    returned_to: str
    cause: str
    user: str
    at: datetime


def plan_without(plan: TrafficPlan, *, returns_to: str | None, release_id: str | None) -> tuple[str, TrafficPlan]:
    """The release that a rollback takes away, by what the plane itself knows, and the plan without it.

    :param returns_to: the release that was current before. :param release_id: take this one away and no other.
    :raises PlanRefused: there is nothing to return to, or ``release_id`` is not what users would lose.
    """
    on_trial = plan.candidate or (plan.mirror.release if plan.mirror else None)
    taken = on_trial or plan.current
    if release_id not in (None, taken):
        raise _refused(plan, value=f"release {release_id}", limit=f"what it takes away: {taken}")
    if on_trial is not None:
        return taken, plan.only_current()
    if returns_to is None:
        limit = "a release that was current before it and runs here"
        raise _refused(plan, value=f"current {plan.current}", limit=limit)
    back = TrafficPlan(
        endpoint=plan.endpoint, current=returns_to, sticky_header=plan.sticky_header, timeout_s=plan.timeout_s
    )
    return taken, back


def require_not_taken_back(plan: TrafficPlan, taken: TakenBack | None) -> None:
    """:raises PlanRefused: ``plan`` has a release that was taken back, and no ledger says so yet."""
    if taken is not None and taken.release in plan.releases:
        raise PlanRefused(
            f"traffic plan {plan.id} of {plan.endpoint}",
            value=f"release {taken.release}",
            limit=f"it was taken back at {taken.at:%H:%M:%S} UTC, and the ledger could not be written ({taken.cause})",
            remedy="the plane records it as soon as the ledger can be written; then run the task again",
        )


class Unrecorded(Background):
    """:param owed: what is not recorded yet. :param record: writes one down; raises while it cannot.
    :param say: takes what it raised.
    """

    def __init__(
        self,
        owed: Callable[[], Iterable[tuple[EndpointRef, TakenBack]]],
        record: Callable[[EndpointRef, TakenBack], None],
        say: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("rollbacks to record", every_s=EVERY_S, say=say)
        self._owed = owed
        self._record = record

    def work(self) -> None:
        for endpoint, taken in self._owed():
            self._record(endpoint, taken)
            plane_log.info(ROLLBACK_RECORDED, endpoint=str(endpoint), release=taken.release)


def _refused(plan: TrafficPlan, *, value: str, limit: str) -> PlanRefused:
    return PlanRefused(
        f"rollback of {plan.endpoint} without its ledger",
        value=value,
        limit=limit,
        remedy="let the ledger be written again, or name the release that serves",
    )
