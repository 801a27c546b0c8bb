"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_STOP_TIMEOUT_S = 20.0
_LOG_TAIL = 1500


class ChildDied(RuntimeError):
    """A server of the stack ended by itself; the message ends with what it logged last."""


class Children:
    """Servers, each in its own process group, told to stop when this process ends, however it ends.

    :param logs: folder of one log file a server.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, niceness: int = 0
    ) -> None:
        """:param niceness: added to the server's; the serving plane must not wait for a worker that starts."""
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _stop_with_parent(niceness),
            )

    def run(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], cwd: Path) -> None:
        """Run to the end. :raises ChildDied: it failed."""
        self.start(name, command, environment=environment, cwd=cwd)
        if self._running[name].wait() != 0:
            raise self._died(name)
        del self._running[name]

    def wait_until(self, name: str, answers: Callable[[], bool], *, seconds: float) -> None:
        """:raises ChildDied: ``name`` ended, or did not answer in time."""
        deadline = time.monotonic() + seconds
        while not answers():
            if self._running[name].poll() is not None or time.monotonic() > deadline:
                raise self._died(name)
            time.sleep(0.2)

    def check(self) -> None:
        """:raises ChildDied: naming the first server that is gone."""
        for name, child in self._running.items():
            if child.poll() is not None:
                raise self._died(name)

    def stop(self) -> None:
        """Ask all to stop, newest first, then end what is left of their groups."""
        for child in reversed(self._running.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for child in reversed(self._running.values()):
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=max(0.1, deadline - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self._running.clear()

    def _died(self, name: str) -> ChildDied:
        said = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
        return ChildDied(f"{name} is not running (exit code {self._running[name].poll()}); it said last:\n{said}")


def _stop_with_parent(niceness: int) -> None:
    """Runs in the child before exec: SIGTERM when the parent dies, so that kill -9 leaves nothing behind either."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if niceness:
        os.nice(niceness)
