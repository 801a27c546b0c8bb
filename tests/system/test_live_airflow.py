"""Airflow as four real components, MLflow, Envoy and model servers: releases, a rollback, a sensor that waits.

What ``dag.test()`` cannot see is seen here: deferral and resumption, the triggerer, task isolation, logs and links.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import yaml

from airflow_provider_mlpipex.composition import Settings, build_platform
from airflow_provider_mlpipex.demo import flights, play
from airflow_provider_mlpipex.demo.airflow_client import AirflowClient
from airflow_provider_mlpipex.demo.play import MANIFEST, REPLAYED
from airflow_provider_mlpipex.demo.scene import READING_S
from airflow_provider_mlpipex.demo.stack import USER, Ports, Stack
from airflow_provider_mlpipex.demo.traffic import LiveTraffic
from airflow_provider_mlpipex.demo.webhook import AlertReceiver
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Origin, ReviewDecided, StageEnded, TrafficPlanned
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.traffic_plan import BATCH_HEADER
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import history
from airflow_provider_mlpipex.services.rollout.tenures import tenures
from tests.support import task_pages
from tests.support.browser import Browser, chromium
from tests.support.polling import until
from tests.support.stages import stage_records

pytestmark = [pytest.mark.system, pytest.mark.timeout(7200)]
REPOSITORY = Path(__file__).parents[2]
RELEASE = "release__flight_delay"
PRODUCTION = EndpointRef.parse("production/flight-delay")
STAGING = EndpointRef.parse("staging/flight-delay")
#: A release takes a minute and a half on a machine of its own; on a busy one it is late, and no verdict.
RUN_LIMIT_S = 900.0
ALARM = "team__alarm"
TRIAL_FILE = "flight-trial.yaml"
#: A team's own Dag, beside the reference Dags.
ALARM_DAG = f"""
from airflow.sdk import dag, task
from airflow_provider_mlpipex import DriftSensor

@dag("{ALARM}", schedule=None, catchup=False, is_paused_upon_creation=False)
def alarm():
    @task
    def name(found):
        return [batch["batch"] for batch in found["batches"]]

    name(DriftSensor(task_id="wait", endpoint="{STAGING}", poke_interval=2.0, timeout=240).output)

alarm()
"""


SHORT_WATCH = "short_watch"
#: The reference Dag of the standing watch, with runs of seconds in place of hours.
SHORT_WATCH_DAG = f"""
from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_mlpipex import StandingWatchOperator

with DAG("{SHORT_WATCH}", schedule="* * * * *", catchup=False, max_active_runs=1, is_paused_upon_creation=False):
    StandingWatchOperator(task_id="endpoints", look_every=1.0, lifetime=timedelta(seconds=75), retries=2)
