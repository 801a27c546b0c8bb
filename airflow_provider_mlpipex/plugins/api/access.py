"""Who may do what: Airflow's own session and roles, and what a browser must show before it changes anything.

Nothing authenticates an app that a plugin mounts, so every route of this one does. Whoever may read Airflow reads here;
who may start runs of the rollback Dag may also write, for that Dag does the same to the same endpoints.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag, requires_access_view
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import Depends, HTTPException, Request

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, NotPermitted, RequestInvalid, TooManyRequests
from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.plugins.api.settings import base_url, connection_id, rollback_dag_id
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

#: Writes of one user that one worker takes within :data:`WRITES_WITHIN_S`: more than a person makes, and few enough
#: that a script gone wild costs no endpoint its peace.
WRITES, WRITES_WITHIN_S = 20, 60.0
#: Users whose writes are counted at once.
_USERS = 1000

requires_reader = requires_access_view(AccessView.WEBSITE)


def requires_writer(request: Request, user: Annotated[Any, Depends(get_user)]) -> None:
    """:raises HTTPException: 403, the user may not start runs of the rollback Dag."""
    requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=rollback_dag_id())(request, user)


def may_write(request: Request, user: BaseUser) -> bool:
    """Whether :func:`requires_writer` would let ``user`` pass."""
    try:
        requires_writer(request, user)
    except HTTPException:
        return False
    return True


def name_of(user: BaseUser) -> str:
    """Who it is, for the ledger."""
    return user.get_name()


def platform_of(user: Annotated[Any, Depends(get_user)]) -> Platform:
    """The ports of the configured connection, on behalf of whoever is logged in. Nothing is contacted yet.

    :raises ConfigurationInvalid: there is no such connection, or it cannot work.
    """
    try:
        return MlpipexHook(connection_id()).platform(Origin(kind="http", user=name_of(user)))
    except AirflowNotFoundException:
        raise ConfigurationInvalid(
            "connection of the health page",
            value=connection_id(),
            limit="a connection of type mlpipex that Airflow knows",
            remedy="add it under Admin, Connections, or name another one: [mlpipex] conn_id",
        ) from None


#: What a route works with.
Acting = Annotated[Platform, Depends(platform_of)]


def requires_same_site(request: Request) -> None:
    """Refuse what another site makes a browser send with its user's cookie. A bearer token no other site can send.

    :raises NotPermitted: the request does not come from a page of this api-server.
    """
    if _shows_token(request):
        return
    origin, fetched = request.headers.get("origin", ""), request.headers.get("sec-fetch-site", "same-origin")
    own = {_origin_of(base_url()), _origin_of(str(request.base_url))} - {""}
    if origin in own and fetched == "same-origin":
        return
    raise NotPermitted(
        "a change that comes with a cookie",
        value=f"from {origin or 'a page that does not say where it is'} ({fetched})",
        limit=f"a page of {', '.join(sorted(own))}",
        remedy="open the page at Airflow's own address; behind a proxy set [api] base_url to the address that "
        "browsers use; a script sends a token as Authorization: Bearer",
    )


def _shows_token(request: Request) -> bool:
    """Exactly where Airflow takes the token and not the cookie."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and bool(token)


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.netloc else ""


def requires_json(request: Request) -> None:
    """:raises RequestInvalid: the body is of a kind that any site's form could send."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestInvalid(
            "header content-type", value=kind, limit="application/json", remedy="send the body as JSON"
        )


class WriteLimit:
    """How often one user may write. Counted in each worker of the api-server for itself."""

    def __init__(self, *, writes: int = WRITES, within_s: float = WRITES_WITHIN_S) -> None:
        self._writes, self._within_s = writes, within_s
        self._lock = threading.Lock()
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def __call__(self, user: Annotated[Any, Depends(get_user)]) -> None:
        """:raises TooManyRequests: so many writes lie behind this user."""
        self.count(name_of(user), now=time.monotonic())

    def count(self, user: str, *, now: float) -> None:
        """:raises TooManyRequests: as above."""
        with self._lock:
            recent = [at for at in self._times.pop(user, []) if now - at < self._within_s]
            full = len(recent) >= self._writes
            self._times[user] = recent if full else [*recent, now]
            while len(self._times) > _USERS:
                self._times.popitem(last=False)
        if full:
            wait = max(1, round(self._within_s - (now - recent[0])))
            raise TooManyRequests(
                f"writes of {user}",
                value=f"{self._writes} within {self._within_s:g} s",
                limit=f"{self._writes} within {self._within_s:g} s",
                remedy=f"try again in {wait} s; mlpipex rollback at a terminal has no such limit",
                wait_s=wait,
            )
