"""Opening a rollout: what the manifest demands of it, and the offline gates that it must pass first."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow_provider_mlpipex.domain import gates
from airflow_provider_mlpipex.domain import rollout as machine
from airflow_provider_mlpipex.domain.events import GateResult, GatesJudged, RolloutPolicy, VerdictName
from airflow_provider_mlpipex.domain.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release import ModelVersion, Release
from airflow_provider_mlpipex.domain.traffic import TOTAL_WEIGHT
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import alerts, journal, offline_evidence, traffic
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
    baseline = offline_evidence.find_baseline(platform, manifest, endpoint)
    evidence = offline_evidence.measure(platform, manifest, state.rollout.candidate.model, baseline)
    results = tuple(
        gates.judge(gate, evidence.get(gate.metric), now=platform.clock.now(), first_release=baseline is None)
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


def explain(results: tuple[GateResult, ...]) -> str:
    """The gates that did not pass, in words: observed value, threshold, margin."""
    stopped = [result for result in results if result.verdict != "pass" and not result.advisory]
    return "; ".join(f"{result.gate} {result.verdict}: {result.reason}" for result in stopped) or "no gate was judged"
