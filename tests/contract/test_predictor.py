"""What every predictor promises: one sending an answer, a refusal is an answer too, and nobody there is one as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from airflow_provider_mlpipex.adapters.embedded.predictor import HttpPredictor
from airflow_provider_mlpipex.composition import Settings
from airflow_provider_mlpipex.domain.batches import PredictionAnswer, PredictionRequest
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.predictions import Prediction
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.ports import Predictor
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.factories import make_release
from tests.support.mlflow_server import free_port
from tests.support.plane import RealPlane, now, real_plane
from tests.support.polling import until

__all__ = ["real_plane"]

ENDPOINT = EndpointRef.parse("production/predicted")
NOBODY = EndpointRef.parse("production/nobody-serves-it")
ROWS = [[100.5, 5, "AA"], [7.25, 23, "DL"], [0.5, 12, "UA"]]


@dataclass
class AskedEndpoint:
    """A predictor, and the endpoint that it asks: ``release`` answers ``distance`` and a thousand."""

    predictor: Predictor
    release: str
    address: str

    def ask(
        self, *, endpoint: EndpointRef = ENDPOINT, columns: tuple[str, ...] = ("distance", "hour", "carrier")
    ) -> PredictionAnswer:
        return self.predictor.predict(self.request(endpoint=endpoint, columns=columns))

    def request(
        self, *, endpoint: EndpointRef = ENDPOINT, columns: tuple[str, ...] = ("distance", "hour", "carrier")
    ) -> PredictionRequest:
        return PredictionRequest(
            endpoint=endpoint,
            address=self.address.replace(str(ENDPOINT), str(endpoint)),
            batch="nightly/2026-03-01",
            request_id="batch-0",
            columns=columns,
            rows=ROWS,
        )


def memory_endpoint() -> AskedEndpoint:
    platform, release = memory_platform(), make_release()
    platform.plane.ensure(ENDPOINT, release, timeout_s=1)
    platform.plane.apply(TrafficPlan(endpoint=ENDPOINT, current=release.id))
    platform.predictor.answers = lambda row: row["distance"] + 1000
    return AskedEndpoint(platform.predictor, release.id, platform.plane.observe(ENDPOINT).address)


@pytest.fixture(scope="module")
def real_endpoint(real_plane: RealPlane) -> AskedEndpoint:
    real_plane.ensure(ENDPOINT, 1)
    release = real_plane.release(1).id
    real_plane.port.apply(TrafficPlan(endpoint=ENDPOINT, current=release))
    predictor = HttpPredictor(lambda: real_plane.ingress_token("batch"))
    return AskedEndpoint(predictor, release, real_plane.port.observe(ENDPOINT).address)


@pytest.fixture(params=["memory", pytest.param("embedded", marks=pytest.mark.system)])
def asked_endpoint(request: pytest.FixtureRequest) -> AskedEndpoint:
    if request.param == "memory":
        return memory_endpoint()
    found: AskedEndpoint = request.getfixturevalue("real_endpoint")
    return found


def test_one_prediction_a_row_by_a_release_that_names_itself(asked_endpoint: AskedEndpoint) -> None:
    assert isinstance(asked_endpoint.predictor, Predictor)
    answer = asked_endpoint.ask()
    assert (answer.status, answer.release) == (200, asked_endpoint.release)
    assert answer.predictions == pytest.approx([1100.5, 1007.25, 1000.5])


def test_an_endpoint_that_nobody_serves_is_an_answer(asked_endpoint: AskedEndpoint) -> None:
    answer = asked_endpoint.ask(endpoint=NOBODY)
    assert (answer.status, answer.release, answer.predictions) == (404, "", None)


@pytest.mark.system
class TestOverHttp:
    def test_batch_and_request_id_reach_the_prediction_log(
        self, real_endpoint: AskedEndpoint, real_plane: RealPlane
    ) -> None:
        answer = real_endpoint.ask()

        def logged() -> dict[str, Prediction]:
            since, later = now() - timedelta(minutes=5), now() + timedelta(seconds=5)
            sample = real_plane.port.predictions(ENDPOINT, real_endpoint.release, since=since, until=later, limit=100)
            return {row.request_id: row for row in sample.rows}

        rid = answer.request_id
        assert rid not in ("", "batch-0"), "the plane names requests, not who sends them"
        until(lambda: f"{rid}#2" in logged(), within_s=30, what="the rows are logged")
        found = logged()
        assert {found[row].batch for row in (rid, f"{rid}#1", f"{rid}#2")} == {"nightly/2026-03-01"}
        assert found[f"{rid}#1"].inputs == {"distance": 7.25, "hour": 23, "carrier": "DL"}

    def test_rows_that_the_model_does_not_take_are_refused_with_its_own_words(
        self, real_endpoint: AskedEndpoint
    ) -> None:
        answer = real_endpoint.ask(columns=("distance", "hour", "airline"))
        assert (answer.status, answer.predictions) == (400, None)
        assert "carrier" in answer.detail

    def test_a_wrong_token_is_refused_and_not_repeated(self, real_endpoint: AskedEndpoint) -> None:
        answer = HttpPredictor(lambda: "wrong-token").predict(real_endpoint.request())
        assert answer.status == 403
        assert "wrong-token" not in answer.detail

    def test_nobody_there_is_an_answer_without_a_status(self, real_endpoint: AskedEndpoint) -> None:
        nowhere = HttpPredictor(lambda: "token", ingress_url=f"http://127.0.0.1:{free_port()}/")
        answer = nowhere.predict(real_endpoint.request())
        assert (answer.status, answer.predictions) == (0, None)
        assert "ConnectError" in answer.detail

    def test_an_ingress_that_is_reached_elsewhere_is_asked_there(
        self, real_endpoint: AskedEndpoint, real_plane: RealPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And a proxy of the environment is not asked at all."""
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
        predictor = HttpPredictor(lambda: real_plane.ingress_token("batch"), ingress_url=f"{real_plane.ingress_url}/")
        lost = AskedEndpoint(predictor, real_endpoint.release, "http://192.0.2.1/endpoints/elsewhere")
        assert lost.ask().status == 200


def test_who_has_no_token_is_told_which_field_is_missing() -> None:
    token: Callable[[], str] = Settings().ingress_token
    with pytest.raises(ConfigurationInvalid, match="client_token or client_token_file"):
        HttpPredictor(token).predict(memory_endpoint().request())
