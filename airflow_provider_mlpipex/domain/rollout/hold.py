"""Holding a rollout: traffic stays as it is, nothing goes on by itself, and a person says how it ends.

A rollout is held by a person who wants to look, or by its watcher where the gates have had their time and nobody can
tell. Three things end a hold: ``resume`` goes on with the gates, ``resume`` with ``accept`` lets the stage pass on a
person's word, and a rollback ends the rollout. A held trial is watched all the same: a gate that fails takes it back.
"""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import IllegalTransition, RolloutOnHold
from airflow_provider_mlpipex.domain.rollout.events import Event, RolloutHeld, RolloutResumed
from airflow_provider_mlpipex.domain.rollout.preconditions import own
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Hold, Rollout, verdict_key


def hold(state: EndpointState, *, rollout_id: str, cause: str, by: str = "") -> list[Event]:
    """Stop the rollout where it is; nothing, where it is held already.

    :param by: the person who wants it; empty for the watcher.
    :raises RolloutEnded: it is over, or is being rolled back.
    :raises IllegalTransition: another rollout or none is in progress.
    """
    if own(state, rollout_id).hold is not None:
        return []
    return [RolloutHeld(rollout_id=rollout_id, cause=cause, by=by)]


def resume(
    state: EndpointState, *, rollout_id: str, reviewer: str, note: str = "", accept: bool = False
) -> list[Event]:
    """Let a held rollout go on; nothing, where it is not held.

    :param accept: let the trial pass the stage that it is in without the verdict of its gates.
    :raises RolloutEnded: it is over, or is being rolled back.
    :raises IllegalTransition: ``accept``, and it is not held, or is in no shadow and no canary.
    """
    rollout = own(state, rollout_id)
    stage = verdict_key(rollout.phase, rollout.step)
    if accept and rollout.hold is None and rollout.verdicts.get(stage) == "pass":
        return []
    if accept and (rollout.hold is None or rollout.phase not in ("shadow", "canary")):
        raise IllegalTransition(
            f"rollout {rollout_id} of {state.endpoint}",
            value=f"accept in {rollout.phase}{'' if rollout.hold else ', not on hold'}",
            limit="a person accepts a shadow or a canary step that is on hold",
            remedy="resume it without accepting, or hold it first",
        )
    if rollout.hold is None:
        return []
    return [RolloutResumed(rollout_id=rollout_id, reviewer=reviewer, note=note, accepted=accept)]


def require_not_held(state: EndpointState, rollout: Rollout) -> None:
    """:raises RolloutOnHold: a person is asked first."""
    if rollout.hold is None:
        return
    by = f"{rollout.hold.by} stopped it: " if rollout.hold.by else ""
    raise RolloutOnHold(
        f"rollout {rollout.id} of {state.endpoint}",
        value=rollout.phase,
        limit=f"on hold since {rollout.hold.since:%H:%M:%S} UTC: {by}{rollout.hold.cause}",
        remedy=f"resume it, or take it back: mlpipex rollback {state.endpoint} --rollout {rollout.id}",
    )


def hold_title(state: EndpointState, rollout: Rollout, held: Hold) -> str:
    """The title of the alert that asks on-call to decide; another one for another hold."""
    step = f" step {rollout.step + 1}" if rollout.phase == "canary" else ""
    return f"{state.endpoint} {rollout.phase}{step} on hold since {held.since:%H:%M:%S} UTC: a person decides"
