"""Whatever a client sends to the ingress: never a 5xx, nothing of this machine, and nothing that blames the release.

The document that the endpoint gives of itself makes the requests (schemathesis), allowed ones and broken ones;
Hypothesis makes those that no document thinks of.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from tests.support.plane import RealPlane, fresh_window, invocation, now, path_of, real_plane
from tests.support.polling import until

__all__ = ["real_plane"]

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
ENDPOINT = EndpointRef.parse("production/fuzzed")
JSON = "application/json"
DOCUMENT = f"/endpoints/{ENDPOINT}/openapi.json"
FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
ROOT = Path(__file__).parents[2]


class Fuzzed:
    """An endpoint in a canary, where what is refused is asked of two releases."""

    def __init__(self, plane: RealPlane) -> None:
        self.plane = plane
        self.releases = plane.release(1).id, plane.release(2).id
        self.since: datetime = fresh_window()
        self.statuses: set[int] = set()

    def send(self, client: httpx.Client, method: str, path: str, **sent: Any) -> None:
        try:
            answer = client.request(method, path, **sent)
        except (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeEncodeError, ValueError):
            return  # what HTTP cannot say was not sent
        self.statuses.add(answer.status_code)
        assert answer.status_code < 500, f"{method} {path}: {answer.text[:500]}"
        for telling in ("Traceback", 'File "', "site-packages", str(ROOT), str(self.plane.state_dir), ".sock"):
            assert telling not in answer.text, answer.text[:500]

    def errors(self) -> dict[str, tuple[int, int]]:
        """Release -> what it is blamed for, and how often its process had to be started again."""
        seen = self.plane.port.telemetry(ENDPOINT, since=self.since, until=now() + timedelta(seconds=5))
        running = self.plane.port.observe(ENDPOINT).releases
        return {name: (seen.releases[name].errors, running[name].restarts) for name in self.releases}


@pytest.fixture(scope="module")
def fuzzed(real_plane: RealPlane) -> Fuzzed:
    real_plane.ensure(ENDPOINT, 1, 2)
    current, candidate = real_plane.release(1).id, real_plane.release(2).id
    plan = TrafficPlan(
        endpoint=ENDPOINT, current=current, candidate=candidate, candidate_weight=5_000, lease_s=3600, timeout_s=60
    )
    real_plane.port.apply(plan)
    return Fuzzed(real_plane)


@pytest.fixture(scope="module")
def client(fuzzed: Fuzzed) -> Iterator[httpx.Client]:
    with fuzzed.plane.client() as opened:
        yield opened


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "broken"])
def test_what_the_endpoints_document_makes(fuzzed: Fuzzed, client: httpx.Client, allowed: bool) -> None:
    import schemathesis
    from schemathesis import GenerationMode

    document = client.get(DOCUMENT).json()
    ((path, verbs),) = [(path, verbs) for path, verbs in document["paths"].items() if "post" in verbs]
    mode = GenerationMode.POSITIVE if allowed else GenerationMode.NEGATIVE
    cases = schemathesis.openapi.from_dict(document)[path]["POST"].as_strategy(generation_mode=mode)
    fuzzed.statuses.clear()

    @FUZZ
    @given(case=cases)
    def answered(case: Any) -> None:
        is_none = type(case.body).__name__ == "NotSet"
        body = b"" if is_none else case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
        kind = str(case.media_type or JSON)
        fuzzed.send(client, "POST", path_of(ENDPOINT), content=body, headers={"content-type": kind})

    answered()
    assert fuzzed.statuses & ({200} if allowed else set(range(400, 500)))


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_KINDS = [JSON, f"{JSON}; charset=utf-8", "text/csv", "application/x-parquet", "multipart/form-data; boundary=x", ""]
_COLUMNS = st.lists(st.sampled_from(["distance", "hour", "carrier", "x"]) | _VALUES, max_size=4)


@FUZZ
@given(raw=st.binary(max_size=300) | _VALUES.map(lambda v: json.dumps(v).encode()), kind=st.sampled_from(_KINDS))
def send_bytes(fuzzed: Fuzzed, client: httpx.Client, raw: bytes, kind: str) -> None:
    fuzzed.send(client, "POST", path_of(ENDPOINT), content=raw, headers={"content-type": kind})


@FUZZ
@given(columns=_COLUMNS, rows=st.lists(st.lists(_VALUES, max_size=4), max_size=3), more=_VALUES)
def send_rows(fuzzed: Fuzzed, client: httpx.Client, columns: list[Any], rows: list[Any], more: Any) -> None:
    body = json.dumps({"dataframe_split": {"columns": columns, "data": rows}, "params": more}).encode()
    fuzzed.send(client, "POST", path_of(ENDPOINT), content=body, headers={"content-type": JSON})


@FUZZ
@given(
    name=st.sampled_from(["x-request-id", "x-user-id", "x-mlpipex-trial", "x-envoy-attempt-count", "x-mlpipex-unit",
                          "x-mlpipex-fault", "x-mlpipex-classes", "host", "traceparent", "accept", "expect"])
    | st.from_regex(re.compile(r"x-[a-z-]{1,20}"), fullmatch=True),
    value=st.text(st.characters(max_codepoint=255, exclude_categories=("Cc",)), max_size=200),
)  # fmt: skip
def send_headers(fuzzed: Fuzzed, client: httpx.Client, name: str, value: str) -> None:
    headers = {"content-type": JSON, name: value.encode("latin-1")}
    fuzzed.send(client, "POST", path_of(ENDPOINT), json=invocation(), headers=headers)


@FUZZ
@given(path=st.text(max_size=60), verb=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY"]))
def send_address(fuzzed: Fuzzed, client: httpx.Client, path: str, verb: str) -> None:
    fuzzed.send(client, verb, f"/endpoints/{path}")
    fuzzed.send(client, verb, path_of(ENDPOINT), params={"q": path})


@FUZZ
@given(raw=st.binary(min_size=1, max_size=300))
def send_no_http(fuzzed: Fuzzed, client: httpx.Client, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", fuzzed.plane.ingress_port), timeout=10) as connection:
        connection.sendall(raw)


@pytest.mark.parametrize("send", [send_bytes, send_rows, send_headers, send_address, send_no_http])
def test_what_no_document_thinks_of(fuzzed: Fuzzed, client: httpx.Client, send: Callable[..., None]) -> None:
    send(fuzzed, client)
    assert client.post(path_of(ENDPOINT), json=invocation()).status_code == 200


def test_no_release_is_blamed_for_any_of_it(fuzzed: Fuzzed, client: httpx.Client) -> None:
    answers = [client.post(path_of(ENDPOINT), json=invocation()) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    until(lambda: len(fuzzed.errors()) == 2, within_s=30, what="both releases are counted")
    assert set(fuzzed.errors().values()) == {(0, 0)}
