"""Drift in Airflow: what the operator, the sensor and its trigger make of a look, and the Asset that they update."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.asset import AssetDagRunQueue, AssetEvent, AssetModel
from airflow.sdk import DAG, Context, task
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.serialization.encoders import encode_trigger
from airflow.utils.session import create_session

from airflow_provider_mlpipex import DriftCheckOperator, DriftSensor, DriftTrigger, drift_asset
from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, PlaneUnavailable
from airflow_provider_mlpipex.domain.rollout.events import DriftJudged, StageEnded
from airflow_provider_mlpipex.operators.drift import DRIFT_ALIAS
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from airflow_provider_mlpipex.triggers import base
from airflow_provider_mlpipex.triggers import drift as module
from tests.airflow.release_run import TaskRun
from tests.support.drifting import reference, send_batch
from tests.support.manifests import edited
from tests.support.rollouts import ENDPOINT, World

BLOCK = ("    alerts: {on", "    drift: {window: 6h}\n    alerts: {on")
DEADLINE_S = 60.0


@dataclass
class DriftRun(TaskRun):
    """A task run that may update Assets."""

    task_id: str = "check"
    dag_id: str = "drift__production__fraud_scorer"

    def __post_init__(self) -> None:
        self.outlets = OutletEventAccessors()

    @property
    def context(self) -> Context:
        return cast("Context", {**super().context, "outlet_events": self.outlets})

    @property
    def announced(self) -> list[tuple[str, dict[str, Any]]]:
        """Uri and facts of every Asset event."""
        return [(event.dest_asset_key.uri, event.extra) for event in self.outlets[DRIFT_ALIAS].asset_alias_events]


@pytest.fixture(scope="module")
def trained() -> Reference:
    return reference()


class Endpoint(World):
    """An endpoint with a current release that knows its reference, where everything works on ``fakes``."""

    def __init__(self, fakes: MemoryPlatform, trained: Reference) -> None:
        super().__init__(BLOCK, memory=fakes)
        self.release_id = self.first_release().id
        fakes.plane.know_reference(self.release_id, trained)
        self.clock.advance(3600)

    def send(self, batch: str, **given: Any) -> None:
        send_batch(self.memory, ENDPOINT, self.release_id, batch, **given)
        self.clock.advance(60)

    @property
    def last_stage(self) -> StageEnded:
        return cast("StageEnded", self.events(StageEnded)[-1])


@pytest.fixture
def endpoint(fakes: MemoryPlatform, trained: Reference) -> Endpoint:
    return Endpoint(fakes, trained)


@pytest.fixture
def drifting(endpoint: Endpoint) -> Endpoint:
    endpoint.send("monday")
    endpoint.send("tuesday", shifted={"amount": 30.0})
    return endpoint


def check(run: DriftRun | None = None, **parameters: Any) -> dict[str, Any]:
    run = run or DriftRun()
    operator = DriftCheckOperator(task_id=run.task_id, endpoint=str(ENDPOINT), **parameters)
    return dict(json.loads(json.dumps(operator.execute(run.context))))


# The operator.


def test_no_drift_is_a_success_that_announces_nothing(endpoint: Endpoint) -> None:
    endpoint.send("monday")
    run = DriftRun()
    found = check(run, on_drift="announce")
    assert (found["verdict"], found["columns"], found["batches"]) == ("pass", [], [])
    assert run.announced == []
    assert (endpoint.last_stage.stage, endpoint.last_stage.outcome) == ("drift", "succeeded")


def test_a_drift_fails_the_task_and_names_batch_dag_run_and_rows(drifting: Endpoint) -> None:
    run = DriftRun()
    with pytest.raises(AirflowFailException) as failed:
        check(run)
    for part in ("batch tuesday carries", "run-tuesday of score__fraud-scorer", "runbook: drift-found"):
        assert part in str(failed.value)
    found = run.xcoms["drift"]
    assert (found["verdict"], found["columns"]) == ("fail", [SCORE, "amount"])
    (batch,) = found["batches"]
    assert (batch["batch"], batch["run_id"], batch["dag_id"]) == ("tuesday", "run-tuesday", "score__fraud-scorer")
    assert len(batch["requests"]) == 5
    assert run.announced == []
    ended = drifting.last_stage
    assert (ended.outcome, ended.facts["verdict"], ended.facts["entry"]) == ("failed", "fail", found["entry"])
    assert ended.error is not None and ended.error["error"] == "DriftFound"
    assert len(drifting.alerts) == 1


def test_a_drift_that_is_announced_updates_the_asset_once(drifting: Endpoint) -> None:
    first = DriftRun(run_id="run-1")
    found = check(first, on_drift="announce")
    ((uri, facts),) = first.announced
    assert uri == drift_asset("fraud-scorer").uri == "mlpipex://drift/fraud-scorer"
    assert json.loads(json.dumps(facts)) == found
    # A retry of the run that found it announces it again: the try before may not have got that far.
    again = DriftRun(run_id="run-1", try_number=2)
    check(again, on_drift="announce")
    assert len(again.announced) == 1
    later = DriftRun(run_id="run-2")
    assert check(later, on_drift="announce")["verdict"] == "fail"
    assert later.announced == []
    assert drifting.last_stage.facts["announced"] is False


def test_too_few_rows_fail_or_skip_as_the_dag_file_says(endpoint: Endpoint) -> None:
    endpoint.send("monday", rows=5)
    with pytest.raises(AirflowFailException, match="runbook: drift-unmeasurable"):
        check()
    assert endpoint.last_stage.outcome == "failed"
    run = DriftRun()
    with pytest.raises(AirflowSkipException, match="chance alone reaches"):
        check(run, undecided="skip")
    assert (endpoint.last_stage.outcome, run.xcoms["drift"]["verdict"]) == ("skipped", "inconclusive")


def test_a_broken_column_fails_whatever_the_dag_file_says(endpoint: Endpoint) -> None:
    endpoint.send("monday", without="country")
    with pytest.raises(AirflowFailException, match="have no such column"):
        check(undecided="skip")


def test_where_nothing_is_current_there_is_nothing_to_decide(fakes: MemoryPlatform) -> None:
    with pytest.raises(AirflowFailException, match="nothing is current"):
        check()
    with pytest.raises(AirflowSkipException, match="nothing is current"):
        check(undecided="skip")
    assert not any(isinstance(entry.event, DriftJudged) for entry in fakes.ledger.read(ENDPOINT))


def test_a_plane_that_is_away_is_left_to_a_retry(drifting: Endpoint) -> None:
    drifting.memory.plane.away = True
    with pytest.raises(PlaneUnavailable):
        check(undecided="skip")


def test_a_window_and_a_manifest_of_its_own(drifting: Endpoint, tmp_path: Path) -> None:
    assert check(until=(drifting.clock.now() - timedelta(minutes=1)).isoformat())["verdict"] == "pass"
    with pytest.raises(AirflowFailException, match="since.*ISO 8601"):
        check(since="yesterday")
    lenient = tmp_path / "lenient.yaml"
    block = ("    alerts: {on", "    drift: {limits: {psi: 50}, batches: false}\n    alerts: {on")
    lenient.write_text(edited(block), encoding="utf-8")
    assert check(manifest=str(lenient))["verdict"] == "pass"
    lenient.write_text(edited(), encoding="utf-8")
    with pytest.raises(AirflowFailException, match=r"environments\.production\.drift"):
        check(manifest=str(lenient), undecided="skip")


def test_a_release_promoted_meanwhile_makes_the_look_void(drifting: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    sketches = drifting.memory.plane.sketches

    def promote_first(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(drifting.memory.plane, "sketches", sketches)
        drifting.bring("run-2", "1.1.0", to="promoted")
        return sketches(*args, **kwargs)

    monkeypatch.setattr(drifting.memory.plane, "sketches", promote_first)
    with pytest.raises(Exception, match="the release that was looked at is still current"):
        check(on_drift="announce")


@pytest.mark.parametrize("parameters", [{"on_drift": "ignore"}, {"undecided": "pass"}])
def test_a_dag_file_that_says_something_else_does_not_parse(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationInvalid, match="one of fail"):
        DriftCheckOperator(task_id="check", endpoint=str(ENDPOINT), **parameters)


# The sensor.


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the scheduler here."""
    monkeypatch.setattr(base, "SETTLE_S", 0.0)


