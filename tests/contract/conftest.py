from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mlflow_server import mlflow_server
from tests.support.warm_process import warm_processes

__all__ = ["mlflow_uri", "warm_processes"]


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real MLflow server for all contract tests; tests keep apart by model names."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri
