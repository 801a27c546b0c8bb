"""Evidence for offline gates: the candidate beside what users have now, on rows that neither has learned from."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import ReleaseNotReady, RuntimeMismatch, SignatureMismatch, TrainingFailed
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.quality.check import candidate_evidence
from airflow_provider_mlpipex.services.training import evaluation, locked_runtime


def find_baseline(platform: Platform, manifest: Manifest, endpoint: EndpointRef) -> ModelVersion | None:
    """The model that a candidate for ``endpoint`` must not be worse than; ``None`` before any first release.

    It is what the last environment serves, or the nearest before it that has a release. Not simply what ``endpoint``
    itself holds: staging goes on with a release that production has rolled back, and that one is no standard.
    """
    environments = list(manifest.environments)
    for environment in reversed(environments[environments.index(endpoint.environment) :]):
        state = journal.load(platform, EndpointRef(environment=environment, name=endpoint.name))
        if state.current is not None:
            return state.current.model
    return None


def measure(
    platform: Platform, manifest: Manifest, candidate: ModelVersion, baseline: ModelVersion | None
) -> dict[str, Evidence]:
    """``evaluation.metric`` of the candidate with the baseline's value on the same rows, and ``baseline.metric``; where
    a gate of the manifest names it, ``quality.metric`` of the candidate's rows.

    A baseline measured on other rows would compare months, not models; so the baseline model is asked again. And a
    model that has learned from the rows looks better than it is; so of the two snapshots the one that was split later
    judges both. What the current release cannot answer as it is served is broken evidence, which names the column.
    """
    rows = _unseen_by_both(candidate, baseline)
    own, own_rows = _metrics_on(platform, manifest, candidate, rows)
    other: dict[str, float] = {}
    other_rows, why_not = 0, None
    if baseline is not None and baseline.artifact_digest == candidate.artifact_digest:
        other, other_rows = own, own_rows
    elif baseline is not None:
        try:
            other, other_rows = _metrics_on(platform, manifest, baseline, rows)
        except (SignatureMismatch, ReleaseNotReady, TrainingFailed, RuntimeMismatch) as error:
            why_not = f"the current release: {error}"
    window = {"since": rows.split_at, "until": rows.window_end}
    measured = [
        Evidence(
            source="evaluation",
            metric=metric,
            value=value,
            samples=own_rows,
            baseline=other.get(metric),
            baseline_samples=other_rows,
            baseline_broken=why_not,
            **window,
        )
        for metric, value in own.items()
    ]
    measured += [
        Evidence(source="baseline", metric=metric, value=value, samples=other_rows, **window)
        for metric, value in other.items()
    ]
    if why_not:
        measured += [Evidence(source="baseline", metric=metric, broken=why_not, **window) for metric in own]
    found = {evidence.key: evidence for evidence in measured}
    # Judging whole tables takes a while, so it is done only where somebody asks.
    asked = any(gate.source == "quality" for spec in manifest.environments.values() for gate in spec.gates)
    return found | (candidate_evidence(platform, manifest, candidate) if asked else {})


def _unseen_by_both(candidate: ModelVersion, baseline: ModelVersion | None) -> DatasetSnapshot:
    if baseline is not None and baseline.dataset.split_at > candidate.dataset.split_at:
        return baseline.dataset
    return candidate.dataset


def _metrics_on(
    platform: Platform, manifest: Manifest, model: ModelVersion, rows: DatasetSnapshot
) -> tuple[dict[str, float], int]:
    if model.dataset == rows:
        return dict(model.metrics), model.evaluation_rows
    python = locked_runtime.python_of(platform, model)
    return evaluation.metrics_on(
        model, manifest, rows, store=platform.snapshots, registry=platform.registry, python=python
    )