def sensor(**parameters: Any) -> DriftSensor:
    return DriftSensor(**{"task_id": "wait", "endpoint": str(ENDPOINT), "timeout": 3600.0, **parameters})


def defers(waiting: DriftSensor, event: dict[str, Any] | None = None, *, back: bool = False) -> TaskDeferred:
    context = DriftRun(task_id="wait", try_number=2).context
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute_complete(context, event) if back else waiting.execute(context)
    return deferred.value


def test_the_sensor_looks_once_and_then_defers_to_a_trigger_that_holds_ids_only(endpoint: Endpoint) -> None:
    endpoint.send("monday")
    deferred = defers(sensor(poke_interval=7.0, release=endpoint.release_id))
    assert isinstance(deferred.trigger, DriftTrigger)
    _, kwargs = deferred.trigger.serialize()
    assert kwargs == {
        "mlpipex_conn_id": "mlpipex_default",
        "endpoint": str(ENDPOINT),
        "until": (endpoint.clock.now() + timedelta(hours=1)).isoformat(),
        "manifest": "",
        "release": endpoint.release_id,
        "poll_interval": 7.0,
        "give_up_after": 3600.0,
        "task": {
            "dag_id": "drift__production__fraud_scorer",
            "run_id": "manual__1",
            "task_id": "wait",
            "try_number": 2,
        },
    }
    # Should the triggerer be gone, Airflow itself ends the waiting.
    assert deferred.timeout is not None and deferred.timeout > timedelta(hours=1)
    assert endpoint.last_stage.outcome == "deferred"


