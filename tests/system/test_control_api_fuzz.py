"""Whatever is sent to the control API of a running plane, with a token or without: never a 5xx, a trace or a path.

The document that the plane gives of itself makes the requests (schemathesis), allowed ones and broken ones; Hypothesis
makes those that no document thinks of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.names import EndpointRef
from tests.support.plane import RealPlane, now, real_plane

__all__ = ["real_plane"]

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
ENDPOINT = EndpointRef.parse("production/fuzzed")
JSON = "application/json"
#: Which token file grants a scope.
TOKEN_FILES = {"read": "read-token", "rollback": "rollback-token", "deploy": "token", "drill": "drill-token"}
FUZZ = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plane(real_plane: RealPlane) -> RealPlane:
    """With one endpoint that serves, so that requests get further than to a 404."""
    from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan

    real_plane.ensure(ENDPOINT, 1)
    real_plane.port.apply(TrafficPlan(endpoint=ENDPOINT, current=real_plane.release(1).id))
    return real_plane


@pytest.fixture(scope="module")
def document(plane: RealPlane) -> dict[str, Any]:
    answer = plane.control("GET", "/v1/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


@pytest.fixture(scope="module")
def client(plane: RealPlane) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=plane.control_url, timeout=120) as opened:
        yield opened


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs]


def bearer(plane: RealPlane, document: dict[str, Any], verb: str, path: str) -> dict[str, str]:
    """The token that the document says the operation wants."""
    ((scope,),) = [named["token"] for named in document["paths"][path][verb.lower()]["security"]]
    return {"authorization": f"Bearer {(plane.state_dir / TOKEN_FILES[scope]).read_text().strip()}"}


def harmless(plane: RealPlane, answer: httpx.Response) -> None:
    """The caller's fault, or done; and nothing of this machine in it."""
    assert answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.text[:500]}"
    if answer.status_code < 400:
        return
    for telling in ("Traceback", 'File "', "site-packages", str(ROOT), str(plane.state_dir), "sqlite:///"):
        assert telling not in answer.text, answer.text
    assert re.search(r"(?<![\w/])/(tmp|home|root|usr|var|etc|work)/", answer.text) is None, answer.text


def test_every_route_is_described_and_named_by_its_scope(plane: RealPlane, document: dict[str, Any]) -> None:
    served = {
        ("GET", "/v1/openapi.json"), ("GET", "/v1/health"), ("GET", "/metrics"), ("POST", "/v1/survey"),
        ("GET", "/v1/ledger-heads"),
        *((verb, f"/v1/endpoints/{{environment}}/{{name}}{path}") for verb, path in (
            ("GET", ""), ("PUT", "/plan"), ("GET", "/ledger-head"), ("PUT", "/ledger-head"),
            ("POST", "/ledger-head/accepted"), ("POST", "/lease"), ("GET", "/telemetry"), ("GET", "/comparison"),
            ("POST", "/served"), ("PUT", "/releases/{release}"), ("DELETE", "/releases/{release}"),
            ("GET", "/releases/{release}/predictions"), ("GET", "/releases/{release}/sketches"),
            ("GET", "/releases/{release}/sketches/batches"), ("GET", "/releases/{release}/sketches/faults"),
            ("PUT", "/releases/{release}/fault"),
            ("DELETE", "/releases/{release}/fault"), ("POST", "/rollback"), ("GET", "/status"), ("GET", "/history"),
        )),
    }  # fmt: skip
    assert set(operations(document)) == served


def test_nobody_gets_in_without_a_token(plane: RealPlane, document: dict[str, Any], client: httpx.Client) -> None:
    for verb, path in operations(document):
        address = path.format(environment="production", name="fuzzed", release="x")
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}):
            answer = client.request(verb, address, headers=headers, content=b"{}")
            assert answer.status_code == 401, (verb, address)
            harmless(plane, answer)


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "broken"])
def test_what_the_document_makes_is_never_the_planes_fault(
    plane: RealPlane, document: dict[str, Any], client: httpx.Client, allowed: bool
) -> None:
    import schemathesis
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_dict(document)
    mode = GenerationMode.POSITIVE if allowed else GenerationMode.NEGATIVE
    statuses: dict[tuple[str, str], set[int]] = {}
    for verb, path in operations(document):
        headers = {**bearer(plane, document, verb, path), "content-type": JSON}
        strategy = schema[path][verb].as_strategy(generation_mode=mode)
        statuses[verb, path] = send_all(plane, client, verb, path, headers=headers, cases=strategy)
    refusing = {status for found in statuses.values() for status in found if status >= 400}
    assert refusing, "something of it was refused"
    if allowed:
        assert 200 in statuses["GET", "/v1/endpoints/{environment}/{name}"], "the plane was asked"
    assert plane.control("GET", "/v1/health").json()["status"] == "serving"


