"""Rollback over HTTP: what it does, says, and does not do a second time."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from airflow_provider_mlpipex.domain.errors import RequestInvalid
from airflow_provider_mlpipex.domain.rollout.events import RollbackDecided
from airflow_provider_mlpipex.entrypoints.http_api import routes
from airflow_provider_mlpipex.serving.plane.access import HOLDER
from airflow_provider_mlpipex.serving.plane.tokens import Holder, Scope
from tests.support.rollouts import ENDPOINT, World


@pytest.fixture
def world() -> World:
    """1.1.0 is current, and 1.2.0 waits for its review."""
    world = World()
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.bring("run-3", "1.2.0", to="review")
    return world


class HolderOf:
    """Stands in for the control API, which lets in nobody without a token."""

    def __init__(self, scope: Scope, app: Starlette) -> None:
        self._app, self._holder = app, Holder(scope)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, HOLDER: self._holder}, receive, send)


async def send(world: World, body: Any, query: str = "") -> httpx.Response:
    app = HolderOf("rollback", Starlette(routes=routes(world.platform)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://plane") as client:
        return await client.post(f"/v1/endpoints/{ENDPOINT}/rollback{query}", json=body)


async def post(world: World, **body: Any) -> dict[str, Any]:
    answer = await send(world, body)
    assert answer.status_code == 200
    return dict(answer.json())


@pytest.mark.parametrize(
    ("body", "query", "said"),
    [
        ({"cuase": "x"}, "", "did you mean cause?"),
        ({"Release": "1.0.0"}, "", "did you mean release?"),
        ({"cause": "x", "release_id": "1.0.0"}, "", "did you mean release?"),
        ({"cause": "x", "dry": True}, "", "remove it; nothing was rolled back"),
        ({"cause": "x"}, "?release=1.0.0", "address, field release"),
        ({"cause": 7}, "", "request body, field cause"),
        (["cause"], "", "request body"),
        ("cause", "", "request body"),
    ],
)
async def test_what_it_does_not_know_rolls_nothing_back(world: World, body: Any, query: str, said: str) -> None:
    before = world.state
    with pytest.raises(RequestInvalid) as refusal:
        await send(world, body, query)
    assert said in str(refusal.value)
    assert world.state == before


def ids(world: World) -> tuple[str, str]:
    """Previous and current."""
    state = world.state
    assert state.previous is not None and state.current is not None
    return state.previous.id, state.current.id


async def test_the_release_that_users_have_goes_and_so_does_what_waits(world: World) -> None:
    first, second = ids(world)
    told = await post(world, cause="wrong currency", user="ann")
    assert (told["current"], told["previous"], told["returned_from"]) == (first, None, second)
    assert told["ended"] == {"run-3": "rejected", "run-2": "rolled-back"}
    assert f"{ENDPOINT} serves {first} instead of {second}; held back until" in told["done"]
    assert "; notified: channel risk-pager" in told["done"]
    assert told["notified"] == ["channel risk-pager, receiver 1 of 1 (memory)"]
    assert told["seq"] <= world.state.seq
    (entry,) = [e for e in world.memory.ledger.read(ENDPOINT) if isinstance(e.event, RollbackDecided)]
    user = "holder of the rollback token, who says to be ann"
    assert (entry.origin.kind, entry.origin.user, entry.event.cause) == ("http", user, "wrong currency")


async def test_a_call_whose_answer_was_lost_is_made_again_by_naming_the_release(world: World) -> None:
    first, second = ids(world)
    assert (await post(world, release=second))["current"] == first
    again = await post(world, release=second)
    assert (again["current"], again["ended"], again["returned_from"]) == (first, {}, None)


async def test_one_rollout_alone_is_ended(world: World) -> None:
    _, second = ids(world)
    told = await post(world, rollout="run-3")
    assert (told["current"], told["ended"]) == (second, {"run-3": "rejected"})


async def get(world: World, path: str) -> httpx.Response:
    app = HolderOf("read", Starlette(routes=routes(world.platform)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://plane") as client:
        return await client.get(f"/v1/endpoints/{ENDPOINT}/{path}")


async def test_history_comes_in_pages(world: World) -> None:
    first, second = ids(world)
    assert [tenure["release"] for tenure in (await get(world, "history")).json()] == [first, second]
    (newest,) = (await get(world, "history?last=1")).json()
    assert (newest["release"], newest["until"]) == (second, None)
    (oldest,) = (await get(world, f"history?last=1&before={newest['seq']}")).json()
    assert (oldest["release"], oldest["until"], oldest["ended_by"]) == (first, newest["since"], "promoted")
    assert (await get(world, f"history?before={oldest['seq']}")).json() == []


@pytest.mark.parametrize("query", ["last=0", "last=-1", "last=1001", "last=all", "before=0", "before=٣", "last="])
async def test_a_page_that_cannot_be_meant_is_refused(world: World, query: str) -> None:
    with pytest.raises(RequestInvalid, match=query.partition("=")[0]):
        await get(world, f"history?{query}")


EVIL = "wrong\nserving now: 9.9.9\r\x1b[2J\u202egnp\u2028 \ud83d end"


async def test_what_a_caller_says_is_one_line_wherever_it_stands(world: World) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=HolderOf("rollback", Starlette(routes=routes(world.platform)))),
        base_url="http://plane",
    ) as client:
        sent = json.dumps({"cause": EVIL, "user": f"ceo\n9 promoted {EVIL}"}).encode()
        answer = await client.post(f"/v1/endpoints/{ENDPOINT}/rollback", content=sent)
    assert answer.status_code == 200
    entry = next(e for e in reversed(world.memory.ledger.read(ENDPOINT)) if isinstance(e.event, RollbackDecided))
    clean = "wrong serving now: 9.9.9 \ufffd[2J\ufffdgnp \ufffd end"
    assert entry.event.cause == clean
    assert entry.origin.user == f"holder of the rollback token, who says to be ceo 9 promoted {clean}"
    for alert in world.memory.alerter.sent:
        assert "\x1b" not in alert.body + alert.title and "\n9 promoted" not in alert.body
