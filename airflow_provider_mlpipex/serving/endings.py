"""How a process has ended, in words, and whether memory was the reason: one that was too large will be so again."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

#: The kernel's count of processes of this control group that it has ended for memory; whichever limit they were beyond.
_CGROUP = Path("/proc/self/cgroup")
_EVENTS_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Ending:
    """:param said: for people. :param for_memory: whether it had too much memory."""

    said: str
    for_memory: bool = False


def ending_of(code: int | None, *, ended_by_kernel: bool | None) -> Ending:
    """:param code: exit code as ``subprocess`` has it; ``None`` where another process was its parent.
    :param ended_by_kernel: whether the kernel has ended one for memory since somebody looked last; ``None`` where it
        does not say.
    """
    if ended_by_kernel and code in (None, -signal.SIGKILL):
        return Ending("out of memory: ended by the kernel", for_memory=True)
    if code is None:
        return Ending("ended while no supervisor was there to see how")
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if -code != signal.SIGKILL:
            return Ending(f"crashed ({name})")
        known = "whether for memory, the kernel does not say" if ended_by_kernel is None else "not for memory"
        return Ending(f"killed (SIGKILL), {known}")
    return Ending(f"ended by itself, exit code {code}")


def kernel_oom_kills() -> int | None:
    """How many processes of this control group the kernel has ended for memory; ``None`` where it does not say."""
    try:
        own = next(line for line in _CGROUP.read_text().splitlines() if line.startswith("0::"))
        events = (_EVENTS_ROOT / own[3:].lstrip("/") / "memory.events").read_text()
        return int(dict(line.split() for line in events.splitlines())["oom_kill"])
    except (OSError, StopIteration, KeyError, ValueError):
        return None
