"""The control API of the embedded plane, on loopback: every route wants a bearer token, and one of the right scope.

Errors come back as ``MlpipexError.as_dict()`` with a status that says whose fault it is; the client raises them again
as the same class. The composition root mounts further routes (rollback, status) through ``extra_routes``.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_mlpipex.domain import errors
from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.plane.access import (
    BearerToken,
    holder_of,
    require_scope,
    scoped,
)
from airflow_provider_mlpipex.serving.plane.control_openapi import OPERATIONS, document
from airflow_provider_mlpipex.serving.plane.control_requests import (
    body_of,
    checked_release_id,
    claim_of,
    column_of,
    count_of,
    endpoint_of,
    invalid,
    moment_of,
    number_of,
    read_flag,
    read_moment,
    read_seconds,
    read_survey,
    read_value,
    release_id_of,
    slices_of,
)
from airflow_provider_mlpipex.serving.plane.lanes import Lane
from airflow_provider_mlpipex.serving.plane.metrics import METRICS_TYPE
from airflow_provider_mlpipex.serving.plane.records import Records, TakesAnything
from airflow_provider_mlpipex.serving.plane.supervisor import Supervisor
from airflow_provider_mlpipex.serving.plane.tokens import TokenFiles

#: Characters of a reason.
MAX_REASON = 2_000
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
        asked = release_id_of(request)
        sent = await body_of(request)
        release = read_value(Release, sent.get("release"), "release")
        if release.id != asked:
            raise invalid("release.id", release.id, f"the release in the path: {asked}")
        timeout_s = read_seconds(sent.get("timeout_s", 120.0))
        # A rollback revives what it returns to; whoever may do no more brings nothing that is new here.
        if supervisor.kept_releases(endpoint_of(request)).get(release.id) != release:
            require_scope(request, "deploy")
            await releasing.run(records.require_release, endpoint_of(request), release)
        status = await releasing.run(supervisor.ensure, endpoint_of(request), release, timeout_s=timeout_s)
        return JSONResponse(status.to_json())

    async def delete_release(request: Request) -> Response:
        await releasing.run(supervisor.retire, endpoint_of(request), release_id_of(request))
        return Response(status_code=204)

    async def put_plan(request: Request) -> Response:
        plan = read_value(TrafficPlan, await body_of(request), "plan")
        if plan.endpoint != endpoint_of(request):
            raise invalid("plan.endpoint", str(plan.endpoint), f"the endpoint in the path: {endpoint_of(request)}")
        # More than taking traffic back to a release that runs here already.
        is_new = plan.releases != (plan.current,) or plan.current not in supervisor.kept_releases(plan.endpoint)
        if is_new:
            require_scope(request, "deploy")
        if is_new or not supervisor.knows_as_good(plan):
            await routing.run(records.require_plan, plan)
        return JSONResponse((await routing.run(supervisor.apply, plan, claim=claim_of(request))).to_json())

    async def get_heads(request: Request) -> Response:
        endpoint = endpoint_of(request) if "name" in request.path_params else None
        return JSONResponse({name: head.to_json() for name, head in supervisor.heads(endpoint).items()})

    async def put_head(request: Request) -> Response:
        claim = read_value(HeadClaim, await body_of(request), "claim")
        await routing.run(supervisor.note_head, endpoint_of(request), claim)
        return Response(status_code=204)

    async def post_accepted_head(request: Request) -> Response:
        body = await body_of(request)
        reason = body.get("reason")
        if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON:
            raise invalid("reason", str(reason)[:80], f"a text of at most {MAX_REASON} characters")
        heads = [read_value(LedgerHead, body.get(name), name) for name in ("head", "instead_of")]
        said = f"{holder_of(request).name}: {' '.join(reason.split())}"
        await routing.run(supervisor.accept_head, endpoint_of(request), heads[0], instead_of=heads[1], reason=said)
        return Response(status_code=204)

    async def post_lease(request: Request) -> Response:
        sent = await body_of(request)
        await routing.run(supervisor.renew, endpoint_of(request), str(sent.get("plan_id")))
        return Response(status_code=204)

    async def get_endpoint(request: Request) -> Response:
        return JSONResponse((await routing.run(supervisor.observe, endpoint_of(request))).to_json())

    async def get_telemetry(request: Request) -> Response:
        since, until = moment_of(request, "since"), moment_of(request, "until")
        telemetry = await reading.run(supervisor.telemetry, endpoint_of(request), since=since, until=until)
        return JSONResponse(telemetry.to_json())

    async def post_survey(request: Request) -> Response:
        body = await body_of(request)
        until = read_moment(body.get("until"), "until")
        asked = read_survey(body.get("endpoints"))
        warm = read_flag(body.get("warm", False), "warm")
        survey = await reading.run(supervisor.survey, asked, until=until, warm=warm)
        return await _large_json(reading, survey.to_json)

    async def get_comparison(request: Request) -> Response:
        comparison = await reading.run(
            supervisor.compare,
            endpoint_of(request),
            primary=checked_release_id(request.query_params.get("primary", "")),
            shadow=checked_release_id(request.query_params.get("shadow", "")),
            since=moment_of(request, "since"),
            until=moment_of(request, "until"),
            slices=slices_of(request),
        )
        return JSONResponse(comparison.to_json())

    async def get_predictions(request: Request) -> Response:
        sample = await reading.run(
            supervisor.predictions,
            endpoint_of(request),
            release_id_of(request),
            since=moment_of(request, "since"),
            until=moment_of(request, "until"),
            limit=count_of(request, "limit"),
            batch=request.query_params.get("batch"),
        )
        return JSONResponse(sample.to_json())

    async def get_sketches(request: Request) -> Response:
        window = {"since": moment_of(request, "since"), "until": moment_of(request, "until")}
        sketches = await reading.run(supervisor.sketches, endpoint_of(request), release_id_of(request), **window)
        return await _large_json(reading, sketches.to_json)

    async def get_batch_sketches(request: Request) -> Response:
        sketches = await reading.run(
            supervisor.sketches_by_batch,
            endpoint_of(request),
            release_id_of(request),
            column=column_of(request),
            since=moment_of(request, "since"),
            until=moment_of(request, "until"),
        )
        return await _large_json(reading, sketches.to_json)

    async def get_batch_faults(request: Request) -> Response:
        faults = await reading.run(
            supervisor.batch_faults,
            endpoint_of(request),
            release_id_of(request),
            since=moment_of(request, "since"),
            until=moment_of(request, "until"),
            psi=number_of(request, "psi", below=math.inf),
            alpha=number_of(request, "alpha", below=1.0),
        )
        return JSONResponse(faults.to_json())

    async def post_served(request: Request) -> Response:
        asked = (await body_of(request)).get("request_ids")
        if not isinstance(asked, list) or not all(isinstance(rid, str) for rid in asked):
            raise invalid("request_ids", str(asked)[:80], "a list of texts")
        answers = await reading.run(supervisor.served, endpoint_of(request), asked)
        return JSONResponse(answers.to_json())

    async def put_fault(request: Request) -> Response:
        asked = release_id_of(request)
        sent = await body_of(request)
        unknown = sent.keys() - {"error_rate", "latency_ms"}
        if unknown or any(isinstance(v, bool) or not isinstance(v, (int, float)) or v < 0 for v in sent.values()):
            raise invalid("fault", json.dumps(sent)[:200], "error_rate and latency_ms, numbers from 0 up")
        record = partial(records.record_fault, endpoint_of(request), asked, sent, by=holder_of(request).name)
        await routing.run(supervisor.inject_fault, endpoint_of(request), asked, sent, record=record)
        return Response(status_code=204)

    async def delete_fault(request: Request) -> Response:
        endpoint, asked = endpoint_of(request), release_id_of(request)
        await routing.run(supervisor.inject_fault, endpoint, asked, None)
        # Afterwards: a release is mended whether or not that can be written down.
        await routing.run(records.record_fault, endpoint, asked, None, by=holder_of(request).name)
        return Response(status_code=204)

    async def health(_: Request) -> Response:
        try:
            refused = await routing.run(supervisor.refusals)
        except errors.PlaneUnavailable:
            return JSONResponse({"status": "Envoy is being restarted"})
        return JSONResponse({"status": "serving", "refused": refused})

    async def metrics(_: Request) -> Response:
        return Response(await reading.run(supervisor.metrics), media_type=METRICS_TYPE)

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
            # Where Prometheus looks unless it is told otherwise.
            scoped("read", "/metrics", metrics, **OPERATIONS["metrics"]),
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


async def _large_json(lane: Lane, made: Callable[[], dict[str, Any]]) -> Response:
    """Megabytes take a while to write: in a thread, so that a rollback need not wait for them."""

    def written() -> bytes:
        content = made()
        try:
            return orjson.dumps(content)
        except TypeError:  # sums of squares beyond 64 bits
            return json.dumps(content, allow_nan=False).encode()

    return Response(await lane.run(written), media_type="application/json")