def test_a_drift_at_the_first_look_is_a_success_that_is_announced(drifting: Endpoint) -> None:
    run = DriftRun(task_id="wait")
    found = sensor().execute(run.context)
    assert (found["verdict"], [batch["batch"] for batch in found["batches"]]) == ("fail", ["tuesday"])
    assert [uri for uri, _ in run.announced] == ["mlpipex://drift/fraud-scorer"]
    later = DriftRun(task_id="wait", run_id="run-2")
    # While the drift lasts whoever waits for it may go on, but its followers have heard of it.
    assert sensor().execute(later.context)["verdict"] == "fail"
    assert later.announced == []


@pytest.mark.parametrize("told", [{"status": "found"}, {"status": "error", "error": "PlaneUnavailable"}, {}])
def test_whatever_the_event_says_it_looks_for_itself(endpoint: Endpoint, told: dict[str, Any]) -> None:
    endpoint.send("monday")
    until = (endpoint.clock.now() + timedelta(minutes=5)).isoformat()
    deferred = defers(sensor(), {**told, "until": until}, back=True)
    assert deferred.trigger.serialize()[1]["until"] == until
    endpoint.send("tuesday", shifted={"amount": 30.0})
    run = DriftRun(task_id="wait")
    assert sensor().execute_complete(run.context, {**told, "until": until})["verdict"] == "fail"
    assert len(run.announced) == 1


def test_an_event_that_was_lost_starts_the_waiting_anew(endpoint: Endpoint) -> None:
    endpoint.send("monday")
    deferred = defers(sensor(), None, back=True)
    assert deferred.trigger.serialize()[1]["until"] == (endpoint.clock.now() + timedelta(hours=1)).isoformat()


def test_an_alarm_that_did_not_ring_is_skipped(endpoint: Endpoint) -> None:
    endpoint.send("monday")
    over = {"status": "over", "until": endpoint.clock.now().isoformat()}
    run = DriftRun(task_id="wait")
    with pytest.raises(AirflowSkipException, match="no drift of production/fraud-scorer within 1h"):
        sensor().execute_complete(run.context, over)
    assert run.announced == []
    assert endpoint.last_stage.outcome == "skipped"


