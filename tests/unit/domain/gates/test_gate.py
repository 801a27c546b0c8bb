from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_mlpipex.domain.drift.gate_verdict import DAMAGE, WORST
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import LIVE_SOURCES, Gate
from airflow_provider_mlpipex.domain.gates.judging import judge, overall
from airflow_provider_mlpipex.domain.gates.metrics import METRICS, TASK_METRICS
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.stage_blocks import ShadowSpec
from tests.support.factories import NOON


def gate(metric: str = "canary.error_rate", **spec: Any) -> Gate:
    return Gate.model_validate({"name": "it", "metric": metric, **spec})


def evidence(value: float | None, metric: str = "canary.error_rate", **facts: Any) -> Evidence:
    source, _, name = metric.partition(".")
    window = {"since": NOON - timedelta(minutes=10), "until": NOON}
    return Evidence.model_validate(
        {"source": source, "metric": name, "value": value, "samples": 1000, "baseline_samples": 1000, **window, **facts}
    )


def verdict(gate: Gate, measured: Evidence | None, **context: Any) -> str:
    return judge(gate, measured, now=NOON, **context).verdict


@pytest.mark.parametrize(
    ("metric", "spec", "value", "baseline", "said"),
    [
        ("canary.error_rate", {"max": "1%"}, 0.01, None, "pass"),
        ("canary.error_rate", {"max": "1%"}, 0.0101, None, "fail"),
        ("canary.latency_p95", {"max": "120ms"}, 119.0, None, "pass"),
        ("canary.latency_p95", {"max": "0.12s"}, 121.0, None, "fail"),
        ("evaluation.accuracy", {"min": "80%"}, 0.8, None, "pass"),
        ("evaluation.accuracy", {"min": "80%"}, 0.79, None, "fail"),
        ("evaluation.accuracy", {"within": "0.5%"}, 0.796, 0.8, "pass"),
        ("evaluation.accuracy", {"within": "0.5%"}, 0.7959, 0.8, "fail"),
        ("evaluation.log_loss", {"within": "10%"}, 0.22, 0.2, "pass"),
        ("evaluation.log_loss", {"within": "10%"}, 0.23, 0.2, "fail"),
        ("evaluation.auc", {"improves": "1%"}, 0.808, 0.8, "pass"),
        ("evaluation.auc", {"improves": "1%"}, 0.807, 0.8, "fail"),
        ("evaluation.rmse", {"improves": "50%"}, 4.0, 8.0, "pass"),
        ("evaluation.bias", {"within": "10%", "direction": "lower"}, -0.9, -1.0, "pass"),
        ("evaluation.bias", {"within": "10%", "direction": "higher"}, -1.2, -1.0, "fail"),
    ],
)
def test_criteria(metric: str, spec: dict[str, Any], value: float, baseline: float | None, said: str) -> None:
    result = judge(gate(metric, **spec), evidence(value, metric, baseline=baseline), now=NOON)
    assert result.verdict == said
    assert result.threshold is not None and result.margin is not None
    assert (result.margin >= -1e-9) == (said == "pass")
    assert result.reason.startswith("observed")


def test_a_result_says_observed_value_threshold_and_margin() -> None:
    result = judge(gate("canary.latency_p95", max="120ms"), evidence(131.5, "canary.latency_p95"), now=NOON)
    assert result.rule == "canary.latency_p95 at most 120ms"
    assert result.reason == "observed 131.5ms from 1000 samples, threshold at most 120ms, 11.5ms beyond it"
    assert (result.threshold, result.margin) == (120.0, -11.5)


@pytest.mark.parametrize(
    ("spec", "measured", "why"),
    [
        ({"max": "1%"}, None, "no evidence"),
        ({"max": "1%"}, evidence(None), "no evidence"),
        ({"max": "1%"}, evidence(0.0, samples=0), "0 samples"),
        ({"max": "1%", "min_samples": 1001}, evidence(0.0), "1000 samples, at least 1001"),
        ({"max": "1%", "window": "11m"}, evidence(0.0), "10m covered, 11m needed"),
        ({"max": "1%", "max_age": "1m"}, evidence(0.0, until=NOON - timedelta(minutes=2)), "stale: measured 2m ago"),
        ({"within": "1%"}, evidence(0.0), "no baseline"),
        ({"within": "1%", "min_samples": 10}, evidence(0.0, baseline=0.1, baseline_samples=9), "9 baseline samples"),
    ],
)
def test_too_little_is_inconclusive(spec: dict[str, Any], measured: Evidence | None, why: str) -> None:
    result = judge(gate(**spec), measured, now=NOON)
    assert result.verdict == "inconclusive"
    assert why in result.reason


