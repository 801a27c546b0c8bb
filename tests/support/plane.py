"""A real embedded plane for tests: daemon, Envoy and model servers on free ports, serving models that say who they are.

Every model answers ``distance + 1000 * number``: an answer tells which release gave it. A module that needs a plane
imports the fixture ``real_plane``; it is started once for that module and stopped with everything it runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from airflow_provider_mlpipex.adapters.embedded.plane import EmbeddedPlane
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release, RuntimeEnvironment
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.serving.artifacts import directory_digest
from airflow_provider_mlpipex.serving.plane import daemon
from airflow_provider_mlpipex.serving.plane.runtimes import provider_digest
from airflow_provider_mlpipex.serving.plane.state import find_plane_id
from airflow_provider_mlpipex.serving.processes import PLANE_ID, carriers
from tests.support.factories import make_model
from tests.support.mlflow_server import free_port
from tests.support.polling import until

if TYPE_CHECKING:
    import pandas as pd

#: One model server takes some CPU seconds to import what it needs, on a machine that does other things too.
READY_TIMEOUT_S = 120.0
STEP = 1000.0


def examples() -> pd.DataFrame:
    """The rows that the models of this module are proven on."""
    import pandas as pd

    return pd.DataFrame({"distance": [100.5, 2000.25, 7.0], "hour": [5, 12, 23], "carrier": ["AA", "UA", "DL"]})


def invocation(*distances: float) -> dict[str, Any]:
    """A request that the models of this module answer."""
    rows = [[distance, 12, "AA"] for distance in distances or (1.5,)]
    return {"dataframe_split": {"columns": ["distance", "hour", "carrier"], "data": rows}}


#: The model that was registered without a drift reference.
WITHOUT_REFERENCE = 3


def save_numbered_model(number: int, folder: Path) -> Path:
    """A real scikit-learn model in ``folder``, answering ``distance + 1000 * number``.

    Its drift reference is of :func:`examples`; number :data:`WITHOUT_REFERENCE` has none.
    """
    from airflow_provider_mlpipex.adapters.mlflow.model import save_model
    from airflow_provider_mlpipex.domain.release.training import TrainedModel

    rows = examples()
    save_model(
        TrainedModel(
            model=_numbered(number),
            predict_method="predict",
            examples=rows,
            metrics={"mae": 0.0},
            evaluation_rows=len(rows),
            evaluated=None if number == WITHOUT_REFERENCE else rows,
        ),
        folder,
    )
    return folder


def _numbered(number: int) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline

    rows = examples()
    only_distance = ColumnTransformer([("distance", "passthrough", ["distance"])])
    pipeline = Pipeline([("columns", only_distance), ("fit", LinearRegression())])
    return pipeline.fit(rows, rows["distance"] + STEP * number)


@cache
def installed_runtime() -> RuntimeEnvironment:
    return RuntimeEnvironment(version="1.0.0", kind="provider", digest=provider_digest())


def release_of(
    folder: Path, version: str, *, digest: str | None = None, runtime: RuntimeEnvironment | None = None
) -> Release:
    """The release of model directory ``folder``; ``digest`` and ``runtime`` where they shall not be the true ones."""
    model = make_model(version).model_copy(
        update={"artifact_uri": folder.as_uri(), "artifact_digest": digest or directory_digest(folder)}
    )
    return Release(model=model, runtime=runtime or installed_runtime(), manifest_digest=digest_of("manifest"))


class RealPlane:
    """The plane as a process, and what a test needs to look at it and to hurt it.

    :param folder: everything that it and its models write.
    """

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "plane"
        self._folder = folder
        self._models: dict[int, Path] = {}
        self.ingress_port, self.control_port = free_port(), free_port()
        self.ingress_url = f"http://127.0.0.1:{self.ingress_port}"
        self.control_url = f"http://127.0.0.1:{self.control_port}"
        self._daemon: subprocess.Popen[bytes] | None = None

    # Its life.

    def start(self) -> None:
        """Start the supervisor; returns when its control API answers."""
        # Nobody listens at that registry: the plane must not need one for what it has in its cache.
        nowhere = f"http://127.0.0.1:{free_port()}"
        command = [
            sys.executable, "-m", "airflow_provider_mlpipex", "serve", "run", "--state-dir", str(self.state_dir),
            "--ingress-port", str(self.ingress_port), "--control-port", str(self.control_port),
            # Tests of the plane alone, whose releases no ledger knows.
            "--tracking-uri", nowhere, "--take-unrecorded",
        ]  # fmt: skip
        environment = os.environ | {"MLPIPEX_LEDGER_URL": f"sqlite:///{self._folder}/ledger.db"}
        with (self._folder / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self._folder, start_new_session=True
            )
        until(self._answers, within_s=240.0, what="the plane answers")

    def kill_supervisor(self) -> None:
        """SIGKILL: what it started goes on."""
        self.end_supervisor(signal.SIGKILL)

    def stop(self) -> None:
        """Stop all of it; fails if it did not end in good order, or a process of this plane is left."""
        daemon.stop(self.state_dir)
        if self._daemon is not None:
            assert self._daemon.wait(timeout=10) == 0, self.log()
        assert self.processes() == set()

    def end_supervisor(self, how: signal.Signals) -> int:
        """Send the supervisor ``how`` and return its exit code."""
        assert self._daemon is not None
        self._daemon.send_signal(how)
        return self._daemon.wait(timeout=60)

    def processes(self) -> set[int]:
        """Pids of Envoy and every model server that this plane has started."""
        plane_id = find_plane_id(self.state_dir)
        assert plane_id is not None, "a plane has run here"
        return {process.pid for process in carriers(PLANE_ID, plane_id)}

    def log(self) -> str:
        return (self._folder / "daemon.log").read_text(errors="replace")[-3000:]

    def _answers(self) -> bool:
        assert self._daemon is not None and self._daemon.poll() is None, f"the plane died: {self.log()}"
        try:
            return self.control("GET", "/v1/health").status_code == 200
        except (httpx.HTTPError, FileNotFoundError):
            return False

    # Its clients.

    @property
    def token(self) -> str:
        return (self.state_dir / "token").read_text()

    @property
    def drill_token(self) -> str:
        return (self.state_dir / "drill-token").read_text()

    @property
    def client_token(self) -> str:
        return (self.state_dir / "client-token").read_text()

    @property
    def port(self) -> EmbeddedPlane:
        """The ``ServingPlane`` port."""
        return EmbeddedPlane(self.control_url, self.token)

    def control(self, method: str, path: str, *, timeout: float = 30.0, **sent: Any) -> httpx.Response:
        """A raw call of the control API with the token that it wants."""
        token = self.drill_token if path.endswith("/fault") else self.token
        headers = {"authorization": f"Bearer {token}"}
        return httpx.request(method, self.control_url + path, headers=headers, timeout=timeout, **sent)

    def ingress_token(self, scope: str) -> str:
        """``client``, ``tester`` or ``batch``."""
        return (self.state_dir / f"{scope}-token").read_text()

    def client(self, *, scope: str = "", **headers: str) -> httpx.Client:
        """A client of the ingress, with the token that its headers want, or that of ``scope``."""
        wanted = "tester" if "x-mlpipex-variant" in headers else "batch" if "x-mlpipex-batch" in headers else "client"
        return httpx.Client(
            base_url=self.ingress_url,
            headers={"authorization": f"Bearer {self.ingress_token(scope or wanted)}", **headers},
            timeout=30,
        )

    # Its models.

    def release(self, number: int) -> Release:
        """Release ``1.<number>.0``, whose answers are ``distance + 1000 * number``."""
        if number not in self._models:
            self._models[number] = save_numbered_model(number, self._folder / f"model-{number}")
        return release_of(self._models[number], f"1.{number}.0")

    def ensure(self, endpoint: EndpointRef, *numbers: int) -> None:
        """Have these releases running for ``endpoint``; they start beside each other."""
        port = self.port
        releases = [self.release(number) for number in numbers]
        with ThreadPoolExecutor(len(releases)) as pool:
            for ready in [pool.submit(port.ensure, endpoint, r, timeout_s=READY_TIMEOUT_S) for r in releases]:
                ready.result()

    def model_folder(self, number: int) -> Path:
        self.release(number)
        return self._models[number]

    # Its processes.

    def child(self, name: str) -> psutil.Process:
        """``envoy``, or the name of a model server (:meth:`server_name`)."""
        record = json.loads((self.state_dir / "children" / f"{name}.json").read_text())
        return psutil.Process(record["pid"])

    def server(self, endpoint: EndpointRef, release: Release) -> psutil.Process:
        return self.child(f"{endpoint.environment}--{endpoint.name}--{release.slug}")


class Traffic:
    """Clients that ask ``endpoint`` one request after another while the ``with`` block runs.

    ``answers`` counts (status, number of the model that answered); anything but 200 counts as (status, body), a
    broken connection as (0, error).
    """

    def __init__(self, plane: RealPlane, endpoint: EndpointRef, *, clients: int = 2) -> None:
        self._plane, self._endpoint = plane, endpoint
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.answers: Counter[tuple[int, object]] = Counter()

    @property
    def failures(self) -> dict[tuple[int, object], int]:
        with self._lock:
            return {kind: count for kind, count in self.answers.items() if kind[0] != 200}

    @property
    def answered_by(self) -> set[object]:
        with self._lock:
            return {number for status, number in self.answers if status == 200}

    def wait_for(self, more: int) -> None:
        """Return when ``more`` requests have been answered from now on."""
        target = self.answers.total() + more
        until(lambda: self.answers.total() >= target, within_s=60.0, what=f"{more} more requests")

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _ask(self, number: int) -> None:
        with self._plane.client() as client:
            asked = 0
            while not self._stopping.wait(0.002):
                asked += 1
                headers = {"x-user-id": f"user-{number}-{asked}"}
                try:
                    answer = client.post(path_of(self._endpoint), json=invocation(), headers=headers)
                except httpx.HTTPError as error:
                    kind: tuple[int, object] = (0, repr(error))
                else:
                    ok = answer.status_code == 200
                    kind = (answer.status_code, number_of(answer) if ok else answer.text[:200])
                with self._lock:
                    self.answers[kind] += 1


def path_of(endpoint: EndpointRef) -> str:
    return f"/endpoints/{endpoint}/invocations"


def number_of(answer: httpx.Response, distance: float = 1.5) -> int:
    """Which model gave ``answer`` to :func:`invocation` of ``distance``."""
    (predicted,) = answer.json()["predictions"]
    return round((predicted - distance) / STEP)


def now() -> datetime:
    return datetime.now(UTC)


def fresh_window() -> datetime:
    """The beginning of a telemetry window in which nothing has happened yet: seconds are counted whole."""
    begins = now().replace(microsecond=0) + timedelta(seconds=1)
    until(lambda: now() >= begins, within_s=5.0, what="the next second")
    return begins


@pytest.fixture(scope="module")
def real_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPlane]:
    plane = RealPlane(tmp_path_factory.mktemp("plane"))
    try:
        # One that is too slow to answer has been started all the same.
        plane.start()
        yield plane
    finally:
        plane.stop()
