"""Users and requests counted once each, whoever asks how often, in memory that does not grow."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from airflow_provider_mlpipex.serving.envoy.split_counts import GROUPS, SplitCounts

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


def test_what_became_of_users_is_counted_by_groups_in_which_each_user_stays() -> None:
    split = counts()
    for second in range(40):
        split.answered("new", "always fails", failed=True, began=1000.0 + second)
        split.answered("new", f"u-{second}", failed=False, began=1000.0 + second)
    groups = split.groups("new")
    assert len(groups) == GROUPS and sum(requests for _, requests in groups) == 80
    assert [failed for failed, _ in groups if failed] == [40], "one group holds him"
    assert split.groups("old") == ()


def test_answers_of_another_plan_are_in_no_group() -> None:
    split = counts()
    split.answered("new", "u-1", failed=True, began=999.0)
    split.answered("older", "u-1", failed=True, began=1001.0)
    assert split.groups("new") == ()


def test_groups_have_nothing_to_do_with_where_users_are_sent() -> None:
    """Of users by their pseudonyms, whatever half of them: each group gets its part, by SciPy's chi-square test."""
    split = counts()
    for user in range(20_000):
        split.answered("old" if user % 2 else "new", f"{user:032x}", failed=False, began=1000.0)
    for slug in WEIGHTS:
        assert stats.chisquare([requests for _, requests in split.groups(slug)]).pvalue > 1e-4
