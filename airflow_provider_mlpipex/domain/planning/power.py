"""What a live gate can decide with the requests that its window brings, said before the first of them is served.

Three questions: how soon does it fail a candidate whose every request is bad; how small an excess does it see before
its window ends; and how long does it take to see the excess that the manifest says it ``detects``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from airflow_provider_mlpipex.domain.fields.quantities import (
    Duration,
    Ratio,
    format_duration,
    format_rate,
    format_ratio,
)
from airflow_provider_mlpipex.domain.gates.concurrent_baseline import breaks_too, is_worse
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.patience import PATIENCE
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.planning import synthetic_evidence
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate
from airflow_provider_mlpipex.domain.planning.sampling import needed_duration
from airflow_provider_mlpipex.domain.rollout.traffic_plan import EVEN_ARMS, TOTAL_WEIGHT
from airflow_provider_mlpipex.domain.statistics.binomial import more_than
from airflow_provider_mlpipex.domain.statistics.detection import smallest_excess, trials_to_detect
from airflow_provider_mlpipex.domain.values import Value

#: Requests beyond which waiting for a gate is no plan.
_MAX_SAMPLES = 10**10
#: What each arm has of the requests while the control arm is grown.
_HALF = EVEN_ARMS / TOTAL_WEIGHT
#: Share of failed requests that hardly anybody would call bad.
_ONE_OF = 1e-4
#: One of how many requests is taken to lie in the slice that a gate on the worst of them is asked about.
_SLICE = 10


class Power(Value):
    """What one gate can decide at the declared rate.

    :param alpha: its chance of a false alarm; ``None`` for counts, which are exact.
    :param samples: requests that its window brings.
    :param fails_after: time after which it fails if every request is bad, those of the other release not; ``None``:
        never.
    :param excess: smallest share of bad requests beyond the allowed one that its window shows; ``None`` where that
        depends on the baseline, or where nothing can be seen.
    :param decides_after: time that it needs to see what it ``detects``; ``None`` where it states nothing, or never.
    :param decides: whether its window is long enough for that, and for a failure at all.
    :param says: all of it in a sentence.
    """

    alpha: Ratio | None
    samples: int
    fails_after: Duration | None
    excess: Ratio | None
    decides_after: Duration | None
    decides: bool
    says: str


def power(live: LiveGate, rate: float) -> Power:
    """What ``live`` can decide at ``rate`` requests a second."""
    gate, samples = live.gate, live.samples(rate)
    alone = soonest_failure(live, rate)
    # A trial waits until the candidate is shown to be worse; a watch goes back unless an outage is shown.
    waits = live.is_compared and live.stage != "watch" and not gate.counts
    soonest = distinguished_after(live, rate) if waits else alone
    needed = time_to_decide(live, rate) if gate.detects is not None else None
    allowed = synthetic_evidence.allowed_share(gate)
    excess = None
    if samples and not math.isnan(allowed):
        # The worst slice is judged by its own requests, at its own part of the alpha.
        counted, part = (samples // _SLICE, synthetic_evidence.SLICE_PART) if gate.of_slices else (samples, 1.0)
        excess = smallest_excess(allowed, counted, alpha=live.alpha * part) if counted else None
    in_time = gate.counts or (alone is not None and alone <= live.duration)
    if waits:
        in_time = in_time and soonest is not None and soonest <= (live.compared_for or PATIENCE * live.duration)
    decides = in_time and (gate.detects is None or (needed is not None and needed <= live.duration))
    return Power(
        alpha=None if gate.counts else live.alpha,
        samples=samples,
        fails_after=soonest,
        excess=excess,
        decides_after=needed,
        decides=decides,
        says=_say(live, rate, needed=needed, excess=excess, in_time=in_time) + _beside(live, rate),
    )


def soonest_failure(live: LiveGate, rate: float) -> timedelta | None:
    """How soon the gate by itself fails a candidate whose every request is bad; ``None``: never, by its nature."""
    gate = live.gate
    if gate.counts:
        return needed_duration(int(gate.bound) + 1, rate, live.share) if gate.max is not None else None
    return _soonest(live, rate, lambda samples: _says(live, samples, bad=samples) == "fail")


def distinguished_after(live: LiveGate, rate: float) -> timedelta | None:
    """How soon it is clear, of a candidate whose every request is bad, that the other release is better."""
    gate, alone = live.gate, soonest_failure(live, rate)

    def is_clear(samples: int) -> bool:
        evidence = _made_up(live, samples, bad=samples)
        return bool(evidence.baseline_samples) and is_worse(gate, evidence, alpha=live.alpha, share=live.baseline_share)

    beside = _soonest(live, rate, is_clear)
    return None if alone is None or beside is None else max(alone, beside)


def outage_recognised_after(live: LiveGate, rate: float) -> timedelta | None:
    """How soon it is clear, when every request of both releases is bad, that the control arm is no better. It has half
    of the requests by then, unless the gate reverts at once."""
    own = live if live.gate.on_fail == "revert" else replace(live, share=_HALF, baseline_share=_HALF)

    def is_clear(samples: int) -> bool:
        beside = math.floor(samples * own.baseline_share / own.share)
        return breaks_too(live.gate, synthetic_evidence.outage(live.gate, samples=samples, baseline_samples=beside))

    return _soonest(own, rate, is_clear)


def time_to_decide(live: LiveGate, rate: float) -> timedelta | None:
    """How long the gate needs to see what it ``detects``; ``None`` if it never does.

    For a share that is the expected time until a candidate fails that exceeds the threshold by as much. Of a latency,
    or beside a baseline, nobody knows beforehand how requests spread: there it is the time in which a candidate
    without a single bad request passes, and the real one takes longer.
    """
    gate = live.gate
    passes = _soonest(live, rate, lambda samples: _says(live, samples, bad=0) == "pass")
    allowed = synthetic_evidence.allowed_share(gate)
    if passes is None or gate.detects is None or not gate.in_ratio or math.isnan(allowed):
        return passes
    if allowed + gate.detects >= 1.0:
        return None
    trials = math.ceil(1.0 / gate.detects) if allowed == 0.0 else 0
    if allowed > 0.0:
        trials = trials_to_detect(allowed, allowed + gate.detects, alpha=live.alpha)
    return max(passes, needed_duration(trials, rate, live.share))


def _soonest(live: LiveGate, rate: float, happens: Callable[[int], bool]) -> timedelta | None:
    """The time that brings so many requests that ``happens``, which must stay true for more of them."""
    low, high = 0, 1
    while not happens(high):
        low, high = high, high * 4
        if high > _MAX_SAMPLES:
            return None
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if happens(middle) else (middle, high)
    return needed_duration(high, rate, live.share)


def _says(live: LiveGate, samples: int, *, bad: int) -> VerdictName:
    # Whatever the minimum of samples is: that is a rule of its own.
    gate = live.gate.model_copy(update={"min_samples": 1})
    return judge(gate, _made_up(live, samples, bad=bad), now=synthetic_evidence.MOMENT, alpha=live.alpha).verdict


def _made_up(live: LiveGate, samples: int, *, bad: int) -> Evidence:
    beside = math.floor(samples * live.baseline_share / live.share)
    return synthetic_evidence.live_evidence(live.gate, bad=bad, samples=samples, baseline_samples=beside)


def _beside(live: LiveGate, rate: float) -> str:
    if not live.is_compared or live.stage != "watch":
        return ""
    shown = outage_recognised_after(live, rate)
    return "" if shown is None else f"; an outage of both releases shows in the control arm after {about(shown)}"


def _say(live: LiveGate, rate: float, *, needed: timedelta | None, excess: float | None, in_time: bool) -> str:
    gate = live.gate
    where = f"at {format_rate(rate)} and {format_ratio(round(live.share, 6))}"
    whole = format_duration(live.duration)
    if gate.counts:
        return f"counted exactly{_ends_honest(live, rate)}"
    if not in_time:
        return f"{where}, this gate could not fail in time even if every request were bad"
    if gate.detects is not None:
        effect = f"{gate.apart(gate.detects, 3)} beyond its threshold"
        if gate.in_ratio and not gate.relative:
            worse = gate.bound + (-gate.detects if gate.better == "higher" else gate.detects)
            effect += f" (a value of {gate.in_unit(worse)})"
        if needed is None:
            return f"this gate can never see {effect}"
        least = "about" if not math.isnan(synthetic_evidence.allowed_share(gate)) and gate.in_ratio else "at least"
        can = "decides" if needed <= live.duration else "cannot decide"
        return f"{where}, this gate needs {least} {about(needed)} to see {effect}; {whole} {can}"
    if excess is None:
        depends = "the release that it is compared with" if gate.relative else "how far the answers lie apart"
        return f"{where}, what {whole} show depends on {depends}"
    if gate.quantile is None:
        slice_ = f" in a slice with 1 of {_SLICE} of the requests" if gate.of_slices else ""
        return f"{where}, {whole} show an excess of {100 * excess:.2g} points or more{slice_}"
    allowed = synthetic_evidence.allowed_share(gate)
    shares = f"{100 * (allowed + excess):.2g}% of the requests {_beyond(gate)} {gate.in_unit(gate.bound)}"
    return f"{where}, {whole} show it when {shares} ({100 * allowed:.2g}% may be)"


def _ends_honest(live: LiveGate, rate: float) -> str:
    """What a count of errors costs: how many releases it ends that fail one request of ten thousand."""
    gate = live.gate
    if gate.max is None or not gate.metric.endswith(".critical_errors"):
        return ""
    ended = more_than(int(gate.bound), live.samples(rate), _ONE_OF)
    return f": ends {100 * ended:.2g}% of releases that fail {100 * _ONE_OF:g}% of their requests"


def _beyond(gate: Gate) -> str:
    """What a request does that lies beyond a quantile's limit, which follows."""
    if gate.metric.endswith("_difference"):
        return "differ by more than" if gate.better == "lower" else "differ by less than"
    slower = gate.better == "lower"
    if "latency_difference" in gate.metric:
        return "are slower than the current release by more than" if slower else "are not slower by as much as"
    return "are slower than" if slower else "are faster than"


def about(duration: timedelta) -> str:
    """``duration`` to two digits in its largest fitting unit: ``4.2 h``."""
    seconds = duration.total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            amount = seconds / length
            return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.2g} {unit}"
    return f"{seconds:.0f} s"
