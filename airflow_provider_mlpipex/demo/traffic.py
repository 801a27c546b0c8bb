"""A bounded client that replays later flights as live traffic, and remembers who answered what."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from airflow_provider_mlpipex.domain.rollout.traffic_plan import RELEASE_HEADER

if TYPE_CHECKING:
    import pandas as pd

_TIMEOUT_S = 15.0


class Answer(NamedTuple):
    """One request: when it was sent and answered (epoch seconds), its status (0: none), who answered it."""

    sent: float
    answered: float
    status: int
    release: str


class LiveTraffic:
    """:param url: ``…/endpoints/production/flight-delay``. :param rows: feature rows, replayed in a circle.
    :param rate: requests a second. :param in_flight: requests that may wait at once; more are not sent, and counted.
    """

    def __init__(self, url: str, *, token: str, rows: pd.DataFrame, rate: float = 40.0, in_flight: int = 32) -> None:
        self._url = f"{url}/invocations"
        self._headers = {"authorization": f"Bearer {token}"}
        self._bodies = [
            {"dataframe_split": {"columns": list(rows.columns), "data": [row]}}
            for row in rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
        ]
        self._interval = 1.0 / rate
        self._in_flight = in_flight
        self._answers: list[Answer] = []
        self._held_back = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._replay()), name="traffic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the requests in flight end; nothing to do if it was never started."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_TIMEOUT_S + 5)

    def totals(self) -> dict[str, Any]:
        """``sent``, ``failed``, ``held_back``, ``by_release`` and ``failed_by_status`` so far."""
        answers = list(self._answers)
        failed = self.failures()
        return {
            "sent": len(answers),
            "failed": len(failed),
            "held_back": self._held_back,
            "by_release": dict(Counter(a.release for a in answers if a.status == 200)),
            "failed_by_status": {str(status): n for status, n in Counter(a.status for a in failed).items()},
        }

    def last_served_by(self, release_id: str) -> float | None:
        """When the last request that ``release_id`` answered was *sent*, epoch seconds."""
        return max((a.sent for a in list(self._answers) if a.release == release_id), default=None)

    def answered_by(self, release_id: str, *, since: float, until: float) -> dict[str, int]:
        """``sent`` and ``failed`` of the requests sent in this time (epoch seconds) that ``release_id`` answered."""
        own = [a for a in list(self._answers) if a.release == release_id and since <= a.sent <= until]
        return {"sent": len(own), "failed": sum(a.status != 200 for a in own)}

    def failures(self) -> list[Answer]:
        """Every request that was not answered with 200."""
        return [a for a in list(self._answers) if a.status != 200]

    def failed_since(self, moment: float) -> int:
        return sum(1 for a in list(self._answers) if a.status != 200 and a.answered >= moment)

    async def _replay(self) -> None:
        waiting: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(max_connections=self._in_flight, max_keepalive_connections=self._in_flight)
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits, headers=self._headers) as client:
            number, due = 0, time.monotonic()
            while not self._stop.is_set():
                if len(waiting) < self._in_flight:
                    task = asyncio.create_task(self._ask(client, number))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
                    number += 1
                else:
                    self._held_back += 1
                due = max(due + self._interval, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            if waiting:
                await asyncio.wait(waiting)

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        sent = time.time()
        try:
            answer = await client.post(
                self._url,
                json=self._bodies[number % len(self._bodies)],
                headers={"x-user-id": f"user-{number % 997}"},
            )
            status, release = answer.status_code, answer.headers.get(RELEASE_HEADER, "")
        except httpx.HTTPError:
            status, release = 0, ""
        self._answers.append(Answer(sent, time.time(), status, release))
