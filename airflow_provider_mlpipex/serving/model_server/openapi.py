"""The OpenAPI 3.1 document of one release: what a client may send, what it gets back, and in which order.

It is made of what the model server reads requests by, so it cannot say otherwise than the server does. No row of the
training data is in it: examples are made up, and only one that this very model has answered is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from airflow_provider_mlpipex.domain.release.inputs import InputColumn
from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    BATCH_HEADER,
    CLIENT_REQUEST_ID_HEADER,
    RELEASE_HEADER,
    REQUEST_ID_HEADER,
)
from airflow_provider_mlpipex.serving.model_server.class_labels import CLASSES_HEADER
from airflow_provider_mlpipex.serving.model_server.clean_process import classes_of
from airflow_provider_mlpipex.serving.model_server.feature_lookup import FeatureScorer
from airflow_provider_mlpipex.serving.model_server.loading import AnyScorer
from airflow_provider_mlpipex.serving.model_server.request_rows import CSV, JSON, PARQUET
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.model_server.typed_scoring import TypedScorer

#: Made-up texts, in the order in which they are tried. A model may know its own texts only, and raise at others.
_TEXTS = ("text", None)
_MOMENT = "2026-01-01T00:00:00"
_KINDS = {"integer": "integer", "number": "number", "flag": "boolean", "text": "string", "category": "string"}
_MLFLOW_TYPES = {
    "boolean": "boolean",
    "integer": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "string": "string",
}
#: Types of a feature store's entities.
_ENTITY_TYPES = {
    "Bool": "boolean",
    "String": "string",
    "Int32": "integer",
    "Int64": "integer",
    "Float32": "number",
    "Float64": "number",
}
_STATUSES = {
    "400": "the request is no frame that the model takes; message names what is wrong",
    "403": "the client token is missing or wrong",
    "404": "nothing is released at this path, or the feature store does not know an entity",
    "413": "the body is too large",
    "415": "another content type",
    "500": "the model failed; it counts against the release",
    "503": "no model server, or no features, at the moment",
    "504": "no answer in time",
}


class _Input(NamedTuple):
    """``examples``: made-up values, the likeliest first."""

    name: str
    schema: dict[str, Any]
    required: bool
    examples: tuple[Any, ...]


def openapi_of(spec: ModelServerSpec, scorer: AnyScorer | FeatureScorer, *, golden: Path) -> dict[str, Any]:
    """The document of the release in ``spec``, as ``scorer`` reads and answers requests.

    :param golden: file with the model's answers to its golden rows, which say what kind of answer it gives.
    """
    plain = scorer.scorer if isinstance(scorer, FeatureScorer) else scorer
    inputs = list(_inputs(plain))
    classes = classes_of(plain.model)
    schemas = {
        "Row": _row(inputs) if inputs else {"description": "the model's signature names no columns"},
        "Request": _request(inputs, _params(plain)),
        "Answer": _answer(_golden_answers(golden), classes),
        "Error": _ERROR,
    }
    if isinstance(scorer, FeatureScorer):
        schemas |= _by_entity(scorer.entities)
        schemas["Request"] = {"anyOf": [schemas["Request"], {"$ref": "#/components/schemas/EntityRequest"}]}
    body: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Request"}}
    example = _answered_example(plain, inputs)
    if example is not None:
        body["example"] = example
    contents: dict[str, Any] = {JSON: body, CSV: {"schema": {"type": "string", "description": "a header, then rows"}}}
    if isinstance(plain, TypedScorer):
        contents[PARQUET] = {}
    model = spec.release.model
    return {
        "openapi": "3.1.0",
        "info": {
            "title": str(spec.endpoint),
            "version": spec.release.id,
            "description": f"Model {model.name} {model.version}, the current release of this endpoint.",
        },
        "servers": [{"url": f"/endpoints/{spec.endpoint}", "description": "at the ingress"}],
        "security": [{"clientToken": []}],
        "paths": {"/invocations": {"post": _operation(contents, classes)}},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"clientToken": {"type": "http", "scheme": "bearer"}},
        },
    }


_ERROR = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {
        "error_code": {"type": "string"},
        "message": {"type": "string", "description": "what is wrong, and never a row"},
        "runbook": {"type": "string", "description": "page to read, of what the ingress itself answers"},
    },
}


def _operation(contents: Mapping[str, Any], classes: Sequence[Any] | None) -> dict[str, Any]:
    request_id = {"description": "the plane's id of the request: labels name it", "schema": {"type": "string"}}
    clients_id = {"description": "x-request-id as it was sent", "schema": {"type": "string"}}
    answered = {
        "description": "one answer a row, in the order of the rows",
        "headers": {
            RELEASE_HEADER: {"description": "the release that answered", "schema": {"type": "string"}},
            REQUEST_ID_HEADER: request_id,
            CLIENT_REQUEST_ID_HEADER: clients_id,
        },
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["predictions"],
                    "properties": {
                        "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}},
                        **(_labels(classes) if classes is not None else {}),
                    },
                }
            }
        },
    }
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    refusals = {status: {"description": why, "content": error} for status, why in _STATUSES.items()}
    about = {
        REQUEST_ID_HEADER: "your own name of the request: logged and returned, joined to nothing",
        BATCH_HEADER: "batch that a drift is traced to; wants the batch token",
    }
    wish: list[dict[str, Any]] = []
    if classes is not None:
        why = "true: the answer has classes, in the order of the probabilities, and labels, the likeliest of each row"
        values = {"type": "string", "enum": ["true", "false"]}
        wish = [{"name": CLASSES_HEADER, "in": "header", "required": False, "description": why, "schema": values}]
    return {
        "operationId": "invoke",
        "summary": "Answer rows",
        "parameters": [
            {"name": name, "in": "header", "required": False, "description": why, "schema": {"type": "string"}}
            for name, why in about.items()
        ]
        + wish,
        "requestBody": {"required": True, "content": dict(contents)},
        "responses": {"200": answered, **refusals},
    }


def _labels(classes: Sequence[Any]) -> dict[str, Any]:
    """What an answer has besides, where it was asked for."""
    known = {"type": "array", "items": {"enum": list(classes)}}
    return {
        "classes": {**known, "description": f"with {CLASSES_HEADER}: true, in the order of the probabilities"},
        "labels": {**known, "description": f"with {CLASSES_HEADER}: true, the likeliest class of each row"},
    }


def _inputs(scorer: AnyScorer) -> Iterator[_Input]:
    """Columns as the server reads them; none where the signature names none."""
    if isinstance(scorer, TypedScorer):
        yield from map(_of_training, scorer.inputs.columns)
        return
    schema = scorer.schema
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return
    for column in schema.inputs:
        name = getattr(column.type, "name", "")
        yield _Input(column.name, _of_mlflow(name), column.required, _examples(_MLFLOW_TYPES.get(name, name)))


def _of_training(column: InputColumn) -> _Input:
    kind = _KINDS.get(column.kind, "string")
    schema: dict[str, Any] = {"type": [kind, "null"] if column.takes_gaps else kind}
    if column.kind == "time":
        schema["format"] = "date-time"
    if not column.gaps and column.takes_gaps:
        schema["description"] = "the model was trained without gaps here"
    between = _within(column) if column.kind in ("integer", "number") else None
    return _Input(column.name, schema, True, _examples("datetime" if column.kind == "time" else kind, between))


def _within(column: InputColumn) -> float | None:
    """A number in the middle of what the model was trained on."""
    if column.low is None or column.high is None:
        return None
    middle = column.low + (column.high - column.low) / 2
    return int(middle) if column.kind == "integer" else middle


def _of_mlflow(name: str) -> dict[str, Any]:
    """A column of a signature by the name of its type; anything where JSON Schema has no word for it."""
    if name == "datetime":
        return {"type": ["string", "null"], "format": "date-time"}
    if name not in _MLFLOW_TYPES:
        return {}
    kind = _MLFLOW_TYPES[name]
    return {"type": [kind, "null"] if kind in ("number", "string") else kind}


def _examples(kind: str, between: float | None = None) -> tuple[Any, ...]:
    if kind == "string":
        return _TEXTS
    known = {"integer": 1, "number": 1.5, "boolean": True, "datetime": _MOMENT}
    return (known.get(kind) if between is None else between,)


def _row(inputs: Sequence[_Input]) -> dict[str, Any]:
    required = [column.name for column in inputs if column.required]
    return {
        "type": "object",
        "required": required,
        "properties": {column.name: column.schema for column in inputs},
    }


def _request(inputs: Sequence[_Input], params: Mapping[str, Any]) -> dict[str, Any]:
    """Exactly one of MLflow's forms."""
    row: dict[str, Any] = {"$ref": "#/components/schemas/Row"}
    rows = {"type": "array", "minItems": 1, "items": row}
    columns = {column.name: {"type": "array", "minItems": 1, "items": column.schema} for column in inputs}
    forms: dict[str, Any] = {
        "dataframe_split": _split([column.name for column in inputs]),
        "dataframe_records": rows,
        "instances": rows if inputs else {},
        "inputs": {"type": "object", "required": list(columns), "properties": columns} if inputs else {},
    }
    beside = {"params": {"type": "object", "additionalProperties": False, "properties": dict(params)}} if params else {}
    return {
        "oneOf": [
            {"type": "object", "required": [form], "properties": {form: schema, **beside}}
            for form, schema in forms.items()
        ]
    }


