"""The control API of the embedded plane, on loopback: every route wants a bearer token, and one of the right scope.

Errors come back as ``MlpipexError.as_dict()`` with a status that says whose fault it is; the client raises them again
as the same class. The composition root mounts further routes (rollback, status) through ``extra_routes``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_mlpipex.domain import errors
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, InvalidName, MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release, ReleaseId
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead
from airflow_provider_mlpipex.domain.rollout.plane_observation import Surveyed
from airflow_provider_mlpipex.domain.rollout.traffic_plan import CLAIM_HEADER, TrafficPlan
from airflow_provider_mlpipex.domain.shadow.slices import MAX_COLUMNS
from airflow_provider_mlpipex.serving.plane.access import (
    MAX_CONTROL_BYTES,
    BearerToken,
    holder_of,
    require_scope,
    scoped,
)
from airflow_provider_mlpipex.serving.plane.control_openapi import MAX_ROWS, MAX_TIMEOUT_S, OPERATIONS, document
from airflow_provider_mlpipex.serving.plane.lanes import Lane
from airflow_provider_mlpipex.serving.plane.records import Records, TakesAnything
from airflow_provider_mlpipex.serving.plane.supervisor import Supervisor
from airflow_provider_mlpipex.serving.plane.tokens import TokenFiles

#: Windows that a survey may ask of one endpoint.
MAX_WINDOWS = 100
#: Characters of a reason.
MAX_REASON = 2_000
#: Of the moments that telemetry may be asked for.
_FIRST_YEAR, _LAST_YEAR = 1971, 2999
_RELEASE_ID: TypeAdapter[str] = TypeAdapter(ReleaseId)
_STATUS: dict[type[MlpipexError], int] = {
    errors.NotAuthorised: 401,
    errors.NotPermitted: 403,
    errors.RequestInvalid: 400,
    errors.InvalidName: 422,
    errors.ConfigurationInvalid: 422,
    errors.PlanRefused: 409,
    errors.NotRecorded: 409,
    errors.NotFound: 404,
    errors.IllegalTransition: 409,
    errors.RolloutEnded: 409,
    errors.LedgerConflict: 409,
    errors.LedgerRewritten: 409,
    errors.RolloutInProgress: 409,
    errors.PlaneUnavailable: 503,
    errors.LedgerUnavailable: 503,
    errors.RegistryUnavailable: 503,
}


def create_app(
    supervisor: Supervisor, *, tokens: TokenFiles, records: Records | None = None, extra_routes: Sequence[Route] = ()
) -> Starlette:
    """The API over ``supervisor``. Its verbs block, so each runs in a thread: of one lane what moves traffic, of
    another what may wait for a registry or for a model server, of the last what reads logs.

    :param records: knows which releases and plans are new to the plane and may be taken; ``None``: all.
    """
    records = records or TakesAnything()
    routing = Lane("plans and leases", threads=8, waiting=56)
    releasing = Lane("releases", threads=8, waiting=56)
    reading = Lane("telemetry", threads=4, waiting=60)

    async def put_release(request: Request) -> Response:
        asked = _release_id(request)
        sent = await _body(request)
        release = _read(Release, sent.get("release"), "release")
        if release.id != asked:
            raise _invalid("release.id", release.id, f"the release in the path: {asked}")
        timeout_s = _seconds(sent.get("timeout_s", 120.0))
        # A rollback revives what it returns to; whoever may do no more brings nothing that is new here.
        if supervisor.kept_releases(_endpoint(request)).get(release.id) != release:
            require_scope(request, "deploy")
            await releasing.run(records.require_release, _endpoint(request), release)
        status = await releasing.run(supervisor.ensure, _endpoint(request), release, timeout_s=timeout_s)
        return JSONResponse(status.to_json())

    async def delete_release(request: Request) -> Response:
        await releasing.run(supervisor.retire, _endpoint(request), _release_id(request))
        return Response(status_code=204)

    async def put_plan(request: Request) -> Response:
        plan = _read(TrafficPlan, await _body(request), "plan")
        if plan.endpoint != _endpoint(request):
            raise _invalid("plan.endpoint", str(plan.endpoint), f"the endpoint in the path: {_endpoint(request)}")
        # More than taking traffic back to a release that runs here already.
        is_new = plan.releases != (plan.current,) or plan.current not in supervisor.kept_releases(plan.endpoint)
        if is_new:
            require_scope(request, "deploy")
        if is_new or not supervisor.knows_as_good(plan):
            await routing.run(records.require_plan, plan)
        return JSONResponse((await routing.run(supervisor.apply, plan, claim=_claim(request))).to_json())

    async def get_heads(request: Request) -> Response:
        one = _endpoint(request) if "name" in request.path_params else None
        return JSONResponse({name: head.to_json() for name, head in supervisor.heads(one).items()})

    async def put_head(request: Request) -> Response:
        claim = _read(HeadClaim, await _body(request), "claim")
        await routing.run(supervisor.note_head, _endpoint(request), claim)
        return Response(status_code=204)

    async def post_accepted_head(request: Request) -> Response:
        body = await _body(request)
        reason = body.get("reason")
        if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON:
            raise _invalid("reason", str(reason)[:80], f"a text of at most {MAX_REASON} characters")
        heads = [_read(LedgerHead, body.get(name), name) for name in ("head", "instead_of")]
        said = f"{holder_of(request).name}: {' '.join(reason.split())}"
        await routing.run(supervisor.accept_head, _endpoint(request), heads[0], instead_of=heads[1], reason=said)
        return Response(status_code=204)

    async def post_lease(request: Request) -> Response:
        sent = await _body(request)
        await routing.run(supervisor.renew, _endpoint(request), str(sent.get("plan_id")))
        return Response(status_code=204)

    async def get_endpoint(request: Request) -> Response:
        return JSONResponse((await routing.run(supervisor.observe, _endpoint(request))).to_json())

    async def get_telemetry(request: Request) -> Response:
        since, until = _moment(request, "since"), _moment(request, "until")
        found = await reading.run(supervisor.telemetry, _endpoint(request), since=since, until=until)
        return JSONResponse(found.to_json())

    async def post_survey(request: Request) -> Response:
        body = await _body(request)
        until = _as_moment(body.get("until"), "until")
        asked = _surveyed(body.get("endpoints"))
        found = await reading.run(supervisor.survey, asked, until=until)
        return await _large_json(reading, found.to_json)

    async def get_comparison(request: Request) -> Response:
        found = await reading.run(
            supervisor.compare,
            _endpoint(request),
            primary=_checked_release_id(request.query_params.get("primary", "")),
            shadow=_checked_release_id(request.query_params.get("shadow", "")),
            since=_moment(request, "since"),
            until=_moment(request, "until"),
            slices=_slices(request),
        )
        return JSONResponse(found.to_json())

    async def get_predictions(request: Request) -> Response:
        found = await reading.run(
            supervisor.predictions,
            _endpoint(request),
            _release_id(request),
            since=_moment(request, "since"),
            until=_moment(request, "until"),
            limit=_count(request, "limit"),
            batch=request.query_params.get("batch"),
        )
        return JSONResponse(found.to_json())

    async def get_sketches(request: Request) -> Response:
        window = {"since": _moment(request, "since"), "until": _moment(request, "until")}
        found = await reading.run(supervisor.sketches, _endpoint(request), _release_id(request), **window)
        return await _large_json(reading, found.to_json)

    async def get_batch_sketches(request: Request) -> Response:
        found = await reading.run(
            supervisor.sketches_by_batch,
            _endpoint(request),
            _release_id(request),
            column=_column(request),
            since=_moment(request, "since"),
            until=_moment(request, "until"),
        )
        return await _large_json(reading, found.to_json)

    async def get_batch_faults(request: Request) -> Response:
        found = await reading.run(
            supervisor.batch_faults,
            _endpoint(request),
            _release_id(request),
            since=_moment(request, "since"),
            until=_moment(request, "until"),
            psi=_number(request, "psi", below=math.inf),
            alpha=_number(request, "alpha", below=1.0),
        )
        return JSONResponse(found.to_json())

    async def post_served(request: Request) -> Response:
        asked = (await _body(request)).get("request_ids")
        if not isinstance(asked, list) or not all(isinstance(rid, str) for rid in asked):
            raise _invalid("request_ids", str(asked)[:80], "a list of texts")
        found = await reading.run(supervisor.served, _endpoint(request), asked)
        return JSONResponse(found.to_json())

    async def put_fault(request: Request) -> Response:
        asked = _release_id(request)
        sent = await _body(request)
        unknown = sent.keys() - {"error_rate", "latency_ms"}
        if unknown or any(isinstance(v, bool) or not isinstance(v, (int, float)) or v < 0 for v in sent.values()):
            raise _invalid("fault", json.dumps(sent)[:200], "error_rate and latency_ms, numbers from 0 up")
        await routing.run(supervisor.inject_fault, _endpoint(request), asked, sent)
        return Response(status_code=204)

    async def delete_fault(request: Request) -> Response:
        await routing.run(supervisor.inject_fault, _endpoint(request), _release_id(request), None)
        return Response(status_code=204)

    async def health(_: Request) -> Response:
        try:
            refused = await routing.run(supervisor.refusals)
        except errors.PlaneUnavailable:
            return JSONResponse({"status": "Envoy is being restarted"})
        return JSONResponse({"status": "serving", "refused": refused})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        supervisor.interrupt()
        for lane in (routing, releasing, reading):
            lane.close()

    async def get_openapi(request: Request) -> Response:
        return JSONResponse(document(request.app.routes))

    base = "/v1/endpoints/{environment}/{name}"
    of_release = f"{base}/releases/{{release}}"
    app = Starlette(
        routes=[
            scoped("read", "/v1/openapi.json", get_openapi, **OPERATIONS["get_openapi"]),
            scoped("read", "/v1/health", health, **OPERATIONS["health"]),
            scoped("read", "/v1/survey", post_survey, methods=["POST"], **OPERATIONS["post_survey"]),
            scoped("read", base, get_endpoint, **OPERATIONS["get_endpoint"]),
            # What a rollback needs of these two; anything else wants deploy, which is asked for once the body is read.
            scoped("rollback", f"{base}/plan", put_plan, methods=["PUT"], **OPERATIONS["put_plan"]),
            scoped("deploy", f"{base}/lease", post_lease, methods=["POST"], **OPERATIONS["post_lease"]),
            scoped("read", "/v1/ledger-heads", get_heads, **OPERATIONS["get_heads"]),
            scoped("read", f"{base}/ledger-head", get_heads, **OPERATIONS["get_heads"]),
            scoped("rollback", f"{base}/ledger-head", put_head, methods=["PUT"], **OPERATIONS["put_head"]),
            scoped(
                "deploy",
                f"{base}/ledger-head/accepted",
                post_accepted_head,
                methods=["POST"],
                **OPERATIONS["post_accepted_head"],
            ),
            scoped("read", f"{base}/telemetry", get_telemetry, **OPERATIONS["get_telemetry"]),
            scoped("read", f"{base}/comparison", get_comparison, **OPERATIONS["get_comparison"]),
            scoped("read", f"{base}/served", post_served, methods=["POST"], **OPERATIONS["post_served"]),
            scoped("rollback", of_release, put_release, methods=["PUT"], **OPERATIONS["put_release"]),
            scoped("deploy", of_release, delete_release, methods=["DELETE"], **OPERATIONS["delete_release"]),
            scoped("read", f"{of_release}/predictions", get_predictions, **OPERATIONS["get_predictions"]),
            scoped("read", f"{of_release}/sketches", get_sketches, **OPERATIONS["get_sketches"]),
            scoped("read", f"{of_release}/sketches/batches", get_batch_sketches, **OPERATIONS["get_batch_sketches"]),
            scoped("read", f"{of_release}/sketches/faults", get_batch_faults, **OPERATIONS["get_batch_faults"]),
            scoped("drill", f"{of_release}/fault", put_fault, methods=["PUT"], **OPERATIONS["put_fault"]),
            scoped("drill", f"{of_release}/fault", delete_fault, methods=["DELETE"], **OPERATIONS["delete_fault"]),
            *extra_routes,
        ],
        exception_handlers={MlpipexError: _explain, Exception: _explain_unexpected},
        lifespan=lifespan,
    )
    app.add_middleware(BearerToken, tokens=tokens)
    return app


async def _explain(_: Request, error: Exception) -> Response:
    assert isinstance(error, MlpipexError)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
    return JSONResponse(error.as_dict(), status_code=status)


async def _explain_unexpected(_: Request, error: Exception) -> Response:
    """A full disk, or a mistake of ours: the plane's own log has the traceback, and the text, which may hold a path."""
    said = error.strerror if isinstance(error, OSError) else ""
    unexpected = errors.PlaneUnavailable(
        "control API",
        value=f"{type(error).__name__}{f': {said}' if said else ''}",
        limit="no such error",
        remedy="read the plane's log; traffic goes on as last confirmed",
    )
    return JSONResponse(unexpected.as_dict(), status_code=500)


