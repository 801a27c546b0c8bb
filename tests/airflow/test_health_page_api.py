"""The API of the health page inside Airflow's api-server: what it answers and does, over fakes of every port."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_provider_mlpipex.domain.errors import ReleaseNotReady
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.rollout.events import RollbackDecided
from airflow_provider_mlpipex.services.rollout import drill as drills
from airflow_provider_mlpipex.testing import use_platform
from tests.support.api_server import API, client_of
from tests.support.rollouts import ENDPOINT, World

HERE = f"{API}/endpoints/{ENDPOINT}"


@pytest.fixture
def world() -> Any:
    """An endpoint, and every request of the API reaches its platform."""
    played = World()
    with use_platform(played.memory):
        yield played


@pytest.fixture
def served(world: World) -> World:
    """Two releases, one after the other, and the second serves."""
    world.bring("scheduled__2026-03-01T12:00:00+00:00", "1.0.0", to="promoted")
    world.bring("manual/run + 2", "1.1.0", to="promoted")
    world.clock.advance(600)
    world.serve(60)
    world.clock.advance(1)
    return world


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Another person in each test, since nobody may write too often."""
    return f"ada of {request.node.name}"


@pytest.fixture
def person(airflow_db: None, name: str) -> TestClient:
    """Who may run the rollback Dag, in a browser."""
    return client_of("user", cookie=True, user=name)


def post(client: TestClient, verb: str, *, key: str = "first-request", **body: Any) -> Any:
    return client.post(f"{HERE}/{verb}", json=body, headers={"idempotency-key": key})


def test_a_fleet_says_what_serves_and_whether_a_rollback_would_work(served: World, person: TestClient) -> None:
    page = person.get(f"{API}/fleet").json()
    (row,) = page["items"]
    state = served.state
    assert (page["total"], page["plane"]) == (1, {"reachable": True, "why_not": None})
    assert row["endpoint"] == str(ENDPOINT)
    assert row["release"] == state.current.id
    assert row["traffic"] == [{"release": state.current.id, "share": 1.0, "role": "current"}]
    assert row["health"]["state"] == "ok"
    assert row["health"]["requests"] == 600
    assert row["health"]["error_rate"] == 0
    assert row["readiness"] == {"lamp": "green", "reason": None}
    assert (row["rollout"], row["attention"], row["diverged"]) == (None, [], False)


def test_a_plane_that_is_away_is_an_ordinary_state(served: World, person: TestClient) -> None:
    served.memory.plane.away = True
    page = person.get(f"{API}/fleet").json()
    (row,) = page["items"]
    assert page["plane"]["reachable"] is False
    assert row["health"]["state"] == "unmeasured"
    assert row["readiness"]["lamp"] == "red"
    assert "serving plane" in row["readiness"]["reason"]
    whole = person.get(HERE).json()
    assert whole["plane_error"] and whole["current"]["on_plane"] is None
    assert whole["rollback"]["takes"] == served.state.current.id


def test_an_empty_ledger_is_an_empty_fleet(world: World, person: TestClient) -> None:
    assert person.get(f"{API}/fleet").json()["items"] == []


@pytest.mark.parametrize(
    ("break_it", "lamp", "reason"),
    [
        (lambda world, state: None, "green", None),
        (
            lambda world, state: world.memory.plane.break_release(state.previous.id, ReleaseNotReady("server")),
            "red",
            "is cold",
        ),
        (lambda world, state: world.memory.plane.retire(ENDPOINT, state.previous.id), "red", "is gone from the plane"),
    ],
)
def test_the_lamp_is_red_where_the_previous_release_is_cold_or_gone(
    served: World, person: TestClient, break_it: Any, lamp: str, reason: str | None
) -> None:
    break_it(served, served.state)
    for found in (person.get(f"{API}/fleet").json()["items"][0]["readiness"], person.get(HERE).json()["readiness"]):
        assert found["lamp"] == lamp
        assert found["reason"] is None if reason is None else reason in found["reason"]


def test_nothing_to_return_to_yet_is_no_alarm_and_after_a_rollback_it_is(world: World, person: TestClient) -> None:
    world.bring("run-1", "1.0.0", to="promoted")
    assert person.get(HERE).json()["readiness"]["lamp"] == "none"
    world.bring("run-2", "1.1.0", to="promoted")
    world.roll_back("bad")
    found = person.get(HERE).json()
    assert found["readiness"]["lamp"] == "red"
    assert "nothing to return to" in found["readiness"]["reason"]
    assert found["rollback"]["possible"] is False and found["rollback"]["why_not"]


