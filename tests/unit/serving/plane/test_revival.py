"""Many model servers died at once: those that users depend on are started before all others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.plane import revival
from airflow_provider_mlpipex.serving.plane.fleet import standby_name
from airflow_provider_mlpipex.serving.plane.revival import Revival
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from tests.support.factories import make_release

FRAUD = EndpointRef.parse("production/fraud-scorer")
OLD, NEW = make_release("1.0.0").id, make_release("1.1.0").id
CURRENT, PREVIOUS, STANDBY = cluster_name(FRAUD, NEW), cluster_name(FRAUD, OLD), standby_name(FRAUD, NEW)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[ProcessKeeper]:
    keeper = ProcessKeeper(tmp_path / "children", plane_id="plane")
    environment = {"PATH": os.environ["PATH"]}
    for name in ("envoy", PREVIOUS, STANDBY, CURRENT):
        keeper.start(name, ["sleep", "300"], environment=environment, log=tmp_path / "log")
    try:
        yield keeper
    finally:
        keeper.stop_all(grace_s=1)


def kill(keeper: ProcessKeeper) -> None:
    for name, child in keeper.children.items():
        child.next_start = 0.0
        keeper.kill(name, child.pid)
        keeper._started[child.pid].wait(timeout=10)


def test_current_releases_come_first_and_the_others_when_they_serve(keeper: ProcessKeeper) -> None:
    serving: set[str] = set()
    order = Revival(keeper, lambda: [(FRAUD, NEW)], lambda _, release: release in serving, envoys=["envoy"])
    assert order.revive() == []
    kill(keeper)
    assert set(order.revive()) == {"envoy", CURRENT}
    assert order.revive() == []
    serving.add(NEW)
    assert set(order.revive()) == {PREVIOUS, STANDBY}


def test_a_current_release_that_does_not_come_back_does_not_keep_the_one_behind_it_away(
    keeper: ProcessKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Revival(keeper, lambda: [(FRAUD, NEW)], lambda *_: False, envoys=["envoy"])
    kill(keeper)
    assert set(order.revive()) == {"envoy", CURRENT}
    monkeypatch.setattr(revival, "PATIENCE_S", -1.0)
    assert set(order.revive()) == {PREVIOUS, STANDBY}


def with_cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)))


@pytest.mark.parametrize(("cores", "first"), [(1, {CURRENT}), (2, {CURRENT, PREVIOUS})])
def test_the_release_behind_current_is_loaded_beside_it_where_a_core_is_left(
    keeper: ProcessKeeper, monkeypatch: pytest.MonkeyPatch, cores: int, first: set[str]
) -> None:
    with_cores(monkeypatch, cores)
    order = Revival(keeper, lambda: [(FRAUD, NEW)], lambda *_: False, envoys=["envoy"], behind=lambda: [(FRAUD, OLD)])
    kill(keeper)
    assert set(order.revive()) == first | {"envoy"}


@pytest.mark.parametrize("who", [NEW, OLD])
def test_envoys_wait_for_somebody_whom_they_could_ask(
    keeper: ProcessKeeper, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    with_cores(monkeypatch, 2)
    serving: set[str] = set()
    order = Revival(
        keeper,
        lambda: [(FRAUD, NEW)],
        lambda _, release: release in serving,
        envoys=["envoy"],
        behind=lambda: [(FRAUD, OLD)],
        may_hold=lambda: True,
    )
    kill(keeper)
    assert set(order.revive()) == {CURRENT, PREVIOUS}
    serving.add(who)
    assert "envoy" in order.revive()


def test_envoys_wait_no_longer_than_told_and_not_at_all_without_a_waiting_room(
    keeper: ProcessKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = [True]
    order = Revival(keeper, lambda: [(FRAUD, NEW)], lambda *_: False, envoys=["envoy"], may_hold=lambda: holds[0])
    kill(keeper)
    assert "envoy" not in order.revive()
    monkeypatch.setattr(revival, "HOLD_S", -1.0)
    assert "envoy" in order.revive()
    monkeypatch.setattr(revival, "HOLD_S", 60.0)
    kill(keeper)
    holds[0] = False
    assert "envoy" in order.revive()


def test_one_envoy_that_lives_is_joined_by_the_other_at_once(keeper: ProcessKeeper, tmp_path: Path) -> None:
    """Connections go to the living one: nobody waits, and nobody gains."""
    keeper.start("envoy-2", ["sleep", "300"], environment={"PATH": os.environ["PATH"]}, log=tmp_path / "log")
    order = Revival(
        keeper, lambda: [(FRAUD, NEW)], lambda *_: False, envoys=["envoy", "envoy-2"], may_hold=lambda: True
    )
    for name in (CURRENT, "envoy"):
        child = keeper.children[name]
        keeper.kill(name, child.pid)
        keeper._started[child.pid].wait(timeout=10)
    assert set(order.revive()) == {CURRENT, "envoy"}
