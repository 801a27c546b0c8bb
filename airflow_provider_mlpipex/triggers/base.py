"""What every trigger shares: it looks again and again, in a thread, and tells the task once what it has seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ClassVar, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.log_fields import ReadableLog
from airflow_provider_mlpipex.observability import trace_id
from airflow_provider_mlpipex.services.platform import Platform

#: Airflow 3.3 fails a deferred task whose trigger answers before the scheduler has seen the worker leave
#: (apache/airflow #67287, #71580). A revert is made at once; only the news of it waits this long.
SETTLE_S = 3.0
Read = TypeVar("Read")


class PollingTrigger(BaseTrigger):
    """Base of the triggers. Holds ids only: whoever restarts it reads everything else from the ledger.

    :param mlpipex_conn_id: connection of type ``mlpipex``.
    :param poll_interval: seconds between looks.
    :param give_up_after: seconds of unbroken failure to look, after which the task is told.
    :param task: ``dag_id``, ``run_id``, ``task_id`` and ``try_number`` of the deferred task, for the ledger.
    """

    #: Further parameters that :meth:`serialize` keeps, each an attribute of the same name.
    kept: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        mlpipex_conn_id: str,
        poll_interval: float,
        give_up_after: float,
        task: dict[str, Any] | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's is not annotated
        self.mlpipex_conn_id = mlpipex_conn_id
        self.poll_interval = poll_interval
        self.give_up_after = give_up_after
        self.deferred_task = task or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("mlpipex_conn_id", *self.kept, "poll_interval", "give_up_after")
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {**{name: getattr(self, name) for name in names}, "task": self.deferred_task},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        started = time.monotonic()
        origin = Origin(kind="trigger", trace_id=trace_id(), **self.deferred_task)
        platform = await MlpipexHook(self.mlpipex_conn_id).platform_async(origin)
        event = await self.watch(platform)
        await asyncio.sleep(max(0.0, started + SETTLE_S - time.monotonic()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # Airflow's is not annotated

    @property
    def lines(self) -> ReadableLog:
        """The trigger's log, in lines that Airflow's pages can show."""
        return ReadableLog(self.log)

    async def watch(self, platform: Platform) -> dict[str, Any]:
        """Look until there is something to tell; return it, small and JSON."""
        raise NotImplementedError

    @staticmethod
    async def in_thread(pool: ThreadPoolExecutor, once: Callable[[], Read]) -> Read:
        """One look, off the triggerer's event loop: HTTP and SQL would hold up every other trigger."""
        return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, once)
