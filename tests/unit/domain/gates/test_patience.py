from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.patience import BUDGET, excludes, settle
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Timed
from tests.support.factories import NOON


@given(st.integers(1, 3000), st.floats(0.0005, 0.6), st.data())
def test_excluded_is_what_the_exact_interval_excludes(trials: int, share: float, data: st.DataObject) -> None:
    """Clopper and Pearson's upper end, from SciPy, lies below the share, and nothing else is excluded."""
    bad = data.draw(st.integers(0, trials))
    upper = scipy_stats.beta.ppf(1 - BUDGET, bad + 1, trials - bad) if bad < trials else 1.0
    if abs(upper - share) > 1e-9:
        assert excludes(bad, trials, share) == bool(upper < share)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_a_release_beyond_what_matters_passes_as_seldom_as_was_promised(share: float) -> None:
    """Every count of bad ones that would pass, by its probability, from SciPy."""
    for trials in (100, 1080, 20_000):
        passing = max((bad for bad in range(int(share * trials) + 1) if excludes(bad, trials, share)), default=-1)
        assert scipy_stats.binom.cdf(passing, trials, share) <= BUDGET
        assert scipy_stats.binom.cdf(passing + 1, trials, share) > BUDGET, "and no stricter than that"


@pytest.mark.parametrize(("bad", "trials", "share", "is_excluded"), [(0, 0, 0.5, False), (0, 2, 0.5, False)])
def test_of_next_to_nothing_nothing_is_excluded(bad: int, trials: int, share: float, is_excluded: bool) -> None:
    assert excludes(bad, trials, share) is is_excluded


def settled(gate: dict[str, Any], **evidence: Any) -> GateResult:
    read = Gate.model_validate({"name": "it", **gate})
    kept = Evidence(source=read.source, metric=read.metric.partition(".")[2], since=NOON, until=NOON, **evidence)
    return settle(read, judge(read, kept, now=NOON, alpha=0.001))


def counted(bad: int, requests: int, **more: Any) -> dict[str, Any]:
    return {
        "value": bad / requests,
        "samples": requests,
        "summary": Counted(events=bad, trials=requests),
        **more,
    }


ERRORS = {"metric": "canary.error_rate", "max": "1%"}


def test_a_hair_beyond_the_limit_passes_once_twice_of_it_is_excluded() -> None:
    assert settled(ERRORS, **counted(30, 2700)).verdict == "pass"
    assert settled(ERRORS, **counted(45, 2700)).verdict == "inconclusive", "1.7 %: 2 % may well be"
    assert settled(ERRORS, **counted(2, 120)).verdict == "inconclusive", "of 120 requests 2 % is not excluded"
    assert settled(ERRORS, **counted(500, 2700)).verdict == "fail"


def test_what_it_detects_is_what_must_be_excluded() -> None:
    tight = {**ERRORS, "detects": "0.2%"}
    assert settled(tight, **counted(25, 2700)).verdict == "inconclusive", "within, but 1.2 % is not excluded"
    assert settled({**ERRORS, "detects": "4%"}, **counted(3, 200)).verdict == "pass"


def test_too_little_is_no_pass_whatever_it_excludes() -> None:
    assert settled({**ERRORS, "min_samples": 5000}, **counted(0, 2700)).verdict == "inconclusive"
    assert settled({**ERRORS, "window": "30m"}, **counted(0, 2700)).verdict == "inconclusive"
    assert settled(ERRORS).verdict == "inconclusive"


def test_a_quantile_is_settled_by_the_share_of_slow_answers() -> None:
    def timed(slow: int, requests: int) -> dict[str, Any]:
        buckets = ((90.0, 100.0, requests - slow), (121.0, 130.0, slow))
        return {"value": 125.0, "samples": requests, "summary": Timed(buckets=buckets)}

    p95 = {"metric": "canary.latency_p95", "max": "120ms"}
    assert settled(p95, **timed(60, 1000)).verdict == "pass", "6 % are slower, 10 % is excluded"
    assert settled(p95, **timed(6, 100)).verdict == "inconclusive"
    assert settled({**p95, "detects": "20ms"}, **timed(60, 1000)).verdict == "pass", "nobody is slower than 140 ms"


def test_beside_the_baseline_twice_the_difference_must_be_excluded() -> None:
    beside = {"metric": "canary.error_rate", "within": "50%"}

    def arms(own: int, base: int) -> dict[str, Any]:
        return counted(
            own,
            200_000,
            baseline=base / 200_000,
            baseline_samples=200_000,
            baseline_summary=Counted(events=base, trials=200_000),
        )

    assert settled(beside, **arms(3040, 2000)).verdict == "pass"
    assert settled(beside, **arms(3960, 2000)).verdict in ("inconclusive", "fail")


def test_an_excuse_is_no_pass() -> None:
    read = Gate.model_validate({"name": "it", **ERRORS})
    kept = Evidence(source="canary", metric="error_rate", since=NOON, until=NOON, **counted(30, 2700))
    excused = judge(read, kept, now=NOON, alpha=0.001).model_copy(update={"excused": "both are broken"})
    assert settle(read, excused) == excused
