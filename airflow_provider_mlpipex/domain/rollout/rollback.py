"""Rollback as a pure decision: which release is taken away, which one serves again, and what is rejected on the way."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_mlpipex.domain.errors import IllegalTransition, RolloutInProgress
from airflow_provider_mlpipex.domain.rollout.endpoint_hold import hold_back
from airflow_provider_mlpipex.domain.rollout.events import (
    Event,
    RollbackDecided,
    RolledBack,
    RolloutRejected,
    TrafficPlanned,
)
from airflow_provider_mlpipex.domain.rollout.preconditions import is_promoted, last_promoted, own
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout
from airflow_provider_mlpipex.domain.rollout.traffic_plan import StickyHeader, TrafficPlan


def roll_back(
    state: EndpointState,
    *,
    cause: str,
    detected_at: datetime,
    rollout_id: str | None = None,
    release_id: str | None = None,
    held_by: str | None = None,
) -> list[Event]:
    """Return all traffic to the last good release: *current* during a trial, *previous* after promotion.

    A rollout that merely waits, without any traffic, is rejected. Whoever rolls back wants the release away that users
    have, and so *previous* serves again as well, if there is one.

    :param rollout_id: undo this rollout and nothing else; ``None``: whatever is there.
    :param held_by: the person who wants it, and who is asked before automation releases the same lineage here again;
        ``None``: nobody need be asked.
    :param release_id: take this release away and no other; where it does not serve, nothing is done. So a call whose
        answer was lost can be made again.
    :raises IllegalTransition: no release to return to; or ``release_id`` is current, and another one is on trial.
    :raises RolloutInProgress: ``rollout_id`` was promoted and another rollout has begun since.
    """
    events = _roll_back(state, cause=cause, detected_at=detected_at, rollout_id=rollout_id, release_id=release_id)
    decided = next((event for event in events if isinstance(event, RollbackDecided)), None)
    if decided is None or held_by is None:
        return events
    return [*events, *hold_back(state, release=state.release(decided.from_release), cause=cause, by=held_by)]


def _roll_back(
    state: EndpointState,
    *,
    cause: str,
    detected_at: datetime,
    rollout_id: str | None,
    release_id: str | None,
) -> list[Event]:
    if state.rollback:
        return []
    rollout = state.rollout
    if rollout_id is not None and state.result_of(rollout_id):
        if not is_promoted(state, rollout_id) or rollout_id != last_promoted(state):
            return []
        if rollout is not None:
            raise RolloutInProgress(
                f"rollback of {rollout_id} on {state.endpoint}",
                value=rollout_id,
                limit=f"rollout {rollout.id} holds the endpoint",
                remedy=f"end that one first: mlpipex rollback {state.endpoint} --rollout {rollout.id}",
            )
    elif rollout_id is not None:
        own(state, rollout_id)
    if rollout is None or rollout.phase == "watching" or state.on_trial:
        return _return(state, rollout, cause, detected_at, rollout_id=rollout_id, release_id=release_id)
    only_waiting = rollout_id is not None or release_id == rollout.candidate.id
    if not only_waiting and release_id not in (None, state.current.id if state.current else None):
        return []
    rejected = RolloutRejected(rollout_id=rollout.id, cause=cause)
    if only_waiting or state.previous is None:
        return [rejected]
    return [rejected, *_return(state, None, cause, detected_at)]


def _return(
    state: EndpointState,
    rollout: Rollout | None,
    cause: str,
    detected_at: datetime,
    *,
    rollout_id: str | None = None,
    release_id: str | None = None,
) -> list[Event]:
    """:param rollout: on trial or watched after its promotion; ``None`` where the promotion is over."""
    trial = rollout is not None and state.on_trial
    bad = rollout.candidate if rollout and trial else state.current
    good = state.current if trial else state.previous
    if release_id is not None and (bad is None or bad.id != release_id):
        if trial and good is not None and good.id == release_id:
            raise IllegalTransition(
                f"rollback of {state.endpoint}",
                value=f"release {release_id}",
                limit=f"{bad.id if bad else 'another release'} is on trial beside it",
                remedy=f"end the trial first: mlpipex rollback {state.endpoint}; then roll back again",
            )
        return []
    last = state.last_result
    if good is None and rollout is None and last is not None and last.ending == "rolled-back":
        return []
    if bad is None or good is None:
        raise IllegalTransition(
            f"rollback of {state.endpoint}",
            value=f"current {state.current.id if state.current else 'none'}",
            limit="there is no previous release to return to",
            remedy="see mlpipex history: what was rolled back needs nothing more; otherwise release a good version",
        )
    intent = RollbackDecided(
        rollout_id=rollout.id if rollout else rollout_id or last_promoted(state),
        cause=cause,
        from_release=bad.id,
        to_release=good.id,
        detected_at=detected_at,
    )
    routing = rollout.policy if rollout else state.planned
    behind = state.previous if trial else None
    plan = TrafficPlan(
        endpoint=state.endpoint,
        current=good.id,
        sticky_header=routing.sticky_header if routing else StickyHeader(),
        timeout_s=routing.timeout_s if routing else None,
        fallback=rollout.policy.fallback_to(behind, beside=bad) if rollout else None,
    )
    return [intent, TrafficPlanned(plan=plan, reason=f"rollback: {cause}")]


def confirm_rollback(state: EndpointState) -> list[Event]:
    """The plan of a decided rollback is in force."""
    intent = state.rollback
    if intent is None:
        return []
    return [RolledBack(rollout_id=intent.rollout_id, from_release=intent.from_release, to_release=intent.to_release)]
