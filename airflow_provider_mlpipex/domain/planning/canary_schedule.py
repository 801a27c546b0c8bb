"""How long each step of a canary lasts: by the clock, or by an exposure budget.

An exposure budget says how many bad predictions users may get before a bad candidate is found, and how small an excess
still matters. A gate at its share of the false alarms needs *n* requests, as expected, to see that excess; of them the
share that the gate allows, and the excess, are bad. That number hangs neither on the rate nor on the weight of a step,
only on the gate, so it is what a budget can be checked against. The *length* of a step follows from it: as long as its
weight takes to bring enough requests to see the excess nine times out of ten. Heavier steps are shorter. What the
weight of the first step does decide is how much a total failure costs until somebody has looked and reverted.
"""

from __future__ import annotations

import math
from datetime import timedelta

from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.manifest.stage_blocks import ExposureSpec
from airflow_provider_mlpipex.domain.planning.false_alarms import alpha_of
from airflow_provider_mlpipex.domain.planning.sampling import REVERT, look_every, needed_duration
from airflow_provider_mlpipex.domain.planning.synthetic_evidence import allowed_share
from airflow_provider_mlpipex.domain.statistics.detection import deviation_of_detection, trials_to_detect
from airflow_provider_mlpipex.domain.values import Value

#: A step is so long that the smallest excess that matters is missed in it once in ten times,
_MISSED = 0.1
#: which is so many standard deviations beyond the expected number of requests.
_DEVIATIONS = 1.2816
#: Excesses that a budget is checked at, as multiples of the smallest: larger ones are seen sooner, but not for nothing.
_MULTIPLES = (1.0, 2.0, 4.0, 8.0, 16.0, math.inf)


class Exposure(Value):
    """What an exposure budget comes to at the declared rate.

    :param gate: the one that needs most bad predictions.
    :param requests: that the candidate gets in each step.
    :param bad: expected bad predictions before detection, at the excess where they are most.
    :param durations: of each step.
    """

    gate: str
    requests: int
    bad: float
    durations: tuple[timedelta, ...]


def step_durations(environment: EnvironmentSpec, rate: float | None) -> tuple[timedelta, ...]:
    """How long each canary step lasts; nothing where an exposure budget has no rate, or no gate, to go by."""
    canary = environment.canary
    if canary is None:
        return ()
    if canary.step_duration is not None:
        return (canary.step_duration,) * len(canary.steps)
    planned = exposure(environment, rate)
    return planned.durations if planned else (timedelta(0),) * len(canary.steps)


def exposure(environment: EnvironmentSpec, rate: float | None) -> Exposure | None:
    """The schedule that the exposure budget of the canary asks for; ``None`` without budget, rate or a gate that can
    tell bad predictions by themselves (relative ones cannot)."""
    canary = environment.canary
    if canary is None or canary.exposure is None or rate is None or not all(share > 0 for share in canary.steps):
        return None
    gates = finders(environment)
    if not gates:
        return None
    effect = canary.exposure.effect
    enough = max(_enough(gate, effect, alpha_of(environment, "canary", gate)) for gate in gates)
    requests = max([enough, *(gate.min_samples for gate in canary.gates)])
    durations = tuple(needed_duration(requests, rate, share) for share in canary.judged_steps)
    unreverted = rate * canary.steps[0] * (look_every(durations[0]) + REVERT).total_seconds()
    costs = {
        gate.name: max(
            _cost(gate, effect * times, alpha_of(environment, "canary", gate), unreverted) for times in _MULTIPLES
        )
        for gate in gates
    }
    dearest = max(costs, key=lambda name: costs[name])
    return Exposure(gate=dearest, requests=requests, bad=costs[dearest], durations=durations)


def finders(environment: EnvironmentSpec) -> list[Gate]:
    """The gates that find bad predictions, one a kind of them: of several that see the same requests fail, the one
    that sees the smallest effect that matters first. Binding gates only, with a limit of their own: a relative one
    finds what depends on the release beside it."""
    canary = environment.canary
    if canary is None or canary.exposure is None:
        return []
    effect = canary.exposure.effect
    first: dict[str, Gate] = {}
    for gate in canary.gates:
        if gate.advisory or not (_counts_bad(gate) or _has_share(gate)):
            continue
        kind = gate.metric if gate.quantile is not None else "errors"
        rival = first.get(kind)
        alpha = alpha_of(environment, "canary", gate)
        if rival is None or bad_to_detect(gate, effect, alpha) < bad_to_detect(rival, effect, alpha):
            first[kind] = gate
    return list(first.values())


def bad_to_detect(gate: Gate, effect: float, alpha: float) -> float:
    """Expected bad predictions until ``gate`` sees ``effect`` beyond what it allows, in the worst case of missing it
    in a step and beginning anew in the next."""
    return _bad_share(gate, effect) * _expected(gate, effect, alpha) / (1.0 - _MISSED)


def smallest_effect(gate: Gate, budget: ExposureSpec, alpha: float) -> float | None:
    """The smallest excess that ``gate`` finds within ``budget``; ``None`` if not even a total failure."""
    low, high = budget.effect, 1.0 - (0.0 if _counts_bad(gate) else allowed_share(gate))
    if bad_to_detect(gate, high, alpha) > budget.max_bad:
        return None
    for _ in range(30):
        middle = (low + high) / 2.0
        low, high = (middle, high) if bad_to_detect(gate, middle, alpha) > budget.max_bad else (low, middle)
    return high


def _cost(gate: Gate, effect: float, alpha: float, before_revert: float) -> float:
    """Bad predictions until the gate sees ``effect``, and of ``before_revert`` requests that are served meanwhile."""
    largest = 1.0 - (0.0 if _counts_bad(gate) else allowed_share(gate))
    effect = min(effect, largest)
    return bad_to_detect(gate, effect, alpha) + _bad_share(gate, effect) * before_revert


def _enough(gate: Gate, effect: float, alpha: float) -> int:
    """Requests in which the gate misses ``effect`` once in ten times."""
    expected = _expected(gate, effect, alpha)
    if _counts_bad(gate):
        return math.ceil(expected + _DEVIATIONS * math.sqrt(gate.bound + 1.0) / effect)
    allowed = allowed_share(gate)
    if allowed <= 0.0:
        return math.ceil(math.log(1.0 / _MISSED) / effect)
    spread = deviation_of_detection(allowed, min(allowed + effect, 1.0), round(expected))
    return math.ceil(expected + _DEVIATIONS * spread)


def _expected(gate: Gate, effect: float, alpha: float) -> float:
    """Requests until the gate fails a candidate with ``effect`` more bad ones than it allows."""
    if _counts_bad(gate):
        return (gate.bound + 1.0) / effect
    allowed = allowed_share(gate)
    if allowed <= 0.0:
        return 1.0 / effect
    return float(trials_to_detect(allowed, min(allowed + effect, 1.0 - 1e-12), alpha=alpha))


def _bad_share(gate: Gate, effect: float) -> float:
    return min(1.0, effect if _counts_bad(gate) else allowed_share(gate) + effect)


def _counts_bad(gate: Gate) -> bool:
    return gate.counts and gate.max is not None and gate.better == "lower"


def _has_share(gate: Gate) -> bool:
    return not math.isnan(allowed_share(gate)) and allowed_share(gate) < 1.0