def _split(columns: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {
                "type": "array",
                "items": {"type": "string"},
                "uniqueItems": True,
                "description": "in the order of the values of each row; in any order" if columns else "",
                "examples": [list(columns)] if columns else [],
            },
            "data": {"type": "array", "minItems": 1, "items": {"type": "array"}},
        },
    }


def _by_entity(entities: Mapping[str, str]) -> dict[str, Any]:
    """A request that names entities alone: their features are looked up."""
    properties = {
        name: {"type": _ENTITY_TYPES[kind]} if kind in _ENTITY_TYPES else {} for name, kind in entities.items()
    }
    rows = {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Entity"}}
    forms = {"dataframe_split": _split(list(entities)), "dataframe_records": rows}
    return {
        "Entity": {
            "type": "object",
            "required": list(entities),
            "properties": properties,
            "additionalProperties": False,
        },
        "EntityRequest": {
            "oneOf": [
                {"type": "object", "required": [form], "properties": {form: schema}, "additionalProperties": False}
                for form, schema in forms.items()
            ]
        },
    }


def _params(scorer: AnyScorer) -> dict[str, Any]:
    schema = scorer.model.metadata.get_params_schema()
    described = {}
    for param in schema.params if schema else ():
        of = _of_mlflow(getattr(param.dtype, "name", ""))
        described[param.name] = of if param.shape is None else {"type": "array", "items": of}
    return described


def _answer(golden: Sequence[Any], classes: Sequence[Any] | None) -> dict[str, Any]:
    """One answer. With ``classes``, each number of an answer says whose probability it is."""
    labels = {"x-mlpipex-classes": list(classes)} if classes else {}
    if golden and all(isinstance(answer, list) for answer in golden):
        (width,) = widths if len(widths := {len(answer) for answer in golden}) == 1 else (None,)
        if width is None or not classes or len(classes) != width:
            return {"type": "array", **labels}
        places = [{"type": "number", "title": f"probability of {label}"} for label in classes]
        return {
            "type": "array",
            "description": "one probability a class, in the order of x-mlpipex-classes",
            "prefixItems": places,
            "minItems": width,
            "maxItems": width,
            **labels,
        }
    kinds = sorted({_json_type(answer) for answer in golden})
    if kinds == ["integer", "number"]:
        kinds = ["number"]
    typed = {"type": kinds[0] if len(kinds) == 1 else kinds} if kinds else {}
    return {**typed, **labels}


def _json_type(value: Any) -> str:
    names: Iterable[tuple[type | tuple[type, ...], str]] = (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (list, "array"),
        (dict, "object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _golden_answers(golden: Path) -> list[Any]:
    """Empty where the model was registered without golden rows."""
    try:
        answers = json.loads(golden.read_text(encoding="utf-8"))["predictions"]
    except FileNotFoundError:
        return []
    return answers if isinstance(answers, list) else [answers]


def _answered_example(scorer: AnyScorer, inputs: Sequence[_Input]) -> dict[str, Any] | None:
    """A request of one made-up row that the model answers; ``None`` where it answers none of those tried."""
    asked = [column for column in inputs if column.required]
    if not asked:
        return None
    for at in (0, 1) if any(len(column.examples) > 1 for column in asked) else (0,):
        row = [column.examples[min(at, len(column.examples) - 1)] for column in asked]
        request = {"dataframe_split": {"columns": [column.name for column in asked], "data": [row]}}
        if scorer.score(orjson.dumps(request), JSON).status == 200:
            return request
    return None
