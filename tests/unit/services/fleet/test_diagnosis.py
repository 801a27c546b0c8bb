"""What is wrong, the most harmful first, and the page of each: one fault after the other, and several at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import LedgerUnavailable, NotFound, ReleaseNotReady
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import (
    DriftJudged,
    EndpointUnhealthy,
    PromotionReopened,
    StageEnded,
)
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet.diagnosis import Finding, diagnose
from airflow_provider_mlpipex.services.rollout.hold import hold, hold_endpoint
from tests.support.factories import NOON
from tests.support.rollouts import ENDPOINT, World

RUNBOOKS = Path(__file__).parents[4] / "docs" / "runbooks"


@pytest.fixture
def world() -> World:
    world = World()
    world.bring("run-1", "1.0.0", to="promoted")
    world.bring("run-2", "1.1.0", to="promoted")
    world.serve(30)
    world.clock.advance(1)
    return world


def pages(world: World) -> list[str]:
    found = diagnose(world.memory, ENDPOINT)
    assert all((RUNBOOKS / f"{finding.runbook}.md").is_file() for finding in found)
    return [finding.runbook for finding in found]


def first(world: World) -> Finding:
    return diagnose(world.memory, ENDPOINT)[0]


def test_nothing_is_wrong_with_a_release_that_serves(world: World) -> None:
    assert pages(world) == []


def test_an_endpoint_that_nobody_knows_is_a_slip_of_the_pen(world: World) -> None:
    with pytest.raises(NotFound):
        diagnose(world.memory, EndpointRef.parse("production/fraud-scorrer"))


def test_a_plane_that_is_away_hides_nothing_that_the_ledger_knows(world: World) -> None:
    hold_endpoint(world.memory, endpoint=ENDPOINT, cause="freeze", by="ada")
    world.memory.plane.away = True
    assert pages(world) == ["plane-unavailable", "endpoint-held-back"]


def test_a_release_that_does_not_run_says_whose_answers_it_gave(world: World) -> None:
    for version, whose in (("1.0.0", "previous, which a rollback returns to"), ("1.1.0", "current, which clients get")):
        release = world.release(version).id
        world.memory.plane.break_release(release, ReleaseNotReady("model server", value="out of memory: 812 MB"))
        found = first(world)
        assert (found.runbook, found.what) == ("release-not-ready", f"{release} is not ready ({whose})")
        assert "out of memory" in found.evidence


def test_what_clients_suffer_comes_before_what_waits(world: World) -> None:
    assert world.state.current
    world.bring("run-3", "1.2.0", to="canary-0")
    hold(world.memory, endpoint=ENDPOINT, rollout_id="run-3", cause="look at the slices", by="ada")
    journal.note(
        world.memory,
        ENDPOINT,
        EndpointUnhealthy(release=world.state.current.id, gates=("failing",), verdict="fail", cause="errors 9%"),
    )
    world.memory.plane.break_release(world.state.current.id, ReleaseNotReady("model server", value="killed"))
    assert pages(world) == ["release-not-ready", "gate-failed", "rollout-on-hold"]


def test_labels_that_came_late_are_told(world: World) -> None:
    assert world.state.current
    journal.note(
        world.memory, ENDPOINT, PromotionReopened(release=world.state.current.id, cause="auc 61%", gates=("auc",))
    )
    assert (first(world).runbook, first(world).evidence) == ("promotion-reopened", "auc 61%")


def test_lost_telemetry_is_told(world: World) -> None:
    world.memory.plane.telemetry_trouble = "the log was cut"
    assert (first(world).runbook, first(world).evidence) == ("gate-undecided", "the log was cut")


def test_a_stage_that_failed_points_to_the_page_of_its_error_until_a_release_is_promoted(world: World) -> None:
    error = {"error": "DataQualityFailed", "thing": "snapshot", "value": "3 rows", "runbook": "data-quality-failed"}
    failed = StageEnded(stage="snapshot", outcome="failed", seconds=1.0, error=error)
    journal.note(world.memory, ENDPOINT, failed)
    found = first(world)
    assert (found.runbook, found.evidence) == ("data-quality-failed", "snapshot: 3 rows")
    world.bring("run-3", "1.2.0", to="promoted")
    assert "data-quality-failed" not in pages(world)


def test_drift_is_told_while_the_last_look_found_some(world: World) -> None:
    assert world.state.current
    for verdict, expected in (("fail", ["drift-found"]), ("pass", [])):
        journal.note(
            world.memory,
            ENDPOINT,
            DriftJudged(
                release=world.state.current.id,
                since=NOON,
                until=NOON + timedelta(hours=6),
                verdict=verdict,  # type: ignore[arg-type]
                reason="sched_dep_time: psi 0.4",
            ),
        )
        assert pages(world) == expected


def test_where_the_ledger_is_away_nothing_else_can_be_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("ledger", value="no answer in 5 s")

    monkeypatch.setattr(world.memory.ledger, "state", away)
    assert pages(world) == ["ledger-unavailable"]
