"""The supervisor of the embedded plane: runs releases, routes requests, and takes traffic back when nobody watches.

It implements the ``ServingPlane`` port on this machine. What should run and which plan is in force stand in its state
file before it acts, so it converges from there whenever it starts; Envoy and the model servers are detached and go on
while it is away.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx

from airflow_provider_mlpipex.domain.errors import MlpipexError, PlaneUnavailable, PlanRefused, ReleaseNotReady
from airflow_provider_mlpipex.domain.evidence import ShadowComparison, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.observation import AppliedPlan, PlaneObservation, ReleaseState, ReleaseStatus
from airflow_provider_mlpipex.domain.release import Release
from airflow_provider_mlpipex.domain.traffic import TrafficPlan
from airflow_provider_mlpipex.serving import comparison, envoy_config
from airflow_provider_mlpipex.serving.artifacts import ArtifactCache
from airflow_provider_mlpipex.serving.envoy_process import NAME as ENVOY
from airflow_provider_mlpipex.serving.envoy_process import Envoy
from airflow_provider_mlpipex.serving.plane_state import EndpointMemory, PlaneMemory, read_memory, write_memory
from airflow_provider_mlpipex.serving.prediction_log import read_stats
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from airflow_provider_mlpipex.serving.runtimes import RuntimeCache, server_environment
from airflow_provider_mlpipex.serving.server_spec import FAILURE_FILE, FAULT_FILE, ModelServerSpec, read_failure
from airflow_provider_mlpipex.serving.telemetry import AttemptTail

#: A unix socket's path may not be longer than this.
_SOCKET_PATH_MAX = 100
_WATCH_S = 0.1
DRAIN_TIMEOUT_S = 10.0


class Supervisor:
    """:param state_dir: everything it writes. :param tracking_uri: where artifacts are fetched from, once."""

    def __init__(self, state_dir: Path, *, ingress_port: int, tracking_uri: str) -> None:
        self._dir = state_dir.resolve()
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._port = ingress_port
        self._tracking_uri = tracking_uri
        self._memory_path = self._dir / "state.json"
        self._memory = read_memory(self._memory_path)
        self._lock = threading.RLock()
        self._release_locks: dict[tuple[EndpointRef, str], threading.Lock] = defaultdict(threading.Lock)
        self._lease_deadlines: dict[str, float] = {}
        self._sockets = self._socket_folder()
        self._artifacts = ArtifactCache(self._dir / "artifacts")
        self._runtimes = RuntimeCache(self._dir / "runtimes")
        self._keeper = ProcessKeeper(self._dir / "children", plane_id=self._memory.plane_id)
        paths = envoy_config.Paths(folder=self._dir / "envoy", admin_socket=self._sockets / "envoy.sock")
        self._envoy = Envoy(paths, self._keeper)
        self._tail = AttemptTail(paths.attempts_log, reopen=self._envoy.reopen_logs)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self.client_token = read_or_make_token(self._dir / "client-token")

    # Life of the plane.

    def start(self) -> None:
        """Converge on what the state file says, then watch."""
        with self._lock:
            self._remember(self._memory)
            self._keeper.end_strays()
            self._envoy.start(port=self._port, client_token=self.client_token)
            self._resume_leases()
            for name, memory in self._memory.endpoints.items():
                for release in memory.releases.values():
                    self._launch(EndpointRef.parse(name), release)
            self._push()
            self._tail.recover()
        self._watcher.start()

    def detach(self) -> None:
        """Stop watching; Envoy and model servers go on serving."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join(timeout=5)

    def shut_down(self) -> None:
        """Stop everything that this plane runs."""
        self.detach()
        self._envoy.drain()
        self._keeper.stop_all()

    # The verbs of the ServingPlane port.

    def ensure(self, endpoint: EndpointRef, release: Release, *, timeout_s: float) -> ReleaseStatus:
        with self._release_locks[endpoint, release.id]:
            status = self._status(endpoint, release.id)
            if status.state == "ready":
                return status
            self._launch(endpoint, release)
            try:
                status = self._wait_until_ready(endpoint, release, timeout_s)
            except MlpipexError:
                if release.id not in self._in_use(endpoint):
                    self._keeper.stop(_child_name(endpoint, release.id))
                raise
            with self._lock:
                memory = self._of(endpoint)
                if release.id not in memory.releases:
                    self._update(endpoint, releases={**memory.releases, release.id: release})
                self._push()
            return status

    def apply(self, plan: TrafficPlan) -> AppliedPlan:
        started = time.monotonic()
        with self._lock:
            for release in plan.releases:
                status = self._status(plan.endpoint, release)
                if status.state != "ready":
                    raise PlanRefused(
                        f"traffic plan {plan.id} of {plan.endpoint}",
                        value=f"release {release} is {status.state}",
                        limit="every release of a plan is ready",
                        remedy="ensure the release first; the plan before is still in force",
                    )
            before = self._of(plan.endpoint)
            lease_until = time.time() + plan.lease_s if plan.lease_s else None
            self._update(plan.endpoint, plan=plan, lease_until=lease_until, lease_expired_at=None)
            try:
                self._push()
            except PlanRefused:
                self._remember(self._memory.with_endpoint(str(plan.endpoint), before))
                self._push()
                raise
            self._set_deadline(plan.endpoint, plan.lease_s)
        elapsed_ms = (time.monotonic() - started) * 1000.0
        return AppliedPlan(plan=plan, applied_at=datetime.now(UTC), acknowledged_ms=round(elapsed_ms, 3))

    def renew(self, endpoint: EndpointRef, plan_id: str) -> None:
        with self._lock:
            plan = self._of(endpoint).plan
            if plan is None or plan.id != plan_id:
                raise PlanRefused(
                    f"lease of {endpoint}",
                    value=plan_id,
                    limit=f"plan in force: {plan.id if plan else 'none'}",
                    remedy="the lease ran out or another plan was applied; read the ledger",
                )
            if plan.lease_s is not None:
                self._update(endpoint, lease_until=time.time() + plan.lease_s)
                self._set_deadline(endpoint, plan.lease_s)

    def observe(self, endpoint: EndpointRef) -> PlaneObservation:
        with self._lock:
            memory = self._of(endpoint)
            in_force = self._envoy.version("rds")
            if in_force != str(self._memory.version):
                raise PlaneUnavailable(
                    "Envoy's routes",
                    value=f"version {in_force}",
                    limit=f"version {self._memory.version}",
                    remedy="the supervisor is converging; run the task again",
                )
            folders = [self._log_folder(endpoint, release) for release in memory.releases]
            return PlaneObservation(
                endpoint=endpoint,
                address=f"http://127.0.0.1:{self._port}/endpoints/{endpoint}",
                plan=memory.plan,
                releases={release: self._status(endpoint, release) for release in memory.releases},
                known=memory.releases,
                lease_expired_at=memory.lease_expired_at,
                dropped_predictions=sum(read_stats(folder)["dropped"] for folder in folders),
            )

    def telemetry(self, endpoint: EndpointRef, *, since: datetime, until: datetime) -> Telemetry:
        return self._tail.telemetry(endpoint, list(self._of(endpoint).releases), since=since, until=until)

    def compare(
        self, endpoint: EndpointRef, *, primary: str, shadow: str, since: datetime, until: datetime
    ) -> ShadowComparison:
        return comparison.compare(
            self._dir / "predictions", endpoint, primary=primary, shadow=shadow, since=since, until=until
        )

    def retire(self, endpoint: EndpointRef, release_id: str) -> None:
        with self._release_locks[endpoint, release_id], self._lock:
            if release_id in self._in_use(endpoint):
                raise PlanRefused(
                    f"release {release_id} of {endpoint}",
                    value="retire",
                    limit="the plan in force needs it",
                    remedy="shift traffic away first",
                )
            memory = self._of(endpoint)
            kept = {key: release for key, release in memory.releases.items() if key != release_id}
            self._update(endpoint, releases=kept)
            self._push()
            self._keeper.stop(_child_name(endpoint, release_id), grace_s=DRAIN_TIMEOUT_S)

    def inject_fault(self, endpoint: EndpointRef, release_id: str, fault: dict[str, float] | None) -> None:
        """The drill port: break a release on purpose, or mend it (``None``).

        :raises PlanRefused: no such release here.
        """
        if release_id not in self._of(endpoint).releases:
            raise PlanRefused(
                f"release {release_id} of {endpoint}",
                value="drill",
                limit="a release of this plane",
                remedy="see status",
            )
        path = self._server_folder(endpoint, release_id) / FAULT_FILE
        if fault is None:
            path.unlink(missing_ok=True)
            return
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(fault), encoding="utf-8")
        scratch.chmod(0o600)
        scratch.replace(path)

    # Releases.

    def _launch(self, endpoint: EndpointRef, release: Release) -> None:
        """Fetch, build if it was never built, and start; returns before it is ready."""
        name = _child_name(endpoint, release.id)
        self._tail.owners[self._socket(endpoint, release.id).name] = (str(endpoint), release.slug)
        if self._keeper.alive(name):
            return
        folder = self._server_folder(endpoint, release.id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (FAILURE_FILE, FAULT_FILE):
            (folder / left).unlink(missing_ok=True)
        model = release.model
        python = self._runtimes.python_for(release.runtime)
        spec = ModelServerSpec(
            endpoint=endpoint,
            release=release,
            model_dir=str(
                self._artifacts.fetch(model.artifact_uri, model.artifact_digest, tracking_uri=self._tracking_uri)
            ),
            socket=str(self._socket(endpoint, release.id)),
            log_dir=str(self._log_folder(endpoint, release.id)),
        )
        spec_path = folder / "spec.json"
        spec_path.write_text(spec.model_dump_json(), encoding="utf-8")
        self._keeper.start(
            name,
            [str(python), "-m", "airflow_provider_mlpipex.serving.model_server", str(spec_path)],
            environment=server_environment(python),
            log=folder / "server.log",
        )

    def _wait_until_ready(self, endpoint: EndpointRef, release: Release, timeout_s: float) -> ReleaseStatus:
        name, folder = _child_name(endpoint, release.id), self._server_folder(endpoint, release.id)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status = self._status(endpoint, release.id)
            if status.state == "ready":
                return status
            failure = read_failure(folder / "spec.json")
            if failure is not None:
                raise failure
            if not self._keeper.alive(name) and release.id not in self._of(endpoint).releases:
                raise self._not_ready(release, folder, "the model server died while starting")
            time.sleep(0.05)
        raise self._not_ready(release, folder, f"not ready after {timeout_s:g} s")

    @staticmethod
    def _not_ready(release: Release, folder: Path, why: str) -> ReleaseNotReady:
        with suppress(FileNotFoundError):
            last = (folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
            why = f"{why}: {' '.join(last)[-400:]}" if last else why
        return ReleaseNotReady(
            f"release {release.id}",
            value=why,
            limit="answers /ping and its golden rows",
            remedy="read server.log of the release in the plane's state folder; the current release keeps serving",
        )

    def _status(self, endpoint: EndpointRef, release_id: str) -> ReleaseStatus:
        name = _child_name(endpoint, release_id)
        child = self._keeper.children.get(name)
        state: ReleaseState = "stopped"
        if self._keeper.alive(name):
            state = "ready" if self._answers(endpoint, release_id) else "starting"
        elif child is not None:
            state = "failed"
        return ReleaseStatus(release=release_id, state=state, restarts=child.restarts if child else 0)

    def _answers(self, endpoint: EndpointRef, release_id: str) -> bool:
        transport = httpx.HTTPTransport(uds=str(self._socket(endpoint, release_id)))
        with httpx.Client(transport=transport, base_url="http://server", timeout=2.0) as client:
            try:
                return client.get("/ping").status_code == 200
            except httpx.TransportError:
                return False

    # Configuration.

    def _push(self) -> None:
        """Put what is remembered in force: clusters that are new, routes, then clusters that are gone."""
        sockets = {
            (EndpointRef.parse(name), release): self._socket(EndpointRef.parse(name), release)
            for name, memory in self._memory.endpoints.items()
            for release in memory.releases
        }
        plans = [memory.plan for memory in self._memory.endpoints.values() if memory.plan is not None]
        wanted = {cluster["name"]: cluster for cluster in envoy_config.clusters(sockets, plans)}
        present = self._present_clusters()
        self._remember(self._memory.model_copy(update={"version": self._memory.version + 1}))
        version = str(self._memory.version)
        if not wanted.keys() <= present.keys():
            self._envoy.put("cds", f"{version}-add", list({**present, **wanted}.values()))
        self._envoy.put("rds", version, [envoy_config.routes(plans)])
        if not present.keys() <= wanted.keys():
            self._envoy.put("cds", f"{version}-end", list(wanted.values()))

    def _present_clusters(self) -> dict[str, dict[str, object]]:
        path = self._dir / "envoy" / "xds" / "cds.json"
        return {cluster["name"]: cluster for cluster in json.loads(path.read_text(encoding="utf-8"))["resources"]}

    # Watching.

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_S):
            try:
                self._tail.poll()
                with self._lock:
                    revived = self._keeper.revive()
                    if ENVOY in revived:
                        self._envoy.wait_until_serving()
                    self._end_expired_leases()
            except (MlpipexError, OSError, httpx.HTTPError) as error:
                print(f"supervisor: {error}", flush=True)

    def _end_expired_leases(self) -> None:
        now, wall = time.monotonic(), time.time()
        for name, memory in list(self._memory.endpoints.items()):
            if memory.plan is None or memory.lease_until is None:
                continue
            # Both clocks: monotonic time does not survive a restart, wall time may be set back.
            if now >= self._lease_deadlines.get(name, now) or wall >= memory.lease_until:
                self._update(
                    memory.plan.endpoint,
                    plan=memory.plan.only_current(),
                    lease_until=None,
                    lease_expired_at=datetime.now(UTC),
                )
                self._push()
                print(f"supervisor: lease of {name} ran out, all traffic is on {memory.plan.current}", flush=True)

    def _resume_leases(self) -> None:
        for name, memory in self._memory.endpoints.items():
            if memory.plan is not None and memory.lease_until is not None:
                left = min(memory.lease_until - time.time(), memory.plan.lease_s or 0.0)
                self._lease_deadlines[name] = time.monotonic() + max(0.0, left)

    def _set_deadline(self, endpoint: EndpointRef, lease_s: float | None) -> None:
        if lease_s is None:
            self._lease_deadlines.pop(str(endpoint), None)
        else:
            self._lease_deadlines[str(endpoint)] = time.monotonic() + lease_s

    # Memory and places.

    def _of(self, endpoint: EndpointRef) -> EndpointMemory:
        return self._memory.endpoints.get(str(endpoint), EndpointMemory())

    def _in_use(self, endpoint: EndpointRef) -> tuple[str, ...]:
        plan = self._of(endpoint).plan
        return plan.releases if plan else ()

    def _update(self, endpoint: EndpointRef, **changes: object) -> None:
        self._remember(self._memory.with_endpoint(str(endpoint), self._of(endpoint).model_copy(update=changes)))

    def _remember(self, memory: PlaneMemory) -> None:
        write_memory(self._memory_path, memory)
        self._memory = memory

    def _socket(self, endpoint: EndpointRef, release_id: str) -> Path:
        # Short by construction: a digest, not the name, because the path of a socket is limited.

        return self._sockets / f"{hashlib.sha256(f'{endpoint} {release_id}'.encode()).hexdigest()[:16]}.sock"

    def _socket_folder(self) -> Path:
        inside = self._dir / "sock"
        if len(str(inside)) + 25 <= _SOCKET_PATH_MAX:
            inside.mkdir(mode=0o700, exist_ok=True)
            return inside
        note = self._dir / "socket-folder"
        if note.exists() and Path(note.read_text()).is_dir():
            return Path(note.read_text())
        folder = tempfile.mkdtemp(prefix="mlpipex-")
        note.write_text(folder)
        return Path(folder)

    def remove_socket_folder(self) -> None:
        """Sockets outside the state folder go with the plane."""
        if self._sockets.parent != self._dir:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _server_folder(self, endpoint: EndpointRef, release_id: str) -> Path:
        return self._dir / "servers" / _child_name(endpoint, release_id)

    def _log_folder(self, endpoint: EndpointRef, release_id: str) -> Path:
        return comparison.log_folder(self._dir / "predictions", endpoint, release_id)


def _child_name(endpoint: EndpointRef, release_id: str) -> str:
    return envoy_config.cluster_name(endpoint, release_id)


def read_or_make_token(path: Path) -> str:
    """The secret in ``path``, made once; nobody but its owner can read it."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
