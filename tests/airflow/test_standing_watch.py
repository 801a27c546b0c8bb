"""The standing watch as a task: it defers at once, watches on the triggerer, and the next run takes over."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskDeferred
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval

from airflow_provider_mlpipex import StandingWatchOperator, StandingWatchTrigger
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, PlaneUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import EndpointUnhealthy, StageEnded
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services.rollout import standing_watch
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from airflow_provider_mlpipex.testing import MemoryPlatform, run_dag
from airflow_provider_mlpipex.triggers import base
from airflow_provider_mlpipex.triggers import standing_watch as module
from tests.airflow.release_run import PRODUCTION, ReleaseRun
from tests.support.airflow_home import DAGS

TASK = {"dag_id": "watch", "run_id": "run-1", "task_id": "endpoints", "try_number": 1}
DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the scheduler here."""
    monkeypatch.setattr(base, "SETTLE_S", 0.0)


def trigger(platform: MemoryPlatform, **changes: Any) -> StandingWatchTrigger:
    given: dict[str, Any] = {
        "mlpipex_conn_id": "mlpipex_default",
        "until": (platform.clock.now() + timedelta(hours=1)).isoformat(),
        "poll_interval": 0.001,
        "task": TASK,
    }
    return StandingWatchTrigger(**{**given, **changes})


async def ended(watching: StandingWatchTrigger) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        events = [json.loads(json.dumps(event.payload)) async for event in watching.run()]
    (event,) = events
    return event


async def until(holds: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


@pytest.fixture
def unhealthy(first: ReleaseRun) -> ReleaseRun:
    """A release outside its rollback window, of which nine requests of ten fail."""
    first.first_release()
    first.platform.clock.advance(3600)
    standing_watch.StandingWatch(first.platform).attend(PRODUCTION)
    assert first.state.rollout is None
    first.platform.plane.serve(PRODUCTION, first.current, requests=1000, errors=900)
    first.platform.clock.advance(5)
    return first


def test_the_watch_comes_back_from_the_database_as_it_was(fakes: MemoryPlatform) -> None:
    before = trigger(fakes, endpoints=["production/*"], poll_interval=2.5, give_up_after=30.0)
    path, kwargs = before.serialize()
    assert path == "airflow_provider_mlpipex.triggers.standing_watch.StandingWatchTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert import_string(path)(**kwargs).serialize() == before.serialize()


async def test_on_call_is_notified_once_however_many_triggerers_watch(unhealthy: ReleaseRun) -> None:
    platform = unhealthy.platform
    watching = [asyncio.create_task(ended(trigger(platform))) for _ in range(2)]
    await until(lambda: platform.alerter.sent and platform.alerter.sent[-1].title.endswith("unhealthy"))
    surveys = platform.plane.surveys
    await until(lambda: platform.plane.surveys > surveys + 10)
    platform.clock.advance(3600)  # the lifetime of both
    assert [event["status"] for event in await asyncio.gather(*watching)] == ["over", "over"]
    titles = [alert.title for alert in platform.alerter.sent]
    assert titles.count(f"{PRODUCTION} unhealthy") == 1
    (entry,) = [entry for entry in unhealthy.entries if isinstance(entry.event, EndpointUnhealthy)]
    assert entry.origin.model_dump(include={"kind", *TASK}) == {"kind": "trigger", **TASK}


async def test_a_triggerer_that_restarts_goes_on_from_the_ledger(unhealthy: ReleaseRun) -> None:
    platform = unhealthy.platform
    for _ in range(3):
        watching = asyncio.create_task(ended(trigger(platform)))
        surveys = platform.plane.surveys
        await until(lambda least=surveys + 3: platform.plane.surveys > least)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
    await until(lambda: [alert.title for alert in platform.alerter.sent].count(f"{PRODUCTION} unhealthy") == 1)


async def test_a_quiet_hour_writes_nothing(first: ReleaseRun) -> None:
    first.first_release()
    first.platform.clock.advance(3600)
    standing_watch.StandingWatch(first.platform).attend(PRODUCTION)
    before, records = first.state.seq, len(first.platform.ledger.records(PRODUCTION))
    watching = asyncio.create_task(ended(trigger(first.platform)))
    await until(lambda: first.platform.plane.surveys > 20)
    first.platform.clock.advance(3600)
    assert (await watching)["rounds"] >= 20
    assert (first.state.seq, len(first.platform.ledger.records(PRODUCTION))) == (before, records)


async def test_the_watch_goes_on_while_the_plane_is_away(unhealthy: ReleaseRun) -> None:
    platform = unhealthy.platform
    platform.plane.away = True
    watching = asyncio.create_task(ended(trigger(platform)))
    surveys = platform.plane.surveys
    await until(lambda: platform.plane.surveys > surveys + 3)
    platform.plane.away = False
    await until(lambda: any(alert.title.endswith("unhealthy") for alert in platform.alerter.sent))
    platform.clock.advance(3600)
    assert (await watching)["status"] == "over"


async def test_the_watch_gives_up_after_a_while_without_a_single_answer(unhealthy: ReleaseRun) -> None:
    unhealthy.platform.plane.away = True
    event = await ended(trigger(unhealthy.platform, give_up_after=0.0))
    assert (event["status"], event["error"], event["runbook"]) == ("error", "PlaneUnavailable", "plane-unavailable")


async def test_an_endpoint_that_hangs_or_breaks_holds_up_no_other(
    fakes: MemoryPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, broken, other = (EndpointRef.parse(f"production/{name}") for name in ("slow", "broken", "other"))
    attended: list[EndpointRef] = []
    go_on = threading.Event()

    def attend(_: Any, endpoint: EndpointRef) -> WatchResult:
        attended.append(endpoint)
        if endpoint == slow:
            go_on.wait(DEADLINE_S)
        if endpoint == broken:
            raise KeyError("a mistake of ours")
        return WatchResult(status="watching")

    found = standing_watch.Round(watched=3, due=dict.fromkeys((slow, broken, other), "a test"))
    monkeypatch.setattr(module.StandingWatch, "round", lambda _: found)
    monkeypatch.setattr(module.StandingWatch, "attend", attend)
    watching = asyncio.create_task(ended(trigger(fakes)))
    await until(lambda: attended.count(other) >= 3 and attended.count(broken) >= 3)
    assert attended.count(slow) == 1, "it has one look at a time"
    go_on.set()
    fakes.clock.advance(3600)
    assert (await watching)["status"] == "over"


# The task and its Dag.


def test_the_watch_defers_at_once_until_its_lifetime_is_over(first: ReleaseRun) -> None:
    operator = StandingWatchOperator(task_id="watch", endpoints=["production/*"], look_every=2.0)
    with pytest.raises(TaskDeferred) as deferred:
        first.execute(operator)
    watching: Any = deferred.value.trigger
    assert isinstance(watching, StandingWatchTrigger)
    assert (watching.endpoints, watching.poll_interval) == (["production/*"], 2.0)
    assert datetime.fromisoformat(watching.until) == first.platform.clock.now() + timedelta(hours=6)
    assert deferred.value.timeout is None


@pytest.mark.parametrize(("kept", "left"), [(timedelta(days=90), 1), (None, 2)])
def test_a_run_forgets_routine_records_that_are_old(first: ReleaseRun, kept: timedelta | None, left: int) -> None:
    ledger = first.platform.ledger
    for days in (0, 80):
        first.platform.clock.advance(days * 86400)
        went_well = StageEnded(stage="drift", outcome="succeeded", seconds=1.0)
        ledger.record(PRODUCTION, went_well, origin=first.platform.origin)
    first.platform.clock.advance(20 * 86400)
    with pytest.raises(TaskDeferred):
        first.execute(StandingWatchOperator(task_id="watch", records_kept=kept))
    assert len(ledger.records(PRODUCTION)) == left


def test_what_went_wrong_on_the_triggerer_fails_the_task(first: ReleaseRun) -> None:
    operator = StandingWatchOperator(task_id="watch")
    told = {"status": "error", **PlaneUnavailable("serving plane", value="away", limit="an answer").as_dict()}
    with pytest.raises(PlaneUnavailable, match="away"):
        operator.execute_complete({}, told)  # type: ignore[typeddict-item]
    assert operator.execute_complete({}, {"status": "over", "rounds": 7}) == {"rounds": 7}  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"look_every": 0}, "look_every"),
        ({"look_every": 10.0, "lifetime": timedelta(seconds=5)}, "look_every"),
        ({"endpoints": "production/*"}, "endpoints"),
    ],
)
def test_a_dag_file_that_could_never_work_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=named):
        StandingWatchOperator(task_id="watch", **options)


