"""MLflow's tags are a mirror: who edits them with MLflow's own client is found."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import mlflow
import pytest

from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.domain.errors import RegistryRewritten
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services.training import registered
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.factories import make_model, make_snapshot
from tests.support.manifests import make_manifest

MANIFEST = make_manifest()
HERE = EndpointRef(environment="production", name=MANIFEST.name)


DATASET = make_snapshot().model_copy(update={"digest": "d" * 64})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"metrics": {"accuracy": 0.99}}, "metric accuracy 0.99"),
        ({"artifact_digest": "e" * 64}, f"artifact digest {'e' * 64}"),
        ({"artifact_uri": "mlflow-artifacts:/7/evil/model"}, "artifact mlflow-artifacts:/7/evil/model"),
        ({"dataset": DATASET}, f"dataset {DATASET.digest}"),
        ({"evaluation_rows": 9_999_999}, "evaluation rows 9999999"),
    ],
    ids=["gate metrics", "digest", "artifact", "snapshot", "rows"],
)
def test_a_tag_that_is_edited_in_mlflow_is_found(
    mlflow_uri: str, request: pytest.FixtureRequest, change: dict[str, Any], named: str
) -> None:
    platform = replace(memory_platform(), registry=MlflowRegistry(mlflow_uri))
    client = mlflow.MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    name = f"rewritten-{request.node.callspec.id.replace(' ', '-')}"
    model = make_model("1.1.0", name=name)
    client.create_registered_model(name)
    tags = {"mlpipex.key": "k", "mlpipex.version": "1.1.0", "mlpipex.model_version.0": model.model_dump_json()}
    run = client.create_run(client.create_experiment(name)).info
    source = f"{run.artifact_uri}/model"
    made = client.create_model_version(name, source=source, run_id=run.run_id, tags=tags, await_creation_for=0)
    assert registered.find(platform, MANIFEST, name, "1.1.0", endpoint=HERE) == model
    forged = model.model_copy(update=change)
    client.set_model_version_tag(name, made.version, "mlpipex.model_version.0", forged.model_dump_json())
    with pytest.raises(RegistryRewritten, match=re.escape(named)):
        registered.find(platform, MANIFEST, name, "1.1.0", endpoint=HERE)
    # Nothing of it was believed: the ledger says what it said, and what was registered may be released again.
    client.set_model_version_tag(name, made.version, "mlpipex.model_version.0", model.model_dump_json())
    assert registered.find(platform, MANIFEST, name, "1.1.0", endpoint=HERE) == model