@pytest.mark.parametrize(
    "measured",
    [
        evidence(0.0, broken="the plane does not answer"),
        evidence(float("nan")),
        evidence(float("inf")),
        evidence(0.0, baseline=float("nan")),
        evidence(0.0, "serving.error_rate"),
    ],
)
def test_a_broken_measurement_is_an_error(measured: Evidence) -> None:
    assert verdict(gate(within="1%"), measured) == "error"


def test_a_clock_that_stepped_back_does_not_make_evidence_stale() -> None:
    assert verdict(gate(max="1%", max_age="1m"), evidence(0.0, until=NOON + timedelta(minutes=5))) == "pass"


def test_a_count_beyond_its_maximum_fails_at_once() -> None:
    zero = gate("canary.critical_errors", max=0, window="30m", min_samples=5000)
    early = {"samples": 3, "since": NOON - timedelta(seconds=2)}
    assert verdict(zero, evidence(1, "canary.critical_errors", **early)) == "fail"
    assert verdict(zero, evidence(0, "canary.critical_errors", **early)) == "inconclusive"


def test_a_rate_beyond_its_maximum_waits_for_its_samples() -> None:
    assert verdict(gate(max="1%", min_samples=100), evidence(1.0, samples=3)) == "inconclusive"


def test_a_count_below_its_minimum_waits() -> None:
    pairs = gate("shadow.pairs", min=500)
    assert verdict(pairs, evidence(499, "shadow.pairs")) == "inconclusive"
    assert verdict(pairs, evidence(500, "shadow.pairs")) == "pass"


def test_a_shadow_waits_for_its_pairs_whatever_its_gates_say() -> None:
    shadow = ShadowSpec.model_validate({"fraction": "50%", "duration": "10m", "min_pairs": 500})
    (pairs,) = shadow.judged_gates
    assert verdict(pairs, evidence(499, "shadow.pairs", samples=499)) == "inconclusive"
    assert verdict(pairs, evidence(500, "shadow.pairs", samples=500)) == "pass"
    assert verdict(pairs, None) == "inconclusive"


def test_a_first_release_has_nothing_to_be_worse_than() -> None:
    accuracy = gate("evaluation.accuracy", within="0.5%")
    result = judge(accuracy, evidence(0.8, "evaluation.accuracy"), now=NOON, first_release=True)
    assert result.verdict == "pass"
    assert "first release" in result.reason
    assert verdict(gate("baseline.accuracy", min="50%"), None, first_release=True) == "pass"


def test_a_first_release_still_needs_evidence_of_its_own() -> None:
    assert verdict(gate("evaluation.accuracy", within="0.5%"), None, first_release=True) == "inconclusive"
    assert verdict(gate("evaluation.accuracy", min="50%"), None, first_release=True) == "inconclusive"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"max": "1%", "min": "0.1%"},
        {"max": "1%", "direction": "lower"},
        {"within": "1%", "direction": "higher"},
        {"max": 5},
        {"max": "-"},
        {"max": float("nan")},
        {"max": "1%", "min_samples": 0},
        {"max": "1%", "name": "../x"},
        {"metric": "canary.accuracy", "max": "1%"},
        {"metric": "canary", "max": "1%"},
        {"metric": "oracle.error_rate", "max": "1%"},
        {"metric": "drift.share", "max": "1%"},
        {"metric": "canary.latency_p95", "max": 120},
        {"metric": "canary.latency_p95", "max": "10%"},
        {"metric": "canary.critical_errors", "max": 0.5},
        {"metric": "canary.critical_errors", "max": -1},
        {"metric": "canary.critical_errors", "within": "1%"},
        {"metric": "evaluation.bias", "within": "1%"},
        {"metric": "evaluation.rmse", "max": "5%"},
        {"metric": "evaluation.rmse", "max": float("inf")},
        {"metric": "baseline.accuracy", "within": "1%"},
        {"metric": "shadow.agreement", "within": "1%"},
        {"within": "-1%"},
        {"max": "1%", "advisroy": True},
        {"max": "1%", "detects": "0%"},
        {"max": "1%", "detects": "-1%"},
        {"max": "1%", "detects": "30ms"},
        {"metric": "canary.critical_errors", "max": 0, "detects": 1},
        {"metric": "evaluation.accuracy", "min": "80%", "detects": "1%"},
        {"metric": "shadow.worst_slice_flip_rate", "max": "10%", "detects": "1%"},
    ],
)
def test_gates_that_cannot_work_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        gate(**spec)


