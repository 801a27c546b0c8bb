"""Users who ask often, and stay with a release: one who fails all day is one, in whichever arm he is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from airflow_provider_mlpipex.domain.gates.concurrent_baseline import in_trial, in_users
from airflow_provider_mlpipex.domain.gates.evidence import Evidence, Groups
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
from tests.support.factories import NOON

ALPHA = 0.005
GROUPS = 64
ERRORS = Gate.model_validate({"name": "errors", "metric": "canary.error_rate", "max": "1%"})


def verdict_of_requests(own: Groups, beside: Groups) -> GateResult:
    (bad, asked), (bad_beside, asked_beside) = (
        (sum(events for events, _ in side), sum(trials for _, trials in side)) for side in (own, beside)
    )
    evidence = Evidence(
        source="canary",
        metric="error_rate",
        value=bad / asked,
        samples=asked,
        summary=Counted(events=bad, trials=asked),
        baseline=bad_beside / asked_beside,
        baseline_samples=asked_beside,
        baseline_summary=Counted(events=bad_beside, trials=asked_beside),
        since=NOON,
        until=NOON,
    )
    return in_trial(ERRORS, judge(ERRORS, evidence, now=NOON, alpha=ALPHA), evidence, alpha=ALPHA, share=0.75)[0]


def verdict(own: Groups, beside: Groups) -> GateResult:
    return in_users(ERRORS, verdict_of_requests(own, beside), own, beside, alpha=ALPHA)


def even(share: float, *, requests: int = 100, seed: int = 1) -> Groups:
    failed = np.random.default_rng(seed).binomial(requests, share, GROUPS)
    return tuple((int(each), requests) for each in failed)


def with_one(groups: Groups, bad: int) -> Groups:
    """One user more, who asks and fails so often."""
    (failed, asked), *rest = groups
    return ((failed + bad, asked + bad), *rest)


def test_one_user_who_fails_all_day_takes_nothing_back() -> None:
    seen = verdict(with_one(even(0.004), 400), even(0.004, requests=300, seed=2))
    assert seen.verdict == "inconclusive"
    assert "failures come from few users, so 64 groups of users are counted" in seen.reason


def test_a_release_that_fails_many_users_goes_back_whoever_else_fails() -> None:
    assert verdict(even(0.05), even(0.004, requests=300, seed=2)).verdict == "fail"
    assert verdict(with_one(even(0.05), 400), even(0.004, requests=300, seed=2)).verdict == "fail"
    assert verdict(even(0.05), with_one(even(0.004, requests=300, seed=2), 400)).verdict == "fail"


def test_where_users_are_not_known_requests_count() -> None:
    own = with_one(even(0.004), 400)
    failed = verdict_of_requests(own, even(0.004, requests=300, seed=2))
    assert failed.verdict == "fail"
    assert in_users(ERRORS, failed, (), (), alpha=ALPHA) == failed
    assert in_users(ERRORS, failed, own[:8], (), alpha=ALPHA) == failed, "they are less than half of the requests"


@pytest.mark.parametrize("more", [{"metric": "canary.critical_errors", "max": 0}, {"metric": "canary.latency_p95"}])
def test_a_count_is_exact_and_of_a_latency_nobody_counts_users(more: dict[str, Any]) -> None:
    gate = Gate.model_validate({"name": "it", "metric": "", "max": "100ms", **more})
    failed = verdict(even(0.05), even(0.004, requests=300, seed=2))
    own = with_one(even(0.004), 400)
    assert in_users(gate, failed, own, own, alpha=ALPHA) == failed


def test_honest_releases_are_kept_although_few_users_make_most_failures() -> None:
    """200 users who ask by Zipf's law, of whom 2 % make all failures: half of the limit on average. Of 120 canaries
    that are looked at ten times, requests would take back 9."""
    chance, back = np.random.default_rng(3), {"requests": 0, "users": 0}
    for _ in range(120):
        asks = chance.permutation(1.0 / np.arange(1, 201))
        fails = np.where(chance.random(200) < 0.02, 0.5, 0.0)
        fails = np.minimum(1.0, fails * 0.005 * asks.sum() / max(1e-9, float((fails * asks).sum())))
        mine, group, taken = chance.random(200) < 0.25, chance.integers(0, GROUPS, 200), set()
        requests = chance.poisson(18_000 / 10 * asks / asks.sum(), (10, 200))
        failed, requests = (np.cumsum(each, axis=0) for each in (chance.binomial(requests, fails), requests))
        for look in range(10):
            arms: list[Groups] = []
            for arm in (mine, ~mine):
                counted = [
                    np.bincount(group[arm], weights=each[look][arm], minlength=GROUPS) for each in (failed, requests)
                ]
                arms.append(tuple((int(bad), int(asked)) for bad, asked in zip(*counted, strict=True)))
            if sum(asked for _, asked in arms[0]) == 0:
                continue
            result = verdict_of_requests(*arms)
            taken |= {"requests"} if result.verdict == "fail" else set()
            taken |= {"users"} if in_users(ERRORS, result, *arms, alpha=ALPHA).verdict == "fail" else set()
        for of in taken:
            back[of] += 1
    assert back["users"] == 0
    assert back["requests"] >= 6
