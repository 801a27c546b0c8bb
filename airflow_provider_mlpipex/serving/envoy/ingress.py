"""The ingress: two Envoys on one port, configured by the same files, acknowledged before anybody relies on them.

Order is everything: clusters are added before a route names them, and removed after no route does. A rollback goes to
a cluster that is still there, so it is one route file and nothing else.

Both listen (``SO_REUSEPORT``): when one is killed, only what it was answering is lost, because the kernel gives every
further connection to the other. One Envoy alone refused every connection until it was started again.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import PlaneUnavailable, PlanRefused
from airflow_provider_mlpipex.serving.envoy import access_log
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy import listener as envoy_listener
from airflow_provider_mlpipex.serving.envoy.ingress_tokens import IngressTokens
from airflow_provider_mlpipex.serving.envoy.paths import Paths
from airflow_provider_mlpipex.serving.envoy.process import Envoy, read_json
from airflow_provider_mlpipex.serving.limits import max_connections
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from airflow_provider_mlpipex.serving.reserve import Reserve

ACK_TIMEOUT_S = 5.0
START_TIMEOUT_S = 20.0
#: A restarted Envoy serves after 0.1 to 0.4 s; a verb that meets none at all waits no longer than this.
RESTART_TIMEOUT_S = 5.0
_POLL_S = 0.002
#: Why a request was refused -> Envoy's counter of it.
_REFUSED_STATS = {
    "no token": "http.ingress.rbac.denied",
    "no such endpoint": "http.ingress.rq_direct_response",
    "body too large": "http.ingress.downstream_rq_too_large",
    "too slow": "http.ingress.downstream_rq_timeout",
    "no HTTP, or headers too large": "http.ingress.downstream_cx_protocol_error",
}


class Ingress:
    """:param paths: of each Envoy. :param keeper: starts them and restarts them.
    :param reserve: room for their configuration where the disk is full.
    :param salt: of the pseudonyms that users have in the logs, hexadecimal.
    """

    def __init__(self, paths: Sequence[Paths], keeper: ProcessKeeper, *, reserve: Reserve, salt: str = "") -> None:
        self._paths = paths[0]
        self._salt = salt
        self._reserve = reserve
        self.envoys = tuple(Envoy(own, keeper) for own in paths)
        self._listener_version = ""
        #: Envoys that still write into a log that was put aside.
        self._reopen_due: list[Envoy] = []
        self._written: dict[Path, dict[str, Any]] = {}

    def start(self, *, port: int, tokens: IngressTokens) -> None:
        """Start them, or find them running; returns when one takes requests on ``port``."""
        for folder in (self._paths.folder, self._paths.resource("cds").parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        runs = any(envoy.pid is not None for envoy in self.envoys)
        for kind, empty in (("cds", []), ("rds", [envoy_config.routes([], tokens=tokens)])):
            # One that runs goes on with what it was given, though the file is gone: the next push writes it anew.
            if not runs and not self._paths.resource(kind).exists():
                self._replace(self._paths.resource(kind), envoy_config.resource_file("empty", empty))
        outdated = [envoy for envoy in self.envoys if self._is_outdated(envoy)]
        self._listener_version = f"port-{port}"
        if outdated == list(self.envoys):
            # Of an older version, which may not take the new listener while it holds the port.
            outdated.pop(0).end()
        for envoy in self.envoys:
            listener = envoy_listener.listener(envoy.paths, port=port, tokens=tokens, salt=self._salt)
            self._replace(envoy.paths.resource("lds"), envoy_config.resource_file(self._listener_version, [listener]))
            if envoy in outdated:
                # The other one serves meanwhile.
                envoy.end()
            envoy.start()
            if outdated:
                self.wait_until_serving(START_TIMEOUT_S)
        self.wait_until_serving(START_TIMEOUT_S)

    def _is_outdated(self, envoy: Envoy) -> bool:
        """Whether it was started with another bootstrap than this version writes, and would start with that one."""
        bootstrap = envoy_listener.bootstrap(envoy.paths, connections=max_connections())
        is_new = read_json(envoy.paths.bootstrap) != bootstrap
        self._replace(envoy.paths.bootstrap, bootstrap)
        return is_new and envoy.pid is not None and envoy.is_valid()

    def wait_until_serving(self, timeout_s: float) -> None:
        """Return when one takes requests on the port that it was started with; looks once if ``timeout_s`` is 0.

        :raises PlaneUnavailable: not in ``timeout_s`` seconds; carries the end of an Envoy's log.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_serving():
            if time.monotonic() >= deadline:
                raise PlaneUnavailable(
                    "Envoy",
                    value=self.envoys[0].last_words(),
                    limit=f"ready within {timeout_s:g} s",
                    remedy=f"read {self._paths.own_log.name} in the plane's state folder",
                )
            time.sleep(0.02)

    def is_serving(self) -> bool:
        """Whether one takes requests on the port at this moment."""
        return any(envoy.is_serving(self._listener_version) for envoy in self.envoys)

    def version(self, kind: str) -> str:
        """Version of resource file ``kind`` that is in force in every Envoy that serves; of two versions both.

        :raises PlaneUnavailable: no Envoy answers.
        """
        versions, trouble = [], None
        for envoy in self.envoys:
            try:
                versions.append(envoy.version(kind))
            except PlaneUnavailable as error:
                trouble = error
        if not versions and trouble is not None:
            raise trouble
        # One that is starting has none yet, and no client either.
        return " and ".join(sorted({version for version in versions if version}))

    def put(self, kind: str, version: str, resources: list[dict[str, Any]]) -> None:
        """Write resource file ``kind`` and return when every Envoy that serves has taken it.

        An Envoy that dies meanwhile reads the file when it starts again. One that hangs while the other one has taken
        it is killed: it would answer by the plan before, if it answered at all.

        :raises PlanRefused: Envoy rejected it; what was in force before still is.
        :raises PlaneUnavailable: no Envoy answers; nothing was written.
        """
        waiting: dict[Envoy, int] = {}
        hung, trouble = [], None
        for envoy in self.envoys:
            try:
                waiting[envoy] = envoy.rejections(kind)
            except PlaneUnavailable as error:
                trouble = error
                # One that is dead, or starting, reads the file before it listens.
                hung += [] if envoy.is_away() else [envoy]
        if trouble is not None and not waiting:
            raise trouble
        waiting |= dict.fromkeys(hung, 0)
        self._replace(self._paths.resource(kind), envoy_config.resource_file(version, resources))
        deadline, is_taken = time.monotonic() + ACK_TIMEOUT_S, False
        while waiting and time.monotonic() < deadline:
            for envoy, rejected_before in list(waiting.items()):
                try:
                    if envoy.version(kind) == version:
                        is_taken = True
                        del waiting[envoy]
                    elif envoy.rejections(kind) > rejected_before:
                        raise self._refused(kind, version, envoy)
                except PlaneUnavailable as error:
                    trouble = error
                    if envoy.is_away():
                        del waiting[envoy]
            time.sleep(_POLL_S)
        if not is_taken:
            raise trouble if trouble is not None and not waiting else self._refused(kind, version, next(iter(waiting)))
        for envoy in waiting:
            envoy.kill()

    @staticmethod
    def _refused(kind: str, version: str, envoy: Envoy) -> PlanRefused:
        return PlanRefused(
            f"Envoy {kind} version {version}",
            value=envoy.last_words(),
            limit=f"accepted within {ACK_TIMEOUT_S:.0f} s",
            remedy="the plan before is still in force; report the configuration, it should have been valid",
        )

    def restore(self) -> None:
        """Write what this process has written and somebody has deleted: an Envoy that starts without it serves nothing.

        :raises OSError: the disk does not take it.
        """
        for path, content in list(self._written.items()):
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._replace(path, content)

    def bound_logs(self) -> None:
        """Put a log of answers aside where it has grown too large; one that was put aside before goes.

        :raises PlaneUnavailable: an Envoy is away; it opens its logs when it starts.
        """
        for envoy in self.envoys:
            if access_log.put_aside(envoy.paths.access_log):
                self._reopen_due.append(envoy)
        while self._reopen_due:
            self._reopen_due[0].reopen_logs()
            del self._reopen_due[0]

    def refusals(self) -> dict[str, int]:
        """Requests since their start that never reached a model server, by why.

        :raises PlaneUnavailable: no Envoy answers.
        """
        counted: dict[str, int] = dict.fromkeys(_REFUSED_STATS, 0)
        pattern = "^(" + "|".join(re.escape(stat) for stat in _REFUSED_STATS.values()) + ")$"
        self.wait_until_serving(0.0)
        for envoy in self.envoys:
            with contextlib.suppress(PlaneUnavailable):
                stats = envoy.stats(pattern)
                for why, stat in _REFUSED_STATS.items():
                    counted[why] += int(stats.get(stat, 0))
        return counted

    def drain(self) -> None:
        """Stop taking connections, finish what is in flight."""
        for envoy in self.envoys:
            envoy.drain()

    def _replace(self, path: Path, content: dict[str, Any]) -> None:
        """Envoy ignores writes in place, and looks at whatever is put into the folder."""
        scratch = path.parent.parent / "scratch"
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reserve.spend(partial(atomic_write, path, json.dumps(content), scratch=scratch))
        self._written[path] = content
