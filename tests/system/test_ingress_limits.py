"""What one client, with or without a token, may take of a real plane's ingress and control API."""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path

import httpx
import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.limits import HEADERS_S, MAX_BODY_BYTES, MAX_REQUEST_ID
from tests.support.plane import RealPlane, fresh_window, invocation, now, path_of, real_plane
from tests.support.polling import until

__all__ = ["real_plane"]

pytestmark = pytest.mark.system

SHOP = EndpointRef.parse("production/shop")
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


@pytest.fixture(scope="module")
def plane(real_plane: RealPlane) -> RealPlane:
    real_plane.ensure(SHOP, 1)
    real_plane.port.apply(TrafficPlan(endpoint=SHOP, current=real_plane.release(1).id))
    return real_plane


def written(plane: RealPlane) -> int:
    """Bytes in everything that Envoy writes."""
    return sum(path.stat().st_size for path in (plane.state_dir / "envoy").glob("*") if path.is_file())


def test_a_refused_request_writes_nothing_and_is_counted(plane: RealPlane) -> None:
    before, refused = written(plane), plane.control("GET", "/v1/health").json()["refused"]
    connection = http.client.HTTPConnection("127.0.0.1", plane.ingress_port, timeout=30)
    for _ in range(300):
        connection.request("GET", "/x", headers={"x-request-id": "A" * 10_000})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 403
    with plane.client() as client:
        assert client.get("/nowhere").status_code == 404

    def counted() -> bool:
        now_refused = plane.control("GET", "/v1/health").json()["refused"]
        return (now_refused["no token"], now_refused["no such endpoint"]) == (
            refused["no token"] + 300,
            refused["no such endpoint"] + 1,
        )

    until(counted, within_s=20.0, what="refusals are counted")
    assert written(plane) - before < 1000


def test_what_the_ingress_refuses_by_itself_says_why_and_where_to_read_on(plane: RealPlane) -> None:
    no_token, wrong_token = {"authorization": ""}, {"authorization": "Bearer guessed-token"}
    with plane.client() as client:
        answers = {
            "not-authorised": [client.post(path_of(SHOP), json={}, headers=head) for head in (no_token, wrong_token)],
            "not-found": [client.post(f"/endpoints/{nowhere}") for nowhere in ("production/shoop/invocations", "")],
        }
        too_large = client.post(path_of(SHOP), content=b" " * (MAX_BODY_BYTES + 1))
        of_the_model = client.post(path_of(SHOP), json={"dataframe_split": {"columns": ["x"], "data": [[1]]}})
    for runbook, refused in answers.items():
        assert {answer.status_code for answer in refused} == {403 if runbook == "not-authorised" else 404}
        for answer in refused:
            assert answer.headers["content-type"] == "application/json"
            told = answer.json()
            assert told.keys() == {"error_code", "message", "runbook"}
            assert told["runbook"] == runbook and (RUNBOOKS / f"{runbook}.md").is_file()
            for kept in (plane.client_token, "guessed-token", "shoop", str(plane.state_dir)):
                assert kept not in answer.text
    assert "authorization: Bearer" in answers["not-authorised"][0].json()["message"]
    assert "/endpoints/ENVIRONMENT/NAME/invocations" in answers["not-found"][0].json()["message"]
    assert too_large.status_code == 413 and str(MAX_BODY_BYTES) in too_large.json()["message"]
    # What a model server says stays what it says.
    assert of_the_model.status_code == 400 and "missing columns" in of_the_model.json()["message"]


def test_an_endpoints_document_is_read_with_the_client_token_and_counts_as_no_request(plane: RealPlane) -> None:
    since, release = fresh_window(), plane.release(1).id
    address = f"/endpoints/{SHOP}/openapi.json"
    with plane.client() as client:
        for _ in range(3):
            answer = client.get(address)
            assert (answer.status_code, answer.headers["x-mlpipex-release"]) == (200, release)
        document = answer.json()
        assert client.get(address, headers={"authorization": ""}).status_code == 403
        assert client.post(address, json={}).status_code == 404
        ((path, operations),) = document["paths"].items()
        body = operations["post"]["requestBody"]["content"]["application/json"]["example"]
        answered = client.post(document["servers"][0]["url"] + path, json=body)
    assert answered.status_code == 200

    def counted() -> int:
        return plane.port.telemetry(SHOP, since=since, until=now()).releases[release].requests

    until(lambda: counted() >= 1, within_s=20.0, what="the request is counted")
    assert counted() == 1


