"""The watcher of an endpoint's drift, on the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from functools import cache
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mlpipex.domain.errors import DriftUndecided, MlpipexError
from airflow_provider_mlpipex.domain.events import Origin
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.observability import DRIFT_LOOKED, LOOK_FAILED, trace_id
from airflow_provider_mlpipex.services.drift import DriftLook, measure
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.triggers.rollout import SETTLE_S

#: Looks that are made at once, apart from those that renew the leases of trials: nobody's traffic hangs on them.
_LOOKS_AT_ONCE = 4


@cache
def _lookers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_LOOKS_AT_ONCE, thread_name_prefix="mlpipex-drift")


class DriftTrigger(BaseTrigger):
    """Look at the drift of an endpoint again and again, until there is some or the time is over.

    It only measures, from counts: it writes nothing, attributes nothing and tells nobody. The task does, when it comes
    back. While plane or ledger are away it keeps looking.

    :param mlpipex_conn_id: connection of type ``mlpipex``.
    :param endpoint: ``environment/name``.
    :param until: ISO 8601 time with a zone at which nobody waits any longer.
    :param manifest: path of a manifest by whose numbers to judge; empty: that of the current release.
    :param release: identifier of another release than the current one; empty: the current one.
    :param poll_interval: seconds between looks.
    :param give_up_after: seconds of unbroken failure to look, after which the task is told.
    :param task: ``dag_id``, ``run_id``, ``task_id`` and ``try_number`` of the deferred task.
    """

    def __init__(
        self,
        *,
        mlpipex_conn_id: str,
        endpoint: str,
        until: str,
        manifest: str = "",
        release: str = "",
        poll_interval: float = 300.0,
        give_up_after: float = 3600.0,
        task: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's is not annotated
        self.mlpipex_conn_id = mlpipex_conn_id
        self.endpoint = endpoint
        self.until = until
        self.manifest = manifest
        self.release = release
        self.poll_interval = poll_interval
        self.give_up_after = give_up_after
        self.deferred_task = task or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "mlpipex_conn_id": self.mlpipex_conn_id,
                "endpoint": self.endpoint,
                "until": self.until,
                "manifest": self.manifest,
                "release": self.release,
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
        yield TriggerEvent({"until": self.until, **event})  # type: ignore[no-untyped-call]  # Airflow's is not annotated

    async def _watch(self, platform: Platform) -> dict[str, Any]:
        until = datetime.fromisoformat(self.until)
        answered = time.monotonic()
        while True:
            left = (until - platform.clock.now()).total_seconds()
            if left <= 0:
                return {"status": "over"}
            await asyncio.sleep(min(self.poll_interval, left))
            try:
                seen = await self._look(platform)
            except DriftUndecided as error:
                # Nothing is current yet: that may change any minute.
                self.log.info(DRIFT_LOOKED, endpoint=self.endpoint, verdict="inconclusive", reason=str(error))
                answered = time.monotonic()
                continue
            except MlpipexError as error:
                self.log.warning(LOOK_FAILED, endpoint=self.endpoint, **error.as_dict())
                if not error.transient or time.monotonic() - answered > self.give_up_after:
                    return {"status": "error", **error.as_dict()}
                continue
            answered = time.monotonic()
            self.log.info(DRIFT_LOOKED, endpoint=self.endpoint, verdict=seen.verdict, reason=seen.reason)
            if seen.verdict == "fail":
                return {"status": "found", "reason": seen.reason}

    async def _look(self, platform: Platform) -> DriftLook:
        def once() -> DriftLook:
            manifest = load_manifest_file(self.manifest) if self.manifest else None
            return measure(platform, EndpointRef.parse(self.endpoint), manifest=manifest, release=self.release)

        return await asyncio.get_running_loop().run_in_executor(_lookers(), copy_context().run, once)
