"""A release carried from its manifest to its last environment in one process: what a release Dag does, without Airflow.

The same verbs in the same order as :func:`airflow_provider_mlpipex.task_groups.release_tasks`, each in its stage, so
that the ledger holds the same records. Whatever ends it on its way, a key press included, ends the trial that is on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from airflow_provider_mlpipex.domain.errors import ReviewRejected, RolloutEnded
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.canary_schedule import step_durations
from airflow_provider_mlpipex.domain.planning.sampling import look_every
from airflow_provider_mlpipex.domain.quality.report import QualityReport
from airflow_provider_mlpipex.domain.release.release import ModelVersion, Release
from airflow_provider_mlpipex.domain.rollout.events import StageName
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.quality.check import Tell
from airflow_provider_mlpipex.services.rollout import invariants, opening, promote, review, rollback, trial, watch
from airflow_provider_mlpipex.services.rollout.judgements import last_judgement
from airflow_provider_mlpipex.services.rollout.review import ReviewRequest
from airflow_provider_mlpipex.services.training import registered
from airflow_provider_mlpipex.services.training.adopt import Adopted
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


class StageFacts(Protocol):
    """What a stage tells of itself to log and ledger: the envelope of ``airflow_provider_mlpipex.observability``."""

    def add(self, **facts: Any) -> None: ...

    def gates(self, results: Sequence[GateResult]) -> None: ...

    def quality(self, report: QualityReport) -> None: ...

    def compared(self, facts: Mapping[str, Any]) -> None: ...

    def rolled_back(self, cause: str) -> None: ...

    def skipped(self) -> None: ...


#: What must hold while a stage is healthy, by name; each answers with what is wrong, or ``None``.
Invariants = Mapping[str, Callable[[], str | None]]


class Host(Protocol):
    """Whoever runs a release: keeps the record of its stages, shows how it goes, waits, and answers its reviews."""

    def stage(
        self, name: StageName, endpoint: EndpointRef, *, after: Invariants = MappingProxyType({})
    ) -> AbstractContextManager[StageFacts]: ...

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
    first = EndpointRef(environment=next(iter(manifest.environments)), name=manifest.name)
    if manifest.model.pinned:
        with host.stage("register", first) as facts:
            model = registered.find(platform, manifest, manifest.model.name, manifest.model.version)
            _tell_registered(facts, model, bump="none", reasons=("pinned by the manifest",))
            if runtime := require_proven(platform, manifest, model, manifest_dir=manifest_dir):
                facts.add(lock=runtime.digest)
        host.say("model", "register", f"{model.name} {model.version}, pinned by the manifest")
        return model
    with host.stage("snapshot", first) as facts:
        snapshot, report = snapshot_dataset(
            manifest,
            as_of,
            store=platform.snapshots,
            validator=platform.validator,
            features=platform.features,
            tell=facts.quality,
        )
        facts.add(digest=snapshot.digest, rows=snapshot.rows, expectations=report.judged)
        if snapshot.features:
            facts.add(features=snapshot.features.to_json())
    host.say("model", "snapshot", f"{snapshot.rows:,} rows, {report.judged} expectations hold")
    with host.stage("train", first) as facts:
        record = train_model(
            manifest,
            snapshot,
            store=platform.snapshots,
            registry=platform.registry,
            validator=platform.validator,
            code_version=code_version,
            now=platform.clock.now(),
            tell=facts.quality,
            runtime=locked_runtime(platform, manifest, manifest_dir=manifest_dir),
            runtimes=platform.runtimes,
        )
        facts.add(run_id=record.run_id, metrics=dict(record.metrics), code_version=record.code_version)
        if record.runtime:
            facts.add(lock=record.runtime.digest)
        if record.unlabelled:
            facts.add(unlabelled=record.unlabelled)
    host.say("model", "train", ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items()))
    with host.stage("register", first) as facts:
        model, bump, reasons = register_model(manifest, record, registry=platform.registry)
        registered.record(platform, manifest, model)
        _tell_registered(facts, model, bump=bump, reasons=reasons)
    host.say("model", "register", f"{model.name} {model.version} ({bump}: {'; '.join(reasons)})")
    return model


def adopt_registered(
    platform: Platform, manifest: Manifest, adopt: Callable[[Tell], Adopted], *, host: Host, manifest_dir: Path
) -> ModelVersion:
    """Register a model that another pipeline logged, which ``adopt`` does, in its stage; it is given who hears of
    the quality of the rows."""
    first = EndpointRef(environment=next(iter(manifest.environments)), name=manifest.name)
    with host.stage("register", first) as facts:
        adopted = adopt(facts.quality)
        bump = "none" if adopted.known else "adopted"
        _tell_registered(facts, adopted.model, bump=bump, reasons=adopted.reasons)
        if runtime := require_proven(platform, manifest, adopted.model, manifest_dir=manifest_dir):
            facts.add(lock=runtime.digest)
    model = adopted.model
    host.say("model", "adopt", f"{model.name} {model.version}, from {manifest.model.adopt}")
    return model


def _tell_registered(facts: StageFacts, model: ModelVersion, *, bump: str, reasons: Sequence[str]) -> None:
    facts.add(
        dataset=model.dataset.digest,
        artifact=model.artifact_digest,
        model=model.name,
        version=model.version,
        bump=bump,
        reasons=list(reasons),
    )


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
        finally:
            self._end_trial(endpoint)

    def _carry(self, endpoint: EndpointRef, spec: EnvironmentSpec) -> Carried:
        if not self._open(endpoint):
            return Carried(str(endpoint), self._release.id, "already current")
        self._review(endpoint)
        common: dict[str, Any] = {"endpoint": endpoint, "rollout_id": self._id, "timeout_s": READY_TIMEOUT_S}
        if spec.shadow:
            with self._traffic_stage("shadow", endpoint) as facts:
                state = trial.start_shadow(self._platform, **common)
                mirror = state.planned.mirror if state.planned else None
                facts.add(mirrored_to=mirror.release if mirror else None, fraction=mirror.fraction if mirror else 0.0)
            self._watch(endpoint, "shadow", look_every(spec.shadow.duration).total_seconds())
        if spec.canary:
            durations = step_durations(spec, self._manifest.traffic.expected_rate)
            for step, share in enumerate(spec.canary.steps):
                with self._traffic_stage("canary", endpoint) as facts:
                    state = trial.step_canary(self._platform, step=step, **common)
                    facts.add(step=step, weights=state.planned.weights if state.planned else {})
                title = f"canary {format_ratio(share)}"
                self._watch(endpoint, "canary", look_every(durations[step]).total_seconds(), step=step, title=title)
        with self._traffic_stage("promote", endpoint) as facts:
            state = promote.promote(self._platform, **common)
            retired = promote.retire_superseded(self._platform, endpoint)
            facts.add(
                retired=retired,
                alias_mirrored=promote.mirror_alias(self._platform, endpoint),
                current=state.current.id if state.current else None,
                previous=state.previous.id if state.previous else None,
            )
        self._host.say(endpoint.environment, "promote", f"{state.serving_now} is current")
        if spec.rollback and spec.serve:
            self._watch(endpoint, "watch", look_every(spec.rollback.window).total_seconds())
        return Carried(str(endpoint), self._release.id, "promoted")

    def _traffic_stage(self, name: StageName, endpoint: EndpointRef) -> AbstractContextManager[StageFacts]:
        return self._host.stage(
            name,
            endpoint,
            after={
                "the plane serves what the ledger confirmed": partial(
                    invariants.plane_serves_what_the_ledger_confirmed, self._platform, endpoint
                ),
                "every release with traffic is ready": partial(
                    invariants.every_planned_release_is_ready, self._platform, endpoint
                ),
            },
        )

    def _end_trial(self, endpoint: EndpointRef) -> None:
        """As the teardown of a release Dag: whatever has happened, nothing stays on trial that nobody waits for."""
        cause = "the release did not get to the promotion"
        with self._host.stage("rollback", endpoint) as facts:
            report = rollback.end_trial(self._platform, endpoint, cause=cause, rollout_id=self._id)
            if report is None:
                facts.skipped()
            else:
                facts.rolled_back(cause)
                self._host.say(endpoint.environment, "rollback", report.sentence)

    def _open(self, endpoint: EndpointRef) -> bool:
        """Open the rollout and judge its gates; false where there is nothing to do."""
        with self._host.stage("gate", endpoint) as facts:
            return self._judge(endpoint, facts)

    def _judge(self, endpoint: EndpointRef, facts: StageFacts) -> bool:
        check = opening.check_offline_gates(
            self._platform, endpoint=endpoint, rollout_id=self._id, release=self._release, manifest=self._manifest
        )
        facts.gates(check.results)
        facts.add(release=self._release.id, verdict=check.verdict, already_current=check.already_current)
        if check.already_current:
            self._host.say(endpoint.environment, "gates", f"{self._release.id} is current already")
            return False
        for result in check.results:
            self._host.say(endpoint.environment, "gates", f"{result.verdict}: {result.gate}: {result.reason}")
        check.require(self._release, endpoint)
        return True

    def _review(self, endpoint: EndpointRef) -> None:
        with self._host.stage("review", endpoint) as facts:
            self._ask(endpoint, facts)

    def _ask(self, endpoint: EndpointRef, facts: StageFacts) -> None:
        request = review.open_review(self._platform, endpoint=endpoint, rollout_id=self._id)
        facts.add(needs_person=request.needs_person, why=request.why)
        if not request.needs_person:
            self._host.say(endpoint.environment, "review", f"no person needed: {request.why}")
            return
        answer = self._host.review(endpoint, request)
        facts.add(approved=answer.approved, reviewer=answer.reviewer, note=answer.note)
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
        with self._host.stage(stage, endpoint) as facts:
            result = self._look_until_decided(endpoint, stage, every_s, step=step, title=title)
            facts.gates(result.results)
            facts.add(verdict=result.verdict)
            judged = last_judgement(self._platform, endpoint, rollout_id=self._id, stage=stage)
            if stage == "shadow" and judged and judged.facts:
                facts.compared(judged.facts)
            if result.status == "ended":
                facts.rolled_back(result.cause)
                raise RolloutEnded(
                    f"rollout {self._id} of {endpoint}",
                    value=result.ending,
                    limit=result.cause,
                    remedy="traffic is back on the last good release; mend the candidate, then release again",
                )
        self._host.say(endpoint.environment, title, "passed")

    def _look_until_decided(
        self, endpoint: EndpointRef, stage: watch.WatchedStage, every_s: float, *, step: int, title: str
    ) -> watch.WatchResult:
        while True:
            result = watch.look(self._platform, endpoint=endpoint, rollout_id=self._id, stage=stage, step=step)
            if result.status != "watching":
                return result
            undecided = [f"{each.gate} {each.verdict}: {each.reason}" for each in result.results]
            self._host.say(endpoint.environment, title, result.cause or "; ".join(undecided) or "is watched")
            self._host.wait(every_s)
