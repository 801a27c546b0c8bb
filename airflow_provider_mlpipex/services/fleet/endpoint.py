"""One endpoint whole: what serves, what a rollback would do, and whether it would work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.manifest import diff
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout import drill as drill_decisions
from airflow_provider_mlpipex.domain.rollout.events import Entry
from airflow_provider_mlpipex.domain.rollout.plane_observation import PlaneObservation
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet.overview import Overview, endpoint_overview
from airflow_provider_mlpipex.services.fleet.rollouts import RolloutLine, open_line
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import drill as drills
from airflow_provider_mlpipex.services.rollout.rollback import RollbackOffer, offer_on


@dataclass(frozen=True, kw_only=True)
class EndpointView:
    """:param offer: what a rollback would do now; ``None`` where there is nothing to return to, for ``why_not``.
    :param changes: what users would get otherwise by it, and which gates would hold then.
    :param last_drill: how it went. :param why_not_drill: why there can be none now.
    :param on_plane: ``None`` where the plane could not be asked.
    """

    overview: Overview
    state: EndpointState
    on_plane: PlaneObservation | None
    rollout: RolloutLine | None
    last_drill: Entry | None
    why_not_drill: str | None
    offer: RollbackOffer | None
    why_not: str | None
    changes: tuple[Change, ...]


def view(platform: Platform, endpoint: EndpointRef) -> EndpointView:
    """:raises NotFound: nobody has released anything there."""
    state = journal.load_known(platform, endpoint)
    offered, why_not = None, None
    try:
        offered = offer_on(state, now=platform.clock.now())
    except MlpipexError as error:
        why_not = ": ".join(str(part) for part in (error.limit, error.remedy) if part)
    try:
        on_plane = platform.plane.observe(endpoint)
    except MlpipexError:
        on_plane = None  # the overview says why
    return EndpointView(
        overview=endpoint_overview(platform, state, on_plane=on_plane),
        state=state,
        on_plane=on_plane,
        rollout=open_line(platform, state),
        last_drill=journal.newest(platform, endpoint, "rollback-drill-ended"),
        why_not_drill=_why_not_drill(state),
        offer=offered,
        why_not=why_not,
        changes=_changes(state, offered) if offered else (),
    )


def _why_not_drill(state: EndpointState) -> str | None:
    """Why there can be no drill right now, in words; ``None`` where there can."""
    line = drills.why_not(state)
    if line is not None:
        return f"the manifest does not allow drills here: {line}"
    try:
        drill_decisions.begin(state, reason="", lease_s=1.0)
    except MlpipexError as error:
        return error.limit
    return None


def _changes(state: EndpointState, offered: RollbackOffer) -> tuple[Change, ...]:
    """What is served otherwise, and what holds otherwise, once ``offered`` has been carried out."""
    if offered.takes is None or offered.returns_to is None:
        return ()
    taken, taken_manifest = _bound(state, offered.takes)
    given, given_manifest = _bound(state, offered.returns_to)
    if taken is None or given is None:
        return ()
    served = diff.release_changes(taken, given)
    try:
        gates = diff.diff(Manifest.model_validate(taken_manifest), Manifest.model_validate(given_manifest))
    except ValueError:
        return served  # a manifest of another version of the provider: releases are compared all the same
    return (*served, *(change for change in gates if change.kind in ("gate-tightened", "gate-loosened", "policy")))


def _bound(state: EndpointState, release_id: str) -> tuple[Release | None, dict[str, Any] | None]:
    """A release and the manifest that it runs under here."""
    known = [
        (state.current, state.current_manifest),
        (state.previous, state.previous_manifest),
        (state.rollout.candidate if state.rollout else None, state.rollout.manifest if state.rollout else None),
    ]
    return next(
        ((release, manifest) for release, manifest in known if release and release.id == release_id), (None, None)
    )
