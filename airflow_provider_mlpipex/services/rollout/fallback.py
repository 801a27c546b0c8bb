"""On-call is notified when users get the previous release's answers because current cannot answer."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.alerts import channel_of, raise_alert
from airflow_provider_mlpipex.services.platform import Platform


def notify_of_fallback(platform: Platform, endpoint: EndpointRef, *, current: str, fallback: str, answers: int) -> None:
    """Alert, and record it: a fallback that nobody hears of would hide a dead release.

    :param answers: of the fallback, to requests that were current's, in the last seconds.
    :raises LedgerUnavailable: it cannot be recorded.
    """
    state = journal.load(platform, endpoint)
    manifest = state.rollout.manifest if state.rollout else state.current_manifest
    raise_alert(
        platform,
        endpoint,
        channel=channel_of(manifest, endpoint),
        title=f"{endpoint}: the previous release answers",
        body=f"{current} could not answer {answers} requests in the last seconds, and {fallback} did. See why with: "
        f"mlpipex status {endpoint}; if {current} does not recover, take it away with: mlpipex rollback {endpoint}",
        severity="critical",
        facts={"endpoint": str(endpoint), "current": current, "answered by": fallback},
    )
