"""Proof that a gate can block, and that it can let pass: it is shown candidates that were made up for it.

One lies just beyond its threshold and must fail; one lies just within and must pass; of one nothing is known, and that
must be neither. A live gate is tried with as many requests as its stage brings at the declared rate and at its own
share of the false alarms, so "just beyond" is what it can tell from chance there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from airflow_provider_mlpipex.domain.fields.quantities import Ratio
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.planning import synthetic_evidence
from airflow_provider_mlpipex.domain.planning.false_alarms import LiveStage
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate, live_gates
from airflow_provider_mlpipex.domain.values import Value

#: Requests of a made-up candidate where no rate is declared.
MANY = 100_000
#: How far from its threshold an offline candidate lies, relative to the threshold.
_JUST = 1e-6


class Shown(Value):
    """A made-up candidate, as a gate saw it. ``bad``: how many of its requests are, for live gates."""

    value: float | None = None
    bad: int | None = None
    verdict: VerdictName
    reason: str


class Proof(Value):
    """What one gate said. ``defects`` is empty for a gate that blocks, lets pass, and never takes nothing for good.

    :param index: place of the gate in its block.
    :param samples: requests or rows of the made-up candidates.
    :param beyond: the best candidate that the gate stops; ``None`` if it stops none.
    :param within: the worst candidate that it lets pass; ``None`` if it lets none pass.
    """

    environment: Name
    stage: LiveStage | str
    index: int
    gate: Name
    rule: str
    advisory: bool
    samples: int
    alpha: Ratio | None = None
    beyond: Shown | None
    within: Shown | None
    unknown: Shown
    defects: tuple[str, ...] = ()


def prove(manifest: Manifest) -> tuple[Proof, ...]:
    """A proof of every gate of ``manifest``, offline gates first, in the order of its environments."""
    return tuple(
        proof
        for name, environment in manifest.environments.items()
        for proof in (
            *prove_parity(name, manifest),
            *prove_environment(name, environment, manifest.traffic.expected_rate),
        )
    )


def prove_parity(environment: str, manifest: Manifest) -> Iterator[Proof]:
    """The gate on the parity of served and trained features, which every environment has; nothing without a store."""
    parity = manifest.features.parity
    if parity is not None and manifest.features.joined:
        yield _proof(environment, "parity", 0, parity.gate, parity.gate.min_samples, None, *_offline(parity.gate))


def prove_environment(name: str, environment: EnvironmentSpec, rate: float | None) -> Iterator[Proof]:
    """A gate that is judged in several canary steps is proved in the one that brings it the fewest requests."""
    for index, gate in enumerate(environment.gates):
        yield _proof(name, "gate", index, gate, gate.min_samples, None, *_offline(gate))
    for index, gate in enumerate(environment.outcomes.gates if environment.outcomes else ()):
        yield _proof(name, "outcomes", index, gate, gate.min_samples, None, *_offline(gate))
    for index, gate in enumerate(environment.rollback.gates if environment.rollback else ()):
        if gate.source == "drift":
            yield _proof(name, "watch", index, gate, gate.min_samples, None, *_offline(gate))
    fewest: dict[tuple[LiveStage, int], LiveGate] = {}
    for live in live_gates(environment, rate):
        known = fewest.setdefault((live.stage, live.index), live)
        if live.share * live.duration < known.share * known.duration:
            fewest[live.stage, live.index] = live
    for (stage, index), live in fewest.items():
        samples, beside = (live.samples(rate), live.baseline_samples(rate)) if rate else (MANY, MANY)
        alpha = None if live.gate.counts else live.alpha
        tried = _live(live.gate, samples, beside, live.alpha)
        yield _proof(name, stage, index, live.gate, samples, alpha, *tried)


def _proof(
    environment: str,
    stage: str,
    index: int,
    gate: Gate,
    samples: int,
    alpha: float | None,
    beyond: Shown | None,
    within: Shown | None,
) -> Proof:
    unknown = _shown(judge(gate, None, now=synthetic_evidence.MOMENT, alpha=alpha))
    defects = []
    if beyond is None:
        defects.append("nothing that it could measure stops a candidate")
    if within is None:
        defects.append("nothing that it could measure lets a candidate pass")
    if unknown.verdict in ("pass", "fail"):
        defects.append(f"it says {unknown.verdict} of what was never measured")
    return Proof(
        environment=environment,
        stage=stage,
        index=index,
        gate=gate.name,
        rule=gate.rule,
        advisory=gate.advisory,
        samples=samples,
        alpha=alpha,
        beyond=beyond,
        within=within,
        unknown=unknown,
        defects=tuple(defects),
    )


def _stops(gate: Gate, verdict: VerdictName) -> bool:
    """Whether ``verdict`` is what blocks: *fail*, or to be kept waiting by a count that only has to grow."""
    return verdict == "fail" or (verdict == "inconclusive" and gate.counts and gate.min is not None)


def _live(gate: Gate, samples: int, baseline_samples: int, alpha: float) -> tuple[Shown | None, Shown | None]:
    """The fewest bad requests that stop a candidate, and the most that let it pass. More bad ones never help it."""
    most = samples
    if gate.counts:
        # The count itself is made up, not a share of the requests.
        most = samples = max(samples, gate.min_samples, int(gate.bound) + 1)

    def said(bad: int) -> Shown:
        evidence = synthetic_evidence.live_evidence(gate, bad=bad, samples=samples, baseline_samples=baseline_samples)
        return _shown(judge(gate, evidence, now=synthetic_evidence.MOMENT, alpha=alpha), bad=bad)

    stopped = _first(most, lambda bad: _stops(gate, said(bad).verdict))
    refused = _first(most, lambda bad: said(bad).verdict != "pass")
    beyond = None if stopped > most else said(stopped)
    return beyond, None if refused == 0 else said(refused - 1)


def _first(most: int, holds: Callable[[int], bool]) -> int:
    """The least number from 0 to ``most`` for which ``holds``, or one more than ``most``."""
    low, high = 0, most + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _offline(gate: Gate) -> tuple[Shown | None, Shown | None]:
    baseline = _baseline(gate)
    threshold = gate.threshold(baseline)
    assert threshold is not None
    step = (1.0 if gate.counts else _JUST * max(1.0, abs(threshold))) * (-1 if gate.better == "higher" else 1)
    tried: list[Shown | None] = []
    for wished, wanted in ((threshold + step, _stops), (threshold, lambda _, verdict: verdict == "pass")):
        evidence = synthetic_evidence.offline_evidence(gate, value=gate.nearest_measurable(wished), baseline=baseline)
        result = _shown(judge(gate, evidence, now=synthetic_evidence.MOMENT))
        tried.append(result if wanted(gate, result.verdict) else None)
    return tried[0], tried[1]


def _baseline(gate: Gate) -> float:
    """A baseline from which a share can move both ways by as much as the gate compares."""
    if not gate.in_ratio or not gate.relative:
        return 1.0
    return min(0.5, 0.9 / (1.0 + gate.bound))


def _shown(result: GateResult, *, bad: int | None = None) -> Shown:
    return Shown(value=result.evidence.value, bad=bad, verdict=result.verdict, reason=result.reason)
