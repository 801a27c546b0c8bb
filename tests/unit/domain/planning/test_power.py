from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate
from airflow_provider_mlpipex.domain.planning.power import about, power, soonest_failure
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
from tests.support.factories import NOON


def live(metric: str = "canary.error_rate", *, share: float = 0.05, minutes: int = 30, **spec: Any) -> LiveGate:
    gate = Gate.model_validate({"name": "it", "metric": metric, **spec})
    return LiveGate("canary", 0, gate, share, 1 - share, timedelta(minutes=minutes), 0.01)


def test_the_sentence_of_the_issue() -> None:
    """3 requests a second, 5 % of them, an excess of half a point: hours, and half an hour cannot decide."""
    can = power(live(max="0.5%", detects="0.5%"), 3.0)
    assert not can.decides
    assert can.decides_after is not None and timedelta(hours=3) < can.decides_after < timedelta(hours=24)
    assert can.says.startswith("at 3/s and 5%, this gate needs about ")
    assert can.says.endswith(" h to see 0.5 points beyond its threshold (a value of 1%); 30m cannot decide")


def test_time_to_decide_is_time_enough() -> None:
    """Against simulation: most candidates that exceed the limit by what is detected fail within twice that time."""
    judged = live(max="1%", detects="2%")
    needed = power(judged, 10.0).decides_after
    assert needed is not None
    requests = int(needed.total_seconds() * 10 * judged.share)
    generator, failed = random.Random(20130109), 0
    for _ in range(40):
        events = sum(generator.random() < 0.03 for _ in range(2 * requests))
        seen = Evidence(
            source="canary",
            metric="error_rate",
            value=events / (2 * requests),
            samples=2 * requests,
            summary=Counted(events=events, trials=2 * requests),
            since=NOON,
            until=NOON,
        )
        failed += judge(judged.gate, seen, now=NOON, alpha=judged.alpha).verdict == "fail"
    assert failed >= 34


def test_a_count_says_how_many_honest_releases_it_ends() -> None:
    """32,400 requests of which one in ten thousand fails: 1 - 0.9999 ** 32400."""
    says = power(live("canary.critical_errors", share=0.6, minutes=30, max=0), 30.0).says
    assert says == "counted exactly: ends 96% of releases that fail 0.01% of their requests"
    assert power(live("canary.requests", min=100), 30.0).says == "counted exactly"


def test_a_total_failure_is_seen_at_once_and_a_small_excess_only_by_many_requests() -> None:
    few, many = power(live(max="1%"), 1.0), power(live(max="1%"), 100.0)
    assert few.fails_after == timedelta(seconds=60) and many.fails_after == timedelta(seconds=1)
    assert few.excess is not None and many.excess is not None
    assert few.excess > 4 * many.excess
    assert "show an excess of" in many.says


def test_a_latency_gate_speaks_of_the_share_of_slow_requests() -> None:
    can = power(live("canary.latency_p95", max="120ms"), 10.0)
    assert can.excess is not None and 0.03 < can.excess < 0.1
    assert "of the requests are slower than 120ms (5% may be)" in can.says


@pytest.mark.parametrize(
    ("metric", "limit", "says"),
    [
        ("p95_difference", 0.2, "of the requests differ by more than 0.2 (5% may be)"),
        ("latency_difference_p95", "20ms", "of the requests are slower than the current release by more than 20ms"),
        ("mean_absolute_difference", 0.1, "what 30m show depends on how far the answers lie apart"),
        ("flip_rate", "5%", "show an excess of"),
        ("worst_slice_flip_rate", "5%", "points or more in a slice with 1 of 10 of the requests"),
    ],
)
def test_gates_on_pairs_speak_of_pairs(metric: str, limit: Any, says: str) -> None:
    assert says in power(live(f"shadow.{metric}", share=0.5, max=limit), 10.0).says


def test_the_worst_slice_needs_a_larger_excess_than_the_whole() -> None:
    whole, worst = (
        power(live(f"shadow.{metric}", share=0.5, max="5%"), 10.0) for metric in ("flip_rate", "worst_slice_flip_rate")
    )
    assert whole.excess is not None and worst.excess is not None
    assert worst.excess > 3 * whole.excess


def test_latency_that_must_be_excluded_takes_at_least_so_long() -> None:
    can = power(live("canary.latency_p95", max="120ms", detects="30ms", minutes=1), 10.0)
    assert not can.decides
    assert "needs at least" in can.says and "to see 30ms beyond its threshold; 1m cannot decide" in can.says


def test_beside_a_baseline_what_is_seen_depends_on_it() -> None:
    can = power(live(within="10%"), 10.0)
    assert can.excess is None and can.fails_after is not None
    assert can.decides
    assert "depends on the release" in can.says


def test_latencies_of_two_arms_need_enough_of_both() -> None:
    alone = soonest_failure(live("canary.latency_p95", max="120ms", share=0.5), 10.0)
    beside = soonest_failure(live("canary.latency_p95", within="10%", share=0.5), 10.0)
    assert alone is not None and beside is not None
    assert beside > 5 * alone


def test_counts_are_exact() -> None:
    zero, pairs = power(live("canary.critical_errors", max=0), 10.0), power(live("shadow.pairs", min=500), 10.0)
    assert (zero.alpha, zero.decides) == (None, True) and zero.says.startswith("counted exactly: ends ")
    assert zero.fails_after == timedelta(seconds=2)
    assert pairs.fails_after is None and pairs.decides


def test_a_window_of_a_moment_cannot_even_fail() -> None:
    short = live(max="20%", minutes=0)
    assert not power(short, 1.0).decides
    assert "could not fail" in power(short, 1.0).says


def test_where_none_may_fail_one_error_is_enough() -> None:
    can = power(live(max="0%", detects="1%"), 10.0)
    assert can.excess == pytest.approx(1 / 900)
    assert can.decides_after is not None


def test_an_excess_beyond_everything_is_never_seen() -> None:
    can = power(live(max="60%", detects="50%"), 10.0)
    assert can.decides_after is None and not can.decides
    assert "can never see" in can.says


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 s"), (89, "89 s"), (90, "1.5 min"), (1800, "30 min"), (15_120, "4.2 h"), (200_000, "2.3 d")],
)
def test_durations_in_two_digits(seconds: int, words: str) -> None:
    assert about(timedelta(seconds=seconds)) == words
