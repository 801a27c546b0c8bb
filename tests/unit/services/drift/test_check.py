"""A look at drift: what it says, whom it tells, and which batch it blames."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference, make_reference
from airflow_provider_mlpipex.domain.errors import (
    DriftFound,
    DriftUndecided,
    InvalidQuantity,
    ManifestInvalid,
    NotFound,
    PlaneUnavailable,
    SketchUnusable,
)
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    AlertRetried,
    DriftJudged,
    Origin,
    RoutineRecord,
)
from airflow_provider_mlpipex.services.drift import check as drift_check
from airflow_provider_mlpipex.services.drift.attribution import attribute
from airflow_provider_mlpipex.services.drift.check import DriftCheck
from tests.support.drifting import reference, score_of, send_batch, training_rows
from tests.support.manifests import make_manifest
from tests.support.rollouts import ENDPOINT, World, make_candidate

BLOCK = ("    alerts: {on", "    drift: {window: 6h}\n    alerts: {on")


def judged_by(block: str) -> tuple[str, str]:
    return "    alerts: {on", f"    drift: {{{block}}}\n    alerts: {{on"


@pytest.fixture(scope="module")
def trained() -> Reference:
    return reference()


class DriftWorld(World):
    """A first release that knows its reference, and requests in batches."""

    def __init__(self, *edits: tuple[str, str], trained: Reference | None) -> None:
        super().__init__(*(edits or (BLOCK,)))
        self.release_id = self.first_release().id
        self.clock.advance(3600)
        if trained is not None:
            self.memory.plane.know_reference(self.release_id, trained)

    def send(self, batch: str, **given: Any) -> str:
        digest = send_batch(self.memory, ENDPOINT, self.release_id, batch, **given)
        self.clock.advance(60)
        return digest

    def look_at_drift(self, **given: Any) -> DriftCheck:
        return drift_check.look(self.platform, ENDPOINT, **given)

    def drift_by(self, run: str, *, task: str = "check", **given: Any) -> DriftCheck:
        origin = Origin(kind="task", dag_id="drift__x", run_id=run, task_id=task, try_number=1)
        return drift_check.look(self.platform.acting_as(origin), ENDPOINT, **given)


@pytest.fixture
def world(trained: Reference) -> DriftWorld:
    return DriftWorld(trained=trained)


def test_requests_like_the_training_rows_pass_and_nobody_is_told(world: DriftWorld) -> None:
    world.send("monday")
    seen = world.look_at_drift()
    assert (seen.verdict, seen.rows, seen.raising, seen.traced) == ("pass", 2000, (), None)
    (event,) = world.events(DriftJudged)
    assert (event.verdict, event.release, event.since, event.until) == (
        "pass",
        world.release_id,
        seen.since,
        seen.until,
    )
    assert seen.until - seen.since >= timedelta(hours=6)
    assert world.alerts == []


def test_a_drift_that_one_batch_brought_is_traced_to_its_dag_run_and_rows(world: DriftWorld) -> None:
    for batch in ("monday", "tuesday", "wednesday"):
        world.send(batch)
    digest = world.send("thursday", shifted={"amount": 30.0})
    seen = world.look_at_drift()
    assert seen.verdict == "fail"
    assert set(seen.raising) == {SCORE, "amount"}
    assert seen.traced is not None
    for attribution in seen.traced.attributions:
        assert attribution.conclusive and attribution.batches[0].batch == "thursday"
        assert attribution.batches[0].share > 0.95
    (batch,) = seen.traced.batches
    assert (batch.batch, batch.rows) == ("thursday", 2000)
    assert set(batch.shares) == {SCORE, "amount"}
    assert batch.sent is not None
    assert (batch.sent.dag_id, batch.sent.run_id) == ("score__fraud-scorer", "run-thursday")
    assert (batch.sent.task_id, batch.sent.digest) == ("score", digest)
    assert len(batch.sample) == 5 and {row.batch for row in batch.sample} == {"thursday"}
    assert all(row.inputs["amount"] > 30 for row in batch.sample)


def test_the_ledger_and_on_call_are_told_the_same(world: DriftWorld) -> None:
    world.send("monday")
    world.send("tuesday", shifted={"amount": 30.0})
    seen = world.look_at_drift()
    (event,) = world.events(DriftJudged)
    facts = json.loads(json.dumps(event.facts, allow_nan=False))
    assert event.verdict == "fail" and event.reason == seen.reason
    assert facts["raising"] == list(seen.raising)
    assert facts["ranking"][0]["column"] == "amount"
    assert facts["attribution"][0]["batches"][0]["batch"] == "tuesday"
    (batch,) = facts["batches"]
    assert (batch["batch"], batch["sent"]["run_id"], len(batch["requests"])) == ("tuesday", "run-tuesday", 5)
    # A ledger forgets nothing, so what clients sent is not put into it.
    assert batch["sample"] == []
    (sent,) = world.memory.alerter.sent
    assert (sent.channel, sent.title) == (
        "risk-pager",
        f"{ENDPOINT}: drift of {SCORE}, amount on {world.release_id}",
    )
    assert "batch tuesday carries" in sent.body and "Dag run run-tuesday of score__fraud-scorer" in sent.body
    assert (sent.facts["batch"], sent.facts["ledger entry"]) == ("tuesday", str(seen.seq))
    assert world.ledger.port.read(ENDPOINT)[seen.seq - 1].event == event


def test_a_drift_that_moves_no_score_wakes_nobody_and_is_traced_all_the_same(world: DriftWorld) -> None:
    world.send("monday")
    world.send("tuesday", shifted={"hour": 20.0})
    seen = world.look_at_drift()
    assert (seen.verdict, seen.raising, world.alerts) == ("pass", (), [])
    assert "drifted without harm: hour" in seen.reason
    assert seen.traced is not None
    assert [batch.batch for batch in seen.traced.batches] == ["tuesday"]


def test_a_limit_of_no_damage_makes_every_drift_an_alarm(trained: Reference) -> None:
    world = DriftWorld(judged_by("window: 6h, damage: 0"), trained=trained)
    world.send("monday", shifted={"hour": 20.0})
    assert world.look_at_drift().raising == ("hour",)


def test_limits_are_those_of_the_manifest(trained: Reference) -> None:
    world = DriftWorld(judged_by("window: 6h, limits: {psi: 20, ks: 0.99}"), trained=trained)
    world.send("monday", shifted={"amount": 30.0})
    assert world.look_at_drift().verdict == "pass"
    strict = make_manifest(judged_by("window: 6h, limits: {psi: 0.2}"))
    assert world.look_at_drift(manifest=strict).verdict == "fail"


# What a column does over the day is no drift.


def timed_reference() -> Reference:
    """Four weeks in which ``amount`` goes with the hour of the day, up to the moment at which tests begin."""
    chance = np.random.default_rng(5)
    hours = np.repeat(np.arange(28 * 24), 40)
    amount = 50.0 + 15.0 * np.sin(2 * np.pi * hours / 24) + chance.normal(0.0, 5.0, len(hours))
    begin = World(BLOCK).clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=28)
    times = (begin.timestamp() + hours * 3600.0 + 1800.0) * 1e9
    rows = {"amount": amount, "hour": (hours % 24).astype(float), "country": chance.choice(["NL", "BE"], len(hours))}
    return make_reference(rows, scores=1 / (1 + np.exp(-(amount - 50) / 10)), times=times.astype("datetime64[ns]"))


def night(world: DriftWorld, *, shift: float = 0.0) -> None:
    """1,000 requests of the two hours that begin now, as that time of day was in the reference."""
    hour = (world.clock.now().hour) % 24
    chance, plane = np.random.default_rng(6), world.memory.plane
    begin = World(BLOCK).clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=28)
    since_begin = round((world.clock.now() - begin).total_seconds() // 3600)
    for number in range(2000):
        place = since_begin + number // 1000
        inputs = {
            "amount": float(50.0 + shift + 15.0 * np.sin(2 * np.pi * place / 24) + chance.normal(0.0, 5.0)),
            "hour": float(place % 24),
            "country": str(chance.choice(["NL", "BE"])),
        }
        plane.answer(ENDPOINT, f"r{number}", {world.release_id: float(score_of(inputs))}, inputs=inputs, batch="")
        if number % 1000 == 999:
            world.clock.advance(3600)
    assert hour == (world.clock.now().hour - 2) % 24


@pytest.mark.parametrize(
    ("season", "named", "compared", "shift", "verdict"),
    [
        ("", None, "day", 0.0, "pass"),
        ("", None, "day", -11.0, "fail"),
        (", season: none", "none", None, 0.0, "pass"),
        (", season: day", "day", "day", 0.0, "pass"),
        (", season: day", "day", "day", -11.0, "fail"),
    ],
)
def test_a_window_is_judged_by_what_its_time_of_day_does(
    season: str, named: str | None, compared: str | None, shift: float, verdict: str
) -> None:
    world = DriftWorld(judged_by(f"window: 2h{season}"), trained=timed_reference())
    now = world.clock.now()
    world.clock.advance((24 * 3600 - (now.hour * 3600 + now.minute * 60 + now.second)) + 6 * 3600)
    night(world, shift=shift)
    seen = world.look_at_drift()
    assert seen.verdict == verdict, seen.reason
    assert (seen.facts()["demand"].get("season"), seen.facts()["season"]) == (named, compared)
    assert ("same hours of the day: it explains" in seen.reason) is (named is None)


@pytest.mark.parametrize("cycle", ["", ", cycle: false"])
def test_the_same_window_is_drift_where_rows_are_of_no_time(cycle: str) -> None:
    """The reference does not know it, or the manifest says that they are scored at another."""
    timed = timed_reference()
    untimed = Reference(columns={name: replace(column, chunks=None) for name, column in timed.columns.items()})
    world = DriftWorld(judged_by(f"window: 2h{cycle}"), trained=timed if cycle else untimed)
    now = world.clock.now()
    world.clock.advance((24 * 3600 - (now.hour * 3600 + now.minute * 60 + now.second)) + 6 * 3600)
    night(world)
    assert world.look_at_drift().verdict == "fail"


def test_a_season_that_the_reference_does_not_know_is_undecided(trained: Reference) -> None:
    world = DriftWorld(judged_by("window: 6h, season: week"), trained=trained)
    world.send("monday")
    seen = world.look_at_drift()
    assert seen.verdict == "inconclusive" and "does not know the times of its rows" in seen.reason


# One faulty batch of many does not move the window.


BATCHES = 12


def send_many(world: DriftWorld, **faulty: Any) -> None:
    """Twelve batches of 300 rows, of which ``b07`` is as ``faulty`` says."""
    for number in range(BATCHES):
        world.send(f"b{number:02d}", rows=300, **(faulty if number == 7 else {}))


def test_one_faulty_batch_raises_the_alarm_although_the_window_is_well(world: DriftWorld) -> None:
    send_many(world, shifted={"amount": 10.0})
    seen = world.look_at_drift()
    assert (seen.verdict, seen.raising, seen.faulty_batches) == ("fail", (), ("b07",))
    assert "batch b07 is faulty: " in seen.reason and "amount: psi " in seen.reason
    assert seen.traced is not None
    (batch,) = seen.traced.batches
    assert (batch.batch, batch.rows, batch.shares) == ("b07", 300, {})
    assert batch.sent is not None and batch.sent.run_id == "run-b07"
    assert {row.batch for row in batch.sample} == {"b07"} and len(batch.sample) == 5
    assert "task score of Dag run run-b07" in seen.message
    with pytest.raises(DriftFound, match="b07"):
        drift_check.require(seen)


def test_ledger_alert_and_drill_down_name_the_faulty_batch(world: DriftWorld) -> None:
    send_many(world, shifted={"amount": 10.0})
    for _ in range(2):
        seen = world.look_at_drift()
    (sent,) = world.memory.alerter.sent
    assert sent.title == f"{ENDPOINT}: faulty batch b07 on {world.release_id}"
    assert sent.facts["batch"] == "b07" and "Dag run run-b07" in sent.facts["sent by"]
    entry = world.ledger.port.read(ENDPOINT)[seen.seq - 1]
    assert isinstance(entry.event, DriftJudged)
    facts = json.loads(json.dumps(entry.event.facts, allow_nan=False))
    assert {fault["batch"] for fault in facts["faults"]} == {"b07"}
    assert {fault["column"] for fault in facts["faults"]} == {SCORE, "amount"}
    # From the alert's ledger entry to the batch, when the window has long passed.
    world.clock.advance(7 * 86_400)
    looked, traced = attribute(world.platform, ENDPOINT, seq=int(sent.facts["ledger entry"]))
    (batch,) = traced.batches
    assert (batch.batch, batch.sent is not None) == ("b07", True)
    assert [fault.column for fault in batch.faults] == [fault["column"] for fault in facts["faults"]]
    (batch,) = attribute(world.platform, ENDPOINT, column="amount")[1].batches
    assert [fault.column for fault in batch.faults] == ["amount"]


def test_another_faulty_batch_is_told_of_and_the_same_is_not(world: DriftWorld) -> None:
    send_many(world, shifted={"amount": 10.0})
    world.look_at_drift()
    world.send("later", rows=300, shifted={"amount": -10.0})
    world.look_at_drift()
    titles = [sent.title for sent in world.memory.alerter.sent]
    assert [title.partition(": ")[2].partition(" on ")[0] for title in titles] == [
        "faulty batch b07",
        "faulty batch later",
    ]


def test_a_batch_that_differs_in_what_moves_no_score_wakes_nobody(world: DriftWorld) -> None:
    send_many(world, shifted={"hour": 8.0})
    seen = world.look_at_drift()
    assert (seen.verdict, seen.faulty_batches, world.alerts) == ("pass", (), [])
    assert "unlike other batches without harm: hour of batch b07" in seen.reason


def test_batches_that_differ_by_nature_are_left_alone(trained: Reference) -> None:
    world = DriftWorld(judged_by("window: 6h, batches: false"), trained=trained)
    send_many(world, shifted={"amount": 10.0})
    seen = world.look_at_drift()
    assert (seen.verdict, seen.faults.faults) == ("pass", ())
    assert "batches" in seen.facts()["demand"]


def test_a_block_of_before_batches_were_tested_keeps_its_digest() -> None:
    assert "batches" not in make_manifest(BLOCK).environments["production"].drift.to_json()  # type: ignore[union-attr]


def test_a_faulty_batch_alone_is_no_news_for_who_retrains(world: DriftWorld) -> None:
    """The Asset's followers would train on the fault."""
    send_many(world, shifted={"amount": 10.0})
    seen = world.drift_by("run-1")
    assert (seen.verdict, seen.news) == ("fail", False)


