from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.fields.yaml_text import MAX_BYTES
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from tests.support.manifests import FILE, MANIFEST, edited, line_of, make_manifest

REFERENCE = Path(__file__).parents[4] / "dags" / "manifests" / "flight-delay.yaml"


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ManifestInvalid) as refused:
        load_manifest(text, file=FILE)
    assert FILE in refused.value.thing
    return refused.value.problems


def test_the_small_manifest_loads() -> None:
    manifest = make_manifest()
    assert list(manifest.environments) == ["staging", "production"]
    canary = manifest.environments["production"].canary
    assert canary is not None and canary.steps == (0.05, 0.5, 1.0)
    assert manifest.runtime.kind == "provider"
    assert manifest.quality.snapshot[0].arguments == {"mostly": 0.99}
    alerts = manifest.environments["production"].alerts
    assert alerts is not None and alerts.on == ("rolled-back",)  # YAML 1.1 would read the key as true


def test_the_reference_manifest_loads() -> None:
    manifest = load_manifest(REFERENCE.read_text(encoding="utf-8"), file=REFERENCE.name)
    rules = [gate.rule for gate in manifest.environments["production"].canary.gates]  # type: ignore[union-attr]
    assert "canary.critical_errors at most 0 over 30m" in rules


@pytest.mark.parametrize("text", [MANIFEST, REFERENCE.read_text(encoding="utf-8")])
def test_a_manifest_survives_json_in_any_order(text: str) -> None:
    manifest = load_manifest(text, file=FILE)
    again = Manifest.model_validate(json.loads(json.dumps(manifest.to_json(), sort_keys=True)))
    assert again == manifest
    assert again.digest == manifest.digest


def test_the_digest_is_of_the_meaning() -> None:
    digest = make_manifest().digest
    assert make_manifest(("team: risk, contact", "team:  'risk',  contact")).digest == digest
    assert make_manifest(("fraction: 50%", "fraction: 0.5")).digest == digest
    assert make_manifest(("fraction: 50%", "fraction: 51%")).digest != digest


