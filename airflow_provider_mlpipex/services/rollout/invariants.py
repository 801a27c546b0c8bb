"""What healthy means for a stage that touches traffic; the stage envelope checks these before and after."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import LedgerRewritten
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import ledger_heads


def plane_serves_what_the_ledger_confirmed(platform: Platform, endpoint: EndpointRef) -> str | None:
    """The plan that the data plane reports is the last one confirmed in the ledger."""
    state = journal.load(platform, endpoint)
    if state.planned is None or not state.confirmed:
        return None
    observation = platform.plane.observe(endpoint)
    in_force = observation.plan.id if observation.plan else "none"
    return None if in_force == state.planned.id else f"plan {in_force} in force, ledger confirmed {state.planned.id}"


def the_ledger_is_the_one_that_was_noted(platform: Platform, endpoint: EndpointRef) -> str | None:
    """Its chain goes on from the head that the plane has noted: nobody has cut its end off, or written it anew."""
    try:
        ledger_heads.check(platform, endpoint)
    except LedgerRewritten as error:
        return str(error)
    return None


def current_release_is_ready(platform: Platform, endpoint: EndpointRef) -> str | None:
    """There is a current release, and the plane has it ready to answer."""
    current = journal.load(platform, endpoint).current
    if current is None:
        return f"{endpoint} has no current release"
    status = platform.plane.observe(endpoint).releases.get(current.id)
    state = status.state if status else "unknown to the plane"
    return None if state == "ready" else f"current release {current.id} is {state}"


def release_is_still_current(platform: Platform, endpoint: EndpointRef, release: str) -> str | None:
    """What was found of ``release`` is still true of what is current."""
    current = journal.load(platform, endpoint).current
    current_id = current.id if current else "nothing"
    return None if current_id == release else f"{current_id} is current, {release} was looked at"


def every_planned_release_is_ready(platform: Platform, endpoint: EndpointRef) -> str | None:
    """No release that may receive a request is down."""
    observation = platform.plane.observe(endpoint)
    if observation.plan is None:
        return None
    down = [
        f"{release} is {observation.releases[release].state if release in observation.releases else 'unknown'}"
        for release in observation.plan.releases
        if release not in observation.releases or observation.releases[release].state != "ready"
    ]
    return "; ".join(down) or None
