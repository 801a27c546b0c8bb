"""Rollback and status over HTTP, mounted into the plane's authenticated control API.

So a rollback needs the plane and the ledger, and neither Airflow nor a registry: ``POST
/v1/endpoints/production/fraud-scorer/rollback``. Its body may name the ``release`` to take away, so that a call whose
answer was lost can be made again, or one ``rollout`` to undo and nothing else. What it does not know, it refuses: a
slip of the pen in ``release`` must not take another one away. Authentication, body limits and the
mapping of errors are the control API's; a request arrives here with a valid bearer token or not at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_mlpipex.domain.errors import LedgerUnavailable, PlaneUnavailable, RequestInvalid
from airflow_provider_mlpipex.domain.fields.free_text import one_line
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic
from airflow_provider_mlpipex.services.rollout.rollback import RollbackReport, answer_request
from airflow_provider_mlpipex.services.rollout.status import endpoint_status
from airflow_provider_mlpipex.services.rollout.tenures import tenures

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
    from airflow_provider_mlpipex.serving.plane.unrecorded import TakenBack

MAX_CAUSE_LENGTH = 500
#: Tenures that one answer holds: those that ``last`` asks for, the latest by default. ``before``, the ``seq`` of the
#: oldest one, asks for those that came before.
TENURES, MAX_TENURES = 100, 1000
MAX_SEQ = 2**31 - 1
#: Rollbacks that are carried out at once.
ROLLBACK_THREADS = 8
#: What the body of a rollback may say.
FIELDS = ("cause", "user", "release", "rollout")


class TakesBack(Protocol):
    """A plane that can return traffic by what it knows itself."""

    def plan_in_force(self, endpoint: EndpointRef) -> TrafficPlan | None: ...

    def take_back(
        self, endpoint: EndpointRef, *, instead_of: TrafficPlan | None, release_id: str | None, cause: str, user: str
    ) -> TakenBack: ...


def routes(
    platform: Platform, *, make_room: Callable[[], bool] = lambda: False, plane: TakesBack | None = None
) -> list[Route]:
    """Routes over ``platform``; every handler runs its use case in a thread, because ledger and plane block.

    :param make_room: called where a rollback could not be written down; true where there is room on the disk now that
        was kept for this.
    :param plane: takes traffic back where no ledger can be written at all, and has it recorded later.
    """
    from starlette.responses import JSONResponse

    from airflow_provider_mlpipex.serving.plane.access import holder_of, scoped
    from airflow_provider_mlpipex.serving.plane.control_requests import endpoint_of

    rollbacks = ThreadPoolExecutor(ROLLBACK_THREADS, thread_name_prefix="rollback")

    async def post_rollback(request: Request) -> Response:
        endpoint = endpoint_of(request)
        body = _json(await request.body())
        _refuse_unknown(body, request.query_params)
        cause, claimed = _text(body, "cause") or "manual rollback over HTTP", _text(body, "user")
        # Who it was is known by the token alone; what the body says of it stands beside, as said.
        user = f"{holder_of(request).name}, who says to be {claimed}" if claimed else holder_of(request).name
        acting = platform.acting_as(Origin(kind="http", user=user))
        rollout, release = _text(body, "rollout") or None, _text(body, "release") or None
        roll_back = partial(answer_request, acting, endpoint, cause=cause, rollout_id=rollout, release_id=release)

        def carried_out() -> dict[str, Any]:
            # A rollout is known to the ledger alone.
            knows = plane if rollout is None else None
            instead_of = knows.plan_in_force(endpoint) if knows is not None else None
            try:
                report = _with_room(make_room, roll_back)
            except LedgerUnavailable as error:
                if knows is None:
                    raise
                return _unrecorded(
                    endpoint,
                    knows.take_back(endpoint, instead_of=instead_of, release_id=release, cause=cause, user=user),
                    why=error,
                )
            return {**report.to_json(), "recorded": True, "done": report.sentence}

        # A thread that nothing else can take: whatever else is asked of the plane, a rollback begins at once.
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(rollbacks, carried_out))

    async def get_status(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(endpoint_status, platform, endpoint_of(request)))

    async def get_history(request: Request) -> Response:
        last, before = _number(request, "last") or TENURES, _number(request, "before")
        periods = await asyncio.to_thread(tenures, platform, endpoint_of(request), last=last, before=before)
        return JSONResponse([tenure.to_json() for tenure in periods])

    base = "/v1/endpoints/{environment}/{name}"
    texts = {name: {"type": "string", "maxLength": MAX_CAUSE_LENGTH} for name in FIELDS}
    schema = {"type": "object", "properties": texts, "additionalProperties": False}
    return [
        scoped(
            "rollback",
            f"{base}/rollback",
            post_rollback,
            methods=["POST"],
            summary="Return to the last good release",
            requestBody={"required": False, "content": {"application/json": {"schema": schema}}},
        ),
        scoped("read", f"{base}/status", get_status, summary="What serves, by the ledger and by the plane"),
        scoped(
            "read",
            f"{base}/history",
            get_history,
            summary="What has served, and when",
            parameters=[
                {"name": name, "in": "query", "required": False, "schema": {"type": "integer", "minimum": 1}}
                for name in ("last", "before")
            ],
        ),
    ]


def _unrecorded(endpoint: EndpointRef, taken: TakenBack, *, why: LedgerUnavailable) -> dict[str, Any]:
    return {
        "endpoint": str(endpoint),
        "current": taken.returned_to,
        "returned_from": taken.release,
        "recorded": False,
        "done": f"{endpoint} serves {taken.returned_to} instead of {taken.release}; that is not in the ledger yet, "
        f"which cannot be written ({why.value}): the plane records it as soon as it can",
    }


def record_taken_back(platform: Platform, endpoint: EndpointRef, taken: TakenBack) -> None:
    """Write down what the plane has taken back without a ledger. Somebody may have done so meanwhile: then nothing is
    left to undo, and the plan in force is confirmed.

    :raises LedgerUnavailable: still not.
    """
    cause = f"{taken.cause} (in force since {taken.at:%Y-%m-%d %H:%M:%S} UTC, when the ledger could not be written)"
    answer_request(platform, endpoint, cause=cause, release_id=taken.release)
    traffic.converge(platform, endpoint)


def _number(request: Request, field: str) -> int | None:
    """:raises RequestInvalid: it is no number that could be meant."""
    from airflow_provider_mlpipex.serving.plane.control_requests import whole_number

    text = request.query_params.get(field)
    if text is None:
        return None
    most = MAX_TENURES if field == "last" else MAX_SEQ
    number = whole_number(text, at_most=most)
    if number is None:
        raise RequestInvalid(
            f"address, field {field}",
            value=text[:80],
            limit=f"a whole number from 1 to {most}",
            remedy="correct the request; the seq of a tenure asks for those before it",
        )
    return number


def _with_room(make_room: Callable[[], bool], use_case: Callable[[], RollbackReport]) -> RollbackReport:
    """What ``use_case`` answers; on a full disk, in the room that is kept for it."""
    try:
        return use_case()
    except (LedgerUnavailable, PlaneUnavailable):
        if not make_room():
            raise
    return use_case()


def _json(raw: bytes) -> object:
    """``None``, which no field can be read of, where it is no JSON."""
    try:
        return json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return None


def _refuse_unknown(body: object, query: Iterable[str]) -> None:
    """:raises RequestInvalid: a field that means nothing here, or a parameter in the address."""
    unknown = [name for name in body if name not in FIELDS] if isinstance(body, dict) else []
    if unknown or [*query]:
        where, name = ("request body", str(unknown[0])) if unknown else ("address", [*query][0])
        near = get_close_matches(name, FIELDS, n=1)
        raise RequestInvalid(
            f"{where}, field {name[:80]}",
            value="unknown",
            limit=f"{', '.join(FIELDS)}, each a text in a JSON object",
            remedy=f"did you mean {near[0]}? Nothing was rolled back" if near else "remove it; nothing was rolled back",
        )


def _text(body: object, field: str) -> str:
    value = body.get(field, "") if isinstance(body, dict) else None
    if not isinstance(value, str) or len(value) > MAX_CAUSE_LENGTH:
        raise RequestInvalid(
            f"request body, field {field}",
            value=str(value)[:80],
            limit=f"a string of at most {MAX_CAUSE_LENGTH} characters in a JSON object",
            remedy='send {"cause": "…", "user": "…"}',
        )
    return one_line(value)
