"""A rollback that is tried: all requests go to the previous release for a moment, and back.

The current release stays what every request can fall back to, and the plan has a lease: a request that the previous one
fails is answered all the same, and a process that dies meanwhile costs nobody anything. Nothing of the endpoint's past
changes: *previous* is still there to return to afterwards.
"""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import IllegalTransition, RolloutInProgress
from airflow_provider_mlpipex.domain.rollout.events import (
    Event,
    RollbackDrillBegan,
    RollbackDrillEnded,
    TrafficPlanned,
)
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT, TrafficPlan


def begin(state: EndpointState, *, reason: str, lease_s: float) -> list[Event]:
    """Send all requests to the previous release.

    :param lease_s: seconds after which the plane itself returns them.
    :raises RolloutInProgress: a rollout, a rollback or another drill is under way.
    :raises IllegalTransition: there is no previous release.
    """
    under_way = (
        f"rollout {state.rollout.id}"
        if state.rollout
        else "a rollback"
        if state.rollback
        else "a drill"
        if state.drill
        else ""
    )
    if under_way:
        raise RolloutInProgress(
            f"drill of {state.endpoint}",
            value="a drill",
            limit=f"{under_way} moves its traffic",
            remedy="wait for its end: a drill is for a calm endpoint",
        )
    if state.current is None or state.previous is None or state.planned is None:
        raise IllegalTransition(
            f"drill of {state.endpoint}",
            value=f"current {state.current.id if state.current else 'none'}",
            limit="there is no previous release to return to",
            remedy="release a second time first; after a rollback there is none until the next promotion",
        )
    plan = state.planned.model_copy(
        update={
            "current": state.current.id,
            "candidate": state.previous.id,
            "candidate_weight": TOTAL_WEIGHT,
            "control": None,
            "control_weight": 0,
            "mirror": None,
            "fallback": None,
            "lease_s": lease_s,
        }
    )
    # Made anew: a copy keeps what was computed of the original.
    plan = TrafficPlan.model_validate(plan.model_dump())
    began = RollbackDrillBegan(
        release=state.current.id, to_release=state.previous.id, plan_id=plan.id, before=state.planned, reason=reason
    )
    return [began, TrafficPlanned(plan=plan, reason=f"drill of a rollback: {reason}")]


def end(state: EndpointState) -> list[Event]:
    """Send all requests back; nothing, where somebody has moved them meanwhile."""
    if state.drill is None:
        return []
    return [TrafficPlanned(plan=state.drill.before, reason="the drill is over")]


def interrupt(state: EndpointState, *, cause: str) -> list[Event]:
    """The same for whoever finds a drill that nobody ends any more."""
    if state.drill is None:
        return []
    ended = RollbackDrillEnded(release=state.drill.release, to_release=state.drill.to_release, ok=False, detail=cause)
    return [*end(state), ended]
