from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_mlpipex.domain.drift.gate_verdict import DAMAGE, MEASURE_OF
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import LIVE_SOURCES, Gate
from airflow_provider_mlpipex.domain.gates.judging import judge, verdict_of
from airflow_provider_mlpipex.domain.gates.metrics import METRICS, TASK_METRICS
from airflow_provider_mlpipex.domain.gates.misreadings import find_misreading
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.stage_blocks import ShadowSpec
from airflow_provider_mlpipex.domain.statistics.confidence import difference_of_proportions
from airflow_provider_mlpipex.domain.statistics.same_rows import Discordant
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
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
        ("evaluation.accuracy", {"within": "0.5% of the baseline"}, 0.7959, 0.8, "fail"),
        ("evaluation.accuracy", {"within": "0.5 points"}, 0.795, 0.8, "pass"),
        ("evaluation.accuracy", {"within": "0.5 points"}, 0.7949, 0.8, "fail"),
        ("evaluation.accuracy", {"improves": "1 point"}, 0.81, 0.8, "pass"),
        ("evaluation.accuracy", {"improves": "1 point"}, 0.809, 0.8, "fail"),
        ("canary.error_rate", {"within": "0.5 points"}, 0.005, 0.0, "pass"),
        ("canary.error_rate", {"within": "0.5 points"}, 0.006, 0.0, "fail"),
        ("canary.error_rate", {"within": "50% of the baseline"}, 0.001, 0.0, "fail"),
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
        {"within": "-1 points"},
        {"metric": "canary.latency_p95", "within": "5 points"},
        {"metric": "evaluation.rmse", "improves": "1 point"},
        {"max": "1%", "detects": "50% of the baseline"},
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
    assert verdict_of([result(each) for each in verdicts]) == said


def test_advisory_gates_have_no_say() -> None:
    assert verdict_of([result("pass"), result("fail", advisory=True)]) == "pass"
    assert verdict_of([result("pass", advisory=True)]) == "inconclusive"


def test_every_task_metric_is_a_known_metric() -> None:
    assert {name for names in TASK_METRICS.values() for name in names} <= set(METRICS["evaluation"])


def test_every_measure_of_drift_may_be_gated() -> None:
    assert set(METRICS["drift"]) == {DAMAGE, *MEASURE_OF}


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


# Points, and parts of the baseline.


@pytest.mark.parametrize(
    ("spec", "written"),
    [
        ({"within": "0.5 points"}, "0.5 points"),
        ({"within": "0.5% of the baseline"}, "0.5%"),
        ({"within": "0.5%"}, "0.5%"),
        ({"improves": "1 point"}, "1 point"),
        ({"max": "1%", "detects": "0.5 points"}, "0.5%"),
    ],
)
def test_what_means_the_same_is_written_the_same_as_in_older_ledgers(spec: dict[str, str], written: str) -> None:
    stated = gate(**spec)
    kept = stated.to_json()
    assert kept[list(spec)[-1]] == written
    assert Gate.model_validate(kept) == stated and Gate.model_validate(kept).rule == stated.rule


def test_points_beside_a_baseline_are_judged_by_the_difference_of_the_arms() -> None:
    """The interval of a difference without scale, moved by the points."""
    points = gate("canary.error_rate", within="0.5 points")
    measured = evidence(
        0.02,
        samples=50_000,
        baseline=0.01,
        baseline_samples=50_000,
        summary=Counted(events=1000, trials=50_000),
        baseline_summary=Counted(events=500, trials=50_000),
    )
    result = judge(points, measured, now=NOON, alpha=0.01)
    apart = difference_of_proportions(1000, 50_000, 500, 50_000, alpha=0.01)
    assert result.verdict == "fail" and result.threshold == pytest.approx(0.015)
    assert result.interval == pytest.approx((0.005 - apart.upper, 0.005 - apart.lower))
    # Half a point worse where nothing was wrong before: no part of 0 would allow that.
    nothing = evidence(
        0.003, samples=9000, baseline=0.0, summary=Counted(events=27, trials=9000),
        baseline_summary=Counted(events=0, trials=9000), baseline_samples=9000,
    )  # fmt: skip
    assert judge(points, nothing, now=NOON, alpha=0.01).verdict == "pass"


def test_points_on_the_same_rows_are_tangos_interval_moved_by_them() -> None:
    points = gate("evaluation.accuracy", within="0.5 points")
    for only_new, said in ((1000, "pass"), (700, "pass"), (500, "inconclusive"), (300, "fail")):
        both, only_old, rows = 70_000, 1000, 100_000
        paired = Discordant(
            both=both, only_candidate=only_new, only_baseline=only_old, neither=rows - both - only_new - only_old
        )
        own, base = (both + only_new) / rows, (both + only_old) / rows
        measured = evidence(own, "evaluation.accuracy", baseline=base, samples=rows, paired=paired)
        result = judge(points, measured, now=NOON)
        # Wald's interval of a paired difference, which Tango's is at so many rows.
        error = math.sqrt(only_new + only_old - (only_new - only_old) ** 2 / rows) / rows
        assert result.interval is not None
        assert result.interval[0] == pytest.approx(own - base + 0.005 - 1.645 * error, abs=2e-5)
        assert result.verdict == said


@pytest.mark.parametrize(
    ("spec", "read", "other"),
    [
        ({"metric": "evaluation.accuracy", "within": "0.5%"}, "79.6%", "79.5%"),
        ({"metric": "evaluation.auc", "improves": "1%"}, "80.8%", "81%"),
        ({"metric": "canary.error_rate", "within": "20%"}, "2.4%", "22%"),
        ({"metric": "canary.error_rate", "max": "1%", "detects": "0.5%"}, "1.5%", "1.005%"),
        ({"metric": "shadow.agreement", "min": "90%", "detects": "2%"}, "88%", "88.2%"),
    ],
)
def test_a_bare_percentage_that_could_be_read_both_ways_is_told_with_both(
    spec: dict[str, str], read: str, other: str
) -> None:
    misread = find_misreading(gate(**spec))
    assert misread is not None and (misread.threshold, misread.other_threshold) == (read, other)
    assert misread.field == list(spec)[-1]


@pytest.mark.parametrize(
    "spec",
    [
        {"metric": "evaluation.accuracy", "within": "0.5% of the baseline"},
        {"metric": "evaluation.accuracy", "within": "0.5 points"},
        {"metric": "evaluation.log_loss", "within": "10%"},
        {"metric": "canary.error_rate", "max": "1%", "detects": "0.5 points"},
        {"metric": "canary.latency_p95", "max": "120ms", "detects": "10ms"},
        {"metric": "canary.error_rate", "max": "1%"},
    ],
)
def test_what_says_one_thing_is_told_nothing(spec: dict[str, str]) -> None:
    assert find_misreading(gate(**spec)) is None
