"""One suite for every store of outcomes: in memory, SQLite, PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.adapters.sql.outcomes import SqlOutcomes
from airflow_provider_mlpipex.domain.errors import LedgerUnavailable, OutcomeConflict
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import Added, LabelledPrediction, LabelledSpan
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised
from airflow_provider_mlpipex.ports import OutcomeStore
from airflow_provider_mlpipex.testing.outcomes import MemoryOutcomes
from tests.support.factories import NOON, ORIGIN, make_release
from tests.support.ledgers import make_old_ledger
from tests.support.postgres import PostgresServer, postgres_server

OLD, NEW = make_release("1.0.0").id, make_release("1.1.0").id
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger/ledger.db"
    return str(request.getfixturevalue("postgres").url)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OutcomeStore:
    if request.param == "memory":
        return MemoryOutcomes()
    if request.param == "sqlite":
        return SqlOutcomes(f"sqlite:///{tmp_path}/ledger.db")
    return SqlOutcomes(request.getfixturevalue("postgres").url)


@pytest.fixture
def endpoint() -> EndpointRef:
    """Rows of its own for every test, since PostgreSQL is shared by the module."""
    return EndpointRef.parse(f"production/test-{uuid.uuid4().hex[:12]}")


def outcome(request_id: str, label: float | str = 1.0, **changes: Any) -> LabelledPrediction:
    fields = {"release": OLD, "served_at": NOON, "kind": "probability", "score": 0.25, "predicted": "0"}
    return LabelledPrediction(**{"request_id": request_id, "probabilities": None, "label": label, **fields, **changes})


def test_nothing_is_known_of_an_endpoint_without_outcomes(store: OutcomeStore, endpoint: EndpointRef) -> None:
    assert store.read(endpoint, OLD) == []
    assert store.spans(endpoint) == store.known(endpoint, ["a"]) == {}
    assert store.labels(endpoint, limit=5) == []
    assert store.add(endpoint, []) == Added()


def test_outcomes_come_back_as_they_went_in(store: OutcomeStore, endpoint: EndpointRef) -> None:
    kept = [
        outcome("a", score=0.1 + 0.2, observed_at=NOON + timedelta(days=21, microseconds=7)),
        outcome("b#1", "späte Überweisung", kind="text", score=None, predicted="ja'; --"),
        outcome("c", 2.0, probabilities=(0.1, 0.2, 0.7), score=0.7, predicted="2"),
        outcome("d", 1e-300, kind="number", score=-1e100, predicted="-1e+100"),
    ]
    assert store.add(endpoint, kept) == Added(added=4)
    assert store.read(endpoint, OLD) == kept
    assert store.known(endpoint, ["b#1", "nobody"]) == {"b#1": kept[1]}


def test_the_same_again_changes_nothing(store: OutcomeStore, endpoint: EndpointRef) -> None:
    store.add(endpoint, [outcome("a"), outcome("b", 0.0)])
    again = store.add(endpoint, [outcome("b", 0.0), outcome("a"), outcome("c")])
    assert again == Added(added=1, unchanged=2)
    assert len(store.read(endpoint, OLD)) == 3


def test_another_label_is_refused_and_nothing_is_kept(store: OutcomeStore, endpoint: EndpointRef) -> None:
    store.add(endpoint, [outcome("a", 1.0)])
    with pytest.raises(OutcomeConflict, match=r"a: 1.0 is kept, 0.0 given"):
        store.add(endpoint, [outcome("b"), outcome("a", 0.0)])
    assert store.read(endpoint, OLD) == [outcome("a", 1.0)]


def test_a_correction_replaces_the_label_and_not_what_was_served(store: OutcomeStore, endpoint: EndpointRef) -> None:
    store.add(endpoint, [outcome("a", 1.0), outcome("b", 1.0)])
    corrected = replace(outcome("a", "chargeback"), observed_at=NOON + HOUR)
    wrong_release = replace(corrected, release=NEW, score=0.9)
    assert store.add(endpoint, [wrong_release, outcome("b", 1.0)], correct=True) == Added(unchanged=1, corrected=1)
    assert store.read(endpoint, OLD) == [corrected, outcome("b", 1.0)]


def test_rows_are_read_by_release_and_window(store: OutcomeStore, endpoint: EndpointRef) -> None:
    rows = [outcome(f"r{hour}", served_at=NOON + hour * HOUR, release=NEW if hour == 2 else OLD) for hour in range(5)]
    store.add(endpoint, rows[::-1])
    assert store.read(endpoint, OLD) == [rows[0], rows[1], rows[3], rows[4]], "in order of time"
    assert store.read(endpoint, OLD, since=NOON + HOUR, until=NOON + 3 * HOUR) == [rows[1], rows[3]]
    assert store.read(endpoint, NEW) == [rows[2]]
    assert store.spans(endpoint) == {
        OLD: LabelledSpan(rows=4, first=NOON, last=NOON + 4 * HOUR),
        NEW: LabelledSpan(rows=1, first=NOON + 2 * HOUR, last=NOON + 2 * HOUR),
    }


def test_distinct_labels_numbers_and_text(store: OutcomeStore, endpoint: EndpointRef) -> None:
    store.add(endpoint, [outcome("a", 0.0), outcome("b", 1.0), outcome("c", 1.0)])
    assert store.labels(endpoint, limit=5) == [0.0, 1.0]
    assert len(store.labels(endpoint, limit=1)) == 1


def test_endpoints_do_not_see_each_other(store: OutcomeStore, endpoint: EndpointRef) -> None:
    other = EndpointRef(environment="staging", name=endpoint.name)
    store.add(endpoint, [outcome("a", 1.0)])
    assert store.add(other, [outcome("a", 0.0)]) == Added(added=1)
    assert store.labels(endpoint, limit=5) == [1.0]


def test_thousands_at_once(store: OutcomeStore, endpoint: EndpointRef) -> None:
    rows = [outcome(f"{number:05}", float(number % 2)) for number in range(3000)]
    assert store.add(endpoint, rows) == Added(added=3000)
    assert store.add(endpoint, rows) == Added(unchanged=3000)
    assert store.read(endpoint, OLD) == rows


def test_eight_ingests_of_the_same_rows_keep_them_once(store: OutcomeStore, endpoint: EndpointRef) -> None:
    rows = [outcome(f"{number:03}") for number in range(200)]
    added: list[Added] = []
    barrier = threading.Barrier(8)

    def ingest() -> None:
        barrier.wait()
        added.append(store.add(endpoint, rows))

    threads = [threading.Thread(target=ingest) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.added for one in added) == [0] * 7 + [200]
    assert len(store.read(endpoint, OLD)) == 200


def test_outcomes_live_beside_a_ledger_that_was_there_before(url: str, endpoint: EndpointRef) -> None:
    SqlLedger(url).append(endpoint, expected_seq=0, events=[AlertRaised(title="a")], origin=ORIGIN)
    SqlOutcomes(url).add(endpoint, [outcome("a")])
    assert len(SqlLedger(url).read(endpoint)) == 1
    assert SqlOutcomes(url).read(endpoint, OLD) == [outcome("a")]


def test_a_ledger_from_before_outcomes_is_brought_up_to_date(tmp_path: Path, endpoint: EndpointRef) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    entries = hash_chain.extend(endpoint, None, [AlertRaised(title="a")], now=NOON, origin=ORIGIN)
    make_old_ledger(url, revision="r0001", entries=entries)
    assert SqlOutcomes(url).add(endpoint, [outcome("a")]) == Added(added=1)
    assert len(SqlLedger(url).read(endpoint)) == 1


def test_a_locked_database_is_unavailable_and_then_goes_on(
    tmp_path: Path, endpoint: EndpointRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_mlpipex.adapters.sql.database.LOCK_TIMEOUT_S", 0.2)
    store = SqlOutcomes(f"sqlite:///{tmp_path}/ledger.db")
    store.add(endpoint, [outcome("a")])
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        store.add(endpoint, [outcome("b")])
    holder.execute("ROLLBACK")
    assert store.add(endpoint, [outcome("a"), outcome("b")]) == Added(added=1, unchanged=1)
