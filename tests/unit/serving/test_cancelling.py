"""Work that is called off: its programs end with all that they started, and who waits for a lock waits no longer."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from airflow_provider_mlpipex.serving import artifacts, cancelling
from airflow_provider_mlpipex.serving.artifacts import ArtifactCache, exclusive
from airflow_provider_mlpipex.serving.cancelling import Cancelled
from tests.support.polling import until

#: Starts another program, writes both pids, and waits.
WAITS = (
    "import os, pathlib, subprocess, sys, time\n"
    "child = subprocess.Popen(['sleep', '300'])\n"
    "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {child.pid}')\n"
    "time.sleep(300)\n"
)


def called_off(work: Callable[[], object], *, once: Callable[[], bool]) -> BaseException | None:
    """What ``work`` has raised in a thread of its own that was called off ``once`` it had begun."""
    event, raised = threading.Event(), []

    def do() -> None:
        try:
            with cancelling.until(event):
                work()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    until(once, within_s=60, what="it has begun")
    assert thread.is_alive()
    event.set()
    thread.join(timeout=60)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_a_program_ends_with_what_it_has_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    command = [sys.executable, "-I", "-S", "-c", WAITS, str(note)]
    error = called_off(
        lambda: cancelling.run(command, timeout_s=300),
        once=lambda: note.exists() and len(note.read_text().split()) == 2,
    )
    assert isinstance(error, Cancelled)
    for pid in map(int, note.read_text().split()):
        until(lambda pid=pid: _is_gone(pid), within_s=30, what="nothing is left of it")


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_program_says_what_it_has_to_say() -> None:
    code = "import sys; print('x' * 200_000); print('no', file=sys.stderr); sys.exit(3)"
    done = cancelling.run([sys.executable, "-I", "-S", "-c", code], timeout_s=60)
    assert (done.returncode, len(done.stdout), done.stderr) == (3, 200_001, "no\n")


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with pytest.raises(subprocess.TimeoutExpired):
        cancelling.run([sys.executable, "-I", "-S", "-c", WAITS, str(note)], timeout_s=1.5)


def test_nobody_waits_for_a_lock_any_more(tmp_path: Path) -> None:
    lock, held = threading.Lock(), tmp_path / "held"
    with lock:
        assert isinstance(called_off(lambda: cancelling.acquire(lock), once=lambda: True), Cancelled)
    cancelling.acquire(lock)
    lock.release()
    with exclusive(held):

        def wait() -> None:
            with exclusive(held):
                pytest.fail("two at once")

        assert isinstance(called_off(wait, once=lambda: True), Cancelled)


def test_a_download_is_ended_and_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that hangs: the program that asks it is played by one that waits."""
    note, program = tmp_path / "pids", tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S -c "$(cat {tmp_path}/waits.py)" {note}\n')
    (tmp_path / "waits.py").write_text(WAITS)
    program.chmod(0o755)
    monkeypatch.setattr(artifacts.sys, "executable", str(program))
    cache = ArtifactCache(tmp_path / "cache")
    error = called_off(
        lambda: cache.fetch("runs:/abc/model", "0" * 64, tracking_uri="http://127.0.0.1:1"), once=note.exists
    )
    assert isinstance(error, Cancelled)
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")] == []


def test_work_that_nobody_can_call_off_is_not() -> None:
    cancelling.check()
    with cancelling.until(threading.Event()):
        cancelling.check()
