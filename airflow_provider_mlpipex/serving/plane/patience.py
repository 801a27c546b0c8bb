"""The control API's connections: none stays open that asks nothing, and there are never more than a few hundred."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from airflow_provider_mlpipex.serving.limits import HEADERS_S

#: At once. Beyond it a new one is closed: descriptors are left for model servers, logs and the ledger.
MAX_CONNECTIONS = 200


class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's own protocol, which waits for the headers of a first request for ever."""

    _open = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        Impatient._open += 1
        if Impatient._open > MAX_CONNECTIONS:
            transport.abort()
            return
        self._look_again = self.loop.call_later(HEADERS_S, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        Impatient._open -= 1
        look_again: Any = getattr(self, "_look_again", None)
        if look_again is not None:
            look_again.cancel()
        super().connection_lost(exc)

    def _close_if_idle(self) -> None:
        """A connection may ask one thing after the other, but has to have asked something since the last look."""
        cycle = self.cycle
        asks_now = cycle is not None and not cycle.response_complete
        if not asks_now and cycle is getattr(self, "_last_cycle", None):
            self.transport.close()
            return
        self._last_cycle = cycle
        self._look_again = self.loop.call_later(HEADERS_S, self._close_if_idle)