def test_batches_that_are_alike_are_not_named(world: DriftWorld) -> None:
    send_many(world)
    seen = world.look_at_drift()
    assert (seen.verdict, seen.faults.faults, seen.faults.batches) == ("pass", (), BATCHES)


# What is not measured never passes.


@pytest.mark.parametrize("rows", [0, 5])
def test_too_few_rows_are_inconclusive(world: DriftWorld, rows: int) -> None:
    if rows:
        world.send("monday", rows=rows)
    seen = world.look_at_drift()
    assert (seen.verdict, seen.rows, world.alerts) == ("inconclusive", rows, [])
    assert ("answered no rows" if rows == 0 else "chance alone reaches") in seen.reason
    assert world.events(DriftJudged)[-1].verdict == "inconclusive"


def test_without_a_reference_nothing_is_judged() -> None:
    world = DriftWorld(trained=None)
    world.send("monday", shifted={"amount": 30.0})
    seen = world.look_at_drift()
    assert seen.verdict == "inconclusive" and "without a reference" in seen.reason


@pytest.mark.parametrize(("dropped", "verdict"), [(20, "fail"), (21, "inconclusive")])
def test_rows_that_were_not_counted_make_it_inconclusive_above_a_share(
    world: DriftWorld, dropped: int, verdict: str
) -> None:
    world.send("monday", rows=1980, shifted={"amount": 30.0})
    world.memory.plane.drop_predictions(ENDPOINT, world.release_id, dropped)
    seen = world.look_at_drift()
    assert seen.verdict == verdict
    assert verdict == "fail" or "1.05% of the rows were not counted, at most 1%" in seen.reason


