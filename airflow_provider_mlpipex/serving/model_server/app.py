"""One release behind a unix socket: ``python -m airflow_provider_mlpipex.serving.model_server SPEC.json``.

It verifies the artifact's digest before it opens a pickle, answers its golden rows and warms up before it says that it
is ready, and drains on SIGTERM. It needs MLflow and a web server, and nothing of Airflow: it runs in its own runtime.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from airflow_provider_mlpipex.domain.errors import MlpipexError, ReleaseNotReady, SignatureMismatch
from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    BATCH_HEADER,
    CLIENT_REQUEST_ID_HEADER,
    FAULT_HEADER,
    MODEL_FAULT,
    REFUSED_ROWS,
    RELEASE_HEADER,
    REQUEST_ID_HEADER,
    TRIAL_HEADER,
)
from airflow_provider_mlpipex.serving.artifacts import verify_directory
from airflow_provider_mlpipex.serving.model_server.class_labels import CLASSES_HEADER, is_asked, labelled, refusal_of
from airflow_provider_mlpipex.serving.model_server.clean_process import classes_of
from airflow_provider_mlpipex.serving.model_server.feature_lookup import FeatureScorer, with_features
from airflow_provider_mlpipex.serving.model_server.loading import AnyScorer, scorer_of
from airflow_provider_mlpipex.serving.model_server.openapi import openapi_of
from airflow_provider_mlpipex.serving.model_server.same_answers import same
from airflow_provider_mlpipex.serving.model_server.scoring import Scored, Scorer
from airflow_provider_mlpipex.serving.model_server.server_log import (
    NOT_STARTED,
    STANDBY_WAITING,
    server_log,
    write_to_stdout,
)
from airflow_provider_mlpipex.serving.model_server.spec import FAULT_FILE, ModelServerSpec, write_failure
from airflow_provider_mlpipex.serving.model_server.warm_up import warm_up
from airflow_provider_mlpipex.serving.prediction_log.outputs import describe_all
from airflow_provider_mlpipex.serving.prediction_log.writer import PredictionLog
from airflow_provider_mlpipex.serving.timeouts import KEEP_ALIVE_S
from airflow_provider_mlpipex.serving.turns import take_turn, whose_turn

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.datastructures import Headers
    from starlette.requests import Request
    from starlette.responses import Response

GOLDEN_PATH = Path("mlpipex/golden.json")
#: Threads that predict. More would only wait for the interpreter; /ping is answered beside them.
PREDICTION_THREADS = 2
#: nginx's status of a request whose client has gone. Nobody reads it.
_CLIENT_GONE = 499
DRAIN_S = 10
#: What Envoy ends the host of a mirrored request with, whatever the client called it.
_MIRRORED = "-shadow"
#: Envoy's number of the attempt, from 1.
_ATTEMPT_HEADER = "x-envoy-attempt-count"
_JSON = "application/json"


class Drill:
    """Reads the drill port at most five times a second. Only the plane's own user can write that file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0.0
        self._fault: dict[str, float] = {}

    def fault(self) -> dict[str, float]:
        now = time.monotonic()
        if now - self._read_at >= 0.2:
            self._read_at = now
            try:
                self._fault = json.loads(self._path.read_text(encoding="utf-8"))
            except (FileNotFoundError, json.JSONDecodeError):
                self._fault = {}
        return self._fault


def load(spec: ModelServerSpec) -> AnyScorer | FeatureScorer:
    """The model of ``spec``, verified and proven on its golden rows; with its features, where it has a service.

    :raises ArtifactMismatch: the bytes are not the registered ones; nothing was unpickled.
    :raises ReleaseNotReady: MLflow cannot load it here.
    :raises SignatureMismatch: it answers its golden rows differently from the day it was registered.
    :raises MlpipexError: what :func:`with_features` raises.
    """
    folder = Path(spec.model_dir)
    verify_directory(folder, spec.release.model.artifact_digest)
    try:
        scorer, _ = scorer_of(folder)
    except Exception as error:
        raise ReleaseNotReady(
            f"release {spec.release.id}",
            value=f"{type(error).__name__}: {error}"[:500],
            limit="a model that loads in its pinned runtime",
            remedy="pin the packages it was trained with in the runtime's lock file",
        ) from error
    _prove(scorer, folder, spec)
    return with_features(scorer, spec)


