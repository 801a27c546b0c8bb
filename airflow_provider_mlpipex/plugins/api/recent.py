"""Answers that cost the plane something, shared for some seconds: ten people on a page ask it once, not ten times."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
#: Answers that are kept at once.
MAX_KEPT = 200


@dataclass
class _Kept(Generic[T]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    at: float = float("-inf")
    value: T | None = None


class Recent(Generic[T]):
    """:param seconds: for which an answer is shared. :param clock: shows seconds that only grow."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` answers, or has answered lately for ``key``. Of several who ask at once, one asks it; an error
        is kept for nobody."""
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        with kept.lock:
            if kept.value is None or self._clock() - kept.at >= self._seconds:
                kept.value, kept.at = make(), self._clock()
            return kept.value

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()
