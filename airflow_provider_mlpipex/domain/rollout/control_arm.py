"""What the other release keeps of the requests to be compared with: the control arm of a watched promotion, and the
current release in a canary. When that is more, and when it ends.

Verbs as in :mod:`.decisions`: each looks at the state and answers with the events that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from airflow_provider_mlpipex.domain.rollout.events import ControlGrown, Event, TrafficPlanned
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Phase
from airflow_provider_mlpipex.domain.rollout.traffic_plan import EVEN_ARMS, TIMEOUT_S, TrafficPlan

#: Times the length of a queue, in which a release with a load of 80 % works it off.
_WORKED_OFF_IN = 5


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
    planned = _planned(state, rollout_id, "watching")
    if planned is None or planned.control is None or planned.control_weight == weight:
        return []
    return [_planned_with(planned, reason, control_weight=weight)]


def even_canary(state: EndpointState, *, rollout_id: str, gates: Sequence[str]) -> list[Event]:
    """Intent to give both releases of a canary half of the requests, because ``gates`` fail for a candidate that has
    more; nothing where it has not. The step begins anew once the split is in force."""
    planned = _planned(state, rollout_id, "canary")
    if planned is None or planned.candidate is None or planned.candidate_weight <= EVEN_ARMS:
        return []
    reason = f"equal arms, to tell a slow release from a busy one: {', '.join(gates)}"
    return [_planned_with(planned, reason, candidate_weight=EVEN_ARMS)]


def settling(state: EndpointState) -> timedelta:
    """For how long latencies say nothing of arms that have just been made even; zero where they have not.

    A release that was behind with more of the requests is behind still when it gets half. What waits there is at most
    ``timeout_s`` of work, because more is given up, and a queue of T seconds is worked off in T / (1 - load).
    """
    rollout, planned = state.rollout, state.planned
    if rollout is None or planned is None:
        return timedelta(0)
    weights = rollout.policy.canary_weights
    step = weights[rollout.step] if rollout.phase == "canary" and rollout.step < len(weights) else 0
    fell = planned.candidate_weight == EVEN_ARMS < step
    grew = rollout.phase == "watching" and planned.control_weight > (rollout.policy.control_weight or 0)
    return _WORKED_OFF_IN * timedelta(seconds=planned.timeout_s or TIMEOUT_S) if fell or grew else timedelta(0)


def _planned(state: EndpointState, rollout_id: str, phase: Phase) -> TrafficPlan | None:
    """The plan of the rollout, while it is in ``phase`` and not taken back."""
    rollout = state.rollout
    if rollout is None or rollout.id != rollout_id or rollout.phase != phase or state.rollback is not None:
        return None
    return state.planned


def _planned_with(planned: TrafficPlan, reason: str, **weights: int) -> TrafficPlanned:
    return TrafficPlanned(plan=TrafficPlan.model_validate({**planned.model_dump(), **weights}), reason=reason)


def end_control(state: EndpointState, *, reason: str) -> list[Event]:
    """Intent to give the share of the control arm to the promoted release as well; nothing where there is no arm."""
    if state.rollback is not None or state.planned is None or state.planned.control is None:
        return []
    return [TrafficPlanned(plan=state.planned.only_current(), reason=reason)]
