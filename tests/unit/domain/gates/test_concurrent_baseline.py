from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.gates.concurrent_baseline import (
    EXCUSE_ALPHA,
    Standing,
    after_promotion,
    breaks_too,
    compared_since,
    in_trial,
    is_no_worse,
    is_worse,
)
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.gates.watch_windows import beginnings
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Timed
from tests.support.factories import NOON

MINUTE = timedelta(minutes=1)
WATCH = 30 * MINUTE


def gate(metric: str = "serving.error_rate", **spec: Any) -> Gate:
    return Gate.model_validate({"name": "it", "metric": metric, **(spec or {"max": "2%"})})


def both(of: Gate, own: tuple[int, int], base: tuple[int, int] | None) -> Evidence:
    """Errors and requests of the new release, and of the previous one."""
    counts = of.counts
    beside: dict[str, Any] = {}
    if base is not None:
        beside = {
            "baseline": float(base[0]) if counts else base[0] / max(1, base[1]),
            "baseline_samples": base[1],
            "baseline_summary": Counted(events=base[0], trials=base[1]),
        }
    return Evidence(
        source="serving",
        metric=of.metric.partition(".")[2],
        value=float(own[0]) if counts else own[0] / own[1],
        samples=own[1],
        summary=Counted(events=own[0], trials=own[1]),
        since=NOON - MINUTE,
        until=NOON,
        **beside,
    )


def said(of: Gate, own: tuple[int, int], base: tuple[int, int] | None, share: float = 0.05) -> GateResult:
    return told(of, own, base, share)[0]


def told(
    of: Gate, own: tuple[int, int], base: tuple[int, int] | None, share: float = 0.05
) -> tuple[GateResult, Standing | None]:
    seen = both(of, own, base)
    alone = judge(of, seen, now=NOON, alpha=0.001)
    return after_promotion(of, alone, [seen], alpha=0.001, share=share)


def test_a_bad_release_fails_beside_a_good_control() -> None:
    failed = said(gate(), (570, 570), (0, 30))
    assert (failed.verdict, failed.excused) == ("fail", None)
    assert "beside it since 11:59:00 the previous release showed 0%, the new one 100%" in failed.reason


def test_an_outage_of_both_is_excused_and_says_so() -> None:
    outage = said(gate(), (570, 570), (30, 30))
    assert outage.verdict == "inconclusive"
    assert outage.excused is not None and "no better" in outage.excused
    assert outage.interval is not None and outage.interval[1] < 0, "the limit is broken all the same"


def test_what_keeps_its_limit_is_not_compared() -> None:
    kept = said(gate(), (1, 1000), (0, 50))
    assert (kept.verdict, kept.excused) == ("pass", None)


def test_what_a_control_cannot_tell_is_no_excuse() -> None:
    """Not proven worse is not proven no worse: the limit counts, and the watch may ask for a larger control."""
    result, untold = told(gate(), (30, 30), (0, 1))
    assert (result.verdict, result.excused, untold) == ("fail", None, "undecided")
    assert "not told from an outage" in result.reason
    assert told(gate(), (570, 570), (0, 30))[1] == "worse"


def test_a_control_shown_to_break_the_limit_is_an_excuse_whatever_its_size() -> None:
    assert said(gate(), (30, 30), (2, 2)).excused is not None


def test_what_was_shown_of_a_minute_stays_shown() -> None:
    """The control arm has had better minutes since, and no longer shows what it showed."""
    of, seen = gate(), both(gate(), (300, 5000), (20, 800))
    alone = judge(of, seen, now=NOON, alpha=0.001)

    def stands(excused_at: datetime | None) -> Standing | None:
        return after_promotion(of, alone, [], alpha=0.001, share=0.1, excused_at=excused_at)[1]

    assert stands(None) == stands(NOON - 2 * MINUTE) == "undecided"
    assert stands(NOON - MINUTE) == stands(NOON) == "excused-before"


