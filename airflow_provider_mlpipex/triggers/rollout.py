"""The watcher of a live trial or of a fresh promotion, on the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, partial
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.events import Origin
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.observability import LOOK_FAILED, trace_id
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.watching import Look, WatchedStage, look

#: Airflow 3.3 fails a deferred task whose trigger answers before the scheduler has seen the worker leave
#: (apache/airflow #67287, #71580). A revert is made at once; only the news of it waits this long.
SETTLE_S = 3.0

#: Looks that are made at once. Asyncio's own pool has six threads on two cores: a few planes that hang would hold them
#: all, and leases of healthy trials would run out meanwhile.
_LOOKS_AT_ONCE = 32


@cache
def _lookers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_LOOKS_AT_ONCE, thread_name_prefix="mlpipex-look")


class RolloutTrigger(BaseTrigger):
    """Look at one stage of a rollout again and again, and roll back here, on the triggerer, when a gate fails.

    Holds ids only: whoever restarts it reads everything else from the ledger. A look is a few milliseconds of HTTP and
    SQL in a thread, so hundreds share one triggerer. While plane or ledger are away it keeps looking; the plane itself
    takes a trial back when nobody renews its lease.

    :param mlpipex_conn_id: connection of type ``mlpipex``.
    :param endpoint: ``environment/name``.
    :param rollout_id: the rollout to watch.
    :param stage: ``shadow``, ``canary`` or ``watch``.
    :param step: the canary step (from 0); -1 for other stages.
    :param poll_interval: seconds between looks.
    :param give_up_after: seconds of unbroken failure to look, after which the task is told.
    :param task: ``dag_id``, ``run_id``, ``task_id`` and ``try_number`` of the deferred task, for the ledger.
    """

    def __init__(
        self,
        *,
        mlpipex_conn_id: str,
        endpoint: str,
        rollout_id: str,
        stage: WatchedStage,
        step: int = -1,
        poll_interval: float = 5.0,
        give_up_after: float = 600.0,
        task: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's is not annotated
        self.mlpipex_conn_id = mlpipex_conn_id
        self.endpoint = endpoint
        self.rollout_id = rollout_id
        self.stage = stage
        self.step = step
        self.poll_interval = poll_interval
        self.give_up_after = give_up_after
        self.deferred_task = task or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "mlpipex_conn_id": self.mlpipex_conn_id,
                "endpoint": self.endpoint,
                "rollout_id": self.rollout_id,
                "stage": self.stage,
                "step": self.step,
                "poll_interval": self.poll_interval,
                "give_up_after": self.give_up_after,
                "task": self.deferred_task,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        started = time.monotonic()
        origin = Origin(kind="trigger", trace_id=trace_id(), **self.deferred_task)
        platform = await MlpipexHook(self.mlpipex_conn_id).platform_async(origin)
        event = await self._watch(platform)
        await asyncio.sleep(max(0.0, started + SETTLE_S - time.monotonic()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # Airflow's is not annotated

    async def _watch(self, platform: Platform) -> dict[str, Any]:
        endpoint = EndpointRef.parse(self.endpoint)
        answered = time.monotonic()
        while True:
            await asyncio.sleep(self.poll_interval)
            try:
                seen = await self._look(platform, endpoint)
            except MlpipexError as error:
                self.log.warning(LOOK_FAILED, endpoint=self.endpoint, **error.as_dict())
                if not error.transient or time.monotonic() - answered > self.give_up_after:
                    return {"status": "error", "rollout_id": self.rollout_id, **error.as_dict()}
                continue
            answered = time.monotonic()
            if seen.status != "watching":
                return self._event(seen)

    async def _look(self, platform: Platform, endpoint: EndpointRef) -> Look:
        once = partial(look, platform, endpoint=endpoint, rollout_id=self.rollout_id, stage=self.stage, step=self.step)
        return await asyncio.get_running_loop().run_in_executor(_lookers(), copy_context().run, once)

    def _event(self, seen: Look) -> dict[str, Any]:
        """Small and JSON: the whole evidence is in the ledger. A scheduled watch learns here whose rollout it was."""
        return {
            "rollout_id": self.rollout_id,
            "status": seen.status,
            "verdict": seen.verdict,
            "cause": seen.cause,
            "results": [result.to_json() for result in seen.results],
        }
