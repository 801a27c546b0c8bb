"""Tokens of the plane: what each grants, on real files, and over the real control API of a plane that runs nothing."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, LedgerUnavailable, NotRecorded
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.plane_observation import PlaneObservation, ReleaseStatus
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.plane.access import MAX_CONTROL_BYTES, ScopedRoute
from airflow_provider_mlpipex.serving.plane.control_api import create_app
from airflow_provider_mlpipex.serving.plane.records import Records
from airflow_provider_mlpipex.serving.plane.tokens import FILES, SCOPES, IngressScope, Scope, TokenFiles
from tests.support.factories import make_release

ENDPOINT = EndpointRef.parse("production/fraud-scorer")
CURRENT, NEW = make_release("1.0.0"), make_release("1.1.0")
BASE = f"/v1/endpoints/{ENDPOINT}"


class RunsCurrent:
    """A supervisor that has one release ready, and says what it was asked to do."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def observe(self, endpoint: EndpointRef) -> PlaneObservation:
        status = ReleaseStatus(release=CURRENT.id, state="ready")
        return PlaneObservation(endpoint=endpoint, releases={CURRENT.id: status}, known={CURRENT.id: CURRENT})

    def kept_releases(self, endpoint: EndpointRef) -> dict[str, Release]:
        return {CURRENT.id: CURRENT}

    def knows_as_good(self, plan: TrafficPlan) -> bool:
        return plan.current == CURRENT.id

    def inject_fault(self, *_: object, record: Callable[[], None] = lambda: None) -> None:
        record()
        self.done.append("inject_fault")

    def __getattr__(self, verb: str) -> Any:
        def act(*_: Any, **__: Any) -> Any:
            self.done.append(verb)
            return ReleaseStatus(release=CURRENT.id, state="ready")

        return act


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFiles:
    return TokenFiles(tmp_path)


def shown(tokens: TokenFiles, scope: Scope) -> bytes:
    return b"Bearer " + tokens.path(scope).read_bytes()


async def ask(
    tokens: TokenFiles, scope: Scope, method: str, path: str, body: object = None, *, records: Records | None = None
) -> tuple[int, list[str]]:
    supervisor = RunsCurrent()
    app: Starlette = create_app(supervisor, tokens=tokens, records=records)  # type: ignore[arg-type]
    headers: Mapping[str, str] = {"authorization": shown(tokens, scope).decode()}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://plane") as client:
        answer = await client.request(method, path, headers=headers, json=body)
    return answer.status_code, supervisor.done


def test_each_scope_has_a_token_of_its_own_that_only_its_owner_reads(tokens: TokenFiles) -> None:
    assert len({tokens.path(scope).read_text() for scope in FILES}) == len(FILES)
    assert {stat.S_IMODE(tokens.path(scope).stat().st_mode) for scope in FILES} == {0o600}
    assert [tokens.holder(shown(tokens, scope)) for scope in SCOPES] == [
        type(tokens.holder(shown(tokens, scope)))(scope)  # type: ignore[misc]
        for scope in SCOPES
    ]


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Basic x", b"\xff\xfe"])
def test_what_is_nobodys_token_is_nobody(tokens: TokenFiles, header: bytes) -> None:
    assert tokens.holder(header) is None


def test_a_rotated_token_is_taken_at_once_and_the_one_before_for_its_grace(tokens: TokenFiles, tmp_path: Path) -> None:
    old, other = shown(tokens, "deploy"), shown(tokens, "read")
    TokenFiles(tmp_path).rotate("deploy", grace_s=0.4)  # as the command does, in another process
    new = shown(tokens, "deploy")
    assert new != old
    assert [holder is not None for holder in (tokens.holder(new), tokens.holder(old))] == [True, True]
    time.sleep(0.5)
    assert (tokens.holder(old), tokens.holder(new) is not None) == (None, True)
    assert TokenFiles(tmp_path).holder(old) is None
    assert tokens.holder(other) is not None, "the other scopes are left alone"


@pytest.mark.parametrize("scope", ["clients", "testers", "batch"])
def test_a_token_of_the_ingress_is_nobodys_at_the_control_api(tokens: TokenFiles, scope: IngressScope) -> None:
    secret = tokens.path(scope).read_text()
    assert tokens.holder(f"Bearer {secret}".encode()) is None
    assert getattr(tokens.ingress(), scope) == (secret,)
    tokens.rotate(scope, grace_s=3600)
    assert getattr(tokens.ingress(), scope) == (tokens.path(scope).read_text(), secret)
    assert secret not in repr(tokens.ingress())
    tokens.rotate(scope, grace_s=0)
    assert getattr(tokens.ingress(), scope) == (tokens.path(scope).read_text(),)


def test_without_grace_the_one_before_is_void(tokens: TokenFiles) -> None:
    old = shown(tokens, "rollback")
    tokens.rotate("rollback", grace_s=0)
    assert tokens.holder(old) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_token_that_others_can_read_or_replace_is_refused(tokens: TokenFiles, tmp_path: Path, mode: int) -> None:
    os.chmod(tokens.path("rollback"), mode)
    with pytest.raises(ConfigurationInvalid, match=f"{mode:04o}.*mlpipex tokens rotate rollback"):
        TokenFiles(tmp_path)


