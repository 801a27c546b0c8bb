"""What was current when, and whether the record can be believed."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_mlpipex.domain.errors import IllegalTransition, ModelNotFound
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import RolloutOpened
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, evolve
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform


class Tenure(Value):
    """One release as *current*: from ``since`` until ``until`` (``None``: still).

    ``rollout_id`` is the rollout that made it current, by its promotion or by being undone; ``ended_by`` the event that
    ended the tenure.
    """

    release: str
    model: str
    runtime: str
    rollout_id: str
    since: datetime
    until: datetime | None = None
    ended_by: str = ""


def tenures(platform: Platform, endpoint: EndpointRef) -> list[Tenure]:
    """Every release that was ever current, oldest first."""
    found: list[Tenure] = []
    state = EndpointState(endpoint=endpoint)
    for entry in platform.ledger.read(endpoint):
        before, state = state, evolve(state, entry)
        if (before.current and before.current.id) == (state.current and state.current.id):
            continue
        if found and found[-1].until is None:
            found[-1] = found[-1].model_copy(update={"until": entry.recorded_at, "ended_by": entry.event.type})
        if state.current:
            found.append(
                Tenure(
                    release=state.current.id,
                    model=f"{state.current.model.name} {state.current.model.version}",
                    runtime=state.current.runtime.version,
                    rollout_id=getattr(entry.event, "rollout_id", ""),
                    since=entry.recorded_at,
                )
            )
    return found


def as_of(platform: Platform, endpoint: EndpointRef, at: datetime) -> EndpointState:
    """The whole state of ``endpoint`` at ``at`` (UTC): what served, why, and who approved."""
    return journal.load(platform, endpoint, at=at)


def released(platform: Platform, named: str) -> tuple[Release, Manifest]:
    """A release and the manifest that it was last rolled out with.

    :param named: a release id, or an endpoint, which means its current release.
    :raises IllegalTransition: nothing is current there. :raises ModelNotFound: no ledger knows such a release.
    """
    if "/" in named:
        endpoint = EndpointRef.parse(named)
        state = journal.load(platform, endpoint)
        if state.current is None or state.current_manifest is None:
            raise IllegalTransition(
                f"endpoint {endpoint}",
                value="nothing is current",
                limit="a current release",
                remedy="name an endpoint that mlpipex status shows a current release for",
            )
        return state.current, Manifest.model_validate(state.current_manifest)
    opened = [
        (entry.recorded_at, entry.event)
        for endpoint in platform.ledger.endpoints()
        for entry in platform.ledger.read(endpoint)
        if isinstance(entry.event, RolloutOpened) and entry.event.release.id == named
    ]
    if not opened:
        raise ModelNotFound(
            "release",
            value=named,
            limit="a release that was rolled out, like 1.1.0-rt1.0.0-3fa9c2d1, or an endpoint",
            remedy="copy it from mlpipex status or mlpipex history",
        )
    _, newest = max(opened, key=lambda one: one[0])
    return newest.release, Manifest.model_validate(newest.manifest)


def audit(platform: Platform) -> dict[str, int]:
    """Verify every chain; return entries per endpoint.

    :raises LedgerTampered: naming the first entry that does not verify.
    """
    counts = {}
    for endpoint in platform.ledger.endpoints():
        entries = platform.ledger.read(endpoint)
        hash_chain.verify(entries)
        counts[str(endpoint)] = len(entries)
    return counts
