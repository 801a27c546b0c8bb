"""A wall clock that no step leads astray: what is kept for hours must not go because a clock was wrong for seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

#: A difference to the machine's own count of seconds that is no step: clocks are slewed, and machines are slow.
TOLERANCE_S = 5.0
#: A clock that was set forward is believed after so long: until then somebody may set it back.
BELIEVED_AFTER_S = 600.0


class Reading(NamedTuple):
    """:param now: epoch seconds. :param set_back_by: seconds by which the clock was set back since the last look."""

    now: float
    set_back_by: float = 0.0


def _uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """Follows the wall clock, but for a step forward only once that has stood for ten minutes."""

    def __init__(self, *, wall: Callable[[], float] = time.time, uptime: Callable[[], float] = _uptime_s) -> None:
        self._wall = wall
        self._uptime = uptime
        self._now, self._looked_at = wall(), uptime()
        #: By how much, and since when, the wall clock is ahead of what is believed.
        self._ahead_by, self._ahead_since = 0.0, 0.0

    def read(self) -> Reading:
        wall, uptime = self._wall(), self._uptime()
        self._now += uptime - self._looked_at
        self._looked_at = uptime
        ahead_by = wall - self._now
        if ahead_by > TOLERANCE_S:
            if not self._ahead_by:
                self._ahead_since = uptime
            back = max(0.0, self._ahead_by - ahead_by)
            self._ahead_by = ahead_by
            if uptime - self._ahead_since > BELIEVED_AFTER_S:
                self._now, self._ahead_by = wall, 0.0
            return Reading(self._now, back if back > TOLERANCE_S else 0.0)
        back = self._ahead_by - ahead_by
        self._now, self._ahead_by = wall, 0.0
        return Reading(self._now, back if back > TOLERANCE_S else 0.0)
