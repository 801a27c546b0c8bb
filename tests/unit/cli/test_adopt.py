"""``mlpipex adopt`` and the manifest that ``mlpipex init --adopt`` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from airflow_provider_mlpipex.cli import adopt as command
from airflow_provider_mlpipex.cli.first_manifest import adopting_manifest, labels_block, name_of, rows_block
from airflow_provider_mlpipex.cli.main import app
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from tests.support.plain_mlflow import payments, save_lightgbm

SEVEN = "models:/fraud/7"


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryPlatform:
    platform = memory_platform()
    platform.registry.elsewhere[SEVEN] = save_lightgbm(tmp_path / "model")
    payments(seed=2).to_csv(tmp_path / "holdout.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "configured_platform", lambda **_: platform)
    return platform


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


LABELLED = ("--task", "binary", "--target", "fraud")


def test_adopt_says_what_was_adopted_and_what_nobody_knows(platform: MemoryPlatform) -> None:
    done = run("adopt", SEVEN, "--rows", "holdout.csv", *LABELLED)
    assert done.exit_code == 0, done.output
    assert "fraud-adopted 7.0.0: adopted from models:/fraud/7" in done.output
    assert "LGBMClassifier" in done.output
    assert "on 400 rows" in done.output
    assert "not known  training-data, code-version, configuration" in done.output


def test_its_json_is_what_the_registry_holds(platform: MemoryPlatform) -> None:
    answer = json.loads(run("adopt", SEVEN, "--rows", "holdout.csv", *LABELLED, "--json").output)
    (model,) = platform.registry.versions("fraud-adopted")
    assert (answer["version"], answer["artifact_digest"]) == (model.version, model.artifact_digest)
    assert answer["metrics"] == model.metrics
    assert json.loads(run("adopt", SEVEN, "--rows", "holdout.csv", *LABELLED, "--json").output)["known"] is True


def test_adopt_follows_a_manifest(platform: MemoryPlatform, tmp_path: Path) -> None:
    text = adopting_manifest("fraud", ModelReference.parse(SEVEN), rows_block("holdout.csv"), {})
    (tmp_path / "fraud.yaml").write_text(text.replace("    provenance: recorded-as-missing\n", ""), encoding="utf-8")
    done = run("adopt", SEVEN, "--manifest", "fraud.yaml")
    assert "evaluated  nothing: no labels" in done.output
    assert "production requires it" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "one of --manifest, --rows"),
        (("--rows", "holdout.csv", "--manifest", "fraud.yaml"), "one of --manifest, --rows"),
        (("--rows", "holdout.csv", "--task", "binary"), "--task, --target"),
        (("--rows", "holdout.csv", "--task", "rank", "--target", "fraud"), "binary, multiclass, regression"),
        (("--rows", "gone.csv"), "gone.csv"),
        (("--rows", "holdout.json"), "holdout.json"),
    ],
)
def test_what_cannot_work_is_refused(platform: MemoryPlatform, words: tuple[str, ...], said: str) -> None:
    done = run("adopt", SEVEN, *words)
    assert done.exit_code != 0
    # A message of wrong usage is wrapped into a box.
    assert said in " ".join(done.output.replace("│", " ").split())


REFERENCES = [SEVEN, "models:/fraud@champion", "runs:/0a1b2c/model", "models:/Cat.Fraud Model/3", "s3://models/fraud"]


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("labels", [("binary", "fraud"), ("multiclass", "yes"), ("regression", "null"), ("", "")])
@pytest.mark.parametrize("rows", ["holdout.csv", "acme.fraud:holdout", "s3://b/holdout.parquet"])
def test_a_first_manifest_is_valid_and_at_most_fifteen_lines(
    reference: str, labels: tuple[str, str], rows: str
) -> None:
    named = ModelReference.parse(reference)
    text = adopting_manifest(name_of(named), named, rows_block(rows), labels_block(*labels))
    manifest = load_manifest(text, file="first.yaml")
    assert len(text.splitlines()) <= 15
    assert manifest.model.adopt == reference
    assert manifest.evaluation is not None
    assert (manifest.evaluation.task or "", manifest.evaluation.target or "") == labels


def test_a_query_is_written_with_its_connection() -> None:
    named = ModelReference.parse(SEVEN)
    query = "select * from holdout where country = 'DE', x"
    manifest = load_manifest(adopting_manifest("fraud", named, rows_block(query, "warehouse"), {}), file="first.yaml")
    assert manifest.evaluation is not None
    assert (manifest.evaluation.sql, manifest.evaluation.connection) == (query, "warehouse")


def test_init_writes_the_manifest_and_nothing_that_is_there(tmp_path: Path) -> None:
    words = ("init", str(tmp_path), "--adopt", "models:/fraud@champion", "--rows", "holdout.csv", *LABELLED)
    done = run(*words)
    assert done.exit_code == 0, done.output
    written = tmp_path / "fraud.yaml"
    assert len(written.read_text(encoding="utf-8").splitlines()) <= 15
    assert run("manifest", "validate", str(written)).exit_code == 0
    again = run(*words)
    assert (again.exit_code, "is there already" in again.output) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--adopt", SEVEN), "name rows"),
        (("--adopt", "models:/fraud", "--rows", "holdout.csv"), "models:/fraud@champion"),
        (("--rows", "holdout.csv"), "only with --adopt"),
        (("--adopt", SEVEN, "--rows", "holdout.csv", "--name", "Fraud"), "--name"),
    ],
)
def test_what_init_cannot_write_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = run("init", str(tmp_path / "new"), *words)
    assert done.exit_code != 0
    assert said in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "new").exists()
