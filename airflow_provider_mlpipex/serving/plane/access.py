"""What stands before every route of the control API: a token, of a scope that grants the route, and a bounded body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from airflow_provider_mlpipex.domain import errors
from airflow_provider_mlpipex.serving.plane.tokens import Holder, Scope, TokenFiles

MAX_CONTROL_BYTES = 1_000_000
Handler = Callable[[Request], Awaitable[Response]]
#: Where a request carries whose token it has shown.
HOLDER = "mlpipex.holder"


class BearerToken:
    """ASGI middleware: no token, no route, no difference between what exists and what does not."""

    def __init__(self, app: ASGIApp, *, tokens: TokenFiles) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        holder = self._tokens.holder(headers.get(b"authorization", b""))
        if holder is None:
            refused = errors.NotAuthorised(
                "control API", limit="authorization: Bearer <token>", remedy="read a token file of the plane"
            )
            await JSONResponse(refused.as_dict(), status_code=401)(scope, receive, send)
            return
        # What is no number is the body's own affair: it is counted as it comes.
        stated = headers.get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > MAX_CONTROL_BYTES:
            await JSONResponse({"error": "body too large"}, status_code=413)(scope, receive, send)
            return
        scope[HOLDER] = holder
        await self._app(scope, _bounded(receive), send)


def _bounded(receive: Receive) -> Receive:
    """``receive``, which refuses a body that goes on beyond the limit: one in chunks does not say how long it is."""
    size = 0

    async def next_message() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_CONTROL_BYTES:
            raise errors.ConfigurationInvalid(
                "control API, request body",
                value=f"more than {MAX_CONTROL_BYTES} bytes",
                limit=f"at most {MAX_CONTROL_BYTES} bytes",
                remedy="correct the request",
            )
        return message

    return next_message


class ScopedRoute(Route):
    """A route that answers only the holder of a token that grants ``needed``; anybody else gets 403.

    :param operation: what its OpenAPI operation says beside path, token and errors: ``summary``, ``parameters``,
        ``requestBody``.
    """

    def __init__(
        self, needed: Scope, path: str, handler: Handler, *, methods: Sequence[str], operation: Mapping[str, Any]
    ) -> None:
        async def guarded(request: Request) -> Response:
            require_scope(request, needed)
            return await handler(request)

        super().__init__(path, guarded, methods=list(methods))
        self.needed = needed
        self.verbs = tuple(methods)
        self.operation = dict(operation)


def scoped(
    needed: Scope, path: str, handler: Handler, *, methods: Sequence[str] = ("GET",), **operation: Any
) -> ScopedRoute:
    """A :class:`ScopedRoute`."""
    return ScopedRoute(needed, path, handler, methods=methods, operation=operation)


def holder_of(request: Request) -> Holder:
    """Whose token ``request`` has shown."""
    holder = request.scope[HOLDER]
    assert isinstance(holder, Holder)
    return holder


def require_scope(request: Request, needed: Scope) -> None:
    """:raises NotPermitted: the token shown does not grant ``needed``."""
    holder = holder_of(request)
    if not holder.may(needed):
        raise errors.NotPermitted(
            f"control API, {request.method} {request.url.path}"[:200],
            value=f"the {holder.scope} token",
            limit=f"a token that grants {needed}",
            remedy="show the token of that scope, if you are meant to have it; mlpipex tokens list says where each is",
        )
