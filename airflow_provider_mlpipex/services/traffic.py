"""Moving traffic: intent into the ledger, effect on the plane, confirmation into the ledger. In this order, always.

Whoever comes after a crash calls :func:`converge` and finds in the ledger what was meant to happen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_provider_mlpipex.domain import rollout as machine
from airflow_provider_mlpipex.domain.endpoint_state import EndpointState
from airflow_provider_mlpipex.domain.errors import LedgerConflict, PlanRefused
from airflow_provider_mlpipex.domain.events import Event, TrafficConfirmed
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.observation import AppliedPlan
from airflow_provider_mlpipex.domain.traffic import TrafficPlan
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

Decision = Callable[[EndpointState], Sequence[Event]]

#: Seconds that a release which was warm a moment ago may take to come back before it is called not ready.
REVIVAL_TIMEOUT_S = 120.0


def shift(platform: Platform, endpoint: EndpointRef, *, intend: Decision, conclude: Decision) -> EndpointState:
    """Append what ``intend`` decides, put the plan in force, then append confirmation and ``conclude`` together."""
    state = journal.decide(platform, endpoint, intend)
    plan = state.planned
    if plan is None or state.confirmed:
        return journal.decide(platform, endpoint, conclude)
    applied = apply(platform, state, plan)
    return journal.decide(platform, endpoint, lambda now: [*_confirm(now, applied), *conclude(now)])


def apply(platform: Platform, state: EndpointState, plan: TrafficPlan) -> AppliedPlan:
    """Put ``plan`` in force, reviving a release of it that has died meanwhile. Nothing is built for that: artifact
    and runtime are still in the plane's caches."""
    try:
        return platform.plane.apply(plan)
    except PlanRefused:
        missing = [state.release(release_id) for release_id in plan.releases]
        for release in missing:
            if release is not None:
                platform.plane.ensure(state.endpoint, release, timeout_s=REVIVAL_TIMEOUT_S)
        return platform.plane.apply(plan)


def _confirm(state: EndpointState, applied: AppliedPlan) -> list[Event]:
    if state.planned is None or state.planned.id != applied.plan.id:
        raise LedgerConflict(
            f"traffic of {state.endpoint}",
            value=applied.plan.id,
            limit=f"plan {state.planned.id if state.planned else 'none'} was written meanwhile",
            remedy="run the task again; it converges on the newer plan",
        )
    if state.confirmed:
        return []
    return [TrafficConfirmed(plan_id=applied.plan.id, acknowledged_ms=applied.acknowledged_ms)]


def converge(platform: Platform, endpoint: EndpointRef) -> EndpointState:
    """Finish what a killed writer left half done, and take note of what the plane did by itself.

    - A decided rollback is carried out.
    - A planned shift is put in force.
    - A trial whose lease ran out was taken back by the plane: the rollout is rolled back in the ledger as well.
    """
    state = journal.load(platform, endpoint)
    if state.rollback or not state.confirmed:
        return shift(platform, endpoint, intend=lambda _: [], conclude=machine.confirm_rollback)
    on_trial = state.rollout is not None and state.rollout.phase in ("shadow", "canary")
    if on_trial and state.planned is not None:
        seen = platform.plane.observe(endpoint)
        if seen.plan is None or seen.plan.id != state.planned.id:
            cause = "the watcher went silent and the plane returned all traffic to the current release"
            return shift(
                platform,
                endpoint,
                intend=lambda now: machine.roll_back(now, cause=cause, detected_at=platform.clock.now()),
                conclude=machine.confirm_rollback,
            )
    return state
