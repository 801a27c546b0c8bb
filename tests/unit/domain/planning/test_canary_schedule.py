from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning import synthetic_evidence
from airflow_provider_mlpipex.domain.planning.canary_schedule import exposure, finders, smallest_effect, step_durations
from airflow_provider_mlpipex.domain.planning.false_alarms import alpha_of
from airflow_provider_mlpipex.domain.planning.sampling import REVERT, expected_samples, look_every

ERRORS = {"name": "errors", "metric": "canary.error_rate", "max": "1%"}
SLOW = {"name": "slow", "metric": "canary.latency_p95", "max": "120ms"}


def canary(*gates: dict[str, Any], max_bad: int = 200, effect: str = "5%", steps: Any = None) -> EnvironmentSpec:
    spec = {"steps": steps or ["5%", "50%", "100%"], "exposure": {"max_bad": max_bad, "effect": effect}}
    return EnvironmentSpec.model_validate({"canary": {**spec, "gates": list(gates) or [ERRORS]}})


def test_a_clock_gives_every_step_the_same() -> None:
    clock = {"steps": ["5%", "100%"], "step_duration": "10m", "gates": [ERRORS]}
    spec = EnvironmentSpec.model_validate({"canary": clock})
    assert step_durations(spec, None) == (timedelta(minutes=10),) * 2
    assert exposure(spec, 10.0) is None
    assert step_durations(EnvironmentSpec(), 10.0) == ()


def test_a_heavier_step_is_shorter_and_each_brings_as_many_requests() -> None:
    spec = canary()
    planned = exposure(spec, 10.0)
    assert planned is not None and spec.canary is not None
    assert all(before > after for before, after in pairwise(planned.durations))
    for share, duration in zip(spec.canary.judged_steps, planned.durations, strict=True):
        assert planned.requests <= expected_samples(10.0, share, duration) < planned.requests + 10 * share + 1


@pytest.mark.parametrize("spec", [{"steps": ["100%"]}, {"steps": ["100%"], "step_duration": "1m", "exposure": {}}])
def test_a_canary_has_one_pace(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EnvironmentSpec.model_validate({"canary": spec})
    both = {"steps": ["100%"], "step_duration": "1m", "exposure": {"max_bad": 10, "effect": "5%"}}
    with pytest.raises(ValidationError, match="exactly one of step_duration, exposure"):
        EnvironmentSpec.model_validate({"canary": both})


def test_without_a_rate_or_a_gate_that_finds_anything_there_is_no_schedule() -> None:
    beside = {"name": "beside", "metric": "canary.error_rate", "within": "10%", "window": "1m"}
    assert exposure(canary(), None) is None
    assert exposure(canary(beside), 10.0) is None
    assert exposure(canary({**ERRORS, "advisory": True}), 10.0) is None
    assert step_durations(canary(), None) == (timedelta(0),) * 3


def test_of_gates_that_see_the_same_the_first_to_find_it_counts() -> None:
    """One critical error is seen before a rate of errors; slow answers are another matter."""
    zero = {"name": "zero", "metric": "canary.critical_errors", "max": 0}
    many = {"name": "many", "metric": "canary.critical_errors", "max": 500}
    assert [gate.name for gate in finders(canary(ERRORS, zero, SLOW))] == ["zero", "slow"]
    assert [gate.name for gate in finders(canary(ERRORS, many, SLOW))] == ["errors", "slow"]


def test_a_step_brings_the_samples_that_gates_ask_for() -> None:
    planned = exposure(canary({**ERRORS, "min_samples": 5000}), 10.0)
    assert planned is not None and planned.requests == 5000


def test_a_smaller_effect_takes_longer_and_costs_more() -> None:
    fine, coarse = exposure(canary(effect="1%"), 10.0), exposure(canary(effect="10%"), 10.0)
    assert fine is not None and coarse is not None
    assert fine.requests > 5 * coarse.requests
    assert fine.bad > coarse.bad


def test_the_rate_changes_how_long_it_takes_and_not_what_a_small_excess_costs() -> None:
    slow, fast = exposure(canary(effect="1%"), 1.0), exposure(canary(effect="1%"), 20.0)
    assert slow is not None and fast is not None
    assert slow.requests == fast.requests
    assert slow.durations[0] > 15 * fast.durations[0]
    assert slow.bad == pytest.approx(fast.bad, rel=0.2)


def test_at_a_high_rate_what_is_served_until_the_revert_costs_most() -> None:
    light, heavy = exposure(canary(steps=["1%", "100%"]), 1000.0), exposure(canary(steps=["50%", "100%"]), 1000.0)
    assert light is not None and heavy is not None
    assert heavy.bad > 10 * light.bad
    delay = (look_every(heavy.durations[0]) + REVERT).total_seconds()
    assert heavy.bad >= 0.5 * 1000 * delay, "a total failure, until somebody has looked"


@given(st.floats(0.002, 0.3), st.floats(0.01, 0.4), st.integers(1, 500))
def test_the_smallest_effect_within_a_budget_is_within_it(limit: float, effect: float, max_bad: int) -> None:
    spec = canary({**ERRORS, "max": round(limit, 4)}, max_bad=max_bad, effect=f"{effect:.4f}".rstrip("0"))
    assert spec.canary is not None and spec.canary.exposure is not None
    (gate,) = finders(spec)
    found = smallest_effect(gate, spec.canary.exposure, alpha_of(spec, "canary", gate))
    assume(found is not None)
    assert found is not None and found >= spec.canary.exposure.effect
    wider = EnvironmentSpec.model_validate(
        {"canary": {**spec.canary.to_json(), "exposure": {"max_bad": max_bad, "effect": found}}}
    )
    planned = exposure(wider, 1e-3)  # so slow that nothing is served until the revert
    assert planned is not None and planned.bad <= max_bad + 1.1


@pytest.mark.parametrize(("gate", "effect"), [(ERRORS, "5%"), (ERRORS, "2%"), ({**ERRORS, "max": "5%"}, "10%")])
def test_a_bad_candidate_costs_no_more_than_planned(gate: dict[str, Any], effect: str) -> None:
    """Simulated through the gate itself: step after step, looked at as a watcher looks, until it is reverted."""
    spec, rate = canary(gate, effect=effect), 20.0
    planned = exposure(spec, rate)
    assert planned is not None and spec.canary is not None
    (judged,) = spec.canary.gates
    alpha = alpha_of(spec, "canary", judged)
    bad_share = synthetic_evidence.allowed_share(judged) + spec.canary.exposure.effect  # type: ignore[union-attr]
    generator, costs, found_at_once = random.Random(20130112), [], 0
    for _ in range(300):
        cost = 0
        for step, (share, duration) in enumerate(zip(spec.canary.steps, planned.durations, strict=True)):
            a_look = max(1, round(rate * share * look_every(duration).total_seconds()))
            bad = requests = 0
            while requests < planned.requests:
                new = sum(generator.random() < bad_share for _ in range(a_look))
                bad, requests, cost = bad + new, requests + a_look, cost + new
                seen = synthetic_evidence.live_evidence(judged, bad=bad, samples=requests)
                if judge(judged, seen, now=synthetic_evidence.MOMENT, alpha=alpha).verdict == "fail":
                    break
            else:
                continue
            found_at_once += step == 0
            break
        costs.append(cost)
    assert sum(costs) / len(costs) <= planned.bad
    assert found_at_once >= 0.82 * len(costs)
