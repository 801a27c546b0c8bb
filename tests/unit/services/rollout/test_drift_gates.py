"""Gates of a watch on drift: what a promoted release is asked, beside what it was trained on, may take it back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from airflow_provider_mlpipex.domain.drift.references import Reference
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.services.evidence.replay import replay
from airflow_provider_mlpipex.services.rollout.health import check_health
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from tests.support.drifting import reference, send_batch
from tests.support.rollouts import ENDPOINT, WATCH_S, World

FAILING = "        - {name: failing, metric: serving.error_rate, max: 2%, window: 1m}\n"
WINDOW_S = 600


def gates(*specs: str) -> tuple[str, str]:
    return FAILING, FAILING + "".join(f"        - {spec}\n" for spec in specs)


MOVED = gates("{name: moved, metric: drift.worst_psi, max: 0.2, window: 10m}")
HARMFUL = gates("{name: harmful, metric: drift.damage, max: 0.1, window: 10m}")


@pytest.fixture(scope="module")
def trained() -> Reference:
    return reference()


class Promoted(World):
    """A release that was promoted a moment ago, and one before it; both know what they were trained on."""

    def __init__(self, *edits: tuple[str, str], trained: Reference | None) -> None:
        super().__init__(*edits)
        self.before = self.first_release().id
        self.bring("run-2", "1.1.0", to="watching")
        self.candidate = self.state.rollout.candidate.id
        for release in (self.before, self.candidate):
            if trained is not None:
                self.memory.plane.know_reference(release, trained)

    def pass_time(self, seconds: int, batch: str = "", *, to: Sequence[str] = (), **moved: float) -> WatchResult:
        """Healthy requests for ``seconds``; rows of ``batch`` in their first minute, with columns ``moved``."""
        for release in (to or (self.candidate,)) if batch else ():
            send_batch(self.memory, ENDPOINT, release, batch, shifted=moved, announced=False)
        return self.watch("run-2", "watch", seconds=seconds)


def result_of(seen: WatchResult, gate: str) -> GateResult:
    return next(result for result in seen.results if result.gate == gate)


def test_drift_that_exceeds_its_limit_takes_the_release_back(trained: Reference) -> None:
    world = Promoted(MOVED, trained=trained)
    seen = world.pass_time(WINDOW_S, "moved", amount=15.0)
    assert (seen.status, seen.ending) == ("ended", "rolled-back")
    assert "moved fail" in seen.cause and "amount" in seen.cause and "threshold at most 0.2" in seen.cause
    assert world.state.current.id == world.before


def test_nothing_is_judged_before_the_window_is_over(trained: Reference) -> None:
    world = Promoted(MOVED, trained=trained)
    seen = world.pass_time(WINDOW_S - 50, "moved", amount=15.0)
    assert seen.status == "watching"
    assert "its first window ends at" in result_of(seen, "moved").reason


def test_rows_like_those_of_training_pass_and_the_watch_ends(trained: Reference) -> None:
    world = Promoted(MOVED, trained=trained)
    seen = world.pass_time(WINDOW_S, "usual")
    assert (seen.status, result_of(seen, "moved").verdict) == ("watching", "pass")
    assert result_of(seen, "moved").evidence.value == pytest.approx(0.0, abs=0.02)
    assert result_of(seen, "moved").evidence.samples == 2000
    assert world.pass_time(WATCH_S - WINDOW_S).status == "passed"


def test_a_window_that_has_been_judged_says_the_same_at_every_look(trained: Reference) -> None:
    world = Promoted(MOVED, trained=trained)
    first = result_of(world.pass_time(WINDOW_S, "usual"), "moved")
    again = result_of(world.pass_time(200, "later", amount=15.0), "moved")
    assert (first.verdict, first.evidence) == (again.verdict, again.evidence)
    seen = world.pass_time(WINDOW_S - 200)
    assert seen.status == "ended", "the second window holds the drift"


def test_a_drift_that_moves_no_score_does_no_damage(trained: Reference) -> None:
    world = Promoted(HARMFUL, trained=trained)
    seen = world.pass_time(WINDOW_S, "hours", hour=9.0)
    assert seen.status == "watching"
    assert result_of(seen, "harmful").verdict == "pass"
    assert result_of(seen, "harmful").evidence.about == "hour"


def test_a_drift_that_moves_the_score_is_taken_back(trained: Reference) -> None:
    world = Promoted(HARMFUL, trained=trained)
    seen = world.pass_time(WINDOW_S, "amounts", amount=15.0)
    assert seen.status == "ended" and "amount has drifted and moves the score" in seen.cause


def test_the_limits_of_the_drift_block_say_what_counts_as_drift(trained: Reference) -> None:
    wide = ("    alerts: {on", "    drift: {limits: {psi: 50.0}}\n    alerts: {on")
    world = Promoted(HARMFUL, wide, trained=trained)
    seen = world.pass_time(WINDOW_S, "amounts", amount=15.0)
    assert (seen.status, result_of(seen, "harmful").verdict) == ("watching", "pass")


def test_a_drift_of_the_control_arm_is_not_held_against_the_release(trained: Reference) -> None:
    control = ("      window: 30m\n", "      window: 30m\n      control: 5%\n")
    world = Promoted(control, MOVED, trained=trained)
    seen = world.pass_time(WINDOW_S, "moved", to=(world.candidate, world.before), amount=15.0)
    assert seen.status == "watching"
    assert "the previous release drifts as well" in (result_of(seen, "moved").excused or "")
    assert world.alerts[-1][1] == f"{ENDPOINT}: moved broken, and the previous release is no better"


@pytest.mark.parametrize("said", ["no reference", "no rows", "lost rows"])
def test_what_cannot_be_measured_is_undecided(trained: Reference, said: str) -> None:
    world = Promoted(MOVED, trained=None if said == "no reference" else trained)
    if said == "lost rows":
        world.memory.plane.drop_predictions(ENDPOINT, world.candidate, 500)
    seen = world.pass_time(WINDOW_S, "" if said == "no rows" else "moved", amount=15.0)
    reason = {"no reference": "without a reference", "no rows": "answered no rows", "lost rows": "not counted"}[said]
    assert (seen.status, result_of(seen, "moved").verdict) == ("watching", "inconclusive")
    assert reason in result_of(seen, "moved").reason


def test_a_column_that_is_gone_is_an_error(trained: Reference) -> None:
    world = Promoted(MOVED, trained=trained)
    send_batch(world.memory, ENDPOINT, world.candidate, "short", without="hour", announced=False)
    seen = world.pass_time(WINDOW_S)
    assert result_of(seen, "moved").verdict == "error" and "hour" in result_of(seen, "moved").reason


def test_outside_a_rollback_window_it_alerts_and_the_release_stays(trained: Reference) -> None:
    world = Promoted(MOVED, trained=trained)
    assert world.pass_time(WATCH_S).status == "passed"
    send_batch(world.memory, ENDPOINT, world.candidate, "moved", shifted={"amount": 15.0}, announced=False)
    world.serve(WINDOW_S)
    world.clock.advance(30)
    assert check_health(world.platform, ENDPOINT).verdict == "fail"
    assert world.alerts[-1][1] == f"{ENDPOINT} unhealthy"
    assert world.state.current.id == world.candidate


def test_a_past_rollout_is_replayed_under_another_limit(trained: Reference) -> None:
    world = Promoted(MOVED, trained=trained)
    world.pass_time(WINDOW_S, "moved", amount=15.0)
    looser = World(gates("{name: moved, metric: drift.worst_psi, max: 50, window: 10m}")).manifest
    (past,) = [each for each in replay(world.platform, looser, last=1) if each.rollout_id == "run-2"]
    (stage,) = [stage for stage in past.stages if stage.stage == "watch"]
    assert {gate.gate: gate.now for gate in stage.gates}["moved"] == "pass"
