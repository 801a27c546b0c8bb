"""The ``outcomes`` block: what can never work, what loosens it, and that each of its gates can block."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.manifest.diff import diff
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.schema import manifest_schema
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import classes_of, unfit_labels
from airflow_provider_mlpipex.domain.planning.proof import prove
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from tests.support.manifests import FILE, edited, line_of, make_manifest

OUTCOMES = "environments.production.outcomes"
AUC = "{name: auc, metric: outcomes.auc, within: 2%, min_samples: 500}"
TRAINING = (
    "training:\n  callable: acme.fraud:train\n  task: binary\n  target: fraud\n"
    "  predict_method: predict_proba\n  parameters: {depth: 3}\n"
)


def block(gates: str = AUC, window: str = "30d") -> tuple[str, str]:
    return "    alerts: {on", f"    outcomes: {{window: {window}, gates: [{gates}]}}\n    alerts: {{on"


REFUSALS = [
    ([block(window="0d")], f"{OUTCOMES}.window", "longer than nothing"),
    ([block("")], f"{OUTCOMES}.gates", "at least 1 of them"),
    ([block(AUC.replace("auc,", "mae,"))], f"{OUTCOMES}.gates[0]", "of a binary task yields"),
    ([block(), ("predict_method: predict_proba", "predict_method: predict")], f"{OUTCOMES}.gates[0]", "probabilities"),
    ([block("{name: a, metric: evaluation.auc, min: 60%}")], f"{OUTCOMES}.gates[0].metric", "evidence of outcomes"),
    ([block("{name: a, metric: outcomes.psi, max: 0.1}")], f"{OUTCOMES}.gates[0].metric", "a metric that outcomes"),
    ([block(AUC.replace("500", "500, window: 31d"))], f"{OUTCOMES}.gates[0].window", "at most 30d: outcomes.window"),
    ([block(AUC.replace("500", "500, max_age: 0d"))], f"{OUTCOMES}.gates[0].max_age", "longer than nothing"),
    ([block(AUC.replace("500", "500, detects: 1%"))], f"{OUTCOMES}.gates[0]", "gates on live traffic"),
    ([block(AUC.replace("500", "500, advisory: true"))], f"{OUTCOMES}.gates", "only advisory gates"),
    ([block(f"{AUC}, {AUC}")], f"{OUTCOMES}.gates[1].name", "gate names differ"),
    ([block("{name: a, metric: outcomes.accuracy, max: 100%}")], f"{OUTCOMES}.gates[0]", "another fails"),
    ([block("{name: a, metric: outcomes.accuracy, within: 100%}")], f"{OUTCOMES}.gates[0]", "nothing is too bad"),
    ([block(), (TRAINING, ""), ("  version: auto", "  version: 1.1.0")], OUTCOMES, "what a label is compared with"),
]  # fmt: skip


@pytest.mark.parametrize(("edits", "field", "says"), REFUSALS, ids=[f"{r[1]} {r[2]}" for r in REFUSALS])
def test_what_can_never_work_is_refused(edits: list[tuple[str, str]], field: str, says: str) -> None:
    text = edited(*edits)
    with pytest.raises(ManifestInvalid) as refused:
        load_manifest(text, file=FILE)
    start = f"{FILE}:{line_of(text, 'outcomes: {')}: {field}: "
    told = [problem for problem in refused.value.problems if problem.startswith(start) and says in problem]
    assert len(told) == 1, refused.value.problems


def test_who_serves_nobody_has_no_outcomes() -> None:
    text = edited(("serve: false", f"serve: false\n    outcomes: {{window: 30d, gates: [{AUC}]}}"))
    with pytest.raises(ManifestInvalid, match=r"staging\.outcomes: .*serves nobody"):
        load_manifest(text, file=FILE)


@pytest.mark.parametrize(
    "gates",
    [AUC, "auc within 2% of the baseline from at least 500 labels", "log loss at most 0.4", "recall at least 30%"],
)
def test_gates_as_mappings_and_as_sentences(gates: str) -> None:
    manifest = make_manifest(block(gates))
    outcomes = manifest.environments["production"].outcomes
    assert outcomes is not None
    assert [gate.source for gate in outcomes.gates] == ["outcomes"]
    (proof,) = [proof for proof in prove(manifest) if proof.stage == "outcomes"]
    assert (proof.defects, proof.index) == ((), 0)
    assert proof.beyond is not None and proof.beyond.verdict == "fail"
    assert proof.within is not None and proof.within.verdict == "pass"
    assert proof.unknown.verdict == "inconclusive"


def test_a_gate_that_never_passes_is_refused_with_its_proof() -> None:
    with pytest.raises(ManifestInvalid, match="nothing that it could measure lets a candidate pass"):
        load_manifest(edited(block("{name: a, metric: outcomes.log_loss, max: -1}")), file=FILE)


def outcomes(**changes: Any) -> Manifest:
    gate = {"name": "auc", "metric": "outcomes.auc", "within": "2%", "min_samples": 500}
    window = changes.pop("window", "30d")
    payload = make_manifest().to_json()
    payload["environments"]["production"]["outcomes"] = {"window": window, "gates": [{**gate, **changes}]}
    return Manifest.model_validate(payload)


@pytest.mark.parametrize(
    ("strict", "loose", "aspect"),
    [
        ({"within": "2%"}, {"within": "3%"}, "threshold"),
        # Whatever makes it speak later makes it looser: only a failure does anything.
        ({"min_samples": 500}, {"min_samples": 600}, "min_samples"),
        ({}, {"window": "30d", "max_age": "7d"}, "max_age"),
        ({"max_age": "7d"}, {"max_age": "6d"}, "max_age"),
        ({"advisory": False}, {"advisory": True}, "advisory"),
    ],
)
def test_a_gate_is_compared_number_by_number(strict: dict[str, Any], loose: dict[str, Any], aspect: str) -> None:
    what = f"{OUTCOMES}.gates auc {aspect}"
    (change,) = diff(outcomes(**strict), outcomes(**loose))
    assert (change.kind, change.what) == ("gate-loosened", what)
    (undone,) = diff(outcomes(**loose), outcomes(**strict))
    assert (undone.kind, undone.what) == ("gate-tightened", what)


def test_a_window_inside_the_block_makes_a_gate_speak_later() -> None:
    payload = outcomes().to_json()
    payload["environments"]["production"]["outcomes"]["gates"][0]["window"] = "7d"
    (change,) = diff(outcomes(), Manifest.model_validate(payload))
    assert (change.kind, change.what) == ("gate-loosened", f"{OUTCOMES}.gates auc window")


@pytest.mark.parametrize("windows", [("7d", "30d"), ("30d", "7d")])
def test_another_window_is_not_only_stricter(windows: tuple[str, str]) -> None:
    (change,) = diff(*(outcomes(window=window) for window in windows))
    assert (change.kind, change.what) == ("gate-loosened", f"{OUTCOMES} window")
    assert (change.before, change.after) == windows


def test_the_block_is_a_demand_and_a_manifest_without_one_keeps_its_digest() -> None:
    without_it, with_it = make_manifest(), outcomes()
    assert "outcomes" not in without_it.to_json()["environments"]["production"]
    assert [(c.kind, c.what) for c in diff(without_it, with_it)] == [("gate-tightened", OUTCOMES)]
    assert [(c.kind, c.what) for c in diff(with_it, without_it)] == [("gate-loosened", OUTCOMES)]
    assert Manifest.model_validate(with_it.to_json()).digest == with_it.digest


@pytest.mark.parametrize(("gate", "valid"), [({"within": "2%"}, True), ({"whitin": "2%"}, False)])
def test_the_schema_knows_the_block(gate: dict[str, Any], valid: bool) -> None:
    payload = make_manifest().to_json()
    spec = {"name": "auc", "metric": "outcomes.auc", **gate}
    payload["environments"]["production"]["outcomes"] = {"window": "30d", "gates": [spec]}
    validator = jsonschema.Draft202012Validator(manifest_schema())
    assert validator.is_valid(payload) is valid


# Labels and classes.


@pytest.mark.parametrize(
    ("task", "given", "known", "says"),
    [
        ("binary", [0.0, 1.0], [], None),
        ("binary", [2.0], [0.0, 1.0], "3 classes of a binary task: 0.0, 1.0, 2.0"),
        ("binary", ["no", "yes"], ["yes"], None),
        ("binary", ["yes"], [1.0], "numbers and text together (1.0 and 'yes')"),
        ("multiclass", [0.0, 1.0, 2.0, 3.0], [], None),
        ("multiclass", ["a", 1.0], [], "numbers and text together"),
        ("regression", [0.5, -3e9], [7.0], None),
        ("regression", ["late", 1.0], [], "text ('late') where the model predicts numbers"),
    ],
)
def test_labels_that_a_task_cannot_have(task: Any, given: list[Any], known: list[Any], says: str | None) -> None:
    told = unfit_labels(task, given, known)
    assert told == says if says is None else told is not None and says in told


def test_classes_are_known_when_all_were_seen() -> None:
    assert classes_of("binary", [1.0]) == ([0.0, 1.0], "")
    assert classes_of("binary", ["yes", "no"]) == (["no", "yes"], "")
    assert classes_of("binary", ["yes"])[0] == []
    assert classes_of("multiclass", [10.0, 9.0, 2.0], columns=3) == ([2.0, 9.0, 10.0], "")
    assert classes_of("multiclass", ["a", "b"], columns=3)[1] == "labels of 2 classes so far, and the model knows 3"
