"""Confidence sequences: their promise, simulated where it can be broken, and their shape by Hypothesis."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain import statistics as stats

ALPHAS = st.floats(0.001, 0.3)


@given(st.integers(0, 5000), st.integers(0, 5000), ALPHAS)
def test_proportion_holds_its_own_estimate(successes: int, failures: int, alpha: float) -> None:
    trials = successes + failures
    interval = stats.proportion(successes, trials, alpha=alpha)
    assert 0.0 <= interval.lower <= interval.upper <= 1.0
    if trials:
        assert successes / trials in interval


@given(st.integers(0, 300), st.integers(1, 300), ALPHAS)
def test_proportion_mirrors_successes_and_failures(successes: int, failures: int, alpha: float) -> None:
    one = stats.proportion(successes, successes + failures, alpha=alpha)
    other = stats.proportion(failures, successes + failures, alpha=alpha)
    assert one.lower == pytest.approx(1 - other.upper, abs=1e-9)


@given(st.integers(0, 100), st.integers(1, 100), st.floats(0.01, 0.1))
def test_less_alpha_is_a_wider_interval(successes: int, failures: int, alpha: float) -> None:
    wide = stats.proportion(successes, successes + failures, alpha=alpha / 10)
    narrow = stats.proportion(successes, successes + failures, alpha=alpha)
    assert wide.lower <= narrow.lower and narrow.upper <= wide.upper


@pytest.mark.parametrize(("p", "n"), [(0.001, 2000), (0.001, 50), (0.02, 1000), (0.5, 500)])
def test_looking_after_every_request_keeps_the_promise(p: float, n: int) -> None:
    """Rare errors at 0.1 % and n = 50 are where a normal approximation breaks."""
    alpha, runs, misses = 0.05, 400, 0
    generator = random.Random(20130101)
    for _ in range(runs):
        successes = 0
        for trial in range(1, n + 1):
            successes += generator.random() < p
            if stats.log_evidence_against(p, successes, trial) > math.log(1 / alpha):
                misses += 1
                break
    # 400 runs at 5 %: more than 34 misses has probability below 1 %.
    assert misses <= 34


def test_a_peeking_z_test_breaks_the_promise_that_the_sequence_keeps() -> None:
    """The reason why the sequence is here at all."""
    alpha, runs, naive = 0.05, 300, 0
    generator = random.Random(7)
    for _ in range(runs):
        successes = 0
        for trial in range(1, 1001):
            successes += generator.random() < 0.2
            if trial % 10 == 0 and abs(successes / trial - 0.2) > 1.96 * math.sqrt(0.16 / trial):
                naive += 1
                break
    assert naive / runs > 3 * alpha


def test_relative_risk_sees_a_doubled_rate_and_not_an_equal_one() -> None:
    assert stats.relative_risk(400, 200, candidate_share=0.5, alpha=0.05).lower > 1.4
    assert 1.0 in stats.relative_risk(10, 190, candidate_share=0.05, alpha=0.05)
    assert stats.relative_risk(0, 0, candidate_share=0.05, alpha=0.05) == stats.Interval(0.0, math.inf)


def test_bounded_mean_covers_and_shrinks() -> None:
    generator = random.Random(3)
    values = [generator.betavariate(2, 5) for _ in range(4000)]
    early = stats.mean_bounded(values[:200], lower=0, upper=1, alpha=0.05)
    late = stats.mean_bounded(values, lower=0, upper=1, alpha=0.05)
    assert 2 / 7 in early and 2 / 7 in late
    assert late.upper - late.lower < early.upper - early.lower < 0.4


def test_bounded_mean_keeps_its_promise_while_watched() -> None:
    generator = random.Random(11)
    misses = 0
    for _ in range(200):
        values = [1.0 if generator.random() < 0.05 else 0.0 for _ in range(600)]
        # The running intersection is what a watcher sees, so one look at the end is a look at every step.
        misses += 0.05 not in stats.mean_bounded(values, lower=0, upper=1, alpha=0.05)
    assert misses <= 20


def test_bounded_mean_refuses_what_lies_outside() -> None:
    with pytest.raises(ValueError, match="outside"):
        stats.mean_bounded([0.5, float("nan")], lower=0, upper=1, alpha=0.05)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=50), st.lists(st.floats(-100, 100), max_size=50))
def test_moments_merge(one: list[float], other: list[float]) -> None:
    def of(values: list[float]) -> stats.Moments:
        return stats.Moments(len(values), math.fsum(values), math.fsum(v * v for v in values))

    merged, whole = of(one) + of(other), of(one + other)
    assert merged.mean == pytest.approx(whole.mean, abs=1e-6)
    assert merged.variance == pytest.approx(whole.variance, abs=1e-4)


@settings(max_examples=25)
@given(st.floats(0.005, 0.2), st.floats(1.3, 3.0))
def test_detection_takes_about_as_long_as_planned(p0: float, factor: float) -> None:
    """The plan's arithmetic against the sequence itself on expected counts."""
    p1, alpha = p0 * factor, 0.05
    n = stats.trials_to_detect(p0, p1, alpha=alpha)
    assert stats.proportion(math.ceil(p1 * n * 1.1), math.ceil(n * 1.1), alpha=alpha).lower > p0
    assert p0 in stats.proportion(math.floor(p1 * n * 0.8), math.floor(n * 0.8), alpha=alpha)
