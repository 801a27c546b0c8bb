"""Evidence that nobody measured: a candidate of whose requests so many are bad. For proofs and plans, never for
verdicts on a release.

"Bad" is what a gate is about: a failed request, a pair that disagrees, an answer slower than the limit.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.shadow.slices import MAX_COLUMNS, MAX_VALUES
from airflow_provider_mlpipex.domain.statistics.paired_summaries import Worst
from airflow_provider_mlpipex.domain.statistics.same_rows import MIN_ROWS, Covaried, Estimated
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summed, Timed

#: When made-up evidence ends, and is judged.
MOMENT = datetime(2000, 1, 1, tzinfo=UTC)
_MadeUp = Counted | Timed | Summed | Worst
#: Part of the alpha that a made-up slice has: the least that one can have in a column without very many values.
SLICE_PART = 1.0 / (2 * MAX_COLUMNS * MAX_VALUES)
#: Share of the made-up baseline's requests that are bad, and the quantile of its latency in milliseconds.
_BASE_SHARE, _BASE_MS = 0.01, 100.0


def live_evidence(gate: Gate, *, bad: int, samples: int, baseline_samples: int = 0) -> Evidence:
    """A candidate with ``bad`` of ``samples`` requests, beside a healthy baseline if that has any.

    The window is covered and the evidence is fresh, so that numbers alone decide.
    """
    base = _baseline(gate, baseline_samples) if baseline_samples else None
    own = _candidate(gate, bad, samples)
    return Evidence(
        source=gate.source,
        metric=gate.metric.partition(".")[2],
        value=_value(gate, own, bad, samples),
        samples=samples,
        summary=own,
        baseline=None if base is None else _value(gate, base, 0, baseline_samples),
        baseline_samples=baseline_samples,
        baseline_summary=base,
        since=MOMENT - (gate.window or timedelta(0)),
        until=MOMENT,
    )


def outage(gate: Gate, *, samples: int, baseline_samples: int) -> Evidence:
    """Both releases with nothing but bad requests."""
    own = live_evidence(gate, bad=samples, samples=samples)
    both = live_evidence(gate, bad=baseline_samples, samples=baseline_samples)
    return own.model_copy(
        update={
            "baseline": both.value,
            "baseline_samples": baseline_samples,
            "baseline_summary": both.summary if baseline_samples else None,
        }
    )


def offline_evidence(gate: Gate, *, value: float, baseline: float) -> Evidence:
    """A candidate that measured ``value`` on as many rows as the gate asks for, known as if they had no end."""
    evaluated, rows = gate.source == "evaluation", max(gate.min_samples, MIN_ROWS)
    exactly = Covaried(rows=rows, variance=0.0, baseline_variance=0.0, covariance=0.0, by="bootstrap")
    return Evidence(
        source=gate.source,
        metric=gate.metric.partition(".")[2],
        value=value,
        samples=gate.min_samples,
        baseline=baseline,
        baseline_samples=gate.min_samples,
        summary=Estimated(rows=rows, variance=0.0) if evaluated else None,
        paired=exactly if evaluated else None,
        since=MOMENT - (gate.window or timedelta(0)),
        until=MOMENT,
    )


def _candidate(gate: Gate, bad: int, samples: int) -> _MadeUp:
    if gate.counts:
        return Counted(events=min(bad, samples), trials=samples)
    if gate.quantile is not None:
        return _latencies(gate, bad, samples)
    if gate.of_slices:
        return Worst(parts=((bad if gate.better == "lower" else samples - bad, samples, SLICE_PART),))
    if gate.in_ratio:
        return Counted(events=bad if gate.better == "lower" else samples - bad, trials=samples)
    worse = _worse(gate)
    return Summed(count=samples, total=bad * worse, squares=bad * worse**2)


def _baseline(gate: Gate, samples: int) -> _MadeUp:
    if gate.quantile is not None:
        # As good as one number, so that only the candidate's spread is in the way.
        latency = _BASE_MS if gate.relative else max(gate.bound / 2, 1e-3)
        return Timed(buckets=((latency * (1 - 1e-9), latency, samples),))
    if gate.counts or not gate.in_ratio:
        return Counted(events=0, trials=samples)
    bad = round(_BASE_SHARE * samples) if gate.relative else 0
    return Counted(events=bad if gate.better == "lower" else samples - bad, trials=samples)


def _latencies(gate: Gate, bad: int, samples: int) -> Timed:
    """Good ones just within the limit, bad ones beyond it, but not by so much as the gate detects."""
    limit = _BASE_MS * gate.scale if gate.relative else gate.bound
    step = min(limit, gate.detects if gate.detects is not None else limit) / 4 or 1.0
    within = max(limit * (1 - 1e-6), 1e-9)
    slow, fast = (bad, samples - bad) if gate.better == "lower" else (samples - bad, bad)
    buckets = ((max(0.0, within - step), within, fast), (max(limit, within), limit + step, slow))
    return Timed(buckets=tuple(bucket for bucket in buckets if bucket[2]))


def _worse(gate: Gate) -> float:
    """The value of a bad observation of a mean whose good ones are 0."""
    return 2.0 * gate.bound if gate.bound else 1.0


def _value(gate: Gate, summary: _MadeUp, bad: int, samples: int) -> float | None:
    if gate.counts:
        return float(bad if gate.better == "lower" else samples - bad)
    match summary:
        case Timed():
            assert gate.quantile is not None
            return summary.quantile(gate.quantile)
        case Counted():
            return summary.events / summary.trials if summary.trials else None
        case Summed():
            return summary.moments.mean if samples else None
        case Worst(parts=((events, trials, _),)):
            return events / trials if trials else None
    raise AssertionError(f"no made-up candidate has {summary}")


def allowed_share(gate: Gate) -> float:
    """The share of bad requests at which the gate's threshold lies; NaN where that depends on the baseline or is no
    share at all."""
    if gate.relative or gate.counts:
        return math.nan
    if gate.quantile is not None:
        return 1.0 - gate.quantile if gate.better == "lower" else gate.quantile
    if gate.in_ratio:
        return gate.bound if gate.better == "lower" else 1.0 - gate.bound
    return math.nan
