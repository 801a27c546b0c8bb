"""Answers leave a model server whole: its head and its body in one write, where uvicorn makes two.

A server that is killed between the two has begun an answer that Envoy may not ask another release for any more, because
its head is with the client. Of one that has sent nothing the client never hears.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


class OneWrite:
    """A transport that hands on together what is written in one turn of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._hand_on)
        self._held.append(data)

    def close(self) -> None:
        self._hand_on()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _hand_on(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._transport.write(b"".join(held))


class WholeAnswers(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's own protocol over :class:`OneWrite`."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(OneWrite(transport, asyncio.get_running_loop()))
