"""The windows of a watch: a gate "over 1 minute" is judged on windows that begin on a fixed grid.

Let *w* be a gate's window, *W* the length of the watch and *a* the gate's share of the rollout's alpha. Window *k*
begins ``k * w / 2`` after the promotion, for ``k = 0 … K - 1`` with ``K = ceil(2 W / w)``. Each is a confidence
sequence of its own at ``a / K``: what it holds since its beginning may be looked at as often as one likes. By the
union bound over the K beginnings the gate raises a false alarm in the whole watch with probability at most *a*. A
window that *slid* with the clock would begin anew at every look, and no bound would hold for it.

Nor is a late failure diluted. One that sets in at *T* finds a window that begins within ``w / 2`` after it and holds
nothing else, and one that began at most ``w / 2`` before. A single sequence since the promotion would have to outweigh
the whole good past: the bad requests that it needs grow in proportion to the good ones before them. The grid costs
``log K`` more evidence instead, 4.1 nats for a minute in half an hour, which is two more failing requests where 10 %
may fail.

At any time the three latest windows are judged. The oldest has lasted at least *w*, so it can pass; any can fail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from airflow_provider_mlpipex.domain.gates.verdict import GateResult

#: Windows begin this many times in one window's length.
_BEGINNINGS = 2
#: So many lie open at once that the oldest has lasted a whole window.
_OPEN = _BEGINNINGS + 1


def pace(window: timedelta | None, watch: timedelta) -> timedelta | None:
    """Time from one beginning to the next; ``None`` where only one window begins."""
    if window is None or window >= watch or window <= timedelta(0):
        return None
    return window / _BEGINNINGS


def beginnings(window: timedelta | None, watch: timedelta) -> int:
    """How many windows begin in ``watch``."""
    between = pace(window, watch)
    return 1 if between is None else math.ceil(watch / between)


def open_since(began: datetime, now: datetime, *, window: timedelta | None, watch: timedelta) -> tuple[datetime, ...]:
    """When the windows began that are judged at ``now``, the oldest first.

    After the planned end no new ones begin: the last go on, as their alphas have been spent.
    """
    between = pace(window, watch)
    if between is None:
        return (began,)
    newest = min(beginnings(window, watch) - 1, max(0, (now - began) // between))
    return tuple(began + k * between for k in range(max(0, newest - _OPEN + 1), newest + 1))


def decisive(results: Sequence[GateResult]) -> GateResult:
    """What one gate says, given its result in each open window, the oldest first: a failure in any, else the oldest."""
    return next((result for result in results if result.verdict == "fail"), results[0])
