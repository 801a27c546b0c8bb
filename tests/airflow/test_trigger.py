"""The trigger: it watches on the triggerer, reverts there by itself, and outlasts a plane that is away."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.serialization.encoders import encode_trigger

from airflow_provider_mlpipex import RolloutTrigger
from airflow_provider_mlpipex.domain.errors import LedgerUnavailable, PlaneUnavailable
from airflow_provider_mlpipex.domain.rollout.events import RollbackDecided
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from airflow_provider_mlpipex.triggers import base
from airflow_provider_mlpipex.triggers import rollout as module
from tests.airflow.release_run import PRODUCTION, ReleaseRun

TASK = {"dag_id": "release__fraud_scorer", "run_id": "run-2", "task_id": "canary_0_watch", "try_number": 1}
DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the scheduler here."""
    monkeypatch.setattr(base, "SETTLE_S", 0.0)


def trigger(**changes: Any) -> RolloutTrigger:
    given: dict[str, Any] = {
        "mlpipex_conn_id": "mlpipex_default",
        "endpoint": str(PRODUCTION),
        "rollout_id": "run-2",
        "stage": "canary",
        "step": 0,
        "poll_interval": 0.001,
        "task": TASK,
    }
    return RolloutTrigger(**{**given, **changes})


async def events(watching: RolloutTrigger) -> list[dict[str, Any]]:
    """Everything that the trigger says until it ends, as it would come out of the database."""
    async with asyncio.timeout(DEADLINE_S):
        return [json.loads(json.dumps(event.payload)) async for event in watching.run()]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def test_the_trigger_comes_back_from_the_database_as_it_was() -> None:
    before = trigger(poll_interval=2.5, give_up_after=30.0)
    written = json.loads(json.dumps(encode_trigger(before)))
    path, kwargs = before.serialize()
    assert path == "airflow_provider_mlpipex.triggers.rollout.RolloutTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert written["classpath"] == path
    again = import_string(path)(**kwargs)
    assert again.serialize() == before.serialize()


async def test_the_trigger_says_when_the_stage_has_passed(second: ReleaseRun) -> None:
    second.to_canary(0)
    second.pass_canary()
    (event,) = await events(trigger())
    assert (event["status"], event["verdict"], event["rollout_id"]) == ("passed", "pass", "run-2")
    assert {result["verdict"] for result in event["results"]} <= {"pass", "inconclusive"}
    assert second.state.rollout is not None


async def test_the_trigger_reverts_by_itself_and_signs_what_it_did(second: ReleaseRun) -> None:
    before = second.current
    second.to_canary(0)
    second.traffic(seconds=5, errors=500)
    (event,) = await events(trigger())
    assert (event["status"], event["verdict"]) == ("ended", "fail")
    assert second.current == before
    plan = second.platform.plane.plan_in_force(PRODUCTION)
    assert plan is not None
    assert plan.weights == {before: 10_000}
    (decided,) = [e for e in second.entries if isinstance(e.event, RollbackDecided)]
    assert decided.origin.model_dump(include={"kind", *TASK}) == {"kind": "trigger", **TASK}
    assert decided.event.cause == event["cause"]
    assert [alert.severity for alert in second.platform.alerter.sent] == ["critical"]


