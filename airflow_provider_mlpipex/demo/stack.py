"""The embedded stack on loopback: MLflow, the serving plane, and Airflow as four components."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil

from airflow_provider_mlpipex.adapters.git.code_version import CODE_VERSION_VARIABLE, code_version
from airflow_provider_mlpipex.demo.children import Children
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.serving.plane import daemon
from airflow_provider_mlpipex.serving.processes import carriers

HOST = "127.0.0.1"
USER = "admin"
DISTRIBUTION = "airflow-provider-mlpipex"
#: The data plane keeps its latency while Airflow starts workers on the same two cores, as if it had its own machine.
_BACKGROUND = 10
_START_S = 600.0
_CLIENT_TIMEOUT_S = 60.0
#: In the environment of every process of a stack: the folder of that stack.
_MARK = "MLPIPEX_DEMO_FOLDER"


#: Airflow runs this file at its start. Workers are forked from the scheduler: what nearly every task of the story would
#: import for some seconds, and the triggerer while it watches a trial, is imported once.
_LOCAL_SETTINGS = """\
import sys

if {"scheduler", "triggerer"} & {*sys.argv}:
    import great_expectations
    import mlflow.sklearn
    # Where MLflow looks for plugins at its first request; Feast is one, and takes two seconds.
    import mlflow.tracking.request_header.registry