def test_an_endpoint_shows_what_a_rollback_would_change(served: World, person: TestClient) -> None:
    found = person.get(HERE).json()
    state = served.state
    assert found["rollback"]["takes"] == state.current.id
    assert found["rollback"]["returns_to"] == state.previous.id
    changes = {change["kind"]: change for change in found["rollback"]["changes"]}
    assert changes["model"]["before"].startswith("1.1.0 (") and changes["model"]["after"].startswith("1.0.0 (")


def test_a_rollback_by_click_moves_all_traffic_and_says_so(served: World, person: TestClient, name: str) -> None:
    before = served.state
    told = post(person, "rollback", reason="wrong scores", release=before.current.id)
    assert told.status_code == 200, told.text
    answer = told.json()
    assert answer["current"] == before.previous.id == served.state.current.id
    assert answer["traffic"] == [{"release": before.previous.id, "share": 1.0, "role": "current"}]
    assert answer["confirmed"] is True and answer["repeated"] is False
    assert answer["took_ms"] >= 0 and answer["acknowledged_ms"] == 0.0
    assert served.memory.plane.plan_in_force(ENDPOINT).weights == {before.previous.id: 10_000}
    assert answer["held_back"] and person.get(HERE).json()["row"]["held_back"]["by"] == name
    decided = served.memory.ledger.read(ENDPOINT, types=("rollback-decided",), newest_first=True, limit=1)[0]
    assert isinstance(decided.event, RollbackDecided) and decided.event.cause == "wrong scores"
    assert (decided.origin.kind, decided.origin.user, decided.origin.request) == ("http", name, "first-request")


def test_the_same_request_again_takes_nothing_else_away(served: World, person: TestClient) -> None:
    first = post(person, "rollback", reason="wrong scores", hold=False).json()
    served.bring("run-3", "1.2.0", to="promoted")
    again = post(person, "rollback", reason="wrong scores", hold=False).json()
    assert again["repeated"] is True
    assert again["notified"] == first["notified"]
    assert served.state.current.model.version == "1.2.0"
    assert post(person, "rollback", reason="something else").status_code == 422


def test_a_stale_page_takes_no_other_release_away(served: World, person: TestClient) -> None:
    stale = served.state.current.id
    served.bring("run-3", "1.2.0", to="promoted")
    told = post(person, "rollback", reason="wrong scores", release=stale).json()
    assert told["returned_from"] is None
    assert served.state.current.model.version == "1.2.0"


def test_a_rollback_needs_neither_registry_nor_anything_of_a_dag(served: World, person: TestClient) -> None:
    served.memory.registry.get = None  # type: ignore[assignment]
    assert post(person, "rollback", reason="wrong scores").status_code == 200


def test_hold_and_resume_an_endpoint(served: World, person: TestClient, name: str) -> None:
    held = post(person, "hold", reason="freeze before the holidays").json()
    assert held["row"]["held_back"]["sentence"].startswith(f"{name} holds back all releases since")
    assert post(person, "resume", reason="holidays are over").json()["row"]["held_back"] is None


def test_hold_resume_and_abort_a_rollout(served: World, person: TestClient) -> None:
    run = "manual__2026-03-02T00:00:00+00:00/x"
    served.bring(run, "1.2.0", to="canary-0")
    row = post(person, "hold", reason="let me look", rollout=run).json()["row"]
    assert row["rollout"]["on_hold"] and row["rollout"]["hold_cause"] == "let me look"
    assert not post(person, "resume", reason="looks fine", rollout=run).json()["row"]["rollout"]["on_hold"]
    ended = post(person, "abort", reason="wrong branch", rollout=run).json()
    assert ended["ended"] == {run: "rolled-back"}
    assert served.state.rollout is None
    assert post(person, "abort", reason="wrong branch", rollout=run, key="second-request").status_code == 404


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("rollback", {"reason": "x"}),
        ("rollback", {}),
        ("rollback", {"reason": "wrong scores", "relase": "1.0.0"}),
        ("rollback", {"reason": "wrong scores", "user": "somebody else"}),
        ("hold", {"reason": "y" * 501}),
        ("resume", {"reason": "fine by me", "accept": True}),
    ],
)
def test_a_body_that_cannot_be_meant_is_refused(served: World, person: TestClient, verb: str, body: Any) -> None:
    seq = served.state.seq
    refused = post(person, verb, **body)
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert served.state.seq == seq


