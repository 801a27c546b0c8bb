from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.gates.watch_windows import beginnings
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning.false_alarms import alpha_of, sequences, stage_gates
from airflow_provider_mlpipex.domain.planning.live_gates import live_gates
from tests.support.manifests import make_manifest


def spec(**environment: Any) -> EnvironmentSpec:
    return EnvironmentSpec.model_validate(environment)


def errors(source: str, **gate: Any) -> dict[str, Any]:
    return {"name": f"e{abs(hash(str(gate))) % 10**6}", "metric": f"{source}.error_rate", "max": "1%", **gate}


def test_each_gate_in_each_step_is_a_sequence_and_counts_are_none() -> None:
    production = make_manifest().environments["production"]
    # p95 in the shadow, errors in three steps, one in the watch; critical errors and pairs are counted exactly.
    assert sequences(production) == 5
    by_stage = [(live.stage, live.step, live.gate.metric) for live in live_gates(production)]
    assert by_stage == [
        ("shadow", None, "shadow.latency_p95"),
        ("canary", None, "canary.critical_errors"),
        *[("canary", step, "canary.error_rate") for step in range(3)],
        ("watch", None, "serving.error_rate"),
    ]


def test_a_gate_that_spans_the_canary_is_one_sequence() -> None:
    canary = {"steps": ["5%", "25%", "100%"], "step_duration": "10m", "gates": [errors("canary", window="20m")]}
    (live,) = live_gates(spec(canary=canary))
    assert (live.step, live.duration) == (None, timedelta(minutes=30))
    assert live.share == pytest.approx(1.25 / 3), "at 100 % the current release keeps 5 %"
    assert live.samples(10.0) == pytest.approx(10 * 600 * 1.25, abs=1)
    assert live.baseline_samples(10.0) == pytest.approx(10 * 600 * 1.75, abs=1)


def test_an_environment_that_serves_nobody_looks_at_nothing() -> None:
    assert live_gates(spec(serve=False)) == ()


def test_windows_of_a_watch_share_their_gates_part() -> None:
    rollback = {"window": "30m", "gates": [errors("serving", window="1m"), errors("serving")]}
    windowed, whole = live_gates(spec(false_alarms="4%", rollback=rollback))
    assert whole.alpha == pytest.approx(0.02)
    assert windowed.alpha == pytest.approx(0.02 / 60)


@st.composite
def environments(draw: st.DrawFn) -> EnvironmentSpec:
    def gates(source: str) -> list[dict[str, Any]]:
        some = st.builds(
            lambda at, window, advisory: errors(source, window=window, advisory=advisory, name=f"g{at}"),
            st.integers(0, 10**6),
            st.sampled_from([None, "1m", "5m", "25m"]),
            st.booleans(),
        )
        return draw(st.lists(some, max_size=3, unique_by=lambda gate: gate["name"]))

    steps = draw(st.sampled_from([["100%"], ["5%", "100%"], ["5%", "25%", "50%", "100%"]]))
    return spec(
        false_alarms=draw(st.floats(0.001, 0.2)),
        shadow={"fraction": "50%", "duration": "30m", "gates": gates("shadow")},
        canary={"steps": steps, "step_duration": "10m", "gates": gates("canary")},
        rollback={"window": "30m", "gates": gates("serving")},
    )


@given(environments())
def test_what_all_sequences_may_err_together_is_what_the_manifest_allows(environment: EnvironmentSpec) -> None:
    binding = [live for live in live_gates(environment) if not live.gate.advisory]
    assert environment.rollback is not None
    spent = math.fsum(
        live.alpha * (beginnings(live.gate.window, environment.rollback.window) if live.stage == "watch" else 1)
        for live in binding
    )
    assert spent <= environment.false_alarms * (1 + 1e-9)
    if binding:
        assert spent == pytest.approx(environment.false_alarms)


@given(environments())
def test_an_advisory_gate_is_judged_at_the_same_share(environment: EnvironmentSpec) -> None:
    for stage in ("shadow", "canary"):
        alphas = {alpha_of(environment, stage, gate) for gate in stage_gates(environment, stage)}
        assert len(alphas) <= 1
