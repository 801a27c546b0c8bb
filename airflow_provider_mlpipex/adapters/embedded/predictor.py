"""Predictions through the ingress of a serving plane, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx

from airflow_provider_mlpipex.adapters.embedded.http_calls import send
from airflow_provider_mlpipex.domain.batches import PredictionAnswer, PredictionRequest
from airflow_provider_mlpipex.domain.rollout.traffic_plan import BATCH_HEADER, RELEASE_HEADER, REQUEST_ID_HEADER

#: The ingress itself gives up sooner, and says so.
TIMEOUT_S = 30.0
#: Characters of a refusal that are shown, of its beginning and of its end: MLflow tells the rows first, then why.
_HEAD, _TAIL = 80, 300


class HttpPredictor:
    """:param token: reads the bearer token that clients show at the ingress, never logged; called before each request,
    so that who never asks for predictions needs none.
    :param ingress_url: of the ingress as it is reached from here, where that is not the address the plane gives.
    """

    def __init__(self, token: Callable[[], str], *, ingress_url: str | None = None) -> None:
        self._token = token
        self._ingress_url = ingress_url.rstrip("/") if ingress_url else None

    def predict(self, request: PredictionRequest) -> PredictionAnswer:
        url = f"{self._address(request)}/invocations"
        headers = {
            "authorization": f"Bearer {self._token()}",
            "content-type": "application/json",
            BATCH_HEADER: request.batch,
            REQUEST_ID_HEADER: request.request_id,
        }
        body = json.dumps({"dataframe_split": {"columns": list(request.columns), "data": request.rows}})
        try:
            answer = send("POST", url, headers=headers, timeout=TIMEOUT_S, content=body)
        except httpx.HTTPError as error:
            return PredictionAnswer(status=0, detail=f"{type(error).__name__} at {url}")
        release = answer.headers.get(RELEASE_HEADER, "")
        predictions = _predictions(answer) if answer.status_code == 200 else None
        if predictions is None:
            return PredictionAnswer(status=answer.status_code, release=release, detail=_message(answer))
        return PredictionAnswer(
            status=answer.status_code,
            release=release,
            request_id=answer.headers.get(REQUEST_ID_HEADER, ""),
            predictions=predictions,
        )

    def _address(self, request: PredictionRequest) -> str:
        return f"{self._ingress_url}/endpoints/{request.endpoint}" if self._ingress_url else request.address


def _message(answer: httpx.Response) -> str:
    try:
        said = answer.json()
    except ValueError:
        said = None
    text = str(said.get("message") or answer.text) if isinstance(said, dict) else answer.text
    text = " ".join(text.split())
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} … {text[-_TAIL:]}"


def _predictions(answer: httpx.Response) -> list[object] | None:
    try:
        said = answer.json()
    except ValueError:
        return None
    predictions = said.get("predictions") if isinstance(said, dict) else None
    return predictions if isinstance(predictions, list) else None
