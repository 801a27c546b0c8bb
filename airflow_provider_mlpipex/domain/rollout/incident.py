"""Who notifies on-call of an unhealthy endpoint, and when it counts as recovered.

Any number of watchers may look at one endpoint. Each decides on the state that it has read; the ledger's compare and
append lets one of them write the decision, and that one raises the alert.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.rollout.events import EndpointRecovered, EndpointUnhealthy
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Incident

#: On-call is reminded this often of an endpoint that stays unhealthy.
REMIND_EVERY = timedelta(hours=1)
#: Whoever wrote that an endpoint is unhealthy raises the alert at once. After this long without one it has died.
NOTIFIED_WITHIN = timedelta(seconds=60)
#: An incident lasts so long at least: an error rate that crosses its limit to and fro is one incident, not twenty.
MIN_DURATION = timedelta(minutes=5)


def broken(results: tuple[GateResult, ...], verdict: VerdictName) -> tuple[str, ...]:
    """The gates to which ``verdict`` (``fail`` or ``error``) is due."""
    return tuple(result.gate for result in results if result.verdict == verdict and not result.advisory)


def is_due(incident: Incident | None, *, release: str, now: datetime) -> bool:
    """Whether on-call is to be notified that ``release`` is unhealthy: nobody has done so, or long ago."""
    if incident is None or incident.release != release:
        return True
    return now - incident.claimed_at >= (REMIND_EVERY if incident.notified else NOTIFIED_WITHIN)


def is_over(incident: Incident, results: tuple[GateResult, ...], *, now: datetime) -> bool:
    """Whether every gate that was broken passes now. One that is in the manifest no more is broken no more."""
    if now - incident.since < MIN_DURATION:
        return False
    verdicts = {result.gate: result.verdict for result in results}
    return all(verdicts.get(gate, "pass") == "pass" for gate in incident.gates)


def claim(
    state: EndpointState,
    *,
    release: str,
    verdict: VerdictName,
    results: tuple[GateResult, ...],
    cause: str,
    now: datetime,
) -> list[EndpointUnhealthy]:
    """Undertake to notify on-call; nothing where somebody else has, or another release serves by now."""
    if state.current is None or state.current.id != release or not is_due(state.incident, release=release, now=now):
        return []
    return [EndpointUnhealthy(release=release, verdict=verdict, gates=broken(results, verdict), cause=cause)]


def recover(
    state: EndpointState, *, release: str, results: tuple[GateResult, ...], now: datetime
) -> list[EndpointRecovered]:
    """End the incident of ``release``; nothing where there is none, or it is not over."""
    incident = state.incident
    if incident is None or incident.release != release or not is_over(incident, results, now=now):
        return []
    return [EndpointRecovered(release=release)]
