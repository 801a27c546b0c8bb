"""Evidence from live traffic: what the data plane counted and what the prediction log holds, as gates read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.evidence import Evidence, ReleaseTelemetry, ShadowComparison, Source, Telemetry
from airflow_provider_mlpipex.domain.metrics import METRICS
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.summaries import Counted, Summary, Summed
from airflow_provider_mlpipex.services.platform import Platform

#: Metrics of latency and the quantile that each is.
_QUANTILES = {name: metric.quantile for name, metric in METRICS["canary"].items() if metric.quantile is not None}
_COUNTED = ("requests", "error_rate", "critical_errors", *_QUANTILES)
_PAIRED = ("pairs", "agreement", "mean_absolute_difference")
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
    for metric, measured in own.items():
        baseline = other.get(metric, _NOTHING)
        yield Evidence(
            source=source,
            metric=metric,
            value=measured.value,
            samples=measured.samples,
            summary=measured.summary,
            baseline=baseline.value,
            baseline_samples=baseline.samples,
            baseline_summary=baseline.summary,
            since=telemetry.since,
            until=telemetry.until,
        )


class _Measured(NamedTuple):
    """One metric of one release, latency in milliseconds."""

    value: float | None
    samples: int
    summary: Summary | None = None


_NOTHING = _Measured(None, 0)


def _counts(seen: ReleaseTelemetry | None) -> dict[str, _Measured]:
    if seen is None:
        return dict.fromkeys(_COUNTED, _NOTHING)
    errors = Counted(events=seen.errors, trials=seen.requests)
    latency = seen.latency.filled
    measured = {
        "requests": _Measured(float(seen.requests), seen.requests),
        "error_rate": _Measured(seen.error_rate, seen.requests, errors),
        # Kept beside the count as well, for the comparison with a control arm.
        "critical_errors": _Measured(float(seen.errors), seen.requests, errors),
    }
    for metric, q in _QUANTILES.items():
        measured[metric] = _Measured(seen.latency.quantile(q), latency.total, latency)
    return measured


def _from_comparison(comparison: ShadowComparison) -> Iterable[Evidence]:
    window = {"since": comparison.since, "until": comparison.until}
    lossy = comparison.dropped_share > MAX_DROPPED_SHARE
    for metric, measured in _compared(comparison).items():
        # Too lossy to judge is *inconclusive*: no value, rather than a value from what happened to survive.
        value, samples, summary = _NOTHING if lossy else measured
        yield Evidence(source="shadow", metric=metric, value=value, samples=samples, summary=summary, **window)


def _compared(comparison: ShadowComparison) -> dict[str, _Measured]:
    pairs, scored = comparison.pairs, comparison.scored
    agreed = differences = None
    if comparison.agreement is not None:
        agreed = Counted(events=round(comparison.agreement * pairs), trials=pairs)
    if comparison.mean_absolute_difference is not None and comparison.mean_squared_difference is not None:
        differences = Summed(
            count=scored,
            total=comparison.mean_absolute_difference * scored,
            squares=comparison.mean_squared_difference * scored,
        )
    return {
        "pairs": _Measured(float(pairs), pairs),
        "agreement": _Measured(comparison.agreement, pairs, agreed),
        "mean_absolute_difference": _Measured(comparison.mean_absolute_difference, scored, differences),
    }


def _broken(source: Source, since: datetime, until: datetime, why: str) -> dict[str, Evidence]:
    metrics = (*_COUNTED, *_PAIRED) if source == "shadow" else _COUNTED
    return {
        f"{source}.{metric}": Evidence(source=source, metric=metric, since=since, until=until, broken=why)
        for metric in metrics
    }
