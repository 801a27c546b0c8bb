"""What a reviewer wants to know beside the changes: where the model comes from, how it compares, what became of it
before, and where it would go."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.fields.quantities import format_duration, format_ratio
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.events import (
    RollbackDecided,
    RolloutOpened,
    RolloutRejected,
)
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services.platform import Platform

#: Entries of an endpoint's past that are looked through.
MAX_ENTRIES = 200


class Metric(Value):
    """One metric of the evaluation, gated or not; ``None`` where a release has none of that name."""

    name: str
    candidate: float | None
    current: float | None

    @staticmethod
    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.6g}"


class Earlier(Value):
    """An earlier try of the same model here that did not end well. ``same``: the very same release."""

    release: str
    same: bool
    ended: str
    at: datetime
    cause: str

    @property
    def sentence(self) -> str:
        """The same, for people."""
        which = "this very release" if self.same else f"the same model as release {self.release}"
        return f"{which} was {self.ended} on {self.at:%Y-%m-%d %H:%M} UTC, because {self.cause}"


class ReviewFacts(Value):
    """:param commit: of the training code. :param run_page: training run; empty where the registry cannot say."""

    candidate: str
    current: str | None
    commit: str
    run_page: str
    owner: str
    contact: str
    path: str
    metrics: tuple[Metric, ...]
    earlier: tuple[Earlier, ...]


def review_facts(platform: Platform, state: EndpointState) -> ReviewFacts | None:
    """Of the rollout in progress; ``None`` where there is none."""
    if state.rollout is None:
        return None
    release, manifest = state.rollout.candidate, Manifest.model_validate(state.rollout.manifest)
    current = state.current.model.metrics if state.current else {}
    return ReviewFacts(
        candidate=release.id,
        current=state.current.id if state.current else None,
        commit=release.model.code_version,
        run_page=_run_page(platform, release.model.run_id),
        owner=manifest.owner.team,
        contact=manifest.owner.contact,
        path=_path(state, state.rollout),
        metrics=tuple(
            Metric(name=name, candidate=release.model.metrics.get(name), current=current.get(name))
            for name in sorted({*release.model.metrics, *current})
        ),
        earlier=earlier_tries(platform, state.endpoint, release.id, release.model.version),
    )


def _run_page(platform: Platform, run_id: str) -> str:
    try:
        return platform.registry.page(run_id)
    except MlpipexError:
        return ""  # a review does not wait for a registry


def _path(state: EndpointState, rollout: Rollout) -> str:
    """The way of a rollout to all requests, in words."""
    policy = rollout.policy
    if not policy.serve:
        return "judged only: nothing serves in this environment"
    if not decisions.needs_live_trial(state):
        return f"all requests at once, and not watched: {decisions.why_unwatched(state, rollout)}"
    shadow = [f"shadow of {format_ratio(policy.shadow_fraction)}"] if policy.shadow_fraction is not None else []
    steps = [f"canary {format_ratio(weight / TOTAL_WEIGHT)}" for weight in policy.canary_weights]
    watch = (
        [f"watched for {format_duration(timedelta(seconds=policy.rollback_window_s))}"]
        if policy.rollback_window_s
        else []
    )
    return " → ".join([*shadow, *steps, "all requests", *watch])


def earlier_tries(platform: Platform, endpoint: EndpointRef, release: str, version: str) -> tuple[Earlier, ...]:
    """Rollbacks and rejections of this release, and of its model in another one, the newest first."""
    types = ("rollout-opened", "rollout-rejected", "rollback-decided")
    entries = platform.ledger.read(endpoint, types=types, newest_first=True, limit=MAX_ENTRIES)
    opened = {e.event.rollout_id: e.event.release.id for e in entries if isinstance(e.event, RolloutOpened)}
    tries = []
    for entry in entries:
        match entry.event:
            case RollbackDecided() as event:
                ended, was, cause = "rolled back", event.from_release, event.cause
            case RolloutRejected() as event:
                ended, was, cause = "rejected", opened.get(event.rollout_id, ""), event.cause
            case _:
                continue
        if was == release or was.startswith(f"{version}-"):
            tries.append(Earlier(release=was, same=was == release, ended=ended, at=entry.recorded_at, cause=cause))
    return tuple(tries)
