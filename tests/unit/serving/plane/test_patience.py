"""Connections of the control API: strangers without a token may hold many, and none that others need."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from airflow_provider_mlpipex.serving.plane import patience
from airflow_provider_mlpipex.serving.plane.patience import Impatient
from tests.support.polling import until

LIMIT = 5
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


class Served:
    """A real uvicorn with a route that answers at once, and one that waits until the test lets it go."""

    def __init__(self, port: int) -> None:
        self.port, self.let_go = port, threading.Event()

        def wait(_: Request) -> PlainTextResponse:
            self.let_go.wait(30)
            return PlainTextResponse("waited")

        routes = [Route("/", lambda _: PlainTextResponse("here")), Route("/wait", wait)]
        config = uvicorn.Config(
            Starlette(routes=routes), port=port, http=Impatient, ws="none", log_level="error", lifespan="off"
        )
        self.server = uvicorn.Server(config)

    def connect(self, sent: bytes = b"GET / HTTP/1.1\r\n") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(20)
        connection.sendall(sent)
        return connection

    def ask(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.port}/", timeout=20).text


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(patience, "MAX_CONNECTIONS", LIMIT)
    monkeypatch.setattr(Impatient, "_open", {})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = Served(port)
    thread = threading.Thread(target=served.server.run, daemon=True)
    thread.start()
    until(lambda: served.server.started, within_s=30, what="the server listens")
    yield served
    served.let_go.set()
    served.server.should_exit = True
    thread.join(30)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it; waits for a moment, which only a connection that is kept takes."""
    connection.settimeout(0.2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_connections_that_never_ask_give_way_to_one_that_does(served: Served) -> None:
    strangers = [served.connect() for _ in range(4 * LIMIT)]
    assert [served.ask() for _ in range(10)] == ["here"] * 10
    assert sum(map(is_closed, strangers)) >= 3 * LIMIT
    assert len(Impatient._open) <= LIMIT


def test_the_oldest_of_them_goes_first_and_never_one_that_is_being_answered(served: Served) -> None:
    busy = served.connect(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
    until(lambda: any(connection._asks_now for connection in Impatient._open), within_s=10, what="it is asked")
    first, *others = [served.connect() for _ in range(LIMIT - 1)]
    until(lambda: len(Impatient._open) == LIMIT, within_s=10, what="all are here")
    assert served.ask() == "here"
    assert is_closed(first)
    assert not any(map(is_closed, others))
    served.let_go.set()
    assert busy.recv(15) == b"HTTP/1.1 200 OK"


def test_where_all_are_being_answered_a_new_one_has_to_wait(served: Served) -> None:
    asking = [served.connect(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n") for _ in range(LIMIT)]
    until(lambda: sum(it._asks_now for it in Impatient._open) == LIMIT, within_s=10, what="all are being answered")
    assert is_closed(served.connect())
    served.let_go.set()
    assert {connection.recv(12) for connection in asking} == {b"HTTP/1.1 200"}
    until(lambda: not any(it._asks_now for it in Impatient._open), within_s=10, what="they are answered")
    assert served.ask() == "here"


def test_no_upgrade_takes_a_connection_for_good(served: Served) -> None:
    # Upgraded ones would be counted as open for ever: two hundred of them closed the control API to everybody.
    for _ in range(3 * LIMIT):
        connection = served.connect(UPGRADE)
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.close()
    until(lambda: not Impatient._open, within_s=20, what="every connection is forgotten")
    assert served.ask() == "here"
