"""What other gates would have made of what the ledger kept."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.errors import NotFound
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.evidence.replay import ReplayedRollout, replay
from tests.support.manifests import make_manifest
from tests.support.rollouts import ENDPOINT, PAGER, STEP_S, WATCH_S, World

ERRORS = "{name: errors, metric: canary.error_rate, max: 1%, min_samples: 100}"
FAILING = "{name: failing, metric: serving.error_rate, max: 2%, window: 1m}"


@pytest.fixture
def world() -> World:
    world = World()
    world.first_release()
    return world


def again(world: World, *edits: tuple[str, str], last: int = 20) -> list[ReplayedRollout]:
    return replay(world.platform, make_manifest(PAGER, *edits), last=last)


def latest(world: World, *edits: tuple[str, str]) -> ReplayedRollout:
    return again(world, *edits)[0]


def now(rollout: ReplayedRollout) -> dict[str, str]:
    """Gate -> verdict under the new manifest, of the last stage that it was judged in."""
    return {gate.gate: gate.now for stage in rollout.stages for gate in stage.gates}


def fail_in_canary(world: World, step: int = 0, failing: float = 0.2) -> None:
    world.bring("run-2", "1.1.0", to=f"canary-{step}")  # type: ignore[arg-type]
    assert world.watch("run-2", "canary", step, seconds=STEP_S, failing=failing).status == "ended"


def test_under_the_same_gates_every_rollout_goes_as_it_went(world: World) -> None:
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="canary-1")
    assert world.watch("run-3", "canary", 1, seconds=STEP_S, failing=0.3).status == "ended"
    found = again(world)
    assert [(rollout.rollout_id, rollout.then, rollout.now) for rollout in found] == [
        ("run-3", "stopped", "stopped"),
        ("run-2", "promoted", "promoted"),
        ("run-1", "promoted", "promoted"),
    ]
    assert found[0].why.startswith("canary step 2: ")
    assert all(gate.now == gate.then for rollout in found for stage in rollout.stages for gate in stage.gates)


def test_only_the_last_ones_are_judged(world: World) -> None:
    world.bring("run-2", "1.1.0", to="promoted")
    assert [rollout.rollout_id for rollout in again(world, last=1)] == ["run-2"]


def test_a_stricter_gate_would_have_stopped_what_was_promoted(world: World) -> None:
    world.bring("run-2", "1.1.0", to="canary-0")
    assert world.watch("run-2", "canary", 0, seconds=STEP_S).status == "passed"
    world.canary("run-2", 1)
    assert world.watch("run-2", "canary", 1, seconds=STEP_S).status == "passed"
    world.canary("run-2", 2)
    assert world.watch("run-2", "canary", 2, seconds=STEP_S, latency_ms=90.0).status == "passed"
    world.promote("run-2")
    assert world.watch("run-2", "watch", seconds=WATCH_S).status == "passed"
    # There was no gate on latency; the histogram was kept for none. One on errors would have said nothing else.
    unknown = latest(world, (ERRORS, "{name: slow, metric: canary.latency_p95, max: 50ms}"))
    assert (unknown.now, now(unknown)["slow"]) == ("unknown", "missing")
    assert "holds no evidence of canary.latency_p95" in unknown.why


def test_a_quantile_is_read_from_the_latencies_of_another(world: World) -> None:
    world.bring("run-2", "1.1.0", to="promoted")
    slow = latest(world, ("p95 latency under 120 ms", "p99 latency under 5 ms"))
    assert (slow.then, slow.now) == ("promoted", "unknown")
    assert "shadow: latency-p99-max inconclusive: the current release is no better" in slow.why
    assert latest(world, ("p95 latency under 120 ms", "p99 latency under 50 ms")).now == "promoted"


def test_counts_and_shares_of_the_same_errors_stand_for_each_other(world: World) -> None:
    fail_in_canary(world)
    counted = latest(world, (ERRORS, "{name: some, metric: canary.critical_errors, max: 2}"))
    assert (counted.now, now(counted)["some"]) == ("stopped", "fail")
    few = latest(
        world,
        (ERRORS, "{name: seen, metric: canary.requests, min: 1}"),
        ("zero critical errors in a 30-minute canary window", "error rate at most 90%"),
    )
    assert now(few)["seen"] == "pass"
    assert few.now == "goes on", "it was stopped there; what would have followed nobody knows"


def test_a_looser_gate_lets_go_on_what_was_stopped(world: World) -> None:
    fail_in_canary(world)
    zero = (
        "zero critical errors in a 30-minute canary window",
        "at most 1000 critical errors in a 30-minute canary window",
    )
    loose = latest(world, ("max: 1%", "max: 60%"), zero, ("min_samples: 100", "min_samples: 1"))
    assert (loose.then, loose.now) == ("stopped", "goes on")
    assert "nothing is known" in loose.why


def test_less_alpha_would_have_waited_longer(world: World) -> None:
    world.bring("run-2", "1.1.0", to="watching")
    assert world.watch("run-2", "watch", seconds=WATCH_S, failing=0.08).status == "ended"
    review = "    review:\n"
    assert latest(world).now == "stopped"
    wary = latest(world, (review, f"    false_alarms: 0.0000001%\n{review}"))
    assert (wary.now, now(wary)["failing"]) == ("goes on", "inconclusive")


def test_beside_a_control_arm_that_was_kept_an_outage_is_none_of_the_releases_fault() -> None:
    control = ("rollback:\n      window: 30m", "rollback:\n      window: 30m\n      control: 10%")
    world = World(control)
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    assert world.watch("run-2", "watch", seconds=WATCH_S, outage=0.6).status == "passed"
    assert latest(world, control).now == "promoted"
    assert latest(world).now == "stopped", "without one the broken limit counts"


def test_evidence_of_an_old_entry_is_missing_and_not_guessed(world: World) -> None:
    """Version 0 kept values without what they were computed from."""
    world.bring("run-2", "1.1.0", to="canary-0")
    seen = world.watch("run-2", "canary", 0, seconds=STEP_S)
    bare = [
        result.model_copy(update={"evidence": result.evidence.model_copy(update={"summary": None})})
        for result in seen.results
    ]
    journal.note(
        world.platform,
        ENDPOINT,
        GatesJudged(rollout_id="run-2", stage="canary", verdict="pass", results=tuple(bare)),
    )
    old = latest(world)
    assert (old.then, old.now) == ("in progress", "unknown")
    assert now(old)["errors"] == "missing" and now(old)["critical-errors-max-30m"] == "inconclusive"
    assert "not what it was computed from" in old.why


def test_offline_gates_are_judged_as_they_were_looked_at_once(world: World) -> None:
    world.open("run-2", "1.1.0", accuracy=0.79)
    assert latest(world).now == "stopped"
    within = latest(world, ("within 0.5% of the baseline", "within 5% of the baseline"))
    assert (within.then, within.now) == ("stopped", "goes on")


def test_a_first_release_is_judged_without_a_baseline(world: World) -> None:
    (first,) = again(world)
    assert (first.then, first.now) == ("promoted", "promoted")


def test_a_rollout_in_progress_is_said_to_be(world: World) -> None:
    world.bring("run-2", "1.1.0", to="shadow")
    assert (latest(world).then, latest(world).now) == ("in progress", "in progress")


def test_a_canary_that_fails_is_known_by_its_step(world: World) -> None:
    fail_in_canary(world, step=1)
    assert [(stage.stage, stage.step) for stage in latest(world).stages] == [
        ("gate", -1),
        ("shadow", -1),
        ("canary", 0),
        ("canary", 1),
    ]


def test_where_nothing_was_released_there_is_nothing_to_replay() -> None:
    with pytest.raises(NotFound, match="at least one"):
        replay(World().platform, make_manifest(), last=20)


def test_what_is_replayed_survives_json(world: World) -> None:
    fail_in_canary(world)
    for rollout in again(world):
        assert ReplayedRollout.model_validate(rollout.to_json()) == rollout


def test_the_manifest_of_then_is_of_no_importance(world: World) -> None:
    world.bring("run-2", "1.1.0", to="promoted")
    payload = make_manifest(PAGER).to_json()
    payload["environments"]["production"]["canary"] = None
    without = replay(world.platform, Manifest.model_validate(payload), last=1)[0]
    assert without.now == "promoted"
    assert all(stage.now == "pass" for stage in without.stages if stage.stage == "canary")
