"""Gates on live traffic: looked at again and again, and yet no more wrong than their alpha allows."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summary, Summed, Timed
from tests.support.factories import NOON


def gate(metric: str = "canary.error_rate", **spec: Any) -> Gate:
    return Gate.model_validate({"name": "it", "metric": metric, **spec})


def evidence(of: Gate, value: float | None, summary: Summary | None, **facts: Any) -> Evidence:
    source, _, name = of.metric.partition(".")
    window = {"since": NOON - timedelta(minutes=10), "until": NOON}
    return Evidence.model_validate(
        {"source": source, "metric": name, "value": value, "summary": summary, "samples": 1000, **window, **facts}
    )


def counted(of: Gate, events: int, trials: int, base: tuple[int, int] | None = None, **facts: Any) -> Evidence:
    beside: dict[str, Any] = {}
    if base is not None:
        beside = {
            "baseline": base[0] / base[1] if base[1] else None,
            "baseline_samples": base[1],
            "baseline_summary": Counted(events=base[0], trials=base[1]),
        }
    value = events / trials if trials else None
    return evidence(of, value, Counted(events=events, trials=trials), samples=trials, **beside, **facts)


def timed(of: Gate, *latencies: float, base: tuple[float, ...] = ()) -> Evidence:
    assert of.quantile is not None
    own, other = histogram(latencies), histogram(base)
    return evidence(
        of,
        own.quantile(of.quantile),
        own,
        samples=len(latencies),
        baseline=other.quantile(of.quantile),
        baseline_samples=len(base),
        baseline_summary=other,
    )


def histogram(latencies: tuple[float, ...]) -> Timed:
    width = 2.0
    counts: dict[int, int] = {}
    for latency in latencies:
        counts[int(latency // width)] = counts.get(int(latency // width), 0) + 1
    return Timed(buckets=tuple((at * width, (at + 1) * width, counts[at]) for at in sorted(counts)))


def look(of: Gate, seen: Evidence | None, alpha: float | None = 0.01, **context: Any) -> GateResult:
    return judge(of, seen, now=NOON, alpha=alpha, **context)


@pytest.mark.parametrize(
    ("events", "trials", "said"),
    [
        (0, 1000, "pass"),
        (10, 1000, "pass"),
        (13, 1000, "inconclusive"),
        (40, 1000, "fail"),
        (2, 2, "fail"),
        (1, 2, "inconclusive"),
        (1, 50, "inconclusive"),
    ],
)
def test_only_what_chance_cannot_do_fails(events: int, trials: int, said: str) -> None:
    limit = gate(max="1%")
    assert look(limit, counted(limit, events, trials)).verdict == said


def test_a_failure_waits_neither_for_samples_nor_for_the_window() -> None:
    patient = gate(max="1%", min_samples=500, window="30m")
    assert look(patient, counted(patient, 5, 5)).verdict == "fail"
    assert look(patient, counted(patient, 5, 5), alpha=None).verdict == "inconclusive"
    assert look(patient, counted(patient, 0, 5)).verdict == "inconclusive"
    assert look(patient, counted(patient, 0, 499)).verdict == "inconclusive"
    assert look(patient, counted(patient, 0, 500, since=NOON - timedelta(minutes=30))).verdict == "pass"


def test_stale_evidence_fails_nobody() -> None:
    fresh = gate(max="1%", max_age="1m")
    old = {"since": NOON - timedelta(minutes=12), "until": NOON - timedelta(minutes=2)}
    assert look(fresh, counted(fresh, 500, 500, **old)).verdict == "inconclusive"


def test_a_result_says_alpha_interval_and_counts() -> None:
    limit = gate(max="1%")
    failed = look(limit, counted(limit, 40, 1000), alpha=0.01)
    assert failed.alpha == 0.01
    assert failed.interval is not None
    assert failed.interval[0] < failed.margin < failed.interval[1] < 0  # type: ignore[operator]
    assert failed.evidence.summary == Counted(events=40, trials=1000)
    assert "in truth from" in failed.reason and "99% sure at every look" in failed.reason
    assert look(limit, counted(limit, 40, 1000), alpha=None).interval is None


def test_a_look_at_a_fixed_sample_is_judged_by_its_value() -> None:
    limit = gate(max="1%")
    assert look(limit, counted(limit, 13, 1000), alpha=None).verdict == "fail"
    assert look(limit, counted(limit, 10, 1000), alpha=None).verdict == "pass"


def test_without_the_counts_behind_it_a_value_decides_nothing_while_it_is_watched() -> None:
    limit, relative = gate(max="1%"), gate(within="10%")
    for value in (0.0, 1.0):
        result = look(limit, evidence(limit, value, None))
        assert (result.verdict, result.interval) == ("inconclusive", None)
        assert "lacks the counts" in result.reason
    half = evidence(relative, 0.5, Counted(events=500, trials=1000), baseline=0.1, baseline_samples=1000)
    assert look(relative, half).verdict == "inconclusive"


def test_counts_stay_exact_and_immediate() -> None:
    zero, pairs = gate("canary.critical_errors", max=0), gate("shadow.pairs", min=500)
    one = look(zero, evidence(zero, 1, None, samples=3))
    assert (one.verdict, one.alpha) == ("fail", None)
    assert look(zero, evidence(zero, 0, None)).verdict == "pass"
    assert look(pairs, evidence(pairs, 499, None)).verdict == "inconclusive"
    assert look(pairs, evidence(pairs, 500, None)).verdict == "pass"


def test_detects_passes_only_once_so_much_beyond_the_threshold_is_excluded() -> None:
    careful = gate(max="1%", detects="0.5%")
    early, late = look(careful, counted(careful, 4, 500)), look(careful, counted(careful, 80, 10_000))
    assert (early.verdict, late.verdict) == ("inconclusive", "pass")
    assert "0.5 points beyond the threshold is not excluded yet" in early.reason
    assert look(gate(max="1%"), counted(careful, 4, 500)).verdict == "pass"


def test_agreement_is_better_when_it_is_higher() -> None:
    same = gate("shadow.agreement", min="90%", detects="5%")
    assert look(same, counted(same, 700, 1000)).verdict == "fail"
    assert look(same, counted(same, 880, 1000)).verdict == "inconclusive"
    assert look(same, counted(same, 950, 1000)).verdict == "pass"
    assert look(same, counted(same, 10, 11)).verdict == "inconclusive"


def test_a_relative_gate_compares_arms_over_the_same_minutes() -> None:
    beside = gate(within="10%")
    assert look(beside, counted(beside, 300, 1000, base=(3000, 10_000))).verdict == "pass"
    assert look(beside, counted(beside, 350, 1000, base=(3000, 10_000))).verdict == "inconclusive"
    assert look(beside, counted(beside, 500, 1000, base=(3000, 10_000))).verdict == "fail"
    few = look(beside, counted(beside, 3, 6, base=(3000, 10_000)))
    assert (few.verdict, few.threshold) == ("inconclusive", pytest.approx(0.33))


def test_a_relative_gate_without_a_baseline_waits() -> None:
    beside = gate(within="10%")
    assert look(beside, counted(beside, 1000, 1000)).verdict == "inconclusive"
    assert look(beside, counted(beside, 1000, 1000, base=(0, 0))).verdict == "inconclusive"


def test_latency_is_judged_by_the_share_of_slow_answers() -> None:
    p95 = gate("canary.latency_p95", max="120ms")
    assert look(p95, timed(p95, *[50.0] * 100)).verdict == "pass"
    assert look(p95, timed(p95, 500.0, 500.0, 500.0)).verdict == "fail"
    assert look(p95, timed(p95, *[50.0] * 20, 500.0, 500.0)).verdict == "inconclusive"
    assert look(p95, timed(p95, *[50.0] * 100, *[500.0] * 30)).verdict == "fail"


def test_a_latency_that_must_be_excluded() -> None:
    p95 = gate("canary.latency_p95", max="120ms", detects="30ms")
    assert look(p95, timed(p95, *[50.0] * 40)).verdict == "inconclusive"
    assert look(p95, timed(p95, *[50.0] * 400)).verdict == "pass"


def test_latencies_of_two_arms() -> None:
    beside = gate("canary.latency_p95", within="20%")
    fast, slow = tuple([100.0] * 400), tuple([200.0] * 400)
    assert look(beside, timed(beside, *fast, base=fast)).verdict == "pass"
    assert look(beside, timed(beside, *slow, base=fast)).verdict == "fail"
    assert look(beside, timed(beside, *slow[:20], base=fast[:20])).verdict == "inconclusive"


def test_a_mean_is_exact_within_its_bounds_and_asymptotic_without() -> None:
    gap = gate("shadow.mean_absolute_difference", max=0.1)
    for bounds in ({"lower": 0.0, "upper": 1.0}, {}):
        far = Summed(count=2000, total=600.0, squares=200.0, **bounds)
        near = Summed(count=2000, total=100.0, squares=10.0, **bounds)
        assert look(gap, evidence(gap, 0.3, far)).verdict == "fail"
        assert look(gap, evidence(gap, 0.05, near)).verdict == "pass"
        few = Summed(count=4, total=1.2, squares=0.4, **bounds)
        assert look(gap, evidence(gap, 0.3, few)).verdict == "inconclusive"


@settings(max_examples=60)
@given(st.integers(0, 200), st.integers(0, 2000), st.floats(0.0005, 0.1), st.sampled_from(["0.5%", "2%", "20%"]))
def test_less_alpha_never_turns_doubt_into_a_failure(bad: int, good: int, alpha: float, limit: str) -> None:
    judged = gate(max=limit)
    seen = counted(judged, bad, bad + good)
    strict, lenient = look(judged, seen, alpha=alpha / 10), look(judged, seen, alpha=alpha)
    assert not (strict.verdict == "fail" and lenient.verdict != "fail")
    if strict.interval and lenient.interval:
        assert strict.interval[0] <= lenient.interval[0] <= lenient.interval[1] <= strict.interval[1]
        assert lenient.interval[0] <= lenient.margin <= lenient.interval[1]  # type: ignore[operator]


@settings(max_examples=60)
@given(st.integers(0, 100), st.integers(0, 1000), st.integers(1, 50))
def test_more_bad_requests_never_help(bad: int, good: int, more: int) -> None:
    judged = gate(max="2%", detects="3%")
    order = ["pass", "inconclusive", "fail"]
    before = look(judged, counted(judged, bad, bad + good + more))
    after = look(judged, counted(judged, bad + more, bad + good + more))
    assert order.index(before.verdict) <= order.index(after.verdict)


def stream(generator: random.Random, p: float, requests: int) -> list[tuple[int, int]]:
    """Events and trials after each request."""
    seen, events = [], 0
    for trial in range(1, requests + 1):
        events += generator.random() < p
        seen.append((events, trial))
    return seen


def test_looking_more_often_finds_a_failure_no_later_and_never_a_false_one_more_often_than_alpha() -> None:
    """A candidate exactly at its limit, watched closely and from time to time."""
    limit, alpha, runs = gate(max="5%"), 0.1, 250
    generator = random.Random(20130105)
    failed = {5: 0, 25: 0}
    for _ in range(runs):
        seen = stream(generator, 0.05, 300)
        first = {}
        for every in failed:
            looks = (at for at in range(every - 1, len(seen), every))
            first[every] = next(
                (at for at in looks if look(limit, counted(limit, *seen[at]), alpha).verdict == "fail"), None
            )
            failed[every] += first[every] is not None
        assert first[25] is None or (first[5] is not None and first[5] <= first[25])
    # 250 runs at 10 %: more than 37 has probability below 1 %.
    assert failed[25] <= failed[5] <= 37


@pytest.mark.parametrize(("p", "n"), [(0.001, 50), (0.001, 1500)])
def test_rare_errors_and_few_requests_keep_the_promise(p: float, n: int) -> None:
    limit, alpha, runs, failed = gate(max="0.1%"), 0.05, 300, 0
    generator = random.Random(20130106)
    for _ in range(runs):
        seen = stream(generator, p, n)
        # Only an error can make it fail, so a look after each error is a look at every moment.
        errors = [at for at in range(n) if seen[at][0] > (seen[at - 1][0] if at else 0)]
        failed += any(look(limit, counted(limit, *seen[at]), alpha).verdict == "fail" for at in errors)
    assert failed <= 26


def test_a_candidate_twice_as_bad_is_found() -> None:
    limit, found = gate(max="2%"), 0
    generator = random.Random(20130107)
    for _ in range(40):
        seen = stream(generator, 0.04, 3000)
        found += any(look(limit, counted(limit, *seen[at])).verdict == "fail" for at in range(99, 3000, 100))
    assert found >= 36


def test_order_and_number_of_looks_make_no_difference_to_a_look() -> None:
    limit = gate(max="1%")
    seen = [counted(limit, events, 400) for events in (0, 4, 9, 30)]
    forward = [look(limit, each) for each in seen]
    assert forward == [look(limit, each) for each in reversed(seen)][::-1]


def test_a_result_survives_json_with_infinite_ends() -> None:
    p95 = gate("canary.latency_p95", max="120ms")
    result = look(p95, timed(p95, 50.0, 60.0))
    assert result.interval is not None and result.interval[0] == float("-inf")
    assert GateResult.model_validate(result.to_json()) == result
