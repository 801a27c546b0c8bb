"""Training rows from a feature store, and the release that is served with the very definition it was trained on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed, FeatureMismatch
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion
from airflow_provider_mlpipex.domain.release.training import TrainingRecord
from airflow_provider_mlpipex.services.rollout.opening import make_release
from airflow_provider_mlpipex.services.training.register import register_model
from airflow_provider_mlpipex.services.training.snapshots import snapshot_dataset
from airflow_provider_mlpipex.services.training.train import train_model
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.support.flights_store import AS_OF, FLIGHTS, manifest, platform, weather


@pytest.fixture
def world() -> MemoryPlatform:
    return platform()


def take(world: MemoryPlatform, of: Manifest) -> DatasetSnapshot:
    return snapshot_dataset(of, AS_OF, store=world.snapshots, validator=world.validator, features=world.features)[0]


def train(world: MemoryPlatform, of: Manifest) -> TrainingRecord:
    return train_model(
        of,
        take(world, of),
        store=world.snapshots,
        validator=world.validator,
        registry=world.registry,
        code_version="0123abcd",
    )


def register(world: MemoryPlatform, of: Manifest) -> ModelVersion:
    return register_model(of, train(world, of), registry=world.registry).model


def test_the_store_gives_each_row_what_its_moment_knew(world: MemoryPlatform) -> None:
    snapshot = take(world, manifest())
    rows = world.snapshots.read(snapshot)
    assert list(rows.columns) == ["flight", "at", "late", "gusts", "wind"]
    assert (rows["wind"] == (rows["late"] + rows.index / FLIGHTS)).all(), "neither the loader's nor a later value"
    assert rows["gusts"].dtype == "int64"
    counted = snapshot.features
    assert counted is not None
    assert (counted.service, counted.asked, counted.dropped, counted.unknown) == ("flights-v1", FLIGHTS, 0, 0)
    assert counted.digest == world.features.describe("flights-v1").digest
    assert DatasetSnapshot.model_validate(snapshot.to_json()) == snapshot


def test_lost_rows_are_counted_and_not_trained_on(world: MemoryPlatform) -> None:
    snapshot = take(world, manifest(early=4, unknown=6))
    assert snapshot.features is not None
    assert (snapshot.features.dropped, snapshot.features.unknown, snapshot.rows) == (4, 6, FLIGHTS - 10)
    rows = world.snapshots.read(snapshot)
    assert not (rows["flight"] == "nobody").any() and rows["wind"].notna().all()


@pytest.mark.parametrize(
    ("block", "lost"),
    [
        ({}, {"early": 31}),
        ({}, {"unknown": 31}),
        ({"max_dropped": 0}, {"early": 1}),
        ({"max_dropped": 1}, {"unknown": 600}),
    ],
    ids=["dropped", "unknown", "none-allowed", "nothing-left"],
)
def test_too_many_lost_rows_are_refused_by_name(
    world: MemoryPlatform, block: dict[str, Any], lost: dict[str, Any]
) -> None:
    with pytest.raises(DataQualityFailed, match="feature service flights-v1") as refused:
        take(world, manifest(block, **lost))
    told = str(refused.value.value)
    assert f"{sum(lost.values())} of {FLIGHTS} rows lost" in told
    assert "for example rows " in told
    assert "nobody" not in told and "F0" not in told
    assert world.snapshots.tables == {}


def test_rows_within_the_allowance_pass(world: MemoryPlatform) -> None:
    assert take(world, manifest({"max_dropped": 0.05}, early=30)).rows == FLIGHTS - 30


@pytest.mark.parametrize("column", ["flight", "at", "late"])
def test_the_source_must_give_entity_time_and_label(world: MemoryPlatform, column: str) -> None:
    with pytest.raises(DataQualityFailed, match=f"columns {column} "):
        take(world, manifest(drop=[column]))


def test_without_a_store_a_named_service_is_refused(world: MemoryPlatform) -> None:
    with pytest.raises(ConfigurationInvalid, match="MLPIPEX_FEATURE_REPOSITORY"):
        snapshot_dataset(manifest(), AS_OF, store=world.snapshots, validator=world.validator)
    assert world.snapshots.tables == {}


def test_a_bare_name_of_before_there_was_a_store_stays_a_name(world: MemoryPlatform) -> None:
    bare = manifest({"entities": None, "columns": ["wind"]})
    snapshot, _ = snapshot_dataset(bare, AS_OF, store=world.snapshots, validator=world.validator)
    assert snapshot.features is None
    release = make_release(replace(world, features=None), bare, register(world, bare), manifest_dir=Path())
    assert (release.feature_service, release.feature_digest) == ("flights-v1", None)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"service": "flights-v2"}, "flights-v2"),
        ({"columns": ["wind", "rain"]}, "features rain"),
        ({"entities": ["flight", "at"]}, "entities"),
    ],
)
def test_a_service_that_cannot_give_it_is_named(world: MemoryPlatform, block: dict[str, Any], told: str) -> None:
    with pytest.raises(FeatureMismatch, match=told):
        take(world, manifest(block))


def test_a_release_is_bound_to_the_definition_that_it_was_trained_on(world: MemoryPlatform) -> None:
    of = manifest()
    release = make_release(world, of, register(world, of), manifest_dir=Path())
    assert (release.feature_service, release.feature_digest) == (
        "flights-v1",
        world.features.describe("flights-v1").digest,
    )
    assert release.model.dataset.features is not None


def test_another_definition_since_the_training_is_refused(world: MemoryPlatform) -> None:
    model = register(world, manifest())
    world.features.define(weather(ttl=timedelta(days=3)))
    with pytest.raises(FeatureMismatch, match="trained on flights-v1"):
        make_release(world, manifest(), model, manifest_dir=Path())


def test_a_model_trained_without_the_store_is_not_served_with_it(world: MemoryPlatform) -> None:
    bare = manifest({"entities": None, "service": None, "columns": ["wind"]})
    model = register(world, bare)
    with pytest.raises(FeatureMismatch, match="trained on no feature service"):
        make_release(world, manifest({"columns": ["wind"]}), model, manifest_dir=Path())


def test_the_same_rows_from_another_definition_are_another_model(world: MemoryPlatform) -> None:
    """Else a retry would find the old run, and its model could never be released."""
    assert register(world, manifest()).version == "1.0.0"
    first = train(world, manifest())
    world.features.define(weather(ttl=timedelta(days=3)))
    second = train(world, manifest())
    assert first.dataset.digest == second.dataset.digest
    assert first.key != second.key
    registered = register_model(manifest(), second, registry=world.registry)
    assert (registered.model.version, registered.bump) == ("1.1.0", "minor")
    assert registered.reasons[0].startswith("features: flights-v1 ")
    make_release(world, manifest(), registered.model, manifest_dir=Path())
