"""Evidence from live traffic: what the data plane counted and what the prediction log holds, as gates read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.evidence import Evidence, ReleaseTelemetry, ShadowComparison, Source, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services.platform import Platform

QUANTILES = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}
#: Above this share of predictions lost to full queues, the prediction log says nothing about the rest.
MAX_DROPPED_SHARE = 0.01


def measure(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    source: Source,
    judged: str,
    beside: str | None,
    since: datetime,
    until: datetime,
) -> dict[str, Evidence]:
    """Everything ``source`` can say about release ``judged`` in the window, beside release ``beside``.

    :param source: ``canary`` or ``serving`` for answered requests, ``shadow`` for mirrored ones and paired answers.
    :return: ``source.metric`` -> evidence. A plane that does not answer makes every metric *broken*, which a gate
        judges ``error``, never ``pass``.
    """
    try:
        telemetry = platform.plane.telemetry(endpoint, since=since, until=until)
        comparison = (
            platform.plane.compare(endpoint, primary=beside, shadow=judged, since=since, until=until)
            if source == "shadow" and beside
            else None
        )
    except MlpipexError as error:
        return _broken(source, since, until, str(error))
    if not telemetry.complete:
        return _broken(source, since, until, f"telemetry is incomplete: {telemetry.detail}")
    evidence = list(_from_telemetry(source, telemetry, judged, beside))
    if comparison is not None:
        evidence.extend(_from_comparison(comparison))
    return {item.key: item for item in evidence}


def _from_telemetry(source: Source, telemetry: Telemetry, judged: str, beside: str | None) -> Iterable[Evidence]:
    own = _counts(telemetry.of(judged))
    other = _counts(telemetry.of(beside)) if beside else {}
    for metric, (value, samples) in own.items():
        baseline, baseline_samples = other.get(metric, (None, 0))
        yield Evidence(
            source=source,
            metric=metric,
            value=value,
            samples=samples,
            baseline=baseline,
            baseline_samples=baseline_samples,
            since=telemetry.since,
            until=telemetry.until,
        )


def _counts(seen: ReleaseTelemetry | None) -> dict[str, tuple[float | None, int]]:
    """Metric -> (value, samples). Latency in milliseconds."""
    if seen is None:
        return {metric: (None, 0) for metric in ("requests", "error_rate", "critical_errors", *QUANTILES)}
    counts: dict[str, tuple[float | None, int]] = {
        "requests": (float(seen.requests), seen.requests),
        "error_rate": (seen.error_rate, seen.requests),
        "critical_errors": (float(seen.errors), seen.requests),
    }
    for metric, q in QUANTILES.items():
        counts[metric] = (seen.latency.quantile(q), seen.latency.total)
    return counts


def _from_comparison(comparison: ShadowComparison) -> Iterable[Evidence]:
    window = {"since": comparison.since, "until": comparison.until}
    lossy = comparison.dropped_share > MAX_DROPPED_SHARE
    values = {
        "pairs": float(comparison.pairs),
        "agreement": comparison.agreement,
        "mean_absolute_difference": comparison.mean_absolute_difference,
    }
    for metric, value in values.items():
        # Too lossy to judge is *inconclusive*: no value, rather than a value from what happened to survive.
        samples = 0 if lossy else comparison.pairs
        yield Evidence(source="shadow", metric=metric, value=None if lossy else value, samples=samples, **window)


def _broken(source: Source, since: datetime, until: datetime, why: str) -> dict[str, Evidence]:
    metrics = ["requests", "error_rate", "critical_errors", *QUANTILES]
    if source == "shadow":
        metrics += ["pairs", "agreement", "mean_absolute_difference"]
    return {
        f"{source}.{metric}": Evidence(source=source, metric=metric, since=since, until=until, broken=why)
        for metric in metrics
    }
