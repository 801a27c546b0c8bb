"""Counts over time: whatever the window and however old, a sum of buckets is what counting one by one says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.serving.envoy.attempt_counts import (
    COARSE_S,
    FINE_S,
    KEPT_S,
    MINUTE_S,
    MINUTES_S,
    AttemptCounts,
    Bucket,
    Horizon,
)

NOW = 1_800_000_000
AGES = st.integers(0, 4 * 3600)


def counted(ages: list[int], now: int = NOW) -> tuple[AttemptCounts, Horizon]:
    """Attempts that ended so many seconds before ``now``, counted as they came, the oldest first."""
    counts, horizon = AttemptCounts(), Horizon()
    for age in sorted(ages, reverse=True):
        at = now - age
        if (later := Horizon.at(at)).fine > horizon.fine:
            horizon = later
            counts.fold(horizon)
        for bucket in counts.at(at, horizon):
            bucket.requests += 1
            bucket.latency[age % 7] = bucket.latency.get(age % 7, 0) + 1
    horizon = Horizon.at(now)
    counts.fold(horizon)
    return counts, horizon


def grain(second: int, horizon: Horizon) -> int:
    """When the bucket begins that an attempt of ``second`` lies in, as the window sees it."""
    if second < horizon.minutes:
        return second // COARSE_S * COARSE_S
    return second // MINUTE_S * MINUTE_S if second < horizon.fine else second


@settings(max_examples=200, deadline=None)
@given(st.lists(AGES, max_size=60), AGES, st.floats(0, 4 * 3600))
def test_a_window_holds_what_begins_in_it(ages: list[int], begins: int, lasts: float) -> None:
    counts, horizon = counted(ages)
    start, end = NOW - begins, NOW - begins + lasts
    inside = [age for age in ages if start <= grain(NOW - age, horizon) < end]
    whole = counts.sum(start, end, horizon)
    assert whole.requests == len(inside)
    assert whole.latency == {key: sum(age % 7 == key for age in inside) for key in {age % 7 for age in inside}}


@settings(max_examples=50, deadline=None)
@given(st.lists(AGES, max_size=60), AGES)
def test_windows_that_meet_share_nothing_and_lose_nothing(ages: list[int], where: int) -> None:
    counts, horizon = counted(ages)
    before, after = (counts.sum(*window, horizon) for window in ((0, NOW - where), (NOW - where, NOW + 1)))
    assert before.requests + after.requests == len(ages)


def test_what_is_held_does_not_grow_with_traffic_or_time() -> None:
    counts, horizon = counted([age for age in range(0, KEPT_S + 7200, 17) for _ in range(2)])
    assert len(counts) <= FINE_S / 17 + MINUTES_S / MINUTE_S + KEPT_S / COARSE_S + 30
    assert counts.sum(0, horizon.kept - COARSE_S, horizon) == Bucket()


def test_a_straggler_is_counted_in_whatever_is_still_held() -> None:
    counts, horizon = AttemptCounts(), Horizon.at(NOW)
    for age in (0, FINE_S + MINUTE_S, MINUTES_S + COARSE_S):
        for bucket in counts.at(NOW - age, horizon):
            bucket.errors += 1
    assert counts.sum(0, NOW + 1, horizon) == Bucket(errors=3)