def _prove(scorer: AnyScorer, folder: Path, spec: ModelServerSpec) -> None:
    golden = folder / GOLDEN_PATH
    if not golden.is_file():
        return
    recorded = json.loads(golden.read_text(encoding="utf-8"))
    request = orjson.dumps(recorded["request"])
    paths = [scorer.score]
    if isinstance(scorer, Scorer):
        # The slow path is MLflow's word, and the fast one must equal it.
        paths.append(scorer.score_as_mlflow)
    for answer in (path(request, _JSON) for path in paths):
        answered = json.loads(answer.body).get("predictions") if answer.status == 200 else None
        if answered is None or not same(answered, recorded["predictions"]):
            raise SignatureMismatch(
                f"release {spec.release.id}, golden rows",
                value=_first_difference(answered, recorded["predictions"])
                or answer.body[:500].decode(errors="replace"),
                limit="the answers recorded when the model was registered",
                remedy="the runtime changes what the model says: pin the packages of the training in its lock",
            )


def _first_difference(answered: Any, recorded: Any) -> str:
    """The first golden row that is answered otherwise; empty where there are no answers row by row."""
    if not isinstance(answered, list) or not isinstance(recorded, list):
        return ""
    if len(answered) != len(recorded):
        return f"{len(answered)} answers to {len(recorded)} golden rows"
    row = next((row for row, pair in enumerate(zip(answered, recorded, strict=True)) if not same(*pair)), 0)
    return f"golden row {row + 1}: {str(answered[row])[:80]} instead of {str(recorded[row])[:80]}"


def create_app(spec: ModelServerSpec, scorer: AnyScorer | FeatureScorer, drill: Drill) -> Starlette:
    """MLflow's routes over ``scorer``, with a prediction log beside them."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    log = PredictionLog(
        Path(spec.log_dir),
        queue_size=spec.queue_size,
        segment_bytes=spec.segment_bytes,
        segments_kept=spec.segments_kept,
    )
    pool = ThreadPoolExecutor(PREDICTION_THREADS, thread_name_prefix="predict")
    # Requests wait here and not in the pool, because whoever waits may hang up.
    turns = asyncio.Semaphore(PREDICTION_THREADS)
    release = spec.release.id
    classes = classes_of((scorer.scorer if isinstance(scorer, FeatureScorer) else scorer).model)

    async def invocations(request: Request) -> Response:
        started = time.perf_counter()
        body = await request.body()
        drilled = drill.fault()
        if drilled.get("latency_ms"):
            await asyncio.sleep(drilled["latency_ms"] / 1000.0)
        if drilled and random.random() < drilled.get("error_rate", 0.0):
            answer = Scored(500, b'{"error_code": "DRILL", "message": "fault injected"}', _JSON)
        else:
            scored = await answered(body, request)
            if scored is None:
                return Response(status_code=_CLIENT_GONE)
            answer = scored
        ids = {name: request.headers.get(name, "") for name in (REQUEST_ID_HEADER, CLIENT_REQUEST_ID_HEADER)}
        _log(log, answer, request.headers, release, time.perf_counter() - started)
        return Response(
            answer.body,
            status_code=answer.status,
            media_type=answer.media_type,
            headers={
                RELEASE_HEADER: release,
                **{name: given for name, given in ids.items() if given},
                **({FAULT_HEADER: fault} if (fault := _fault_of(answer, request.headers)) else {}),
            },
        )

    async def answered(body: bytes, request: Request) -> Scored | None:
        """``None`` where nobody waits for the answer any more. A server that is behind would otherwise spend all its
        time on requests that were given up, and answer none in time, even when the load is gone."""
        wish = request.headers.get(CLASSES_HEADER, "")
        if refusal := refusal_of(wish, classes):
            return refusal
        had_to_wait = turns.locked()
        async with turns:
            if had_to_wait and await request.is_disconnected():
                return None
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(pool, scorer.score, body, request.headers.get("content-type"))
        return labelled(answer, classes) if classes is not None and is_asked(wish) else answer

    async def ping(_: Request) -> Response:
        return Response("\n", media_type=_JSON, headers={RELEASE_HEADER: release})

    async def version(_: Request) -> Response:
        return Response(_mlflow_version(), media_type=_JSON)

    @cache
    def document() -> bytes:
        return orjson.dumps(openapi_of(spec, scorer, golden=Path(spec.model_dir) / GOLDEN_PATH), default=str)

    async def openapi(_: Request) -> Response:
        # Beside the event loop, because it asks the model for an example.
        body = await asyncio.get_running_loop().run_in_executor(pool, document)
        return Response(body, media_type=_JSON, headers={RELEASE_HEADER: release})

    async def log_stats(_: Request) -> Response:
        return Response(orjson.dumps(log.stats()), media_type=_JSON)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        pool.shutdown(wait=True)
        await asyncio.to_thread(log.close)

    return Starlette(
        routes=[
            Route("/invocations", invocations, methods=["POST"]),
            Route("/ping", ping),
            Route("/health", ping),
            Route("/version", version),
            Route("/log-stats", log_stats),
            Route("/openapi.json", openapi),
        ],
        lifespan=lifespan,
    )


def _fault_of(answer: Scored, headers: Headers) -> str | None:
    """What the fault header says. A refusal is marked once: what another release refuses as well is the client's."""
    if answer.is_fault:
        return MODEL_FAULT
    is_first_of_trial = TRIAL_HEADER in headers and headers.get(_ATTEMPT_HEADER) == "1" and not _is_mirrored(headers)
    return REFUSED_ROWS if 400 <= answer.status < 500 and is_first_of_trial else None


