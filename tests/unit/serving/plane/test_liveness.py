"""Servers that hang are killed, and nobody else is: with real processes. Under a supervisor: ``test_supervisor.py``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.plane.liveness import MAX_UNANSWERED, Liveness
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from tests.support.factories import make_release
from tests.support.polling import until

FRAUD = EndpointRef.parse("production/fraud-scorer")
RELEASE = make_release("1.0.0")
NAME = cluster_name(FRAUD, RELEASE.id)


class World:
    """One server, which answers while it is not stopped, unless it is still ``loading``."""

    def __init__(self, folder: Path) -> None:
        self.keeper = ProcessKeeper(folder / "children", plane_id="liveness")
        self.log = folder / "server.log"
        self.loading = False
        self.said: list[str] = []
        self.liveness = Liveness(
            lambda: [(FRAUD, RELEASE)], lambda *_: self.answers(), self.keeper, lambda what, _: self.said.append(what)
        )

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.keeper.children[NAME].pid)

    def start(self) -> None:
        self.keeper.start(NAME, ["sleep", "300"], environment={"PATH": os.environ["PATH"]}, log=self.log)

    def answers(self) -> bool:
        return not self.loading and self.keeper.alive(NAME) and self.process.status() != psutil.STATUS_STOPPED

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        until(lambda: self.process.status() == psutil.STATUS_STOPPED, within_s=10, what="it hangs")

    def look(self, times: int) -> list[str]:
        return [name for _ in range(times) for name in self.liveness.look()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.start()
    yield world
    world.keeper.stop_all(grace_s=0.0)


def test_one_that_hangs_is_killed_and_the_keeper_starts_it_again(world: World) -> None:
    assert world.look(1) == []
    hung = world.process
    world.hang()
    assert world.look(MAX_UNANSWERED - 1) == []
    assert world.look(1) == [NAME]
    until(lambda: not world.keeper.alive(NAME), within_s=10, what="it is dead")
    assert world.keeper.revive() == [NAME]
    assert world.process.pid != hung.pid
    assert world.look(2 * MAX_UNANSWERED) == []


def test_one_answer_in_time_is_enough(world: World) -> None:
    world.look(1)
    for _ in range(3):
        world.hang()
        assert world.look(MAX_UNANSWERED - 1) == []
        world.process.send_signal(signal.SIGCONT)
        until(world.answers, within_s=10, what="it answers again")
        assert world.look(1) == []


def test_one_that_has_not_answered_yet_may_still_be_loading(world: World) -> None:
    world.loading = True
    assert world.look(3 * MAX_UNANSWERED) == []


def test_the_next_process_of_one_that_died_may_take_its_time_too(world: World) -> None:
    world.look(1)
    world.process.kill()
    until(lambda: not world.keeper.alive(NAME), within_s=10, what="it is dead")
    world.keeper.revive()
    world.loading = True
    assert world.look(3 * MAX_UNANSWERED) == []


def test_one_that_was_stopped_on_purpose_is_left_alone(world: World) -> None:
    world.look(1)
    world.keeper.stop(NAME, grace_s=0.0)
    assert world.look(3 * MAX_UNANSWERED) == []
    world.start()
    assert world.keeper.kill(NAME, pid=1) is False
    assert world.keeper.alive(NAME)
