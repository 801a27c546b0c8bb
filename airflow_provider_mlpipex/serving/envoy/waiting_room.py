"""Where connections wait while no Envoy listens: they are passed on when one does, instead of being refused.

The kernel gives a connection to the listener that fits best. To IPv4 loopback fits Envoy's IPv4 socket best, and an
IPv6 socket bound to the same address, written ``::ffff:127.0.0.1``, only next: it has a connection exactly when there
is no Envoy, from the very moment on at which the last one died. Nobody has to notice it, and nothing stands in the way
of requests while an Envoy lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

#: How many the kernel keeps; further ones are refused, as all were without a waiting room.
ROOM = 1024
_POLL_S = 0.02
_CHUNK = 65536


class WaitingRoom:
    """:param port: of the ingress. :param is_open: whether an Envoy listens there, asked in a thread of its own.
    :param say: takes why there is no room.
    """

    def __init__(
        self, port: int, *, is_open: Callable[[], bool], say: Callable[[str, Exception], None] = lambda *_: None
    ) -> None:
        self._port = port
        self._is_open = is_open
        self._say = say
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        #: Local ports of connections to Envoy. Were it to die just now, they would come back here.
        self._own: set[int] = set()
        self._guests: set[asyncio.Task[None]] = set()

    @property
    def is_there(self) -> bool:
        """Whether connections wait, rather than being refused."""
        return self._listener is not None

    def start(self) -> None:
        """Listen. On a machine without IPv6 there is no such room, which is said."""
        try:
            listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        except OSError as error:
            self._say("no waiting room for connections while every Envoy is away", error)
            return
        try:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(("::ffff:127.0.0.1", self._port))
            listener.listen(ROOM)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            self._say("no waiting room for connections while every Envoy is away", error)
            return
        self._loop, self._listener = asyncio.new_event_loop(), listener
        self._thread = threading.Thread(
            target=self._host, args=(listener, self._loop), name="waiting-room", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Who waits is refused; whoever was passed on is cut off."""
        listener, loop = self._listener, self._loop
        self._listener = self._loop = None
        if listener is not None and loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(timeout=5)
            listener.close()

    def _host(self, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        try:
            hosting = loop.create_task(self._receive(listener))
            loop.run_forever()
            hosting.cancel()
            for task in self._guests:
                task.cancel()
            loop.run_until_complete(asyncio.gather(hosting, *self._guests, return_exceptions=True))
        finally:
            loop.close()

    async def _receive(self, listener: socket.socket) -> None:
        """One at a time; the others wait in the kernel, which reads what they send."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, peer = await loop.sock_accept(listener)
            except OSError as error:
                # No descriptor is left, or the client has gone again.
                self._say("waiting room", error)
                await asyncio.sleep(_POLL_S)
                continue
            client.setblocking(False)
            if peer[1] in self._own:
                client.close()
                continue
            await self._somebody_listens()
            task = loop.create_task(self._pass_on(client))
            self._guests.add(task)
            task.add_done_callback(self._guests.discard)

    async def _somebody_listens(self) -> None:
        while not await asyncio.to_thread(self._is_open):  # noqa: ASYNC110 - Envoy has no way to tell
            await asyncio.sleep(_POLL_S)

    async def _pass_on(self, client: socket.socket) -> None:
        """Connect ``client`` with Envoy, byte by byte, for as long as both stay."""
        loop = asyncio.get_running_loop()
        with client, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as envoy:
            envoy.setblocking(False)
            envoy.bind(("127.0.0.1", 0))
            own = envoy.getsockname()[1]
            self._own.add(own)
            try:
                await loop.sock_connect(envoy, ("127.0.0.1", self._port))
                await asyncio.gather(_copy(client, envoy), _copy(envoy, client))
            except OSError:
                pass  # either side has gone, as a client sees of Envoy itself
            finally:
                self._own.discard(own)


async def _copy(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(target, data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
