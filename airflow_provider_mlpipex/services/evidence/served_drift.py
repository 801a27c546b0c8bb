"""Evidence for gates on drift: what a promoted release is asked and answers, beside what it was trained on.

A gate is judged once for each of its windows, when that is over: the answer about a window that has passed does not
change with how often one asks, so looking often raises no false alarm.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.drift_block import DriftSpec
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    from airflow_provider_mlpipex.domain.drift.served import ServedSketches


def judge_drift(
    platform: Platform,
    endpoint: EndpointRef,
    gate: Gate,
    *,
    release: str,
    since: datetime,
    until: datetime,
    demand: DriftSpec,
    alpha: float,
) -> GateResult:
    """What ``gate`` says of the window. No reference, no rows and too many lost ones are ``inconclusive``, a plane that
    does not answer and counts that cannot be compared are ``error``.

    :param release: identifier of the judged release.
    :param demand: the environment's ``drift`` block: what counts as drift, and how many rows may be lost.
    :param alpha: chance of a false ``fail`` in this window.
    """
    # numpy is for whoever judges, not for whoever parses a Dag file.
    from airflow_provider_mlpipex.domain.drift.gate_verdict import judge_window

    now, metric = platform.clock.now(), gate.metric.partition(".")[2]
    blank = Evidence(source="drift", metric=metric, since=since, until=until)
    try:
        served = platform.plane.sketches(endpoint, release, since=since, until=until)
        why = why_unmeasured(served, max_dropped=demand.max_dropped)
        if why or served.reference is None:
            return _undecided(judge(gate, blank, now=now), why)
        says = judge_window(gate, served.reference, served.columns, limits=demand.limits, alpha=alpha)
    except MlpipexError as error:
        return judge(gate, blank.model_copy(update={"broken": str(error)}), now=now)
    evidence = blank.model_copy(update={"value": says.value, "samples": rows_of(served), "about": says.column})
    if says.verdict == "error":
        return judge(gate, evidence.model_copy(update={"broken": says.reason}), now=now)
    result = judge(gate, evidence, now=now)
    if result.verdict == "inconclusive" and says.verdict != "fail":
        return result  # stale, or fewer rows than the gate wants
    judgement = {"verdict": says.verdict, "reason": f"{result.reason}; {says.reason}", "alpha": alpha}
    return result.model_copy(update=judgement)


def not_due(platform: Platform, gate: Gate, *, ends: datetime) -> GateResult:
    """What a gate says whose first window is not over yet."""
    return _undecided(judge(gate, None, now=platform.clock.now()), f"its first window ends at {ends:%Y-%m-%d %H:%M}")


def last_window(began: datetime, now: datetime, *, window: timedelta) -> tuple[datetime, datetime] | None:
    """The newest window that is over, of those that follow one another from ``began`` on; ``None`` before the first
    has ended."""
    complete = (now - began) // window
    return (began + (complete - 1) * window, began + complete * window) if complete > 0 else None


def why_unmeasured(served: ServedSketches, *, max_dropped: float) -> str:
    """Why nothing can be said of what was served; empty where something can."""
    if served.reference is None:
        return f"release {served.release} was registered without a reference"
    if served.dropped_share > max_dropped:
        shares = [format_ratio(float(f"{share:.3g}")) for share in (served.dropped_share, max_dropped)]
        return f"{shares[0]} of the rows were not counted, at most {shares[1]}"
    if not rows_of(served):
        window = f"from {served.since:%Y-%m-%d %H:%M} to {served.until:%Y-%m-%d %H:%M}"
        return f"release {served.release} answered no rows {window}"
    return ""


def rows_of(served: ServedSketches) -> int:
    """Rows that were answered in the window."""
    return max((sketch.rows for sketch in served.columns.values()), default=0)


def _undecided(result: GateResult, why: str) -> GateResult:
    return result.model_copy(update={"reason": f"{result.reason}: {why}"})