def test_an_alarm_that_nobody_could_hear_has_failed(endpoint: Endpoint) -> None:
    endpoint.send("monday", rows=5)
    over = {"status": "over", "until": endpoint.clock.now().isoformat()}
    with pytest.raises(AirflowFailException, match="drift-unmeasurable"):
        sensor().execute_complete(DriftRun(task_id="wait").context, over)
    with pytest.raises(AirflowSkipException):
        sensor(undecided="skip").execute_complete(DriftRun(task_id="wait").context, over)


def test_the_sensor_waits_where_nothing_is_current_yet(fakes: MemoryPlatform) -> None:
    assert isinstance(defers(sensor()).trigger, DriftTrigger)


@pytest.mark.parametrize("argument", ["soft_fail", "never_fail"])
def test_the_sensor_takes_no_argument_that_would_turn_a_broken_look_into_a_skip(argument: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=argument):
        sensor(**{argument: True})


# The trigger.


def trigger(until: datetime, **changes: Any) -> DriftTrigger:
    given = {"mlpipex_conn_id": "mlpipex_default", "endpoint": str(ENDPOINT), "poll_interval": 0.001}
    return DriftTrigger(**{**given, "until": until.isoformat(), **changes})


async def events(watching: DriftTrigger) -> list[dict[str, Any]]:
    async with asyncio.timeout(DEADLINE_S):
        return [json.loads(json.dumps(event.payload)) async for event in watching.run()]


def test_the_trigger_comes_back_from_the_database_as_it_was() -> None:
    before = trigger(datetime(2026, 3, 1, tzinfo=UTC), manifest="m.yaml", release="r", give_up_after=30.0)
    written = json.loads(json.dumps(encode_trigger(before)))
    path, kwargs = before.serialize()
    assert written["classpath"] == path == "airflow_provider_mlpipex.triggers.drift.DriftTrigger"
    assert import_string(path)(**kwargs).serialize() == before.serialize()


async def test_the_trigger_says_when_there_is_drift_and_writes_nothing(drifting: Endpoint) -> None:
    before = len(drifting.events())
    until = drifting.clock.now() + timedelta(hours=1)
    (event,) = await events(trigger(until))
    assert (event["status"], event["until"]) == ("found", until.isoformat())
    assert (len(drifting.events()), drifting.alerts) == (before, [])


async def test_the_trigger_says_when_the_time_is_over(endpoint: Endpoint) -> None:
    endpoint.send("monday")
    assert [event["status"] for event in await events(trigger(endpoint.clock.now()))] == ["over"]


