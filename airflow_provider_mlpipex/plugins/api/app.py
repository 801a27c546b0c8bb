"""The app that Airflow mounts at ``/mlpipex``: the API under ``/api/v1``, and the page's own files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from airflow_provider_mlpipex.domain.errors import RequestInvalid
from airflow_provider_mlpipex.plugins.api import (
    access,
    problems,
    routes_actions,
    routes_endpoint,
    routes_evidence,
    routes_fleet,
    routes_readiness,
    routes_record,
    routes_rollouts,
    settings,
)

#: Built from ``ui/``, and committed built: nobody needs Node to install or run.
PAGE = Path(__file__).parents[1] / "www" / "dist"
#: Bytes of a request's body: a reason of 500 characters and the names beside it.
MAX_BODY = 16_384
_HEADERS = {
    "content-security-policy": "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
_ROUTERS = (
    routes_fleet.router,
    routes_endpoint.router,
    routes_rollouts.router,
    routes_record.router,
    routes_evidence.router,
    routes_readiness.router,
    routes_actions.writes,
)


def create_app() -> FastAPI:
    """Every route of the API asks who it is; the page's files hold no secret and do not."""
    reader = [Depends(access.requires_reader)]
    app = FastAPI(title="MLPipeX", version=settings.version(), docs_url=None, redoc_url=None, openapi_url=None)
    problems.register(app)
    for router in _ROUTERS:
        app.include_router(router, prefix="/api/v1", dependencies=reader)

    @app.get("/api/v1/openapi.json", include_in_schema=False, dependencies=reader)
    def get_openapi() -> Response:
        return JSONResponse(app.openapi())

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _too_large(request) or await answer(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    if PAGE.is_dir():
        app.mount("/static", StaticFiles(directory=PAGE), name="page")
    return app


def _too_large(request: Request) -> Response | None:
    """A body that is read before anybody is asked who it is must be small, and say how long it is."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return None
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) <= MAX_BODY:
        return None
    return problems.problem(
        RequestInvalid(
            "request body",
            value=f"{length} bytes" if length else "of unknown length",
            limit=f"at most {MAX_BODY} bytes, and a content-length",
            remedy="send less",
        ),
        status=413,
    )
