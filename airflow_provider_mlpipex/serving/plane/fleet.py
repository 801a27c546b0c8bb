"""The model servers of a plane: one process a release and endpoint, started, asked whether it is ready, and ended."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import MlpipexError, ReleaseNotReady
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.plane_observation import ReleaseState, ReleaseStatus
from airflow_provider_mlpipex.serving import cancelling
from airflow_provider_mlpipex.serving.artifacts import ArtifactCache
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.model_server.interpreter import server_environment
from airflow_provider_mlpipex.serving.model_server.spec import FAILURE_FILE, FAULT_FILE, ModelServerSpec, read_failure
from airflow_provider_mlpipex.serving.plane.memory import resident_bytes
from airflow_provider_mlpipex.serving.plane.runtimes import RuntimeCache
from airflow_provider_mlpipex.serving.prediction_log.reader import read_stats
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from airflow_provider_mlpipex.serving.state_dir import Places
from airflow_provider_mlpipex.serving.turns import whose_turn
from airflow_provider_mlpipex.serving.uds_client import client_of

PING_TIMEOUT_S = 2.0
DRAIN_TIMEOUT_S = 10.0
_POLL_S = 0.05


#: What the command of a standby ends with; it makes it another command than that of the first process.
STANDBY = "standby"


def standby_name(endpoint: EndpointRef, release_id: str) -> str:
    """``production--flight-delay--1-1-0-rt1-0-0-3fa9c2d1--standby``"""
    return f"{cluster_name(endpoint, release_id)}--{STANDBY}"


@dataclass(frozen=True)
class ServerFigures:
    """The processes of one release in numbers.

    :param resident_bytes: of all of them, the standby included. :param dropped_predictions: that its log has lost.
    """

    listens: bool
    resident_bytes: int
    restarts: int
    dropped_predictions: int


class Fleet:
    """Holds no lock while it fetches, builds or waits: one release never holds up another.

    :param keeper: of the plane's processes. :param tracking_uri: where artifacts are fetched from, once.
    :param feature_repository: of releases with a feature service.
    """

    def __init__(
        self, places: Places, keeper: ProcessKeeper, *, tracking_uri: str, feature_repository: Path | None = None
    ) -> None:
        self._places = places
        self._keeper = keeper
        self._tracking_uri = tracking_uri
        self._feature_repository = str(feature_repository.resolve()) if feature_repository else None
        self._artifacts = ArtifactCache(places.artifacts)
        self._runtimes = RuntimeCache(places.runtimes, tracking_uri=tracking_uri)
        self._failures: dict[str, str] = {}

    def launch(self, endpoint: EndpointRef, release: Release) -> None:
        """Fetch, build if it was never built, and start; returns before it is ready. Nothing to do if it runs.

        :raises ArtifactMismatch, RegistryUnavailable, RuntimeMismatch: nothing was started.
        """
        name = cluster_name(endpoint, release.id)
        if self._keeper.alive(name):
            return
        folder = self._places.server(endpoint, release.id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (FAILURE_FILE, FAULT_FILE):
            (folder / left).unlink(missing_ok=True)
        try:
            model = release.model
            model_dir = self._artifacts.fetch(
                model.artifact_uri, model.artifact_digest, tracking_uri=self._tracking_uri
            )
            python = self._runtimes.python_for(release.runtime, model_dir=model_dir)
        except MlpipexError as error:
            self._failures[name] = str(error)
            raise
        self._failures.pop(name, None)
        spec = ModelServerSpec(
            endpoint=endpoint,
            release=release,
            model_dir=str(model_dir),
            socket=str(self._places.socket(endpoint, release.id)),
            log_dir=str(self._places.prediction_log(endpoint, release.id)),
            feature_repository=self._feature_repository,
        )
        spec_path = folder / "spec.json"
        atomic_write(spec_path, spec.model_dump_json())
        self._keeper.start(
            name,
            [str(python), "-m", "airflow_provider_mlpipex.serving.model_server", str(spec_path)],
            environment=server_environment(python),
            log=folder / "server.log",
        )

    def wait_until_ready(
        self, endpoint: EndpointRef, release: Release, *, timeout_s: float, first: bool, stopping: threading.Event
    ) -> ReleaseStatus:
        """:param first: it has never been ready here, so that one death is enough to give it up.

        :raises ReleaseNotReady: in ``timeout_s`` seconds, or it died, or the plane is ``stopping``.
        :raises MlpipexError: what the server itself said before it gave up.
        """
        folder = self._places.server(endpoint, release.id)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not stopping.is_set():
            status = self.status(endpoint, release.id)
            if status.state == "ready":
                return status
            failure = read_failure(folder / "spec.json")
            if failure is not None:
                raise failure
            # The keeper may have started it again meanwhile: then the death shows in the count.
            if first and (status.state == "failed" or status.restarts):
                raise self._not_ready(release, folder, "the model server died while starting")
            cancelling.check()
            time.sleep(_POLL_S)
        why = "the plane is stopping" if stopping.is_set() else f"not ready after {timeout_s:g} s"
        raise self._not_ready(release, folder, why)

    def status(self, endpoint: EndpointRef, release_id: str) -> ReleaseStatus:
        """Asks the server itself, for at most :data:`PING_TIMEOUT_S`."""
        name = cluster_name(endpoint, release_id)
        child = self._keeper.children.get(name)
        state: ReleaseState = "stopped"
        detail = self._failures.get(name, "")
        if self._keeper.alive(name) or self._keeper.alive(standby_name(endpoint, release_id)):
            state = "ready" if self.answers(endpoint, release_id) else "starting"
        elif child is not None or detail:
            state = "failed"
        if state != "ready" and not detail:
            failure = read_failure(self._places.server(endpoint, release_id) / "spec.json")
            detail = "" if failure is None else str(failure)
        if not detail:
            endings = [self._keeper.ending(each) for each in (name, standby_name(endpoint, release_id))]
            detail = next((f"last end: {ending}" for ending in endings if ending), "")
        return ReleaseStatus(release=release_id, state=state, restarts=child.restarts if child else 0, detail=detail)

    def stop(self, endpoint: EndpointRef, release_id: str) -> None:
        """Finish what is in flight and end, the standby too; nothing to do if it does not run.

        What it used is marked as used until now: the collector counts days from the end of a release.
        """
        self.stop_standby(endpoint, release_id)
        self._keeper.stop(cluster_name(endpoint, release_id), grace_s=DRAIN_TIMEOUT_S)
        spec = self._places.server(endpoint, release_id) / "spec.json"
        # Gone, or of another version of the plane: it is collected a little earlier, and can be had again.
        with suppress(OSError, ValueError):
            used = ModelServerSpec.model_validate_json(spec.read_text(encoding="utf-8"))
            for path in (spec, Path(used.model_dir), *self._runtimes.paths_of(used.release.runtime)):
                if path.exists():
                    os.utime(path)

    def launch_standby(self, endpoint: EndpointRef, release_id: str) -> None:
        """Start a second process of a release that serves, which waits for the first one's end."""
        first = self._keeper.children.get(cluster_name(endpoint, release_id))
        if first is not None:
            self._keeper.start(
                standby_name(endpoint, release_id),
                [*first.command, STANDBY],
                environment=first.environment,
                log=self._places.server(endpoint, release_id) / "standby.log",
            )

    def stop_standby(self, endpoint: EndpointRef, release_id: str) -> None:
        """Nothing to do where there is none. Where it serves by now, the first one has the turn after it."""
        self._keeper.stop(standby_name(endpoint, release_id), grace_s=DRAIN_TIMEOUT_S)

    def serving(self, endpoint: EndpointRef, release_id: str) -> str:
        """Name of the child whose turn it is to serve: the standby, where it has taken over."""
        standby = standby_name(endpoint, release_id)
        child = self._keeper.children.get(standby)
        serves = child is not None and child.pid == whose_turn(self._places.socket(endpoint, release_id))
        return standby if serves else cluster_name(endpoint, release_id)

    def listens(self, endpoint: EndpointRef, release_id: str) -> bool:
        """Whether somebody takes requests at its socket: a moment later than its turn. Waits for nobody."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.setblocking(False)
            return asking.connect_ex(str(self._places.socket(endpoint, release_id))) == 0

    def figures(self, endpoint: EndpointRef, release_id: str) -> ServerFigures:
        """Waits for nobody."""
        names = (cluster_name(endpoint, release_id), standby_name(endpoint, release_id))
        children = [child for name in names if (child := self._keeper.children.get(name)) is not None]
        return ServerFigures(
            listens=self.listens(endpoint, release_id),
            resident_bytes=sum(resident_bytes(child.pid) for child in children),
            restarts=sum(child.restarts for child in children),
            dropped_predictions=read_stats(self._places.prediction_log(endpoint, release_id)).dropped,
        )

    def set_fault(self, endpoint: EndpointRef, release_id: str, fault: dict[str, float] | None) -> None:
        """Break a model server on purpose, or mend it (``None``)."""
        path = self._places.server(endpoint, release_id) / FAULT_FILE
        if fault is None:
            path.unlink(missing_ok=True)
            return
        atomic_write(path, json.dumps(fault))

    def answers(self, endpoint: EndpointRef, release_id: str) -> bool:
        """Whether it answers ``/ping`` within :data:`PING_TIMEOUT_S`."""
        with client_of(self._places.socket(endpoint, release_id), timeout_s=PING_TIMEOUT_S) as client:
            try:
                return client.get("/ping").status_code == 200
            except httpx.TransportError:
                return False

    @staticmethod
    def _not_ready(release: Release, folder: Path, why: str) -> ReleaseNotReady:
        with suppress(FileNotFoundError):
            lines = (folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
            # The end of a traceback says what went wrong; what stands before it, on-call finds in the log.
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            why = f"{why}: {last[:400]}" if last else why
        return ReleaseNotReady(
            f"release {release.id}",
            value=why,
            limit="answers /ping and its golden rows",
            remedy="read server.log of the release in the plane's state folder; the current release keeps serving",
        )