def result(verdict: str, *, advisory: bool = False) -> GateResult:
    measured = evidence(0.0)
    return GateResult.model_validate(
        {"gate": "it", "verdict": verdict, "advisory": advisory, "rule": "", "evidence": measured}
    )


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ((), "inconclusive"),
        (("pass",), "pass"),
        (("pass", "inconclusive"), "inconclusive"),
        (("pass", "inconclusive", "error"), "error"),
        (("error", "fail", "pass"), "fail"),
    ],
)
def test_the_worst_verdict_decides(verdicts: tuple[str, ...], said: str) -> None:
    assert overall([result(each) for each in verdicts]) == said


def test_advisory_gates_have_no_say() -> None:
    assert overall([result("pass"), result("fail", advisory=True)]) == "pass"
    assert overall([result("pass", advisory=True)]) == "inconclusive"


def test_every_task_metric_is_a_known_metric() -> None:
    assert {name for names in TASK_METRICS.values() for name in names} <= set(METRICS["evaluation"])


def test_every_measure_of_drift_may_be_gated() -> None:
    assert set(METRICS["drift"]) == {DAMAGE, *WORST}


KEYS = [f"{source}.{name}" for source, yielded in METRICS.items() for name in yielded]


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    key = draw(st.sampled_from(KEYS))
    source, _, name = key.partition(".")
    metric = METRICS[source][name]  # type: ignore[index]
    criteria = ["max", *(["min"] if source != "drift" else []), *(["within", "improves"] if metric.compared else [])]
    criterion = draw(st.sampled_from(criteria))
    share = st.floats(min_value=0, max_value=1)
    bounds: dict[str, st.SearchStrategy[Any]] = {
        "ratio": share,
        "ms": st.integers(min_value=0, max_value=10_000).map(lambda ms: f"{ms}ms"),
        "count": st.integers(min_value=0, max_value=1000),
        "number": st.floats(0.01, 0.99) if source == "drift" else st.floats(min_value=-100, max_value=100),
    }
    relative = criterion in ("within", "improves")
    spec: dict[str, Any] = {criterion: draw(share if relative else bounds[metric.unit])}
    if relative and metric.better is None:
        spec["direction"] = draw(st.sampled_from(["higher", "lower"]))
    spec["window"] = draw(st.sampled_from([None, "5m", "15m"]))
    spec["min_samples"] = draw(st.sampled_from([1, 100, 5000]))
    if source in LIVE_SOURCES and metric.unit in ("ratio", "ms") and not metric.of_slices:
        spec["detects"] = draw(st.sampled_from([None, "0.5%" if metric.unit == "ratio" else "30ms"]))
    return gate(key, **spec)


numbers = st.floats(min_value=-1e6, max_value=1e6)


@given(gates(), numbers, numbers, st.one_of(st.none(), numbers))
def test_moving_the_better_way_never_turns_a_pass_into_a_fail(
    judged: Gate, value: float, other: float, baseline: float | None
) -> None:
    worse, better = sorted((value, other), reverse=judged.better == "lower")
    said = verdict(judged, evidence(worse, judged.metric, baseline=baseline))
    moved = verdict(judged, evidence(better, judged.metric, baseline=baseline))
    assert not (said == "pass" and moved != "pass")


@given(gates(), st.sampled_from(["nothing", "no value", "no samples", "broken", "nan"]), st.booleans())
def test_missing_evidence_never_passes(judged: Gate, lack: str, first_release: bool) -> None:
    assume(judged.source != "baseline" or not first_release)
    measured = {
        "nothing": None,
        "no value": evidence(None, judged.metric, baseline=0.5),
        "no samples": evidence(0.5, judged.metric, baseline=0.5, samples=0),
        "broken": evidence(0.5, judged.metric, baseline=0.5, broken="away"),
        "nan": evidence(float("nan"), judged.metric, baseline=0.5),
    }[lack]
    assert verdict(judged, measured, first_release=first_release) not in ("pass",)


@given(gates())
def test_a_gate_survives_json(judged: Gate) -> None:
    again = Gate.model_validate(judged.to_json())
    assert again == judged
    assert again.to_json() == judged.to_json()
