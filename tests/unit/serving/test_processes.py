"""Keeping processes, with real ones: adopted after the keeper's death, started again after their own, never doubled."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from airflow_provider_mlpipex.serving import processes
from airflow_provider_mlpipex.serving.processes import (
    FIRST_BACKOFF_S,
    MAX_BACKOFF_S,
    PLANE_ID,
    ProcessKeeper,
    carried_id,
    carriers,
    start_ticks,
)
from tests.support.polling import until

SLEEP = ["sleep", "300"]


class PlaneHome:
    """One plane's folder; keepers come and go over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plane_id = uuid.uuid4().hex
        self.log = folder.parent / "child.log"

    def keeper(self) -> ProcessKeeper:
        return ProcessKeeper(self.folder, plane_id=self.plane_id)

    def start(self, keeper: ProcessKeeper, name: str = "one", command: list[str] = SLEEP) -> int:
        pid = keeper.start(name, command, environment={"PATH": os.environ["PATH"]}, log=self.log).pid
        self.wait_for(pid)
        return pid

    def wait_for(self, pid: int) -> None:
        """A process shows its environment only a moment after it was started."""
        until(lambda: not psutil.pid_exists(pid) or pid in self.running(), within_s=10, what="it shows who it is")

    def running(self) -> set[int]:
        return {process.pid for process in carriers(PLANE_ID, self.plane_id)}

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in self.running(), within_s=10, what="the child is dead")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[PlaneHome]:
    home = PlaneHome(tmp_path / "children")
    yield home
    home.keeper().stop_all(grace_s=1)
    assert home.running() == set()


