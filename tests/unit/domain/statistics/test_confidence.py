"""Confidence sequences: their promise, simulated where it can be broken, and their shape by Hypothesis."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.statistics import confidence as stats
from airflow_provider_mlpipex.domain.statistics.detection import (
    deviation_of_detection,
    smallest_excess,
    trials_to_detect,
)

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
    n = trials_to_detect(p0, p1, alpha=alpha)
    assert stats.proportion(math.ceil(p1 * n * 1.1), math.ceil(n * 1.1), alpha=alpha).lower > p0
    assert p0 in stats.proportion(math.floor(p1 * n * 0.8), math.floor(n * 0.8), alpha=alpha)


ARMS = st.tuples(st.integers(0, 60), st.integers(0, 600)).map(lambda arm: (arm[0], arm[0] + arm[1]))


@settings(max_examples=40)
@given(ARMS, ARMS, st.floats(0.001, 0.2), st.sampled_from([0.0, 0.9, 1.0, 1.1, 3.0]))
def test_a_difference_holds_its_own_estimate_and_widens_as_alpha_falls(
    own: tuple[int, int], base: tuple[int, int], alpha: float, scale: float
) -> None:
    wide = stats.difference_of_proportions(*own, *base, alpha=alpha / 5, scale=scale)
    narrow = stats.difference_of_proportions(*own, *base, alpha=alpha, scale=scale)
    assert -scale - 1e-9 <= wide.lower <= narrow.lower <= narrow.upper <= wide.upper <= 1.0 + 1e-9
    if own[1] and base[1]:
        assert own[0] / own[1] - scale * base[0] / base[1] in narrow


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.floats(-0.2, 0.2))
def test_what_a_difference_exceeds_is_where_its_interval_begins(a: int, b: int, c: int, d: int, gap: float) -> None:
    own, base = (a, a + b), (c, c + d)
    lower = stats.difference_of_proportions(*own, *base, alpha=0.05).lower
    if abs(lower - gap) > 1e-6:
        assert stats.difference_exceeds(gap, *own, *base, alpha=0.05) == (lower > gap)


@given(ARMS, ARMS)
def test_a_difference_mirrors_its_arms(own: tuple[int, int], base: tuple[int, int]) -> None:
    one = stats.difference_of_proportions(*own, *base, alpha=0.05)
    other = stats.difference_of_proportions(*base, *own, alpha=0.05)
    assert one.lower == pytest.approx(-other.upper, abs=1e-6)


@pytest.mark.parametrize(("share", "p"), [(0.05, 0.05), (0.5, 0.05), (0.5, 0.3)])
def test_two_equal_arms_looked_at_again_and_again_differ_for_hardly_anybody(share: float, p: float) -> None:
    """At any share, without being told it: the product of two martingales needs none."""
    alpha, runs, misses = 0.1, 200, 0
    generator = random.Random(20130102)
    for _ in range(runs):
        arms = [[0, 0], [0, 0]]
        for trial in range(1, 601):
            arm = arms[generator.random() < share]
            arm[0] += generator.random() < p
            arm[1] += 1
            if trial % 40 == 0 and stats.difference_of_proportions(*arms[1], *arms[0], alpha=alpha).lower > 0:
                misses += 1
                break
    # 200 runs at 10 %: more than 31 has probability below 1 %.
    assert misses <= 31


def test_a_doubled_rate_beside_a_concurrent_arm_is_seen() -> None:
    assert stats.difference_of_proportions(200, 10_000, 100, 10_000, alpha=0.01).lower > 0
    assert 0.0 in stats.difference_of_proportions(200, 10_000, 200, 10_000, alpha=0.01)
    assert 0.0 in stats.difference_of_proportions(200, 10_000, 100, 10_000, alpha=0.01, scale=2.0)


EDGES = tuple(float(edge) for edge in range(0, 200, 5))


def above(values: list[float]) -> tuple[int, ...]:
    return tuple(sum(value > edge for value in values) for edge in EDGES)


@settings(max_examples=50)
@given(st.lists(st.floats(0.1, 300), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]), st.floats(0.001, 0.2))
def test_a_quantile_holds_what_was_observed(values: list[float], q: float, alpha: float) -> None:
    wide = stats.quantile(EDGES, above(values), len(values), q=q, alpha=alpha / 5)
    narrow = stats.quantile(EDGES, above(values), len(values), q=q, alpha=alpha)
    assert wide.lower <= narrow.lower <= narrow.upper <= wide.upper
    observed = sorted(values)[math.ceil(q * len(values)) - 1]
    assert observed in narrow


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_inverting_every_edge_at_the_whole_alpha_keeps_the_promise(q: float) -> None:
    """Forty edges, one promise: only the test of the true quantile may err."""
    alpha, runs, misses = 0.05, 200, 0
    truth = -50.0 * math.log(1 - q)  # of an exponential with mean 50
    generator = random.Random(20130103)
    for _ in range(runs):
        values: list[float] = []
        for _ in range(12):
            values += [generator.expovariate(1 / 50) for _ in range(40)]
            if truth not in stats.quantile(EDGES, above(values), len(values), q=q, alpha=alpha):
                misses += 1
                break
    assert misses <= 19


def test_a_quantile_of_many_is_narrow_and_of_few_is_unknown_above() -> None:
    generator = random.Random(5)
    values = [generator.uniform(0, 100) for _ in range(20_000)]
    many = stats.quantile(EDGES, above(values), len(values), q=0.95, alpha=0.01)
    few = stats.quantile(EDGES, above(values[:20]), 20, q=0.95, alpha=0.01)
    assert 89 < many.lower < 95.0 < many.upper <= 100
    assert few.upper == math.inf


MOMENTS = st.lists(st.floats(-3, 5), min_size=1, max_size=80)


@settings(max_examples=40)
@given(MOMENTS, st.floats(0.001, 0.2))
def test_the_mean_of_sums_holds_its_own_estimate(values: list[float], alpha: float) -> None:
    moments = stats.Moments(len(values), math.fsum(values), math.fsum(v * v for v in values))
    wide = stats.mean_of_bounded(moments, lower=-3, upper=5, alpha=alpha / 5)
    narrow = stats.mean_of_bounded(moments, lower=-3, upper=5, alpha=alpha)
    assert -3 <= wide.lower <= narrow.lower <= narrow.upper <= wide.upper <= 5
    assert narrow.lower - 1e-6 <= moments.mean <= narrow.upper + 1e-6


@pytest.mark.parametrize("p", [0.02, 0.5])
def test_the_mean_of_sums_keeps_the_promise_for_rare_and_for_common_values(p: float) -> None:
    alpha, runs, misses = 0.05, 200, 0
    generator = random.Random(20130104)
    for _ in range(runs):
        moments = stats.Moments()
        for _ in range(20):
            events = sum(generator.random() < p for _ in range(30))
            moments += stats.Moments(30, events, events)
            if p not in stats.mean_of_bounded(moments, lower=0, upper=1, alpha=alpha):
                misses += 1
                break
    assert misses <= 19


def test_the_mean_of_sums_is_not_much_wider_than_of_the_values_themselves() -> None:
    generator = random.Random(3)
    values = [generator.betavariate(2, 5) for _ in range(4000)]
    moments = stats.Moments(len(values), math.fsum(values), math.fsum(v * v for v in values))
    seen, summed = (
        stats.mean_bounded(values, lower=0, upper=1, alpha=0.05),
        stats.mean_of_bounded(moments, lower=0, upper=1, alpha=0.05),
    )
    assert summed.upper - summed.lower < 1.5 * (seen.upper - seen.lower)


def test_sums_that_no_values_can_have_are_refused() -> None:
    with pytest.raises(ValueError, match="mean"):
        stats.mean_of_bounded(stats.Moments(2, 9.0, 41.0), lower=0, upper=1, alpha=0.05)


@given(st.floats(0.005, 0.3), st.integers(20, 5000), st.floats(0.001, 0.1))
def test_the_smallest_excess_is_what_so_many_trials_detect(p0: float, trials: int, alpha: float) -> None:
    excess = smallest_excess(p0, trials, alpha=alpha)
    if excess is None:
        assert p0 in stats.proportion(trials, trials, alpha=alpha)
        return
    assert 0 < excess <= 1 - p0
    if p0 + excess < 0.999:
        assert trials_to_detect(p0, p0 + excess, alpha=alpha) == pytest.approx(trials, rel=0.01, abs=1)


def test_where_nothing_is_allowed_one_event_is_enough() -> None:
    assert smallest_excess(0.0, 200, alpha=0.01) == pytest.approx(1 / 200)


@pytest.mark.parametrize(("p0", "p1"), [(0.01, 0.03), (0.05, 0.1), (0.3, 0.5)])
def test_detection_varies_as_planned(p0: float, p1: float) -> None:
    """Nine in ten are found within the expected number and 1.28 standard deviations; hardly more, hardly fewer."""
    alpha, runs, found = 0.01, 300, 0
    trials = trials_to_detect(p0, p1, alpha=alpha)
    enough = math.ceil(trials + 1.2816 * deviation_of_detection(p0, p1, trials))
    generator = random.Random(20130111)
    for _ in range(runs):
        events = 0
        for trial in range(1, enough + 1):
            event = generator.random() < p1
            events += event
            if event and stats.log_evidence_against(p0, events, trial) > math.log(1 / alpha) and events / trial > p0:
                found += 1
                break
    assert 0.82 * runs <= found <= 0.99 * runs
