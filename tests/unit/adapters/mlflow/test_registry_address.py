"""The password in MLflow's address: it is sent to MLflow, and goes into no link, error or repr."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.domain.errors import RegistryUnavailable

ADDRESS = "https://team:hush@mlflow.example:8443"


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MlflowRegistry, "_probe", lambda *_: None)


class Client:
    def get_run(self, run_id: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(experiment_id="7"))


def test_a_link_to_a_run_goes_into_xcom_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MlflowRegistry, "_client", Client())
    assert MlflowRegistry(ADDRESS).page("abc") == "https://mlflow.example:8443/#/experiments/7/runs/abc"


def test_an_error_names_the_server_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(Client):
        def get_run(self, run_id: str) -> Any:
            from mlflow.exceptions import MlflowException

            raise MlflowException(f"API request to {ADDRESS}/api failed")

    monkeypatch.setattr(MlflowRegistry, "_client", Away())
    with pytest.raises(RegistryUnavailable) as unavailable:
        MlflowRegistry(ADDRESS).page("abc")
    assert "hush" not in str(unavailable.value)
    assert "hush" not in repr(unavailable.value.as_dict())
