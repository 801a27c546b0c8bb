"""Work that somebody may call off: downloads and builds end their programs then, and nobody waits for a lock any more.

What is begun inside ``with until(event)`` ends soon after ``event`` is set, by :class:`Cancelled`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar

_POLL_S = 0.1
_EVENT: ContextVar[threading.Event | None] = ContextVar("mlpipex-cancelled", default=None)


class Cancelled(Exception):
    """Somebody has called the work off; what it had begun is ended."""


@contextlib.contextmanager
def until(event: threading.Event) -> Iterator[None]:
    """Let what this thread does inside end by :class:`Cancelled` when ``event`` is set."""
    token = _EVENT.set(event)
    try:
        yield
    finally:
        _EVENT.reset(token)


def check() -> None:
    """:raises Cancelled: the work that this thread does was called off."""
    event = _EVENT.get()
    if event is not None and event.is_set():
        raise Cancelled


def acquire(lock: threading.Lock) -> None:
    """Take ``lock`` when it is free.

    :raises Cancelled: the work was called off before.
    """
    while not lock.acquire(timeout=_POLL_S):
        check()


def run(
    command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What ``command`` has printed, and its exit code.

    :raises subprocess.TimeoutExpired: it took longer than ``timeout_s``, and was ended with all that it had started.
    :raises Cancelled: the work was called off; the same.
    """
    deadline = time.monotonic() + timeout_s
    with subprocess.Popen(
        list(command),
        env=dict(env) if env is not None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while True:
                check()
                try:
                    said, complained = process.communicate(timeout=_POLL_S)
                except subprocess.TimeoutExpired:
                    if time.monotonic() > deadline:
                        raise subprocess.TimeoutExpired(list(command), timeout_s) from None
                else:
                    return subprocess.CompletedProcess(list(command), process.returncode, said, complained)
        except BaseException:  # also a key press: what was begun must not outlive it; it goes on to the caller
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
