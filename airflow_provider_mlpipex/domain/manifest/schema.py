"""The JSON Schema of manifests, for editors and linters. Line-crossing rules stay with ``validation.rules``."""

from __future__ import annotations

from typing import Any

from airflow_provider_mlpipex.domain.fields.quantities import DURATION_PATTERN, RATIO_PATTERN
from airflow_provider_mlpipex.domain.gates.gate import CRITERIA
from airflow_provider_mlpipex.domain.gates.metrics import METRICS
from airflow_provider_mlpipex.domain.gates.sentence_grammar import FORMS
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
                {"type": "string", "pattern": RATIO_PATTERN, "examples": ["1%"]},
                {"type": "string", "pattern": DURATION_PATTERN, "examples": ["120ms"]},
                {"type": "null"},
            ],
        }
    one_criterion = [
        {"required": [criterion], "properties": {criterion: {"not": {"type": "null"}}}} for criterion in CRITERIA
    ]
    return {**gate, "properties": properties, "oneOf": one_criterion}