def test_a_column_that_is_absent_is_an_error_and_the_batch_is_named(world: DriftWorld) -> None:
    world.send("monday")
    world.send("tuesday", without="country")
    seen = world.look_at_drift()
    assert seen.verdict == "error"
    assert "have no such column" in seen.reason
    assert seen.traced is not None
    assert [(batch.batch, list(batch.shares)) for batch in seen.traced.batches] == [("tuesday", ["country"])]


def test_on_call_is_told_once_of_a_column_that_is_broken_and_by_whose_batch(world: DriftWorld) -> None:
    world.send("monday")
    world.send("tuesday", without="country")
    for _ in range(2):
        world.look_at_drift()
    (sent,) = world.memory.alerter.sent
    assert sent.title == f"{ENDPOINT}: broken: country on {world.release_id}"
    assert sent.facts["batch"] == "tuesday"


def test_a_plane_that_does_not_answer_is_raised_and_nothing_is_written(world: DriftWorld) -> None:
    world.send("monday")
    world.memory.plane.away = True
    with pytest.raises(PlaneUnavailable):
        world.look_at_drift()
    assert world.events(DriftJudged) == []


def test_counts_that_cannot_be_read_are_an_error(world: DriftWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: Any, **__: Any) -> Any:
        raise SketchUnusable("stored reference", value="KeyError: columns")

    monkeypatch.setattr(world.memory.plane, "sketches", unreadable)
    seen = world.look_at_drift()
    assert seen.verdict == "error" and "KeyError: columns" in seen.reason
    (sent,) = world.memory.alerter.sent
    assert sent.title.endswith("cannot be measured") and "KeyError: columns" in sent.body


