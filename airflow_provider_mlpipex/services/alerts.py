"""Telling on-call. An alert that cannot be delivered is recorded, and never stops a rollback."""

from __future__ import annotations

from typing import Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, RolloutResult
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

#: Where alerts go that no manifest sends elsewhere.
DEFAULT_CHANNEL = "on-call"
_SEVERITY = {"rolled-back": "critical", "rejected": "warning", "promoted": "info"}


def tell_endings(platform: Platform, before: EndpointState, after: EndpointState) -> None:
    """Alert about every rollout that ended between two states, where its manifest asks for it."""
    for rollout_id, outcome in after.results.items():
        if outcome != before.results.get(rollout_id):
            own = before.rollout is not None and before.rollout.id == rollout_id
            manifest = before.rollout.manifest if before.rollout and own else before.current_manifest
            _tell(platform, after, outcome, _alert_policy(manifest, after.endpoint))


def channel_of(manifest: dict[str, Any] | None, endpoint: EndpointRef) -> str:
    """Where alerts about ``endpoint`` go under ``manifest``."""
    return str(_alert_policy(manifest, endpoint).get("channel", DEFAULT_CHANNEL))


def _alert_policy(manifest: dict[str, Any] | None, endpoint: EndpointRef) -> dict[str, Any]:
    environment = (manifest or {}).get("environments", {}).get(endpoint.environment, {})
    return environment.get("alerts") or {}


def _tell(platform: Platform, state: EndpointState, result: RolloutResult, policy: dict[str, Any]) -> None:
    # A rollback always alerts: a manifest may ask for more, never for silence at 3 a.m.
    if result.ending != "rolled-back" and result.ending not in policy.get("on", ()):
        return
    raise_alert(
        platform,
        state.endpoint,
        channel=policy.get("channel", DEFAULT_CHANNEL),
        title=f"{state.endpoint} {result.ending.replace('-', ' ')}",
        body=result.cause,
        severity=_SEVERITY[result.ending],
        facts={
            "endpoint": str(state.endpoint),
            "rollout": result.rollout_id,
            "serving now": state.current.id if state.current else "nothing",
        },
    )


def raise_alert(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    channel: str,
    title: str,
    body: str,
    severity: str,
    facts: dict[str, str],
) -> None:
    """Send one alert and record it, delivered or not."""
    failures = platform.alerter.alert(channel=channel, title=title, body=body, severity=severity, facts=facts)
    journal.note(platform, endpoint, AlertRaised(title=title, failures=tuple(failures)))
