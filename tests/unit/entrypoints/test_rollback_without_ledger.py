"""A rollback while the ledger cannot be written: routes first, the record after, and nobody puts the bad one back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from airflow_provider_mlpipex.domain.errors import LedgerUnavailable, PlanRefused
from airflow_provider_mlpipex.domain.rollout.events import RollbackDecided
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.entrypoints.http_api import record_taken_back, routes
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic
from airflow_provider_mlpipex.serving.plane import supervisor as supervisors
from airflow_provider_mlpipex.serving.plane.access import HOLDER
from airflow_provider_mlpipex.serving.plane.supervisor import Supervisor
from airflow_provider_mlpipex.serving.plane.tokens import Holder
from tests.support.rollouts import ENDPOINT, World
from tests.unit.serving.plane.test_supervisor import FakeFleet, FakeIngress


class FullLedger:
    """A ledger that can be made to fail as one whose disk is full, or whose server is away."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.is_full = False

    def __getattr__(self, name: str) -> Any:
        if self.is_full:
            raise LedgerUnavailable("ledger", value="database or disk is full")
        return getattr(self._ledger, name)


class Scene:
    """1.1.0 was promoted after 1.0.0, and serves; ledger and plane agree."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.world.first_release()
        self.world.bring("run-2", "1.1.0", to="promoted")
        state = self.world.state
        assert state.previous and state.current and state.planned
        self.old, self.new = state.previous, state.current
        self.plane = Supervisor(folder, ingress_port=1, tracking_uri="http://127.0.0.1:1")
        for release in (self.old, self.new):
            self.plane.ensure(ENDPOINT, release, timeout_s=5)
        self.plane.apply(TrafficPlan(endpoint=ENDPOINT, current=self.old.id))
        self.plane.apply(state.planned)
        self.ledger = FullLedger(self.world.memory.ledger)
        self.platform: Platform = replace(self.world.memory, plane=self.plane, ledger=self.ledger)

    @property
    def serves(self) -> tuple[str, ...]:
        plan = self.plane.plan_in_force(ENDPOINT)
        return plan.releases if plan else ()

    async def roll_back(self, **body: str) -> dict[str, Any]:
        app = Starlette(routes=routes(self.platform, plane=self.plane))

        async def with_holder(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, HOLDER: Holder("rollback")}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=with_holder), base_url="http://plane") as client:
            return dict((await client.post(f"/v1/endpoints/{ENDPOINT}/rollback", json=body)).json())


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(supervisors, "Ingress", FakeIngress)
    monkeypatch.setattr(supervisors, "Fleet", FakeFleet)
    scene = Scene(tmp_path / "plane")
    yield scene
    scene.plane.detach()


def taken(scene: Scene) -> Any:
    return scene.plane._desired.of(ENDPOINT).taken_back


async def test_traffic_is_back_before_anything_is_written(scene: Scene) -> None:
    scene.ledger.is_full = True
    answer = await scene.roll_back(cause="it answers nonsense", user="ada")
    assert scene.serves == (scene.old.id,)
    assert (answer["recorded"], answer["current"], answer["returned_from"]) == (False, scene.old.id, scene.new.id)
    assert "disk is full" in answer["done"] and "records it as soon as it can" in answer["done"]


async def test_a_second_call_takes_nothing_else_away(scene: Scene) -> None:
    scene.ledger.is_full = True
    await scene.roll_back()
    with pytest.raises(PlanRefused, match="a release that was current before it"):
        await scene.roll_back()
    assert scene.serves == (scene.old.id,)


async def test_who_reads_the_older_ledger_does_not_put_the_bad_release_back(scene: Scene) -> None:
    scene.ledger.is_full = True
    await scene.roll_back()
    scene.ledger.is_full = False
    with pytest.raises(PlanRefused, match="taken back at"):
        traffic.converge(scene.platform, ENDPOINT)
    assert scene.serves == (scene.old.id,)
    record_taken_back(scene.platform, ENDPOINT, taken(scene))
    assert traffic.converge(scene.platform, ENDPOINT).current == scene.old


async def test_a_rollback_is_recorded_once_the_ledger_can_be_written(scene: Scene) -> None:
    scene.ledger.is_full = True
    await scene.roll_back(cause="it answers nonsense", user="ada")
    with pytest.raises(LedgerUnavailable):
        record_taken_back(scene.platform, ENDPOINT, taken(scene))
    assert taken(scene) is not None, "it is still owed"
    scene.ledger.is_full = False
    record_taken_back(scene.platform, ENDPOINT, taken(scene))
    (decided,) = scene.world.events(RollbackDecided)
    assert (decided.from_release, decided.to_release) == (scene.new.id, scene.old.id)
    assert decided.cause.startswith("it answers nonsense (in force since 20")
    state = scene.world.state
    assert (state.current, state.confirmed, state.rollback) == (scene.old, True, None)
    assert taken(scene) is None
    assert scene.serves == (scene.old.id,)


async def test_what_is_owed_outlives_the_supervisor(scene: Scene, tmp_path: Path) -> None:
    scene.ledger.is_full = True
    await scene.roll_back(user="ada")
    scene.plane.detach()
    scene.plane = Supervisor(tmp_path / "plane", ingress_port=1, tracking_uri="http://127.0.0.1:1")
    owed = taken(scene)
    assert (owed.release, owed.user) == (scene.new.id, "holder of the rollback token, who says to be ada")


async def test_a_trial_ends_by_what_the_plane_knows(scene: Scene) -> None:
    scene.plane.apply(
        TrafficPlan(endpoint=ENDPOINT, current=scene.old.id, candidate=scene.new.id, candidate_weight=500, lease_s=60)
    )
    scene.ledger.is_full = True
    answer = await scene.roll_back(release=scene.new.id)
    assert (answer["returned_from"], scene.serves) == (scene.new.id, (scene.old.id,))


async def test_another_release_than_the_named_one_is_left_alone(scene: Scene) -> None:
    scene.ledger.is_full = True
    with pytest.raises(PlanRefused, match="what it takes away"):
        await scene.roll_back(release=scene.old.id)
    assert scene.serves == (scene.new.id,)


async def test_a_rollout_is_known_to_the_ledger_alone(scene: Scene) -> None:
    scene.ledger.is_full = True
    with pytest.raises(LedgerUnavailable):
        await scene.roll_back(rollout="run-2")
    assert scene.serves == (scene.new.id,)


async def test_traffic_that_was_moved_before_the_ledger_failed_is_not_moved_again(scene: Scene) -> None:
    """The decision was written and carried out, and then the disk was full: one step back is enough."""
    apply = scene.plane.apply

    def apply_and_fill(plan: TrafficPlan, **given: Any) -> Any:
        applied = apply(plan, **given)
        scene.ledger.is_full = True
        return applied

    scene.plane.apply = apply_and_fill  # type: ignore[method-assign]
    with pytest.raises(PlanRefused, match="the plan that was in force when it was asked for"):
        await scene.roll_back()
    assert scene.serves == (scene.old.id,)
