"""``mlpipex reproduce``: a release trained again from its recorded snapshot."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.release.training import TrainingContext
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.training.register import register_model
from airflow_provider_mlpipex.services.training.train import train_model
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from tests.support.factories import NOON, make_release
from tests.support.manifests import make_manifest
from tests.support.terminal import ENDPOINT, answer, refusal, release, run, terminal_platform


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    return terminal_platform(tmp_path, monkeypatch)


def fit(context: TrainingContext) -> LogisticRegression:
    return LogisticRegression(**context.parameters).fit(context.features, context.target)


def train_for_real(platform: Platform, manifest: Manifest) -> Release:
    hours = pd.date_range(NOON - timedelta(days=10), NOON, freq="h", inclusive="left")
    amount = [float(number % 7) for number in range(len(hours))]
    rows = pd.DataFrame({"at": hours, "amount": amount, "fraud": [int(value > 3) for value in amount]})
    snapshot = platform.snapshots.write(
        rows,
        name="fraud-scorer",
        time_column="at",
        window_start=NOON - timedelta(days=10),
        split_at=NOON - timedelta(days=3),
        window_end=NOON,
    )
    registry = MemoryRegistry()
    record = train_model(
        manifest,
        snapshot,
        store=platform.snapshots,
        registry=registry,
        validator=platform.validator,
        code_version="0123abc",
        now=NOON,
    )
    model, _, _ = register_model(manifest, record, registry=registry)
    return make_release().model_copy(update={"model": model})


def trainable() -> Manifest:
    return make_manifest(
        ("callable: acme.fraud:train", f"callable: {__name__}:fit"),
        ("parameters: {depth: 3}", "parameters: {C: 1.0}"),
        ("columns: [amount, country]", "columns: [amount]"),
    )


def test_reproduce_trains_the_current_release_again(platform: Platform) -> None:
    manifest = trainable()
    release(platform, train_for_real(platform, manifest), manifest)
    told = answer("reproduce", str(ENDPOINT))
    assert told["accuracy"]["recorded"] == told["accuracy"]["retrained"]
    assert {values["difference"] for values in told.values()} == {0.0}
    assert "accuracy: " in run("reproduce", str(ENDPOINT)).stdout


def test_reproduce_finds_a_release_by_its_id(platform: Platform) -> None:
    manifest = trainable()
    trained = train_for_real(platform, manifest)
    release(platform, trained, manifest)
    assert answer("reproduce", trained.id) == answer("reproduce", str(ENDPOINT))


@pytest.mark.usefixtures("platform")
def test_reproduce_of_a_release_that_nobody_knows_is_refused() -> None:
    told = refusal("reproduce", "1.1.0-rt1.0.0-3fa9c2d1")
    assert (told["error"], told["value"]) == ("ModelNotFound", "1.1.0-rt1.0.0-3fa9c2d1")


@pytest.mark.usefixtures("platform")
def test_reproduce_of_nothing_is_refused() -> None:
    told = refusal("reproduce", str(ENDPOINT))
    assert (told["error"], told["value"]) == ("IllegalTransition", "nothing is current")
