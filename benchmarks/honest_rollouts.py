"""Honest rollouts: how often a release that keeps its limits is taken back, or waits for a person.

Whole shadows and canaries with their patience, judged every half minute by the product's own rules (``judge``,
``in_trial``, ``in_clumps``, ``settle``), also in worlds where requests do not fail independently of one another: a
machine that slows both releases, an upstream that fails both, minutes that are bad as a whole. Beside it the rules of
before: a limit by itself, and undecided goes back. Then what is found of releases that are bad in the canary. Some of
each world are *played*: whole rollouts with their watch, on the platform in memory, by the product's own ``watch.look``
as often as its watcher looks, so that nothing rests on these rules being written down here.
The manifest of 3 a second has four times the time a step, and a tenth of the samples, which validation asks of it.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from airflow_provider_mlpipex.domain.gates.concurrent_baseline import in_clumps, in_trial
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.patience import PATIENCE, settle
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning.honest_release import patience_at, waits
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate, live_gates
from airflow_provider_mlpipex.domain.planning.sampling import block_of
from airflow_provider_mlpipex.domain.planning.synthetic_evidence import MOMENT, allowed_share
from airflow_provider_mlpipex.domain.statistics.confidence import log_evidence_against
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summary, Timed
from benchmarks.rollouts import BEFORE, BLOCK_S, Bad, PlayedRollout, World
from benchmarks.table import Bar, Table

SEED = 20130501
FALSE_ALARMS = 0.05
#: Share of the requests that fail, and that are slower than the limit, at half of what the gates allow.
ERRORS, SLOW = 0.01, 0.05


#: World -> what its releases need of each limit.
_NEEDS = {"0.8 of each limit, 30/s": 0.8, "0.8 of each limit, 3/s": 0.8, "half of each limit, 30/s": 0.5}


def environment(*, step: str, shadow: str, samples: int, watched: bool = False) -> EnvironmentSpec:
    def gates(source: str) -> list[dict[str, object]]:
        return [
            {"name": "errors", "metric": f"{source}.error_rate", "max": "1%", "min_samples": samples},
            {"name": "slow", "metric": f"{source}.latency_p95", "max": "120ms"},
        ]

    steps = ["5%", "25%", "50%", "100%"]
    return EnvironmentSpec.model_validate(
        {
            "false_alarms": FALSE_ALARMS,
            "shadow": {"fraction": "50%", "duration": shadow, "gates": gates("shadow")},
            "canary": {"steps": steps, "step_duration": step, "gates": gates("canary")},
            **({"rollback": {"window": "30m", "control": "5%", "gates": gates("serving")}} if watched else {}),
        }
    )


BUSY, QUIET = (
    [environment(step=step, shadow="30m", samples=samples, watched=watched) for watched in (False, True)]
    for step, samples in (("10m", 500), ("40m", 50))
)


def run(*, quick: bool = False) -> Table:
    many, some = (40, 20) if quick else (1000, 200)
    table = Table(("world", "rule", "rollouts", "taken back", "waits", "promoted", "plan says"))
    played: dict[str, Counter[str]] = {}
    back: dict[str, float] = {}
    stopped: dict[str, float] = {}
    for name, world, rate, runs in _worlds(many, some):
        for rule in ("before", "now"):
            spec, whole = BUSY if rate > 10 else QUIET
            endings = Counter(
                _rollout(spec, world, np.random.default_rng([SEED, number]), rate, old=rule == "before")
                for number in range(runs if rule == "now" else max(20, runs // 5))
            )
            total, shown = endings.total(), _shares(endings)
            table.rows.append((name, rule, total, *shown, _planned(spec, name, rate) if rule == "now" else ""))
            if rule == "now":
                back[name] = 100 * endings["back"] / total
                stopped[name] = back[name] + 100 * endings["waits"] / total
        played[name] = Counter(
            PlayedRollout(whole, world, np.random.default_rng([SEED, number]), rate=rate).play()
            for number in range(1 if quick else 10)
        )
        table.rows.append((name, "played", played[name].total(), *_shares(played[name]), ""))
    honest = sum((played[name] for name in _NEEDS), Counter[str]())
    table.bars = [
        Bar("played, 0.8 and half of each limit: back or waits", _not_promoted(honest), 100 * FALSE_ALARMS, "%"),
        Bar("played, 5% and 2% errors in the canary: not promoted", _not_promoted(_bad_ones(played)), 95.0, "%", True),
        *(Bar(f"{name}: back or waits", stopped[name], 100 * FALSE_ALARMS, "%") for name in back if name in _NEEDS),
        *(Bar(f"{name}: taken back", back[name], 0.0, "%") for name in ("slow machine", "outage of both")),
        Bar("bursts of both: taken back", back["bursts of both"], 0.0, "%"),
        *(Bar(f"{name}: taken back", back[name], 2.0, "%") for name in back if name.startswith("own bursts")),
        Bar("5% errors in the canary: taken back", back["5% errors in the canary"], 100.0, "%", at_least=True),
        Bar("2% errors in the canary: not promoted", stopped["2% errors in the canary"], 95.0, "%", at_least=True),
    ]
    return table


def _shares(endings: Counter[str]) -> list[str]:
    return [f"{100 * endings[ending] / endings.total():.1f}%" for ending in ("back", "waits", "promoted")]


def _not_promoted(endings: Counter[str]) -> float:
    return 100 * (1 - endings["promoted"] / endings.total())


def _bad_ones(played: dict[str, Counter[str]]) -> Counter[str]:
    return played["5% errors in the canary"] + played["2% errors in the canary"]


def _planned(spec: EnvironmentSpec, world: str, rate: float) -> str:
    """What ``plan`` says beforehand; nothing of a world that it knows nothing of."""
    if world not in _NEEDS:
        return ""
    lasting = patience_at(spec, rate)
    return f"{lasting:g} times as long, waits at most {100 * waits(spec, rate, _NEEDS[world], lasting):.2g}%"


def _worlds(many: int, some: int) -> list[tuple[str, World, float, int]]:
    return [
        ("0.8 of each limit, 30/s", _even(0.8), 30.0, many),
        ("0.8 of each limit, 3/s", _even(0.8), 3.0, many),
        ("half of each limit, 30/s", _even(0.5), 30.0, some),
        ("slow machine", _slow_machine, 30.0, some),
        ("outage of both", _outage, 30.0, some),
        ("bursts of both", _bursts(0.1, shared=True), 30.0, some),
        ("own bursts, rho 0.05", _bursts(0.05, shared=False), 30.0, some),
        ("own bursts, rho 0.1", _bursts(0.1, shared=False), 30.0, some),
        ("5% errors in the canary", _bad_canary(0.05), 30.0, some),
        ("2% errors in the canary", _bad_canary(0.02), 30.0, some),
    ]


def _flat(share: float, looks: int) -> np.ndarray:
    return np.full(looks, share)


def _even(needs: float) -> World:
    def world(_: np.random.Generator, stage: str, looks: int) -> Bad:
        errors, slow = _flat(needs * ERRORS, looks), _flat(needs * SLOW, looks)
        return Bad((errors, errors), (slow, slow))

    return world


def _slow_machine(generator: np.random.Generator, stage: str, looks: int) -> Bad:
    """Half of each limit; for two minutes of every half hour both are 4.5 times slower: four of ten beyond 120 ms."""
    errors, slow = _flat(0.5 * ERRORS, looks), _flat(0.5 * SLOW, looks)
    slow[(np.arange(looks) + int(generator.integers(60))) % 60 < 4] = 0.4
    return Bad((errors, errors), (slow, slow))


def _outage(generator: np.random.Generator, stage: str, looks: int) -> Bad:
    """Half of each limit, and both fail 30 % for half a minute of every stage."""
    errors, slow = _flat(0.5 * ERRORS, looks), _flat(0.5 * SLOW, looks)
    if looks > BEFORE:
        errors[BEFORE + int(generator.integers(20))] = 0.3
    return Bad((errors, errors), (slow, slow))


def _bursts(rho: float, *, shared: bool) -> World:
    """Half of the limit on average, but each minute is good or bad as a whole."""

    def world(generator: np.random.Generator, stage: str, looks: int) -> Bad:
        mean, spread = 0.5 * ERRORS, 1 / rho - 1
        own, other = (
            np.repeat(generator.beta(mean * spread, (1 - mean) * spread, looks // 2 + 1), 2)[:looks] for _ in range(2)
        )
        slow = _flat(0.5 * SLOW, looks)
        return Bad((own, own if shared else other), (slow, slow))

    return world


def _bad_canary(error: float) -> World:
    def world(_: np.random.Generator, stage: str, looks: int) -> Bad:
        good, slow = _flat(0.5 * ERRORS, looks), _flat(0.5 * SLOW, looks)
        return Bad((_flat(error, looks) if stage == "canary" else good, good), (slow, slow))

    return world


class Arm(NamedTuple):
    """Requests, failed and slow ones, cumulated after each look; the first row is zeros."""

    requests: np.ndarray
    errors: np.ndarray
    slow: np.ndarray


def _arm(generator: np.random.Generator, rate: float, errors: np.ndarray, slow: np.ndarray) -> Arm:
    requests = generator.poisson(rate * BLOCK_S, errors.size)
    parts = (requests, generator.binomial(requests, errors), generator.binomial(requests, slow))
    return Arm(*(np.concatenate([[0], np.cumsum(part)]) for part in parts))


def _rollout(spec: EnvironmentSpec, world: World, generator: np.random.Generator, rate: float, *, old: bool) -> str:
    """``back``, ``waits`` or ``promoted``."""
    stages: dict[tuple[str, int | None], list[LiveGate]] = {}
    for live in live_gates(spec, rate):
        stages.setdefault((live.stage, live.step), []).append(live)
    share_before, patience = 1.0, PATIENCE if old else patience_at(spec, rate)
    for (stage, _), gates in stages.items():
        ending = _stage(world, generator, rate, stage, gates, old=old, share_before=share_before, patience=patience)
        share_before = gates[0].baseline_share
        if ending != "passed":
            return ending
    return "promoted"


def _stage(
    world: World,
    generator: np.random.Generator,
    rate: float,
    stage: str,
    gates: list[LiveGate],
    *,
    old: bool,
    share_before: float,
    patience: float,
) -> str:
    first, duration = gates[0], gates[0].duration
    due = int(duration.total_seconds()) // BLOCK_S
    looks = int(patience * due)
    bad = world(generator, stage, BEFORE + looks)
    share, beside = (1.0, 0.0) if old and first.share == 0.95 else (first.share, first.baseline_share)
    own = _arm(generator, rate * share, bad.errors[0][BEFORE:], bad.slow[0][BEFORE:])
    base = _arm(generator, rate * beside, bad.errors[1][BEFORE:], bad.slow[1][BEFORE:])
    before = _arm(generator, rate * share_before, bad.errors[1][:BEFORE], bad.slow[1][:BEFORE])
    for look in range(1, looks + 1):
        last = look == looks
        verdicts = [_verdict(live, own, base, before, look, last=last, old=old) for live in gates]
        if "fail" in verdicts:
            return "back"
        if look >= due and all(verdict == "pass" for verdict in verdicts):
            return "passed"
    return "back" if old else "waits"


def _verdict(live: LiveGate, own: Arm, base: Arm, before: Arm, look: int, *, last: bool, old: bool) -> str:
    gate, allowed = live.gate, allowed_share(live.gate)
    bad, requests = _bad(gate, own, 0, look)
    if bad <= allowed * requests:
        return (
            "pass" if requests >= gate.min_samples else "inconclusive"
        )  # the interval holds the value: it cannot fail
    beyond = log_evidence_against(allowed, bad, requests) > 0.999 * -np.log(live.alpha)
    if not beyond and not last:
        return "inconclusive"
    now = MOMENT + timedelta(seconds=look * BLOCK_S)
    evidence = _evidence(gate, own, base, 0, look)
    result = judge(gate, evidence, now=now, alpha=live.alpha)
    if old:
        return result.verdict
    share = live.baseline_share / (live.share + live.baseline_share)
    result, _ = in_trial(gate, result, evidence, alpha=live.alpha, share=share)
    if result.verdict == "fail":
        width = max(1, int(block_of(live.duration).total_seconds()) // BLOCK_S)
        blocks = [_evidence(gate, own, base, at, at + width) for at in range(0, look - width + 1, width)]
        earlier = [_evidence(gate, before, before, at, at + width) for at in range(0, BEFORE - width + 1, width)]
        result = in_clumps(gate, result, blocks, earlier, alpha=live.alpha)
    return settle(gate, result).verdict if last else result.verdict


def _bad(gate: Gate, arm: Arm, since: int, until: int) -> tuple[int, int]:
    counted = arm.slow if gate.quantile is not None else arm.errors
    return int(counted[until] - counted[since]), int(arm.requests[until] - arm.requests[since])


def _summary(gate: Gate, bad: int, requests: int) -> Summary:
    if gate.quantile is None:
        return Counted(events=bad, trials=requests)
    buckets = ((60.0, gate.bound, requests - bad), (gate.bound, 4 * gate.bound, bad))
    return Timed(buckets=tuple(bucket for bucket in buckets if bucket[2]))


def _evidence(gate: Gate, own: Arm, base: Arm, since: int, until: int) -> Evidence:
    def value(bad: int, requests: int) -> float | None:
        summary = _summary(gate, bad, requests)
        if isinstance(summary, Timed):
            return summary.quantile(gate.quantile or 0.5)
        return bad / requests if requests else None

    (bad, requests), (bad_beside, beside) = _bad(gate, own, since, until), _bad(gate, base, since, until)
    return Evidence(
        source=gate.source,
        metric=gate.metric.partition(".")[2],
        value=value(bad, requests),
        samples=requests,
        summary=_summary(gate, bad, requests),
        baseline=value(bad_beside, beside),
        baseline_samples=beside,
        baseline_summary=_summary(gate, bad_beside, beside) if beside else None,
        since=MOMENT + timedelta(seconds=since * BLOCK_S),
        until=MOMENT + timedelta(seconds=until * BLOCK_S),
    )
