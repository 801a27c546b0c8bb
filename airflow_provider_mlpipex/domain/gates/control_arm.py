"""The control arm of a watch: the previous release keeps a small share, and tells an outage from a bad release.

After promotion an absolute limit can be broken for two reasons. An upstream that fails takes both releases down, and a
rollback would change nothing. A bad release is worse than the previous one *over the same minutes*. So with a control
arm a broken limit reverts only if the candidate is worse than the control as well, beyond what chance does at the same
alpha; otherwise on-call is told, and the watch goes on. Both conditions must hold, so no more false alarms come of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from airflow_provider_mlpipex.domain.gates import watch_windows
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.statistics import summaries
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Timed


def compared_since(
    began: datetime, now: datetime, *, window: timedelta | None, watch: timedelta
) -> tuple[datetime, ...]:
    """Beginnings from which candidate and control are compared at ``now``, the latest first.

    They stand on the grid of the gate's windows, whose alphas they share, but stay open: a small arm needs longer than
    one window. Every beginning could be asked; each time twice as far back is enough, because then one of them holds at
    most as much of the good past as of the failure.
    """
    pace = watch_windows.pace(window, watch)
    if pace is None:
        return (began,)
    newest = min(watch_windows.beginnings(window, watch) - 1, max(0, (now - began) // pace))
    back = [0, *(2**power for power in range(newest.bit_length())), newest]
    return tuple(began + k * pace for k in sorted({newest - step for step in back if step <= newest}, reverse=True))


def is_worse(gate: Gate, evidence: Evidence, *, alpha: float, share: float) -> bool:
    """Whether the candidate is worse than the control over the same requests, whatever the limit is.

    :param share: of the requests that the control is meant to get. If it got none, although so many came that this is
        no chance, there is no control, and a broken limit counts as it would without one.
    """
    own, base = evidence.summary, evidence.baseline_summary
    if own is None or base is None or not evidence.baseline_samples:
        return evidence.samples * share / (1.0 - share) > math.log(1.0 / alpha)
    if isinstance(own, Timed) and isinstance(base, Timed) and gate.max is not None:
        # Which arm breaks the limit more often is seen far sooner in a small arm than where its quantile lies.
        (slower, _), (_, slower_beside) = own.slower_than(gate.bound), base.slower_than(gate.bound)
        own, base = Counted(events=slower, trials=own.total), Counted(events=slower_beside, trials=base.total)
    beyond = summaries.excess(own, base, scale=1.0, alpha=alpha, quantile=gate.quantile)
    if gate.counts or gate.better == "lower":
        return beyond.lower > 0
    return beyond.upper < 0


def beside_control(
    gate: Gate, failed: GateResult, compared: Sequence[Evidence], *, alpha: float, share: float
) -> GateResult:
    """What a gate says whose limit is broken: still ``fail`` if the candidate is worse than the control.

    :param failed: the gate by itself. Relative gates compare with the control already, and stay as they are.
    :param compared: evidence of both arms since each of :func:`compared_since`.
    """
    if failed.verdict != "fail" or gate.relative:
        return failed
    worse = next((seen for seen in compared if is_worse(gate, seen, alpha=alpha, share=share)), None)
    if worse is not None:
        told = f"{failed.reason}; beside it {_told(gate, worse)}"
        return failed.model_copy(update={"reason": told})
    excused = f"the previous release is no better: {_told(gate, failed.evidence)}"
    told = f"{excused}; {failed.reason}"
    return failed.model_copy(update={"verdict": "inconclusive", "reason": told, "excused": excused})


def _told(gate: Gate, evidence: Evidence) -> str:
    if evidence.baseline is None or not evidence.baseline_samples:
        return "the control arm answered nobody"
    minutes = f"since {evidence.since:%H:%M:%S}"
    if gate.counts:
        rates = [evidence.baseline, evidence.value or 0.0]
        sizes = [evidence.baseline_samples, evidence.samples]
        shown = [f"{rate:g} of {size}" for rate, size in zip(rates, sizes, strict=True)]
        return f"{minutes} the previous release had {shown[0]}, the new one {shown[1]}"
    own = gate.in_unit(evidence.value or 0.0, 3)
    return f"{minutes} the previous release showed {gate.in_unit(evidence.baseline, 3)}, the new one {own}"
