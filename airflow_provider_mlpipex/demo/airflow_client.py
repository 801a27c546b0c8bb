"""Airflow through its public REST API, the way a person or a CI job would use it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import httpx

#: Airflow's own database waits a minute for a lock, and a busy machine is slow: whoever has waited less knows nothing.
_TIMEOUT_S = 600.0
_PARSE_TIMEOUT_S = 600.0


class AirflowClient:
    """:param url: of the api-server. :param user: and ``password`` of a user that may trigger Dags."""

    def __init__(self, url: str, *, user: str, password: str) -> None:
        answer = httpx.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        token = answer.json()["access_token"]
        self._http = httpx.Client(
            base_url=f"{url}/api/v2", headers={"authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S
        )

    def trigger(self, dag_id: str, *, conf: dict[str, Any]) -> str:
        """Start a Dag run; return its id."""
        answer = self._http.post(f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        answer.raise_for_status()
        return str(answer.json()["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Task id -> state (``none`` where it has none yet)."""
        tasks = self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=200)["task_instances"]
        return {task["task_id"]: task["state"] or "none" for task in tasks}

    def answer_review(self, dag_id: str, run_id: str, task_id: str, *, approve: bool, note: str = "") -> None:
        """Answer a review the way the button in the UI does."""
        answer = self._http.patch(
            f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails",
            json={"chosen_options": ["Approve" if approve else "Reject"], "params_input": {"note": note}},
        )
        answer.raise_for_status()

    def wait_until_parsed(self, dag_id: str, *, after: datetime | None = None) -> None:
        """Ask for the Dag's file to be parsed again, and wait until it has been (``after`` a moment, UTC).

        :raises TimeoutError: it was not.
        """
        deadline = time.monotonic() + _PARSE_TIMEOUT_S
        asked = False
        while time.monotonic() < deadline:
            answer = self._http.get(f"/dags/{dag_id}/details")
            if answer.is_success:
                dag = answer.json()
                parsed = datetime.fromisoformat(dag["last_parsed_time"])
                if after is None or parsed > after:
                    return
                if not asked:
                    self._http.put(f"/parseDagFile/{dag['file_token']}").raise_for_status()
                    asked = True
            time.sleep(0.3)
        raise TimeoutError(f"Airflow did not parse {dag_id} within {_PARSE_TIMEOUT_S:g} s")

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """The JSON object at ``path`` of the public API, below ``/api/v2``."""
        answer = self._http.get(path, params=params)
        answer.raise_for_status()
        return dict(answer.json())
