"""The OpenAPI document of the control API, made from its own routes: what is not described is not served."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.serving.plane.access import ScopedRoute

#: Predictions that one answer may hold.
MAX_ROWS = 50_000
#: Seconds that a release may be given to get ready.
MAX_TIMEOUT_S = 3600.0
_NAME = {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,62}$"}
#: What stands in a path.
_PATH = {
    "environment": {"schema": _NAME, "example": "production"},
    "name": {"schema": _NAME, "example": "fraud-scorer"},
    "release": {"schema": {"type": "string", "maxLength": 120}, "example": "1.1.0-rt1.0.0-3fa9c2d1"},
}
_TEXT = {"type": "string"}
_ERROR = {
    "type": "object",
    "properties": {name: _TEXT for name in ("error", "thing", "value", "limit", "remedy", "runbook")},
    "required": ["error"],
}
#: What any route may answer instead, and whose affair that is.
_REFUSALS = {
    "400": "the request says what the route does not know",
    "401": "no token, or one of nobody",
    "403": "the token is of another scope",
    "404": "no such endpoint, release or route",
    "409": "another rollout, plan or release stands against it",
    "413": "the body is too large",
    "422": "a field cannot be read, or cannot be what it says",
    "503": "Envoy, the registry or the ledger is away; ask again",
}


def query(name: str, kind: str = "string", *, required: bool = True, **schema: Any) -> dict[str, Any]:
    """A parameter of the address."""
    return {"name": name, "in": "query", "required": required, "schema": {"type": kind, **schema}}


def body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """A body of JSON."""
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _schema_of(kind: type[Value]) -> dict[str, Any]:
    """JSON Schema of a value, without references: they would point into another document."""
    schema = kind.model_json_schema()
    defined = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return inlined(defined[str(part["$ref"]).rpartition("/")[2]])
            return {name: inlined(value) for name, value in part.items() if name != "discriminator"}
        return [inlined(value) for value in part] if isinstance(part, list) else part

    return dict(inlined(schema))


#: The window that telemetry is asked for.
WINDOW = (query("since", format="date-time"), query("until", format="date-time"))


_RELEASE_WANTED = {
    "type": "object",
    "properties": {
        "release": _schema_of(Release),
        "timeout_s": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_S},
    },
    "required": ["release"],
}
_REQUEST_IDS = {
    "type": "object",
    "properties": {"request_ids": {"type": "array", "items": _TEXT}},
    "required": ["request_ids"],
}
_SURVEY = {
    "type": "object",
    "properties": {
        "until": {"type": "string", "format": "date-time"},
        "warm": {"type": "boolean"},
        "endpoints": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "release": _TEXT,
                    "since": {"type": "array", "items": {"type": "string", "format": "date-time"}},
                },
                "required": ["release", "since"],
            },
        },
    },
    "required": ["until", "endpoints"],
}
_FAULT = {
    "type": "object",
    "properties": {name: {"type": "number", "minimum": 0} for name in ("error_rate", "latency_ms")},
    "additionalProperties": False,
}
_SLICES = query("slice", "array", required=False, items=_TEXT)
#: What the document says of each route, by the name of its handler.
OPERATIONS: dict[str, dict[str, Any]] = {
    "get_openapi": {"summary": "This document"},
    "health": {"summary": "Whether Envoy serves, and what the ingress refused"},
    "metrics": {"summary": "What Prometheus scrapes"},
    "post_survey": {"summary": "Telemetry of many endpoints at once", "requestBody": body(_SURVEY)},
    "get_endpoint": {"summary": "Traffic plan in force, and the releases that run"},
    "put_plan": {
        "summary": "Route as the plan says; answers once it is in force",
        "requestBody": body(_schema_of(TrafficPlan)),
    },
    "post_lease": {
        "summary": "Keep a trial's plan alive",
        "requestBody": body({"type": "object", "properties": {"plan_id": _TEXT}}),
    },
    "get_heads": {"summary": "How far the ledger was when it was last used here"},
    "put_head": {"summary": "Note how far the ledger is", "requestBody": body(_schema_of(HeadClaim))},
    "post_accepted_head": {
        "summary": "Take another ledger head for true, with a reason",
        "requestBody": body(
            {
                "type": "object",
                "properties": {
                    "reason": _TEXT,
                    "head": _schema_of(LedgerHead),
                    "instead_of": _schema_of(LedgerHead),
                },
                "required": ["reason", "head", "instead_of"],
            }
        ),
    },
    "get_telemetry": {"summary": "Requests, errors and latencies", "parameters": WINDOW},
    "get_comparison": {
        "summary": "A shadow's answers beside those that clients got",
        "parameters": (query("primary"), query("shadow"), _SLICES, *WINDOW),
    },
    "post_served": {"summary": "Who answered these requests, and what", "requestBody": body(_REQUEST_IDS)},
    "put_release": {"summary": "Have the release running and warm", "requestBody": body(_RELEASE_WANTED)},
    "delete_release": {"summary": "Stop the release"},
    "get_predictions": {
        "summary": "A sample of what the release answered",
        "parameters": (
            *WINDOW,
            query("limit", "integer", minimum=1, maximum=MAX_ROWS),
            query("batch", required=False),
        ),
    },
    "get_sketches": {"summary": "Counts a bin and column", "parameters": WINDOW},
    "get_batch_sketches": {"summary": "Counts of one column a batch", "parameters": (query("column"), *WINDOW)},
    "get_batch_faults": {
        "summary": "Batches that are unlike the rest",
        "parameters": (
            *WINDOW,
            query("psi", "number", exclusiveMinimum=0),
            query("alpha", "number", exclusiveMinimum=0, exclusiveMaximum=1),
        ),
    },
    "put_fault": {"summary": "Break the release on purpose", "requestBody": body(_FAULT)},
    "delete_fault": {"summary": "Mend it again"},
}


def document(routes: Iterable[object]) -> dict[str, Any]:
    """OpenAPI 3.1 of every scoped route among ``routes``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if isinstance(route, ScopedRoute):
            for verb in route.verbs:
                paths.setdefault(route.path, {})[verb.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MLPipeX serving plane, control API",
            "version": "1",
            "description": "On loopback, for the provider's own verbs and for a rollback by hand. Every route wants a "
            "bearer token; the scope that it needs is its security requirement.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
    }


def _operation(route: ScopedRoute) -> dict[str, Any]:
    named = re.findall(r"{(\w+)}", route.path)
    parameters = [{"name": name, "in": "path", "required": True, **_PATH[name]} for name in named]
    said = dict(route.operation)
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": said.pop("summary", ""),
        "security": [{"token": [route.needed]}],
        "parameters": [*parameters, *said.pop("parameters", ())],
        "responses": {
            "200": {"description": "done", "content": {"application/json": {"schema": {}}}},
            "204": {"description": "done; nothing to say"},
            **{status: {"description": text, "content": error} for status, text in _REFUSALS.items()},
        },
        **said,
    }