NOT_NULL = "expect: column_values_to_not_be_null\n      column: amount\n      mostly: 0.99"
FIELD_DEFECTS = [
    (("kind: Deployment", "kind: Deploy"), "kind", "did you mean Deployment?"),
    (("apiVersion: mlpipex/v1", "apiVersion: v2"), "apiVersion", "one of mlpipex/v1"),
    (("name: fraud-scorer\nowner", "name: ../fraud\nowner"), "name", "lower-case letters"),
    (("name: fraud-scorer\nowner", f"name: {'x' * 300}\nowner"), "name", "≤ 63"),
    (("  version: auto", "  version: latest"), "model.version", "auto, or major.minor.patch"),
    (("callable: acme.fraud:train", "callable: acme.fraud.train"), "training.callable", "package.module:function"),
    (("task: binary", "task: binry"), "training.task", "did you mean binary?"),
    (("parameters: {depth: 3}", "seed: -1"), "training.seed", "≥ 0"),
    (("parameters: {depth: 3}", "parameters: 3"), "training.parameters", "a mapping"),
    (("version: 1.0.0", "version: 1.0"), "runtime.version", "write 1.0.0"),
    (("environment: provider", "environment: conda"), "runtime.environment", "one of provider"),
    (("environment: provider", "lock: ../serving.txt"), "runtime.lock", "without '..'"),
    (("environment: provider", "lock: /etc/passwd"), "runtime.lock", "below the manifest's folder"),
    (("environment: provider", "image: serving:latest"), "runtime.image", "pinned by digest"),
    (("environment: provider", "digest: abc"), "runtime.digest", "64 lower-case hex"),
    (("train: 60d", "train: 60"), "data.window.train", "number with a unit"),
    (("expect: column_values", "expect: Column.values"), "quality.snapshot[0].expect", "snake case"),
    ((NOT_NULL, NOT_NULL.replace("0.99", "99")), "quality.snapshot[0]", "at most 1"),
    ((NOT_NULL, NOT_NULL.replace("mostly", "mostli")), "quality.snapshot[0]", "did you mean mostly?"),
    (("to_not_be_null", "to_not_be_nul"), "quality.snapshot[0]", "mean column_values_to_not_be_null?"),
    (("  snapshot:\n", "  results: ../x\n  snapshot:\n"), "quality.results", "without '..'"),
    (("  snapshot:\n", "  snapshots:\n"), "quality.snapshots", "did you mean snapshot?"),
    (("columns: [amount, country]", "columns: []"), "features.columns", "at least 1"),
    (("columns: [amount, country]", "columns: amount"), "features.columns", "a list"),
    (("expected_rate: 10/s", "expected_rate: 10/day"), "traffic.expected_rate", "write 30/s"),
    (("expected_rate: 10/s", "sticky_header: 'x y'"), "traffic.sticky_header", "HTTP header name"),
    (("  staging:", "  Stag ing:"), "environments.Stag ing", "lower-case letters"),
    (("serve: false", "serve: maybe"), "environments.staging.serve", "boolean"),
    (("auto_approve: [data]", "auto_approve: [date]"), "environments.production.review.auto_approve[0]", "mean data?"),
    (("    shadow:", "    shadw:"), "environments.production.shadw", "did you mean shadow?"),
    (("fraction: 50%", "fraction: 50"), "environments.production.shadow.fraction", "a percentage"),
    (("min_pairs: 500", "min_pairs: 0"), "environments.production.shadow.min_pairs", "≥ 1"),
    (("p95 latency under", "latency under"), "environments.production.shadow.gates[0].metric", "a metric that shadow"),
    (("p95 latency under 120 ms", "be fast"), "environments.production.shadow.gates[0]", "accuracy within 0.5%"),
    (("max: 1%", "max: 1%, min: 0%"), "environments.production.canary.gates[1]", "exactly one of"),
    (("max: 1%", "maxx: 1%, max: 1%"), "environments.production.canary.gates[1].maxx", "did you mean max?"),
    (("max: 1%", "max: five"), "environments.production.canary.gates[1].max", "a percentage"),
    (("max: 1%", "max: .inf"), "environments.production.canary.gates[1].max", "a finite number"),
    (("depth: 3", "depth: 1e999"), "training.parameters.depth", "a finite number"),
    (("depth: 3", "depth: .nan"), "training.parameters.depth", "a finite number"),
    (("depth: 3", "depth: 12345678901234567890"), "training.parameters.depth", "at most 18 digits"),
    (("version: auto", "version:"), "model.version", "write text"),
    (
        ("metric: canary.error_rate", "metric: canary.eror_rate"),
        "environments.production.canary.gates[1].metric",
        "did you mean error_rate?",
    ),
    ((", channel: on-call", ""), "environments.production.alerts.channel", "required"),
    (("on: [rolled-back]", "on: [rollback]"), "environments.production.alerts.on[0]", "did you mean rolled-back?"),
]


@pytest.mark.parametrize(
    ("edit", "field", "says"), FIELD_DEFECTS, ids=[f"{d[1]} {d[0][1][:20]}" for d in FIELD_DEFECTS]
)
def test_a_defect_is_told_with_file_line_and_field(edit: tuple[str, str], field: str, says: str) -> None:
    text = edited(edit)
    line = MANIFEST[: MANIFEST.index(edit[0])].count("\n") + 1 + (len(edit[0]) - len(edit[0].lstrip("\n")))
    told = [problem for problem in problems_of(text) if problem.startswith(f"{FILE}:{line}: {field}: ")]
    assert len(told) == 1, problems_of(text)
    assert says in told[0]
    assert "| limit: " in told[0] and "| do: " in told[0]


def test_every_runtime_is_of_one_kind() -> None:
    digest = "a" * 64
    image = f"registry.example.com/serving@sha256:{digest}"
    assert "exactly one of" in problems_of(edited(("environment: provider", "lock: x.txt\n  environment: provider")))[0]
    assert "exactly one of" in problems_of(edited(("  environment: provider\n", "")))[0]
    assert digest in problems_of(edited(("environment: provider", f"image: {image}")))[0]
    pinned = edited(("environment: provider", f"image: {image}\n  digest: {digest}"))
    assert ["none runs images yet" in problem for problem in problems_of(pinned)] == [True]
    assert make_manifest(("environment: provider", "lock: runtimes/a-1.txt")).runtime.kind == "lock"


