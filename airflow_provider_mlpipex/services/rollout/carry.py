"""A release carried from its manifest to its last environment in one process: what a release Dag does, without Airflow.

The same verbs in the same order as :func:`airflow_provider_mlpipex.task_groups.release_tasks`. Whatever ends it on its
way, a key press included, ends the trial that is on.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from airflow_provider_mlpipex.domain.errors import ReviewRejected, RolloutEnded
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.canary_schedule import step_durations
from airflow_provider_mlpipex.domain.planning.sampling import look_every
from airflow_provider_mlpipex.domain.release.release import ModelVersion, Release
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import opening, promote, review, rollback, trial, watch
from airflow_provider_mlpipex.services.rollout.review import ReviewRequest
from airflow_provider_mlpipex.services.training import registered
from airflow_provider_mlpipex.services.training.locked_runtime import locked_runtime, require_proven
from airflow_provider_mlpipex.services.training.register import register_model
from airflow_provider_mlpipex.services.training.snapshots import snapshot_dataset
from airflow_provider_mlpipex.services.training.train import train_model

#: Seconds that a candidate may take to get ready.
READY_TIMEOUT_S = 600.0


class ReviewAnswer(NamedTuple):
    """What a person says to a review."""

    approved: bool
    reviewer: str
    note: str = ""


class Host(Protocol):
    """Whoever runs a release: shows how it goes, waits, and answers its reviews."""

    def say(self, where: str, stage: str, text: str) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def review(self, endpoint: EndpointRef, request: ReviewRequest) -> ReviewAnswer: ...


class Carried(NamedTuple):
    """How the release of one environment went: ``promoted``, or ``already current`` where nothing was to be done."""

    endpoint: str
    release: str
    ending: str


def train_and_register(
    platform: Platform, manifest: Manifest, *, as_of: datetime, code_version: str, host: Host, manifest_dir: Path
) -> ModelVersion:
    """Snapshot, train and register; where the manifest pins a version, only look that up.

    What ``snapshot_dataset``, ``train_model`` and ``register_model`` raise, this raises too.
    """
    if manifest.model.pinned:
        model = registered.find(platform, manifest, manifest.model.name, manifest.model.version)
        host.say("model", "register", f"{model.name} {model.version}, pinned by the manifest")
        require_proven(platform, manifest, model, manifest_dir=manifest_dir)
        return model
    snapshot, report = snapshot_dataset(
        manifest, as_of, store=platform.snapshots, validator=platform.validator, features=platform.features
    )
    host.say("model", "snapshot", f"{snapshot.rows:,} rows, {report.judged} expectations hold")
    record = train_model(
        manifest,
        snapshot,
        store=platform.snapshots,
        registry=platform.registry,
        validator=platform.validator,
        code_version=code_version,
        now=platform.clock.now(),
        runtime=locked_runtime(platform, manifest, manifest_dir=manifest_dir),
        runtimes=platform.runtimes,
    )
    host.say("model", "train", ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items()))
    model, bump, reasons = register_model(manifest, record, registry=platform.registry)
    registered.record(platform, manifest, model)
    host.say("model", "register", f"{model.name} {model.version} ({bump}: {'; '.join(reasons)})")
    return model


class Carrier:
    """One release under one manifest.

    :param rollout_id: the rollout that it opens in every environment; the same one again goes on where it stopped.
    """

    def __init__(
        self, platform: Platform, manifest: Manifest, release: Release, *, rollout_id: str, host: Host
    ) -> None:
        self._platform = platform
        self._manifest = manifest
        self._release = release
        self._id = rollout_id
        self._host = host

    def carry(self, environment: str) -> Carried:
        """Through gates, review, shadow, canary, promotion and the watch after it.

        :raises GateFailed: and :class:`GateUndecided`, :class:`ReviewRejected`, :class:`RolloutEnded` and what the
            verbs raise; a trial that was on is ended then.
        """
        endpoint = EndpointRef(environment=environment, name=self._manifest.name)
        try:
            return self._carry(endpoint, self._manifest.environments[environment])
        except BaseException:
            rollback.end_trial(
                self._platform, endpoint, cause="the release did not get to the promotion", rollout_id=self._id
            )
            raise

    def _carry(self, endpoint: EndpointRef, spec: EnvironmentSpec) -> Carried:
        if not self._open(endpoint):
            return Carried(str(endpoint), self._release.id, "already current")
        self._review(endpoint)
        common: dict[str, Any] = {"endpoint": endpoint, "rollout_id": self._id, "timeout_s": READY_TIMEOUT_S}
        if spec.shadow:
            trial.start_shadow(self._platform, **common)
            self._watch(endpoint, "shadow", look_every(spec.shadow.duration).total_seconds())
        if spec.canary:
            durations = step_durations(spec, self._manifest.traffic.expected_rate)
            for step, share in enumerate(spec.canary.steps):
                trial.step_canary(self._platform, step=step, **common)
                title = f"canary {format_ratio(share)}"
                self._watch(endpoint, "canary", look_every(durations[step]).total_seconds(), step=step, title=title)
        state = promote.promote(self._platform, **common)
        promote.retire_superseded(self._platform, endpoint)
        promote.mirror_alias(self._platform, endpoint)
        current = state.current.id if state.current else "nothing"
        self._host.say(endpoint.environment, "promote", f"{current} is current")
        if spec.rollback and spec.serve:
            self._watch(endpoint, "watch", look_every(spec.rollback.window).total_seconds())
        return Carried(str(endpoint), self._release.id, "promoted")

    def _open(self, endpoint: EndpointRef) -> bool:
        """Open the rollout and judge its gates; false where there is nothing to do."""
        check = opening.check_offline_gates(
            self._platform, endpoint=endpoint, rollout_id=self._id, release=self._release, manifest=self._manifest
        )
        if check.already_current:
            self._host.say(endpoint.environment, "gates", f"{self._release.id} is current already")
            return False
        for result in check.results:
            self._host.say(endpoint.environment, "gates", f"{result.verdict}: {result.gate}: {result.reason}")
        check.require(self._release, endpoint)
        return True

    def _review(self, endpoint: EndpointRef) -> None:
        request = review.open_review(self._platform, endpoint=endpoint, rollout_id=self._id)
        if not request.needs_person:
            self._host.say(endpoint.environment, "review", f"no person needed: {request.why}")
            return
        answer = self._host.review(endpoint, request)
        review.decide_review(
            self._platform,
            endpoint=endpoint,
            rollout_id=self._id,
            approved=answer.approved,
            reviewer=answer.reviewer,
            note=answer.note,
        )
        self._host.say(
            endpoint.environment, "review", f"{'approved' if answer.approved else 'REJECTED'} by {answer.reviewer}"
        )
        if not answer.approved:
            raise ReviewRejected(
                f"rollout {self._id} of {endpoint}",
                value=f"rejected by {answer.reviewer}",
                limit=answer.note or "no note was left",
                remedy="nothing that serves has changed; mend what was objected to and release again",
            )

    def _watch(
        self, endpoint: EndpointRef, stage: watch.WatchedStage, every_s: float, *, step: int = -1, title: str = ""
    ) -> None:
        title = title or stage
        while True:
            result = watch.look(self._platform, endpoint=endpoint, rollout_id=self._id, stage=stage, step=step)
            if result.status != "watching":
                break
            undecided = [f"{each.gate} {each.verdict}: {each.reason}" for each in result.results]
            self._host.say(endpoint.environment, title, result.cause or "; ".join(undecided) or "is watched")
            self._host.wait(every_s)
        if result.status == "ended":
            raise RolloutEnded(
                f"rollout {self._id} of {endpoint}",
                value=result.ending,
                limit=result.cause,
                remedy="traffic is back on the last good release; mend the candidate, then release again",
            )
        self._host.say(endpoint.environment, title, "passed")
