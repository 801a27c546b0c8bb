from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from airflow_provider_mlpipex.domain.gates.evidence import Evidence, LatencyHistogram
from airflow_provider_mlpipex.domain.statistics.confidence import Interval
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summary, Summed, Timed, excess, interval
from tests.support.factories import NOON

SUMMARY = TypeAdapter[Summary](Summary)
BOUNDS = (1.0, 2.0, 5.0, 10.0, 100.0)

dense = st.lists(st.integers(0, 40), min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1).map(
    lambda counts: LatencyHistogram(bounds_ms=BOUNDS, counts=tuple(counts))
)


@given(dense, st.floats(0.01, 0.99))
def test_a_histogram_without_its_empty_buckets_says_the_same(histogram: LatencyHistogram, q: float) -> None:
    filled = histogram.filled
    assert filled.total == histogram.total
    assert filled.quantile(q) == pytest.approx(histogram.quantile(q))
    assert all(count for _, _, count in filled.buckets)
    for edge, above in zip(filled.edges, filled.above, strict=True):
        bounds = (0.0, *BOUNDS)
        assert above == sum(count for lower, count in zip(bounds, histogram.counts, strict=True) if lower >= edge)


@given(dense)
def test_a_histogram_survives_json_to_its_unbounded_bucket(histogram: LatencyHistogram) -> None:
    again = SUMMARY.validate_json(SUMMARY.dump_json(histogram.filled))
    assert again == histogram.filled


@pytest.mark.parametrize(
    "summary",
    [
        Counted(events=3, trials=50),
        Summed(count=2, total=1.5, squares=1.25),
        Summed(count=0, total=0, squares=0, upper=1),
    ],
)
def test_summaries_survive_json(summary: Summary) -> None:
    assert SUMMARY.validate_python(summary.to_json()) == summary


@pytest.mark.parametrize(
    "payload",
    [
        {"kind": "counted", "events": 3, "trials": 2},
        {"kind": "counted", "events": -1, "trials": 2},
        {"kind": "timed", "buckets": [[2, 1, 3]]},
        {"kind": "timed", "buckets": [[0, 1, 0]]},
        {"kind": "timed", "buckets": [[0, 2, 1], [1, 3, 1]]},
        {"kind": "timed", "buckets": [[2, 3, 1], [0, 1, 1]]},
        {"kind": "guessed", "events": 1},
    ],
)
def test_summaries_of_nothing_that_happened_are_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SUMMARY.validate_python(payload)


def test_of_nothing_everything_is_possible() -> None:
    assert interval(Counted(events=0, trials=0), alpha=0.05) == Interval(0.0, 1.0)
    assert interval(Timed(), alpha=0.05, quantile=0.95) == Interval(0.0, math.inf)
    assert interval(Summed(count=0, total=0, squares=0), alpha=0.05) == Interval(-math.inf, math.inf)
    assert excess(Timed(), Timed(), scale=1.1, alpha=0.05, quantile=0.95) == Interval(-math.inf, math.inf)


def test_answers_slower_than_a_limit_are_bounded_by_the_bucket_that_holds_it() -> None:
    histogram = Timed(buckets=((0.0, 10.0, 5), (10.0, 20.0, 3), (50.0, None, 2)))
    assert histogram.slower_than(10.0) == (5, 5)
    assert histogram.slower_than(15.0) == (2, 5)
    assert histogram.slower_than(30.0) == (2, 2)
    assert histogram.slower_than(60.0) == (0, 2)


def test_a_histogram_needs_a_quantile_to_be_judged_by() -> None:
    with pytest.raises(ValueError, match="quantiles"):
        interval(Timed(), alpha=0.05)


def test_an_excess_over_nothing_of_the_baseline_is_the_value() -> None:
    own, base = Timed(buckets=((0.0, 10.0, 500),)), Timed(buckets=((20.0, 30.0, 500),))
    assert excess(own, base, scale=0.0, alpha=0.05, quantile=0.5) == interval(own, alpha=0.025, quantile=0.5)


def test_evidence_says_nothing_of_what_it_has_not() -> None:
    bare = Evidence(source="canary", metric="error_rate", value=0.1, since=NOON, until=NOON)
    kept = bare.model_copy(update={"summary": Counted(events=1, trials=10)})
    assert "summary" not in bare.to_json() and "baseline_summary" not in bare.to_json()
    assert kept.to_json()["summary"] == {"kind": "counted", "events": 1, "trials": 10}
    assert Evidence.model_validate(kept.to_json()) == kept
