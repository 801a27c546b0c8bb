"""What a client gets of a server that dies while it answers: all of an answer, or nothing of it. Real uvicorn."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_mlpipex.serving.model_server.single_write_protocol import OneWrite
from tests.support.polling import until

#: Dies between head and body of ``/dies``; answers anything else with so many bytes as its path says.
SERVER = """
import os, sys
_, socket, protocol = sys.argv
if protocol == "ours over h11":
    # As in the runtime of a release that has no httptools.
    sys.modules["httptools"] = None
import uvicorn
from airflow_provider_mlpipex.serving.model_server.single_write_protocol import WholeAnswers

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b"x" * int(scope["path"][1:] or 0) if scope["path"] != "/dies" else b"ok"
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    if scope["path"] == "/dies":
        os.kill(os.getpid(), 9)
    await send({"type": "http.response.body", "body": body})

http = "auto" if protocol == "uvicorn's" else WholeAnswers
uvicorn.run(app, uds=socket, http=http, lifespan="off", log_level="critical")
"""


@contextmanager
def server(folder: Path, protocol: str) -> Iterator[Path]:
    socket = folder / "server.sock"
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(socket), protocol])
    try:
        until(socket.exists, within_s=30, what="it listens")
        yield socket
    finally:
        process.kill()
        process.wait(timeout=10)


def client(socket: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://server")


def dies(how: str) -> AbstractContextManager[object]:
    return pytest.raises(httpx.RemoteProtocolError, match=how)


def test_nothing_was_sent_by_a_server_that_dies_before_it_has_all(tmp_path: Path) -> None:
    with server(tmp_path, "ours") as socket, client(socket) as asking, dies("without sending a response"):
        asking.get("/dies")


def test_by_uvicorns_own_protocol_the_head_was(tmp_path: Path) -> None:
    """Once this fails, uvicorn has learnt it, and ours can go."""
    with (
        server(tmp_path, "uvicorn's") as socket,
        client(socket) as asking,
        dies("without sending complete message body"),
    ):
        asking.get("/dies")


@pytest.mark.parametrize("protocol", ["ours", "ours over h11"])
def test_answers_of_every_size_arrive_over_one_connection(tmp_path: Path, protocol: str) -> None:
    with server(tmp_path, protocol) as socket, client(socket) as asking:
        for size in (0, 2, 70_000, 5_000_000, 1):
            answer = asking.get(f"/{size}")
            assert (answer.status_code, len(answer.content)) == (200, size)
        assert asking.get("/3", headers={"connection": "close"}).text == "xxx"


class Written:
    """A transport that writes down what it is given."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> Any:
        return name


async def test_what_is_written_in_one_turn_is_one_write_and_what_is_closed_is_written_before() -> None:
    under = Written()
    transport = OneWrite(under, asyncio.get_running_loop())  # type: ignore[arg-type]
    transport.write(b"head ")
    transport.write(b"body")
    assert under.writes == []
    await asyncio.sleep(0)
    assert under.writes == [b"head body"]
    transport.write(b"next")
    transport.close()
    assert (under.writes, under.closed) == ([b"head body", b"next"], True)
    await asyncio.sleep(0)
    assert len(under.writes) == 2
    assert transport.get_extra_info("peername") == "peername"
