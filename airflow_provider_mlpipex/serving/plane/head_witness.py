"""A witness of noted heads outside this machine: they are signed, and sent on as they are noted."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.urls import without_credentials
from airflow_provider_mlpipex.signatures import Signer

#: Heads that wait for their receiver; of more, the oldest goes, because a later one of its chain says as much.
MAX_WAITING = 1_000
_TIMEOUT_S = 5.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 300.0


class HeadWitness:
    """Nothing waits for it: a receiver that is away gets what waits for it when it is back.

    :param key_file: Ed25519 private key that heads are signed with. :param url: that each is sent to by POST, as JSON.
    :raises ConfigurationInvalid: the key cannot be used.
    """

    def __init__(self, *, key_file: Path | None = None, url: str | None = None) -> None:
        self._signer = Signer(key_file) if key_file else None
        self._url = url
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(MAX_WAITING)
        self._sender: threading.Thread | None = None

    def signed(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """``line`` with a signature, where there is a key."""
        return self._signer.signed(line) if self._signer else dict(line)

    def send(self, line: dict[str, Any], *, say: Callable[[str, Exception], None]) -> None:
        """Send it on when the receiver takes it. :param say: takes why it does not, now."""
        if self._url is None:
            return
        while True:
            try:
                self._waiting.put_nowait(line)
                break
            except queue.Full:
                self._waiting.get_nowait()
        if self._sender is None:
            self._sender = threading.Thread(target=self._send_all, args=(say,), name="ledger heads", daemon=True)
            self._sender.start()

    def _send_all(self, say: Callable[[str, Exception], None]) -> None:
        while True:
            line, pause_s = self._waiting.get(), _FIRST_PAUSE_S
            while (trouble := self._post(line)) is not None:
                say("receiver of ledger heads", trouble)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _post(self, line: dict[str, Any]) -> Exception | None:
        import httpx

        assert self._url is not None
        try:
            httpx.post(self._url, json=line, timeout=_TIMEOUT_S).raise_for_status()
        except httpx.HTTPStatusError as error:
            return RuntimeError(f"{without_credentials(self._url)} answers {error.response.status_code}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return RuntimeError(f"{without_credentials(self._url)}: {type(error).__name__}")
        return None
