"""While no Envoy listens, connections wait and are passed on. Envoy is played by a plain socket, the kernel is real."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from airflow_provider_mlpipex.serving.envoy.waiting_room import WaitingRoom
from tests.support.mlflow_server import free_port


class Door:
    """What Envoy does of interest here: it shares the port, and answers every line with the same in capitals."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                for line in stream:
                    self.answered += 1
                    stream.write(line.upper())
                    stream.flush()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)


@pytest.fixture
def port() -> int:
    return free_port()


@contextmanager
def room(port: int, is_open: threading.Event) -> Iterator[WaitingRoom]:
    waiting = WaitingRoom(port, is_open=is_open.is_set)
    waiting.start()
    try:
        yield waiting
    finally:
        waiting.stop()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def ask(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text + b"\n")
    with client.makefile("rb") as stream:
        return stream.readline().strip()


def test_who_comes_while_nobody_listens_is_answered_afterwards(port: int) -> None:
    is_open = threading.Event()
    with room(port, is_open):
        early = [connect(port) for _ in range(40)]
        for number, client in enumerate(early):
            client.sendall(b"guest %d\n" % number)
        with closing(Door(port)):
            is_open.set()
            answers = []
            for client in early:
                with client, client.makefile("rb") as stream:
                    answers.append(stream.readline().strip())
        assert answers == [b"GUEST %d" % number for number in range(40)]


def test_a_connection_that_was_passed_on_is_a_connection_like_any_other(port: int) -> None:
    is_open = threading.Event()
    with room(port, is_open), connect(port) as client, closing(Door(port)):
        is_open.set()
        assert ask(client, b"one") == b"ONE"
        assert ask(client, b"x" * 3_000_000) == b"X" * 3_000_000
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_nobody_waits_while_somebody_listens(port: int) -> None:
    """The room would not answer: whether Envoy is there, nobody tells it."""
    with room(port, threading.Event()), closing(Door(port)) as door:
        for _ in range(100):
            with connect(port) as client:
                assert ask(client, b"hello") == b"HELLO"
        assert door.answered == 100


def test_the_room_is_used_again_after_every_death(port: int) -> None:
    is_open = threading.Event()
    with room(port, is_open):
        for _ in range(3):
            is_open.clear()
            with connect(port) as client, closing(Door(port)):
                is_open.set()
                assert ask(client, b"again") == b"AGAIN"


def test_the_room_is_no_guest_of_its_own(port: int) -> None:
    """It was told that somebody listens, who has died meanwhile: the connection that it makes comes back to it."""
    is_open = threading.Event()
    is_open.set()
    with room(port, is_open), connect(port) as client:
        client.sendall(b"hello\n")
        assert client.recv(1) == b""


def test_a_closed_room_refuses(port: int) -> None:
    is_open = threading.Event()
    with room(port, is_open) as waiting:
        assert waiting.is_there
        with connect(port):
            pass
    assert not waiting.is_there
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_without_ipv6_it_says_so_and_does_without(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int = socket.AF_INET, *args: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *args)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    said: list[str] = []
    waiting = WaitingRoom(port, is_open=lambda: True, say=lambda what, error: said.append(f"{what}: {error}"))
    waiting.start()
    assert not waiting.is_there
    waiting.stop()
    assert said == [
        "no waiting room for connections while every Envoy is away: [Errno 97] Address family not supported by protocol"
    ]
