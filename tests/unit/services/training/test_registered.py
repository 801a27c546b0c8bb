"""A registry is believed as long as it says what the ledger wrote down when the model was registered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import RegistryRewritten
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, ModelRegistered
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.training import registered
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from tests.support.factories import make_model
from tests.support.manifests import make_manifest

MANIFEST = make_manifest()
MODEL = make_model("1.1.0", name=MANIFEST.model.name)
OTHER_ROWS = MODEL.dataset.model_copy(update={"digest": "d" * 64})


def begun() -> MemoryPlatform:
    """Every environment has a chain."""
    platform = memory_platform()
    for environment in MANIFEST.environments:
        journal.note(platform, EndpointRef(environment=environment, name=MANIFEST.name), AlertRaised(title="before"))
    return platform


def test_a_model_alone_makes_no_endpoint_and_a_rollout_of_it_does() -> None:
    platform = memory_platform()
    registered.record(platform, MANIFEST, MODEL)
    assert platform.ledger.endpoints() == []
    says = replace(platform, registry=Says(MODEL))
    first = EndpointRef(environment=next(iter(MANIFEST.environments)), name=MANIFEST.name)
    registered.find(says, MANIFEST, MODEL.name, MODEL.version, endpoint=first)
    assert platform.ledger.endpoints() == [first]
    other = replace(platform, registry=Says(MODEL.model_copy(update={"artifact_digest": "e" * 64})))
    with pytest.raises(RegistryRewritten):
        registered.find(other, MANIFEST, MODEL.name, MODEL.version)


class Says:
    """A registry that says of every version what it is told to."""

    def __init__(self, model: ModelVersion) -> None:
        self.model = model

    def get(self, name: str, version: str) -> ModelVersion:
        return self.model


def entries(platform: Any) -> dict[str, list[ModelRegistered]]:
    return {
        environment: [
            entry.event
            for entry in platform.ledger.read(EndpointRef(environment=environment, name=MANIFEST.name))
            if isinstance(entry.event, ModelRegistered)
        ]
        for environment in MANIFEST.environments
    }


def test_what_was_registered_stands_once_in_the_ledger_of_every_environment() -> None:
    platform = begun()
    for _ in range(2):
        registered.record(platform, MANIFEST, MODEL)
    for (entry,) in entries(platform).values():
        assert (entry.version, entry.artifact_digest, entry.metrics) == ("1.1.0", MODEL.artifact_digest, MODEL.metrics)


@pytest.mark.parametrize(
    ("changes", "value", "limit"),
    [
        ({"artifact_digest": "e" * 64}, f"artifact digest {'e' * 64}", f"artifact digest {MODEL.artifact_digest}"),
        ({"artifact_uri": "runs:/evil/model"}, "artifact runs:/evil/model", f"artifact {MODEL.artifact_uri}"),
        ({"metrics": {"accuracy": 0.99}}, "metric accuracy 0.99", f"metric accuracy {MODEL.metrics['accuracy']}"),
        ({"metrics": {}}, "metric accuracy none", f"metric accuracy {MODEL.metrics['accuracy']}"),
        ({"dataset": OTHER_ROWS}, f"dataset {OTHER_ROWS.digest}", f"dataset {MODEL.dataset.digest}"),
        ({"evaluation_rows": 9_999_999}, "evaluation rows 9999999", f"evaluation rows {MODEL.evaluation_rows}"),
        ({"signature": {"inputs": "other"}}, "another description", "fingerprint"),
    ],
    ids=[
        "other bytes",
        "another place",
        "better metrics",
        "no metrics",
        "other rows",
        "more rows",
        "another signature",
    ],
)
def test_what_was_changed_afterwards_is_refused_with_both_values(
    changes: dict[str, Any], value: str, limit: str
) -> None:
    platform = begun()
    registered.record(platform, MANIFEST, MODEL)
    rewritten = replace(platform, registry=Says(MODEL.model_copy(update=changes)))
    with pytest.raises(RegistryRewritten) as refused:
        registered.find(rewritten, MANIFEST, MODEL.name, MODEL.version)
    assert value in str(refused.value.value) and limit in refused.value.limit
    honest = replace(platform, registry=Says(MODEL))
    assert registered.find(honest, MANIFEST, MODEL.name, MODEL.version) == MODEL


def test_a_version_that_no_ledger_knows_is_held_to_what_it_is_at_first() -> None:
    platform = begun()
    assert registered.find(replace(platform, registry=Says(MODEL)), MANIFEST, MODEL.name, MODEL.version) == MODEL
    other = MODEL.model_copy(update={"artifact_digest": "e" * 64})
    with pytest.raises(RegistryRewritten):
        registered.find(replace(platform, registry=Says(other)), MANIFEST, MODEL.name, MODEL.version)


def test_other_versions_and_models_are_others() -> None:
    platform = begun()
    registered.record(platform, MANIFEST, MODEL)
    next_one = make_model("1.2.0", name=MODEL.name, accuracy=0.9)
    registered.record(platform, MANIFEST, next_one)
    assert [entry.version for entry in next(iter(entries(platform).values()))] == ["1.1.0", "1.2.0"]
