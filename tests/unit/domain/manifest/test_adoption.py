"""Manifests that adopt a model: what they may leave out, what they may not say, and how they differ."""

from __future__ import annotations

import pytest
import yaml

from airflow_provider_mlpipex.domain.errors import InvalidQuantity, ManifestInvalid
from airflow_provider_mlpipex.domain.manifest.diff import diff
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.review_block import ReviewSpec, review_needed
from airflow_provider_mlpipex.domain.manifest.schema import manifest_schema
from airflow_provider_mlpipex.domain.planning import plan as planning
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.domain.validation.loading import load_manifest

ADOPTING = """\
apiVersion: mlpipex/v1
kind: Deployment
name: fraud
owner: {team: risk, contact: oncall@example.com}
model: {adopt: models:/fraud@champion}
evaluation: {file: holdout.parquet, task: binary, target: fraud}
runtime: {version: 1.0.0, environment: provider}
environments:
  production:
    provenance: recorded-as-missing
    gates: [accuracy at least 80%]
"""


def read(*edits: tuple[str, str]) -> Manifest:
    text = ADOPTING
    for before, after in edits:
        assert before in text
        text = text.replace(before, after, 1)
    return load_manifest(text, file="fraud.yaml")


def refusal(*edits: tuple[str, str]) -> str:
    with pytest.raises(ManifestInvalid) as refused:
        read(*edits)
    return "\n".join(refused.value.problems)


def test_neither_training_nor_data_nor_features_are_needed() -> None:
    manifest = read()
    assert (manifest.training, manifest.data, manifest.features.columns) == (None, None, ())
    assert manifest.model.name == "fraud-adopted"
    assert manifest.labels == ("binary", "fraud")


def test_an_adoption_is_read_back_from_a_ledger_as_it_was_written() -> None:
    manifest = read()
    again = Manifest.model_validate(manifest.to_json())
    assert (again, again.digest) == (manifest, manifest.digest)


def test_a_manifest_that_trains_keeps_its_digest_of_before() -> None:
    """Frozen: the digest was taken before a manifest could adopt anything, and stands in ledgers."""
    text = """\
apiVersion: mlpipex/v1
kind: Deployment
name: fraud-scorer
owner: {team: risk, contact: oncall@example.com}
model: {name: fraud-scorer, version: auto}
training: {callable: acme.fraud:train, task: binary, target: fraud}
runtime: {version: 1.0.0, environment: provider}
data: {source: acme.fraud:load, time_column: at, window: {train: 60d, evaluate: 30d}}
features: {columns: [amount, country]}
environments: {staging: {serve: false, gates: [accuracy at least 60%]}}
"""
    assert (
        load_manifest(text, file="fraud.yaml").digest
        == "738dc6e9ae430b74c6af6ec68eb203a876ffeb39475d2af46daf02cd6ac839b9"
    )


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("{adopt: models:/fraud, version: 7}", "models:/fraud/7"),
        ("{adopt: models:/fraud, version: 7.0.0}", "models:/fraud/7"),
        ("{adopt: models:/fraud/7}", "models:/fraud/7"),
        ("{adopt: models:/fraud/7, version: 1.2.0}", "models:/fraud/7"),
        ("{adopt: runs:/0a1b2c/model}", "runs:/0a1b2c/model"),
        ("{adopt: 's3://models/fraud'}", "s3://models/fraud"),
        ("{adopt: models:/m-0123456789abcdef0123456789abcdef}", "models:/m-0123456789abcdef0123456789abcdef"),
    ],
)
def test_what_may_be_adopted(written: str, named: str) -> None:
    reference = read(("{adopt: models:/fraud@champion}", written)).model.reference
    assert reference is not None and reference.text == named


@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("models:/fraud/7", False),
        ("runs:/0a1b2c/model", False),
        ("models:/fraud@champion", True),
        ("models:/fraud/latest", True),
        ("file:///models/fraud", True),
    ],
)
def test_what_others_can_move(text: str, moves: bool) -> None:
    assert ModelReference.parse(text).moves is moves


@pytest.mark.parametrize("text", ["models:/fraud", "models:/fraud/Production", "fraud/7", "models:/fraud/0", "runs:/a"])
def test_what_names_no_model(text: str) -> None:
    with pytest.raises(InvalidQuantity, match="model to adopt"):
        ModelReference.parse(text)


