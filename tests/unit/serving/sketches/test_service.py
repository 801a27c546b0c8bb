"""What the plane answers from its sketches: up to date, bounded, and readable when the release is long gone."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from airflow_provider_mlpipex.domain.drift.attribution import attribute
from airflow_provider_mlpipex.domain.drift.batch_faults import counts_of, find_faults
from airflow_provider_mlpipex.domain.drift.references import REFERENCE_PATH, Reference, make_reference
from airflow_provider_mlpipex.domain.drift.report import BatchFaults
from airflow_provider_mlpipex.domain.drift.served import REST, BatchSketches, ServedSketches
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, merge
from airflow_provider_mlpipex.domain.errors import ArtifactMismatch, PlaneUnavailable, SketchUnusable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.artifacts import directory_digest
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.prediction_log.reader import STATS_FILE
from airflow_provider_mlpipex.serving.sketches import aggregation
from airflow_provider_mlpipex.serving.sketches import service as sketch_service
from airflow_provider_mlpipex.serving.sketches import store as sketch_store
from airflow_provider_mlpipex.serving.sketches.service import SketchedLogs
from airflow_provider_mlpipex.serving.state_dir import Places
from tests.support.factories import make_release
from tests.support.polling import until

FRAUD, CHURN = EndpointRef.parse("production/fraud-scorer"), EndpointRef.parse("production/churn")
NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
DAYS = timedelta(days=1)


def trained() -> Reference:
    generator = np.random.default_rng(1)
    return make_reference({"amount": generator.normal(size=5000)}, scores=generator.random(5000))


REFERENCE = trained()


def counted(values: Sequence[Any]) -> Sketch:
    """What the reference itself counts of rows that :meth:`Plane.serve` wrote."""
    return REFERENCE.sketch({"amount": values}, scores=[0.5] * len(values))["amount"]


class Plane:
    """Its state folder as fleet and model servers leave it. Times are seconds before ``now``."""

    def __init__(self, root: Path) -> None:
        self.places = Places(root / "plane")
        self.said: list[str] = []
        self.now = NOW
        self.logs = self.restarted()

    def restarted(self) -> SketchedLogs:
        return SketchedLogs(
            self.places,
            say=lambda what, error: self.said.append(f"{what}: {type(error).__name__}: {error}"),
            now=lambda: self.now.timestamp(),
        )

    def launch(
        self, version: str = "1.0.0", endpoint: EndpointRef = FRAUD, reference: str | None = None, digest: str = ""
    ) -> str:
        """A release that ran here; its artifact holds :data:`REFERENCE`, another text, or nothing (empty)."""
        folder = self.places.artifacts / version
        (folder / REFERENCE_PATH).parent.mkdir(parents=True)
        (folder / "model.pkl").write_bytes(b"model")
        text = orjson.dumps(REFERENCE.to_json()).decode() if reference is None else reference
        if text:
            (folder / REFERENCE_PATH).write_text(text)
        release = make_release(version)
        model = release.model.model_copy(update={"artifact_digest": digest or directory_digest(folder)})
        release = release.model_copy(update={"model": model})
        spec = ModelServerSpec(
            endpoint=endpoint,
            release=release,
            model_dir=str(folder),
            socket="unused",
            log_dir=str(self.places.prediction_log(endpoint, release.id)),
        )
        server = self.places.server(endpoint, release.id)
        server.mkdir(parents=True)
        (server / "spec.json").write_text(spec.model_dump_json())
        return release.id

    def serve(
        self, release: str, values: Sequence[Any], *, ago: float = 60.0, batch: str = "", endpoint: EndpointRef = FRAUD
    ) -> None:
        folder = self.places.prediction_log(endpoint, release)
        folder.mkdir(parents=True, exist_ok=True)
        common = {"rid": "r", "t": self.now.timestamp() - ago, "status": 200, "batch": batch, "columns": ["amount"]}
        with (folder / "00000001.jsonl.open").open("ab") as stream:
            stream.writelines(orjson.dumps(common | {"inputs": [value], "score": 0.5}) + b"\n" for value in values)

    def sketches(self, release: str, *, days: float = 1, endpoint: EndpointRef = FRAUD) -> ServedSketches:
        found = self.logs.sketches(endpoint, release, since=self.now - days * DAYS, until=self.now)
        again = ServedSketches.from_json(json.loads(json.dumps(found.to_json())))
        assert (again.columns, again.since, again.until) == (found.columns, found.since, found.until)
        return found

    def batches(self, release: str, *, days: float = 1, column: str = "amount") -> BatchSketches:
        found = self.logs.sketches_by_batch(FRAUD, release, column=column, since=self.now - days * DAYS, until=self.now)
        again = BatchSketches.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
        assert (again.batches, again.rest, again.since, again.until) == (
            found.batches,
            found.rest,
            found.since,
            found.until,
        )
        return found

    def rows(self, release: str, *, days: float = 1) -> int:
        return self.sketches(release, days=days).columns["amount"].rows


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    return Plane(tmp_path)


# Windows


def test_a_look_counts_what_was_logged_a_moment_ago(plane: Plane) -> None:
    release = plane.launch()
    for rows in (3, 5):
        plane.serve(release, [0.5] * rows)
        found = plane.sketches(release)
    assert {name: sketch.rows for name, sketch in found.columns.items()} == {"amount": 8, "@score": 8}
    assert found.reference is not None
    assert found.reference.to_json() == REFERENCE.to_json()
    assert found.dropped_share == 0.0


def test_a_window_is_whole_minutes(plane: Plane) -> None:
    release = plane.launch()
    for ago in (0.0, 30.0, 31.0, 90.0, 91.0):
        plane.serve(release, [0.5], ago=ago)
    found = plane.logs.sketches(FRAUD, release, since=NOW - timedelta(seconds=61), until=NOW)
    assert (found.since, found.until) == (NOW - timedelta(seconds=90), NOW + timedelta(seconds=30))
    assert found.columns["amount"].rows == 4
    empty = plane.logs.sketches(FRAUD, release, since=NOW + DAYS, until=NOW + 2 * DAYS)
    assert empty.columns["amount"] == REFERENCE.empty()["amount"]


def test_rows_that_were_lost_are_a_share_of_the_window(plane: Plane) -> None:
    release = plane.launch()
    plane.serve(release, [0.5] * 6)
    with (plane.places.prediction_log(FRAUD, release) / "00000001.jsonl.open").open("ab") as stream:
        stream.write(b"torn\n" + orjson.dumps({"t": NOW.timestamp() - 60, "dropped": 3}) + b"\n")
    assert plane.sketches(release).dropped_share == 0.4
    later = plane.logs.sketches(FRAUD, release, since=NOW + DAYS, until=NOW + 2 * DAYS)
    assert later.dropped_share == 0.0


def test_a_log_that_fell_silent_may_have_lost_everything(plane: Plane) -> None:
    release = plane.launch()
    plane.serve(release, [0.5])
    told = {"t": NOW.timestamp() - 60, "written": 1, "dropped": 0, "closed": False}
    (plane.places.prediction_log(FRAUD, release) / STATS_FILE).write_text(json.dumps(told))
    assert plane.sketches(release).dropped_share == 1.0


def test_minutes_that_are_gone_are_answered_as_hours(plane: Plane) -> None:
    release = plane.launch()
    plane.serve(release, [0.5] * 4, ago=50 * 86_400.0, batch="long ago")
    plane.serve(release, [0.5] * 2, batch="today")
    plane.sketches(release)
    found = plane.sketches(release, days=50)
    assert (found.columns["amount"].rows, found.since) == (6, (NOW - 50 * DAYS).replace(minute=0, second=0))
    batches = plane.batches(release, days=60)
    assert {name: sketch.rows for name, sketch in batches.batches.items()} == {"today": 2, REST: 4}
    only_old = plane.logs.sketches_by_batch(
        FRAUD, release, column="amount", since=NOW - 60 * DAYS, until=NOW - 40 * DAYS
    )
    assert {name: sketch.rows for name, sketch in only_old.batches.items()} == {REST: 4}


# Batches


def test_batches_are_told_apart_and_add_up(plane: Plane) -> None:
    release = plane.launch()
    generator = np.random.default_rng(3)
    sent = {f"b{number}": generator.normal(number / 5, 1, 50).tolist() for number in range(6)} | {"": [None, 0.5]}
    for place, (batch, values) in enumerate(sent.items()):
        plane.serve(release, values, batch=batch, ago=100.0 + place)
        plane.serve(release, values, batch=batch, ago=4000.0 * (place + 1))
    found = plane.batches(release)
    assert found.batches == {batch: counted(values * 2) for batch, values in sent.items()}
    assert found.rest == 0
    assert found.reference is not None
    assert attribute(found.reference, found.batches).batches[0].batch == "b5"
    assert merge(found.batches.values()).rows == plane.rows(release)


def test_of_too_many_batches_those_that_moved_the_column_are_given(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sketch_service, "MAX_BATCHES", 5)
    release = plane.launch()
    generator = np.random.default_rng(4)
    moved = {"b3", "b17", "b20", "b29"}
    values = {f"b{n}": generator.normal(3.0 * (f"b{n}" in moved), 1, 40).tolist() for n in range(30)}
    for batch, rows in values.items():
        plane.serve(release, rows, batch=batch)
    found = plane.batches(release)
    assert found.batches.keys() == moved | {REST}
    assert found.rest == 26
    rest = [value for batch, rows in values.items() if batch not in moved for value in rows]
    assert found.batches[REST] == counted(rest)


def test_a_column_that_nobody_knows_has_no_batches(plane: Plane) -> None:
    release = plane.launch()
    plane.serve(release, [0.5])
    found = plane.batches(release, column="unknown")
    assert (found.reference, found.batches) == (None, {})
    assert plane.batches(plane.launch("2.0.0")).batches == {}


# Releases


def test_a_release_without_a_reference_is_not_counted(plane: Plane) -> None:
    release = plane.launch(reference="")
    plane.serve(release, [0.5])
    found = plane.sketches(release)
    assert (found.reference, found.columns) == (None, {})
    assert plane.batches(release).reference is None
    assert not plane.places.sketches(FRAUD, release).exists()
    assert plane.sketches(make_release("9.9.9").id).reference is None


def test_a_release_that_is_gone_is_still_answered(plane: Plane) -> None:
    release = plane.launch()
    plane.serve(release, [0.5] * 3)
    assert plane.rows(release) == 3
    for folder in (plane.places.artifacts, plane.places.root / "servers", plane.places.predictions):
        shutil.rmtree(folder)
    plane.logs = plane.restarted()
    assert plane.rows(release) == 3


def test_a_reference_that_is_not_the_registered_one_is_refused(plane: Plane) -> None:
    release = plane.launch(digest="0" * 64)
    plane.serve(release, [0.5])
    with pytest.raises(ArtifactMismatch):
        plane.sketches(release)


# The thread


def test_one_log_s_trouble_does_not_stop_the_others(plane: Plane) -> None:
    broken = plane.launch("1.0.0", reference="{}")
    whole = [plane.launch("1.1.0"), plane.launch("1.2.0", CHURN)]
    plane.serve(broken, [0.5])
    for release, endpoint in zip(whole, (FRAUD, CHURN), strict=True):
        plane.serve(release, [0.5], endpoint=endpoint)
    plane.logs.work()
    (said,) = plane.said
    assert "SketchUnusable" in said
    assert "fraud-scorer--1-0-0" in said
    stores = (plane.places.sketches(FRAUD, whole[0]), plane.places.sketches(CHURN, whole[1]))
    assert all(_position(path)["offset"] > 0 for path in stores)
    with pytest.raises(SketchUnusable):
        plane.sketches(broken)


def _position(path: Path) -> Any:
    with sqlite3.connect(path) as database:
        return json.loads(database.execute("SELECT value FROM meta WHERE key = 'position'").fetchone()[0])


def test_a_full_disk_is_said_and_the_next_round_counts_it_all(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    release = plane.launch()
    assert plane.rows(release) == 0
    for number in range(30):
        plane.serve(release, [0.1 * number], batch=f"b{number}")
    connected = sketch_store._connected

    @contextmanager
    def on_a_full_disk(path: Path) -> Any:
        with connected(path) as database:
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            database.execute(f"PRAGMA max_page_count = {pages}")
            yield database

    with monkeypatch.context() as full:
        full.setattr(sketch_store, "_connected", on_a_full_disk)
        plane.logs.work()
        (said,) = plane.said
        assert "full" in said
        with pytest.raises(PlaneUnavailable, match="full"):
            plane.sketches(release)
    plane.logs.work()
    assert len(plane.said) == 1
    assert plane.rows(release) == 30


def test_the_thread_counts_by_itself_and_ends_when_told(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch_service, "EVERY_S", 0.05)
    release = plane.launch()
    plane.serve(release, [0.5] * 3)
    logs = plane.restarted()
    logs.start()
    path = plane.places.sketches(FRAUD, release)

    def counted() -> bool:
        return path.exists() and _has_position(path)

    until(counted, within_s=20, what="the log is counted")
    logs.stop()
    assert not any(thread.name == "sketches" and thread.is_alive() for thread in threading.enumerate())
    assert plane.said == []
    assert plane.rows(release) == 3


def _has_position(path: Path) -> bool:
    with sqlite3.connect(path) as database:
        tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]
        return bool(tables and database.execute("SELECT 1 FROM meta WHERE key = 'position'").fetchone())


def test_looks_at_the_same_time_count_each_row_once(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "CHUNK_BYTES", 500)
    release = plane.launch()
    plane.serve(release, np.linspace(-2, 2, 200).tolist())
    looks: list[Callable[[], Any]] = [lambda: plane.rows(release)] * 3 + [plane.logs.work]
    with ThreadPoolExecutor(len(looks)) as pool:
        found = [each.result() for each in [pool.submit(look) for look in looks]]
    assert found == [200, 200, 200, None]


def test_batches_are_tested_as_their_own_sketches_say(plane: Plane) -> None:
    """What the store keeps by minute says the same of each batch as its whole rows do, also beyond training's range."""
    release, chance = plane.launch(), np.random.default_rng(7)
    sent = {f"b{number}": chance.normal(size=200).tolist() for number in range(8)}
    sent["b3"] = [value + 1.0 for value in sent["b3"]]
    sent["b5"][:6] = [-999.0, 999.0, None, -999.0, 999.0, -999.0]
    for place, (batch, values) in enumerate(sent.items()):
        half = len(values) // 2
        plane.serve(release, values[:half], batch=batch, ago=3600.0 * (place + 1))
        plane.serve(release, values[half:], batch=batch, ago=60.0)
    found = plane.logs.batch_faults(FRAUD, release, since=plane.now - DAYS, until=plane.now, psi=0.2, alpha=0.01)
    sketches = {batch: counted(values) for batch, values in sent.items()}
    scores = {batch: REFERENCE.sketch({"amount": v}, scores=[0.5] * len(v))["@score"] for batch, v in sent.items()}
    by_hand = find_faults(
        REFERENCE,
        {
            "amount": counts_of(REFERENCE.columns["amount"], sketches),
            "@score": counts_of(REFERENCE.columns["@score"], scores),
        },
        psi=0.2,
        alpha=0.01,
    )
    assert found == by_hand
    assert [(fault.batch, fault.kind) for fault in found.faults] == [("b3", "values"), ("b5", "beyond")]
    nothing = plane.logs.batch_faults(FRAUD, "nobody", since=plane.now - DAYS, until=plane.now, psi=0.2, alpha=0.01)
    assert nothing == BatchFaults()
