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


class PingedServer:
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
def server(tmp_path: Path) -> Iterator[PingedServer]:
    server = PingedServer(tmp_path)
    server.start()
    yield server
    server.keeper.stop_all(grace_s=0.0)


def test_one_that_hangs_is_killed_and_the_keeper_starts_it_again(server: PingedServer) -> None:
    assert server.look(1) == []
    hung = server.process
    server.hang()
    assert server.look(MAX_UNANSWERED - 1) == []
    assert server.look(1) == [NAME]
    until(lambda: not server.keeper.alive(NAME), within_s=10, what="it is dead")
    assert server.keeper.revive() == [NAME]
    assert server.process.pid != hung.pid
    assert server.look(2 * MAX_UNANSWERED) == []


def test_one_answer_in_time_is_enough(server: PingedServer) -> None:
    server.look(1)
    for _ in range(3):
        server.hang()
        assert server.look(MAX_UNANSWERED - 1) == []
        server.process.send_signal(signal.SIGCONT)
        until(server.answers, within_s=10, what="it answers again")
        assert server.look(1) == []


def test_one_that_has_not_answered_yet_may_still_be_loading(server: PingedServer) -> None:
    server.loading = True
    assert server.look(3 * MAX_UNANSWERED) == []


def test_the_next_process_of_one_that_died_may_take_its_time_too(server: PingedServer) -> None:
    server.look(1)
    server.process.kill()
    until(lambda: not server.keeper.alive(NAME), within_s=10, what="it is dead")
    server.keeper.revive()
    server.loading = True
    assert server.look(3 * MAX_UNANSWERED) == []


def test_one_that_was_stopped_on_purpose_is_left_alone(server: PingedServer) -> None:
    server.look(1)
    server.keeper.stop(NAME, grace_s=0.0)
    assert server.look(3 * MAX_UNANSWERED) == []
    server.start()
    assert server.keeper.kill(NAME, pid=1) is False
    assert server.keeper.alive(NAME)