"""


@dataclass
class Live:
    """The running stack, as a team and a person at a terminal reach it."""

    stack: Stack
    airflow: AirflowClient
    platform: Platform
    pager: AlertReceiver
    manifest: Path

    def state(self) -> EndpointState:
        return journal.load(self.platform, PRODUCTION)

    def finish(self, dag_id: str, run_id: str) -> str:
        until(
            lambda: self.airflow.run_state(dag_id, run_id) in ("success", "failed"),
            within_s=RUN_LIMIT_S,
            what=f"the end of {run_id}",
        )
        return self.airflow.run_state(dag_id, run_id)

    def why_failed(self, dag_id: str, run_id: str) -> str:
        """What the failed tasks of a run said, for the message of an assertion."""
        said = []
        for task, state in self.airflow.task_states(dag_id, run_id).items():
            if state == "failed":
                log = self.airflow.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/logs/1")["content"]
                raised = [e.get("exc_value", "") for line in log for e in line.get("error_detail") or ()]
                said.append(f"{task}: {raised}")
        return "\n".join(said)


#: Those of the demo.
MANIFESTS = Path(play.__file__).parent


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    pager = AlertReceiver()
    dags = tmp_path_factory.mktemp("dags") / "dags"
    shutil.copytree(REPOSITORY / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    (dags / "alarm.py").write_text(ALARM_DAG, encoding="utf-8")
    (dags / "stages.py").write_text(task_pages.STAGES_DAG, encoding="utf-8")
    (dags / "short_watch.py").write_text(SHORT_WATCH_DAG, encoding="utf-8")
    stack = Stack(
        tmp_path_factory.mktemp("live"),
        dags=dags,
        ports=Ports.choose("auto"),
        alert_url=pager.apprise_url,
    )
    try:
        stack.prepare(MANIFESTS)
        manifest = stack.manifests / MANIFEST
        short = yaml.safe_load(manifest.read_text(encoding="utf-8"))
        production = short["environments"]["production"]
        production["review"].update(required_for=[], auto_approve=["model", "runtime", "data", "features", "policy"])
        production["canary"]["steps"] = ["50%", "100%"]
        production["canary"]["step_duration"] = "4s"
        production["rollback"]["control"] = "10%"
        production["canary"]["gates"] = ["zero critical errors in a 4-second canary window"]
        # The flights of a month are sent within a minute: they are not of the time at which they are served.
        short["environments"]["staging"]["drift"] = {"window": "5m", "cycle": False, "batches": False, "damage": 0}
        manifest.write_text(yaml.safe_dump(short, sort_keys=False), encoding="utf-8")
        (stack.manifests / TRIAL_FILE).write_text(task_pages.TRIAL_MANIFEST, encoding="utf-8")
        stack.start()
        stack.wait()
        airflow = AirflowClient(stack.airflow_url, user=USER, password=stack.password)
        airflow.wait_until_parsed(RELEASE)
        platform = build_platform(Settings.from_environment(stack.environment), Origin(kind="test"))
        yield Live(stack, airflow, platform, pager, manifest)
    finally:
        stack.stop()
        pager.stop()


def test_two_releases_and_a_rollback(live: Live) -> None:
    first = live.airflow.trigger(RELEASE, conf={"as_of": "2013-04-01"})
    assert live.finish(RELEASE, first) == "success", live.why_failed(RELEASE, first)
    assert _version(live) == "1.0.0"

    traffic = LiveTraffic(
        f"{live.stack.ingress_url}/endpoints/{PRODUCTION}",
        token=(live.stack.plane_dir / "client-token").read_text(encoding="utf-8").strip(),
        rows=flights.load(*REPLAYED)[list(flights.FEATURES)].sample(200, random_state=7),
    )
    traffic.start()
    try:
        second = live.airflow.trigger(RELEASE, conf={"as_of": "2013-07-01"})
        assert live.finish(RELEASE, second) == "success", live.why_failed(RELEASE, second)
        assert _version(live) == "1.1.0"
        previous = live.state().previous
        assert previous is not None and previous.model.version == "1.0.0"

        current = live.state().current
        assert current is not None
        form = {"endpoint": str(PRODUCTION), "cause": "asked for in a form", "release": current.id}
        rollback = live.airflow.trigger("rollback", conf=form)
        assert live.finish("rollback", rollback) == "success"
        assert _version(live) == "1.0.0"
        until(lambda: traffic.totals()["sent"] > 200, within_s=60, what="traffic")
    finally:
        traffic.stop()
    totals = traffic.totals()
    assert totals["failed"] == 0, totals
    assert len(totals["by_release"]) == 2, totals
    until(lambda: len(live.pager.received()) > 0, within_s=20, what="the alert about the rollback")
    assert "asked for in a form" in str(live.pager.received())

    _check_record(live, second)
    _check_task(live, second)


def test_a_sensor_that_waits_on_the_triggerer_finds_the_drift_and_its_batch(live: Live) -> None:
    if journal.load(live.platform, STAGING).current is None:
        first = live.airflow.trigger(RELEASE, conf={"as_of": "2013-04-01"})
        assert live.finish(RELEASE, first) == "success", live.why_failed(RELEASE, first)
    live.airflow.wait_until_parsed(ALARM)
    run = live.airflow.trigger(ALARM, conf={})

    def deferred() -> bool:
        return live.airflow.task_states(ALARM, run)["wait"] == "deferred"

    until(deferred, within_s=90, what="the sensor is deferred")

    rows = flights.load(*REPLAYED)[list(flights.FEATURES)].sample(2000, random_state=7)
    # Whole kilometres: the model learned a whole number, and its server takes no other.
    rows["distance"] = (rows["distance"] * 1.609).round()
    _ask(live, rows.astype(object).where(rows.notna(), None), batch="in-kilometres")
    assert live.finish(ALARM, run) == "success", live.why_failed(ALARM, run)
    found = live.airflow.get(f"/dags/{ALARM}/dagRuns/{run}/taskInstances/wait/xcomEntries/drift", deserialize=True)
    assert (found["value"]["verdict"], found["value"]["rows"]) == ("fail", 2000)
    named = live.airflow.get(
        f"/dags/{ALARM}/dagRuns/{run}/taskInstances/name/xcomEntries/return_value", deserialize=True
    )
    assert named["value"] == ["in-kilometres"]
    events = live.airflow.get("/assets/events", source_dag_id=ALARM)["asset_events"]
    assert [(one["name"], one["source_run_id"]) for one in events] == [("drift__flight-delay", run)]


def test_the_next_standing_watch_begins_when_one_ends_and_not_before(live: Live) -> None:
    """Runs that are longer than the schedule's minute: none is made beside another, and none is missed after it."""
    live.airflow.wait_until_parsed(SHORT_WATCH)

    def runs() -> list[dict[str, Any]]:
        found = live.airflow.get(f"/dags/{SHORT_WATCH}/dagRuns", order_by="run_after")["dag_runs"]
        return [run for run in found if run["start_date"]]

    until(lambda: len(runs()) >= 3, within_s=600, what="two runs that ended, and one under way")
    held = runs()
    assert [run["state"] for run in held[:2]] == ["success", "success"]
    for before, after in itertools.pairwise(held):
        ended = datetime.fromisoformat(before["end_date"])
        assert datetime.fromisoformat(after["start_date"]) >= ended
        assert datetime.fromisoformat(after["run_after"]) <= ended, "it was due already"


