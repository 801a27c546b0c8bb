"""An MLflow that asks for a login: by its address or by the environment, and nothing without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.domain.errors import NotAuthorised, RegistryUnavailable
from airflow_provider_mlpipex.domain.release.training import TrainedModel, TrainingRecord
from airflow_provider_mlpipex.serving.artifacts import ArtifactCache
from tests.support.factories import make_snapshot
from tests.support.mlflow_server import mlflow_server

pytestmark = pytest.mark.usefixtures("warm_processes")

USER, PASSWORD = "mlpipex", "correct-horse-battery"
ROWS = pd.DataFrame({"distance": np.arange(20.0)})
MODEL = LinearRegression().fit(ROWS, ROWS["distance"])


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("login"), login=(USER, PASSWORD)) as uri:
        yield uri


def with_login(uri: str, password: str = PASSWORD) -> str:
    return uri.replace("://", f"://{USER}:{password}@")


def train(registry: MlflowRegistry, name: str) -> TrainingRecord:
    trained = TrainedModel(
        model=MODEL, predict_method="predict", examples=ROWS, metrics={"mae": 0.0}, evaluation_rows=20
    )
    record = TrainingRecord(
        model_name=name,
        endpoint_name=name,
        dataset=make_snapshot(),
        architecture="LinearRegression",
        configuration_digest="a" * 64,
        code_version="0123abcd",
        task="regression",
    )
    return registry.log_training(trained, record)


@pytest.mark.parametrize("password", [None, "wrong-horse"])
def test_nobody_reads_or_writes_without_the_login(uri: str, password: str | None, tmp_path: Path) -> None:
    address = with_login(uri, password) if password else uri
    registry = MlflowRegistry(address)
    for verb in (lambda: train(registry, "nobodys"), lambda: registry.versions("nobodys")):
        with pytest.raises(NotAuthorised, match="MLflow at http://") as refused:
            verb()
        assert "horse" not in str(refused.value)
    with pytest.raises(RegistryUnavailable) as away:
        ArtifactCache(tmp_path).fetch("mlflow-artifacts:/1/x/model", "a" * 64, tracking_uri=address)
    assert "horse" not in str(away.value)


@pytest.mark.parametrize("way", ["address", "environment"])
def test_a_model_is_registered_and_fetched_with_the_login(
    uri: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = with_login(uri)
    if way == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        address = uri
    registry = MlflowRegistry(address)
    record = train(registry, f"by-{way}")
    model = registry.register(record, version="1.0.0")
    assert registry.get(f"by-{way}", "1.0.0") == model
    # What stands in XCom, ledger and links.
    assert PASSWORD not in model.model_dump_json() + record.model_dump_json() + registry.page(record.run_id)
    folder = ArtifactCache(tmp_path).fetch(model.artifact_uri, model.artifact_digest, tracking_uri=address)
    assert (folder / "MLmodel").is_file()
