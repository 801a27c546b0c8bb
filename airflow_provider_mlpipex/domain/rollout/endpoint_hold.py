"""What a person took back, automation does not release again until somebody resumes.

A scheduled retraining or an updated Asset would bring the release back that somebody has just taken away, at the next
hour: the same one, an older one, or one that the same code has made of newer rows. So a rollback that a person asked
for holds the endpoint back from its lineage. A later version from another commit is another release, and may come.
"""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import EndpointHeldBack
from airflow_provider_mlpipex.domain.release.adoption import UNKNOWN_CODE
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.release.semver import Version
from airflow_provider_mlpipex.domain.rollout.events import EndpointHeld, EndpointResumed, Event
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, HeldBack


def hold_back(state: EndpointState, *, release: Release | None, cause: str, by: str) -> list[Event]:
    """Keep automation from releasing the lineage of ``release`` here, or anything where there is none; nothing, where
    the same or all of it is held back already."""
    held = EndpointHeld(
        release=release.id if release else "",
        version=release.model.version if release else "",
        code_version=release.model.code_version if release else "",
        cause=cause,
        by=by,
    )
    known = state.held_back
    return [] if known is not None and known.release in ("", held.release) else [held]


def resume(state: EndpointState, *, reviewer: str, note: str = "") -> list[Event]:
    """Let automation release here again; nothing, where it may."""
    return [EndpointResumed(reviewer=reviewer, note=note)] if state.held_back else []


def is_held_back(held: HeldBack, release: Release) -> bool:
    """Whether ``release`` is of the lineage that is held back: no later version, or one from the same commit."""
    if not held.release:
        return True
    later = Version.parse(release.model.version) > Version.parse(held.version)
    # Of models that another pipeline made nobody may know the commit: two of them are not of the same one for that.
    same_commit = release.model.code_version == held.code_version != UNKNOWN_CODE
    return not later or same_commit


def require_not_held_back(state: EndpointState, release: Release) -> None:
    """:raises EndpointHeldBack: a person has to resume first."""
    held = state.held_back
    if held is None or not is_held_back(held, release):
        return
    raise EndpointHeldBack(
        f"release {release.id} to {state.endpoint}",
        value=f"version {release.model.version} from commit {release.model.code_version[:12]}",
        limit=held_sentence(held),
        remedy=f"look at why, then: mlpipex resume {state.endpoint} --note 'why'",
    )


def held_sentence(held: HeldBack) -> str:
    """Who holds what back, since when and why."""
    since = f"{held.since:%Y-%m-%d %H:%M} UTC"
    return f"{held.by or 'somebody'} holds back {held_lineage(held)} since {since}: {held.cause}"


def held_lineage(held: HeldBack) -> str:
    """What is held back, in words."""
    return f"releases up to {held.version} and those of its commit" if held.release else "all releases"