class Clock:
    """The keeper's monotonic time, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(processes.time, "monotonic", lambda: self.now)


def test_starting_twice_is_starting_once(home: PlaneHome) -> None:
    keeper = home.keeper()
    assert home.start(keeper) == home.start(keeper)
    assert len(home.running()) == 1
    assert keeper.alive("one")
    assert not keeper.alive("two")


def test_a_child_is_its_own_session_and_carries_what_it_was_given(home: PlaneHome) -> None:
    pid = home.start(home.keeper())
    assert os.getsid(pid) == pid != os.getsid(0)
    assert psutil.Process(pid).environ() == {"PATH": os.environ["PATH"], PLANE_ID: home.plane_id}


def test_the_next_keeper_adopts_what_the_last_one_left(home: PlaneHome) -> None:
    pid = home.start(home.keeper())
    successor = home.keeper()
    assert successor.alive("one")
    assert home.start(successor) == pid
    assert successor.revive() == []
    assert home.running() == {pid}


def test_a_keeper_that_was_killed_leaves_its_children_running(home: PlaneHome) -> None:
    script = (
        "import os; from pathlib import Path\n"
        "from airflow_provider_mlpipex.serving.processes import ProcessKeeper\n"
        f"k = ProcessKeeper(Path({str(home.folder)!r}), plane_id={home.plane_id!r})\n"
        f"c = k.start('one', {SLEEP!r}, environment=dict(os.environ), log=Path({str(home.log)!r}))\n"
        "print(c.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    successor = home.keeper()
    assert successor.alive("one")
    assert successor.children["one"].pid == int(done.stdout)
    successor.stop("one")
    assert home.running() == set()


def test_a_step_of_the_wall_clock_does_not_make_a_living_child_a_stranger(
    home: PlaneHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = home.start(home.keeper())
    # What the start of a process becomes in wall time after the clock was set forward by an hour.
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 3600.0)
    assert home.start(home.keeper()) == pid
    assert home.running() == {pid}


def test_a_pid_that_was_given_to_somebody_else_is_left_alone(home: PlaneHome) -> None:
    home.start(home.keeper())
    record = home.folder / "one.json"
    stranger = subprocess.Popen(SLEEP)
    try:
        ticks = start_ticks(stranger.pid)
        record.write_text(json.dumps({**json.loads(record.read_text()), "pid": stranger.pid, "start_ticks": ticks}))
        successor = home.keeper()
        assert successor.children["one"].pid != stranger.pid, "it does not carry this plane's id"
        successor.stop("one")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_whose_record_could_not_be_written_is_taken_up_by_its_command(
    home: PlaneHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = home.keeper()
    first = home.start(keeper)
    home.kill(first)
    monkeypatch.setattr(processes, "atomic_write", full_disk)
    assert keeper.revive() == ["one"], "what serves is started again, written down or not"
    second = keeper.children["one"].pid
    home.wait_for(second)
    monkeypatch.undo()
    successor = home.keeper()
    assert successor.alive("one")
    successor.end_strays(needed={"one"})
    assert home.running() == {second}
    assert json.loads((home.folder / "one.json").read_text())["pid"] == second


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_dead_are_started_again(home: PlaneHome) -> None:
    keeper = home.keeper()
    first = home.start(keeper)
    home.start(keeper, "two")
    home.kill(first)
    assert not keeper.alive("one")
    assert keeper.revive() == ["one"]
    assert keeper.alive("one")
    assert keeper.children["one"].restarts == 1
    assert keeper.children["two"].restarts == 0
    until(lambda: len(home.running()) == 2, within_s=10, what="both show who they are")


def test_the_pause_between_restarts_grows_to_its_limit(home: PlaneHome, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, clock = home.keeper(), Clock(monkeypatch)
    monkeypatch.setattr(keeper, "_process", lambda _: None)
    monkeypatch.setattr(keeper, "_spawn", lambda _: None)
    home.start(keeper)
    pauses = []
    assert keeper.revive() == ["one"], "the first restart comes at once"
    for _ in range(10):
        begun = clock.now
        while not keeper.revive():
            clock.now += 0.05
        pauses.append(clock.now - begun)
    assert pauses[0] >= FIRST_BACKOFF_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(MAX_BACKOFF_S, abs=0.1)


def test_who_died_long_after_the_last_restart_is_back_at_once(home: PlaneHome, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, clock = home.keeper(), Clock(monkeypatch)
    monkeypatch.setattr(keeper, "_process", lambda _: None)
    monkeypatch.setattr(keeper, "_spawn", lambda _: None)
    home.start(keeper)
    for _ in range(20):
        clock.now += MAX_BACKOFF_S
        assert keeper.revive() == ["one"]


def test_a_child_that_cannot_be_started_keeps_no_other_from_it(home: PlaneHome) -> None:
    keeper = home.keeper()
    for name in ("a", "b", "c"):
        home.kill(home.start(keeper, name))
    keeper.children["a"].command = ["/nowhere/at/all"]
    with pytest.raises(FileNotFoundError):
        keeper.revive()
    assert [name for name in ("a", "b", "c") if keeper.alive(name)] == ["b", "c"]


def test_two_threads_start_one_process(home: PlaneHome) -> None:
    keeper = home.keeper()
    barrier, stop = threading.Barrier(9), threading.Event()

    def start() -> None:
        barrier.wait()
        home.start(keeper)

    def revive() -> None:
        barrier.wait()
        while not stop.is_set():
            keeper.revive()

    starters = [threading.Thread(target=start) for _ in range(4)]
    revivers = [threading.Thread(target=revive) for _ in range(4)]
    for thread in (*starters, *revivers):
        thread.start()
    barrier.wait()
    for thread in starters:
        thread.join(30)
    stop.set()
    for thread in revivers:
        thread.join(30)
    assert home.running() == {keeper.children["one"].pid}
    assert keeper.children["one"].restarts == 0


def test_stopping_one_does_not_keep_the_others_from_being_revived(home: PlaneHome) -> None:
    keeper = home.keeper()
    stubborn = [
        sys.executable,
        "-c",
        "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(300)",
    ]
    home.start(keeper, "stubborn", stubborn)
    until(lambda: home.log.read_text() != "", within_s=20, what="it ignores SIGTERM")
    victim = home.start(keeper, "victim")
    stopper = threading.Thread(target=keeper.stop, args=("stubborn",), kwargs={"grace_s": 2})
    stopper.start()
    until(lambda: "stubborn" not in keeper.children, within_s=10, what="the stop has begun")
    home.kill(victim)
    assert keeper.revive() == ["victim"]
    assert stopper.is_alive(), "the stop still waits"
    stopper.join(30)
    assert home.running() == {keeper.children["victim"].pid}
    assert not (home.folder / "stubborn.json").exists()


def _holds(log: Path, text: str) -> bool:
    return log.read_text() == text


def test_a_log_that_grows_too_large_is_put_away_and_its_writer_goes_on(home: PlaneHome) -> None:
    keeper = home.keeper()
    ask = home.log.with_name("ask")
    talk = (
        "import pathlib, sys, time\n"
        "print('a' * 3000, flush=True)\n"
        f"ask = pathlib.Path({str(ask)!r})\n"
        "while True:\n"
        "    time.sleep(0.02)\n"
        "    if ask.exists():\n"
        "        print(ask.read_text(), flush=True)\n"
        "        ask.unlink()\n"
    )
    home.start(keeper, "one", [sys.executable, "-c", talk])
    until(lambda: home.log.stat().st_size > 3000, within_s=20, what="it has said much")
    keeper.bound_logs(limit_bytes=5000)
    assert home.log.stat().st_size > 3000
    old = home.log.with_name("child.log.1")
    for said, before in (("b" * 3000, "a" * 3000), ("c", "b" * 3000)):
        keeper.bound_logs(limit_bytes=2000)
        assert (home.log.read_text(), old.read_text()) == ("", before + "\n")
        ask.with_name("asking").write_text(said)
        ask.with_name("asking").rename(ask)
        until(partial(_holds, home.log, f"{said}\n"), within_s=20, what="it goes on at the beginning")
    assert keeper.alive("one")


def test_a_child_without_a_log_yet_is_no_trouble(home: PlaneHome) -> None:
    keeper = home.keeper()
    home.start(keeper, "one", SLEEP)
    home.log.unlink()
    keeper.bound_logs(limit_bytes=0)
    assert keeper.alive("one")


def test_stopping_what_does_not_run_is_fine(home: PlaneHome) -> None:
    keeper = home.keeper()
    keeper.stop("one")
    home.kill(home.start(keeper))
    keeper.stop("one")
    assert list(home.folder.glob("*.json")) == []


def test_strays_are_ended_and_the_needed_stay(home: PlaneHome) -> None:
    # A keeper that was killed between starting a child and writing it down, or before the child was wanted for good.
    keeper = home.keeper()
    kept = home.start(keeper, "kept")
    home.start(keeper, "unwritten")
    home.start(keeper, "unwanted")
    (home.folder / "unwritten.json").unlink()
    successor = home.keeper()
    successor.end_strays(needed={"kept"})
    assert home.running() == {kept}
    assert list(successor.children) == ["kept"]
    assert [path.name for path in home.folder.glob("*.json")] == ["kept.json"]


def test_a_spoilt_record_makes_a_stray_that_is_ended(home: PlaneHome) -> None:
    home.start(home.keeper())
    (home.folder / "one.json").write_text('{"name": "one", "pid"')
    successor = home.keeper()
    successor.end_strays(needed={"one"})
    assert home.running() == set()
    home.start(successor)
    assert successor.alive("one")


@pytest.mark.parametrize("spoilt", [b'{"name": "one", "pid"', b"\xff", b"[]", b""])
def test_no_record_keeps_a_keeper_from_ending_all(home: PlaneHome, spoilt: bytes) -> None:
    home.start(home.keeper())
    (home.folder / "one.json").write_bytes(spoilt)
    (home.folder / "two.json").mkdir()
    home.keeper().stop_all(grace_s=1)
    assert home.running() == set()
    (home.folder / "two.json").rmdir()


def test_children_say_whose_they_are(home: PlaneHome) -> None:
    assert carried_id(home.folder) is None
    keeper = home.keeper()
    home.start(keeper, "one")
    home.kill(home.start(keeper, "dead"))
    (home.folder / "a-spoilt-one.json").write_text("{")
    assert carried_id(home.folder) == home.plane_id
    home.kill(keeper.children["one"].pid)
    assert carried_id(home.folder) is None


def test_planes_do_not_touch_each_other(home: PlaneHome, tmp_path: Path) -> None:
    neighbour = PlaneHome(tmp_path / "neighbour" / "children")
    neighbour.folder.parent.mkdir()
    pid = neighbour.start(neighbour.keeper())
    try:
        home.start(home.keeper())
        home.keeper().end_strays(needed=set())
        home.keeper().stop_all()
        assert neighbour.running() == {pid}
    finally:
        neighbour.keeper().stop_all(grace_s=1)


def test_records_are_the_owners_alone(home: PlaneHome) -> None:
    home.start(home.keeper())
    assert (home.folder / "one.json").stat().st_mode & 0o777 == 0o600
    assert home.folder.stat().st_mode & 0o777 == 0o700


def test_a_process_that_has_no_environment_to_show_yet_is_adopted(
    home: PlaneHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment after its start ``/proc`` shows none, and a keeper may have been killed in that very moment."""
    home.start(home.keeper())
    environ, asked = psutil.Process.environ, []

    def none_at_first(process: psutil.Process) -> dict[str, str]:
        asked.append(process.pid)
        return {} if len(asked) <= 3 else environ(process)

    monkeypatch.setattr(psutil.Process, "environ", none_at_first)
    assert home.keeper().alive("one")
    assert len(asked) > 3
