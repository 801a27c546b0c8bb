"""Prediction log: requests a second of the model server with it, against the same server without it.

Without means that nothing is written down at all: no record is made, queued or encoded. Both servers run beside each
other, are asked in turn over kept-alive connections, and answer the same model.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import REQUEST_ID_HEADER
from airflow_provider_mlpipex.serving.model_server import app as model_server
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.prediction_log.reader import records
from benchmarks.gateway import CLIENTS, JSON, Connect, UnixConnection, ask, rate_of
from benchmarks.model_server import running
from benchmarks.table import Bar, Table, quantile
from tests.support.plane import invocation, release_of, save_numbered_model

ROWS = (1, 100)
ROUNDS = 10
#: At most so much of the throughput may the log cost.
LIMIT = 0.10
SIDES = ("with", "without")
_ROOT = Path(__file__).resolve().parents[1]


def run(*, quick: bool = False) -> Table:
    requests = 100 if quick else 1000
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as scratch, ExitStack() as servers:
        folder = Path(scratch)
        model = save_numbered_model(1, folder / "model")
        sides = {side: servers.enter_context(_server(model, folder, side)) for side in SIDES}
        table = _measure(sides, requests)
        servers.close()
        _check_logs(folder, table)
    return table


def _measure(sides: dict[str, Connect], requests: int) -> Table:
    table = Table(("prediction log", "rows", "1 client p50 ms", f"{CLIENTS} clients, requests/s", "rows/s"))
    headers = {**JSON, REQUEST_ID_HEADER: "bench"}
    for rows in ROWS:
        body = json.dumps(invocation(*([1.5] * rows))).encode()
        latencies: dict[str, list[float]] = {side: [] for side in sides}
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(ROUNDS):
            # First one, then the other: whoever comes second finds the machine as the first has left it.
            for side in SIDES if number % 2 else SIDES[::-1]:
                asked = (sides[side], "/invocations", headers)
                latencies[side] += ask(*asked, body=body, requests=max(2, requests // 10))
                rates[side].append(rate_of(*asked, body=body, requests=requests))
        for side in sides:
            rate = quantile(rates[side], 0.5)
            table.rows.append(
                (side, rows, f"{quantile(latencies[side], 0.5):.2f}", f"{rate:.0f}", f"{rate * rows:.0f}")
            )
        fewer = 1.0 - quantile([a / b for a, b in zip(rates["with"], rates["without"], strict=True)], 0.5)
        what = f"fewer requests a second with the log, {rows} row{'s' if rows > 1 else ''} a request"
        table.bars.append(Bar(what, 100 * fewer, 100 * LIMIT, " %"))
    return table


def _check_logs(folder: Path, table: Table) -> None:
    """Speed by losing records would be no speed.

    :raises RuntimeError: the one server logged nothing, or the other one something.
    """
    kept = {side: list(records(folder / f"predictions-{side}")) for side in SIDES}
    if kept["without"] or not kept["with"]:
        raise RuntimeError(f"records logged: {', '.join(f'{side} {len(some)}' for side, some in kept.items())}")
    lost = sum(record.get("dropped", 0) for record in kept["with"])
    told = sum("rid" in record for record in kept["with"])
    table.ratios.append(f"{told:,} records are in the segments that are kept, {lost:,} were lost")


@contextmanager
def _server(model: Path, folder: Path, side: str) -> Iterator[Connect]:
    spec = ModelServerSpec(
        endpoint=EndpointRef.parse("production/bench"),
        release=release_of(model, "1.1.0"),
        model_dir=str(model),
        socket=str(folder / f"{side}.sock"),
        log_dir=str(folder / f"predictions-{side}"),
    )
    path = folder / side / "spec.json"
    path.parent.mkdir()
    path.write_text(spec.model_dump_json(), encoding="utf-8")

    def connect() -> http.client.HTTPConnection:
        return UnixConnection(Path(spec.socket))

    serve = (
        f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from benchmarks.prediction_log import serve; serve(sys.argv)"
    )
    command = [sys.executable, "-c", serve, side, str(path)]
    with running(command, folder / f"{side}.log", connect):
        yield connect


class _NoLog:
    """Takes the place of the prediction log, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def stats(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def serve(argv: list[str]) -> None:
    """One server in this process. :param argv: of :data:`SIDES`, and the path of its spec."""
    _, side, spec = argv
    if side == "without":
        model_server.PredictionLog = _NoLog  # type: ignore[misc, assignment]
        model_server._log = lambda *_: None  # type: ignore[assignment]
    raise SystemExit(model_server.main([spec]))
