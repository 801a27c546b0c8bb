"""The health of whatever is current, with no rollout in mind: one look, and who is notified of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.gate import LIVE_SOURCES, Gate
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.drift_block import DriftSpec
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.false_alarms import alpha_of, stage_gates
from airflow_provider_mlpipex.domain.rollout import incident
from airflow_provider_mlpipex.domain.rollout.events import Event
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Incident
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.evidence.served_drift import judge_drift
from airflow_provider_mlpipex.services.evidence.served_quality import judge_predictions
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic
from airflow_provider_mlpipex.services.rollout.gate_monitor import GateMonitor, GateWindows
from airflow_provider_mlpipex.services.rollout.opening import explain
from airflow_provider_mlpipex.services.rollout.watch import WatchResult, look

#: On-call is notified of an endpoint that nobody could measure for so long.
UNMEASURED_FOR = timedelta(minutes=10)


def check_health(platform: Platform, endpoint: EndpointRef, *, unmeasured_since: datetime | None = None) -> WatchResult:
    """Judge the current release.

    Inside a rollback window this is :func:`look`, revert included. Outside it a failed gate is written down and
    alerted, once however many watchers see it, but the release stays: nobody promised that *previous* is the better
    answer to a world that has changed.

    :param unmeasured_since: since when the caller has had no answer to judge by. Past :data:`UNMEASURED_FOR` on-call is
        notified of that too.
    """
    state = traffic.converge(platform, endpoint)
    if state.rollout and state.rollout.phase == "watching":
        return look(platform, endpoint=endpoint, rollout_id=state.rollout.id, stage="watch")
    if state.current is None or state.current_manifest is None or state.current_since is None:
        return WatchResult(status="watching", cause="nothing has been released here")
    now, current_since = platform.clock.now(), state.current_since
    manifest = Manifest.model_validate(state.current_manifest)
    environment = manifest.environments[endpoint.environment]
    monitor = GateMonitor(platform, endpoint, "serving", judged=state.current.id, beside=None, now=now)
    judged = monitor.look(gate_windows(environment, current_since=current_since, now=now))
    judged += _drift(platform, endpoint, environment, release=state.current.id, current_since=current_since, now=now)
    since = max(current_since, now - _rollback_window(environment))
    judged += judge_predictions(platform, endpoint, manifest, release_id=state.current.id, since=since, until=now)
    verdict = judging.verdict_of(judged)
    cause = explain(judged) if verdict in ("fail", "error") else ""
    result = WatchResult(status="watching", verdict=verdict, results=judged, cause=cause)
    unmeasured = verdict == "error" and unmeasured_since is not None and now - unmeasured_since >= UNMEASURED_FOR
    if verdict == "fail" or unmeasured:
        _report(platform, state, result, now)
    elif verdict != "error":
        _recover(platform, state, result, now)
    return result


def gate_windows(environment: EnvironmentSpec, *, current_since: datetime, now: datetime) -> dict[Gate, GateWindows]:
    """Over which window each gate on live traffic is judged, of what serves outside every rollback window.

    Nobody acts on this by himself, and nobody says when it ends: the alpha is that of one look.
    """
    whole = _rollback_window(environment)
    return {
        gate: GateWindows((max(current_since, now - (gate.window or whole)),), alpha_of(environment, "watch", gate))
        for gate in stage_gates(environment, "watch")
        if gate.source in LIVE_SOURCES
    }


def _drift(
    platform: Platform,
    endpoint: EndpointRef,
    environment: EnvironmentSpec,
    *,
    release: str,
    current_since: datetime,
    now: datetime,
) -> tuple[GateResult, ...]:
    """The gates on drift, each over its last window."""
    whole = _rollback_window(environment)
    return tuple(
        judge_drift(
            platform,
            endpoint,
            gate,
            release=release,
            since=max(current_since, now - (gate.window or whole)),
            until=now,
            demand=environment.drift or DriftSpec(),
            alpha=alpha_of(environment, "watch", gate),
        )
        for gate in stage_gates(environment, "watch")
        if gate.source == "drift"
    )


def _rollback_window(environment: EnvironmentSpec) -> timedelta:
    return environment.rollback.window if environment.rollback else timedelta(0)


def _report(platform: Platform, state: EndpointState, result: WatchResult, now: datetime) -> None:
    """Write down that *current* is unhealthy and notify on-call, unless another watcher does."""
    release = state.current.id if state.current else ""

    def claim(at: EndpointState) -> Sequence[Event]:
        return incident.claim(
            at, release=release, verdict=result.verdict, results=result.results, cause=result.cause, now=now
        )

    if _won(platform, state, claim):
        _notify(platform, state, title=Incident.title(state.endpoint), body=result.cause, severity="critical")


def _recover(platform: Platform, state: EndpointState, result: WatchResult, now: datetime) -> None:
    """End the incident, if there is one that is over, and notify on-call of it, unless another watcher does."""
    known = state.incident
    if known is None:
        return

    def end(at: EndpointState) -> Sequence[Event]:
        return incident.recover(at, release=known.release, results=result.results, now=now)

    if _won(platform, state, end):
        body = f"every gate that was broken passes: {', '.join(known.gates)}"
        _notify(platform, state, title=f"{state.endpoint} healthy again", body=body, severity="info")


def _won(platform: Platform, state: EndpointState, decision: Callable[[EndpointState], Sequence[Event]]) -> bool:
    """Whether ``decision`` was appended by this call, and by no other watcher's."""
    decided: Sequence[Event] = ()

    def once(at: EndpointState) -> Sequence[Event]:
        nonlocal decided
        decided = decision(at)
        return decided

    journal.decide(platform, state.endpoint, once)
    return bool(decided)


def _notify(platform: Platform, state: EndpointState, *, title: str, body: str, severity: str) -> None:
    endpoint = state.endpoint
    alerts.raise_alert(
        platform,
        endpoint,
        channel=alerts.channel_of(state.current_manifest, endpoint),
        title=title,
        body=body,
        severity=severity,
        facts={"endpoint": str(endpoint), "serving now": state.serving_now},
    )
