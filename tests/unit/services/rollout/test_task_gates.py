"""Gates that a Dag declares: what stops, and when, where one fails, does not decide, or was never judged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_mlpipex.domain.errors import GateFailed, GateUndecided, RolloutEnded
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.rollout.events import EVENT, ReviewOpened, RolloutOpened, RolloutPolicy
from airflow_provider_mlpipex.domain.rollout.fold import KEPT_UNOPENED
from tests.support.rollouts import ENDPOINT, STEP_S, Phase, World

RUN = "release/run-2"
GATE = "recall"


@pytest.fixture
def world() -> World:
    world = World()
    world.first_release()
    return world


def opened(world: World) -> list[str]:
    return [event.rollout_id for event in world.events(RolloutOpened)]


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_a_rollout_that_a_gate_stands_against_does_not_open(world: World, verdict: VerdictName) -> None:
    assert world.gate(RUN, GATE, verdict) == verdict
    error = GateFailed if verdict == "fail" else GateUndecided
    with pytest.raises(error, match=GATE):
        world.open(RUN, "1.1.0")  # whether it declares the gate or not
    assert RUN not in opened(world)
    assert world.state.rollout is None


def test_a_declared_gate_that_was_never_judged_stops_it_too(world: World) -> None:
    world.gate(RUN, "fairness", "pass")
    with pytest.raises(GateUndecided, match="recall never judged"):
        world.open(RUN, "1.1.0", declared_gates=("recall", "fairness"))
    assert RUN not in opened(world)


def test_the_verdict_of_another_run_is_not_its_own(world: World) -> None:
    world.gate("release/run-1", GATE, "pass")
    with pytest.raises(GateUndecided, match="never judged"):
        world.open(RUN, "1.1.0", declared_gates=(GATE,))


def test_what_was_measured_again_and_passes_goes_on(world: World) -> None:
    world.gate(RUN, GATE, "fail")
    world.gate(RUN, GATE, "pass")
    assert world.open(RUN, "1.1.0", declared_gates=(GATE,)).verdict == "pass"


NEXT: dict[Phase, Callable[[World], object]] = {
    "opened": lambda world: world.review(RUN),
    "shadow": lambda world: world.canary(RUN, 0),
    "canary-0": lambda world: world.canary(RUN, 1),
    "canary-2": lambda world: world.promote(RUN),
}


def brought(world: World, to: Phase) -> None:
    world.gate(RUN, GATE, "pass")
    world.bring(RUN, "1.1.0", to=to)
    if to.startswith("canary"):
        assert world.watch(RUN, "canary", int(to[-1]), seconds=STEP_S).status == "passed"


@pytest.mark.parametrize("phase", list(NEXT))
def test_no_verb_goes_on_while_a_gate_has_not_decided_and_every_one_does_after(world: World, phase: Phase) -> None:
    brought(world, phase)
    if phase == "shadow":
        assert world.watch(RUN, "shadow", seconds=600).status == "passed"
    before = world.weights
    world.gate(RUN, GATE, "inconclusive")
    with pytest.raises(GateUndecided, match="recall inconclusive"):
        NEXT[phase](world)
    assert world.weights == before
    world.gate(RUN, GATE, "pass")
    NEXT[phase](world)


@pytest.mark.parametrize("phase", ["opened", "review"])
def test_a_failure_rejects_a_rollout_that_waits(world: World, phase: Phase) -> None:
    current = world.state.current
    world.bring(RUN, "1.1.0", to=phase)
    world.gate(RUN, GATE, "fail")
    assert world.state.results[RUN].ending == "rejected"
    assert world.state.results[RUN].cause == "gate recall of the Dag failed: recall fail: observed 50%"
    assert world.state.current == current
    with pytest.raises(RolloutEnded):
        world.shadow(RUN)


@pytest.mark.parametrize("phase", ["shadow", "canary-1", "watching"])
def test_a_failure_takes_the_traffic_of_a_candidate_back_and_tells_on_call(world: World, phase: Phase) -> None:
    current = world.state.current
    assert current is not None
    world.bring(RUN, "1.1.0", to=phase)
    assert world.state.rollout is not None
    world.gate(RUN, GATE, "fail")
    assert world.state.results[RUN].ending == "rolled-back"
    assert world.weights == {current.id: 10_000}
    assert world.alerts[-1] == ("risk-pager", f"{ENDPOINT} rolled back")


def test_a_failure_after_the_watch_alerts_and_leaves_traffic_to_a_person(world: World) -> None:
    world.bring(RUN, "1.1.0", to="promoted")
    weights = world.weights
    world.gate(RUN, GATE, "fail")
    assert world.weights == weights
    assert world.alerts[-1] == ("risk-pager", f"{ENDPOINT}: a gate failed after the promotion")


def test_a_dag_that_no_longer_declares_a_gate_is_reviewed_for_it(world: World) -> None:
    world.gate(RUN, GATE, "pass")
    world.open(RUN, "1.1.0", declared_gates=(GATE,))
    world.review(RUN)
    tightened = world.events(ReviewOpened)[-1].changes[-1]
    assert (tightened.kind, tightened.what) == ("gate-tightened", "gate recall of the Dag")
    world.decide(RUN)
    world.shadow(RUN)
    assert world.watch(RUN, "shadow", seconds=600).status == "passed"
    for step in range(3):
        world.canary(RUN, step)
        assert world.watch(RUN, "canary", step, seconds=STEP_S).status == "passed"
    world.promote(RUN)
    assert world.watch(RUN, "watch", seconds=1800).status == "passed"
    assert world.state.current_gates == (GATE,)
    world.open("release/run-3", "1.2.0")
    assert world.review("release/run-3").needs_person
    (loosened,) = [c for c in world.events(ReviewOpened)[-1].changes if c.kind == "gate-loosened"]
    assert (loosened.what, loosened.after) == ("gate recall of the Dag", "not declared any more")
    world.decide("release/run-3", approved=False)
    # A rollback brings the gates of the release back that serves again.
    world.roll_back()
    assert world.state.current_gates == ()


def test_verdicts_of_runs_that_never_open_are_forgotten_at_last_but_not_those_of_the_one_in_progress(
    world: World,
) -> None:
    world.gate(RUN, GATE, "pass")
    world.open(RUN, "1.1.0", declared_gates=(GATE,))
    for number in range(2 * KEPT_UNOPENED):
        world.gate(f"nightly/run-{number}", GATE, "fail")
    gates = world.state.task_gates
    assert len(gates) == 1 + KEPT_UNOPENED
    assert gates[RUN] == {GATE: "pass"}
    assert f"nightly/run-{2 * KEPT_UNOPENED - 1}" in gates
    # What was forgotten has not passed.
    world.decide(RUN, approved=False)
    with pytest.raises(GateUndecided):
        world.open("nightly/run-0", "1.1.0", declared_gates=(GATE,))


def test_a_policy_from_before_there_were_such_gates_reads_back_to_its_own_text() -> None:
    before = {
        key: value
        for key, value in RolloutPolicy().to_json().items()
        if key not in ("declared_gates", "control_weight")
    }
    assert "declared_gates" not in RolloutPolicy.model_validate(before).to_json()
    declared = RolloutPolicy(declared_gates=("recall",)).to_json()
    assert declared["declared_gates"] == ["recall"]
    assert EVENT.validate_python(
        {"type": "task-gate-judged", "rollout_id": "r", "gate": "g", "verdict": "pass", "results": []}
    )
