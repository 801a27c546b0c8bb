"""Looks at a trial, at a fresh promotion, and at whatever serves: what passes, what waits, what returns to the last."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_mlpipex.domain.errors import (
    IllegalTransition,
    LedgerConflict,
    PlaneUnavailable,
    ReleaseNotReady,
    RolloutOnHold,
)
from airflow_provider_mlpipex.domain.gates.patience import PATIENCE
from airflow_provider_mlpipex.domain.rollout.events import (
    GatesJudged,
    RollbackDecided,
    RolloutHeld,
    RolloutResumed,
    WatchPassed,
)
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import hold
from airflow_provider_mlpipex.services.rollout.health import check_health
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, SHADOW_S, STEP_S, WATCH_S, World

SPANNING_ONLY = (
    "        - {name: errors, metric: canary.error_rate, max: 1%, min_samples: 100}\n",
    "",
)
ROLLED_BACK = ("risk-pager", "production/fraud-scorer rolled back")


@pytest.fixture
def world() -> World:
    return World()


def verdicts(seen: WatchResult) -> dict[str, str]:
    return {result.gate: result.verdict for result in seen.results}


def health(world: World) -> WatchResult:
    return check_health(world.platform, ENDPOINT)


# Shadow.


def test_a_slow_shadow_is_rolled_back_before_it_answers_anybody(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    seen = world.watch("run-2", "shadow", seconds=SHADOW_S, latency_ms=180.0)
    assert (seen.status, seen.verdict) == ("ended", "fail")
    assert "latency" in seen.cause and "120ms" in seen.cause
    assert world.weights == {first.id: 10_000}
    assert all(plan.candidate is None for plan in world.memory.plane.applied)
    assert world.alerts == [ROLLED_BACK]
    # Traffic first, then the evidence: it is in the ledger all the same.
    judged = world.events(GatesJudged)[-1]
    assert (judged.rollout_id, judged.stage, judged.verdict) == ("run-2", "shadow", "fail")


def test_a_shadow_waits_for_its_pairs(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    candidate = world.release("1.1.0").id
    for _ in range(SHADOW_S // LOOK_EVERY):
        world.memory.plane.serve(ENDPOINT, candidate, requests=100)
        world.memory.plane.answer_pairs(ENDPOINT, primary=world.state.current.id, shadow=candidate, pairs=10)
        world.clock.advance(LOOK_EVERY)
        seen = world.look("run-2", "shadow")
    assert seen.status == "watching"
    assert verdicts(seen) == {"latency-p95-max": "pass", "min-pairs": "inconclusive"}
    world.memory.plane.answer_pairs(ENDPOINT, primary=world.state.current.id, shadow=candidate, pairs=400)
    world.clock.advance(LOOK_EVERY)
    assert world.look("run-2", "shadow").status == "passed"


def test_lossy_prediction_logs_decide_nothing(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    world.memory.plane.drop_predictions(ENDPOINT, world.release("1.1.0").id, 500)
    seen = world.watch("run-2", "shadow", seconds=SHADOW_S)
    assert seen.status == "watching"
    assert verdicts(seen)["min-pairs"] == "inconclusive"


# Beside the current release.


@pytest.mark.parametrize(("stage", "step", "to"), [("shadow", -1, "shadow"), ("canary", 0, "canary-0")])
def test_a_slow_machine_takes_no_trial_back(stage: str, step: int, to: str) -> None:
    """Both releases answer in 363 ms, three times the limit."""
    world = World(("error_rate, max: 1%, min_samples: 100", "latency_p95, max: 120ms, min_samples: 100"))
    world.first_release()
    world.bring("run-2", "1.1.0", to=to)  # type: ignore[arg-type]
    for _ in range(6):
        for release in (world.state.current.id, world.release("1.1.0").id):
            world.memory.plane.serve(ENDPOINT, release, requests=200, latency_ms=363.0)
        world.clock.advance(LOOK_EVERY)
        seen = world.look("run-2", stage, step)  # type: ignore[arg-type]
    assert (seen.status, seen.verdict) == ("watching", "inconclusive")
    assert [title for _, title in world.alerts if "the current release is no better" in title], "on-call is told, once"
    assert len(world.alerts) == 1
    # What is slower still goes back.
    seen = world.watch("run-2", stage, step, seconds=STEP_S, latency_ms=900.0)  # type: ignore[arg-type]
    assert seen.status == "ended"


def test_an_outage_takes_no_canary_back_and_it_waits_for_a_person_while_both_are_broken(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    seen = world.watch("run-2", "canary", 1, seconds=PATIENCE * STEP_S + LOOK_EVERY, outage=0.3)
    assert seen.status == "watching" and seen.cause.startswith("on hold") and "no better" in seen.cause
    assert world.state.results.get("run-2") is None


def test_the_last_step_keeps_a_little_on_the_current_release_until_it_is_judged(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-2")
    assert world.weights == {first.id: 500, world.release("1.1.0").id: 9_500}
    assert world.watch("run-2", "canary", 2, seconds=STEP_S).status == "passed"
    world.promote("run-2")
    assert world.weights == {world.release("1.1.0").id: 10_000}


# Slow first answers.


@pytest.mark.parametrize(("ignored", "status"), [("", "ended"), ("      ignore_first: 1m\n", "passed")])
def test_slow_first_answers_end_a_canary_that_does_not_look_away(ignored: str, status: str) -> None:
    latency = ("error_rate, max: 1%, min_samples: 100", "latency_p95, max: 120ms, min_samples: 100")
    world = World(latency, ("      step_duration: 15m\n", f"      step_duration: 15m\n{ignored}"))
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    first = world.watch("run-2", "canary", 0, seconds=LOOK_EVERY, latency_ms=1_500.0)
    seen = first if first.status == "ended" else world.watch("run-2", "canary", 0, seconds=2 * STEP_S)
    assert seen.status == status


def test_a_candidate_that_stays_slow_goes_back_when_it_is_looked_at() -> None:
    latency = ("error_rate, max: 1%, min_samples: 100", "latency_p95, max: 120ms, min_samples: 100")
    world = World(latency, ("      step_duration: 15m\n", "      step_duration: 15m\n      ignore_first: 1m\n"))
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert world.watch("run-2", "canary", 0, seconds=LOOK_EVERY, latency_ms=1_500.0).status == "watching"
    assert world.watch("run-2", "canary", 0, seconds=STEP_S, latency_ms=1_500.0).status == "ended"


def test_errors_at_first_are_errors_all_the_same() -> None:
    world = World(("      step_duration: 15m\n", "      step_duration: 15m\n      ignore_first: 1m\n"))
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert world.watch("run-2", "canary", 0, seconds=LOOK_EVERY, failing=0.5).status == "ended"


# The split.


def canary_that_gets(world: World, share: float, *, users: int = 3000, **traffic: float) -> WatchResult:
    """A first step of 5 % to whom ``share`` of the users come, looked at for as long as it takes to pass."""
    plan, candidate = world.memory.plane.plan_in_force(ENDPOINT), world.release("1.1.0").id
    assert plan is not None
    for _ in range(STEP_S // LOOK_EVERY + 1):
        part = users // (STEP_S // LOOK_EVERY)
        own = round(share * part)
        world.memory.plane.send_users(ENDPOINT, {candidate: own, plan.current: part - own})
        world.serve(LOOK_EVERY, **traffic)
        world.clock.advance(LOOK_EVERY)
        seen = world.look("run-2", "canary", 0)
        if seen.status != "watching":
            break
    return seen


WRONG_SPLIT = ("risk-pager", "production/fraud-scorer: requests are not split as planned, in step 1 of its canary")


def test_a_canary_that_gets_other_users_than_planned_is_judged_by_nothing_and_on_call_is_told_once(
    world: World,
) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    seen = canary_that_gets(world, 0.02)
    assert (seen.status, seen.verdict) == ("watching", "error")
    assert set(verdicts(seen).values()) == {"error"}
    assert "where 5% were planned" in seen.results[0].reason
    assert world.alerts == [WRONG_SPLIT]


def test_a_canary_that_gets_its_share_of_users_passes(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert canary_that_gets(world, 0.05).status == "passed"
    assert world.alerts == []


def test_a_bad_candidate_goes_back_however_wrong_the_split_is(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    seen = canary_that_gets(world, 0.02, failing=0.3)
    assert seen.status == "ended" and world.alerts[-1] == ROLLED_BACK


def test_nothing_excuses_a_broken_limit_while_the_split_is_wrong(world: World) -> None:
    """Both releases fail; but who has come to the candidate are others than those who have come to current."""
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert canary_that_gets(world, 0.02, users=30_000, outage=0.3).status == "ended"


# Canary.


def test_a_canary_gate_can_look_back_over_all_its_steps(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-2")
    began = world.state.rollout.canary_since
    seen = world.watch("run-2", "canary", 2, seconds=STEP_S)
    assert seen.status == "passed"
    windows = {result.gate: result.evidence.until - result.evidence.since for result in seen.results}
    assert windows["errors"] == timedelta(seconds=STEP_S), "a gate without a long window judges its own step"
    assert windows["critical-errors-max-30m"] == timedelta(seconds=3 * STEP_S)
    samples = {result.gate: result.evidence.samples for result in seen.results}
    assert samples["critical-errors-max-30m"] == sum(500 * STEP_S // LOOK_EVERY * s // 100 for s in (5, 50, 95))
    assert began == world.clock.now() - timedelta(seconds=3 * STEP_S)


def test_a_gate_whose_window_fits_into_a_step_does_not_look_beyond_it() -> None:
    world = World(("max: 1%, min_samples: 100}", "max: 1%, min_samples: 100, window: 10m}"))
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    seen = world.watch("run-2", "canary", 1, seconds=2 * LOOK_EVERY)
    windows = {result.gate: result.evidence.until - result.evidence.since for result in seen.results}
    assert windows["errors"] == timedelta(seconds=2 * LOOK_EVERY)
    assert windows["critical-errors-max-30m"] == timedelta(seconds=STEP_S + 2 * LOOK_EVERY)


def test_a_step_does_not_wait_for_a_window_that_spans_the_steps(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    seen = world.watch("run-2", "canary", 0, seconds=STEP_S)
    assert seen.status == "passed"
    assert verdicts(seen) == {"critical-errors-max-30m": "inconclusive", "errors": "pass"}


def test_a_canary_whose_gates_all_span_it_goes_on_by_what_it_has_seen() -> None:
    world = World(SPANNING_ONLY)
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert world.watch("run-2", "canary", 0, seconds=STEP_S).status == "passed"
    world.canary("run-2", 1)
    assert world.watch("run-2", "canary", 1, seconds=STEP_S).status == "passed"
    world.canary("run-2", 2)
    seen = world.watch("run-2", "canary", 2, seconds=STEP_S)
    assert (seen.status, verdicts(seen)) == ("passed", {"critical-errors-max-30m": "pass"})


def test_a_gate_over_the_canary_does_not_pass_without_evidence() -> None:
    world = World(SPANNING_ONLY)
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    for _ in range(STEP_S // LOOK_EVERY):
        world.clock.advance(LOOK_EVERY)
        seen = world.look("run-2", "canary", 0)
    assert (seen.status, seen.verdict) == ("watching", "inconclusive")


@pytest.mark.parametrize("step", [0, 1, 2])
def test_one_critical_error_ends_the_canary_at_any_step(world: World, step: int) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to=f"canary-{step}")  # type: ignore[arg-type]
    world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=5, errors=1)
    world.clock.advance(1)
    seen = world.look("run-2", "canary", step)
    assert seen.status == "ended"
    assert verdicts(seen) == {"critical-errors-max-30m": "fail", "errors": "inconclusive"}
    assert world.weights == {first.id: 10_000}


def test_a_step_is_held_up_while_a_spanning_gate_is_off_course() -> None:
    world = World(("zero critical errors in a 30-minute canary window", "error rate at most 0.1% over 30m"))
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    # 0.2 % of the first step's requests: less than the other gate's 1 %, and more than this one's, but no proof.
    world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=50, errors=1)
    seen = world.watch("run-2", "canary", 0, seconds=STEP_S + LOOK_EVERY)
    assert (seen.status, verdicts(seen)) == ("watching", {"error-rate-max-30m": "inconclusive", "errors": "pass"})
    assert world.weights[world.release("1.1.0").id] == 500, "no more users against the evidence"
    assert world.watch("run-2", "canary", 0, seconds=PATIENCE * STEP_S).status == "passed", "1 of 1,000 by then"
    assert world.clock.now() - world.state.rollout.since < PATIENCE * timedelta(seconds=STEP_S)


def test_a_step_is_not_held_up_by_a_count_that_it_still_has_to_reach() -> None:
    at_least = "{name: seen, metric: canary.requests, min: 10000, window: 30m}"
    world = World(("zero critical errors in a 30-minute canary window", at_least))
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert world.watch("run-2", "canary", 0, seconds=STEP_S).status == "passed"
    world.canary("run-2", 1)
    assert world.watch("run-2", "canary", 1, seconds=STEP_S).status == "passed"
    world.canary("run-2", 2)
    seen = world.watch("run-2", "canary", 2, seconds=STEP_S)
    assert (seen.status, verdicts(seen)["seen"]) == ("passed", "pass")


def test_other_peoples_errors_are_not_the_candidates(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.memory.plane.serve(ENDPOINT, first.id, requests=1000, errors=900)
    assert world.watch("run-2", "canary", 0, seconds=STEP_S).status == "passed"


def without_traffic(world: World, *, seconds: float) -> WatchResult:
    seen = WatchResult(status="watching")
    for _ in range(int(seconds / LOOK_EVERY)):
        world.clock.advance(LOOK_EVERY)
        seen = world.look("run-2", "canary", 0)
    return seen


def test_a_trial_that_nobody_can_judge_waits_for_a_person(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    weights = world.weights
    assert without_traffic(world, seconds=PATIENCE * STEP_S - LOOK_EVERY).cause == ""
    assert world.state.rollout.hold is None
    seen = without_traffic(world, seconds=3 * LOOK_EVERY)
    assert (seen.status, seen.verdict) == ("watching", "inconclusive")
    assert "on hold: canary still inconclusive after 3 times its duration" in seen.cause and "no evidence" in seen.cause
    assert world.weights == weights, "traffic stays"
    (alert,) = world.alerts
    assert alert[0] == "risk-pager" and alert[1].endswith("a person decides"), "on-call is asked once"
    assert world.watch("run-2", "canary", 0, seconds=STEP_S).status == "watching", "nothing goes on by itself"
    with pytest.raises(RolloutOnHold):
        world.canary("run-2", 1)


def test_thin_traffic_gives_a_trial_more_time_before_a_person_is_asked() -> None:
    """At 6 a second three times 15 minutes of 5 % would leave 12 % of fair releases undecided, 4.5 times leave 2 %."""
    world = World(("expected_rate: 10/s", "expected_rate: 6/s"))
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert without_traffic(world, seconds=4.5 * STEP_S - LOOK_EVERY).cause == ""
    assert world.state.rollout.hold is None
    assert "after 4.5 times its duration" in without_traffic(world, seconds=3 * LOOK_EVERY).cause


def test_at_the_end_of_its_time_a_trial_passes_where_an_excess_that_matters_is_excluded(world: World) -> None:
    """1.1 % of 5,625 requests fail, of which 1 % may: never within, never beyond; 2 % is excluded."""
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    seen = WatchResult(status="watching")
    began, looks = world.clock.now(), 0
    while seen.status == "watching" and looks < PATIENCE * STEP_S / LOOK_EVERY:
        world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=104, errors=1 + (looks % 7 == 0))
        world.memory.plane.serve(ENDPOINT, world.state.current.id, requests=104, errors=1 + (looks % 7 == 0))
        world.clock.advance(LOOK_EVERY)
        seen, looks = world.look("run-2", "canary", 1), looks + 1
        if world.state.rollout and world.state.rollout.hold:
            break
    errors = next(result for result in seen.results if result.gate == "errors")
    assert world.clock.now() - began == PATIENCE * timedelta(seconds=STEP_S)
    assert errors.verdict == "pass" and "twice the share that it allows is excluded" in errors.reason


def test_a_manifest_may_take_back_what_nobody_can_judge() -> None:
    world = World(("      step_duration: 15m\n", "      step_duration: 15m\n      undecided: roll-back\n"))
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    seen = without_traffic(world, seconds=PATIENCE * STEP_S)
    assert (seen.status, seen.verdict) == ("ended", "inconclusive")
    assert world.weights == {first.id: 10_000}
    assert world.state.results["run-2"].ending == "rolled-back"


def held(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    without_traffic(world, seconds=PATIENCE * STEP_S)
    assert world.state.rollout.hold is not None


def test_a_person_lets_a_held_trial_wait_on(world: World) -> None:
    held(world)
    hold.resume(world.platform, endpoint=ENDPOINT, rollout_id="run-2", reviewer="ada")
    assert without_traffic(world, seconds=PATIENCE * STEP_S - LOOK_EVERY).cause == "", "patience begins anew"
    assert world.watch("run-2", "canary", 0, seconds=LOOK_EVERY).status == "watching", "25 of 100 requests"
    assert len(world.alerts) == 2, "another hold is asked about again"


def test_a_person_lets_a_held_step_pass(world: World) -> None:
    held(world)
    for _ in range(2):
        hold.resume(world.platform, endpoint=ENDPOINT, rollout_id="run-2", reviewer="ada", accept=True)
    assert world.look("run-2", "canary", 0).status == "passed"
    world.canary("run-2", 1)
    with pytest.raises(IllegalTransition):
        hold.resume(world.platform, endpoint=ENDPOINT, rollout_id="run-2", reviewer="ada", accept=True)
    (resumed,) = world.events(RolloutResumed)
    assert (resumed.reviewer, resumed.accepted) == ("ada", True)


def test_a_held_trial_that_fails_is_taken_back(world: World) -> None:
    held(world)
    seen = world.watch("run-2", "canary", 0, seconds=STEP_S, failing=0.5)
    assert (seen.status, seen.verdict) == ("ended", "fail")
    assert world.state.results["run-2"].ending == "rolled-back"


def test_a_person_stops_a_rollout_and_it_stays_stopped(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    for _ in range(2):
        hold.hold(world.platform, endpoint=ENDPOINT, rollout_id="run-2", cause="a demo", by="ada")
    assert world.watch("run-2", "canary", 0, seconds=2 * STEP_S).cause == "on hold: a demo"
    hold.resume(world.platform, endpoint=ENDPOINT, rollout_id="run-2", reviewer="ada")
    assert world.watch("run-2", "canary", 0, seconds=LOOK_EVERY).status == "passed"
    assert len(world.events(RolloutHeld)) == 1


def test_a_watch_that_a_person_has_stopped_does_not_end(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    hold.hold(world.platform, endpoint=ENDPOINT, rollout_id="run-2", cause="a demo", by="ada")
    assert world.watch("run-2", "watch", seconds=2 * WATCH_S).status == "watching"
    hold.resume(world.platform, endpoint=ENDPOINT, rollout_id="run-2", reviewer="ada")
    assert world.watch("run-2", "watch", seconds=LOOK_EVERY).status == "passed"


def test_an_undecided_trial_may_still_pass_before_patience_ends(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    for _ in range(2 * STEP_S // LOOK_EVERY):
        world.clock.advance(LOOK_EVERY)
        assert world.look("run-2", "canary", 0).status == "watching"
    assert world.watch("run-2", "canary", 0, seconds=STEP_S - LOOK_EVERY).status == "passed"


# What cannot be measured.


def test_incomplete_telemetry_is_an_error_and_never_a_pass(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert world.watch("run-2", "canary", 0, seconds=STEP_S - LOOK_EVERY).status == "watching"
    world.memory.plane.telemetry_trouble = "the log was cut"
    seen = world.watch("run-2", "canary", 0, seconds=LOOK_EVERY)
    assert (seen.status, seen.verdict) == ("watching", "error")
    assert all("the log was cut" in result.reason for result in seen.results)
    world.memory.plane.telemetry_trouble = ""
    assert world.watch("run-2", "canary", 0, seconds=LOOK_EVERY).status == "passed"


def test_a_trial_that_stays_unmeasurable_is_rolled_back(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    world.memory.plane.telemetry_trouble = "the log was cut"
    seen = world.watch("run-2", "shadow", seconds=PATIENCE * SHADOW_S)
    assert (seen.status, seen.verdict) == ("ended", "error")
    assert "still error after 3 times" in seen.cause
    assert set(verdicts(seen).values()) == {"error"}, "the paired answers, too"
    assert world.weights == {first.id: 10_000}


def test_telemetry_that_does_not_answer_is_an_error(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.watch("run-2", "canary", 0, seconds=STEP_S - LOOK_EVERY)
    away = PlaneUnavailable("plane", limit="an answer", remedy="wait")
    for _ in range(2):  # one measurement a window
        world.plane.once("before", "telemetry", away)
    seen = world.watch("run-2", "canary", 0, seconds=LOOK_EVERY)
    assert (seen.status, seen.verdict, set(verdicts(seen).values())) == ("watching", "error", {"error"})


def test_a_plane_that_is_away_during_a_trial_fails_the_look(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    before = world.state
    world.memory.plane.away = True
    with pytest.raises(PlaneUnavailable):
        world.look("run-2", "canary", 0)
    assert world.state == before


def test_a_plane_that_is_away_during_a_watch_is_an_error_and_never_a_pass(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    assert world.watch("run-2", "watch", seconds=WATCH_S - LOOK_EVERY).status == "watching"
    world.memory.plane.away = True
    seen = world.watch("run-2", "watch", seconds=10 * LOOK_EVERY)
    assert (seen.status, seen.verdict) == ("watching", "error")
    assert world.state.rollout is not None, "the window is not over before somebody could look"
    world.memory.plane.away = False
    assert world.watch("run-2", "watch", seconds=2 * LOOK_EVERY).status == "passed"
    assert world.events(WatchPassed)[-1].verdict == "pass"


def test_a_watch_that_stays_unmeasurable_ends_with_an_alert(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    world.memory.plane.telemetry_trouble = "the log was cut"
    seen = world.watch("run-2", "watch", seconds=PATIENCE * WATCH_S)
    assert (seen.status, seen.verdict) == ("passed", "error")
    assert world.events(WatchPassed)[-1].verdict == "error"
    assert world.alerts == [("risk-pager", "production/fraud-scorer was promoted and could not be watched")]


def test_a_clock_behind_the_ledger_judges_nothing_and_holds_no_lease(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    lease_ends = world.memory.plane._endpoints[ENDPOINT].lease_ends
    world.clock.advance(-20)
    world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=500)
    seen = world.look("run-2", "canary", 0)
    assert (seen.status, seen.verdict, seen.cause) == ("watching", "error", "the clock is 20s behind the ledger")
    assert world.memory.plane._endpoints[ENDPOINT].lease_ends == lease_ends


# The lease.


def test_looks_hold_the_lease(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    weights = world.weights
    for _ in range(10):
        world.clock.advance(LOOK_EVERY)
        world.look("run-2", "canary", 0)
    assert world.weights == weights


def test_a_trial_that_nobody_watches_is_taken_back_by_the_plane_and_the_next_look_says_so(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    world.clock.advance(61)
    assert world.weights == {first.id: 10_000}, "nobody had to do anything"
    seen = world.look("run-2", "canary", 1)
    assert seen.status == "ended" and "watcher went silent" in seen.cause
    (decided,) = world.events(RollbackDecided)
    assert decided.to_release == first.id
    assert world.state.results["run-2"].ending == "rolled-back"
    assert world.alerts == [ROLLED_BACK]


def test_a_lease_that_runs_out_within_a_look_is_not_judged_a_pass(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    assert world.watch("run-2", "canary", 0, seconds=STEP_S - LOOK_EVERY).status == "watching"
    world.serve(LOOK_EVERY)
    world.clock.advance(LOOK_EVERY)
    world.plane.once("before", "renew", lambda: world.clock.advance(61))
    seen = world.look("run-2", "canary", 0)
    assert (seen.status, seen.results) == ("watching", ())
    assert "canary-0" not in world.state.rollout.verdicts
    assert world.look("run-2", "canary", 0).status == "ended"


def test_a_passed_stage_is_held_until_the_next_begins(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    assert world.watch("run-2", "shadow", seconds=SHADOW_S).status == "passed"
    for _ in range(5):  # the sensor comes back from its trigger, on a slow scheduler
        world.clock.advance(LOOK_EVERY)
        assert world.look("run-2", "shadow").status == "passed"
    world.canary("run-2", 0)
    assert world.state.rollout.phase == "canary"


# Two who look at once.


def test_a_late_verdict_does_not_count_for_the_next_step(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.watch("run-2", "canary", 0, seconds=STEP_S - LOOK_EVERY)
    world.serve(LOOK_EVERY)
    world.clock.advance(LOOK_EVERY)

    def another_watcher_is_faster() -> None:
        assert world.look("run-2", "canary", 0).status == "passed"
        world.canary("run-2", 1)

    world.plane.once("after", "telemetry", another_watcher_is_faster)
    world.look("run-2", "canary", 0)
    rollout = world.state.rollout
    assert rollout.step == 1
    assert "canary-1" not in rollout.verdicts, "nobody has judged this step"


def test_a_late_verdict_does_not_count_for_another_rollout(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    world.watch("run-2", "shadow", seconds=SHADOW_S - LOOK_EVERY)
    world.serve(LOOK_EVERY)
    world.clock.advance(LOOK_EVERY)

    def somebody_starts_over() -> None:
        world.roll_back()
        world.bring("run-3", "1.2.0", to="shadow")

    world.plane.once("after", "compare", somebody_starts_over)
    world.look("run-2", "shadow")
    assert world.state.rollout.id == "run-3"
    assert "shadow" not in world.state.rollout.verdicts


def test_a_failed_look_of_the_past_does_not_judge_the_present(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    note = journal.note

    def slow_note(*args: object) -> None:
        world.bring("run-3", "1.2.0", to="opened")
        note(*args)  # type: ignore[arg-type]

    world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=5, errors=5)
    world.clock.advance(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "note", slow_note)
        world.look("run-2", "canary", 0)
    assert world.state.rollout.verdicts == {"gate": "pass"}


# Watch.


def test_a_late_failure_is_not_diluted_by_a_good_past(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    assert world.watch("run-2", "watch", seconds=WATCH_S - 5 * LOOK_EVERY).status == "watching"
    # A fifth of the last minute's requests is far below 2 % of the whole window's.
    seen = world.watch("run-2", "watch", seconds=2 * LOOK_EVERY, failing=0.2)
    assert (seen.status, seen.verdict) == ("ended", "fail")
    assert world.weights == {first.id: 10_000}
    assert world.state.current == first and world.state.previous is None
    assert world.alerts == [ROLLED_BACK]


def test_an_early_failure_does_not_wait_for_the_end_of_the_window(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    began = world.state.rollout.since
    assert world.watch("run-2", "watch", seconds=WATCH_S, every=10, failing=0.5).status == "ended"
    (decided,) = world.events(RollbackDecided)
    assert decided.detected_at - began <= timedelta(minutes=1)
    assert world.weights == {first.id: 10_000}


def test_a_quiet_watch_ends_without_a_pass_and_keeps_the_release(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    world.clock.advance(WATCH_S)
    seen = world.look("run-2", "watch")
    assert (seen.status, seen.verdict) == ("passed", "inconclusive")
    assert world.state.current == world.release("1.1.0")
    assert world.look("run-2", "watch").status == "passed"


def test_a_watch_that_another_ended_is_over_for_everybody(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    world.clock.advance(WATCH_S)
    world.plane.once("after", "telemetry", lambda: world.look("run-2", "watch"))
    assert world.look("run-2", "watch").status == "passed"
    assert len([event for event in world.events(WatchPassed) if event.rollout_id == "run-2"]) == 1


# Whatever serves.


def test_health_within_the_window_is_the_watch_itself(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    world.serve(60, failing=0.5)
    world.clock.advance(60)
    assert health(world).status == "ended"
    assert world.weights == {first.id: 10_000}


def test_health_outside_the_window_alerts_and_leaves_the_release(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    current = world.state.current
    world.memory.plane.serve(ENDPOINT, current.id, requests=100, errors=50)
    world.clock.advance(60)
    seen = health(world)
    assert (seen.status, seen.verdict) == ("watching", "fail") and "failing" in seen.cause
    assert world.weights == {current.id: 10_000}
    assert world.alerts == [("risk-pager", "production/fraud-scorer unhealthy")]


def test_health_that_cannot_be_measured_is_an_error(world: World) -> None:
    world.first_release()
    world.memory.plane.away = True
    world.clock.advance(60)
    seen = health(world)
    assert seen.verdict == "error" and "away" in seen.cause
    assert world.alerts == []


def test_health_of_a_good_release(world: World) -> None:
    first = world.first_release()
    world.clock.advance(600)
    world.memory.plane.serve(ENDPOINT, first.id, requests=100)
    world.clock.advance(60)
    assert health(world).verdict == "pass"


def test_health_before_anything_was_released(world: World) -> None:
    assert health(world).cause == "nothing has been released here"


def test_one_measurement_serves_all_gates_of_one_window() -> None:
    world = World(
        (
            "- {name: failing, metric: serving.error_rate, max: 2%, window: 1m}",
            "- error rate at most 2% over 1m\n        - p95 latency under 90ms over 1m\n"
            "        - p50 latency under 50ms",
        )
    )
    first = world.first_release()
    world.memory.plane.serve(ENDPOINT, first.id, requests=100)
    world.clock.advance(3600)
    asked: list[int] = []
    for _ in range(4):
        world.plane.once("before", "telemetry", lambda: asked.append(1))
    assert len(health(world).results) == 3
    assert len(asked) == 2


def test_a_candidate_that_dies_in_its_trial_is_seen_by_its_errors(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    broken = ReleaseNotReady("release", limit="a limit", remedy="a remedy")
    world.memory.plane.break_release(world.release("1.1.0").id, broken)
    assert world.watch("run-2", "canary", 0, seconds=STEP_S, failing=1.0).status == "ended"


def test_a_busy_ledger_costs_a_second_look_and_no_verdict(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.watch("run-2", "canary", 0, seconds=STEP_S - LOOK_EVERY)
    world.serve(LOOK_EVERY)
    world.clock.advance(LOOK_EVERY)
    world.ledger.once("before", "append", LedgerConflict("ledger", limit="a limit", remedy="a remedy"))
    assert world.look("run-2", "canary", 0).status == "passed"
    assert world.state.rollout.verdicts["canary-0"] == "pass"
