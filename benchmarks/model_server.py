"""Model server: ours against ``mlflow models serve``, the same model, the same requests, the same answers.

Both run one process with one thread of arithmetic and are asked in turn over kept-alive TCP connections, ours without
Envoy before it. Before anything is timed, their answers to every input form are compared.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from benchmarks.gateway import CLIENTS, JSON, Connect, UnixConnection, ask, rate_of
from benchmarks.table import Table, quantile
from tests.support.mlflow_server import free_port
from tests.support.plane import invocation, release_of, save_numbered_model

START_S = 120.0
ROWS = (1, 100)
_RECORDS = {"dataframe_records": [{"distance": 1.5, "hour": 12, "carrier": "AA"}]}
_FORMS = (invocation(), _RECORDS, {"inputs": {"distance": [1.5], "hour": [12], "carrier": ["AA"]}})


def run(*, quick: bool = False) -> Table:
    requests = 200 if quick else 2000
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as scratch, ExitStack() as servers:
        folder = Path(scratch)
        model = save_numbered_model(1, folder / "model")
        servers_by_name: dict[str, Connect] = {
            "mlflow models serve": servers.enter_context(_mlflow(model, folder)),
            "mlpipex": servers.enter_context(_ours(model, folder)),
        }
        _compare_answers(servers_by_name)
        return _measure(servers_by_name, requests)


def _measure(servers: dict[str, Connect], requests: int) -> Table:
    table = Table(("server", "rows", "1 client p50 ms", "p99 ms", f"{CLIENTS} clients, requests/s"))
    for rows in ROWS:
        body = json.dumps(invocation(*([1.5] * rows))).encode()
        latencies: dict[str, list[float]] = {name: [] for name in servers}
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(5):
            for name, connect in servers.items():
                latencies[name] += ask(connect, "/invocations", JSON, body=body, requests=requests // 5)
                rates[name].append(rate_of(connect, "/invocations", JSON, body=body, requests=requests // 5))
        for name in servers:
            shown = [f"{quantile(latencies[name], q):.2f}" for q in (0.5, 0.99)]
            table.rows.append((name, rows, *shown, f"{quantile(rates[name], 0.5):.0f}"))
        theirs, ours = servers
        table.ratios.append(
            f"{rows} row{'s' if rows > 1 else ''}: p50 "
            f"{quantile(latencies[theirs], 0.5) / quantile(latencies[ours], 0.5):.1f} times as fast, throughput "
            f"{quantile(rates[ours], 0.5) / quantile(rates[theirs], 0.5):.1f} times"
        )
    return table


def _compare_answers(servers: dict[str, Connect]) -> None:
    for form in _FORMS:
        answers = set()
        for connect in servers.values():
            connection = connect()
            connection.request("POST", "/invocations", body=json.dumps(form).encode(), headers=JSON)
            answer = connection.getresponse()
            answers.add((answer.status, json.dumps(json.loads(answer.read()), sort_keys=True)))
            connection.close()
        if len(answers) != 1:
            raise RuntimeError(f"the two servers answer {list(form)[0]} differently: {answers}")


@contextmanager
def _mlflow(model: Path, folder: Path) -> Iterator[Connect]:
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local",
        "-h", "127.0.0.1", "-p", str(port), "-w", "1",
    ]  # fmt: skip

    def connect() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", port)

    with running(command, folder / "mlflow.log", connect):
        yield connect


@contextmanager
def _ours(model: Path, folder: Path) -> Iterator[Connect]:
    spec = ModelServerSpec(
        endpoint=EndpointRef.parse("production/bench"),
        release=release_of(model, "1.1.0"),
        model_dir=str(model),
        socket=str(folder / "ours.sock"),
        log_dir=str(folder / "predictions"),
    )
    path = folder / "ours" / "spec.json"
    path.parent.mkdir()
    path.write_text(spec.model_dump_json(), encoding="utf-8")

    def connect() -> http.client.HTTPConnection:
        return UnixConnection(Path(spec.socket))

    command = [sys.executable, "-m", "airflow_provider_mlpipex.serving.model_server", str(path)]
    with running(command, folder / "ours.log", connect):
        yield connect


@contextmanager
def running(command: list[str], log: Path, connect: Connect) -> Iterator[None]:
    """A server while the ``with`` block runs, from its first answer to ``/ping`` on.

    :param log: file that its output goes to; its folder is where it runs.
    :raises RuntimeError: it ended, or did not answer in time.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    # MLflow looks for uvicorn on the path.
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment, cwd=log.parent, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_S
        while not _answers(connect):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[2]} did not start: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.2)
        yield
    finally:
        # Its own session, so the group is this server and nothing else.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _answers(connect: Connect) -> bool:
    try:
        connection = connect()
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