def test_the_page_of_every_task_shows_its_log(live: Live) -> None:
    """A real browser opens each task of a run that fails at each stage in its own way, of a release and of a rollback.
    What crashed the page once was a field of our own log line."""
    live.airflow.wait_until_parsed(task_pages.STAGES)
    failing = live.airflow.trigger(task_pages.STAGES, conf={})
    assert live.finish(task_pages.STAGES, failing) == "failed"
    states = live.airflow.task_states(task_pages.STAGES, failing)
    assert set(states.values()) == {"failed"}, states
    with chromium(live.stack.airflow_url, user=USER, password=live.stack.password) as browser:
        for task, page in task_pages.RUNBOOKS.items():
            said = browser.task_page(task_pages.STAGES, failing, task, expect="Task failed with exception")
            assert f"runbook: {page}" in said, said
        for tab, expected in (("xcom", "gates"), ("rendered_templates", task_pages.ENDPOINT), ("details", "own_gate")):
            browser.task_page(task_pages.STAGES, failing, "own_gate", tab=tab, expect=expected)
        gate = browser.task_page(task_pages.STAGES, failing, "own_gate", expect="gate judged")
        assert "verdict=fail reason=recall: observed 1% from 12000 samples, threshold at least 80%" in gate
        for dag_id in (RELEASE, "rollback"):
            for run in live.airflow.get(f"/dags/{dag_id}/dagRuns")["dag_runs"][-1:]:
                _open_pages(live, browser, dag_id, run["dag_run_id"])


def test_the_pages_of_releases_that_are_rejected_or_taken_back(live: Live) -> None:
    """Rejected in its review, and taken back in its canary by a gate."""
    _require_versions(live, 2)
    live.airflow.wait_until_parsed(TRIAL_DAG)
    with chromium(live.stack.airflow_url, user=USER, password=live.stack.password) as browser, _trial_traffic(live):
        rejected = _reviewed(live, approve=False, browser=browser)
        assert live.finish(TRIAL_DAG, rejected) == "failed"
        review = browser.task_page(TRIAL_DAG, rejected, REVIEW, expect="Task failed with exception")
        assert "runbook: review-rejected" in review and "not today" in review
        _open_pages(live, browser, TRIAL_DAG, rejected)

        first = _reviewed(live)
        assert live.finish(TRIAL_DAG, first) == "success", live.why_failed(TRIAL_DAG, first)
        _open_pages(live, browser, TRIAL_DAG, first)

        _edit_trial(live, version="1.1.0", least_score=2)
        broken = _reviewed(live)
        assert live.finish(TRIAL_DAG, broken) == "failed"
        canary = browser.task_page(TRIAL_DAG, broken, CANARY, expect="Task failed with exception")
        assert "runbook: rolled-back" in canary and "verdict=fail reason=broken: observed 1 from" in canary
        _open_pages(live, browser, TRIAL_DAG, broken)


