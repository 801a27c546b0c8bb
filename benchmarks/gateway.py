"""Envoy: the latency that it adds, against asking the model server's socket directly.

Both are asked in turn, in one run, with the same bodies over kept-alive connections: one client for latency, eight for
throughput.
"""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.state_dir import Places
from benchmarks.table import Table, quantile
from tests.support.plane import RealPlane, invocation, path_of

ENDPOINT = EndpointRef.parse("production/bench")
BODY = json.dumps(invocation()).encode()
JSON = {"content-type": "application/json"}
CLIENTS = 8
Connect = Callable[[], http.client.HTTPConnection]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


def run(*, quick: bool = False) -> Table:
    requests = 400 if quick else 4000
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as folder:
        plane = RealPlane(Path(folder))
        plane.start()
        try:
            return _measure(plane, requests)
        finally:
            plane.stop()


def _measure(plane: RealPlane, requests: int) -> Table:
    release = plane.release(1)
    plane.port.ensure(ENDPOINT, release, timeout_s=120.0)
    plane.port.apply(TrafficPlan(endpoint=ENDPOINT, current=release.id))
    through = {**JSON, "authorization": f"Bearer {plane.client_token}"}
    model_socket = Places(plane.state_dir).socket(ENDPOINT, release.id)
    ways: dict[str, tuple[Connect, str, dict[str, str]]] = {
        "direct": (lambda: UnixConnection(model_socket), "/invocations", JSON),
        "Envoy": (lambda: http.client.HTTPConnection("127.0.0.1", plane.ingress_port), path_of(ENDPOINT), through),
    }
    latencies: dict[str, list[float]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(10):  # in turn, so that a busy moment of the machine falls on both
        for name, way in ways.items():
            latencies[name] += ask(*way, body=BODY, requests=requests // 10)
            rates[name].append(rate_of(*way, body=BODY, requests=requests // 10))
    table = Table(("way", "1 client p50 ms", "p95 ms", "p99 ms", f"{CLIENTS} clients, requests/s"))
    for name, values in latencies.items():
        shown = [f"{quantile(values, q):.2f}" for q in (0.5, 0.95, 0.99)]
        table.rows.append((name, *shown, f"{quantile(rates[name], 0.5):.0f}"))
    added = quantile(latencies["Envoy"], 0.5) - quantile(latencies["direct"], 0.5)
    table.ratios = [
        f"p50 through Envoy is {quantile(latencies['Envoy'], 0.5) / quantile(latencies['direct'], 0.5):.2f} times the "
        f"direct one ({added:+.2f} ms)",
        f"throughput through Envoy is {quantile(rates['Envoy'], 0.5) / quantile(rates['direct'], 0.5):.2f} times the "
        "direct one",
    ]
    return table


def ask(connect: Connect, path: str, headers: dict[str, str], *, body: bytes, requests: int) -> list[float]:
    """Latency of each request in milliseconds.

    :raises RuntimeError: an answer that is not 200; fast errors would look like speed.
    """
    connection = connect()
    found = []
    for _ in range(requests):
        began = time.perf_counter()
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        found.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"{path}: HTTP {answer.status} {content[:200]!r}")
    connection.close()
    return found


def rate_of(connect: Connect, path: str, headers: dict[str, str], *, body: bytes, requests: int) -> float:
    """Requests a second of :data:`CLIENTS` clients together.

    :raises RuntimeError: as :func:`ask` does.
    """
    each = max(1, requests // CLIENTS)
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(ask, connect, path, headers, body=body, requests=each) for _ in range(CLIENTS)]
        for one in asked:
            one.result()
    return each * CLIENTS / (time.perf_counter() - began)
