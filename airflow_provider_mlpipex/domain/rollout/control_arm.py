"""The control arm of a watched promotion: what the previous release keeps of the requests, and when that is more.

Verbs as in :mod:`.decisions`: each looks at the state and answers with the events that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from airflow_provider_mlpipex.domain.rollout.events import (
    ControlGrown,
    Event,
    TrafficPlanned,
)
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    EVEN_ARMS,
    TrafficPlan,
)


def grow_control(state: EndpointState, *, rollout_id: str, gates: Sequence[str], broken_since: datetime) -> list[Event]:
    """Intent to give the control arm of a watched promotion half of the requests, because it is to tell whether an
    outage broke the limit of ``gates``; nothing where it has them, or where there is no arm."""
    names = ", ".join(gates)
    planned = _resize_control(state, rollout_id, EVEN_ARMS, f"a control arm that can tell an outage: {names} broken")
    grown = ControlGrown(rollout_id=rollout_id, gates=tuple(gates), broken_since=broken_since)
    return [grown, *planned] if planned else []


def shrink_control(state: EndpointState, *, rollout_id: str) -> list[Event]:
    """Intent to give a grown control arm its own share again."""
    own = state.rollout.policy.control_weight if state.rollout else None
    if not own or own == EVEN_ARMS:
        return []
    return _resize_control(state, rollout_id, own, "no limit is broken any more: the control arm is small again")


def _resize_control(state: EndpointState, rollout_id: str, weight: int, reason: str) -> list[Event]:
    rollout, planned = state.rollout, state.planned
    if rollout is None or rollout.id != rollout_id or rollout.phase != "watching" or state.rollback is not None:
        return []
    if planned is None or planned.control is None or planned.control_weight == weight:
        return []
    resized = TrafficPlan.model_validate({**planned.model_dump(), "control_weight": weight})
    return [TrafficPlanned(plan=resized, reason=reason)]


def end_control(state: EndpointState, *, reason: str) -> list[Event]:
    """Intent to give the share of the control arm to the promoted release as well; nothing where there is no arm."""
    if state.rollback is not None or state.planned is None or state.planned.control is None:
        return []
    return [TrafficPlanned(plan=state.planned.only_current(), reason=reason)]
