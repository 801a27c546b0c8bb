"""The JSON Schema of manifests, for editors and linters. Line-crossing rules stay with ``validation.rules``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_mlpipex.domain.fields.differences import DIFFERENCE_PATTERN
from airflow_provider_mlpipex.domain.fields.quantities import DURATION_PATTERN, RATIO_PATTERN
from airflow_provider_mlpipex.domain.gates.gate import CRITERIA
from airflow_provider_mlpipex.domain.gates.metrics import METRICS
from airflow_provider_mlpipex.domain.gates.sentence_grammar import FORMS
from airflow_provider_mlpipex.domain.manifest.evaluation_block import SOURCES
from airflow_provider_mlpipex.domain.manifest.manifest import API_VERSION, Manifest
from airflow_provider_mlpipex.domain.names import MAX_NAME_LENGTH, NAME_PATTERN
from airflow_provider_mlpipex.domain.quality.catalogue import CATALOGUE

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of one manifest file."""
    schema = Manifest.model_json_schema(by_alias=True, mode="validation")
    definitions = schema["$defs"]
    definitions["GateMapping"] = _gate_mapping(definitions["Gate"])
    definitions["Gate"] = {
        "description": "One criterion on one metric, as a sentence or as a mapping.",
        "anyOf": [
            {"type": "string", "description": "A sentence: metric, criterion, window.", "examples": list(FORMS)},
            {"$ref": "#/$defs/GateMapping"},
        ],
    }
    expectation = definitions["Expectation"]
    expectation["additionalProperties"] = True
    del expectation["properties"]["arguments"]
    expectation["properties"]["expect"] = {"enum": list(CATALOGUE), "description": "without expect_"}
    definitions["ModelSpec"] = _model(definitions["ModelSpec"])
    definitions["EvaluationSpec"]["oneOf"] = _one_of(SOURCES)
    environments = schema["properties"]["environments"]
    environments["propertyNames"] = {"pattern": f"^{NAME_PATTERN.pattern}$", "maxLength": MAX_NAME_LENGTH}
    title = f"MLPipeX deployment manifest, {API_VERSION}"
    return {"$schema": DIALECT, "$id": "urn:mlpipex:manifest:v1", **schema, "title": title}


def _gate_mapping(gate: dict[str, Any]) -> dict[str, Any]:
    properties = dict(gate["properties"])
    metrics = [f"{source}.{metric}" for source, yielded in METRICS.items() for metric in yielded]
    properties["metric"] = {"enum": metrics, "description": "source.metric"}
    bounds = {
        "max": "The highest value that passes",
        "min": "The lowest value that passes",
        "detects": "On live traffic, how far beyond the threshold the truth must be excluded before it passes",
    }
    for bound, what in bounds.items():
        properties[bound] = {
            "description": f"{what}: latency with a unit, a share in percent, or a number.",
            "anyOf": [
                {"type": "number"},
                {"type": "string", "pattern": RATIO_PATTERN, "examples": ["1%"]}
                if bound != "detects"
                else {"type": "string", "pattern": DIFFERENCE_PATTERN, "examples": ["0.5 points"]},
                {"type": "string", "pattern": DURATION_PATTERN, "examples": ["120ms"]},
                {"type": "null"},
            ],
        }
    return {**gate, "properties": properties, "oneOf": _one_of(CRITERIA)}


def _one_of(fields: Iterable[str]) -> list[dict[str, Any]]:
    """Exactly one of ``fields`` says something."""
    return [{"required": [field], "properties": {field: {"not": {"type": "null"}}}} for field in fields]


def _model(model: dict[str, Any]) -> dict[str, Any]:
    """An adopted model needs no name, and its version may be MLflow's number."""
    properties = dict(model["properties"])
    version = properties["version"]
    properties["version"] = {
        "default": version["default"],
        "title": version["title"],
        "anyOf": [
            {name: value for name, value in version.items() if name not in ("default", "title")},
            {"type": "integer", "minimum": 1, "description": "with adopt: the number of MLflow's version"},
        ],
    }
    rest = {name: value for name, value in model.items() if name != "required"}
    return {**rest, "properties": properties, "anyOf": [{"required": ["name"]}, {"required": ["adopt"]}]}