def test_an_excess_that_matters_being_excluded_is_an_excuse() -> None:
    """2.6 % beside 2.55 %, of a limit of 2 %: broken, and no worse than the other by half the limit."""
    beside = said(gate(), (5200, 200_000), (5100, 200_000), share=0.5)
    assert beside.excused is not None
    worse = said(gate(), (8000, 200_000), (5100, 200_000), share=0.5)
    assert worse.verdict == "fail", "both break the limit, and the new release is worse"


def test_a_good_control_is_hardly_ever_taken_for_a_broken_one() -> None:
    """Looked at after every request of 400, at the limit itself."""
    generator, excused = random.Random(20130111), 0
    for _ in range(100):
        events = 0
        for trials in range(1, 401):
            event = generator.random() < 0.02
            events += event
            # Between two events the evidence against the limit only falls.
            if event and breaks_too(gate(), both(gate(), (1, 1), (events, trials))):
                excused += 1
                break
    # 100 runs at 5 %: more than 12 has probability below 0.2 %.
    assert excused <= 12 and EXCUSE_ALPHA == 0.05


@pytest.mark.parametrize(
    ("base", "verdict", "excused"),
    [((4, 4000), "fail", False), ((3000, 4000), "inconclusive", True), ((0, 0), "inconclusive", False)],
)
def test_a_trial_waits_until_the_candidate_is_shown_to_be_worse(
    base: tuple[int, int], verdict: str, excused: bool
) -> None:
    canary = gate("canary.error_rate", max="2%")
    seen = both(canary, (30, 40), base).model_copy(update={"source": "canary"})
    alone = judge(canary, seen, now=NOON, alpha=0.001)
    assert alone.verdict == "fail"
    # Of an arm that gets next to nothing nobody expects an answer.
    result, _ = in_trial(canary, alone, seen, alpha=0.001, share=0.95 if base[1] else 0.01)
    assert (result.verdict, result.excused is not None) == (verdict, excused)


def test_a_count_of_a_trial_is_exact_unless_the_current_release_breaks_it_too() -> None:
    zero = gate("canary.critical_errors", max=0)

    def said_of(base: tuple[int, int]) -> GateResult:
        seen = both(zero, (1, 40), base).model_copy(update={"source": "canary"})
        return in_trial(zero, judge(zero, seen, now=NOON, alpha=0.001), seen, alpha=0.001, share=0.95)[0]

    assert said_of((0, 4000)).verdict == said_of((0, 0)).verdict == "fail"
    assert said_of((90, 4000)).excused is not None


def test_what_has_no_other_release_to_ask_is_judged_by_itself() -> None:
    flips = gate("shadow.flip_rate", max="2%")
    seen = both(flips, (30, 40), None).model_copy(update={"source": "shadow"})
    alone = judge(flips, seen, now=NOON, alpha=0.001)
    assert in_trial(flips, alone, seen, alpha=0.001, share=0.5) == (alone, None)


