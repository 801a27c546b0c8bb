"""Memory of model servers: one that grows beyond its limit is ended by name, before the machine ends whom it likes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import psutil

from airflow_provider_mlpipex.serving.endings import Ending
from airflow_provider_mlpipex.serving.periodic import Background
from airflow_provider_mlpipex.serving.plane_log import PROCESS_OUT_OF_MEMORY, plane_log
from airflow_provider_mlpipex.serving.processes import ProcessKeeper

#: Seconds between two looks. A server grows by some hundred megabytes a second at most.
EVERY_S = 0.5
#: Of what there is, where nobody has said how much one may have.
_SHARE = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch(Background):
    """:param keeper: ends them, and starts them again with growing pauses. :param limit_bytes: of each; 0: none.
    :param but: children that are no model servers: Envoys. :param say: takes what went wrong.
    """

    def __init__(
        self,
        keeper: ProcessKeeper,
        *,
        limit_bytes: int,
        but: Collection[str],
        say: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("memory", every_s=EVERY_S, say=say)
        self._keeper = keeper
        self._limit = limit_bytes
        self._but = frozenset(but)

    def work(self) -> None:
        for name, child in list(self._keeper.children.items()):
            held = resident_bytes(child.pid) if self._limit and name not in self._but else 0
            if held > self._limit:
                ending = Ending(f"out of memory: {_mb(held)}, limit {_mb(self._limit)}", for_memory=True)
                if self._keeper.kill(name, child.pid, ending=ending):
                    plane_log.warning(PROCESS_OUT_OF_MEMORY, process=name, why=ending.said)


def resident_bytes(pid: int) -> int:
    """What process ``pid`` has in memory; 0 where there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def usual_limit() -> int:
    """Half of the memory of this machine, or of the container that this runs in."""
    return int(min([psutil.virtual_memory().total, *_container_limits()]) * _SHARE)


def _container_limits() -> list[int]:
    try:
        return [int(Path("/sys/fs/cgroup/memory.max").read_text())]
    except (OSError, ValueError):  # no container, or one without a limit
        return []


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
