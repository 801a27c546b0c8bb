"""The retroactive gate: what labels say of the current release, judged whenever they come.

One judgement is of a fixed sample and says nothing of chance over many of them; what a failure does is ask a person.
"""

from __future__ import annotations

from typing import NamedTuple

from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.outcomes_block import OutcomesSpec
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout import promotion_doubt as doubt_decisions
from airflow_provider_mlpipex.domain.rollout.events import OutcomesJudged
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, PromotionDoubt
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.outcomes import promotion_doubt
from airflow_provider_mlpipex.services.outcomes.metrics import MAX_CLASSES, Performance, Tasks, measure
from airflow_provider_mlpipex.services.platform import Platform


class Judgement(NamedTuple):
    """:param doubt: the promotion that is in doubt by now, from this look or an earlier one."""

    judged: OutcomesJudged
    doubt: PromotionDoubt | None


def judge(platform: Platform, endpoint: EndpointRef) -> Judgement | None:
    """Judge the current release by its labels, write it down and tell on-call if its promotion is in doubt.

    The same labels again write nothing. ``None`` where nothing is current, its manifest has no ``outcomes`` block, or
    no label is of it.
    """
    state = journal.load(platform, endpoint)
    spec = _spec(state)
    if state.current is None or spec is None:
        return None
    performance = _performance(platform, endpoint, state.current, spec)
    if performance is None:
        return None
    now = platform.clock.now()
    results = tuple(judging.judge(gate, _evidence(gate, performance, state.current), now=now) for gate in spec.gates)
    judged = OutcomesJudged(
        release=state.current.id,
        since=performance.since,
        until=performance.until,
        rows=performance.samples + performance.unscored,
        verdict=judging.verdict_of(results),
        results=results,
    )
    after = journal.decide(platform, endpoint, lambda state: doubt_decisions.record_outcomes(state, judged=judged))
    promotion_doubt.tell(platform, after)
    return Judgement(judged, after.doubt)


def _spec(state: EndpointState) -> OutcomesSpec | None:
    if state.current_manifest is None:
        return None
    environment = Manifest.model_validate(state.current_manifest).environments.get(state.endpoint.environment)
    return environment.outcomes if environment else None


def _performance(platform: Platform, endpoint: EndpointRef, release: Release, spec: OutcomesSpec) -> Performance | None:
    """The labelled rows of the window. It ends with the newest of them: labels come weeks after their predictions."""
    span = platform.outcomes.spans(endpoint).get(release.id)
    if span is None:
        return None
    outcomes = platform.outcomes.read(endpoint, release.id, since=span.last - spec.window, until=span.last)
    return measure(
        Tasks(platform, endpoint).of(release.id),
        outcomes,
        platform.outcomes.labels(endpoint, limit=MAX_CLASSES),
        release=release.id,
        since=outcomes[0].served_at,
        until=outcomes[-1].served_at,
    )


def _evidence(gate: Gate, performance: Performance, release: Release) -> Evidence:
    """Beside what the release was registered with: labels of another release are of other weeks."""
    metric = gate.metric.partition(".")[2]
    value = performance.metrics.get(metric)
    return Evidence(
        source="outcomes",
        metric=metric,
        value=value,
        samples=performance.samples,
        baseline=release.model.metrics.get(metric),
        baseline_samples=release.model.evaluation_rows,
        since=performance.since,
        until=performance.until,
        broken=performance.why if performance.why and not performance.waiting else None,
    )
