"""How much a stage will observe at the traffic that a manifest declares, and how long it would need for more."""

from __future__ import annotations

import math
from datetime import timedelta

from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.stage_blocks import CanarySpec

#: From the decision to the last request that the bad release answers; the embedded plane needs milliseconds.
REVERT = timedelta(seconds=1)
_LOOKS = 10
_MIN_PAUSE, _MAX_PAUSE = timedelta(seconds=1), timedelta(seconds=15)


def expected_samples(rate: float, share: float, duration: timedelta) -> int:
    """Whole requests that ``share`` of ``rate`` requests a second brings in ``duration``."""
    # A hair of tolerance, because 30/s × 50 % × 30m must be 27,000 and not one less.
    return math.floor(rate * share * duration.total_seconds() + 1e-6)


def needed_duration(samples: int, rate: float, share: float) -> timedelta:
    """Time in which ``share`` of ``rate`` requests a second brings ``samples``, rounded up to a second."""
    return timedelta(seconds=math.ceil(samples / (rate * share) - 1e-6))


def look_every(stage: timedelta) -> timedelta:
    """How often a watcher looks at a stage that lasts so long: ten times, but not without a pause nor seldom."""
    return min(_MAX_PAUSE, max(_MIN_PAUSE, stage / _LOOKS))


def block_of(stage: timedelta) -> timedelta:
    """The time that is taken to be good or bad as a whole, where requests fail in clumps: a tenth of the stage, but no
    longer than a minute and no shorter than the second that the plane counts by."""
    return min(timedelta(minutes=1), max(timedelta(seconds=1), stage / 10))


def ignored(gate: Gate, first: timedelta | None) -> timedelta:
    """For how long ``gate`` looks away when a stage begins: one on a latency, from the slow first answers of a release.
    An error at first is an error."""
    return first if first is not None and gate.quantile is not None else timedelta(0)


def spans_canary(gate: Gate, canary: CanarySpec) -> bool:
    """Whether ``gate`` is judged over the whole canary: its window is longer than one step, or steps have no length of
    their own for it to be shorter than."""
    return gate.window is not None and (canary.step_duration is None or gate.window > canary.step_duration)
