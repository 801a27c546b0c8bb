"""Evidence of one metric said as another, where both come of the same counts. Nothing is estimated in between."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.metrics import find_metric
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summary, Timed

#: Metrics that the errors among some requests give.
_OF_ERRORS = ("error_rate", "critical_errors", "requests")


def find_evidence(metric: str, kept: Iterable[Evidence]) -> Evidence | None:
    """Evidence of ``metric`` (``source.metric``) among what was kept, or another quantile of the same latencies, or
    another number of the same errors. ``None`` where nothing kept says it."""
    evidence = list(kept)
    itself = next((item for item in evidence if item.key == metric), None)
    if itself is not None:
        return itself
    restated = (_restated(item, metric) for item in evidence if item.source == metric.partition(".")[0])
    return next((item for item in restated if item is not None), None)


def _restated(evidence: Evidence, metric: str) -> Evidence | None:
    name, of = metric.partition(".")[2], find_metric(metric)
    if of is None or evidence.broken:
        return None
    by_errors = name in _OF_ERRORS and evidence.metric in _OF_ERRORS and isinstance(evidence.summary, Counted)
    by_latency = of.quantile is not None and isinstance(evidence.summary, Timed)
    if not by_errors and not by_latency:
        return None
    return evidence.model_copy(
        update={
            "metric": name,
            "value": _value(name, of.quantile, evidence.summary),
            "baseline": _value(name, of.quantile, evidence.baseline_summary),
        }
    )


def _value(name: str, quantile: float | None, summary: Summary | None) -> float | None:
    if isinstance(summary, Timed) and quantile is not None:
        return summary.quantile(quantile)
    if not isinstance(summary, Counted):
        return None
    if name == "error_rate":
        return summary.events / summary.trials if summary.trials else None
    return float(summary.events if name == "critical_errors" else summary.trials)