def _endpoint(request: Request) -> EndpointRef:
    return EndpointRef.parse(f"{request.path_params['environment']}/{request.path_params['name']}")


async def _large_json(lane: Lane, made: Callable[[], dict[str, Any]]) -> Response:
    """Megabytes take a while to write: in a thread, so that a rollback need not wait for them."""

    def written() -> bytes:
        content = made()
        try:
            return orjson.dumps(content)
        except TypeError:  # sums of squares beyond 64 bits
            return json.dumps(content, allow_nan=False).encode()

    return Response(await lane.run(written), media_type="application/json")


def _claim(request: Request) -> HeadClaim | None:
    """What the plan's sender says of its ledger; ``None`` from who says nothing, as earlier versions do."""
    text = request.headers.get(CLAIM_HEADER)
    if text is None:
        return None
    try:
        return HeadClaim.model_validate_json(text)
    except ValidationError:
        raise _invalid(CLAIM_HEADER, text[:80], HeadClaim.__name__) from None


def _column(request: Request) -> str:
    column = request.query_params.get("column")
    if not column:
        raise _invalid("column", "", "the name of a column")
    return column


def _slices(request: Request) -> list[str]:
    named = request.query_params.getlist("slice")
    if len(named) > MAX_COLUMNS:
        raise _invalid("slice", f"{len(named)} columns", f"at most {MAX_COLUMNS}")
    return named


