"""Evidence from live traffic: what the data plane counted and what the prediction log holds, as gates read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.gates.evidence import Evidence, Groups, ReleaseTelemetry, Source, Telemetry
from airflow_provider_mlpipex.domain.gates.metrics import METRICS, PAIRED
from airflow_provider_mlpipex.domain.gates.split import mismatch
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summary
from airflow_provider_mlpipex.services.evidence.paired import from_comparison
from airflow_provider_mlpipex.services.platform import Platform

#: Metrics of latency and the quantile that each is.
_QUANTILES = {name: metric.quantile for name, metric in METRICS["canary"].items() if metric.quantile is not None}
_COUNTED = ("requests", "error_rate", "critical_errors", *_QUANTILES)
#: Above this share of predictions lost to full queues, the prediction log says nothing about the rest.
MAX_DROPPED_SHARE = 0.01


class Measurement(NamedTuple):
    """``source.metric`` -> evidence, and the paired comparison that some of it comes from.

    ``wrong_split`` says so where requests do not come to the releases by the shares of the plan; ``groups`` hold what
    became of the requests of users, by release, since the plan in force splits them.
    """

    evidence: dict[str, Evidence]
    comparison: ShadowComparison | None = None
    wrong_split: str | None = None
    groups: Mapping[str, Groups] | None = None


def measure(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    source: Source,
    judged: str,
    beside: str | None,
    since: datetime,
    until: datetime,
    slices: Sequence[str] = (),
) -> Measurement:
    """Everything ``source`` can say about release ``judged`` in the window, beside release ``beside``.

    :param source: ``canary`` or ``serving`` for answered requests, ``shadow`` for mirrored ones and paired answers.
    :param slices: model inputs by whose values a shadow's pairs are grouped.
    :return: a plane that does not answer makes every metric *broken*, which a gate judges ``error``, never ``pass``.
    """
    try:
        telemetry = platform.plane.telemetry(endpoint, since=since, until=until)
        comparison = (
            platform.plane.compare(endpoint, primary=beside, shadow=judged, since=since, until=until, slices=slices)
            if source == "shadow" and beside
            else None
        )
    except MlpipexError as error:
        return Measurement(_broken(source, since, until, str(error)))
    return measured(source, telemetry, judged=judged, beside=beside, comparison=comparison)


def measured(
    source: Source,
    telemetry: Telemetry,
    *,
    judged: str,
    beside: str | None = None,
    comparison: ShadowComparison | None = None,
) -> Measurement:
    """What ``telemetry`` says, where the plane has answered. Incomplete, it makes every metric *broken*."""
    if not telemetry.complete:
        why = f"telemetry is incomplete: {telemetry.detail}"
        return Measurement(_broken(source, telemetry.since, telemetry.until, why))
    evidence = list(_from_telemetry(source, telemetry, judged, beside))
    if comparison is not None:
        served, lossy = telemetry.of(judged), comparison.dropped_share > MAX_DROPPED_SHARE
        evidence.extend(from_comparison(comparison, mirrored=served.requests if served else 0, lossy=lossy))
    wrong_split = mismatch(telemetry.split) if telemetry.split else None
    groups = telemetry.split.groups if telemetry.split else None
    return Measurement({item.key: item for item in evidence}, comparison, wrong_split, groups)


def measure_blocks(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    source: Source,
    judged: str,
    beside: str,
    begins: Sequence[datetime],
    length: timedelta,
) -> list[dict[str, Evidence]]:
    """Of both releases' requests, ``source.metric`` -> evidence in each block of time; nothing of incomplete ones."""
    blocks = []
    for since in begins:
        try:
            telemetry = platform.plane.telemetry(endpoint, since=since, until=since + length)
        except MlpipexError:
            continue
        if telemetry.complete:
            blocks.append({item.key: item for item in _from_telemetry(source, telemetry, judged, beside)})
    return blocks


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


def _counts(served: ReleaseTelemetry | None) -> dict[str, _Measured]:
    if served is None:
        return dict.fromkeys(_COUNTED, _NOTHING)
    errors = Counted(events=served.errors, trials=served.requests)
    latency = served.latency.filled
    measured = {
        "requests": _Measured(float(served.requests), served.requests),
        "error_rate": _Measured(served.error_rate, served.requests, errors),
        # Kept beside the count as well, for the comparison with a control arm.
        "critical_errors": _Measured(float(served.errors), served.requests, errors),
    }
    for metric, q in _QUANTILES.items():
        measured[metric] = _Measured(served.latency.quantile(q), latency.total, latency)
    return measured


def _broken(source: Source, since: datetime, until: datetime, why: str) -> dict[str, Evidence]:
    metrics = (*_COUNTED, *PAIRED) if source == "shadow" else _COUNTED
    return {
        f"{source}.{metric}": Evidence(source=source, metric=metric, since=since, until=until, broken=why)
        for metric in metrics
    }