def test_a_clients_id_is_cut_before_it_is_kept(plane: RealPlane) -> None:
    with plane.client(**{"x-request-id": "B" * 10_000}) as client:
        answer = client.post(path_of(SHOP), json=invocation())
    assert answer.status_code == 200
    assert answer.headers["x-mlpipex-client-request-id"] == "B" * MAX_REQUEST_ID

    def lines(logs: str) -> list[str]:
        """Of both Envoys: either may have taken the request."""
        folder = plane.state_dir / "envoy"
        return [line for log in folder.glob(logs) for line in log.read_text().splitlines() if "BBBB" in line]

    logs = ("access*.jsonl", "attempts*.jsonl")
    until(lambda: all(map(lines, logs)), within_s=20.0, what="the request is logged")
    assert all(len(line) < 1000 for log in logs for line in lines(log))


def test_a_client_cannot_set_envoys_timeouts_and_retries(plane: RealPlane) -> None:
    since = fresh_window()
    headers = {
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-retry-on": "retriable-status-codes",
        "x-envoy-retriable-status-codes": "200",
        "x-envoy-max-retries": "300",
    }
    with plane.client(**headers) as client:
        assert [client.post(path_of(SHOP), json=invocation()).status_code for _ in range(5)] == [200] * 5
    release = plane.release(1).id

    def seen() -> int:
        return plane.port.telemetry(SHOP, since=since, until=now()).releases[release].requests

    until(lambda: seen() >= 5, within_s=20.0, what="the requests are counted")
    assert seen() == 5


def test_no_host_that_a_client_gives_makes_its_request_a_shadow(plane: RealPlane) -> None:
    with plane.client(host="x-shadow", **{"x-request-id": "not-a-shadow"}) as client:
        assert client.post(path_of(SHOP), json=invocation()).status_code == 200
    folder = plane.state_dir / "predictions" / "production" / "shop" / plane.release(1).slug

    def record() -> str:
        lines = [line for log in folder.glob("*.jsonl*") for line in log.read_text().splitlines()]
        return next((line for line in lines if "not-a-shadow" in line), "")

    until(lambda: bool(record()), within_s=20.0, what="the prediction is logged")
    assert '"shadow"' not in record()
    assert '"client_rid":"not-a-shadow"' in record()


def test_hang_ups_and_unfinished_uploads_are_no_errors_of_a_release(plane: RealPlane) -> None:
    since, release = fresh_window(), plane.release(1)
    fault = f"/v1/endpoints/{SHOP}/releases/{release.id}/fault"
    assert plane.control("PUT", fault, json={"latency_ms": 1500}).is_success
    time.sleep(0.3)
    try:
        for _ in range(20):
            with plane.client() as client, pytest.raises(httpx.ReadTimeout):
                client.post(path_of(SHOP), json=invocation(), timeout=0.2)
            with socket.create_connection(("127.0.0.1", plane.ingress_port)) as upload:
                head = f"POST {path_of(SHOP)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {plane.client_token}\r\n"
                upload.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
    finally:
        assert plane.control("DELETE", fault).is_success

    def unfinished() -> int:
        return plane.port.telemetry(SHOP, since=since, until=now()).releases[release.id].unfinished

    until(lambda: unfinished() >= 20, within_s=20.0, what="the hang-ups are counted")
    seen = plane.port.telemetry(SHOP, since=since, until=now()).releases[release.id]
    assert (seen.errors, seen.client_errors, seen.unfinished) == (0, 0, 20)


def test_a_body_beyond_the_limit_is_refused_before_any_model_server(plane: RealPlane) -> None:
    since = fresh_window()
    with plane.client(**{"content-type": "application/json"}) as client:
        assert client.post(path_of(SHOP), content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413
        chunked = client.post(path_of(SHOP), content=(b" " * 100_000 for _ in range(MAX_BODY_BYTES // 100_000 + 1)))
    assert chunked.status_code == 413
    seen = plane.port.telemetry(SHOP, since=since, until=now()).releases[plane.release(1).id]
    assert (seen.requests, seen.unfinished) == (0, 0)


@pytest.mark.parametrize("api", ["ingress", "control"])
def test_half_a_request_is_not_waited_for(plane: RealPlane, api: str) -> None:
    port = plane.ingress_port if api == "ingress" else plane.control_port
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n")
        half.settimeout(HEADERS_S * 4)
        answered = half.recv(1000)
        while answered and half.recv(1000):
            pass
    assert answered == b"" or answered.startswith(b"HTTP/1.1 408")
