"""The watcher of an endpoint's drift, on the triggerer."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache
from typing import Any

from airflow_provider_mlpipex.domain.errors import DriftUndecided, MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.observability import DRIFT_LOOKED, LOOK_FAILED
from airflow_provider_mlpipex.services.drift.check import DriftCheck, measure
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.triggers.base import PollingTrigger

#: Looks that are made at once, apart from those that renew the leases of trials: nobody's traffic hangs on them.
_MAX_THREADS = 4


@cache
def _watch_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_MAX_THREADS, thread_name_prefix="mlpipex-drift")


class DriftTrigger(PollingTrigger):
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

    kept = ("endpoint", "until", "manifest", "release")

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
        super().__init__(
            mlpipex_conn_id=mlpipex_conn_id,
            poll_interval=poll_interval,
            give_up_after=give_up_after,
            task=task,
        )
        self.endpoint = endpoint
        self.until = until
        self.manifest = manifest
        self.release = release

    async def watch(self, platform: Platform) -> dict[str, Any]:
        return {"until": self.until, **await self._watch(platform)}

    async def _watch(self, platform: Platform) -> dict[str, Any]:
        until = datetime.fromisoformat(self.until)
        answered = time.monotonic()
        while True:
            left = (until - platform.clock.now()).total_seconds()
            if left <= 0:
                return {"status": "over"}
            await asyncio.sleep(min(self.poll_interval, left))
            try:
                check = await self._look(platform)
            except DriftUndecided as error:
                # Nothing is current yet: that may change any minute.
                self.lines.info(DRIFT_LOOKED, verdict="inconclusive", reason=str(error), endpoint=self.endpoint)
                answered = time.monotonic()
                continue
            except MlpipexError as error:
                self.lines.warning(LOOK_FAILED, **error.as_dict(), endpoint=self.endpoint)
                if not error.transient or time.monotonic() - answered > self.give_up_after:
                    return {"status": "error", **error.as_dict()}
                continue
            answered = time.monotonic()
            self.lines.info(DRIFT_LOOKED, verdict=check.verdict, reason=check.reason, endpoint=self.endpoint)
            if check.verdict == "fail":
                return {"status": "found", "reason": check.reason}

    async def _look(self, platform: Platform) -> DriftCheck:
        def once() -> DriftCheck:
            manifest = load_manifest_file(self.manifest) if self.manifest else None
            return measure(platform, EndpointRef.parse(self.endpoint), manifest=manifest, release=self.release)

        return await self.in_thread(_watch_threads(), once)
