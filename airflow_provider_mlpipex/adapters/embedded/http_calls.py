"""One HTTP request, as the adapters of this package send it."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def send(method: str, url: str, *, headers: dict[str, str], timeout: float, **sent: Any) -> httpx.Response:
    """:param timeout: seconds, of each connection, write and read. :param sent: body and parameters, as httpx has them.

    :raises httpx.HTTPError: nothing usable came back.
    """
    address = urlsplit(url)
    local = address.hostname in _LOOPBACK
    return httpx.request(
        method,
        url,
        headers=headers,
        timeout=timeout,
        # A proxy from the environment cannot reach this machine's loopback, and must not see the token.
        trust_env=not local,
        verify=False if local and address.scheme == "http" else _certificates(),
        **sent,
    )


@cache
def _certificates() -> ssl.SSLContext:
    """Read once a process: httpx would read them for every request, which takes 30 ms, most of a rollback's time."""
    return httpx.create_ssl_context()