def test_the_next_run_begins_at_once_when_one_ends_and_never_twice_a_minute() -> None:
    dag = DagSerialization.from_dict(DagSerialization.to_dict(DagBag(dag_folder=str(DAGS / "watch.py")).dags["watch"]))
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    began = pendulum.now("UTC").start_of("minute")
    for ago, due in ((timedelta(hours=6), True), (timedelta(0), False)):
        last = DataInterval.exact(began - ago)
        following = dag.timetable.next_dagrun_info(last_automated_data_interval=last, restriction=dag._time_restriction)
        assert following is not None
        assert (following.run_after <= datetime.now(UTC)) is due


@pytest.mark.usefixtures("airflow_db")
def test_the_dag_runs_whole_and_notifies_on_call(unhealthy: ReleaseRun) -> None:
    unhealthy.platform.alerter.sent.clear()
    with DAG("watched", schedule=None) as dag:
        # The clock of this platform stands still: the first alert moves it past the end.
        StandingWatchOperator(task_id="endpoints", look_every=0.01)
    original = unhealthy.platform.alerter.alert

    def alert(**told: Any) -> Any:
        unhealthy.platform.clock.advance(7 * 3600)
        return original(**told)

    unhealthy.platform.alerter.alert = alert  # type: ignore[method-assign]
    ran = run_dag(dag, logical_date=datetime(2026, 3, 1, tzinfo=UTC))
    assert (ran.state, dict(ran.tasks)) == ("success", {"endpoints": "success"})
    assert [sent.title for sent in unhealthy.platform.alerter.sent] == [f"{PRODUCTION} unhealthy"]
    state: EndpointState = unhealthy.state
    assert state.incident is not None and state.incident.notified
