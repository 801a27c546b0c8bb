"""What code of a team's own does with MLflow while a registry lets it run: on a real server, and on the fake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.ports import ModelRegistry
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from tests.support.mlflow_server import mlflow_server


@pytest.fixture(params=["memory", "mlflow"])
def registry(request: pytest.FixtureRequest) -> ModelRegistry:
    return MemoryRegistry() if request.param == "memory" else MlflowRegistry(request.getfixturevalue("mlflow_uri"))


@pytest.fixture(scope="module")
def other_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second server, which knows none of the first one's ids."""
    with mlflow_server(tmp_path_factory.mktemp("other")) as uri:
        yield uri


def mlflow_state() -> dict[str, object]:
    return {
        "variables": {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")},
        "address": mlflow.get_tracking_uri(),
        "registry": mlflow.get_registry_uri(),
        "experiment": mlflow.tracking.fluent._active_experiment_id,
        "run": mlflow.active_run(),
    }


def test_nothing_that_a_team_sets_outlasts_its_code(registry: ModelRegistry, tmp_path: Path) -> None:
    with registry.team_code():
        pass  # what MLflow reads only when it is imported is set for good
    before = mlflow_state()
    with registry.team_code():
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/own.db")
        mlflow.set_registry_uri(f"sqlite:///{tmp_path}/own.db")
        mlflow.set_experiment("of their own")
        mlflow.start_run()
        os.environ["MLFLOW_TRACKING_TOKEN"] = "theirs"
    assert mlflow_state() == before


def test_nothing_outlasts_code_that_raises(registry: ModelRegistry, tmp_path: Path) -> None:
    with registry.team_code():
        pass
    before = mlflow_state()
    with pytest.raises(RuntimeError, match="half way"), registry.team_code():
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/own.db")
        mlflow.set_experiment("of their own")
        mlflow.start_run()
        raise RuntimeError("half way")
    assert mlflow_state() == before


def test_a_run_that_was_open_before_stays_open(registry: ModelRegistry, tmp_path: Path) -> None:
    with MlflowRegistry(f"sqlite:///{tmp_path}/outer.db").team_code(), mlflow.start_run() as outer:
        with registry.team_code():
            pass
        still = mlflow.active_run()
        assert still is not None and still.info.run_id == outer.info.run_id


def test_fluent_calls_go_to_the_registrys_server(mlflow_uri: str) -> None:
    with MlflowRegistry(mlflow_uri).team_code():
        mlflow.set_experiment("fluent")
        with mlflow.start_run() as run:
            mlflow.log_metric("loss", 0.5)
    assert mlflow.MlflowClient(mlflow_uri).get_run(run.info.run_id).data.metrics == {"loss": 0.5}


@pytest.mark.parametrize("address_first", [False, True])
def test_ids_of_another_server_are_not_asked_of_this_one(
    mlflow_uri: str, other_uri: str, monkeypatch: pytest.MonkeyPatch, address_first: bool
) -> None:
    """What a process of another server has in its environment, by hand or by ``mlflow.set_experiment``."""
    if address_first:
        mlflow.set_tracking_uri(other_uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "4711")
    try:
        with MlflowRegistry(mlflow_uri).team_code(), mlflow.start_run() as run:
            child = [sys.executable, "-c", "import mlflow; print(mlflow.start_run().info.experiment_id)"]
            printed = subprocess.run(child, capture_output=True, text=True, check=True).stdout
        assert os.environ["MLFLOW_EXPERIMENT_ID"] == "4711"
        assert mlflow.get_tracking_uri() == other_uri
    finally:
        mlflow.set_tracking_uri(None)
    assert mlflow.MlflowClient(mlflow_uri).get_run(run.info.run_id).info.experiment_id == "0"
    assert printed.splitlines()[0] == "0"