def _is_mirrored(headers: Headers) -> bool:
    return headers.get("host", "").partition(":")[0].endswith(_MIRRORED)


def _mlflow_version() -> str:
    """Of the distribution that brings MLflow here: to import it for its version would take seconds."""
    for name in ("mlflow", "mlflow-skinny"):
        with suppress(PackageNotFoundError):
            return version_of(name)
    return ""


def _log(log: PredictionLog, answer: Scored, headers: Headers, release: str, seconds: float) -> None:
    """One record a row; further rows of a request say which ``row`` they are, and have ids ``rid#1``, ``rid#2`` …

    The answer to a mirrored copy is a ``shadow``: no client has ever seen it.
    """
    rid, clients = headers.get(REQUEST_ID_HEADER, ""), headers.get(CLIENT_REQUEST_ID_HEADER, "")
    common: dict[str, Any] = {
        "t": time.time(),
        "release": release,
        "status": answer.status,
        "ms": round(seconds * 1000, 3),
        "batch": headers.get(BATCH_HEADER, ""),
    }
    if clients:
        common["client_rid"] = clients
    if _is_mirrored(headers):
        common["shadow"] = True
    if answer.outputs:
        log.put({**common, "columns": answer.columns}, _rows(answer, rid))
    else:
        log.put({"rid": rid, **common})


def _rows(answer: Scored, rid: str) -> list[dict[str, Any]]:
    """What the record of each row has for itself."""
    rows = describe_all(answer.outputs)
    for at, (row, inputs) in enumerate(zip_longest(rows, answer.rows[: len(rows)])):
        row["rid"] = f"{rid}#{at}" if at else rid
        row["inputs"] = inputs
        if at:
            row["row"] = at
    for row, lookup in zip(rows, answer.lookups, strict=False):
        row |= lookup
    return rows


def main(argv: list[str]) -> int:
    """Serve until SIGTERM; exit code 1 and ``failure.json`` where it could not start."""
    import uvicorn

    from airflow_provider_mlpipex.serving.model_server.single_write_protocol import WholeAnswers

    write_to_stdout()
    spec_path = Path(argv[0])
    spec = ModelServerSpec.model_validate_json(spec_path.read_text(encoding="utf-8"))
    # Where the machine has no memory left, the kernel ends a model server, and neither Envoy nor the supervisor.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    # Importing makes a million objects and no garbage: a collector that looks at them takes an eighth of the time.
    gc.disable()
    try:
        scorer = load(spec)
    except MlpipexError as error:
        write_failure(spec_path, error)
        server_log.error("%s: %s", NOT_STARTED, error)
        return 1
    proven = scorer.scorer if isinstance(scorer, FeatureScorer) else scorer
    warm_up(proven, Path(spec.model_dir) / GOLDEN_PATH, threads=PREDICTION_THREADS)
    # Model and libraries stay for good: the collector need not look at a million objects of theirs again and again.
    gc.collect()
    gc.freeze()
    gc.enable()
    # Held until this process ends. A standby waits here, with its model loaded, for the end of the one that serves.
    if whose_turn(Path(spec.socket)) is not None:
        server_log.info("%s: release %s", STANDBY_WAITING, spec.release.id)
    take_turn(Path(spec.socket))
    Path(spec.socket).unlink(missing_ok=True)
    app = create_app(spec, scorer, Drill(spec_path.parent / FAULT_FILE))
    uvicorn.run(
        app,
        uds=spec.socket,
        http=WholeAnswers,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        lifespan="on",
    )
    return 0