def test_the_pages_of_a_release_that_a_person_takes_back(live: Live) -> None:
    """While it is watched, by a person who sees in the rollback Dag what serves."""
    _require_versions(live, 2)
    live.airflow.wait_until_parsed(TRIAL_DAG)
    with chromium(live.stack.airflow_url, user=USER, password=live.stack.password) as browser, _trial_traffic(live):
        if journal.load(live.platform, TRIAL).current is None:
            first = _reviewed(live)
            assert live.finish(TRIAL_DAG, first) == "success", live.why_failed(TRIAL_DAG, first)
        _edit_trial(live, version="1.1.0", least_score=0)
        watched = _reviewed(live)
        until(
            lambda: live.airflow.task_states(TRIAL_DAG, watched).get(WATCH) == "deferred",
            within_s=RUN_LIMIT_S,
            what="the promoted release is watched",
        )
        state = journal.load(live.platform, TRIAL)
        assert state.current is not None and state.previous is not None
        rollback = live.airflow.trigger("rollback", conf={"endpoint": str(TRIAL), "cause": "wrong currency"})
        _until_asked(live, "rollback", rollback, "confirm")
        asked = browser.task_page("rollback", rollback, "confirm", tab="required_actions", expect="Take back")
        assert f"{TRIAL} serves {state.current.id}" in asked and state.previous.id in asked

        def press() -> None:
            browser.task_page("rollback", rollback, "confirm", tab="required_actions", expect="Take back")
            browser.press(f"Take back {state.current.id}")

        _answer(live, "rollback", rollback, "confirm", press)
        assert live.finish("rollback", rollback) == "success", live.why_failed("rollback", rollback)
        now = journal.load(live.platform, TRIAL).current
        assert now is not None and now.id == state.previous.id
        _open_pages(live, browser, "rollback", rollback)
        assert live.finish(TRIAL_DAG, watched) == "failed"
        watch = browser.task_page(TRIAL_DAG, watched, WATCH, expect="Task failed with exception")
        assert "runbook: rolled-back" in watch and "wrong currency" in watch
        _open_pages(live, browser, TRIAL_DAG, watched)


TRIAL = EndpointRef.parse("production/flight-trial")
TRIAL_DAG = "release__flight_trial"
REVIEW, CANARY, WATCH = "production.review", "production.canary_50_watch", "production.watch"


def _require_versions(live: Live, count: int) -> None:
    """So many versions of the model are registered; releases of other tests have left them."""
    windows = ("2013-04-01", "2013-07-01")
    for as_of in windows[len(live.platform.registry.versions("flight-delay")) : count]:
        run = live.airflow.trigger(RELEASE, conf={"as_of": as_of})
        # Nobody asks that endpoint anything here, so a second release of it would wait in its shadow.
        until(partial(_is_registered, live, run), within_s=RUN_LIMIT_S, what=f"a version as of {as_of}")
        assert live.airflow.task_states(RELEASE, run)["model.register"] == "success", live.why_failed(RELEASE, run)
        if as_of == windows[0]:
            assert live.finish(RELEASE, run) == "success", live.why_failed(RELEASE, run)


def _is_registered(live: Live, run: str) -> bool:
    return live.airflow.task_states(RELEASE, run).get("model.register") in ("success", "failed", "upstream_failed")


def _edit_trial(live: Live, *, version: str, least_score: int) -> None:
    path = live.stack.manifests / TRIAL_FILE
    manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    manifest["model"]["version"] = version
    manifest["quality"]["predictions"][0].update(min_value=least_score, max_value=least_score + 1)
    path.write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    live.airflow.wait_until_parsed(TRIAL_DAG, after=datetime.now(UTC))


def _reviewed(live: Live, *, approve: bool = True, browser: Browser | None = None) -> str:
    """A run whose review has been answered; ``browser`` opens the page of the question before."""
    run = live.airflow.trigger(TRIAL_DAG, conf={})
    _until_asked(live, TRIAL_DAG, run, REVIEW)
    if browser is not None:
        asked = browser.task_page(TRIAL_DAG, run, REVIEW, tab="required_actions", expect="Approve")
        assert "flight-delay" in asked and "on-call@localhost" in asked
    note = "as it should be" if approve else "not today"
    answer = partial(live.airflow.answer_review, TRIAL_DAG, run, REVIEW, approve=approve, note=note)
    _answer(live, TRIAL_DAG, run, REVIEW, answer)
    return run


def _answer(live: Live, dag_id: str, run: str, task: str, answer: Callable[[], None]) -> None:
    """Answer as often as Airflow asks: it asks again where it was answered before it saw the task's worker leave."""
    asked_at: float | None = None

    def has_ended() -> bool:
        nonlocal asked_at
        state = live.airflow.task_states(dag_id, run)[task]
        if state != "awaiting_input":
            asked_at = None
        elif asked_at is None:
            asked_at = time.monotonic()
        elif time.monotonic() - asked_at > READING_S:
            answer()
            asked_at = math.inf
        return state in ("success", "failed")

    until(has_ended, within_s=RUN_LIMIT_S, what=f"{task} is answered")


