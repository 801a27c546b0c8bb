"""Trying a rollback: there and back, measured, and kept in the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from airflow_provider_mlpipex.domain.errors import InvariantBroken, MlpipexError, NotPermitted
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import drill as decisions
from airflow_provider_mlpipex.domain.rollout.events import (
    Entry,
    RollbackDrillBegan,
    RollbackDrillEnded,
    TrafficConfirmed,
)
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic

#: Seconds that the previous release answers everybody, if nothing else is asked for, and at most.
DWELL_S, MAX_DWELL_S = 5.0, 120.0
#: Beyond the dwell, until the plane itself returns what a dead drill has left.
GRACE_S = 30.0
#: Until attempts are counted that the plane has just seen.
_COUNTED_AFTER_S = 2.0
#: Drills among which one is looked for that a request has made before.
_LATELY = 20


def require_allowed(state: EndpointState) -> None:
    """:raises NotPermitted: the manifest of what serves does not allow drills in this environment."""
    why = why_not(state)
    if why is not None:
        raise NotPermitted(
            f"drill of {state.endpoint}",
            value="its manifest does not allow it",
            limit=why,
            remedy="drill in an environment before this one, or release with that line, which a review sees",
        )


def why_not(state: EndpointState) -> str | None:
    """The line of the manifest without which there is no drill here; ``None`` where it is there, or not needed."""
    line = f"environments.{state.endpoint.environment}.drills.allowed: true"
    try:
        manifest = Manifest.model_validate(state.current_manifest or {})
        return None if manifest.drills_in(state.endpoint.environment) else line
    except (KeyError, ValueError):
        return line  # a manifest of another version of the provider: nobody can say that it allows this


def drill(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    reason: str,
    dwell_s: float = DWELL_S,
    wait: Callable[[float], None] = time.sleep,
) -> RollbackDrillEnded:
    """Give all requests to the previous release for ``dwell_s`` seconds, and back; return how that went.

    A failed drill is no error: it is what a drill is for. On-call hears of it, and traffic is where it was.

    :param wait: lets seconds pass.
    :raises NotPermitted: the manifest does not allow it here. :raises NotFound: nothing was ever released here.
    :raises RolloutInProgress: traffic is being moved by somebody else. :raises IllegalTransition: nothing to return to.
    """
    require_allowed(journal.load_known(platform, endpoint))
    traffic.converge(platform, endpoint)
    began_at, seconds = platform.clock.now(), min(max(dwell_s, 0.0), MAX_DWELL_S)
    state, trouble = journal.load(platform, endpoint), ""
    began = state.seq
    decisions.begin(state, reason=reason, lease_s=seconds + GRACE_S)  # refused before anything is tried
    try:
        state = traffic.shift(
            platform,
            endpoint,
            intend=lambda now: decisions.begin(now, reason=reason, lease_s=seconds + GRACE_S),
            conclude=lambda _: [],
        )
        wait(seconds)
    except MlpipexError as error:
        trouble = str(error)
    state = journal.load(platform, endpoint) if trouble else state
    names = (state.current.id if state.current else "", state.previous.id if state.previous else "")
    if not trouble and journal.load(platform, endpoint).drill is None:
        trouble = "somebody else moved traffic meanwhile"
    try:
        traffic.shift(platform, endpoint, intend=decisions.end, conclude=lambda _: [])
    except MlpipexError as error:
        trouble = trouble or str(error)
    back_ms, forth_ms = _moves(platform, endpoint, began)
    wait(_COUNTED_AFTER_S)
    requests, failed = _counted(platform, endpoint, since=began_at)
    if not trouble and failed:
        trouble = f"{failed} of {requests} requests failed at a release meanwhile"
    ended = RollbackDrillEnded(
        release=names[0],
        to_release=names[1],
        ok=not trouble,
        back_ms=back_ms,
        forth_ms=forth_ms,
        requests=requests,
        failed_requests=failed,
        detail=trouble,
    )
    journal.note(platform, endpoint, ended)
    if trouble:
        _tell(platform, endpoint, ended)
    return ended


def require_ok(endpoint: EndpointRef, ended: RollbackDrillEnded) -> None:
    """:raises InvariantBroken: the drill failed, so a rollback may not work."""
    if ended.ok:
        return
    raise InvariantBroken(
        f"drill of {endpoint}",
        value=ended.detail,
        limit="every request answered, and both moves seen in force",
        remedy=f"a rollback may not work now: see mlpipex status {endpoint}, and mend the previous release",
    )


def ended_before(platform: Platform, endpoint: EndpointRef) -> Entry | None:
    """The drill that this very request has made before; ``None`` for a request without a key."""
    mine, types = platform.origin.request, ("rollback-drill-ended",)
    if mine is None:
        return None
    lately = platform.ledger.read(endpoint, types=types, newest_first=True, limit=_LATELY)
    return next((entry for entry in lately if entry.origin.request == mine), None)


def _moves(platform: Platform, endpoint: EndpointRef, began: int) -> tuple[float | None, float | None]:
    """How long the plane took for each of the two plans; ``None`` for one that it has not confirmed."""
    plan, back, forth = "", None, None
    types = ("rollback-drill-began", "traffic-confirmed")
    for entry in platform.ledger.read(endpoint, after_seq=began, types=types, limit=_LATELY):
        match entry.event:
            case RollbackDrillBegan() as event:
                plan = event.plan_id
            case TrafficConfirmed() as event if event.plan_id == plan:
                back = event.acknowledged_ms
            case TrafficConfirmed() as event:
                forth = event.acknowledged_ms
            case _:
                pass
    return back, forth


def _counted(platform: Platform, endpoint: EndpointRef, *, since: datetime) -> tuple[int | None, int | None]:
    try:
        window = platform.plane.telemetry(endpoint, since=since, until=platform.clock.now())
    except MlpipexError:
        return None, None
    if not window.complete:
        return None, None
    sides = window.releases.values()
    return sum(side.requests for side in sides), sum(side.errors for side in sides)


def _tell(platform: Platform, endpoint: EndpointRef, ended: RollbackDrillEnded) -> None:
    state = journal.load(platform, endpoint)
    alerts.raise_alert(
        platform,
        endpoint,
        channel=alerts.channel_of(state.current_manifest, endpoint),
        title=f"{endpoint} drill failed",
        body=f"A rollback was tried, and did not go well: {ended.detail}. Traffic is where it was.",
        severity="warning",
        facts={
            "endpoint": str(endpoint),
            "serving now": state.serving_now,
            "drilled": ended.to_release,
        },
    )
