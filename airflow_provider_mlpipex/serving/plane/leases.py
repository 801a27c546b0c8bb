"""Leases: how long a trial may run while nobody watches it.

Told in seconds since the machine started. Wall time would not do: somebody may set it back, and a trial would outlive
its watcher by as much; or forward, and a watched trial would end. The count survives the supervisor; it begins again
with the machine, whose start is therefore part of a lease.
"""

from __future__ import annotations

import time
from pathlib import Path

from airflow_provider_mlpipex.domain.values import Value

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Lease(Value):
    """:param boot: which start of the machine ``ends`` counts from. :param ends: seconds after it."""

    boot: str
    ends: float

    @property
    def is_over(self) -> bool:
        """Also when the machine was started anew: nobody watched meanwhile."""
        return self.left_s <= 0.0

    @property
    def left_s(self) -> float:
        """Seconds until it is over; nothing left after the machine was started anew."""
        return self.ends - uptime_s() if self.boot == boot_id() else 0.0


def lease_for(seconds: float | None) -> Lease | None:
    """A lease from now on; ``None`` for a plan that needs no watcher."""
    return None if seconds is None else Lease(boot=boot_id(), ends=uptime_s() + seconds)


def uptime_s() -> float:
    """Seconds since the machine started, those that it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
