"""What one client may take of a plane: bytes, connections, and time to say what it wants."""

from __future__ import annotations

import resource

#: Bytes of one request's body and of all its headers. A larger one is refused before a model server hears of it.
MAX_BODY_BYTES = 8_000_000
MAX_HEADERS_KB = 16
#: Characters of a client's own request id that are kept.
MAX_REQUEST_ID = 128
#: Seconds for a request's headers, for the whole of it, and for a connection on which nothing is asked.
HEADERS_S, UPLOAD_S, IDLE_S = 10, 60, 15
#: Descriptors that no client can take: logs, sockets of model servers, the admin socket.
SPARE_DESCRIPTORS = 256
_MAX_CONNECTIONS = 20_000


def raise_descriptor_limit() -> int:
    """Let this process, and what it starts, hold as many descriptors as the machine allows; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def max_connections() -> int:
    """Connections that the ingress takes at once: each may need a second one, to a model server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(32, min(_MAX_CONNECTIONS, (hard - SPARE_DESCRIPTORS) // 2))
