"""Intervals of the worst of many slices and of distances between distributions: they hold the truth at every look."""

from __future__ import annotations

import math
import random
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_mlpipex.domain.drift.divergence import jensen_shannon, kolmogorov_smirnov, population_stability
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.statistics import confidence as statistics
from airflow_provider_mlpipex.domain.statistics import summaries
from airflow_provider_mlpipex.domain.statistics.paired_summaries import Apart, DistanceName, Worst
from tests.support.factories import NOON

ALPHA = 0.05
DISTANCES: tuple[DistanceName, ...] = get_args(DistanceName)


def between(distance: DistanceName, first: list[float], second: list[float]) -> float:
    one, other = np.array(first), np.array(second)
    if distance == "psi":
        return float(((other - one) * np.log(other / one)).sum())
    return float({"ks": kolmogorov_smirnov, "js": jensen_shannon}[distance](one, other))


def test_the_worst_of_one_slice_is_that_slice() -> None:
    worst = Worst(parts=((7, 50, 1.0),))
    assert summaries.interval(worst, alpha=ALPHA) == statistics.proportion(7, 50, alpha=ALPHA)


def test_the_worst_lies_no_lower_than_any_slice_and_no_higher_than_all_may() -> None:
    worst = Worst(parts=((50, 1000, 0.5), (3, 10, 0.5)))
    found = summaries.interval(worst, alpha=ALPHA)
    each = [statistics.proportion(50, 1000, alpha=ALPHA / 2), statistics.proportion(3, 10, alpha=ALPHA / 2)]
    assert found.lower == max(one.lower for one in each)
    assert found.upper == max(one.upper for one in each)


def test_no_slices_say_nothing() -> None:
    assert Worst(parts=()).interval(alpha=ALPHA) == statistics.Interval(0.0, 1.0)
    assert Worst(parts=((0, 0, 1.0),)).interval(alpha=ALPHA) == statistics.Interval(0.0, 1.0)


@pytest.mark.parametrize("parts", [[(3, 2, 0.5)], [(1, 2, 0.0)], [(1, 2, 0.6), (1, 2, 0.6)], [(-1, 2, 0.5)]])
def test_impossible_slices_are_refused(parts: list[tuple[int, int, float]]) -> None:
    with pytest.raises(ValidationError):
        Worst(parts=tuple(parts))


@pytest.mark.parametrize(("first", "second"), [([1], [1, 2]), ([], []), ([-1], [1])])
def test_sides_that_do_not_line_up_are_refused(first: list[int], second: list[int]) -> None:
    with pytest.raises(ValidationError):
        Apart(distance="psi", first=tuple(first), second=tuple(second))


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_sides_may_be_equal_and_far_ones_are_apart(distance: DistanceName) -> None:
    equal = Apart(distance=distance, first=(500,) * 4, second=(500,) * 4).interval(alpha=ALPHA)
    apart = Apart(distance=distance, first=(2000, 0, 0, 0), second=(0, 0, 0, 2000)).interval(alpha=ALPHA)
    assert equal.lower == 0.0
    assert apart.lower > 0.8
    assert equal.upper < apart.upper


@pytest.mark.parametrize("distance", DISTANCES)
def test_without_rows_nothing_is_known(distance: DistanceName) -> None:
    found = Apart(distance=distance, first=(0, 0), second=(0, 0)).interval(alpha=ALPHA)
    assert found.lower == 0.0
    assert found.upper == (math.inf if distance == "psi" else pytest.approx(1.0))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("second", [[0.25, 0.25, 0.25, 0.25], [0.1, 0.2, 0.3, 0.4]])
def test_the_true_distance_is_inside_at_every_look(distance: DistanceName, second: list[float]) -> None:
    chance = random.Random(11)
    first = [0.25] * 4
    truth = between(distance, first, second)
    missed = 0
    for _ in range(60):
        counts = [[0] * 4, [0] * 4]
        inside = True
        for _ in range(8):
            for side, shares in zip(counts, (first, second), strict=True):
                for group in chance.choices(range(4), weights=shares, k=150):
                    side[group] += 1
            apart = Apart(distance=distance, first=tuple(counts[0]), second=tuple(counts[1]))
            found = apart.interval(alpha=ALPHA)
            inside = inside and found.lower <= truth <= found.upper
        missed += not inside
    assert missed <= ALPHA * 60


@pytest.mark.parametrize("distance", DISTANCES)
@given(counts=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=6))
def test_what_was_seen_is_inside(distance: DistanceName, counts: list[tuple[int, int]]) -> None:
    first, second = (list(map(float, side)) for side in zip(*counts, strict=True))
    if not sum(first) or not sum(second):
        return
    found = Apart(distance=distance, first=tuple(map(int, first)), second=tuple(map(int, second))).interval(alpha=0.01)
    seen = {"psi": population_stability, "ks": kolmogorov_smirnov, "js": jensen_shannon}[distance](
        np.array(first), np.array(second)
    )
    assert found.lower - 1e-9 <= float(seen) <= found.upper + 1e-9


@pytest.mark.parametrize(
    "summary", [Worst(parts=((1, 10, 0.25), (0, 3, 0.25))), Apart(distance="ks", first=(1, 2), second=(2, 1))]
)
def test_evidence_keeps_them_as_json(summary: Worst | Apart) -> None:
    evidence = Evidence(source="shadow", metric="psi", since=NOON, until=NOON, summary=summary)
    assert Evidence.model_validate(evidence.to_json()) == evidence


def test_a_difference_of_latencies_may_lie_below_nothing() -> None:
    faster = summaries.Timed(buckets=((-6.0, -5.0, 5000),))
    found = summaries.interval(faster, alpha=ALPHA, quantile=0.95)
    assert -6.0 <= found.lower <= found.upper <= -5.0
    slower = summaries.Timed(buckets=((5.0, 6.0, 1),))
    assert summaries.interval(slower, alpha=ALPHA, quantile=0.95).lower == 0.0