def send_all(
    plane: RealPlane, client: httpx.Client, verb: str, path: str, *, headers: dict[str, str], cases: Any
) -> set[int]:
    """What the plane answers to ``cases``; half of them are about the endpoint and the release that it serves."""
    statuses: set[int] = set()
    served = {"environment": ENDPOINT.environment, "name": ENDPOINT.name, "release": plane.release(1).id}

    @FUZZ
    @given(case=cases, here=st.booleans())
    def answered(case: Any, here: bool) -> None:
        named = {str(key): str(value) for key, value in (case.path_parameters or {}).items()} | (served if here else {})
        address = re.sub(r"{(\w+)}", lambda name: quote(named.get(name[1], ""), safe=""), path)
        body = b"" if type(case.body).__name__ == "NotSet" else json.dumps(case.body, default=str).encode()
        answer = client.request(verb, address, params=case.query, content=body, headers=headers)
        statuses.add(answer.status_code)
        harmless(plane, answer)

    answered()
    return statuses


_ODD_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@FUZZ
@given(
    raw=st.binary(max_size=300) | _ODD_JSON.map(lambda value: json.dumps(value).encode()),
    content=st.sampled_from(
        [JSON, "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
    ),
    choice=st.integers(min_value=0),
)
def send_bytes(
    plane: RealPlane, document: dict[str, Any], client: httpx.Client, raw: bytes, content: str, choice: int
) -> None:
    writing = [each for each in operations(document) if each[0] in ("PUT", "POST")]
    verb, path = writing[choice % len(writing)]
    address = path.format(environment=ENDPOINT.environment, name=ENDPOINT.name, release=plane.release(1).id)
    headers = {**bearer(plane, document, verb, path), "content-type": content}
    harmless(plane, client.request(verb, address, content=raw, headers=headers))


@FUZZ
@given(path=st.text(max_size=60), query=st.text(max_size=60), verb=st.sampled_from(["GET", "PUT", "PATCH", "QUERY"]))
def send_address(
    plane: RealPlane, document: dict[str, Any], client: httpx.Client, path: str, query: str, verb: str
) -> None:
    headers = bearer(plane, document, "PUT", "/v1/endpoints/{environment}/{name}/releases/{release}")
    harmless(plane, client.request(verb, f"/v1/endpoints/{quote(path)}?{quote(query)}", headers=headers))


@FUZZ
@given(
    since=st.datetimes().map(str) | st.text(max_size=30) | st.sampled_from(["0001-01-01T00:00:00+14:00"]),
    until=st.sampled_from(["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+00:00", now().isoformat()]),
    limit=st.integers() | st.text(max_size=8),
    choice=st.integers(min_value=0),
)
def send_window(
    plane: RealPlane, document: dict[str, Any], client: httpx.Client, since: str, until: str, limit: Any, choice: int
) -> None:
    """Moments at the ends of what a calendar holds."""
    reading = [each for each in operations(document) if "since" in json.dumps(document["paths"][each[1]])]
    verb, path = reading[choice % len(reading)]
    release = plane.release(1).id
    address = path.format(environment=ENDPOINT.environment, name=ENDPOINT.name, release=release)
    asked = {"since": since, "until": until, "limit": limit, "column": "distance", "primary": release, "psi": 0.2}
    answer = client.request(verb, address, params=asked, headers=bearer(plane, document, verb, path))
    harmless(plane, answer)


@pytest.mark.parametrize("send", [send_bytes, send_address, send_window])
def test_what_no_document_thinks_of_is_the_callers_fault(
    plane: RealPlane, document: dict[str, Any], client: httpx.Client, send: Callable[..., None]
) -> None:
    send(plane, document, client)