def test_an_error_carries_value_limit_remedy_and_runbook(world: World, person: TestClient) -> None:
    world.bring("run-1", "1.0.0", to="promoted")
    refused = post(person, "rollback", reason="wrong scores")
    problem = refused.json()
    assert (refused.status_code, problem["status"], problem["error"]) == (409, 409, "IllegalTransition")
    assert problem["limit"] == "there is no previous release to return to"
    assert problem["runbook"] == "illegal-transition" and problem["type"].endswith("/illegal-transition.md")
    unknown = person.get(f"{API}/endpoints/production/fraud-scorre")
    assert unknown.status_code == 404 and f"did you mean {ENDPOINT}" in unknown.json()["remedy"]


def test_a_page_of_the_fleet_is_searched_sorted_and_cut(served: World, person: TestClient) -> None:
    found = lambda **asked: person.get(f"{API}/fleet", params=asked).json()  # noqa: E731
    assert found(q="FRAUD 1.1.0")["total"] == 1
    assert found(q="nobody")["total"] == 0
    assert found(environment="staging")["total"] == 0
    assert found(attention=True)["total"] == 0
    assert found(offset=1)["items"] == [] and found(offset=1)["total"] == 1
    assert person.get(f"{API}/fleet", params={"limit": 100_000}).status_code == 422


def test_what_has_not_changed_is_not_sent_again(served: World, person: TestClient) -> None:
    first = person.get(HERE)
    again = person.get(HERE, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    post(person, "rollback", reason="wrong scores")
    assert person.get(HERE, headers={"if-none-match": first.headers["etag"]}).status_code == 200


@pytest.fixture
def drilled() -> Any:
    """Two releases under a manifest that allows drills, and nobody waits while one is under way."""
    raw = World().manifest.to_json()
    raw["environments"]["production"]["drills"] = {"allowed": True, "every": "30d"}
    world = World(manifest=Manifest.model_validate(raw))
    with use_platform(world.memory):
        world.bring("run-1", "1.0.0", to="promoted")
        world.bring("run-2", "1.1.0", to="promoted")
        yield world


def test_a_drill_by_click_turns_the_lamp_green(
    drilled: World, person: TestClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "drill", partial(drills.drill, wait=drilled.clock.advance))
    before = person.get(f"{HERE}/readiness").json()
    assert (before["lamp"], before["last_drill"]) == ("red", None) and "never drilled" in before["reason"]
    current, previous = drilled.state.current, drilled.state.previous
    assert current and previous
    ended = post(person, "drill", reason="Tuesday").json()
    assert (ended["ok"], ended["from_release"], ended["to_release"]) == (True, current.id, previous.id)
    assert ended["by"] == name and ended["back_ms"] is not None and ended["forth_ms"] is not None
    found = person.get(HERE).json()
    assert (found["readiness"]["lamp"], found["readiness"]["last_drill"]["seq"]) == ("green", ended["seq"])
    assert post(person, "drill", reason="Tuesday").json()["seq"] == ended["seq"], "the same request drills once"
    assert [each["seq"] for each in person.get(f"{HERE}/drills").json()["items"]] == [ended["seq"]]
    assert drilled.weights == {current.id: 10_000}


def test_where_the_manifest_does_not_allow_it_nobody_drills(served: World, person: TestClient) -> None:
    may = person.get(HERE).json()["may"]
    assert may["drill"] is False and "environments.production.drills.allowed: true" in may["why_not_drill"]
    refused = post(person, "drill", reason="Tuesday")
    assert (refused.status_code, refused.json()["error"]) == (403, "NotPermitted")


def test_there_is_no_drill_beside_a_rollout(drilled: World, person: TestClient) -> None:
    assert person.get(HERE).json()["may"] == {"drill": True, "why_not_drill": None}
    drilled.bring("run-3", "1.2.0", to="canary-0")
    assert "rollout run-3 moves its traffic" in person.get(HERE).json()["may"]["why_not_drill"]
    assert post(person, "drill", reason="Tuesday").status_code == 409
