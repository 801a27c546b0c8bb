"""The app of Airflow's api-server in this process, with its own auth manager, and clients with each role."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

ROLES = ("viewer", "user", "op", "admin")
ORIGIN = "http://testserver"
#: Below it, every route of ours.
API = "/mlpipex/api/v1"


@cache
def api_server() -> FastAPI:
    """Airflow's own app, with every plugin that is installed."""
    from airflow.api_fastapi.app import create_app

    return create_app(apps="core")


def token_of(role: str, *, user: str = "") -> str:
    """What Airflow gives somebody of ``role`` who logs in."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    api_server()
    manager: Any = get_auth_manager()
    return str(manager.generate_jwt(SimpleAuthManagerUser(username=user or role, role=role.upper())))


def client_of(role: str | None, *, cookie: bool = False, user: str = "") -> TestClient:
    """A client that shows the token of ``role``: as a header, or as a browser does, in its cookie."""
    client = TestClient(api_server(), base_url=ORIGIN, raise_server_exceptions=False)
    if role and cookie:
        client.cookies.set("_token", token_of(role, user=user))
        client.headers.update({"origin": ORIGIN, "sec-fetch-site": "same-origin"})
    elif role:
        client.headers["authorization"] = f"Bearer {token_of(role, user=user)}"
    return client
