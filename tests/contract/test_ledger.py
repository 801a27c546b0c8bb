"""One suite for every ledger: in memory, SQLite, PostgreSQL."""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_mlpipex.adapters.sql.database import SqlDatabase, make_engine
from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.errors import (
    ConfigurationInvalid,
    LedgerConflict,
    LedgerTampered,
    LedgerUnavailable,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, Event, RolloutOpened, StageEnded, WatchPassed
from airflow_provider_mlpipex.ports import Ledger
from airflow_provider_mlpipex.testing.ledger import MemoryLedger
from tests.support.factories import NOON, ORIGIN, make_policy, make_release
from tests.support.postgres import PostgresServer, postgres_server


class SteppedClock:
    """Shows what the test sets."""

    def __init__(self) -> None:
        self.moment = NOON

    def now(self) -> datetime:
        return self.moment


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger/ledger.db"
    return request.getfixturevalue("postgres").url


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: SteppedClock) -> Ledger:
    if request.param == "memory":
        return MemoryLedger(clock)
    if request.param == "sqlite":
        return SqlLedger(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    return SqlLedger(request.getfixturevalue("postgres").url, clock=clock)


@pytest.fixture
def endpoint() -> EndpointRef:
    """A chain of its own for every test, since PostgreSQL is shared by the module."""
    return EndpointRef.parse(f"production/test-{uuid.uuid4().hex[:12]}")


def facts(*titles: str) -> list[Event]:
    return [AlertRaised(title=title) for title in titles]


def test_an_empty_chain_reads_empty(ledger: Ledger, endpoint: EndpointRef) -> None:
    assert ledger.read(endpoint) == []
    assert endpoint not in ledger.endpoints()


def test_entries_come_back_as_they_went_in(ledger: Ledger, endpoint: EndpointRef) -> None:
    events: list[Event] = [
        RolloutOpened(rollout_id="Ω-1", release=make_release(), policy=make_policy(), manifest={"ü": [1.5, None, "x"]}),
        StageEnded(stage="gate", outcome="succeeded", seconds=0.1, facts={"auc": 0.123456789012345678, "n": 10**12}),
    ]
    written = ledger.append(endpoint, expected_seq=0, events=events, origin=ORIGIN)
    assert [entry.seq for entry in written] == [1, 2]
    assert ledger.read(endpoint) == written
    assert [entry.event for entry in ledger.read(endpoint)] == events
    assert endpoint in ledger.endpoints()
    hash_chain.verify(ledger.read(endpoint))


def test_reading_from_and_until(ledger: Ledger, endpoint: EndpointRef, clock: SteppedClock) -> None:
    ledger.append(endpoint, expected_seq=0, events=facts("a", "b"), origin=ORIGIN)
    clock.moment = NOON + timedelta(microseconds=1)
    ledger.append(endpoint, expected_seq=2, events=facts("c"), origin=ORIGIN)
    assert [e.seq for e in ledger.read(endpoint, after_seq=1)] == [2, 3]
    assert [e.seq for e in ledger.read(endpoint, until=NOON)] == [1, 2]
    assert ledger.read(endpoint, until=NOON - timedelta(days=1)) == []


@pytest.mark.parametrize("expected_seq", [0, 2, 99])
def test_only_the_one_who_knows_the_head_may_append(ledger: Ledger, endpoint: EndpointRef, expected_seq: int) -> None:
    ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    with pytest.raises(LedgerConflict, match="last entry is 1"):
        ledger.append(endpoint, expected_seq=expected_seq, events=facts("b", "c"), origin=ORIGIN)
    assert len(ledger.read(endpoint)) == 1, "all events or none"


def test_time_never_runs_backwards_in_a_chain(ledger: Ledger, endpoint: EndpointRef, clock: SteppedClock) -> None:
    ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    clock.moment = NOON - timedelta(minutes=1)
    ledger.append(endpoint, expected_seq=1, events=facts("b"), origin=ORIGIN)
    assert [e.recorded_at for e in ledger.read(endpoint)] == [NOON, NOON]
    hash_chain.verify(ledger.read(endpoint))


def test_after_an_entry_from_the_future_time_goes_on_from_now(
    ledger: Ledger, endpoint: EndpointRef, clock: SteppedClock
) -> None:
    """A clock that was a year ahead wrote the second one, and was set right."""
    ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    clock.moment = NOON + timedelta(days=365)
    ledger.append(endpoint, expected_seq=1, events=facts("b"), origin=ORIGIN)
    clock.moment = NOON + timedelta(minutes=10)
    ledger.append(endpoint, expected_seq=2, events=facts("c"), origin=ORIGIN)
    clock.moment = NOON + timedelta(minutes=20)
    ledger.append(endpoint, expected_seq=3, events=facts("d"), origin=ORIGIN)
    chain = ledger.read(endpoint)
    assert [e.recorded_at - NOON for e in chain] == [timedelta(minutes=m) for m in (0, 365 * 24 * 60, 10, 20)]
    hash_chain.verify(chain)
    # Who asks for what was written lately is not shown the one from the future, and who asks until now is.
    assert [e.seq for e in ledger.read(endpoint, since=NOON + timedelta(minutes=15))] == [4]
    assert [e.seq for e in ledger.read(endpoint, until=NOON + timedelta(minutes=15))] == [1, 2, 3]
    assert [e.seq for e in ledger.read(endpoint, until=clock.moment)] == [1, 2, 3, 4]
    assert ledger.read(endpoint, since=NOON + timedelta(hours=1)) == []
    assert ledger.state_at(endpoint, NOON + timedelta(days=700)).seq == ledger.state(endpoint).seq == 4
    assert ledger.state_at(endpoint, NOON + timedelta(minutes=11)).seq == 3


def test_of_eight_threads_exactly_one_wins(ledger: Ledger, endpoint: EndpointRef) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def promote(number: int) -> None:
        barrier.wait()
        try:
            ledger.append(endpoint, expected_seq=0, events=facts(f"writer {number}"), origin=ORIGIN)
            outcomes.append("won")
        except LedgerConflict:
            outcomes.append("lost")

    threads = [threading.Thread(target=promote, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 7 + ["won"]
    assert len(ledger.read(endpoint)) == 1


def _append_in_process(url: str, endpoint: str, answers: multiprocessing.Queue[str]) -> None:
    try:
        SqlLedger(url).append(EndpointRef.parse(endpoint), expected_seq=0, events=facts("a"), origin=ORIGIN)
        answers.put("won")
    except LedgerConflict:
        answers.put("lost")


def test_of_two_processes_that_also_create_the_schema_exactly_one_wins(url: str, endpoint: EndpointRef) -> None:
    spawn = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = spawn.Queue()
    writers = [spawn.Process(target=_append_in_process, args=(url, str(endpoint), answers)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(answers.get(timeout=5) for _ in writers) == ["lost", "won"]


def test_rows_can_neither_be_changed_nor_deleted(url: str, endpoint: EndpointRef) -> None:
    SqlLedger(url).append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    for statement in ("UPDATE mlpipex_ledger SET event = '{}'", "DELETE FROM mlpipex_ledger"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), make_engine(url).begin() as connection:
            connection.execute(sa.text(statement))


def test_tampering_behind_the_trigger_is_found(tmp_path: Path, endpoint: EndpointRef) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.append(endpoint, expected_seq=0, events=facts("a", "b", "c"), origin=ORIGIN)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("DROP TRIGGER mlpipex_ledger_no_update")
        database.execute("UPDATE mlpipex_ledger SET event = replace(event, '\"b\"', '\"x\"') WHERE seq = 2")
    with pytest.raises(LedgerTampered, match="entry 2"):
        hash_chain.verify(ledger.read(endpoint))


def test_a_locked_database_is_unavailable_and_then_goes_on(
    tmp_path: Path, endpoint: EndpointRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_mlpipex.adapters.sql.database.LOCK_TIMEOUT_S", 0.2)
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        ledger.append(endpoint, expected_seq=1, events=facts("b"), origin=ORIGIN)
    holder.execute("ROLLBACK")
    ledger.append(endpoint, expected_seq=1, events=facts("b"), origin=ORIGIN)
    assert len(ledger.read(endpoint)) == 2


def test_a_ledger_that_another_process_is_creating_is_waited_for(tmp_path: Path, endpoint: EndpointRef) -> None:
    creator = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    creator.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.3, creator.execute, ["ROLLBACK"])
    done.start()
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    assert [e.seq for e in ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)] == [1]
    done.join()


def test_whoever_only_reads_waits_for_no_writer_and_keeps_none_waiting(
    tmp_path: Path, endpoint: EndpointRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_mlpipex.adapters.sql.database.LOCK_TIMEOUT_S", 0.2)
    url = f"sqlite:///{tmp_path}/ledger.db"
    SqlLedger(url).append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    writer = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, timeout=0)
    writer.execute("BEGIN IMMEDIATE")
    # Of another process, which has not looked at the schema yet.
    reader = SqlLedger(url)
    assert [len(reader.read(endpoint)), reader.endpoints()] == [1, [endpoint]]
    writer.execute("ROLLBACK")
    with SqlDatabase(url).reading() as connection:
        connection.execute(sa.text("SELECT count(*) FROM mlpipex_ledger")).scalar_one()
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("ROLLBACK")
    with SqlDatabase(url).transaction(), pytest.raises(sqlite3.OperationalError, match="locked"):
        writer.execute("BEGIN IMMEDIATE")
    writer.close()


@pytest.mark.postgres
def test_a_writer_whose_clock_is_a_year_ahead_dates_nothing_so(
    postgres: PostgresServer, endpoint: EndpointRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = SqlLedger(postgres.url)
    monkeypatch.setattr(wrong._clock, "now", lambda: datetime.now(UTC) + timedelta(days=365))
    (entry,) = wrong.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    assert abs(entry.recorded_at - datetime.now(UTC)) < timedelta(minutes=5)
    hash_chain.verify(wrong.read(endpoint))


@pytest.mark.postgres
def test_a_server_that_is_away_is_unavailable_and_then_goes_on(postgres: PostgresServer, endpoint: EndpointRef) -> None:
    ledger = SqlLedger(postgres.url)
    ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    postgres.stop()
    try:
        with pytest.raises(LedgerUnavailable):
            ledger.read(endpoint)
    finally:
        postgres.start()
    assert len(ledger.read(endpoint)) == 1


@pytest.mark.postgres
def test_a_table_that_somebody_has_locked_is_not_waited_for_for_ever(
    postgres: PostgresServer, endpoint: EndpointRef
) -> None:
    ledger = SqlLedger(postgres.url)
    ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    other = sa.create_engine(postgres.url)
    tables = sa.inspect(other).get_table_names()
    with other.connect() as holder:
        for table in tables:
            holder.execute(sa.text(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE'))
        # Without a limit in the server this would hang until the holder lets go.
        with pytest.raises(LedgerUnavailable, match="lock"):
            ledger.append(endpoint, expected_seq=1, events=facts("b"), origin=ORIGIN)
    other.dispose()
    ledger.append(endpoint, expected_seq=1, events=facts("b"), origin=ORIGIN)
    assert len(ledger.read(endpoint)) == 2


def test_the_file_and_its_folder_are_the_owners_alone(tmp_path: Path, endpoint: EndpointRef) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path}/new/ledger.db")
    assert (ledger.read(endpoint), ledger.endpoints()) == ([], [])
    assert not (tmp_path / "new").exists(), "who only reads makes no database"
    ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "ledger.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("bad", ["nonsense", "mysql://root:secret@127.0.0.1/x"])
def test_a_url_that_cannot_work_is_refused_without_its_password(bad: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        SqlLedger(bad)
    assert "secret" not in str(refused.value)


def test_a_url_without_a_driver_takes_the_one_that_the_extra_installs() -> None:
    assert make_engine("postgresql://mlpipex:secret@127.0.0.1/ledger").url.drivername == "postgresql+psycopg"
    assert make_engine("postgresql+psycopg://127.0.0.1/ledger").url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "url",
    ["postgresql://mlpipex:secret@127.0.0.1/x", "postgresql+psycopg2://a:secret@b/x", "postgresql+no://a:secret@b/x"],
)
def test_a_driver_that_is_not_installed_is_named_with_the_extra_that_has_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_mlpipex.adapters.sql.database.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationInvalid, match=r"airflow-provider-mlpipex\[postgres\]") as refused:
        SqlLedger(url)
    assert "secret" not in str(refused.value)
    assert refused.value.value == url.partition(":")[0]


@pytest.mark.postgres
def test_a_url_without_a_driver_reaches_the_server(postgres: PostgresServer, endpoint: EndpointRef) -> None:
    ledger = SqlLedger(postgres.url.replace("postgresql+psycopg:", "postgresql:"))
    ledger.append(endpoint, expected_seq=0, events=facts("a"), origin=ORIGIN)
    assert len(ledger.read(endpoint)) == 1


def test_watch_passed_needs_a_verdict() -> None:
    with pytest.raises(ValueError, match="verdict"):
        WatchPassed.model_validate({"rollout_id": "x"})


def test_the_heads_of_all_chains_are_read_at_once(ledger: Ledger, endpoint: EndpointRef) -> None:
    other = EndpointRef.parse(f"{endpoint}-2")
    assert not {endpoint, other} & ledger.heads().keys()
    ledger.append(endpoint, expected_seq=0, events=facts("a", "b"), origin=ORIGIN)
    ledger.append(other, expected_seq=0, events=facts("c"), origin=ORIGIN)
    assert {each: seq for each, seq in ledger.heads().items() if each in (endpoint, other)} == {endpoint: 2, other: 1}
    ledger.append(other, expected_seq=1, events=facts("d"), origin=ORIGIN)
    assert ledger.heads()[other] == 2