async def test_the_trigger_goes_on_until_there_is_drift(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.send("monday")
    measure, looked = module.measure, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        looked.append(None)
        if len(looked) == 2:
            raise PlaneUnavailable("serving plane", value="ConnectTimeout")
        if len(looked) == 3:
            endpoint.send("tuesday", shifted={"amount": 30.0})
        return measure(*args, **kwargs)

    monkeypatch.setattr(module, "measure", counted)
    (event,) = await events(trigger(endpoint.clock.now() + timedelta(hours=1)))
    assert (event["status"], len(looked)) == ("found", 3)


async def test_the_trigger_gives_up_on_a_plane_that_stays_away(drifting: Endpoint) -> None:
    drifting.memory.plane.away = True
    (event,) = await events(trigger(drifting.clock.now() + timedelta(hours=1), give_up_after=0.0))
    assert (event["status"], event["error"]) == ("error", "PlaneUnavailable")


async def test_the_trigger_tells_at_once_what_will_not_pass(drifting: Endpoint) -> None:
    until = drifting.clock.now() + timedelta(hours=1)
    (event,) = await events(trigger(until, manifest="/no/such/manifest.yaml"))
    assert (event["status"], event["error"]) == ("error", "ManifestInvalid")


async def test_the_trigger_waits_for_a_first_release(fakes: MemoryPlatform, trained: Reference) -> None:
    watching = asyncio.create_task(events(trigger(fakes.clock.now() + timedelta(days=9))))
    await asyncio.sleep(0)
    endpoint = Endpoint(fakes, trained)
    endpoint.send("monday", shifted={"amount": 30.0})
    (event,) = await watching
    assert event["status"] == "found"


# As Airflow runs them.


def play(dag: DAG, *, number: int) -> dict[str, str]:
    """State by task of one Dag run, played to its end."""
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    played = dag.test(logical_date=datetime(2026, 3, number, tzinfo=UTC))
    return {ti.task_id: str(ti.state) for ti in played.get_task_instances()}


def asset_events(dag_id: str) -> list[tuple[str, dict[str, Any]]]:
    with create_session() as session:
        found = session.execute(
            sa.select(AssetModel.uri, AssetEvent.extra)
            .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
            .where(AssetEvent.source_dag_id == dag_id)
        )
        return [(uri, dict(extra)) for uri, extra in found]


def is_queued(dag_id: str) -> bool:
    """Whether the scheduler would start a run of ``dag_id`` for an Asset event."""
    with create_session() as session:
        queued = sa.select(AssetDagRunQueue.target_dag_id).where(AssetDagRunQueue.target_dag_id == dag_id)
        return session.execute(queued).first() is not None


@pytest.mark.usefixtures("airflow_db")
def test_a_drift_reaches_whoever_listens_to_its_asset(endpoint: Endpoint) -> None:
    with DAG("drift_announced", schedule=None) as dag:
        DriftCheckOperator(task_id="check", endpoint=str(ENDPOINT), on_drift="announce")
    with DAG("listens", schedule=[drift_asset("fraud-scorer")], is_paused_upon_creation=False) as listening:
        task(lambda: None, task_id="hear")()
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(listening)
    sync_bag_to_db(bag, "dags-folder", None)

    endpoint.send("monday")
    assert play(dag, number=1) == {"check": "success"}
    assert asset_events("drift_announced") == [] and not is_queued("listens")
    endpoint.send("tuesday", shifted={"amount": 30.0})
    assert play(dag, number=2) == {"check": "success"}
    ((uri, facts),) = asset_events("drift_announced")
    assert uri == "mlpipex://drift/fraud-scorer"
    assert [batch["batch"] for batch in facts["batches"]] == ["tuesday"]
    assert is_queued("listens")
    assert play(dag, number=3) == {"check": "success"}
    assert len(asset_events("drift_announced")) == 1


@pytest.mark.usefixtures("airflow_db")
def test_a_sensor_lets_what_follows_run_only_when_there_is_drift(endpoint: Endpoint) -> None:
    with DAG("drift_awaited", schedule=None) as dag:
        waiting = DriftSensor(task_id="wait", endpoint=str(ENDPOINT), timeout=0.0, poke_interval=0.01)
        waiting >> task(lambda: None, task_id="repair")()
    endpoint.send("monday")
    assert play(dag, number=1) == {"wait": "skipped", "repair": "skipped"}
    assert asset_events("drift_awaited") == []
    endpoint.send("tuesday", shifted={"amount": 30.0})
    assert play(dag, number=2) == {"wait": "success", "repair": "success"}
    assert [uri for uri, _ in asset_events("drift_awaited")] == ["mlpipex://drift/fraud-scorer"]


@pytest.mark.usefixtures("airflow_db")
def test_a_drift_that_fails_the_task_stops_what_follows(drifting: Endpoint) -> None:
    with DAG("drift_failed", schedule=None) as dag:
        (
            DriftCheckOperator(task_id="check", endpoint=str(ENDPOINT), retries=2, retry_delay=0.1)
            >> task(lambda: None, task_id="score")()
        )
    assert play(dag, number=1) == {"check": "failed", "score": "upstream_failed"}
    # What will not pass by itself is not tried again.
    assert len(drifting.events(DriftJudged)) == 1
