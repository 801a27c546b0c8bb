"""Holding a rollout or a whole endpoint and letting it go on, with on-call told of every hold of a rollout."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import endpoint_hold
from airflow_provider_mlpipex.domain.rollout import hold as decisions
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.platform import Platform


def hold(platform: Platform, *, endpoint: EndpointRef, rollout_id: str, cause: str, by: str = "") -> EndpointState:
    """Stop the rollout where it is, and ask on-call to decide.

    :param by: the person who wants it; empty for the watcher.
    :raises RolloutEnded: it is over, or is being rolled back.
    """
    state = journal.decide(
        platform,
        endpoint,
        lambda now: decisions.hold(now, rollout_id=rollout_id, cause=cause, by=by),
        rollout_id=rollout_id,
    )
    ask_on_call(platform, state)
    return state


def resume(
    platform: Platform,
    *,
    endpoint: EndpointRef,
    rollout_id: str,
    reviewer: str,
    note: str = "",
    accept: bool = False,
) -> EndpointState:
    """Let a held rollout go on.

    :param accept: let the trial pass its stage without the verdict of its gates.
    :raises RolloutEnded: it is over, or is being rolled back.
    :raises IllegalTransition: ``accept`` where there is nothing to accept.
    """
    return journal.decide(
        platform,
        endpoint,
        lambda now: decisions.resume(now, rollout_id=rollout_id, reviewer=reviewer, note=note, accept=accept),
        rollout_id=rollout_id,
    )


def hold_endpoint(platform: Platform, *, endpoint: EndpointRef, cause: str, by: str) -> EndpointState:
    """Let no automation release anything here until somebody resumes. What serves goes on, and so does a rollout that
    is on its way."""
    return journal.decide(
        platform, endpoint, lambda now: endpoint_hold.hold_back(now, release=None, cause=cause, by=by)
    )


def resume_endpoint(platform: Platform, *, endpoint: EndpointRef, reviewer: str, note: str = "") -> EndpointState:
    """Let automation release here again, whatever a person has taken back."""
    return journal.decide(platform, endpoint, lambda now: endpoint_hold.resume(now, reviewer=reviewer, note=note))


def ask_on_call(platform: Platform, state: EndpointState) -> None:
    """Tell on-call of a hold, once; whoever finds that nobody has been told makes up for it."""
    rollout = state.rollout
    if rollout is None or rollout.hold is None:
        return
    title = decisions.hold_title(state, rollout, rollout.hold)
    if title in rollout.alerts:
        return
    alerts.raise_alert(
        platform,
        state.endpoint,
        channel=alerts.channel_of(rollout.manifest, state.endpoint),
        title=title,
        body=rollout.hold.cause,
        severity="warning",
        facts={
            "endpoint": str(state.endpoint),
            "rollout": rollout.id,
            "candidate": rollout.candidate.id,
            "held by": rollout.hold.by or "its gates",
        },
    )
