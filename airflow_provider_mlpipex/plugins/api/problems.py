"""Errors as ``application/problem+json`` (RFC 9457), with what every error of the provider carries."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_provider_mlpipex.domain import errors
from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.plugins.api.settings import runbook_address

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_STATUS: dict[type[MlpipexError], int] = {
    errors.NotAuthorised: 401,
    errors.NotPermitted: 403,
    errors.NotFound: 404,
    errors.InvalidName: 404,
    errors.TooManyRequests: 429,
    errors.RequestInvalid: 422,
    errors.ConfigurationInvalid: 503,
    errors.LedgerUnavailable: 503,
    errors.PlaneUnavailable: 503,
    errors.RegistryUnavailable: 503,
}
#: Any other error says that the state of things does not allow what was asked.
_CONFLICT = 409


def register(app: FastAPI) -> None:
    """Let every error leave ``app`` as a problem: handlers of Airflow's own app are not asked for a mounted one."""

    @app.exception_handler(MlpipexError)
    async def of_ours(request: Request, error: MlpipexError) -> Response:
        waits = {"retry-after": str(error.wait_s)} if isinstance(error, errors.TooManyRequests) else None
        return problem(error, headers=waits)

    @app.exception_handler(StarletteHTTPException)
    async def of_airflow(request: Request, error: StarletteHTTPException) -> Response:
        return problem(_translated(error, request), headers=dict(error.headers or {}), status=error.status_code)

    @app.exception_handler(RequestValidationError)
    async def of_the_body(request: Request, error: RequestValidationError) -> Response:
        return problem(_invalid(error))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # Asked from within the except clause of Starlette, so the traceback is there.
        log.exception("unexpected error of the health page's API")
        return problem(
            MlpipexError(
                f"{request.method} {request.url.path}",
                value=type(error).__name__,
                limit="an error that this API knows",
                remedy="read the log of the api-server; mlpipex status and mlpipex rollback work without it",
            ),
            status=500,
        )


def problem(error: MlpipexError, *, status: int | None = None, headers: dict[str, str] | None = None) -> Response:
    """``error`` as an answer."""
    body = error.as_dict()
    return Response(
        json.dumps(
            {
                "type": runbook_address(str(body["runbook"])),
                "title": body["error"],
                "status": status or status_of(error),
                "detail": ": ".join(str(part) for part in (error.thing, error.value, error.limit) if part),
                **body,
            },
            ensure_ascii=False,
        ),
        status_code=status or status_of(error),
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def status_of(error: MlpipexError) -> int:
    """The HTTP status that says what kind of error it is."""
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), _CONFLICT)


def _translated(error: HTTPException | StarletteHTTPException, request: Request) -> MlpipexError:
    where = f"{request.method} {request.url.path}"
    match error.status_code:
        case 401:
            return errors.NotAuthorised(
                where, value=error.detail, limit="a session of Airflow, or its token", remedy="log in to Airflow again"
            )
        case 403:
            return errors.NotPermitted(
                where,
                value=error.detail,
                limit="a role that reads Airflow; to write, one that may start the rollback Dag",
                remedy="ask an administrator of Airflow for that role",
            )
        case 404:
            return errors.NotFound(where, limit="a path of this API", remedy="correct the address")
        case _:
            return errors.RequestInvalid(
                where, value=error.detail, limit="what this path of the API takes", remedy="correct the request"
            )


def _invalid(error: RequestValidationError) -> MlpipexError:
    """Without the input itself: it may hold anything."""
    said: list[dict[str, Any]] = list(error.errors())
    fields = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in said[:5])
    return errors.RequestInvalid("request", value=fields, limit="fields as the API states them", remedy="correct them")
