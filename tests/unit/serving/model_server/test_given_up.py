"""A model server that is behind, and clients that have hung up: a real server on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.model_server.app import PREDICTION_THREADS, Drill, create_app
from airflow_provider_mlpipex.serving.model_server.scoring import Scored, Scorer
from airflow_provider_mlpipex.serving.model_server.single_write_protocol import WholeAnswers
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from tests.support.factories import make_release
from tests.support.polling import until

JSON = {"content-type": "application/json"}


class Stalled:
    """Scores nothing until it is released, and counts what it has begun."""

    model: Any = None

    def __init__(self) -> None:
        self.go, self.begun, self.received = threading.Event(), 0, 0

    def counting(self, app: ASGIApp) -> ASGIApp:
        """``app``, counting the requests that have come."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self.received += scope.get("path") == "/invocations"
            await app(scope, receive, send)

        return counted

    def score(self, body: bytes, content_type: str | None = None) -> Scored:
        self.begun += 1
        self.go.wait(60)
        return Scored(200, b'{"predictions": [1.0]}', "application/json")


@pytest.fixture
def stalled() -> Stalled:
    return Stalled()


@pytest.fixture
async def socket(tmp_path: Path, stalled: Stalled) -> AsyncIterator[Path]:
    spec = ModelServerSpec(
        endpoint=EndpointRef.parse("production/flight-delay"),
        release=make_release(),
        model_dir=str(tmp_path),
        socket=str(tmp_path / "server.sock"),
        log_dir=str(tmp_path / "log"),
    )
    app = stalled.counting(create_app(spec, cast(Scorer, stalled), Drill(tmp_path / "fault.json")))
    server = uvicorn.Server(uvicorn.Config(app, uds=spec.socket, http=WholeAnswers, log_level="warning", lifespan="on"))
    task = asyncio.create_task(server.serve())
    await comes(lambda: server.started, what="the server")
    yield Path(spec.socket)
    stalled.go.set()
    server.should_exit = True
    await task


async def comes(holds: Callable[[], bool], *, what: str) -> None:
    await asyncio.to_thread(until, holds, within_s=60, what=what)


def client_of(socket: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://server", timeout=httpx.Timeout(60)
    )


async def test_what_nobody_waits_for_is_not_scored(socket: Path, stalled: Stalled) -> None:
    async with client_of(socket) as patient, client_of(socket) as other:
        served = [
            asyncio.create_task(patient.post("/invocations", content=b"{}", headers=JSON))
            for _ in range(PREDICTION_THREADS)
        ]
        await comes(lambda: stalled.begun == PREDICTION_THREADS, what="a request in each thread")
        async with client_of(socket) as hasty:
            given_up = [asyncio.create_task(hasty.post("/invocations", content=b"{}", headers=JSON)) for _ in range(20)]
            await comes(lambda: stalled.received == PREDICTION_THREADS + len(given_up), what="the others")
            await other.get("/ping")
            for task in given_up:
                task.cancel()
            await asyncio.gather(*given_up, return_exceptions=True)
        # Answered after the server has heard of them.
        await other.get("/ping")
        stalled.go.set()
        after = await other.post("/invocations", content=b"{}", headers=JSON)
        assert [(await task).status_code for task in served] == [200] * PREDICTION_THREADS
    assert after.status_code == 200
    assert stalled.begun == PREDICTION_THREADS + 1, "those who hung up cost nothing"
