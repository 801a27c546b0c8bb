"""Scoring one request: MLflow's contract exactly, and a fast path where it is provably the same.

Everything that the fast path does not cover goes through ``mlflow.pyfunc.scoring_server.invocations`` itself: all
input forms, schema enforcement, parameters, error shapes. The fast path takes JSON ``dataframe_split`` and
``dataframe_records`` with exactly the columns of a flat signature and values of exactly its types, and gives a frame
that MLflow's own decoding and enforcement would leave as it is. A differential test holds the two against each other.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import orjson

from airflow_provider_mlpipex.serving.model_server.logged_inputs import logged_inputs
from airflow_provider_mlpipex.serving.model_server.request_rows import (
    UnfitRequest,
    params_of,
    require_few_rows,
    require_params,
)

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException

_INT64 = 2**63
#: Integers beyond this do not survive a double; MLflow then decides what happens.
_EXACT_IN_DOUBLE = 2**53
_JSON = "application/json"


@dataclass
class Scored:
    """One answer. ``rows`` and ``outputs`` are what the prediction log keeps; empty where nothing was predicted.

    ``model_failed``: the model itself raised, on rows that its signature allows, whatever MLflow calls that.
    ``lookups``: by which keys, and when, the features of each row were looked up; empty where the client sent them.
    """

    status: int
    body: bytes
    media_type: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    fast: bool = False
    model_failed: bool = False
    lookups: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_fault(self) -> bool:
        """Whether the release is to blame: its model raised, or it answered no number where one is due (NaN, infinity,
        nothing), or not one answer a row."""
        if self.model_failed or self.status != 200:
            return self.model_failed
        return bool(self.rows and len(self.outputs) != len(self.rows)) or not all(map(_is_answer, self.outputs))


class Scorer:
    """:param model: a loaded MLflow pyfunc of any flavour."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._raised = threading.local()
        if getattr(model, "_predict_fn", None) is not None:
            # MLflow tells a model's own error and rows that do not fit its signature by one and the same exception.
            model._predict_fn = _watched(model._predict_fn, self._raised)
        self._schema = model.metadata.get_input_schema()
        self._columns = self._flat_columns()
        self.fast_enabled = bool(self._columns)

    @property
    def model(self) -> Any:
        return self._model

    @property
    def schema(self) -> Any:
        """MLflow's input schema of the model; ``None`` where it has no signature."""
        return self._schema

    @property
    def input_names(self) -> list[str]:
        """Columns that the model wants, in order; empty where its signature names none."""
        named = self._schema is not None and self._schema.has_input_names()
        return list(self._schema.input_names()) if named else []

    def score(self, body: bytes, content_type: str | None) -> Scored:
        """Answer one ``/invocations`` request. Never raises: errors come back in MLflow's own shape."""
        try:
            require_few_rows(body, content_type, max(1, len(self.input_names)))
        except UnfitRequest as error:
            if error.status == 413:
                return refused(error.status, error.code, str(error))
        if self.fast_enabled and content_type in (_JSON, "application/json; charset=utf-8"):
            columns = self._read_exact(body)
            if columns is not None:
                answer = self._predict_fast(columns)
                if answer is not None:
                    return answer
        return self.score_as_mlflow(body, content_type)

    def _flat_columns(self) -> dict[str, str]:
        """Column name -> ``long``, ``double`` or ``string``; empty where the fast path does not apply."""
        from mlflow.types import DataType

        kinds = {DataType.long: "long", DataType.double: "double", DataType.string: "string"}
        schema = self._schema
        plain = schema is not None and not schema.is_tensor_spec() and schema.has_input_names()
        if not plain or self._model.metadata.get_params_schema() or getattr(self._model, "_predict_fn", None) is None:
            return {}
        types = schema.input_types()
        if any(kind not in kinds for kind in types) or len(schema.required_input_names()) != len(types):
            return {}
        if self._model.loader_module != "mlflow.sklearn":
            return {}
        return {name: kinds[kind] for name, kind in zip(schema.input_names(), types, strict=True)}

    def _read_exact(self, body: bytes) -> dict[str, list[Any]] | None:
        """Columns of a request that needs no conversion at all, or ``None``."""
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(payload, dict) or len(payload) != 1:
            return None
        names = list(self._columns)
        split, records = payload.get("dataframe_split"), payload.get("dataframe_records")
        if isinstance(split, dict) and split.keys() == {"columns", "data"}:
            header, rows = split["columns"], split["data"]
            if not isinstance(header, list) or not isinstance(rows, list) or sorted(map(str, header)) != sorted(names):
                return None
            if not rows or any(not isinstance(row, list) or len(row) != len(names) for row in rows):
                return None
            columns = {name: [row[at] for row in rows] for at, name in enumerate(header)}
        elif isinstance(records, list) and records:
            if any(not isinstance(row, dict) or row.keys() != self._columns.keys() for row in records):
                return None
            columns = {name: [row[name] for row in records] for name in names}
        else:
            return None
        return columns if all(_fits(columns[name], kind) for name, kind in self._columns.items()) else None

    def _predict_fast(self, columns: dict[str, list[Any]]) -> Scored | None:
        import numpy as np
        import pandas as pd

        dtypes = {"long": np.int64, "double": np.float64, "string": object}
        frame = pd.DataFrame(
            {name: np.array(columns[name], dtype=dtypes[kind]) for name, kind in self._columns.items()}, copy=False
        )
        try:
            raw = self._model._predict_fn(frame)
        except Exception:  # noqa: BLE001 - a model may raise anything; MLflow's path gives it MLflow's error shape
            return None
        if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "fiu" or not np.isfinite(raw).all():
            return None
        outputs = raw.tolist()
        names = list(self._columns)
        return Scored(
            status=200,
            body=orjson.dumps({"predictions": outputs}),
            media_type=_JSON,
            columns=names,
            rows=[list(row) for row in zip(*(columns[name] for name in names), strict=True)],
            outputs=outputs,
            fast=True,
        )

    def score_as_mlflow(self, body: bytes, content_type: str | None) -> Scored:
        """MLflow's own path, whatever the request."""
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc import scoring_server

        try:
            require_params(self._model, params_of(body, content_type))
        except UnfitRequest as error:
            return refused(error.status, error.code, str(error))
        asked = _Asked(self._model)
        self._raised.by_model = False
        try:
            answer = scoring_server.invocations(body, content_type or "", asked, self._schema)  # type: ignore[no-untyped-call]
        except MlflowException as error:
            return self._refused(error)
        except Exception as error:  # noqa: BLE001 - MLflow lets some of its parser's errors out, as for deep nesting
            name = type(error).__name__
            if self._raised.by_model or asked.answered:
                return refused(500, "INTERNAL_ERROR", f"the answer cannot be written: {name}", failed=True)
            # Odd headers and values break MLflow's own checks of a table; the model was not asked.
            return refused(400, "BAD_REQUEST", f"the rows do not fit the model's signature: {name}")
        text = answer.response.encode() if isinstance(answer.response, str) else answer.response
        scored = Scored(answer.status, text, answer.mimetype)
        if answer.status == 200:
            scored.outputs = _predictions(text)
            scored.columns, scored.rows = logged_inputs(body, asked.data)
        return scored

    def _refused(self, error: MlflowException) -> Scored:
        """MLflow's status and code. Its stack trace stays here, and so do its words, which begin with the rows."""
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        if self._raised.by_model:
            return refused(status, error.error_code, "the model raised an error", failed=True)
        return refused(status if status < 500 else 400, error.error_code, _without_rows(str(error.message)))