async def test_the_trigger_goes_on_while_the_plane_is_away(second: ReleaseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    second.to_canary(0)
    second.pass_canary()
    looked = count_looks(monkeypatch)
    second.platform.plane.away = True
    watching = asyncio.create_task(events(trigger()))
    await until(lambda: len(looked) >= 3)
    assert not watching.done()
    second.platform.plane.away = False
    (event,) = await watching
    assert event["status"] == "passed"


async def test_the_trigger_gives_up_after_a_while_without_a_single_answer(second: ReleaseRun) -> None:
    second.to_canary(0)
    second.platform.plane.away = True
    (event,) = await events(trigger(give_up_after=0.0))
    assert (event["status"], event["error"], event["rollout_id"]) == ("error", "PlaneUnavailable", "run-2")
    assert event["runbook"] == "plane-unavailable"
    # It gave up looking. What to do about it is for the task to find out from the ledger.
    assert second.state.rollout is not None


async def test_an_answer_between_failures_starts_the_patience_anew(
    second: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures of an hour that are not unbroken are no reason to give up."""
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    answers = iter(["away", "watching", "away", "watching", "away", "passed"])

    def look(*_: Any, **__: Any) -> WatchResult:
        now[0] += 400.0
        answer: Any = next(answers)
        if answer == "away":
            raise PlaneUnavailable("plane", value="away")
        return WatchResult(status=answer)

    monkeypatch.setattr(module, "look", look)
    (event,) = await events(trigger(give_up_after=600.0))
    assert event["status"] == "passed"


async def test_an_error_that_will_not_pass_is_told_at_once(second: ReleaseRun) -> None:
    second.open()  # the canary has not begun
    (event,) = await events(trigger())
    assert (event["status"], event["error"]) == ("error", "IllegalTransition")
    assert event["remedy"]


async def test_a_ledger_that_is_away_is_waited_for(second: ReleaseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    second.to_canary(0)
    second.pass_canary()
    read, failures = second.platform.ledger.read, iter(range(3))

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if next(failures, None) is not None:
            raise LedgerUnavailable("ledger in memory", value="locked")
        return read(*args, **kwargs)

    monkeypatch.setattr(second.platform.ledger, "read", flaky)
    (event,) = await events(trigger())
    assert event["status"] == "passed"


async def test_news_waits_until_the_worker_has_left_but_a_revert_does_not(
    second: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    second.to_canary(0)
    second.traffic(seconds=5, errors=500)
    monkeypatch.setattr(base, "SETTLE_S", 3.0)
    slept: list[tuple[float, bool]] = []
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        slept.append((seconds, second.state.rollout is None))
        await sleep(0)

    monkeypatch.setattr(module.asyncio, "sleep", recorded)
    assert [event["status"] for event in await events(trigger())] == ["ended"]
    (poll, reverted_before), (rest, reverted_then) = slept
    assert (poll, reverted_before, reverted_then) == (0.001, False, True)
    assert 0.0 < rest <= 3.0


async def test_a_triggerer_that_restarts_reverts_nothing_and_the_next_one_goes_on(
    second: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    second.to_canary(0)
    looked = count_looks(monkeypatch)
    first_one = trigger()
    watching = asyncio.create_task(events(first_one))
    await until(lambda: len(looked) >= 2)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    await first_one.cleanup()
    assert second.state.rollout is not None
    assert second.state.rollback is None
    second.pass_canary()
    path, kwargs = first_one.serialize()
    (event,) = await events(import_string(path)(**kwargs))
    assert event["status"] == "passed"


async def test_hundreds_share_one_triggerer(second: ReleaseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    second.to_canary(0)
    looked = count_looks(monkeypatch)
    many = [asyncio.create_task(events(trigger(poll_interval=0.05))) for _ in range(300)]
    await until(lambda: len(looked) >= 600)
    assert not any(one.done() for one in many)
    second.pass_canary()
    told = await asyncio.gather(*many)
    assert [event["status"] for (event,) in told] == ["passed"] * 300
    assert second.state.rollout is not None
    assert second.state.rollout.verdicts["canary-0"] == "pass"


async def test_planes_that_hang_do_not_keep_others_from_being_looked_at(
    second: ReleaseRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    second.to_canary(0)
    second.pass_canary()
    look, released, hanging = module.look, threading.Event(), threading.Semaphore(0)

    def maybe_hang(*args: Any, rollout_id: str, **kwargs: Any) -> WatchResult:
        if rollout_id == "hangs":
            hanging.release()
            released.wait(DEADLINE_S)
            return WatchResult(status="ended")
        return look(*args, rollout_id=rollout_id, **kwargs)

    monkeypatch.setattr(module, "look", maybe_hang)
    stuck = [asyncio.create_task(events(trigger(rollout_id="hangs"))) for _ in range(20)]
    try:
        for _ in stuck:
            assert await asyncio.to_thread(hanging.acquire, timeout=DEADLINE_S)
        (event,) = await events(trigger())
        assert event["status"] == "passed"
        assert not any(one.done() for one in stuck)
    finally:
        released.set()
        await asyncio.gather(*stuck)


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows by one with every look that was begun."""
    looked: list[None] = []
    look = module.look

    def counted(*args: Any, **kwargs: Any) -> WatchResult:
        looked.append(None)
        return look(*args, **kwargs)

    monkeypatch.setattr(module, "look", counted)
    return looked
