"""The standing watch of every endpoint, on the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache, partial
from typing import Any

from airflow.sdk.observability import stats

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.observability import (
    ENDPOINT_LOOKED,
    LOOK_FAILED,
    STILL_WATCHING,
    WATCH_LAG,
    WATCH_ROUND,
    WATCHED_ENDPOINTS,
)
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.standing_watch import Round, StandingWatch
from airflow_provider_mlpipex.triggers.base import PollingTrigger

#: Endpoints that get a look of their own at once, apart from the looks that renew the leases of trials. A receiver of
#: alerts that hangs must not hold up the others.
_MAX_THREADS = 8
#: Seconds between two lines that say that all is quiet.
_SAY_EVERY_S = 3600.0
#: Seconds for which looks that are under way at the end are waited for.
_END_WITHIN_S = 30.0


@cache
def _surveyors() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="mlpipex-survey")


@cache
def _watch_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_MAX_THREADS, thread_name_prefix="mlpipex-watch")


class StandingWatchTrigger(PollingTrigger):
    """Look at every endpoint of the ledger every few seconds, for hours.

    Holds no state that matters: a triggerer that takes it over, or two that have it at once, read the ledger, which
    lets one of them notify on-call or revert. While plane or ledger are away it keeps looking.

    :param mlpipex_conn_id: connection of type ``mlpipex``.
    :param until: ISO 8601 time with a zone at which the task ends, and the next Dag run takes over.
    :param endpoints: patterns of endpoints to watch; all if empty.
    :param poll_interval: seconds between looks.
    :param give_up_after: seconds of unbroken failure to look, after which the task is told.
    :param task: ``dag_id``, ``run_id``, ``task_id`` and ``try_number`` of the deferred task, for the ledger.
    """

    kept = ("until", "endpoints")

    def __init__(
        self,
        *,
        mlpipex_conn_id: str,
        until: str,
        endpoints: Sequence[str] = (),
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
        self.until = until
        self.endpoints = list(endpoints)
        self._under_way: dict[EndpointRef, asyncio.Task[None]] = {}
        self._said: dict[EndpointRef, tuple[str, ...]] = {}

    async def watch(self, platform: Platform) -> dict[str, Any]:
        until = datetime.fromisoformat(self.until)
        watch = StandingWatch(platform, selection=self.endpoints)
        answered = due = time.monotonic()
        said, rounds = float("-inf"), 0
        try:
            while (until - platform.clock.now()).total_seconds() > 0:
                began = time.monotonic()
                lag, due = began - due, due if began - due < self.poll_interval else began
                try:
                    surveyed = await self.in_thread(_surveyors(), watch.round)
                except MlpipexError as error:
                    self.lines.warning(LOOK_FAILED, **error.as_dict())
                    if not error.transient or time.monotonic() - answered > self.give_up_after:
                        return {"status": "error", **error.as_dict()}
                else:
                    answered, rounds = time.monotonic(), rounds + 1
                    self._measure(surveyed, took=answered - began, lag=lag)
                    if answered - said >= _SAY_EVERY_S:
                        self.lines.info(STILL_WATCHING, endpoints=surveyed.watched, rounds=rounds)
                        said = answered
                    for endpoint, why in surveyed.due.items():
                        self._attend(watch, endpoint, why)
                # Rounds keep their pace, whatever one takes; those that were missed are not made up for.
                due += self.poll_interval
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            if self._under_way:
                await asyncio.wait(self._under_way.values(), timeout=_END_WITHIN_S)
        return {"status": "over", "rounds": rounds}

    def _attend(self, watch: StandingWatch, endpoint: EndpointRef, why: str) -> None:
        """Let an endpoint have a look of its own, unless one is under way."""
        if endpoint not in self._under_way:
            task = asyncio.create_task(self._look(watch, endpoint, why))
            self._under_way[endpoint] = task
            task.add_done_callback(lambda _: self._under_way.pop(endpoint, None))

    async def _look(self, watch: StandingWatch, endpoint: EndpointRef, why: str) -> None:
        try:
            result = await self.in_thread(_watch_threads(), partial(watch.attend, endpoint))
        except MlpipexError as error:
            # The next round finds it due again.
            if self._is_news(endpoint, type(error).__name__):
                self.lines.warning(LOOK_FAILED, endpoint=str(endpoint), **error.as_dict())
        except Exception as error:  # noqa: BLE001 - what is wrong at one endpoint must not end the watch of the others
            if self._is_news(endpoint, type(error).__name__):
                self.lines.error(LOOK_FAILED, endpoint=str(endpoint), reason=f"{type(error).__name__}: {error}")
        else:
            if self._is_news(endpoint, result.status, result.verdict, why):
                facts = {"verdict": result.verdict, "status": result.status, "why": why, "cause": result.cause}
                self.lines.info(ENDPOINT_LOOKED, endpoint=str(endpoint), **facts)

    def _is_news(self, endpoint: EndpointRef, *said: str) -> bool:
        """Whether the log says something else of ``endpoint``: an hour inside a rollback window is one line of it."""
        is_news = self._said.get(endpoint) != said
        self._said[endpoint] = said
        return is_news

    @staticmethod
    def _measure(surveyed: Round, *, took: float, lag: float) -> None:
        stats.gauge(WATCHED_ENDPOINTS, surveyed.watched)
        stats.timing(WATCH_ROUND, took * 1000.0)
        stats.timing(WATCH_LAG, max(0.0, lag) * 1000.0)
