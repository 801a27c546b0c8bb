"""What the adapter makes of a plane's refusals; all else is in ``tests/contract/test_serving_plane.py``."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airflow_provider_mlpipex.adapters.embedded.plane import EmbeddedPlane
from airflow_provider_mlpipex.domain.errors import MlpipexError, NotAuthorised, PlaneUnavailable, PlanRefused
from airflow_provider_mlpipex.domain.names import EndpointRef
from tests.support.factories import UNKNOWN_ERROR

FRAUD = EndpointRef.parse("production/fraud-scorer")


def refused(monkeypatch: pytest.MonkeyPatch, status: int, **body: Any) -> MlpipexError:
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(status, **body))
    with pytest.raises(MlpipexError) as raised:
        EmbeddedPlane("http://127.0.0.1:1", "secret").observe(FRAUD)
    return raised.value


@pytest.mark.parametrize(
    ("status", "nearest"),
    [(401, NotAuthorised), (403, NotAuthorised), (409, MlpipexError), (422, MlpipexError), (503, PlaneUnavailable)],
)
def test_an_error_of_a_newer_plane_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, status: int, nearest: type[MlpipexError]
) -> None:
    error = refused(monkeypatch, status, json=UNKNOWN_ERROR)
    assert type(error) is nearest
    assert error.as_dict() == UNKNOWN_ERROR


def test_a_known_error_is_itself_whatever_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = PlanRefused("plan", value="v", limit="l", remedy="r")
    error = refused(monkeypatch, 503, json=sent.as_dict())
    assert type(error) is PlanRefused
    assert str(error) == str(sent)


@pytest.mark.parametrize(
    ("status", "body", "value"),
    [
        (413, {"json": {"error": "body too large"}}, "HTTP 413: body too large"),
        (502, {"text": "<html>Bad Gateway</html>"}, "HTTP 502"),
        (500, {"json": ["odd"]}, "HTTP 500"),
        (404, {"json": {}}, "HTTP 404"),
    ],
)
def test_what_is_no_error_of_ours_is_the_planes(
    monkeypatch: pytest.MonkeyPatch, status: int, body: dict[str, Any], value: str
) -> None:
    error = refused(monkeypatch, status, **body)
    assert type(error) is PlaneUnavailable
    assert (error.thing, error.value) == ("serving plane at http://127.0.0.1:1", value)
