"""Predictions as they were served: rows of the prediction log, and the columns that they make."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from airflow_provider_mlpipex.domain.values import Value

#: Names a served prediction; the same in every release that answered the request.
REQUEST_ID = "request_id"
#: Columns of every table of predictions, beside one for each model input.
PREDICTION_COLUMNS = (REQUEST_ID, "at", "batch", "score", "label")
#: Columns of models with several outputs: ``output_0`` for a list of them, ``output_<name>`` for named ones.
OUTPUT_PREFIX = "output_"


class Prediction(Value):
    """One row that a release answered.

    :param request_id: of the request; further rows of one request are ``id#1``, ``id#2`` …
    :param batch: what the caller said the request belongs to; empty where it said nothing.
    :param inputs: column -> value as it was sent; empty for a request whose rows are not named columns.
    :param keys: entity by which the features among ``inputs`` were looked up; empty for a request that carried them.
    :param looked_up_at: when they were, by the model server's clock.
    :param output: as answered: a number, a text, a list of numbers, or a mapping.
    :param score: first output as a number, or the probability of the last class; ``None`` for what is not finite.
    :param label: thresholded at one half, arg max, or the value itself, as text.
    """

    request_id: str
    at: datetime
    batch: str = ""
    inputs: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    looked_up_at: datetime | None = None
    output: Any = None
    score: float | None = None
    label: str = ""


class PredictionSample(Value):
    """Predictions of one release in one window, all of them or an even sample.

    :param total: how many were logged in the window; ``rows`` holds at most as many as were asked for.
    :param dropped_share: predictions lost by full log queues over all predictions.
    """

    release: str
    since: datetime
    until: datetime
    rows: tuple[Prediction, ...] = ()
    total: int = Field(default=0, ge=0)
    dropped_share: float = Field(default=0.0, ge=0, le=1)