def test_all_problems_are_told_at_once_in_order_of_lines() -> None:
    text = edited(
        ("task: binary", "task: binry"), ("fraction: 50%", "fraction: 50"), ("    rollback:\n", "    rolback:\n")
    )
    assert [problem.split(": ")[1] for problem in problems_of(text)] == [
        "training.task",
        "environments.production.shadow.fraction",
        "environments.production.rolback",
    ]


def test_a_list_whose_items_are_wrong_is_not_called_too_short_beside_them() -> None:
    told = problems_of(edited(("[5%, 50%, 100%]", "[10, 50, 100]")))
    assert [problem.rpartition("| do: ")[2] for problem in told] == ["write 10%", "write 50%", "write 100%"]
    (empty,) = problems_of(edited(("[5%, 50%, 100%]", "[]")))
    assert "at least 1 of them" in empty


def test_unknown_fields_do_not_hide_what_can_never_work() -> None:
    text = edited(("parameters: {depth: 3}", "paramters: {depth: 3}"), ("min_pairs: 500", "min_pairs: 50000"))
    fields = [problem.split(": ")[1] for problem in problems_of(text)]
    assert fields == ["training.paramters", "environments.production.shadow.min_pairs"]


def test_missing_sections_are_all_named() -> None:
    fields = [problem.split(": ")[1] for problem in problems_of("apiVersion: mlpipex/v1\n")]
    assert set(fields) == {"kind", "name", "owner", "model", "runtime", "environments"}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "a mapping that starts with apiVersion"),
        ("# nothing\n", 1, "a mapping that starts with apiVersion"),
        ("just text", 1, "a mapping of apiVersion"),
        ("- a\n- list\n", 1, "a mapping of apiVersion"),
        ("a: 1\nb:\n\tc: 2\n", 3, "never with tabs"),
        ("a: [1\nb: 2\n", 2, "well-formed"),
        ("a: 1\n---\nb: 2\n", 2, "single document"),
        ("a: 1\nb: \x07\n", 2, "printable"),
        ("a: *unknown\n", 1, "undefined alias"),
        ("name: x\na: !!python/object/apply:os.system [ls]\n", 2, "without tags"),
        ("name: x\n1: 2\n", 2, "text as a key"),
        ("name: x\n? [a, b]\n: 2\n", 2, "text as a key"),
        ("name: x\nkind: y\nname: z\n", 3, "once, as on line 1"),
        ("a: &a [*a]\n", 1, "aliases"),
        ("[" * 10_000, 1, "nested more than"),
        (BOMB, 5, "e: more than can be read"),
        ("a: " + "x" * MAX_BYTES, 1, "at most 1048576 bytes"),
    ],
)
def test_text_that_is_no_manifest_is_refused_with_its_line(text: str, line: int, says: str) -> None:
    told = problems_of(text)
    assert any(problem.startswith(f"{FILE}:{line}: ") and says in problem for problem in told), told
    assert all(len(problem) < 1500 for problem in told)


def test_a_repeated_field_is_refused_even_where_the_rest_is_valid() -> None:
    text = edited(("min_pairs: 500", "min_pairs: 500\n      min_pairs: 1"))
    told = problems_of(text)
    assert told[0].startswith(f"{FILE}:{line_of(text, 'min_pairs: 1')}: environments.production.shadow.min_pairs: ")


def test_small_aliases_are_fine() -> None:
    shared = make_manifest(
        ("      gates:\n        - p95", "      gates: &fast\n        - p95"),
        ("        - zero critical errors in a 30-minute canary window\n", "        - p99 latency under 1s\n"),
    )
    assert shared.environments["production"].shadow is not None


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_any_text_is_a_manifest_or_a_clear_error(text: str) -> None:
    with pytest.raises(ManifestInvalid):
        load_manifest(text, file=FILE)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(MANIFEST)), st.integers(0, 40), st.text(alphabet="ab: -[]{}\n\t'\"%#&*!|>0.5", max_size=8))
def test_any_slip_of_the_pen_is_a_manifest_or_a_clear_error(at: int, removed: int, typed: str) -> None:
    try:
        load_manifest(MANIFEST[:at] + typed + MANIFEST[at + removed :], file=FILE)
    except ManifestInvalid as refused:
        assert refused.problems
