"""``training: {runtime: serving}``: where it can work, what a reader of a diff and of a plan sees."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.manifest.diff import diff
from airflow_provider_mlpipex.domain.manifest.schema import manifest_schema
from airflow_provider_mlpipex.domain.planning.plan import plan
from tests.support.manifests import make_manifest

LOCK = ("environment: provider", "lock: serving.txt")
SERVING = ("parameters: {depth: 3}", "parameters: {depth: 3}\n  runtime: serving")


def test_serving_as_training_runtime_needs_a_lock() -> None:
    assert make_manifest(LOCK, SERVING).training.runtime == "serving"  # type: ignore[union-attr]
    with pytest.raises(ManifestInvalid, match=r"training\.runtime: serving.*runtime\.lock"):
        make_manifest(SERVING)


def test_a_manifest_that_does_not_name_it_keeps_its_digest() -> None:
    assert "runtime" not in make_manifest(LOCK).to_json()["training"]


def test_serving_as_training_runtime_is_another_model() -> None:
    (change,) = diff(make_manifest(LOCK), make_manifest(LOCK, SERVING))
    assert (change.kind, change.what, change.after) == ("model", "training.runtime", "serving")


def test_the_schema_knows_it() -> None:
    assert "runtime" in str(manifest_schema()["$defs"]["TrainingSpec"]["properties"])


def test_the_plan_says_where_a_model_is_trained_and_proven() -> None:
    def notes(*edits: tuple[str, str]) -> str:
        return " ".join(plan(make_manifest(*edits), "production").steps[0].notes)

    assert "loaded and asked its golden rows in runtime 1.0.0" in notes(LOCK)
    assert "trained, loaded and asked" in notes(LOCK, SERVING)
    assert "golden rows" not in notes()