HEAD = {"seq": 1, "hash": "a" * 64}
BACK = TrafficPlan(endpoint=ENDPOINT, current=CURRENT.id).to_json()
UNKNOWN = TrafficPlan(endpoint=ENDPOINT, current=NEW.id).to_json()
TRIAL = TrafficPlan(endpoint=ENDPOINT, current=CURRENT.id, candidate=NEW.id, candidate_weight=500, lease_s=60).to_json()
ENSURE_KNOWN = {"release": CURRENT.to_json(), "timeout_s": 5}
ENSURE_NEW = {"release": NEW.to_json(), "timeout_s": 5}


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [
        ("GET", BASE, None, {"read", "rollback", "deploy", "drill"}),
        ("PUT", f"{BASE}/plan", BACK, {"rollback", "deploy"}),
        ("PUT", f"{BASE}/plan", UNKNOWN, {"deploy"}),
        ("PUT", f"{BASE}/plan", TRIAL, {"deploy"}),
        ("POST", f"{BASE}/lease", {"plan_id": "x"}, {"deploy"}),
        ("PUT", f"{BASE}/ledger-head", {"head": HEAD}, {"rollback", "deploy"}),
        ("POST", f"{BASE}/ledger-head/accepted", {"head": HEAD, "instead_of": HEAD, "reason": "why"}, {"deploy"}),
        ("PUT", f"{BASE}/releases/{CURRENT.id}", ENSURE_KNOWN, {"rollback", "deploy"}),
        ("PUT", f"{BASE}/releases/{NEW.id}", ENSURE_NEW, {"deploy"}),
        ("DELETE", f"{BASE}/releases/{CURRENT.id}", None, {"deploy"}),
        ("PUT", f"{BASE}/releases/{CURRENT.id}/fault", {"error_rate": 1.0}, {"drill"}),
        ("DELETE", f"{BASE}/releases/{CURRENT.id}/fault", None, {"drill"}),
    ],
)
async def test_a_token_does_what_it_is_for_and_nothing_else(
    tokens: TokenFiles, method: str, path: str, body: object, allowed: set[Scope]
) -> None:
    for scope in SCOPES:
        status, done = await ask(tokens, scope, method, path, body)
        if scope in allowed:
            assert status < 300, (scope, status)
        else:
            assert (status, done) == (403, []), scope


class KnowsNothing:
    """A ledger that has recorded nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def require_release(self, endpoint: EndpointRef, release: Release) -> None:
        self.asked.append("release")
        raise NotRecorded(release.id)

    def require_plan(self, plan: TrafficPlan) -> None:
        self.asked.append("plan")
        raise NotRecorded(plan.id)

    def record_fault(
        self, endpoint: EndpointRef, release_id: str, fault: Mapping[str, float] | None, *, by: str
    ) -> None:
        self.asked.append(f"fault {fault} {by}")
        raise LedgerUnavailable(release_id)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{BASE}/plan", UNKNOWN),
        (f"{BASE}/plan", TRIAL),
        (f"{BASE}/releases/{NEW.id}", ENSURE_NEW),
    ],
)
async def test_the_deploy_token_brings_nothing_that_the_ledger_does_not_know(
    tokens: TokenFiles, path: str, body: object
) -> None:
    assert await ask(tokens, "deploy", "PUT", path, body, records=KnowsNothing()) == (409, [])


@pytest.mark.parametrize(("path", "body"), [(f"{BASE}/plan", BACK), (f"{BASE}/releases/{CURRENT.id}", ENSURE_KNOWN)])
async def test_to_take_traffic_back_needs_no_ledger(tokens: TokenFiles, path: str, body: object) -> None:
    records = KnowsNothing()
    status, _ = await ask(tokens, "rollback", "PUT", path, body, records=records)
    assert (status, records.asked) == (200, [])


FAULT = f"{BASE}/releases/{CURRENT.id}/fault"


async def test_a_drill_begins_when_it_is_written_down_and_ends_whether_or_not_it_can_be(tokens: TokenFiles) -> None:
    records = KnowsNothing()
    status, done = await ask(tokens, "drill", "PUT", FAULT, {"error_rate": 1.0}, records=records)
    assert (status, done) == (503, [])
    status, done = await ask(tokens, "drill", "DELETE", FAULT, records=records)
    assert (status, done) == (503, ["inject_fault"])
    assert records.asked == [f"fault {fault} holder of the drill token" for fault in ({"error_rate": 1.0}, None)]


async def test_a_body_in_chunks_is_read_no_further_than_the_limit(tokens: TokenFiles) -> None:
    """It does not say how long it is: six hundred megabytes were taken into memory before they were looked at."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_CONTROL_BYTES:
            sent += 100_000
            yield b" " * 100_000

    app = create_app(RunsCurrent(), tokens=tokens)  # type: ignore[arg-type]
    headers = {"authorization": shown(tokens, "deploy").decode()}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://plane") as client:
        answer = await client.put(f"{BASE}/plan", headers=headers, content=endless())
    assert (answer.status_code, answer.json()["error"]) == (422, "ConfigurationInvalid")
    assert sent <= 2 * MAX_CONTROL_BYTES


async def test_every_route_asks_for_a_scope(tokens: TokenFiles) -> None:
    """A route that somebody forgets to guard would answer whoever holds the least of tokens."""
    app: Starlette = create_app(RunsCurrent(), tokens=tokens)  # type: ignore[arg-type]
    assert {type(route) for route in app.routes} == {ScopedRoute}
