"""What a plane may take, by the ledger: what was opened and decided there, and nothing that looks like it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import LedgerTampered, NotPermitted, NotRecorded
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import FaultInjected, FaultRemoved, TrafficPlanned
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim
from airflow_provider_mlpipex.domain.rollout.plane_observation import AppliedPlan, ReleaseStatus
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.services.rollout.records import LedgerRecords
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from tests.support.factories import make_release
from tests.support.manifests import make_manifest
from tests.support.rollouts import ENDPOINT, World


def records_of(memory: MemoryPlatform) -> LedgerRecords:
    """The registry in memory has addresses of its own."""
    return LedgerRecords(memory, schemes=("memory", "runs"))


class StrictPlane:
    """Takes what the ledger knows, and asks for every single thing."""

    def __init__(self, memory: MemoryPlatform) -> None:
        self._plane = memory.plane
        self._records = records_of(memory)
        self.asked: list[str] = []

    def ensure(self, endpoint: EndpointRef, release: Release, *, timeout_s: float) -> ReleaseStatus:
        self._records.require_release(endpoint, release)
        self.asked.append(release.model.version)
        return self._plane.ensure(endpoint, release, timeout_s=timeout_s)

    def apply(self, plan: TrafficPlan, *, claim: HeadClaim | None = None) -> AppliedPlan:
        self._records.require_plan(plan)
        self.asked.append("plan")
        return self._plane.apply(plan, claim=claim)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plane, name)


@pytest.fixture
def world() -> World:
    memory = memory_platform()
    return World(memory=memory, plane=StrictPlane(memory))


def test_every_step_of_releases_that_go_well_and_that_do_not_is_one_that_the_ledger_knows(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="canary-1")
    world.roll_back()
    world.bring("run-4", "1.3.0", to="watching")
    world.roll_back()
    assert world.state.current is not None and world.state.current.model.version == "1.1.0"
    asked = world.plane.port.asked
    assert {"1.0.0", "1.1.0", "1.2.0", "1.3.0"} < set(asked)
    assert asked.count("plan") >= 10


@pytest.mark.parametrize(
    "change",
    [
        {"artifact_digest": "f" * 64},
        {"artifact_uri": "runs:/somebody-elses/model"},
        {"run_id": "somebody-elses"},
        {"version": "1.0.1"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_release_that_is_almost_the_one_is_refused(world: World, change: dict[str, str]) -> None:
    release = world.first_release()
    other = release.model_copy(update={"model": release.model.model_copy(update=change)})
    with pytest.raises(NotRecorded) as refused:
        records_of(world.memory).require_release(ENDPOINT, other)
    assert "rollout in the plane's ledger" in str(refused.value)


@pytest.mark.parametrize("uri", ["/tmp/model", "file:///tmp/model", "https://elsewhere/model", "s3://bucket/model"])
def test_an_artifact_that_is_not_in_the_registry_is_refused_whatever_the_ledger_says(world: World, uri: str) -> None:
    release = world.first_release()
    elsewhere = release.model_copy(update={"model": release.model.model_copy(update={"artifact_uri": uri})})
    with pytest.raises(NotRecorded, match="runs, models, mlflow-artifacts"):
        LedgerRecords(world.memory).require_release(ENDPOINT, elsewhere)


def test_a_release_of_another_endpoint_is_refused(world: World) -> None:
    release = world.first_release()
    with pytest.raises(NotRecorded):
        records_of(world.memory).require_release(EndpointRef.parse("production/other"), release)


def test_a_candidate_that_was_rejected_gets_no_traffic_by_a_plan_of_somebodys_own(world: World) -> None:
    """It was opened, so it may run; a plan for it is what nobody has decided."""
    current = world.first_release()
    world.bring("run-2", "1.1.0", to="review", manifest=None)
    state = world.state
    candidate = state.rollout.candidate if state.rollout else current
    for plan in (
        TrafficPlan(endpoint=ENDPOINT, current=candidate.id),
        TrafficPlan(endpoint=ENDPOINT, current=current.id, candidate=candidate.id, candidate_weight=5000),
    ):
        with pytest.raises(NotRecorded) as refused:
            records_of(world.memory).require_plan(plan)
        assert plan.id in str(refused.value)


def test_an_older_plan_of_the_ledger_is_refused_though_it_was_decided_once(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    canary = world.events(TrafficPlanned)[-1].plan
    world.roll_back()
    with pytest.raises(NotRecorded):
        records_of(world.memory).require_plan(canary)


def test_an_entry_that_was_changed_in_place_is_no_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    release = world.first_release()
    planned = world.events(TrafficPlanned)[-1].plan
    read = world.memory.ledger.read

    def changed(*args: Any, **asked: Any) -> Any:
        return [entry.model_copy(update={"hash": "0" * 64}) for entry in read(*args, **asked)]

    monkeypatch.setattr(world.memory.ledger, "read", changed)
    records = records_of(world.memory)
    with pytest.raises(LedgerTampered):
        records.require_release(ENDPOINT, release)
    with pytest.raises(LedgerTampered):
        records.require_plan(planned)


def test_an_endpoint_that_the_ledger_does_not_know_has_no_plan() -> None:
    with pytest.raises(NotRecorded, match="no plan at all"):
        records_of(memory_platform()).require_plan(TrafficPlan(endpoint=ENDPOINT, current=make_release("1.0.0").id))


ALLOWED = ("    alerts: {on: [rolled-back], channel: on-call}", "    drills: {allowed: true}")
HOLDER = "holder of the drill token"


def trial_of(world: World, run: str, version: str) -> Release:
    world.bring(run, version, to="canary-1", manifest=make_manifest(ALLOWED))
    assert world.state.rollout is not None
    return world.state.rollout.candidate


def drills_of(world: World) -> list[tuple[str, str, object]]:
    entries = world.memory.ledger.read(ENDPOINT, types=("fault-injected", "fault-removed"))
    return [(entry.origin.kind, entry.origin.user, entry.event) for entry in entries]


def test_a_drill_where_users_are_wants_the_word_of_the_releases_own_manifest(world: World) -> None:
    release = world.first_release()
    records = records_of(world.memory)
    with pytest.raises(NotPermitted, match=r"environments\.production\.drills\.allowed: true"):
        records.record_fault(ENDPOINT, release.id, {"error_rate": 1.0}, by=HOLDER)
    # Another release of the endpoint, on trial, may be broken by its manifest; this one may not all the same.
    candidate = trial_of(world, "run-2", "1.1.0")
    with pytest.raises(NotPermitted):
        records.record_fault(ENDPOINT, release.id, {"error_rate": 1.0}, by=HOLDER)
    assert drills_of(world) == []
    records.record_fault(ENDPOINT, candidate.id, {"error_rate": 0.5}, by=HOLDER)
    records.record_fault(ENDPOINT, candidate.id, None, by=HOLDER)
    assert drills_of(world) == [
        ("http", HOLDER, FaultInjected(release=candidate.id, error_rate=0.5)),
        ("http", HOLDER, FaultRemoved(release=candidate.id)),
    ]


def test_a_drill_leaves_the_state_of_its_endpoint_as_it_is(world: World) -> None:
    world.first_release()
    candidate = trial_of(world, "run-2", "1.1.0")
    before = world.memory.ledger.state(ENDPOINT)
    records_of(world.memory).record_fault(ENDPOINT, candidate.id, {"latency_ms": 40.0}, by=HOLDER)
    after = world.memory.ledger.state(ENDPOINT)
    assert after == before.model_copy(update={"seq": before.seq + 1})


def test_a_drill_on_what_was_never_released_is_refused(world: World) -> None:
    world.first_release()
    with pytest.raises(NotRecorded, match="no rollout"):
        records_of(world.memory).record_fault(ENDPOINT, make_release("9.9.9").id, {"error_rate": 1.0}, by=HOLDER)
