"""What a person took back, automation does not release again until somebody resumes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import EndpointHeldBack
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.adoption import UNKNOWN_CODE
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import EndpointHeld, EndpointResumed, Origin, RolloutOpened
from airflow_provider_mlpipex.services.rollout import hold, rollback
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, WATCH_S, World


class Committed(World):
    """Releases from the commit that ``commits`` says (by version), or from the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: dict[str, str] = {}
        self.platform = replace(self.platform, origin=Origin(kind="cli", user="ada"))

    def release(self, version: str, *, manifest: Manifest | None = None, accuracy: float = 0.8) -> Release:
        made = super().release(version, manifest=manifest, accuracy=accuracy)
        model = made.model.model_copy(update={"code_version": self.commits.get(version, "0123abc")})
        return made.model_copy(update={"model": model})

    def take_back(self, **only: Any) -> rollback.RollbackReport:
        return rollback.answer_request(self.platform, ENDPOINT, cause="answers nonsense", **only)

    def opens(self, run: str, version: str) -> bool:
        before = len(self.events(RolloutOpened))
        self.open(run, version)
        return len(self.events(RolloutOpened)) > before


@pytest.fixture
def world() -> Committed:
    """1.2.0 replaced 1.1.0 and 1.0.0 came before that; nothing is under way."""
    world = Committed()
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="promoted")
    return world


@pytest.mark.parametrize(
    "version", [pytest.param("1.2.0", id="the same"), pytest.param("1.0.0", id="an older one"), "1.3.0"]
)
def test_the_lineage_of_what_a_person_took_back_is_not_opened(world: Committed, version: str) -> None:
    """1.3.0 is what the same commit makes of newer rows."""
    report = world.take_back()
    assert f"held back until mlpipex resume {ENDPOINT}: releases up to 1.2.0 and those of its commit" in report.sentence
    with pytest.raises(EndpointHeldBack) as held:
        world.open("scheduled", version)
    assert "ada holds back releases up to 1.2.0" in str(held.value) and "answers nonsense" in str(held.value)
    assert f"mlpipex resume {ENDPOINT}" in str(held.value)
    assert world.state.rollout is None and world.state.current.model.version == "1.1.0"
    assert [event.rollout_id for event in world.events(RolloutOpened)] == ["run-1", "run-2", "run-3"]


def test_a_later_version_from_another_commit_may_come(world: Committed) -> None:
    world.take_back()
    world.commits["1.2.1"] = world.commits["1.1.5"] = "fedc987"
    with pytest.raises(EndpointHeldBack):
        world.open("backwards", "1.1.5")
    assert world.opens("mended", "1.2.1")


def test_models_of_unknown_commits_are_told_apart_by_their_versions(world: Committed) -> None:
    """Of what another pipeline has logged nobody may know the commit."""
    world.commits.update(dict.fromkeys(("1.3.0", "1.3.1", "1.2.9"), UNKNOWN_CODE))
    world.bring("run-4", "1.3.0", to="promoted")
    world.take_back()
    with pytest.raises(EndpointHeldBack):
        world.open("older", "1.2.9")
    assert world.opens("newer", "1.3.1")


def test_a_person_resumes(world: Committed) -> None:
    world.take_back()
    hold.resume_endpoint(world.platform, endpoint=ENDPOINT, reviewer="grace", note="it was the upstream")
    assert world.opens("scheduled", "1.2.0")
    (resumed,) = world.events(EndpointResumed)
    assert (resumed.reviewer, resumed.note) == ("grace", "it was the upstream")
    hold.resume_endpoint(world.platform, endpoint=ENDPOINT, reviewer="grace")
    assert len(world.events(EndpointResumed)) == 1, "nothing was held any more"


def test_gates_that_take_back_by_themselves_hold_nothing(world: Committed) -> None:
    world.bring("run-4", "1.3.0", to="watching")
    assert world.watch("run-4", "watch", seconds=WATCH_S, failing=0.5).ending == "rolled-back"
    assert world.state.held_back is None
    assert world.opens("run-5", "1.3.0")


def test_the_alert_of_a_rollback_says_what_is_held_by_whom_and_until_when(world: Committed) -> None:
    world.take_back()
    held = world.memory.alerter.sent[-1].facts["held"]
    assert held.startswith("ada holds back releases up to 1.2.0 and those of its commit since")
    assert held.endswith(f"until somebody resumes: mlpipex resume {ENDPOINT}")


def test_the_alert_of_gates_that_take_back_by_themselves_speaks_of_no_hold(world: Committed) -> None:
    world.bring("run-4", "1.3.0", to="watching")
    world.watch("run-4", "watch", seconds=WATCH_S, failing=0.5)
    assert "held" not in world.memory.alerter.sent[-1].facts


def test_a_caller_may_leave_automation_free(world: Committed) -> None:
    assert "held" not in world.take_back(hold=False).sentence
    assert world.opens("scheduled", "1.2.0")


def test_a_call_made_twice_holds_once(world: Committed) -> None:
    world.take_back()
    world.take_back()
    assert len(world.events(EndpointHeld)) == 1


def test_a_trial_that_a_person_ends_is_held_as_well(world: Committed) -> None:
    world.bring("run-4", "1.3.0", to="canary-0")
    world.take_back()
    assert world.state.current.model.version == "1.2.0"
    with pytest.raises(EndpointHeldBack):
        world.open("scheduled", "1.3.0")


def test_who_stops_an_endpoint_stops_every_release_and_no_rollout_on_its_way(world: Committed) -> None:
    world.bring("run-4", "1.3.0", to="watching")
    hold.hold_endpoint(world.platform, endpoint=ENDPOINT, cause="a freeze over the holidays", by="ada")
    assert world.watch("run-4", "watch", seconds=WATCH_S + LOOK_EVERY).status == "passed"
    world.commits["2.0.0"] = "fedc987"
    with pytest.raises(EndpointHeldBack, match="ada holds back all releases since .* a freeze over the holidays"):
        world.open("new", "2.0.0")


def test_a_rollback_while_all_is_stopped_does_not_loosen_the_stop(world: Committed) -> None:
    hold.hold_endpoint(world.platform, endpoint=ENDPOINT, cause="a freeze over the holidays", by="ada")
    world.take_back()
    world.commits["2.0.0"] = "fedc987"
    with pytest.raises(EndpointHeldBack, match="all releases"):
        world.open("new", "2.0.0")


@pytest.mark.parametrize("origin", [Origin(kind="task", dag_id="rollback", run_id="manual__1"), Origin(kind="http")])
def test_who_asked_is_named_as_well_as_it_is_known(world: Committed, origin: Origin) -> None:
    world.platform = replace(world.platform, origin=origin)
    world.take_back()
    (held,) = world.events(EndpointHeld)
    assert held.by == ("Dag run rollback/manual__1" if origin.dag_id else "http")
