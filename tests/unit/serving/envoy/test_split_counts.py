"""Users and requests counted once each, whoever asks how often, in memory that does not grow."""

from __future__ import annotations

import random

import pytest

from airflow_provider_mlpipex.serving.envoy.split_counts import SplitCounts

WEIGHTS = {"old": 9_500, "new": 500}


def counts(**changes: float) -> SplitCounts:
    return SplitCounts(WEIGHTS, **{"since": 1000.0, "settles_s": 10.0} | changes)


def test_who_asks_often_is_counted_once() -> None:
    split = counts()
    for second in range(50):
        split.add("new", "u-1", is_user=True, began=1000.0 + second)
        split.add("old", f"r-{second}", is_user=False, began=1000.0 + second)
    assert split.until(1100.0) == ({"old": 50, "new": 1}, 1)


def test_what_another_plan_sent_and_what_it_does_not_know_is_not_counted() -> None:
    split = counts()
    split.add("old", "u-1", is_user=True, began=999.9)
    split.add("older", "u-2", is_user=True, began=1001.0)
    assert split.until(1100.0) == ({"old": 0, "new": 0}, 0)
    split.add("old", "u-1", is_user=True, began=1001.0)
    assert split.until(1100.0) == ({"old": 1, "new": 0}, 1)


def test_the_newest_are_left_out_until_the_slowest_of_them_must_have_ended() -> None:
    split = counts(settles_s=20.0)
    for second in range(1000, 1060):
        split.add("old", f"u-{second}", is_user=True, began=float(second))
    assert split.until(1060.0)[0]["old"] == 40
    assert split.until(1080.0)[0]["old"] == 60


def test_a_day_of_seconds_is_folded_and_nothing_is_lost() -> None:
    split = counts()
    for second in range(1000, 1000 + 86_400, 40):
        split.add("old", f"u-{second}", is_user=True, began=float(second))
        split.until(float(second))
    assert len(split._by_second) <= 5
    assert split.until(1e9)[0]["old"] == 86_400 / 40
    split.add("new", "late", is_user=True, began=2000.0)
    assert split.until(1e9)[0]["new"] == 1, "one that is told of late counts too"


@pytest.mark.parametrize("users", [20_000, 300_000])
def test_whom_a_full_sketch_overlooks_does_not_hang_on_where_he_was_sent(users: int) -> None:
    split, chance, sent = counts(), random.Random(3), {"old": 0, "new": 0}
    for user in range(users):
        slug = "new" if chance.random() < 0.05 else "old"
        sent[slug] += 1
        split.add(slug, f"user-{user}", is_user=True, began=1000.0)
    counted, of_users = split.until(1100.0)
    total = sum(counted.values())
    assert of_users == total and 0.8 * users < total <= users
    share, deviation = sent["new"] / users, (0.05 * 0.95 / total) ** 0.5
    assert abs(counted["new"] / total - share) < 4 * deviation
