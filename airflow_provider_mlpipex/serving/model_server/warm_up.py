"""Requests before the first one: what a model does only once (imports, caches, compiled code) no user waits for.

A gate on a latency believes what it sees: three slow answers at first, of a release whose other million are fast, are
three of three. So a model server asks its model for the golden rows again and again before it says that it is ready,
and a standby before it waits for its turn. Nothing of it is logged, and it ends after a second.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import orjson

from airflow_provider_mlpipex.serving.model_server.scoring import Scored
from airflow_provider_mlpipex.serving.prediction_log.outputs import describe_all

#: Requests, and seconds after which no more of them are begun: a model that takes long has done its once by then.
REQUESTS, MAX_DURATION_S = 20, 1.0


class Scores(Protocol):
    def score(self, body: bytes, content_type: str | None) -> Scored: ...


def warm_up(scorer: Scores, golden: Path, *, threads: int) -> int:
    """Ask for the golden rows as clients do, one row and all of them by turns; how often was asked.

    What a model raises here it has not raised when its rows were proven, and is for its gates to see.
    """
    if not golden.is_file():
        return 0
    request = json.loads(golden.read_text(encoding="utf-8"))["request"]
    bodies = [orjson.dumps(request), orjson.dumps(_first_row(request))]
    ends, asked = time.monotonic() + MAX_DURATION_S, 0

    def ask(body: bytes) -> None:
        with suppress(Exception):
            describe_all(scorer.score(body, "application/json").outputs or [])

    with ThreadPoolExecutor(threads, thread_name_prefix="warm-up") as pool:
        while asked < REQUESTS and time.monotonic() < ends:
            list(pool.map(ask, [bodies[(asked + turn) % 2] for turn in range(threads)]))
            asked += threads
    return asked


def _first_row(request: dict[str, object]) -> dict[str, object]:
    split = request.get("dataframe_split")
    if not isinstance(split, dict):
        return request
    first = {name: part[:1] for name, part in split.items() if name in ("data", "index") and isinstance(part, list)}
    return {**request, "dataframe_split": {**split, **first}}
