"""The control API's connections: none stays open that asks nothing, and there are never more than a few hundred."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from airflow_provider_mlpipex.serving.limits import HEADERS_S

#: At once. Descriptors beyond are left for model servers, logs and the ledger.
MAX_CONNECTIONS = 200


class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's own protocol, which waits for the headers of a first request for ever.

    Where there are too many, the one that has asked nothing for longest is closed for the new one: whoever comes to
    take traffic back has no token to show yet, and must not wait behind connections that never ask.

    Serve it with ``ws="none"``: an upgraded connection would leave this protocol without a word.
    """

    #: Oldest first.
    _open: ClassVar[dict[Impatient, None]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._last_cycle: Any = None
        self._look_again = self.loop.call_later(HEADERS_S, self._close_if_idle)
        if len(Impatient._open) >= MAX_CONNECTIONS and not self._make_room():
            transport.abort()
            return
        Impatient._open[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        Impatient._open.pop(self, None)
        self._look_again.cancel()
        super().connection_lost(exc)

    @staticmethod
    def _make_room() -> bool:
        """Close a connection that never asked anything, or else one that asks nothing now; whether there is one."""
        silent = [other for other in Impatient._open if other.cycle is None]
        idle = silent or [other for other in Impatient._open if not other._asks_now]
        if not idle:
            return False
        del Impatient._open[idle[0]]
        idle[0].transport.abort()
        return True

    @property
    def _asks_now(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _close_if_idle(self) -> None:
        """A connection may ask one thing after the other, but has to have asked something since the last look."""
        if not self._asks_now and self.cycle is self._last_cycle:
            self.transport.close()
            return
        self._last_cycle = self.cycle
        self._look_again = self.loop.call_later(HEADERS_S, self._close_if_idle)
