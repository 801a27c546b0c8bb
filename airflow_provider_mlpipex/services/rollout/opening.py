"""Opening a rollout: what the manifest demands of it, and the offline gates that it must pass first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from airflow_provider_mlpipex.domain.errors import GateFailed, GateUndecided
from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.review_block import ReviewSpec, stricter_review
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ModelVersion, Release
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.events import Event, GatesJudged, RolloutPolicy
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT, StickyHeader
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.evidence import feature_parity, provenance
from airflow_provider_mlpipex.services.evidence import offline as offline_evidence
from airflow_provider_mlpipex.services.outcomes import promotion_doubt
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic
from airflow_provider_mlpipex.services.training import feature_rows, locked_runtime


class GateCheck(Value):
    """Outcome of the offline gates.

    :param already_current: this very release under this manifest is current.
    :param for_review: some gates could not tell from so few rows, and the review of this environment asks a person.
    """

    verdict: VerdictName
    results: tuple[GateResult, ...] = ()
    already_current: bool = False
    for_review: bool = False

    def require(self, release: Release, endpoint: EndpointRef) -> None:
        """:raises GateFailed: a gate failed. :raises GateUndecided: one could not decide, and nobody will be asked."""
        if self.verdict == "pass" or self.for_review:
            return
        stopped = stopping(self.results)
        few_rows = bool(stopped) and all(result.rows_that_decide for result in stopped)
        remedy = (
            "take more rows to evaluate (data.window.evaluate), allow a larger difference, or add a review block: then "
            "a person decides"
            if few_rows
            else "mend the model or review the gate"
        )
        raise (GateFailed if self.verdict == "fail" else GateUndecided)(
            f"release {release.id} to {endpoint}",
            value=explain(self.results),
            limit="every gate passes",
            remedy=f"the current release keeps serving; {remedy}",
        )


def make_release(platform: Platform, manifest: Manifest, model: ModelVersion, *, manifest_dir: Path) -> Release:
    """Bind a registered model to the runtime that the manifest pins, with its lock kept beside the model.

    :raises RuntimeMismatch: the runtime's lock is not the one whose digest the manifest states, or not the one that
        this ``runtime.version`` has ever meant.
    :raises FeatureMismatch: the model was not trained on the feature service as it is now.
    """
    service = feature_rows.service_for(manifest, model, platform.features)
    runtime = locked_runtime.pinned_runtime(platform, manifest, manifest_dir=manifest_dir)
    return Release(
        model=model,
        runtime=locked_runtime.kept_with(platform, model, runtime),
        feature_service=manifest.features.service,
        feature_digest=service.digest if service else None,
        manifest_digest=manifest.digest,
    )


def policy_of(
    state: EndpointState, manifest: Manifest, model: ModelVersion, declared_gates: Sequence[str] = ()
) -> RolloutPolicy:
    """The rollout policy that ``manifest`` demands for ``model`` at the endpoint of ``state``.

    :param declared_gates: task ids of the gates that the Dag itself declares.

    Whether a review is due, the current release's manifest has a say in: none can excuse itself from it.
    """
    environment = manifest.environments[state.endpoint.environment]
    control = environment.rollback.control if environment.rollback else None
    return RolloutPolicy(
        serve=environment.serve,
        offline_gates=bool(environment.gates) or manifest.features.parity is not None or model.adopted is not None,
        review=review_of(state, manifest) is not None,
        shadow_fraction=environment.shadow.fraction if environment.shadow else None,
        canary_weights=tuple(round(s * TOTAL_WEIGHT) for s in environment.canary.steps) if environment.canary else (),
        rollback_window_s=environment.rollback.window.total_seconds() if environment.rollback else 0.0,
        control_weight=round(control * TOTAL_WEIGHT) if control else None,
        lease_s=manifest.traffic.lease.total_seconds(),
        sticky_header=StickyHeader(manifest.traffic.sticky_header),
        timeout_s=manifest.traffic.timeout.total_seconds(),
        fallback="none" if manifest.traffic.fallback == "none" else None,
        declared_gates=tuple(declared_gates) or None,
    )


def review_of(state: EndpointState, manifest: Manifest) -> ReviewSpec | None:
    """The review that a rollout under ``manifest`` goes through: the stricter of its own and of the one in force."""
    demanded = manifest.review_in(state.endpoint.environment)
    if state.current_manifest is None:
        return demanded
    in_force = Manifest.model_validate(state.current_manifest).environments.get(state.endpoint.environment)
    return stricter_review(in_force.review if in_force else None, demanded)


def check_offline_gates(
    platform: Platform,
    *,
    endpoint: EndpointRef,
    rollout_id: str,
    release: Release,
    manifest: Manifest,
    declared_gates: Sequence[str] = (),
) -> GateCheck:
    """Take the endpoint for ``release`` and judge its offline gates; a failed or undecided gate ends the rollout.

    Where all that is undecided are gates for which the evaluation has too few rows, and a review is due, it goes on to
    the review: there a person decides.

    :param declared_gates: task ids of the gates that the Dag itself declares for this endpoint.
    :raises GateFailed: one of those failed. :raises GateUndecided: one has not passed. Nothing was opened.
    :raises RolloutInProgress: another rollout holds the endpoint.
    :raises ManifestChanged: the rollout was opened under another manifest.
    :raises PromotionInDoubt: late labels have reopened a promotion of this model, and nobody has decided.
    """
    environment = manifest.environments[endpoint.environment]
    before = traffic.converge(platform, endpoint, rollout_id=rollout_id)
    opened = before.rollout is not None and before.rollout.id == rollout_id
    if not opened and not decisions.is_current(before, release):
        promotion_doubt.require_no_doubt(platform, endpoint, release.model)
    state = journal.decide(
        platform,
        endpoint,
        lambda now: decisions.open_rollout(
            now,
            rollout_id=rollout_id,
            release=release,
            policy=policy_of(now, manifest, release.model, declared_gates),
            manifest=manifest.to_json(),
        ),
        rollout_id=rollout_id,
    )
    if state.rollout is None:
        return GateCheck(verdict="pass", already_current=True)
    baseline = offline_evidence.find_baseline(platform, manifest, endpoint)
    evidence = offline_evidence.measure(
        platform, manifest, state.rollout.candidate.model, baseline, gates=environment.gates
    )
    results = tuple(
        judging.judge(gate, evidence.get(gate.metric), now=platform.clock.now(), first_release=baseline is None)
        for gate in environment.gates
    )
    results += provenance.judge(platform, manifest, endpoint=endpoint, model=state.rollout.candidate.model)
    results += feature_parity.judge(platform, manifest, endpoint=endpoint, release=state.rollout.candidate)
    verdict = judging.verdict_of(results) if results else "pass"
    few_rows = verdict == "inconclusive" and all(result.rows_that_decide for result in stopping(results))
    asks = few_rows and state.rollout.policy.review
    judged = GatesJudged(
        rollout_id=rollout_id, stage="gate", verdict=verdict, results=results, for_review=True if asks else None
    )

    def record(now: EndpointState) -> list[Event]:
        recorded = decisions.record_verdict(now, judged=judged, step=-1)
        if verdict == "pass" or asks:
            return recorded
        return [*recorded, *decisions.reject(now, rollout_id=rollout_id, cause=explain(results))]

    alerts.decide_and_tell(platform, endpoint, record, rollout_id=rollout_id)
    return GateCheck(verdict=verdict, results=results, for_review=asks)


def stopping(results: Iterable[GateResult]) -> list[GateResult]:
    """The gates with a say that did not pass."""
    return [result for result in results if result.verdict != "pass" and not result.advisory]


def explain(results: tuple[GateResult, ...]) -> str:
    """The gates that did not pass, in words: observed value, threshold, margin."""
    stopped = stopping(results)
    return "; ".join(f"{result.gate} {result.verdict}: {result.reason}" for result in stopped) or "no gate was judged"