"""


@dataclass(frozen=True)
class Ports:
    """Loopback ports; each is set by ``MLPIPEX_<NAME>_PORT``."""

    airflow: int = 8080
    mlflow: int = 5000
    ingress: int = 8088
    control: int = 8089

    @classmethod
    def choose(cls, how: str, environ: Mapping[str, str] = os.environ) -> Ports:
        """``default``: the numbers above or the environment's; ``auto``: whatever is free.

        :raises ConfigurationInvalid: naming every busy port and how to choose another, or what is no port.
        """
        if how == "auto":
            return cls(**dict(zip([f.name for f in fields(cls)], _free_ports(len(fields(cls))), strict=True)))
        ports = {f.name: _port(f.name, environ, default=getattr(cls, f.name)) for f in fields(cls)}
        busy = {name: port for name, port in ports.items() if not _is_free(port)}
        if busy:
            raise ConfigurationInvalid(
                "ports of the demo",
                value=", ".join(f"{name} {port}" for name, port in busy.items()),
                limit=f"free ports on {HOST}",
                remedy=f"stop what listens there, set {', '.join(map(_variable, busy))}, or run: make demo PORTS=auto",
            )
        return cls(**ports)


class Stack:
    """Everything the story needs, under one folder that is made anew.

    :param folder: ``.mlpipex/demo``. :param dags: the reference Dags. :param alert_url: where on-call alerts go.

    ``manifests`` and ``features`` are the folders of deployment manifests and of the Feast repository; nothing reads
    them before a Dag is parsed.
    """

    def __init__(self, folder: Path, *, dags: Path, ports: Ports, alert_url: str) -> None:
        self.folder = folder.resolve()
        self.ports = ports
        self.manifests = self.folder / "manifests"
        self.features = self.folder / "features"
        self.airflow_url = f"http://{HOST}:{ports.airflow}"
        self.mlflow_url = f"http://{HOST}:{ports.mlflow}"
        self.control_url = f"http://{HOST}:{ports.control}"
        self.ingress_url = f"http://{HOST}:{ports.ingress}"
        self._dags = dags.resolve()
        self._children = Children(self.folder / "logs")
        self._alert_url = alert_url

    def prepare(self, manifests: Path) -> None:
        """Clear what an earlier demo left, and copy every manifest of a folder, and the locks beside them."""
        daemon.stop(self.plane_dir)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.manifests.mkdir(parents=True, mode=0o700)
        for file in (*manifests.glob("*.yaml"), *manifests.glob("runtime-*.txt")):
            shutil.copy(file, self.manifests / file.name)

    def start(self) -> None:
        """Start all. :raises ChildDied: Airflow's database cannot be made, with what was said."""
        self._start_mlflow()
        self._start_plane()
        settings = self._airflow_home / "config" / "airflow_local_settings.py"
        settings.parent.mkdir(parents=True)
        settings.write_text(_LOCAL_SETTINGS, encoding="utf-8")
        self._children.run("airflow-db", _airflow("db", "migrate"), environment=self._airflow_env(), cwd=self.folder)
        for name, command in (
            ("api-server", ("api-server", "--host", HOST, "--port", str(self.ports.airflow), "--workers", "1")),
            ("scheduler", ("scheduler", "--skip-serve-logs")),
            ("dag-processor", ("dag-processor",)),
            ("triggerer", ("triggerer", "--skip-serve-logs")),
        ):
            self._children.start(
                name, _airflow(*command), environment=self._airflow_env(), cwd=self.folder, niceness=_BACKGROUND
            )

    def wait(self) -> None:
        """Until all answer. :raises ChildDied: one does not, with what it said."""
        self._children.wait_until("mlflow", lambda: _answers(f"{self.mlflow_url}/health"), seconds=_START_S)
        self._children.wait_until("plane", lambda: daemon.status(self.plane_dir)["running"], seconds=_START_S)
        health = f"{self.airflow_url}/api/v2/monitor/health"
        self._children.wait_until("api-server", lambda: _airflow_is_healthy(health), seconds=_START_S)

    def check(self) -> None:
        """:raises ChildDied: a server of the stack is gone."""
        self._children.check()

    def stop(self) -> None:
        """Stop every server, the plane's Envoy and model servers included, and whatever one of them was starting."""
        self._children.stop()
        daemon.stop(self.plane_dir)
        strays = carriers(_MARK, str(self.folder))
        for stray in strays:
            with suppress(psutil.NoSuchProcess):
                stray.kill()
        psutil.wait_procs(strays, timeout=5)

    @property
    def plane_dir(self) -> Path:
        return self.folder / "plane"

    @property
    def password(self) -> str:
        """Of the Airflow user :data:`USER`, made up by Airflow at its first start."""
        generated = self._airflow_home / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(generated.read_text(encoding="utf-8"))[USER])

    def plane_token(self, name: str) -> str:
        """:param name: ``token`` or ``drill-token`` of the control API, or ``client-token`` of the ingress."""
        return (self.plane_dir / name).read_text(encoding="utf-8").strip()

    def client(self, url: str, token: str) -> httpx.Client:
        """A client of the plane at ``url``. :param token: its name, see :meth:`plane_token`."""
        authorised = {"authorization": f"Bearer {self.plane_token(token)}"}
        return httpx.Client(base_url=url, headers=authorised, timeout=_CLIENT_TIMEOUT_S)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which ``mlpipex`` on a terminal reaches this stack."""
        return {
            **self._inherited(),
            "MLPIPEX_LEDGER_URL": self._ledger_url,
            "MLPIPEX_PLANE_URL": self.control_url,
            "MLPIPEX_PLANE_TOKEN_FILE": str(self.plane_dir / "token"),
            "MLPIPEX_TRACKING_URI": self.mlflow_url,
            "MLPIPEX_SNAPSHOT_ROOT": str(self.folder / "snapshots"),
            "MLPIPEX_QUALITY_ROOT": str(self.folder / "quality"),
            "MLPIPEX_FEATURE_REPOSITORY": str(self.features),
            "MLPIPEX_STATE_DIR": str(self.plane_dir),
            "MLPIPEX_ALERT_CHANNELS": json.dumps({"on-call": [self._alert_url]}),
        }

    def _inherited(self) -> dict[str, str]:
        """This process's variables, without anybody else's Airflow and without vendors' usage reporting."""
        # Every task is a process: modules that are compiled again in each would cost the story a minute.
        foreign = ("AIRFLOW", "MLPIPEX_", "MLFLOW_", "PYTHONDONTWRITEBYTECODE")
        own = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        ours = {_MARK: str(self.folder), "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        return {**own, **ours, "OMP_NUM_THREADS": "1"}

    @property
    def _ledger_url(self) -> str:
        return f"sqlite:///{self.folder / 'ledger.db'}"

    @property
    def _airflow_home(self) -> Path:
        return self.folder / "airflow"

    def _start_mlflow(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(self.ports.mlflow),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        environment = {**self._inherited(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._children.start("mlflow", command, environment=environment, cwd=self.folder, niceness=_BACKGROUND)

    def _start_plane(self) -> None:
        command = [
            sys.executable, "-m", "airflow_provider_mlpipex", "serve", "run",
            "--state-dir", str(self.plane_dir), "--ingress-port", str(self.ports.ingress),
            "--control-port", str(self.ports.control), "--tracking-uri", self.mlflow_url,
        ]  # fmt: skip
        self._children.start("plane", command, environment=self.environment, cwd=self.folder)

    def _airflow_env(self) -> dict[str, str]:
        connection = {
            "conn_type": "mlpipex",
            "host": HOST,
            "port": self.ports.control,
            "extra": {
                "ledger_url": self._ledger_url,
                "tracking_uri": self.mlflow_url,
                "snapshot_root": str(self.folder / "snapshots"),
                "quality_root": str(self.folder / "quality"),
                "feature_repository": str(self.features),
                "plane_token_file": str(self.plane_dir / "token"),
                "client_token_file": str(self.plane_dir / "batch-token"),
                "alert_channels": {"on-call": [self._alert_url]},
            },
        }
        return {
            **self._inherited(),
            "AIRFLOW_HOME": str(self._airflow_home),
            "AIRFLOW_CONN_MLPIPEX_DEFAULT": json.dumps(connection),
            "MLPIPEX_MANIFESTS": str(self.manifests),
            # The training code is the provider's own, wherever the manifest was copied to.
            CODE_VERSION_VARIABLE: code_version(self._dags) or f"mlpipex-{version(DISTRIBUTION)}",
            # Four components write to it: by default SQLite gives up after 5 s, and Airflow answers 500.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._airflow_home / 'airflow.db'}?timeout=60",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
                [_bundle("reference", self._dags), _bundle("demo", Path(__file__).parent / "dags")]
            ),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.airflow_url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__FERNET_KEY": self._secrets["fernet"],
            "AIRFLOW__API__BASE_URL": self.airflow_url,
            "AIRFLOW__API__SECRET_KEY": self._secrets["api"],
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secrets["jwt"],
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # Airflow's defaults are for hundreds of Dags; this is one, on two cores.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            # The story asks for the parse that it waits for.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "60",
        }

    @property
    def _secrets(self) -> dict[str, str]:
        """Made up once a stack, in a file that its owner alone can read."""
        path = self.folder / "secrets.json"
        if not path.exists():
            made = {
                "fernet": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "api": secrets.token_hex(32),
                "jwt": secrets.token_hex(32),
            }
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump(made, file)
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _airflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def _bundle(name: str, folder: Path) -> dict[str, Any]:
    """One folder of Dags, as Airflow is told of it."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return {"name": name, "classpath": local, "kwargs": {"path": str(folder)}}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).is_success
    except httpx.HTTPError:
        return False


def _airflow_is_healthy(url: str) -> bool:
    try:
        components = httpx.get(url, timeout=2.0).json()
    except (httpx.HTTPError, ValueError):
        return False
    wanted = ("scheduler", "triggerer", "dag_processor")
    return all((components.get(name) or {}).get("status") == "healthy" for name in wanted)


def _port(name: str, environ: Mapping[str, str], *, default: int) -> int:
    text = environ.get(_variable(name)) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigurationInvalid(
            f"environment variable {_variable(name)}", value=text, limit="a port from 1 to 65535", remedy="correct it"
        )
    return int(text)


def _variable(name: str) -> str:
    return f"MLPIPEX_{name.upper()}_PORT"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