def test_nothing_is_compared_across_a_change_of_the_shares() -> None:
    """Simpson's paradox: 1 % and then half of the requests to the control, the outage in the first part only. Either
    part shows two equal arms; together they show a bad new release."""
    changed = NOON + timedelta(minutes=10)
    begins = compared_since(NOON, NOON + timedelta(minutes=20), window=MINUTE, watch=WATCH, shares_since=changed)
    assert min(begins) == changed and list(begins) == sorted(set(begins), reverse=True)
    mixed = both(gate(), (990 * 3 // 10, 990 + 15_000), (3, 10 + 15_000))
    assert is_worse(gate(), mixed, alpha=0.001, share=0.5)
    assert compared_since(NOON, changed, window=None, watch=WATCH, shares_since=NOON - MINUTE)[-1] == NOON


def test_a_control_that_ought_to_have_answered_and_has_not_is_none() -> None:
    """5 % of 570 requests are 30: that not one of them came is no chance."""
    assert said(gate(), (570, 570), (0, 0)).verdict == "fail"
    assert said(gate(), (570, 570), None).verdict == "fail"
    assert told(gate(), (12, 12), (0, 0))[1] == "undecided", "of so few none need have come: not told"


def test_a_count_is_compared_by_its_share() -> None:
    zero = gate("serving.critical_errors", max=0)
    assert said(zero, (500, 500), (0, 30)).verdict == "fail"
    outage = said(zero, (500, 500), (30, 30))
    assert outage.verdict == "inconclusive" and "had 30 of 30, the new one 500 of 500" in outage.reason


def test_latency_is_compared_by_how_often_it_breaks_the_limit() -> None:
    p95 = gate("serving.latency_p95", max="250ms")

    def seen(own: float, base: float, requests: int = 400) -> bool:
        def timed(latency: float) -> Timed:
            return Timed(buckets=((latency - 1, latency, requests),))

        both_arms = Evidence(
            source="serving",
            metric="latency_p95",
            value=own,
            samples=400,
            summary=timed(own),
            baseline=base,
            baseline_samples=400,
            baseline_summary=timed(base),
            since=NOON,
            until=NOON,
        )
        return is_worse(p95, both_arms, alpha=0.001, share=0.5)

    assert seen(500.0, 100.0)
    assert not seen(500.0, 500.0)
    assert not seen(500.0, 900.0)
    assert seen(500.0, 100.0, requests=20), "long before anybody knows a p95 of 20 requests"
    assert not seen(250.5, 250.5), "a bucket that holds the limit says nothing"


def timed(own: tuple[int, int], base: tuple[int, int]) -> Evidence:
    """Requests of the new release and of the previous one: fast ones (20 ms), and slow ones (900 ms)."""

    def histogram(fast: int, slow: int) -> Timed:
        return Timed(buckets=tuple(b for b in ((19.0, 20.0, fast), (899.0, 900.0, slow)) if b[2]))

    return Evidence(
        source="serving",
        metric="latency_p95",
        value=histogram(*own).quantile(0.95),
        samples=sum(own),
        summary=histogram(*own),
        baseline=histogram(*base).quantile(0.95),
        baseline_samples=sum(base),
        baseline_summary=histogram(*base),
        since=NOON - MINUTE,
        until=NOON,
    )


P95 = gate("serving.latency_p95", max="250ms")
#: The new release alone: 40 % of its requests are slow.
SLOW = judge(P95, timed((600, 400), (100, 0)), now=NOON, alpha=0.001)


@pytest.mark.parametrize(
    ("share", "stands"), [(0.05, "uneven"), (0.1, "uneven"), (0.49, "uneven"), (0.5, "worse"), (0.95, "worse")]
)
def test_slowness_counts_only_beside_as_many_requests(share: float, stands: str) -> None:
    seen = timed((600, 400), (1000, 0))
    watched, told_after = after_promotion(P95, SLOW, [seen], alpha=0.001, share=share)
    assert (watched.verdict, told_after) == ("fail", stands)
    trial = gate("canary.latency_p95", max="250ms")
    tried, told_before = in_trial(trial, SLOW, seen, alpha=0.001, share=share)
    assert (tried.verdict, told_before) == ("fail", stands)
    assert ("not told from its load" in tried.reason) == (stands == "uneven")


def test_an_error_counts_whatever_the_shares() -> None:
    assert told(gate(), (570, 570), (0, 30), share=0.05)[1] == "worse"


@pytest.mark.parametrize(
    ("carried", "stands", "verdict"),
    [
        (timed((1, 0), (600, 400)), "as-broken", "inconclusive"),
        (timed((1, 0), (1000, 0)), "overloaded", "fail"),
        (None, "overloaded", "fail"),
    ],
)
def test_what_only_many_requests_break_is_held_against_what_carried_them_all(
    carried: Evidence | None, stands: str, verdict: str
) -> None:
    """With half of the requests each both are fast."""
    equal = timed((2000, 0), (2000, 0))
    result, told_of = after_promotion(P95, SLOW, [equal], alpha=0.001, share=0.5, before=lambda: carried)
    assert (told_of, result.verdict) == (stands, verdict)


def test_arms_that_were_always_equal_ask_for_no_other_minutes() -> None:
    """Slow in one window and fast over all: no worse than the other, and nothing was ever carried alone."""
    equal = timed((2000, 0), (2000, 0))
    assert after_promotion(P95, SLOW, [equal], alpha=0.001, share=0.5)[1] == "no-worse"


def test_a_bucket_that_holds_the_limit_excuses_nobody() -> None:
    p95 = gate("serving.latency_p95", max="250ms")
    held = Timed(buckets=((249.5, 250.5, 400),))
    seen = both(gate(), (1, 1), (1, 1)).model_copy(update={"summary": held, "baseline_summary": held})
    assert not breaks_too(p95, seen) and not is_no_worse(p95, seen)


def test_a_relative_gate_compares_already() -> None:
    relative = gate(within="20%")
    failed = said(relative, (570, 570), (0, 300))
    assert failed.verdict == "fail" and "beside it" not in failed.reason


def test_an_outage_looked_at_again_and_again_reverts_hardly_ever() -> None:
    """Both fail half of their requests; the limit is broken at once, and the comparison holds its alpha."""
    generator, alpha, reverted = random.Random(20130110), 0.05, 0
    for _ in range(150):
        arms = [[0, 0], [0, 0]]
        for request in range(600):
            arm = arms[generator.random() < 0.05]
            arm[0] += generator.random() < 0.5
            arm[1] += 1
            if request % 30 == 29:
                seen = both(gate(), (arms[0][0], arms[0][1]), (arms[1][0], arms[1][1]))
                if is_worse(gate(), seen, alpha=alpha, share=0.05):
                    reverted += 1
                    break
    # 150 runs at 5 %: more than 15 has probability below 1 %.
    assert reverted <= 15


@given(st.integers(1, 29), st.integers(0, 4000))
def test_comparisons_begin_on_the_grid_and_ever_twice_as_far_back(minutes: int, seconds: int) -> None:
    window, now = minutes * MINUTE, NOON + timedelta(seconds=seconds)
    begins = compared_since(NOON, now, window=window, watch=WATCH)
    grid = [NOON + k * window / 2 for k in range(beginnings(window, WATCH))]
    assert list(begins) == sorted(set(begins), reverse=True)
    assert set(begins) <= set(grid)
    assert begins[-1] == NOON and all(begin <= now for begin in begins)
    assert len(begins) <= 2 + beginnings(window, WATCH).bit_length()
    # Whenever a failure began, one comparison begins after it, or holds at most as much before it as after it.
    newest = begins[0]
    for began in (begin for begin in grid if begin <= newest):
        nearest = max((begin for begin in begins if begin <= began), default=NOON)
        assert began - nearest <= max(newest - began, timedelta(0))


def test_a_gate_without_a_window_is_compared_since_the_promotion_and_in_ever_shorter_ends() -> None:
    begins = compared_since(NOON, NOON + WATCH, window=None, watch=WATCH)
    assert begins[-1] == NOON and list(begins) == sorted(set(begins), reverse=True)
    assert NOON + WATCH - begins[0] <= MINUTE, "the newest holds the last minute alone"
    assert compared_since(NOON, NOON + MINUTE / 4, window=None, watch=WATCH) == (NOON,)
    assert compared_since(NOON, NOON + MINUTE / 3, window=None, watch=MINUTE / 3) == (NOON,)


@pytest.mark.parametrize("verdict", ["pass", "inconclusive", "error"])
def test_only_a_failure_is_looked_at_twice(verdict: str) -> None:
    seen = both(gate(), (570, 570), (30, 30))
    result = judge(gate(), seen, now=NOON, alpha=0.001).model_copy(update={"verdict": verdict})
    assert after_promotion(gate(), result, [seen], alpha=0.001, share=0.05) == (result, None)