def _release_id(request: Request) -> str:
    return _checked_release_id(request.path_params["release"])


def _checked_release_id(text: str) -> str:
    try:
        return _RELEASE_ID.validate_python(text)
    except ValidationError:
        raise InvalidName(
            "release", value=text[:120], limit="1.1.0-rt1.0.0-3fa9c2d1", remedy="copy it from the endpoint's status"
        ) from None


def _seconds(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 < raw <= MAX_TIMEOUT_S:
        raise _invalid("timeout_s", str(raw)[:80], f"seconds, above 0 and up to {MAX_TIMEOUT_S:g}")
    return float(raw)


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    try:
        sent = json.loads(raw) if len(raw) <= MAX_CONTROL_BYTES else None
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise _invalid("request body", raw[:80].decode(errors="replace"), f"a JSON object ≤ {MAX_CONTROL_BYTES} bytes")
    return sent


def _read(kind: Any, raw: object, field: str) -> Any:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise _invalid(field, found[:500], kind.__name__) from None


def _count(request: Request, field: str) -> int:
    text = request.query_params.get(field, "")
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_ROWS:
        raise _invalid(field, text[:80], f"a whole number from 1 to {MAX_ROWS}")
    return int(text)


def _moment(request: Request, field: str) -> datetime:
    return _as_moment(request.query_params.get(field), field)


def _as_moment(raw: object, field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(raw) if isinstance(raw, str) else None
    except ValueError:
        moment = None
    # Beyond these years a window, a zone or a margin would leave the calendar.
    if moment is None or moment.tzinfo is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        limit = f"ISO 8601 with a time zone, from {_FIRST_YEAR} to {_LAST_YEAR}"
        raise _invalid(field, str(raw or "")[:80], limit)
    return moment


def _number(request: Request, field: str, *, below: float) -> float:
    given = request.query_params.get(field, "")
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 < number < below:
        raise _invalid(field, given[:80], f"a number above 0 and below {below:g}")
    return number


def _surveyed(raw: object) -> list[Surveyed]:
    """``{"production/x": {"release": "…", "since": ["…"]}}``: what is asked of each endpoint."""
    if not isinstance(raw, dict):
        raise _invalid("endpoints", str(raw)[:80], "an object: endpoint -> release and since")
    asked = []
    for name, question in raw.items():
        release, since = (
            (question.get("release"), question.get("since")) if isinstance(question, dict) else (None, None)
        )
        if not isinstance(since, list) or len(since) > MAX_WINDOWS or not isinstance(release, str):
            raise _invalid(f"endpoints, {name[:80]}", str(question)[:80], f"a release and at most {MAX_WINDOWS} times")
        begins = tuple(_as_moment(begin, f"endpoints, {name[:80]}, since") for begin in since)
        asked.append(Surveyed(EndpointRef.parse(name), _checked_release_id(release) if since else "", begins))
    return asked


def _invalid(field: str, value: str, limit: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(f"control API, {field}", value=value, limit=limit, remedy="correct the request")
