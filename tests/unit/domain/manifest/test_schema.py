from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from airflow_provider_mlpipex.domain.fields.yaml_text import read_yaml
from airflow_provider_mlpipex.domain.manifest.schema import manifest_schema
from tests.support.manifests import MANIFEST, edited, make_manifest

REFERENCE = Path(__file__).parents[4] / "dags" / "manifests" / "flight-delay.yaml"
SCHEMA = manifest_schema()
ALERTS = "    alerts: {on"


def errors_of(data: Any) -> list[str]:
    """Where an editor underlines, alternatives of ``anyOf`` included."""
    return [path for error in Draft202012Validator(SCHEMA).iter_errors(data) for path in _paths(error)]


def _paths(error: ValidationError) -> Iterator[str]:
    yield error.json_path
    for alternative in error.context or ():
        yield from _paths(alternative)


def test_the_schema_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", [MANIFEST, REFERENCE.read_text(encoding="utf-8")])
def test_valid_manifests_conform(text: str) -> None:
    assert errors_of(read_yaml(text).data) == []


def test_the_json_form_conforms_too() -> None:
    assert errors_of(make_manifest().to_json()) == []


@pytest.mark.parametrize(
    ("edit", "path"),
    [
        (("kind: Deployment", "kind: Deploy"), "$.kind"),
        (("task: binary", "task: binry"), "$.training.task"),
        (("version: 1.0.0", "version: 1.0"), "$.runtime.version"),
        (("fraction: 50%", "fraction: 50"), "$.environments.production.shadow.fraction"),
        (("duration: 10m", "duration: 10"), "$.environments.production.shadow.duration"),
        (("expected_rate: 10/s", "expected_rate: 10/day"), "$.traffic.expected_rate"),
        (("    shadow:", "    shadw:"), "$.environments.production"),
        (("max: 1%", "max: 1%, min: 0%"), "$.environments.production.canary.gates[1]"),
        (("metric: canary.error_rate", "metric: canary.err"), "$.environments.production.canary.gates[1]"),
        (("  staging:", "  Staging:"), "$.environments"),
        (("values_to_not_be_null", "values_not_to_be_null"), "$.quality.snapshot[0].expect"),
        (("quality:\n", "quality:\n  key: 3\n"), "$.quality.key"),
        ((ALERTS, f"    drift: {{limits: {{pssi: 1}}}}\n{ALERTS}"), "$.environments.production.drift.limits"),
        ((ALERTS, f"    drift: {{limits: {{psi: 0}}}}\n{ALERTS}"), "$.environments.production.drift.limits.psi"),
        ((ALERTS, f"    drift: {{windw: 1h}}\n{ALERTS}"), "$.environments.production.drift"),
    ],
)
def test_an_editor_sees_the_defect(edit: tuple[str, str], path: str) -> None:
    assert path in errors_of(read_yaml(edited(edit)).data)


def test_every_object_refuses_unknown_fields_but_expectations() -> None:
    loose = [
        name
        for name, definition in SCHEMA["$defs"].items()
        if definition.get("type") == "object" and definition.get("additionalProperties") is not False
    ]
    assert loose == ["Expectation"]