def test_a_plane_that_goes_away_in_between_costs_the_attribution_and_not_the_alarm(
    world: DriftWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send("monday", shifted={"amount": 30.0})

    def away(*_: Any, **__: Any) -> Any:
        raise PlaneUnavailable("serving plane", value="ConnectTimeout")

    monkeypatch.setattr(world.memory.plane, "sketches_by_batch", away)
    seen = world.look_at_drift()
    assert seen.verdict == "fail" and len(world.alerts) == 1
    assert seen.traced is not None
    assert not any(one.conclusive for one in seen.traced.attributions)
    assert "ConnectTimeout" in world.memory.alerter.sent[0].body


def test_nothing_current_and_a_window_of_no_time_are_refused(world: DriftWorld) -> None:
    now = world.clock.now()
    with pytest.raises(InvalidQuantity, match="an end after its beginning"):
        world.look_at_drift(since=now, until=now)
    with pytest.raises(DriftUndecided, match="nothing is current"):
        drift_check.look(World(BLOCK).platform, ENDPOINT)


def test_a_manifest_that_says_nothing_of_drift_cannot_judge_but_defaults_can(trained: Reference) -> None:
    world = DriftWorld(("staging:", "staging:"), trained=trained)
    world.send("monday")
    assert world.manifest.environments["production"].drift is None
    assert world.look_at_drift().verdict == "pass"
    with pytest.raises(ManifestInvalid, match="environments.production.drift"):
        world.look_at_drift(manifest=world.manifest)


# The window, and another release.


def test_only_the_window_is_looked_at(world: DriftWorld) -> None:
    world.send("monday", shifted={"amount": 30.0})
    noon = world.clock.now()
    world.clock.advance(7 * 3600)
    world.send("tuesday")
    assert world.look_at_drift().verdict == "pass"
    assert world.look_at_drift(until=noon).verdict == "fail"
    assert world.look_at_drift(since=noon - timedelta(hours=1)).verdict == "fail"


def test_nobody_is_woken_by_history_and_a_good_past_says_nothing_of_today(world: DriftWorld) -> None:
    good = world.clock.now() + timedelta(minutes=2)
    world.send("monday")
    world.clock.advance(8 * 3600)
    world.send("tuesday", shifted={"amount": 30.0})
    bad = world.clock.now()
    assert world.look_at_drift().verdict == "fail"
    assert world.look_at_drift(until=good).verdict == "pass"
    world.look_at_drift()
    assert len(world.alerts) == 1
    world.clock.advance(24 * 3600)
    world.send("wednesday")
    assert world.look_at_drift().verdict == "pass"
    assert world.look_at_drift(until=bad).verdict == "fail"
    assert len(world.alerts) == 1


def test_a_release_that_is_not_current_may_be_looked_at(world: DriftWorld) -> None:
    seen = world.look_at_drift(release="other-release")
    assert (seen.release, seen.verdict) == ("other-release", "inconclusive")


# Whom it tells, and when again.


def test_on_call_is_told_once_of_the_same_drift_and_again_when_it_comes_back(world: DriftWorld) -> None:
    world.send("monday", shifted={"amount": 30.0})
    for _ in range(3):
        assert world.look_at_drift().verdict == "fail"
    assert len(world.alerts) == 1
    world.clock.advance(7 * 3600)
    world.send("tuesday")
    assert world.look_at_drift().verdict == "pass"
    world.clock.advance(7 * 3600)
    world.send("wednesday", shifted={"amount": 30.0})
    world.look_at_drift()
    assert len(world.alerts) == 2


def test_an_alert_that_did_not_arrive_is_sent_again(world: DriftWorld) -> None:
    world.send("monday", shifted={"amount": 30.0})
    world.memory.alerter.trouble = "no route to the pager"
    world.look_at_drift()
    world.memory.alerter.trouble = ""
    world.look_at_drift()
    world.look_at_drift()
    assert [event.failures for event in world.events(AlertRaised)] == [("channel risk-pager: no route to the pager",)]
    assert [bool(event.notified) for event in world.events(AlertRetried)] == [True]
    assert len(world.alerts) == 1


def test_a_manifest_may_ask_for_silence(trained: Reference) -> None:
    world = DriftWorld(judged_by("window: 6h, alert: false"), trained=trained)
    world.send("monday", shifted={"amount": 30.0})
    assert (world.look_at_drift().verdict, world.alerts) == ("fail", [])


def test_a_drift_is_news_to_each_task_once(world: DriftWorld) -> None:
    world.send("monday", shifted={"amount": 30.0})
    assert world.drift_by("run-1").news
    # Another try of the same run has found the same thing.
    assert world.drift_by("run-1").news
    assert not world.drift_by("run-2").news
    assert world.drift_by("run-2", task="another").news
    assert world.look_at_drift().news
    world.send("tuesday", shifted={"amount": 30.0, "hour": 20.0})
    assert not world.drift_by("run-3").news
    world.clock.advance(7 * 3600)
    world.send("wednesday")
    assert not world.drift_by("run-4").news
    world.clock.advance(7 * 3600)
    world.send("thursday", shifted={"amount": 30.0})
    assert world.drift_by("run-5").news


def test_measuring_alone_writes_nothing_and_tells_nobody(world: DriftWorld) -> None:
    world.send("monday", shifted={"amount": 30.0})
    before = len(world.events())
    seen = drift_check.measure(world.platform, ENDPOINT)
    assert (seen.verdict, seen.seq, seen.traced) == ("fail", 0, None)
    assert (len(world.events()), world.alerts) == (before, [])


# The page for people.


@pytest.fixture
def snapshot(world: DriftWorld, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The rows that the release was trained from: three quarters before the split, one after it."""
    dataset = make_candidate("1.0.0").dataset
    rows = pd.DataFrame(training_rows(400)).assign(**{"fraud": 0, dataset.time_column: dataset.window_start})
    rows.loc[300:, dataset.time_column] = dataset.split_at
    monkeypatch.setattr(world.memory.snapshots, "read", lambda _: rows)
    return rows


def test_a_drift_is_drawn_beside_the_rows_that_its_reference_was_made_of(
    world: DriftWorld, snapshot: pd.DataFrame
) -> None:
    world.send("monday", shifted={"amount": 30.0})
    seen = world.look_at_drift()
    (drawn,) = world.memory.drift_reporter.drawn
    pd.testing.assert_frame_equal(drawn.trained, snapshot.loc[300:, ["amount", "hour", "country"]])
    assert len(drawn.served) == 2000 and drawn.served["amount"].mean() > 70
    assert (drawn.release, drawn.at) == (world.release_id, world.clock.now())
    assert seen.page.address == f"memory://drift/{ENDPOINT}/1"
    assert world.events(DriftJudged)[-1].facts["links"] == {"report": seen.page.address}
    assert world.memory.alerter.sent[0].facts["report"] == seen.page.address


@pytest.mark.usefixtures("snapshot")
def test_what_raises_no_alarm_is_not_drawn(world: DriftWorld) -> None:
    world.send("monday", shifted={"hour": 20.0})
    world.look_at_drift()
    assert world.memory.drift_reporter.drawn == []


def test_a_page_that_cannot_be_drawn_costs_nothing_else(world: DriftWorld) -> None:
    world.send("monday", shifted={"amount": 30.0})
    # Nobody has kept the training rows.
    world.memory.snapshots.tables.clear()
    seen = world.look_at_drift()
    assert (seen.verdict, seen.page.address) == ("fail", "") and "rows with digest" in seen.page.trouble
    unknown = world.release_id.replace("1.0.0", "0.9.0", 1)
    world.memory.plane.know_reference(unknown, reference())
    send_batch(world.memory, ENDPOINT, unknown, "old", shifted={"amount": 30.0})
    world.clock.advance(60)
    assert "no longer knows which rows" in world.look_at_drift(release=unknown).page.trouble


@pytest.mark.usefixtures("snapshot")
def test_a_reporter_in_trouble_and_none_at_all(world: DriftWorld) -> None:
    world.send("monday", shifted={"amount": 30.0})
    world.memory.drift_reporter.trouble = "the disk is full"
    assert world.look_at_drift().page.trouble == "the disk is full"
    seen = drift_check.look(replace(world.platform, drift_reporter=None), ENDPOINT)
    assert (seen.verdict, seen.page.address, seen.page.trouble) == ("fail", "", "")
    assert world.events(DriftJudged)[-1].facts["links"] == {}


# Attributing later.


def test_a_past_drift_is_attributed_when_somebody_asks(world: DriftWorld) -> None:
    world.send("monday")
    world.send("tuesday", shifted={"amount": 30.0})
    failed = world.look_at_drift()
    world.clock.advance(7 * 3600)
    world.send("wednesday")
    world.look_at_drift()
    entry, traced = attribute(world.platform, ENDPOINT)
    assert (entry.seq, [batch.batch for batch in traced.batches]) == (failed.seq, ["tuesday"])
    assert len(traced.batches[0].sample) == 5
    again, same = attribute(world.platform, ENDPOINT, seq=failed.seq)
    assert (again, same) == (entry, traced)


def test_any_column_may_be_attributed(world: DriftWorld) -> None:
    world.send("monday")
    world.send("tuesday", shifted={"hour": 20.0})
    world.look_at_drift()
    looked, traced = attribute(world.platform, ENDPOINT, column="hour")
    assert isinstance(looked, RoutineRecord), "the last look, although it had no news"
    assert (looked.event, traced.attributions[0].batches[0].batch) == (world.events(DriftJudged)[-1], "tuesday")
    _, nothing = attribute(world.platform, ENDPOINT, column="country")
    assert not nothing.attributions[0].conclusive and nothing.batches == ()
    with pytest.raises(DriftUndecided, match="column amuont"):
        attribute(world.platform, ENDPOINT, column="amuont")


def test_there_must_be_something_to_attribute(world: DriftWorld) -> None:
    with pytest.raises(NotFound, match="a look that found drift"):
        attribute(world.platform, ENDPOINT)
    world.send("monday")
    seen = world.look_at_drift()
    assert (seen.verdict, seen.seq) == ("pass", 0), "no news, no entry"
    with pytest.raises(NotFound, match="entry 0"):
        attribute(world.platform, ENDPOINT, seq=seen.seq)
    with pytest.raises(NotFound, match="entry 1"):
        attribute(world.platform, ENDPOINT, seq=1)


def test_rows_that_nobody_says_he_sent_are_said_to_be_so(world: DriftWorld) -> None:
    world.send("", shifted={"amount": 30.0}, announced=False)
    seen = world.look_at_drift()
    assert seen.traced is not None
    (batch,) = seen.traced.batches
    assert (batch.batch, batch.sent, len(batch.sample)) == ("", None, 5)
    assert batch.message == "requests without a batch: no task says that it sent them"


def test_of_two_that_sent_a_batch_the_last_is_named(world: DriftWorld) -> None:
    world.send("monday", rows=10)
    digest = world.send("monday", shifted={"amount": 30.0})
    seen = world.look_at_drift()
    assert seen.traced is not None
    sent = seen.traced.batches[0].sent
    assert sent is not None and sent.digest == digest


def test_a_drift_that_all_batches_share_names_none_as_its_carrier(world: DriftWorld) -> None:
    for day in range(12):
        world.send(f"day-{day}", rows=500, shifted={"amount": 8.0})
    seen = world.look_at_drift()
    assert seen.verdict == "fail" and seen.traced is not None
    assert seen.traced.batches == ()
    assert "none of them carries it" in seen.message


def entries(world: DriftWorld) -> list[str]:
    return [entry.event.verdict for entry in world.memory.ledger.read(ENDPOINT, types=("drift-judged",))]  # type: ignore[union-attr]


def test_looks_without_news_do_not_grow_the_chain(world: DriftWorld) -> None:
    world.look_at_drift()
    world.send("monday")
    for _ in range(3):
        world.look_at_drift()
    assert entries(world) == []
    assert [event.verdict for event in world.events(DriftJudged)] == ["inconclusive", "pass", "pass", "pass"]


def test_drift_and_its_end_stay_for_ever(world: DriftWorld) -> None:
    world.send("monday")
    world.look_at_drift()
    world.send("tuesday", shifted={"amount": 30.0}, rows=4_000)
    assert [world.look_at_drift().verdict for _ in range(2)] == ["fail", "fail"]
    told = len(world.alerts)
    world.clock.advance(6 * 3600)
    world.send("wednesday")
    assert [world.look_at_drift().verdict for _ in range(3)] == ["pass", "pass", "pass"]
    assert entries(world) == ["fail", "fail", "pass"], "the look that found no drift any more is news, the next are not"
    world.platform.ledger.prune(before=world.clock.now() + timedelta(days=1))
    world.send("thursday", shifted={"amount": 30.0}, rows=4_000)
    again = world.look_at_drift()
    assert (again.verdict, again.news, len(world.alerts)) == ("fail", True, told + 1), "it was away: on-call is told"
