"""Rollback: one call, whoever makes it. Needs the ledger and the plane; no registry, scheduler, worker or build."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_mlpipex.domain import rollout as machine
from airflow_provider_mlpipex.domain.endpoint_state import EndpointState
from airflow_provider_mlpipex.domain.errors import LedgerUnavailable, MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services import alerts, journal, traffic
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.promotion import retire_superseded


def roll_back(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    cause: str,
    detected_at: datetime | None = None,
    rollout_id: str | None = None,
) -> EndpointState:
    """Return all traffic of ``endpoint`` to its last good release and tell on-call.

    During a trial that is the current release, after promotion the previous one. Run twice, the second call finds
    nothing to do.

    :param cause: why, in words; goes into ledger and alert.
    :param detected_at: when the evidence was complete (UTC); now, if a person decides.
    :param rollout_id: undo only this rollout.
    :raises IllegalTransition: there is no release to return to.
    :raises PlaneUnavailable: and what else ``ServingPlane.apply`` raises; the decision stands in the ledger, on-call
        is told that it is not carried out yet, and whoever comes next carries it out.
    """
    detected = detected_at or platform.clock.now()
    try:
        return traffic.shift(
            platform,
            endpoint,
            intend=lambda now: machine.roll_back(now, cause=cause, detected_at=detected, rollout_id=rollout_id),
        )
    except MlpipexError as error:
        _tell_undone(platform, endpoint, error)
        raise


def _tell_undone(platform: Platform, endpoint: EndpointRef, error: MlpipexError) -> None:
    if isinstance(error, LedgerUnavailable):
        return  # nothing can be read or recorded; the caller hears of it
    state = journal.load(platform, endpoint)
    if state.rollback is None:
        return
    manifest = state.rollout.manifest if state.rollout else state.current_manifest
    alerts.raise_alert(
        platform,
        endpoint,
        channel=alerts.channel_of(manifest, endpoint),
        title=f"{endpoint} rollback not carried out",
        body=str(error),
        severity="critical",
        facts={"endpoint": str(endpoint), "rollout": state.rollback.rollout_id, "return to": state.rollback.to_release},
    )


def end_trial(platform: Platform, endpoint: EndpointRef, *, cause: str, rollout_id: str) -> EndpointState | None:
    """End ``rollout_id`` if it is still before its promotion; ``None`` where there was nothing to end.

    For whoever cleans up after a failed or killed Dag run: a promotion and an ordinary end are left alone, a trial
    must not go on without anybody waiting for it. Releases that nothing refers to any more are stopped.
    """
    state = traffic.converge(platform, endpoint)
    open_here = state.rollout is not None and state.rollout.id == rollout_id and state.rollout.phase != "watching"
    ended = roll_back(platform, endpoint, cause=cause, rollout_id=rollout_id) if open_here else None
    retire_superseded(platform, endpoint)
    return ended