EVALUATION = "evaluation: {file: holdout.parquet, task: binary, target: fraud}"
ADOPT = "model: {adopt: models:/fraud@champion}"
REFUSED: dict[str, tuple[tuple[str, str], str, str]] = {
    "no rows": ((f"{EVALUATION}\n", ""), "evaluation", "golden answers"),
    "two sources": (("file: holdout.parquet", "file: h.csv, uri: 's3://b/h.csv'"), "evaluation", "exactly one of"),
    "no source": (("file: holdout.parquet, ", ""), "evaluation", "none of them"),
    "task without target": ((", target: fraud", ""), "evaluation.target", "belong together"),
    "query without connection": (("file: holdout.parquet", "sql: select 1"), "evaluation.connection", "connection"),
    "parameters of a file": (("file: holdout.parquet", "file: h.csv, parameters: {a: 1}"), "parameters", "only with a"),
    "a file of no table": (("file: holdout.parquet", "uri: 's3://b/holdout.json'"), "evaluation.uri", "Parquet or CSV"),
    "a way out of the folder": (("holdout.parquet", "../holdout.parquet"), "evaluation.file", "without '..'"),
    "its own name": (
        (ADOPT, "model: {name: fraud, adopt: models:/fraud@champion}"),
        "model.name",
        "would be its latest",
    ),
    "a stage": ((ADOPT, "model: {adopt: models:/fraud/Production}"), "model", "models:/fraud@ALIAS"),
    "no version": ((ADOPT, "model: {adopt: models:/fraud}"), "model", "models:/fraud/7"),
    "a number that is nobody's": (
        (ADOPT, "model: {name: fraud, version: 7}"),
        "model.version",
        "adopt: models:/NAME/7",
    ),
    "trained, too": (
        ("runtime:", "training: {callable: a.b:c, task: binary, target: fraud}\nruntime:"),
        "training",
        "either trained or adopted",
    ),
    "a feature store": (
        ("runtime:", "features: {columns: [a], service: s, entities: [k]}\nruntime:"),
        "features.service",
        "nobody knows",
    ),
    "an alias that no person sees": (
        ("    gates:", "    review: {required_for: [], auto_approve: [model]}\n    gates:"),
        "review.auto_approve",
        "others can move it",
    ),
    "a gate that nothing measures": ((", task: binary, target: fraud", ""), "gates[0]", "could never pass"),
    "a metric of another task": (("accuracy at least 80%", "r2 at least 80%"), "gates[0]", "binary task"),
    "evaluation of nothing": ((ADOPT, "model: {name: fraud, version: 1.2.0}"), "evaluation", "only with model.adopt"),
}


@pytest.mark.parametrize(("edit", "field", "said"), REFUSED.values(), ids=REFUSED)
def test_what_could_never_work_is_refused_by_field(edit: tuple[str, str], field: str, said: str) -> None:
    told = refusal(edit)
    assert field in told
    assert said in told


def test_where_something_is_trained_columns_and_data_are_missed() -> None:
    told = refusal(
        (ADOPT, "model: {name: fraud}\ntraining: {callable: a.b:c, task: binary, target: fraud}"),
        (f"{EVALUATION}\n", ""),
        ("    provenance: recorded-as-missing\n", ""),
    )
    assert "features.columns" in told
    assert "data" in told


def test_provenance_of_a_trained_model_is_a_slip() -> None:
    trains = "model: {name: fraud}\ntraining: {callable: a.b:c, task: binary, target: fraud}"
    assert "provenance" in refusal((ADOPT, trains), (f"{EVALUATION}\n", ""))


def test_to_ask_less_of_provenance_is_a_loosened_gate() -> None:
    asks = read(("    provenance: recorded-as-missing\n", ""))
    (change,) = diff(asks, read())
    assert (change.kind, change.what) == ("gate-loosened", "environments.production.provenance")
    assert (change.before, change.after) == ("required", "recorded-as-missing")
    (back,) = diff(read(), asks)
    assert back.kind == "gate-tightened"


def test_another_model_is_a_change_that_a_person_sees() -> None:
    changes = diff(read(), read((ADOPT, "model: {adopt: models:/fraud/8}")))
    assert [(change.kind, change.what) for change in changes] == [("model", "model.adopt")]
    assert review_needed(changes, ReviewSpec()).needs_person


def test_other_rows_are_other_data() -> None:
    (change,) = diff(read(), read(("holdout.parquet", "corrected.parquet")))
    assert (change.kind, change.what, change.after) == ("data", "evaluation.file", "corrected.parquet")


def test_the_plan_shows_the_review_that_an_alias_opens_and_what_provenance_does() -> None:
    shown = planning.render(planning.plan(read(), "production"))
    assert "a person approves: model, runtime, gate-loosened" in shown
    assert "adopts models:/fraud@champion: what nobody knows of it is written down, and stops nothing" in shown
    pinned = planning.plan(read((ADOPT, "model: {adopt: models:/fraud/7}")), "production")
    assert [step.stage for step in pinned.steps] == ["gate", "promote"]


def test_the_schema_takes_what_is_read() -> None:
    import jsonschema

    schema = manifest_schema()
    jsonschema.validate(yaml.safe_load(ADOPTING), schema)
    numbered = ADOPTING.replace(ADOPT, "model: {adopt: models:/fraud, version: 7}")
    jsonschema.validate(yaml.safe_load(numbered), schema)