def _until_asked(live: Live, dag_id: str, run: str, task: str) -> None:
    def asks() -> bool:
        state = live.airflow.task_states(dag_id, run).get(task)
        assert state not in ("failed", "upstream_failed", "skipped"), live.why_failed(dag_id, run)
        return state == "awaiting_input"

    until(asks, within_s=RUN_LIMIT_S, what=f"{task} asks")


@contextmanager
def _trial_traffic(live: Live) -> Iterator[None]:
    """Requests to the endpoint of the trial; before its first release nobody answers them."""
    traffic = LiveTraffic(
        f"{live.stack.ingress_url}/endpoints/{TRIAL}",
        token=live.stack.plane_token("client-token"),
        rows=flights.load(*REPLAYED)[list(flights.FEATURES)].sample(200, random_state=7),
    )
    traffic.start()
    try:
        yield
    finally:
        traffic.stop()


def _open_pages(live: Live, browser: Browser, dag_id: str, run: str) -> None:
    """The page of every task of the run that has ended; each shows how its stage did."""
    for task, state in live.airflow.task_states(dag_id, run).items():
        if state in ("success", "failed"):
            browser.task_page(dag_id, run, task, expect="stage ended")


def _ask(live: Live, rows: pd.DataFrame, *, batch: str) -> None:
    """Send ``rows`` to staging, a hundred a request."""
    token = live.stack.plane_token("batch-token")
    with httpx.Client(headers={"authorization": f"Bearer {token}", BATCH_HEADER: batch}, timeout=30) as client:
        for start in range(0, len(rows), 100):
            part = rows.iloc[start : start + 100].to_dict("split", index=False)
            url = f"{live.stack.ingress_url}/endpoints/{STAGING}/invocations"
            client.post(url, json={"dataframe_split": part}).raise_for_status()


def _check_record(live: Live, run_id: str) -> None:
    """The ledger says who did what, and can be believed."""
    entries = live.platform.ledger.read(PRODUCTION)
    ended = [e for e in stage_records(live.platform.ledger, PRODUCTION) if e.origin.run_id == run_id]
    assert {e.event.stage for e in ended if isinstance(e.event, StageEnded)} >= {"gate", "review", "shadow", "canary"}
    assert all(e.origin.dag_id == RELEASE and e.origin.task_id and e.origin.try_number >= 1 for e in ended)
    reviews = [e.event for e in entries if isinstance(e.event, ReviewDecided)]
    assert reviews and all(r.approved and r.automatic for r in reviews), "the policy's name stands in the ledger"
    assert history.audit(live.platform)[str(PRODUCTION)] == len(entries)
    plans = [(e.event.reason, e.event.plan.control_weight) for e in entries if isinstance(e.event, TrafficPlanned)]
    beside = plans.index(("promotion", 1000))
    assert plans[beside + 1] == ("the watch is over: no control arm any more", 0)
    held = tenures(live.platform, PRODUCTION)
    assert [t.model for t in held] == ["flight-delay 1.0.0", "flight-delay 1.1.0", "flight-delay 1.0.0"]


def _check_task(live: Live, run_id: str) -> None:
    """A person finds numbers in log and XCom, and buttons that lead somewhere."""
    task = f"/dags/{RELEASE}/dagRuns/{run_id}/taskInstances/production.gates"
    gates = live.airflow.get(f"{task}/xcomEntries/gates", deserialize=True)["value"]
    assert gates and {"verdict", "threshold", "margin", "evidence"} <= set(_as_list(gates)[0])
    content = live.airflow.get(f"{task}/logs/1")["content"]
    judged = [line for line in content if line.get("event") == "gate judged"]
    assert judged and {"gate", "verdict", "observed", "threshold", "margin"} <= set(judged[0])
    assert any(line.get("event") == "stage ended" and line.get("seconds") is not None for line in content)
    links = live.airflow.get(f"/dags/{RELEASE}/dagRuns/{run_id}/taskInstances/model.train/links")["extra_links"]
    page = links["MLflow run"]
    assert page.startswith(live.stack.mlflow_url)
    assert httpx.get(page.partition("#")[0], timeout=10).status_code == 200


def _as_list(found: Any) -> list[dict[str, Any]]:
    return json.loads(found) if isinstance(found, str) else found


def _version(live: Live) -> str:
    current = live.state().current
    return current.model.version if current else "nothing"
