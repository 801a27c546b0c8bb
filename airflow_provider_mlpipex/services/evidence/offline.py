"""Evidence for offline gates: the candidate beside what users have now, on rows that neither has learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from airflow_provider_mlpipex.domain.errors import ReleaseNotReady, RuntimeMismatch, SignatureMismatch, TrainingFailed
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.quality.check import candidate_evidence
from airflow_provider_mlpipex.services.training import evaluation, locked_runtime, same_rows
from airflow_provider_mlpipex.services.training.same_rows import Answers


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
    platform: Platform,
    manifest: Manifest,
    candidate: ModelVersion,
    baseline: ModelVersion | None,
    *,
    gates: Sequence[Gate] | None = None,
) -> dict[str, Evidence]:
    """``evaluation.metric`` of the candidate with the baseline's value on the same rows, and ``baseline.metric``; where
    a gate of the manifest names it, ``quality.metric`` of the candidate's rows.

    A baseline measured on other rows would compare months, not models; so the baseline model is asked again. And a
    model that has learned from the rows looks better than it is; so of the two snapshots the one that was split later
    judges both. Where a gate asks, both answer row by row: what they differ by is known far better in pairs than by two
    numbers. What either cannot answer as it is served is broken evidence, which names the column.

    :param gates: that will be judged; those of every environment if not given.
    """
    rows = _unseen_by_both(candidate, baseline)
    window = {"since": rows.split_at, "until": rows.window_end}
    if gates is None:
        gates = [gate for spec in manifest.environments.values() for gate in spec.gates]
    # A first release is compared with nothing, and the very same model needs no asking.
    judged = [gate for gate in gates if gate.source == "evaluation" and (baseline is not None or not gate.relative)]
    names = sorted({gate.metric.partition(".")[2] for gate in judged})
    same = baseline is not None and baseline.artifact_digest == candidate.artifact_digest
    own = _ask(platform, manifest, candidate, rows, row_by_row=bool(names) and not same, who="the candidate")
    if baseline is None or same:
        other = own if same else _Measured({}, 0)
    else:
        other = _ask(platform, manifest, baseline, rows, row_by_row=bool(names), who="the current release")
    known = _sampled(manifest, own, other, names)
    measured = [
        Evidence(
            source="evaluation",
            metric=metric,
            value=None if own.broken else value,
            samples=own.rows,
            baseline=other.metrics.get(metric),
            baseline_samples=other.rows,
            broken=own.broken,
            baseline_broken=other.broken,
            summary=known[metric].own if metric in known else None,
            paired=known[metric].paired if metric in known else None,
            **window,
        )
        for metric, value in own.metrics.items()
    ]
    measured += [
        Evidence(source="baseline", metric=metric, value=value, samples=other.rows, **window)
        for metric, value in other.metrics.items()
    ]
    if other.broken:
        measured += [
            Evidence(source="baseline", metric=metric, broken=other.broken, **window) for metric in own.metrics
        ]
    by_key = {evidence.key: evidence for evidence in measured}
    # Judging whole tables takes a while, so it is done only where somebody asks.
    asked = any(gate.source == "quality" for gate in gates)
    return by_key | (candidate_evidence(platform, manifest, candidate) if asked else {})


class _Measured(NamedTuple):
    """One model on the rows: its metrics, from how many; its answers, where they were asked for.

    :param broken: why it could not be asked.
    """

    metrics: dict[str, float]
    rows: int
    answers: Answers | None = None
    broken: str | None = None


def _unseen_by_both(candidate: ModelVersion, baseline: ModelVersion | None) -> DatasetSnapshot:
    if baseline is not None and baseline.dataset.split_at > candidate.dataset.split_at:
        return baseline.dataset
    return candidate.dataset


def _ask(
    platform: Platform, manifest: Manifest, model: ModelVersion, rows: DatasetSnapshot, *, row_by_row: bool, who: str
) -> _Measured:
    recorded = _Measured(dict(model.metrics), model.evaluation_rows)
    if manifest.labels is None or (model.dataset == rows and not row_by_row):
        return recorded if model.dataset == rows else _Measured({}, 0)
    try:
        asked = evaluation.answers_on(
            model,
            manifest.labels,
            rows,
            store=platform.snapshots,
            registry=platform.registry,
            python=locked_runtime.python_of(platform, model),
        )
        if model.dataset == rows:
            return recorded._replace(answers=asked)
        metrics = evaluation.evaluate(manifest.labels.task, asked.truth, asked.answers, classes=asked.classes)
    except (SignatureMismatch, ReleaseNotReady, TrainingFailed, RuntimeMismatch) as error:
        own = recorded.metrics if who == "the candidate" else {}
        return _Measured(own, 0, broken=f"{who}: {error}")
    return _Measured(metrics, len(asked.answers), asked)


def _sampled(
    manifest: Manifest, own: _Measured, other: _Measured, names: Sequence[str]
) -> Mapping[str, same_rows.Sampling]:
    """What the metrics that gates name are known to."""
    if own.answers is None or manifest.labels is None:
        return {}
    defined = [name for name in names if name in own.metrics and (other.answers is None or name in other.metrics)]
    return same_rows.sample(manifest.labels.task, defined, own.answers, other.answers)