def refused(status: int, code: str, message: str, *, failed: bool = False) -> Scored:
    """An answer without predictions, in MLflow's shape."""
    return Scored(status, orjson.dumps({"error_code": code, "message": message}), _JSON, model_failed=failed)


def _without_rows(message: str) -> str:
    """What MLflow says is wrong: behind "Error:" it names columns and types, before it the rows and the request."""
    _, marked, why = message.rpartition("Error: ")
    known = ("Model is missing inputs", "Incompatible input types", "Can not safely convert", "Shape of input")
    if marked and why.startswith(known):
        return why.partition("\n")[0][:300]
    return "the request does not fit the forms that MLflow takes, or the model's signature"


def _is_answer(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, (list, dict)):
        return all(map(_is_answer, value.values() if isinstance(value, dict) else value))
    return value is not None


class _Asked:
    """A model that remembers whether it answered: until then, whatever went wrong is the caller's fault."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.metadata = model.metadata
        self.answered = False
        self.data: Any = None

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        self.data = data
        answer = self._model.predict(data, params=params)
        self.answered = True
        return answer


def _watched(predict: Callable[..., Any], raised: threading.local) -> Callable[..., Any]:
    """``predict``, which says in ``raised.by_model`` of its thread that it raised."""

    @wraps(predict)
    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            return predict(*args, **kwargs)
        except Exception:
            raised.by_model = True
            raise

    return watched


def _fits(values: list[Any], kind: str) -> bool:
    if kind == "string":
        return all(type(value) is str for value in values)
    if kind == "long":
        return all(type(value) is int and -_INT64 <= value < _INT64 for value in values)
    # A column without a single float is an integer or object column to pandas: leave that to MLflow.
    return any(type(value) is float for value in values) and all(
        value is None or type(value) is float or (type(value) is int and abs(value) <= _EXACT_IN_DOUBLE)
        for value in values
    )


def _predictions(text: bytes) -> list[Any]:
    # MLflow writes NaN literally, which orjson refuses and json reads.
    answered = json.loads(text)
    predictions = answered.get("predictions") if isinstance(answered, dict) else answered
    return predictions if isinstance(predictions, list) else [predictions]
