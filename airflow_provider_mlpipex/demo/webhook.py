"""On-call's pager in the demo: a web hook on loopback that keeps what it is told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MAX_BODY = 100_000


class AlertReceiver:
    """Listens on a free port; :attr:`apprise_url` is what an alert channel needs to reach it."""

    def __init__(self) -> None:
        received: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers.get("content-length") or 0), _MAX_BODY)
                received.append(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Silence: the terminal belongs to the story."""

        self._received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="pager", daemon=True)
        self._thread.start()

    @property
    def apprise_url(self) -> str:
        return f"json://127.0.0.1:{self._server.server_address[1]}/"

    def received(self) -> list[dict[str, Any]]:
        """Alerts so far, oldest first."""
        return list(self._received)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
