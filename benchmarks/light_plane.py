"""A real plane whose model servers are light, and clients that ask every endpoint of it: two programs for ``fleet``.

Supervisor, control API, Envoy and its attempts log are the product's own. Only what stands behind Envoy is not: in
place of a model server, which takes some 200 MB, each release has a process of 10 MB that answers at once.

- ``python -m benchmarks.light_plane plane STATE_DIR INGRESS_PORT CONTROL_PORT``
- ``python -m benchmarks.light_plane clients INGRESS_PORT TOKEN_FILE RATE NAME…``: ``RATE`` requests a second to each
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

#: Run by a bare interpreter: it imports nothing but this.
_SERVER = """
import asyncio, os, sys
ANSWER = b'HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: 20\\r\\n\\r\\n{"predictions": [1]}'
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = [l.split(b":")[1] for l in head.lower().split(b"\\r\\n") if l.startswith(b"content-length:")]
            if length:
                await reader.readexactly(int(length[0]))
            writer.write(ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    if os.path.exists(sys.argv[1]):
        os.unlink(sys.argv[1])
    server = await asyncio.start_unix_server(serve, sys.argv[1])
    await server.serve_forever()
asyncio.run(main())
"""


def run_plane(state_dir: Path, ingress_port: int, control_port: int) -> None:
    """Until SIGTERM."""
    from airflow_provider_mlpipex.domain.names import EndpointRef
    from airflow_provider_mlpipex.domain.release.release import Release
    from airflow_provider_mlpipex.serving.envoy.config import cluster_name
    from airflow_provider_mlpipex.serving.plane import daemon, supervisor
    from airflow_provider_mlpipex.serving.plane.fleet import Fleet

    class LightFleet(Fleet):
        def launch(self, endpoint: EndpointRef, release: Release) -> None:
            name = cluster_name(endpoint, release.id)
            if self._keeper.alive(name):
                return
            folder = self._places.server(endpoint, release.id)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            socket = str(self._places.socket(endpoint, release.id))
            command = [sys.executable, "-I", "-S", "-c", _SERVER, socket]
            self._keeper.start(name, command, environment={}, log=folder / "server.log")

    supervisor.Fleet = LightFleet  # type: ignore[misc]
    daemon.run(
        state_dir,
        ingress_port=ingress_port,
        control_port=control_port,
        tracking_uri="http://127.0.0.1:9",
        standbys=False,
    )


async def ask(port: int, token: str, rate: float, names: list[str]) -> None:
    """Open loop: each endpoint is asked ``rate`` times a second, evenly spread, whatever the answers take."""
    connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(8):
        connections.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    body = b'{"inputs": [1]}'

    async def once(name: str) -> None:
        reader, writer = await connections.get()
        try:
            writer.write(
                f"POST /endpoints/{name}/invocations HTTP/1.1\r\nhost: plane\r\nauthorization: Bearer {token}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            connections.put_nowait((reader, writer))
        except (OSError, asyncio.IncompleteReadError, StopIteration):
            writer.close()
            connections.put_nowait(await asyncio.open_connection("127.0.0.1", port))

    loop, pause = asyncio.get_running_loop(), 1.0 / (rate * len(names))
    due, running = loop.time(), set[asyncio.Task[None]]()
    for name in itertools.cycle(names):
        due += pause
        await asyncio.sleep(max(0.0, due - loop.time()))
        task = asyncio.create_task(once(name))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    if sys.argv[1] == "plane":
        run_plane(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        asyncio.run(ask(int(sys.argv[2]), Path(sys.argv[3]).read_text().strip(), float(sys.argv[4]), sys.argv[5:]))
