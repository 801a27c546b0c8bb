"""Airflow's api-server as a process, alone: no scheduler, no worker, no triggerer, and nobody else's configuration."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_mlpipex.demo.children import Children
from tests.support.mlflow_server import free_port

HOST = "127.0.0.1"
#: One user of each role of Airflow's own simple auth manager; their passwords are their names.
ROLES = ("viewer", "user", "op", "admin")
#: A migration and a server that imports all of Airflow, on a machine that does other things too.
_START_S = 600.0


class AirflowServer:
    """Served below a sub-path, as behind the proxy of a company that has several.

    :param folder: everything that it writes.
    :param connection: of ``mlpipex_default``: ledger and plane that the page shows.
    """

    def __init__(self, folder: Path, *, connection: Mapping[str, Any], sub_path: str = "/team-a") -> None:
        self._folder = folder
        self._connection = {"conn_type": "mlpipex", **connection}
        self.origin = f"http://{HOST}:{free_port()}"
        self.url = f"{self.origin}{sub_path}"
        self._children = Children(folder / "logs")

    def start(self) -> None:
        """Return when it answers. :raises ChildDied: it does not, with what it said."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "passwords.json").write_text(json.dumps({role: role for role in ROLES}), encoding="utf-8")
        airflow = [sys.executable, "-m", "airflow"]
        self._children.run("db", [*airflow, "db", "migrate"], environment=self._environment, cwd=self._folder)
        port = self.origin.rpartition(":")[2]
        serve = [*airflow, "api-server", "--host", HOST, "--port", port, "--workers", "1", "--apps", "core"]
        self._children.start("api-server", serve, environment=self._environment, cwd=self._folder)
        self._children.wait_until("api-server", self._answers, seconds=_START_S)

    def stop(self) -> None:
        self._children.stop()

    def token(self, user: str) -> str:
        """What Airflow gives somebody who logs in."""
        answer = httpx.post(f"{self.url}/auth/token", json={"username": user, "password": user}, timeout=120)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v2/monitor/health", timeout=60).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def _environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MLPIPEX_"))}
        dags = self._folder / "dags"
        dags.mkdir(exist_ok=True)
        return {
            **own,
            "AIRFLOW_HOME": str(self._folder),
            "AIRFLOW_CONN_MLPIPEX_DEFAULT": json.dumps(self._connection),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._folder / "passwords.json"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._folder / 'airflow.db'}?timeout=60",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "DO_NOT_TRACK": "true",
        }
