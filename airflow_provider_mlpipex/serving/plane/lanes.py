"""Lanes: verbs that may wait long have threads of their own, so that they never hold up those that must not wait.

asyncio's own pool has six threads on two cores. Eight teams that released at once took all of them, and a rollback
waited 28 s; behind a registry that hung it waited for minutes.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """:param name: what runs in it. :param threads: how many at once. :param waiting: how many more may wait."""

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self._name = name
        self._places = threads + waiting
        self._taken = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``verb``, which blocks.

        :raises PlaneUnavailable: the lane is full. What was not begun is safe to ask for again.
        """
        with self._lock:
            if self._taken >= self._places:
                raise PlaneUnavailable(
                    f"control API, {self._name}",
                    value=f"{self._taken} requests under way",
                    limit=f"at most {self._places}",
                    remedy="wait until they are done and run the task again; rollbacks and plans are not held up",
                )
            self._taken += 1
        done = self._pool.submit(functools.partial(verb, *args, **kwargs))
        # Counted when the verb ends, and not when its caller hangs up: its thread is taken until then.
        done.add_done_callback(lambda _: self._leave())
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Begin nothing more; what is under way goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        with self._lock:
            self._taken -= 1
