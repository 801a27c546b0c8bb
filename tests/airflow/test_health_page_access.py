"""Who may do what at the health page's API: Airflow's own app, its own auth manager, each role, and other sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import Mount

from airflow_provider_mlpipex.domain.errors import TooManyRequests
from airflow_provider_mlpipex.plugins.api.access import WRITES, WRITES_WITHIN_S, WriteLimit
from airflow_provider_mlpipex.plugins.mlpipex_plugin import MlpipexPlugin
from airflow_provider_mlpipex.testing import use_platform
from tests.support.api_server import API, ORIGIN, api_server, client_of, token_of
from tests.support.rollouts import ENDPOINT, World

HERE = f"{API}/endpoints/{ENDPOINT}"
ROLLBACK = {"reason": "wrong scores"}
KEY = {"idempotency-key": "first-request"}


@pytest.fixture
def served(airflow_db: None) -> Any:
    world = World()
    with use_platform(world.memory):
        world.bring("run-1", "1.0.0", to="promoted")
        world.bring("run-2", "1.1.0", to="promoted")
        yield world


def routes() -> list[tuple[str, str]]:
    """Method and path of every route of ours, of this endpoint."""
    (app,) = [route.app for route in api_server().routes if isinstance(route, Mount) and route.path == "/mlpipex"]
    return [
        (method, f"/mlpipex{route.path}".replace("{environment}/{name}", str(ENDPOINT)))
        for route in app.routes  # type: ignore[attr-defined]
        if isinstance(route, APIRoute)
        for method in sorted(route.methods)
    ]


@pytest.mark.parametrize("role", [None, "viewer", "user", "op", "admin"])
@pytest.mark.parametrize("cookie", [False, True])
def test_each_role_reads_and_rolls_back_as_it_may(served: World, role: str | None, cookie: bool) -> None:
    client = client_of(role, cookie=cookie)
    expected = {None: (401, 401), "viewer": (200, 403)}.get(role, (200, 200))
    read = client.get(HERE)
    written = client.post(f"{HERE}/rollback", json=ROLLBACK, headers=KEY)
    assert (read.status_code, written.status_code) == expected
    assert (served.state.current.model.version == "1.0.0") == (expected[1] == 200)
    for refused in (each for each in (read, written) if each.status_code != 200):
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["runbook"] == "not-authorised"


def test_no_route_answers_who_is_not_logged_in(served: World) -> None:
    anonymous, known = client_of(None), routes()
    assert len(known) > 8
    for method, path in known:
        headers = {**KEY, "origin": ORIGIN, "sec-fetch-site": "same-origin"}
        body = {"json": {}} if method == "POST" else {}
        assert anonymous.request(method, path, headers=headers, **body).status_code == 401, (method, path)


def test_a_viewer_reads_everything_and_changes_nothing(served: World) -> None:
    """Held by the list of routes itself: one that is added is held to it as well. Customers' rows are not among what
    a viewer reads."""
    viewer, seq = client_of("viewer", cookie=True), served.state.seq
    for method, path in routes():
        assert method in ("GET", "POST"), (method, path)
        if method == "POST":
            assert viewer.post(path, json={}, headers=KEY).status_code == 403, path
        else:
            expected = (403,) if path.endswith("/rows") else (200, 404, 422)
            assert viewer.get(path).status_code in expected, path
    assert served.state.seq == seq


@pytest.mark.parametrize("token", ["", "nonsense", "eyJhbGciOiJub25lIn0.e30."])
def test_a_token_that_is_none_is_refused(served: World, token: str) -> None:
    client = client_of(None)
    client.cookies.set("_token", token)
    assert client.get(HERE).status_code in (401, 403)
    assert client_of(None).get(HERE, headers={"authorization": f"Bearer {token}"}).status_code in (401, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"{ORIGIN}.evil.example"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example", "authorization": "Basic dTpw"},
        {"origin": "https://evil.example", "authorization": "Bearer "},
    ],
)
@pytest.mark.parametrize("verb", ["rollback", "hold", "resume", "abort", "confirm"])
def test_no_other_site_changes_anything_with_a_users_cookie(served: World, headers: dict[str, str], verb: str) -> None:
    client, seq = client_of("admin", cookie=True), served.state.seq
    refused = client.post(f"{HERE}/{verb}", json=ROLLBACK, headers={**KEY, **headers})
    assert refused.status_code == 403 and refused.json()["error"] == "NotPermitted"
    assert served.state.seq == seq


def test_a_script_with_a_token_needs_no_origin(served: World) -> None:
    assert client_of("user").post(f"{HERE}/rollback", json=ROLLBACK, headers=KEY).status_code == 200


def test_behind_a_proxy_the_configured_address_is_ones_own(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of("user", cookie=True)
    outside = {**KEY, "origin": "https://airflow.example.com"}
    assert client.post(f"{HERE}/hold", json=ROLLBACK, headers=outside).status_code == 403
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team-a")
    assert client.post(f"{HERE}/hold", json=ROLLBACK, headers=outside).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_of_any_site_could_send_is_refused(served: World, kind: str) -> None:
    client, seq = client_of("admin", cookie=True), served.state.seq
    told = client.post(f"{HERE}/hold", content='{"reason": "wrong scores"}', headers={**KEY, "content-type": kind})
    assert told.status_code == 422
    assert served.state.seq == seq


def test_nothing_is_changed_by_a_get(served: World) -> None:
    client, seq = client_of("admin", cookie=True), served.state.seq
    for verb in ("rollback", "hold", "resume", "abort", "confirm", "drill"):
        assert client.get(f"{HERE}/{verb}").status_code in (404, 405)
    assert served.state.seq == seq


def test_a_body_of_no_stated_or_of_huge_length_is_not_read(served: World) -> None:
    client = client_of("admin", cookie=True)
    assert client.post(f"{HERE}/hold", json={"reason": "x" * 20_000}, headers=KEY).status_code == 413

    def endless() -> Any:
        yield b'{"reason": "'
        yield b"x" * 100

    json_kind = {"content-type": "application/json"}
    assert client.post(f"{HERE}/hold", content=endless(), headers={**KEY, **json_kind}).status_code == 413


def test_who_acts_is_who_is_logged_in_whatever_the_body_says(served: World) -> None:
    client = client_of("user", cookie=True, user="ada")
    assert client.post(f"{HERE}/hold", json={**ROLLBACK, "by": "bob"}, headers=KEY).status_code == 422
    client.post(f"{HERE}/hold", json=ROLLBACK, headers={**KEY, "x-forwarded-user": "bob"})
    held = served.state.held_back
    assert held is not None and held.by == "ada"
    assert served.memory.ledger.read(ENDPOINT)[-1].origin.user == "ada"


def test_every_answer_may_be_framed_by_airflow_alone(served: World) -> None:
    viewer = client_of("viewer")
    for answer in (viewer.get(HERE), client_of(None).get(HERE), viewer.get("/mlpipex/static/nothing.js")):
        assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_api_describes_itself_to_those_who_may_read_it(served: World) -> None:
    assert client_of(None).get(f"{API}/openapi.json").status_code == 401
    described = client_of("viewer").get(f"{API}/openapi.json").json()["paths"]
    assert "/api/v1/endpoints/{environment}/{name}/rollback" in described
    for path in ("/docs", "/openapi.json", "/redoc"):
        assert client_of("admin").get(f"/mlpipex{path}").status_code == 404


def test_an_error_that_nobody_expected_says_no_more_than_its_kind(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks() -> None:
        raise ValueError("row 7 of the customer")

    monkeypatch.setattr(served.memory.ledger, "summaries", breaks)
    broken = client_of("viewer").get(f"{API}/fleet")
    assert (broken.status_code, broken.headers["content-type"]) == (500, "application/problem+json")
    assert broken.json()["value"] == "ValueError" and "customer" not in broken.text


def test_one_user_writes_no_faster_than_a_person_and_keeps_nobody_else_waiting() -> None:
    limit = WriteLimit()
    for _ in range(WRITES):
        limit.count("ada", now=100.0)
    with pytest.raises(TooManyRequests) as refused:
        limit.count("ada", now=110.0)
    assert refused.value.wait_s == WRITES_WITHIN_S - 10
    limit.count("bob", now=110.0)
    limit.count("ada", now=100.0 + WRITES_WITHIN_S)


def test_who_writes_too_fast_is_told_when_to_come_back(served: World) -> None:
    client = client_of("user", cookie=True, user="script")
    told = [client.post(f"{HERE}/resume", json=ROLLBACK, headers=KEY) for _ in range(WRITES + 1)]
    assert [each.status_code for each in told] == [200] * WRITES + [429]
    assert 1 <= int(told[-1].headers["retry-after"]) <= WRITES_WITHIN_S


def test_the_page_is_one_bundle_below_the_base_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team-a/")
    nav, tab = MlpipexPlugin().react_apps
    assert nav["bundle_url"].startswith("/team-a/mlpipex/static/main.js?v=")
    assert (nav["name"], nav["destination"], tab["destination"]) == ("Models", "nav", "dag_run")
    assert nav["bundle_url"] == tab["bundle_url"] and nav["url_route"] != tab["url_route"]


def test_airflow_itself_lists_the_page(served: World) -> None:
    menu = TestClient(api_server(), base_url=ORIGIN).get(
        "/api/v2/plugins", headers={"authorization": f"Bearer {token_of('admin')}"}
    )
    (plugin,) = [each for each in menu.json()["plugins"] if each["name"] == "mlpipex"]
    assert {app["destination"] for app in plugin["react_apps"]} == {"nav", "dag_run"}
    assert [app["url_prefix"] for app in plugin["fastapi_apps"]] == ["/mlpipex"]


def test_a_connection_that_is_not_there_is_named_with_what_to_do(
    airflow_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MLPIPEX__CONN_ID", "nobody_made_it")
    refused = client_of("viewer").get(f"{API}/fleet")
    assert (refused.status_code, refused.json()["error"]) == (503, "ConfigurationInvalid")
    assert refused.json()["value"] == "nobody_made_it" and "[mlpipex] conn_id" in refused.json()["remedy"]


def test_a_connection_of_airflows_database_is_used_as_the_api_server_uses_it(
    airflow_db: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow.models import Connection
    from airflow.utils.session import create_session

    stored = Connection(conn_id="of_a_team", conn_type="mlpipex", host="127.0.0.1", port=9, password="not-a-secret")
    stored.set_extra(json.dumps({"ledger_url": f"sqlite:///{tmp_path}/nothing-yet.db"}))
    with create_session() as session:
        session.add(stored)
    monkeypatch.setenv("AIRFLOW__MLPIPEX__CONN_ID", "of_a_team")
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    page = client_of("viewer").get(f"{API}/fleet").json()
    assert page["items"] == [] and page["plane"]["reachable"] is False
    assert "127.0.0.1:9" in page["plane"]["why_not"]
    assert not (tmp_path / "nothing-yet.db").exists(), "who only looks makes no ledger"
