"""Counts of one release's attempts over time, so kept that any window is a sum of few of them.

Every attempt is counted in its second and in its minute. Seconds are forgotten after half an hour; minutes are folded
into ten minutes after two hours, because a stage that has to see a small excess may last for days. A window of half an
hour is then a sum of at most thirty minutes and, at its two ends, 118 seconds; what is held does not depend on traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

#: For so long seconds are kept; then only the minute that they lie in.
FINE_S, MINUTE_S = 1800, 60
#: For so long minutes are kept; then only the ten minutes that they lie in.
MINUTES_S, COARSE_S = 2 * 3600, 600
KEPT_S = 14 * 24 * 3600


@dataclass(slots=True)
class Bucket:
    """Attempts of one release in one second, one minute or ten minutes. ``latency``: index of a bound -> count."""

    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    unfinished: int = 0
    latency: dict[int, int] = field(default_factory=dict)

    def add(self, other: Bucket) -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.client_errors += other.client_errors
        self.unfinished += other.unfinished
        latency = self.latency
        for at, count in other.latency.items():
            latency[at] = latency.get(at, 0) + count

    def blame(self) -> None:
        """What was counted as the client's error was the release's."""
        self.client_errors -= 1
        self.errors += 1


@dataclass(frozen=True, slots=True)
class Horizon:
    """Which buckets are held: seconds from ``fine``, minutes from ``minutes``, ten minutes from ``kept``. Each is where
    one of the coarser kind begins."""

    fine: int = 0
    minutes: int = 0
    kept: int = 0

    @classmethod
    def at(cls, now: float) -> Horizon:
        return cls(
            fine=int(now - FINE_S) // MINUTE_S * MINUTE_S,
            minutes=int(now - MINUTES_S) // COARSE_S * COARSE_S,
            kept=int(now - KEPT_S),
        )


class AttemptCounts:
    """Attempts of one release. Not safe among threads; the caller says by which horizon it counts."""

    def __init__(self) -> None:
        self._seconds: dict[int, Bucket] = {}
        self._minutes: dict[int, Bucket] = {}
        self._coarse: dict[int, Bucket] = {}

    def __len__(self) -> int:
        return len(self._seconds) + len(self._minutes) + len(self._coarse)

    def at(self, second: int, horizon: Horizon) -> tuple[Bucket, ...]:
        """The buckets that an attempt of ``second`` is counted in."""
        if second < horizon.minutes:
            return (_bucket(self._coarse, second // COARSE_S * COARSE_S),)
        minute = _bucket(self._minutes, second // MINUTE_S * MINUTE_S)
        return (minute,) if second < horizon.fine else (minute, _bucket(self._seconds, second))

    def redate(self, later_than: float, *, by: int, horizon: Horizon) -> None:
        """Count attempts that are dated ``later_than`` so many seconds earlier: a clock was wrong, and is set back."""
        moved = {second: self._seconds.pop(second) for second in [s for s in self._seconds if s > later_than]}
        for minute in {second // MINUTE_S * MINUTE_S for second in moved}:
            # Those seconds are all held, so what remains of their minute is the sum of its others.
            self._minutes.pop(minute, None)
            for second in range(minute, minute + MINUTE_S):
                if second in self._seconds:
                    _bucket(self._minutes, minute).add(self._seconds[second])
        for second, bucket in moved.items():
            for counted in self.at(second - by, horizon):
                counted.add(bucket)

    def fold(self, horizon: Horizon) -> None:
        """Drop and fold what lies beyond ``horizon``, which only moves on."""
        for second in [second for second in self._seconds if second < horizon.fine]:
            del self._seconds[second]
        for minute in [minute for minute in self._minutes if minute < horizon.minutes]:
            _bucket(self._coarse, minute // COARSE_S * COARSE_S).add(self._minutes.pop(minute))
        for begins in [begins for begins in self._coarse if begins < horizon.kept]:
            del self._coarse[begins]

    def sum(self, start: float, end: float, horizon: Horizon) -> Bucket:
        """Everything in buckets that begin from ``start`` to before ``end``, each attempt once."""
        whole = Bucket()
        for bucket in self._between(math.ceil(start), math.ceil(end), horizon):
            whole.add(bucket)
        return whole

    def _between(self, start: int, end: int, horizon: Horizon) -> Iterator[Bucket]:
        if start < horizon.minutes:
            yield from _held(self._coarse, _up(start, COARSE_S), min(end, horizon.minutes), COARSE_S)
            start = horizon.minutes
        if start < horizon.fine:
            yield from _held(self._minutes, _up(start, MINUTE_S), min(end, horizon.fine), MINUTE_S)
            start = horizon.fine
        first, last = _up(start, MINUTE_S), end // MINUTE_S * MINUTE_S
        if first >= last:
            yield from _held(self._seconds, start, end, 1)
            return
        yield from _held(self._seconds, start, first, 1)
        yield from _held(self._minutes, first, last, MINUTE_S)
        yield from _held(self._seconds, last, end, 1)


def _bucket(buckets: dict[int, Bucket], begins: int) -> Bucket:
    bucket = buckets.get(begins)
    if bucket is None:
        bucket = buckets[begins] = Bucket()
    return bucket


def _held(buckets: dict[int, Bucket], start: int, end: int, step: int) -> Iterator[Bucket]:
    if (end - start) // step > len(buckets):
        yield from [bucket for begins, bucket in buckets.items() if start <= begins < end]
        return
    for begins in range(start, end, step):
        bucket = buckets.get(begins)
        if bucket is not None:
            yield bucket


def _up(moment: int, step: int) -> int:
    return -(-moment // step) * step
