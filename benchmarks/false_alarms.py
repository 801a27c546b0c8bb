"""False alarms: gates looked at again and again, by judge() and by tests that are not made for it.

Each rollout has a shadow, three canary steps and a watch under one alpha, real gates and the real grid of windows; its
truth lies on every limit, which is where alarms are likeliest. Beside judge(), on the very same requests: a z-test of
the naive 5 % a gate, the same at each gate's share of the alpha, and the value alone once it has 100 samples. Below,
how likely and how soon judge() finds what is 1.25, 1.5 and 2 times its limit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from airflow_provider_mlpipex.domain.gates import watch_windows
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning.false_alarms import alpha_of
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate, live_gates
from airflow_provider_mlpipex.domain.planning.synthetic_evidence import MOMENT, allowed_share
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summary, Timed
from benchmarks.table import Bar, Table

RATE = 20.0
LOOK_S = 15
SEED = 20130101
ENVIRONMENT = EnvironmentSpec.model_validate(
    {
        "false_alarms": "5%",
        "shadow": {
            "fraction": "50%",
            "duration": "10m",
            "gates": [{"name": "errors", "metric": "shadow.error_rate", "max": "1%"}],
        },
        "canary": {
            "steps": ["5%", "25%", "100%"],
            "step_duration": "10m",
            "gates": [
                {"name": "errors", "metric": "canary.error_rate", "max": "1%"},
                {"name": "slow", "metric": "canary.latency_p95", "max": "120ms"},
                {"name": "beside", "metric": "canary.error_rate", "within": "20%", "window": "30m"},
            ],
        },
        "rollback": {
            "window": "10m",
            "gates": [{"name": "errors", "metric": "serving.error_rate", "max": "1%", "window": "1m"}],
        },
    }
)
EFFECTS = (1.25, 1.5, 2.0)
#: Of the current release, beside which a relative gate judges.
BASELINE = 0.02
ENOUGH = 100


class Seen(NamedTuple):
    """Bad ones and requests of one window of one gate at one look, and those of the release beside it."""

    live: LiveGate
    bad: int
    requests: int
    beside_bad: int
    beside_requests: int
    truth: float


Alarm = Callable[[Seen], bool]


def run(*, quick: bool = False) -> Table:
    rollouts, runs = (200, 40) if quick else (2000, 400)
    table = Table(("judged by", "truth", "rollouts", "rolled back", "median requests until then"))
    alarms: dict[str, Alarm] = {
        "judge(), 5% a rollout": _judged,
        "z-test, 5% a gate": lambda seen: _z_test(seen, 0.05),
        "z-test, each gate's share": lambda seen: _z_test(seen, seen.live.alpha),
        f"value alone from {ENOUGH} samples": _value_alone,
    }
    wrong = dict.fromkeys(alarms, 0)
    generator = np.random.default_rng(SEED)
    for _ in range(rollouts):
        pending = dict(alarms)
        for seen in _rollout(generator):
            for name in [name for name, alarm in pending.items() if alarm(seen)]:
                wrong[name] += 1
                del pending[name]
            if not pending:
                break
    for name, count in wrong.items():
        table.rows.append((name, "on every limit", rollouts, f"{100 * count / rollouts:.1f}%", ""))
    for effect in EFFECTS:
        found = [_found_after(generator, effect) for _ in range(runs)]
        hits = [requests for requests in found if requests is not None]
        soon = f"{statistics.median(hits):,.0f}" if len(hits) > runs / 2 else "more than there were"
        table.rows.append(("judge(), one gate", f"{effect:g} x 1%", runs, f"{100 * len(hits) / runs:.0f}%", soon))
    ours, *others = (count / rollouts for count in wrong.values())
    table.ratios = [
        f"at the same looks a z-test at 5% a gate rolls back {100 * others[0]:.0f}%, and at each gate's share of the "
        f"alpha still {100 * others[1]:.0f}%",
    ]
    table.bars = [
        Bar(
            f"judge() rolls back of {rollouts:,} rollouts that keep every limit",
            100 * ours,
            100 * ENVIRONMENT.false_alarms,
            " %",
        )
    ]
    return table


def _rollout(generator: np.random.Generator) -> Iterator[Seen]:
    """Every window of every gate at every look of one rollout, stage by stage."""
    assert ENVIRONMENT.rollback is not None
    for live in live_gates(ENVIRONMENT, RATE):
        allowed = BASELINE * live.gate.scale if live.gate.relative else allowed_share(live.gate)
        whole = ENVIRONMENT.rollback.window if live.stage == "watch" else live.duration
        looks = int(whole.total_seconds()) // LOOK_S
        own = _stream(generator, live.share, allowed, looks)
        beside = _stream(generator, live.baseline_share, BASELINE, looks)
        for look in range(1, looks + 1):
            for begin in _begins(live, look):
                bad, requests = own[look] - own[begin]
                beside_bad, beside_requests = beside[look] - beside[begin]
                yield Seen(live, int(bad), int(requests), int(beside_bad), int(beside_requests), allowed)


def _stream(generator: np.random.Generator, share: float, bad: float, looks: int) -> np.ndarray:
    """Cumulated (bad ones, requests) after each look, the first row zeros."""
    requests = generator.poisson(RATE * share * LOOK_S, size=looks)
    both = np.stack([generator.binomial(requests, bad), requests], axis=1)
    return np.vstack([np.zeros((1, 2), dtype=np.int64), np.cumsum(both, axis=0)])


def _begins(live: LiveGate, look: int) -> list[int]:
    """Looks after which the windows began that are open at ``look``."""
    if live.stage != "watch" or ENVIRONMENT.rollback is None:
        return [0]
    now = MOMENT + timedelta(seconds=look * LOOK_S)
    grid = watch_windows.open_since(MOMENT, now, window=live.gate.window, watch=ENVIRONMENT.rollback.window)
    return [begin for begin in (int((since - MOMENT).total_seconds()) // LOOK_S for since in grid) if begin < look]


def _judged(seen: Seen) -> bool:
    gate = seen.live.gate
    if not seen.requests or seen.bad <= seen.truth * seen.requests:
        return False  # the interval holds the value, so a value within the limit cannot fail
    evidence = Evidence(
        source=gate.source,
        metric=gate.metric.partition(".")[2],
        value=_value(seen.live, seen.bad, seen.requests),
        samples=seen.requests,
        summary=_summary(seen.live, seen.bad, seen.requests),
        baseline=_value(seen.live, seen.beside_bad, seen.beside_requests),
        baseline_samples=seen.beside_requests,
        baseline_summary=_summary(seen.live, seen.beside_bad, seen.beside_requests),
        since=MOMENT,
        until=MOMENT,
    )
    return judge(gate, evidence, now=MOMENT, alpha=seen.live.alpha).verdict == "fail"


def _summary(live: LiveGate, bad: int, requests: int) -> Summary:
    if live.gate.quantile is None:
        return Counted(events=bad, trials=requests)
    buckets = ((0.0, live.gate.bound, requests - bad), (live.gate.bound, 2 * live.gate.bound, bad))
    return Timed(buckets=tuple(bucket for bucket in buckets if bucket[2]))


def _value(live: LiveGate, bad: int, requests: int) -> float | None:
    summary = _summary(live, bad, requests)
    if isinstance(summary, Timed):
        return summary.quantile(live.gate.quantile or 0.5)
    return bad / requests if requests else None


def _z_test(seen: Seen, alpha: float) -> bool:
    """One-sided, as one would write it down without thinking of how often it is asked."""
    if seen.requests < ENOUGH:
        return False
    gate, own = seen.live.gate, seen.bad / seen.requests
    limit = statistics.NormalDist().inv_cdf(1 - alpha)
    if not gate.relative:
        return own - seen.truth > limit * math.sqrt(seen.truth * (1 - seen.truth) / seen.requests)
    if seen.beside_requests < ENOUGH:
        return False
    base = seen.beside_bad / seen.beside_requests
    variance = own * (1 - own) / seen.requests + gate.scale**2 * base * (1 - base) / seen.beside_requests
    return variance > 0 and own - gate.scale * base > limit * math.sqrt(variance)


def _value_alone(seen: Seen) -> bool:
    if seen.requests < ENOUGH or (seen.live.gate.relative and seen.beside_requests < ENOUGH):
        return False
    limit = seen.truth
    if seen.live.gate.relative:
        limit = seen.live.gate.scale * seen.beside_bad / seen.beside_requests
    return seen.bad > limit * seen.requests


def _found_after(generator: np.random.Generator, effect: float, most: int = 60_000) -> int | None:
    """Requests until the error gate of a canary step fails a candidate at ``effect`` times its limit."""
    live = next(live for live in live_gates(ENVIRONMENT, RATE) if live.stage == "canary" and live.gate.name == "errors")
    assert live.alpha == alpha_of(ENVIRONMENT, "canary", live.gate)
    a_look, bad = 100, 0
    for requests in range(a_look, most + 1, a_look):
        bad += int(generator.binomial(a_look, effect * live.gate.bound))
        if _judged(Seen(live, bad, requests, 0, 0, live.gate.bound)):
            return requests
    return None
