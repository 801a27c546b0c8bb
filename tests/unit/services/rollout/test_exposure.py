"""A canary by an exposure budget: each step lasts as long as its weight takes to bring enough requests."""

from __future__ import annotations

from datetime import timedelta

from airflow_provider_mlpipex.domain.planning.canary_schedule import exposure, step_durations
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
from tests.support.rollouts import RATE, SHADOW_S, World

ZERO = ("zero critical errors in a 30-minute canary window", "at most 900 critical errors")
BUDGET = ("step_duration: 15m", "exposure: {max_bad: 60, effect: 5%}")


def test_steps_pass_when_their_weight_has_brought_enough() -> None:
    world = World(BUDGET, ZERO)
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    assert world.watch("run-2", "shadow", seconds=SHADOW_S).status == "passed"
    durations = step_durations(world.manifest.environments["production"], RATE)
    for step, duration in enumerate(durations):
        world.canary("run-2", step)
        began = world.clock.now()
        assert world.watch("run-2", "canary", step, seconds=3600, every=2).status == "passed"
        assert duration <= world.clock.now() - began < duration + timedelta(seconds=2)
    assert durations[0] > 5 * durations[1] > 5 * durations[2]
    world.promote("run-2")
    assert world.state.current == world.release("1.1.0")


def test_a_bad_candidate_is_reverted_within_its_budget() -> None:
    world = World(BUDGET, ZERO)
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    planned = exposure(world.manifest.environments["production"], RATE)
    assert planned is not None
    # 20 % of the candidate's half a request a second fail: 5 requests in 10 seconds, one of them bad.
    assert world.watch("run-2", "canary", 0, seconds=3600, every=10, failing=0.2).status == "ended"
    result = next(result for result in world.events(GatesJudged)[-1].results if result.gate == "errors")
    assert result.verdict == "fail" and isinstance(result.evidence.summary, Counted)
    assert 0 < result.evidence.summary.events <= planned.bad <= 60
