"""HTTP over the unix sockets of a plane's own processes."""

from __future__ import annotations

from pathlib import Path

import httpx


def client_of(socket: Path, *, timeout_s: float) -> httpx.Client:
    """Without certificates and proxies, which no socket has: to read certificates takes 30 ms, each time."""
    transport = httpx.HTTPTransport(uds=str(socket), verify=False)
    return httpx.Client(transport=transport, base_url="http://socket", timeout=timeout_s, trust_env=False)
