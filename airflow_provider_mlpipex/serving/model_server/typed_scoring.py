"""Scoring by the dtypes that a model learned from: a client's rows become the frame that was evaluated.

MLflow's own server reads a request by the signature alone, which turns an unknown flag into ``False`` and a category
into plain text. The request forms, the shape of answers and the status codes are MLflow's.
"""

from __future__ import annotations

import io
import json
import traceback
from collections.abc import Mapping
from typing import Any

import orjson

from airflow_provider_mlpipex.domain.release.inputs import ModelInputs
from airflow_provider_mlpipex.serving.model_server.input_frame import beyond_training, cells_of, frame_of
from airflow_provider_mlpipex.serving.model_server.request_rows import (
    JSON,
    RequestRows,
    UnfitRequest,
    read_request,
    require_params,
)
from airflow_provider_mlpipex.serving.model_server.scoring import Scored, refused
from airflow_provider_mlpipex.serving.model_server.server_log import MODEL_RAISED, server_log


class TypedScorer:
    """:param model: a loaded MLflow pyfunc of any flavour. :param inputs: what its training rows were made of."""

    def __init__(self, model: Any, inputs: ModelInputs) -> None:
        self._model = model
        self._inputs = inputs

    @property
    def model(self) -> Any:
        return self._model

    @property
    def inputs(self) -> ModelInputs:
        return self._inputs

    @property
    def input_names(self) -> list[str]:
        """Columns that the model wants, in order."""
        return [column.name for column in self._inputs.columns]

    def score(self, body: bytes, content_type: str | None) -> Scored:
        """Answer one ``/invocations`` request. Never raises: errors come back in MLflow's own shape."""
        try:
            request = read_request(body, content_type, self.input_names)
            params = self._params(request.params)
            frame = frame_of(request.cells, self._inputs)
        except UnfitRequest as error:
            return refused(error.status, error.code, str(error))
        try:
            raw = self._model._predict_fn(frame, params=params) if params else self._model._predict_fn(frame)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            # Read again, because the model may have changed the frame that it was given.
            return _raised(error, beyond_training(frame_of(request.cells, self._inputs), self._inputs))
        try:
            text, outputs = written(raw)
        except Exception as error:  # noqa: BLE001 - nor is there a limit to what it may answer
            return refused(500, "INTERNAL_ERROR", f"the answer cannot be written: {type(error).__name__}", failed=True)
        return Scored(
            status=200,
            body=text,
            media_type=JSON,
            columns=self.input_names,
            rows=self._logged(request),
            outputs=outputs,
            fast=True,
        )

    def _logged(self, request: RequestRows) -> list[list[Any]]:
        """The rows for the prediction log, typed as JSON would have brought them: a cell of CSV is always text."""
        if not request.typed:
            request = RequestRows(cells_of(frame_of(request.cells, self._inputs)))
        return request.rows()

    def _params(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """``params`` as the model's signature types them.

        :raises UnfitRequest: the model takes none, or not these.
        """
        if not params:
            return None
        require_params(self._model, params)
        from mlflow.exceptions import MlflowException
        from mlflow.models.utils import _enforce_params_schema

        try:
            taken = _enforce_params_schema(dict(params), self._model.metadata.get_params_schema())
        except MlflowException:
            raise UnfitRequest("params are not of the types in the model's signature") from None
        return dict(taken)


def written(raw: Any) -> tuple[bytes, list[Any]]:
    """A model's answer as the body that a client gets, and as one output a row."""
    import numpy as np

    if isinstance(raw, np.ndarray) and raw.dtype.kind in "fiu" and np.isfinite(raw).all():
        outputs = raw.tolist()
        return orjson.dumps({"predictions": outputs}), outputs
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "bUO":
        # Flags and labels, by themselves or a list a row; an odd value among them MLflow has a word for.
        outputs = raw.tolist()
        if all(map(_is_plain, outputs)):
            return json.dumps({"predictions": outputs}).encode(), outputs
    from mlflow.pyfunc.scoring_server import predictions_to_json

    text = io.StringIO()
    predictions_to_json(raw, text)  # type: ignore[no-untyped-call]
    answered = json.loads(text.getvalue())["predictions"]
    return text.getvalue().encode(), answered if isinstance(answered, list) else [answered]


def _is_plain(answer: Any) -> bool:
    return type(answer) in (str, bool, int) or (type(answer) is list and all(map(_is_plain, answer)))


def _raised(error: Exception, odd: str) -> Scored:
    # Where it happened, and not what it says: the message of a library often quotes the rows.
    places = [f"{place.filename}:{place.lineno} {place.name}" for place in traceback.extract_tb(error.__traceback__)]
    server_log.warning("%s %s at %s", MODEL_RAISED, type(error).__name__, "; ".join(places[-3:]))
    if odd:
        return refused(400, "BAD_REQUEST", f"the model cannot answer values beyond its training: {odd}")
    return refused(400, "BAD_REQUEST", f"the model raised {type(error).__name__}", failed=True)
