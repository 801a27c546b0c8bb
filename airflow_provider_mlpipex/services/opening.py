"""Opening a rollout: what the manifest demands of it, and the offline gates that it must pass first."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow_provider_mlpipex.domain import gates
from airflow_provider_mlpipex.domain import rollout as machine
from airflow_provider_mlpipex.domain.endpoint_state import EndpointState
from airflow_provider_mlpipex.domain.events import GateResult, GatesJudged, RolloutPolicy, VerdictName
from airflow_provider_mlpipex.domain.evidence import Evidence
from airflow_provider_mlpipex.domain.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release import ModelVersion, Release
from airflow_provider_mlpipex.domain.traffic import TOTAL_WEIGHT
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import alerts, evaluation, journal, traffic
from airflow_provider_mlpipex.services.platform import Platform

#: A shadow or canary whose watcher has been silent for this long is taken back by the plane.
LEASE = timedelta(seconds=60)


class GateCheck(Value):
    """Outcome of the offline gates. ``already_current``: this very release under this manifest is current."""

    verdict: VerdictName
    results: tuple[GateResult, ...] = ()
    already_current: bool = False


def make_release(platform: Platform, manifest: Manifest, model: ModelVersion, *, manifest_dir: Path) -> Release:
    """Bind a registered model to the runtime that the manifest pins.

    :raises RuntimeMismatch: the runtime's lock is not the one whose digest the manifest states.
    """
    return Release(
        model=model,
        runtime=platform.runtimes.resolve(manifest.runtime, manifest_dir=manifest_dir),
        feature_service=manifest.features.service,
        manifest_digest=manifest.digest,
    )


def policy_of(manifest: Manifest, environment: EnvironmentSpec) -> RolloutPolicy:
    """The rollout policy that ``environment`` of ``manifest`` demands."""
    return RolloutPolicy(
        serve=environment.serve,
        offline_gates=bool(environment.gates),
        review=environment.review is not None,
        shadow_fraction=environment.shadow.fraction if environment.shadow else None,
        canary_weights=tuple(round(s * TOTAL_WEIGHT) for s in environment.canary.steps) if environment.canary else (),
        rollback_window_s=environment.rollback.window.total_seconds() if environment.rollback else 0.0,
        lease_s=LEASE.total_seconds(),
        sticky_header=manifest.traffic.sticky_header,
    )


def check_offline_gates(
    platform: Platform, *, endpoint: EndpointRef, rollout_id: str, release: Release, manifest: Manifest
) -> GateCheck:
    """Take the endpoint for ``release`` and judge its offline gates; a failed or undecided gate ends the rollout.

    :raises RolloutInProgress: another rollout holds the endpoint.
    """
    environment = manifest.environments[endpoint.environment]
    traffic.converge(platform, endpoint)
    state = journal.decide(
        platform,
        endpoint,
        lambda now: machine.open_rollout(
            now,
            rollout_id=rollout_id,
            release=release,
            policy=policy_of(manifest, environment),
            manifest=manifest.to_json(),
        ),
    )
    if state.rollout is None:
        return GateCheck(verdict="pass", already_current=True)
    evidence = offline_evidence(platform, state, manifest)
    results = tuple(
        gates.judge(gate, evidence.get(gate.metric), now=platform.clock.now(), first_release=state.is_first)
        for gate in environment.gates
    )
    verdict = gates.overall(results) if results else "pass"
    judged = GatesJudged(rollout_id=rollout_id, stage="gate", verdict=verdict, results=results)
    after = journal.decide(
        platform,
        endpoint,
        lambda now: (
            [judged]
            if verdict == "pass"
            else [judged, *machine.reject(now, rollout_id=rollout_id, cause=explain(results))]
        ),
    )
    alerts.tell_endings(platform, state, after)
    return GateCheck(verdict=verdict, results=results)


def offline_evidence(platform: Platform, state: EndpointState, manifest: Manifest) -> dict[str, Evidence]:
    """Evaluation metrics of the candidate beside those of the current release *on the same rows*.

    A baseline measured on other rows would compare months, not models; so the current model is asked again.
    """
    assert state.rollout is not None
    model = state.rollout.candidate.model
    current = state.current.model if state.current else None
    baseline: dict[str, float] = {}
    baseline_rows = 0
    if current is not None and current.artifact_digest == model.artifact_digest:
        baseline, baseline_rows = dict(model.metrics), model.evaluation_rows
    elif current is not None:
        baseline, baseline_rows = evaluation.baseline_metrics(
            current, manifest, model.dataset, store=platform.snapshots, registry=platform.registry
        )
    window = {"since": model.dataset.split_at, "until": model.dataset.window_end}
    measured = {
        f"evaluation.{metric}": Evidence(
            source="evaluation",
            metric=metric,
            value=value,
            samples=model.evaluation_rows,
            baseline=baseline.get(metric),
            baseline_samples=baseline_rows,
            **window,
        )
        for metric, value in model.metrics.items()
    }
    for metric, value in baseline.items():
        measured[f"baseline.{metric}"] = Evidence(
            source="baseline", metric=metric, value=value, samples=baseline_rows, **window
        )
    return measured


def explain(results: tuple[GateResult, ...]) -> str:
    """The gates that did not pass, in words: observed value, threshold, margin."""
    stopped = [result for result in results if result.verdict != "pass" and not result.advisory]
    return "; ".join(f"{result.gate} {result.verdict}: {result.reason}" for result in stopped) or "no gate was judged"
