"""The watcher of a live trial or of a fresh promotion, on the triggerer."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.observability import LOOK_FAILED
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.watch import WatchedStage, WatchResult, look
from airflow_provider_mlpipex.triggers.base import PollingTrigger

#: Looks that are made at once. Asyncio's own pool has six threads on two cores: a few planes that hang would hold them
#: all, and leases of healthy trials would run out meanwhile.
_MAX_THREADS = 32


@cache
def _watch_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_MAX_THREADS, thread_name_prefix="mlpipex-look")


class RolloutTrigger(PollingTrigger):
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

    kept = ("endpoint", "rollout_id", "stage", "step")

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
        super().__init__(
            mlpipex_conn_id=mlpipex_conn_id,
            poll_interval=poll_interval,
            give_up_after=give_up_after,
            task=task,
        )
        self.endpoint = endpoint
        self.rollout_id = rollout_id
        self.stage = stage
        self.step = step

    async def watch(self, platform: Platform) -> dict[str, Any]:
        endpoint = EndpointRef.parse(self.endpoint)
        answered, pause = time.monotonic(), self.poll_interval
        while True:
            await asyncio.sleep(pause)
            pause = self.poll_interval
            try:
                result = await self._look(platform, endpoint)
            except MlpipexError as error:
                self.lines.warning(LOOK_FAILED, **error.as_dict(), endpoint=self.endpoint)
                if not error.transient or time.monotonic() - answered > self.give_up_after:
                    return {"status": "error", "rollout_id": self.rollout_id, **error.as_dict()}
                continue
            answered, pause = time.monotonic(), min(self.poll_interval, result.look_again_s or self.poll_interval)
            if result.status != "watching":
                return self._event(result)

    async def _look(self, platform: Platform, endpoint: EndpointRef) -> WatchResult:
        once = partial(look, platform, endpoint=endpoint, rollout_id=self.rollout_id, stage=self.stage, step=self.step)
        return await self.in_thread(_watch_threads(), once)

    def _event(self, watched: WatchResult) -> dict[str, Any]:
        """Small and JSON: the whole evidence is in the ledger. A scheduled watch learns here whose rollout it was."""
        return {
            "rollout_id": self.rollout_id,
            "status": watched.status,
            "verdict": watched.verdict,
            "cause": watched.cause,
            "results": [result.to_json() for result in watched.results],
        }
