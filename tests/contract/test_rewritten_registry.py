"""MLflow's tags are a mirror: who edits them with MLflow's own client is found."""

from __future__ import annotations

from dataclasses import replace

import mlflow
import pytest

from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.domain.errors import RegistryRewritten
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services.training import registered
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.factories import make_model
from tests.support.manifests import make_manifest

MANIFEST = make_manifest()
HERE = EndpointRef(environment="production", name=MANIFEST.name)


def test_a_tag_that_is_edited_in_mlflow_is_found(mlflow_uri: str) -> None:
    platform = replace(memory_platform(), registry=MlflowRegistry(mlflow_uri))
    client = mlflow.MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    name = "rewritten-model"
    model = make_model("1.1.0", name=name)
    client.create_registered_model(name)
    tags = {"mlpipex.key": "k", "mlpipex.version": "1.1.0", "mlpipex.model_version.0": model.model_dump_json()}
    run = client.create_run(client.create_experiment(name)).info
    source = f"{run.artifact_uri}/model"
    made = client.create_model_version(name, source=source, run_id=run.run_id, tags=tags, await_creation_for=0)
    assert registered.find(platform, MANIFEST, name, "1.1.0", endpoint=HERE) == model
    better = model.model_copy(update={"metrics": {"accuracy": 0.99}})
    client.set_model_version_tag(name, made.version, "mlpipex.model_version.0", better.model_dump_json())
    with pytest.raises(RegistryRewritten, match="metric accuracy 0.99"):
        registered.find(platform, MANIFEST, name, "1.1.0", endpoint=HERE)
