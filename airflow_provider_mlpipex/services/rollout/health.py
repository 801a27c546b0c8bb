"""The scheduled watch: one look at whatever is current, with no rollout in mind."""

from __future__ import annotations

from datetime import timedelta

from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.false_alarms import alpha_of, stage_gates
from airflow_provider_mlpipex.services import alerts
from airflow_provider_mlpipex.services.evidence.served_quality import judge_predictions
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic
from airflow_provider_mlpipex.services.rollout.gate_monitor import GateMonitor, GateWindows
from airflow_provider_mlpipex.services.rollout.opening import explain
from airflow_provider_mlpipex.services.rollout.watch import WatchResult, look


def check_health(platform: Platform, endpoint: EndpointRef) -> WatchResult:
    """Judge the current release.

    Inside a rollback window this is :func:`look`, revert included. Outside it a failed gate is reported and alerted,
    but the release stays: nobody promised that *previous* is the better answer to a world that has changed.
    """
    state = traffic.converge(platform, endpoint)
    if state.rollout and state.rollout.phase == "watching":
        return look(platform, endpoint=endpoint, rollout_id=state.rollout.id, stage="watch")
    if state.current is None or state.current_manifest is None or state.current_since is None:
        return WatchResult(status="watching", cause="nothing has been released here")
    now, current_since = platform.clock.now(), state.current_since
    manifest = Manifest.model_validate(state.current_manifest)
    environment = manifest.environments[endpoint.environment]
    whole = environment.rollback.window if environment.rollback else timedelta(0)
    monitor = GateMonitor(platform, endpoint, "serving", judged=state.current.id, beside=None, now=now)
    # Nobody acts on this by himself, and nobody says when it ends: here the alpha is that of one look.
    judged = monitor.look(
        {
            gate: GateWindows((max(current_since, now - (gate.window or whole)),), alpha_of(environment, "watch", gate))
            for gate in stage_gates(environment, "watch")
        }
    )
    since = max(current_since, now - whole)
    judged += judge_predictions(platform, endpoint, manifest, release_id=state.current.id, since=since, until=now)
    verdict = judging.overall(judged)
    cause = explain(judged) if verdict in ("fail", "error") else ""
    if verdict == "fail":
        alerts.raise_alert(
            platform,
            endpoint,
            channel=alerts.channel_of(state.current_manifest, endpoint),
            title=f"{endpoint} unhealthy",
            body=cause,
            severity="critical",
            facts={"endpoint": str(endpoint), "serving now": state.current.id},
        )
    return WatchResult(status="watching", verdict=verdict, results=judged, cause=cause)
