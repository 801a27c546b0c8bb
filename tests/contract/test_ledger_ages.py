"""What makes the age of a ledger cost nothing, for every ledger: kept states, filters with indexes, routine records."""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_mlpipex.adapters.sql import checkpoints, database, kept_state
from airflow_provider_mlpipex.adapters.sql import ledger as sql_ledger
from airflow_provider_mlpipex.adapters.sql.database import SqlDatabase, make_engine, shared_database
from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.errors import LedgerConflict
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    BatchServed,
    DriftJudged,
    Entry,
    Event,
    Origin,
    RolloutOpened,
    RolloutRejected,
    StageEnded,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.rollout.fold import fold
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.summary import EndpointSummary
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.ports import Ledger
from airflow_provider_mlpipex.testing.ledger import MemoryLedger
from tests.support.factories import NOON, ORIGIN, make_policy, make_release
from tests.support.ledgers import add_rows, make_old_ledger
from tests.support.postgres import PostgresServer, postgres_server

TASK = Origin(kind="task", dag_id='d"1\\', run_id="manual__ü", task_id="t", try_number=1)


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
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    with make_engine(server.url).execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return server.url.replace("/postgres?", f"/{name}?")


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


def opened(rollout_id: str, version: str = "1.0.0") -> RolloutOpened:
    return RolloutOpened(
        rollout_id=rollout_id, release=make_release(version), policy=make_policy(), manifest={"ü": [1.5, None, "x"]}
    )


def rejected(rollout_id: str) -> RolloutRejected:
    return RolloutRejected(rollout_id=rollout_id, cause="no")


def looked(release: str, verdict: str = "pass") -> DriftJudged:
    return DriftJudged.model_validate(
        {"release": release, "since": NOON, "until": NOON, "verdict": verdict, "reason": ""}
    )


def served(batch: str) -> BatchServed:
    return BatchServed(batch=batch, rows=1, digest=digest_of(batch))


def story(rounds: int) -> list[Event]:
    """Rollouts that end, among bookkeeping: what an old chain looks like."""
    events: list[Event] = []
    for number in range(rounds):
        events += [opened(f"run-{number}"), StageEnded(stage="watch", outcome="succeeded", seconds=0.1)]
        events += [WatchPassed(rollout_id=f"run-{number}", verdict="pass") if number % 2 else rejected(f"run-{number}")]
        events += [StageEnded(stage="watch", outcome="succeeded", seconds=0.1)] * 7
    return events


def write(ledger: Ledger, endpoint: EndpointRef, *events: Event, origin: Origin = ORIGIN) -> list[Entry]:
    return ledger.append(endpoint, expected_seq=ledger.state(endpoint).seq, events=events, origin=origin)


# The state.


def test_the_state_is_the_fold_of_the_chain_after_every_append(ledger: Ledger, endpoint: EndpointRef) -> None:
    assert ledger.state(endpoint) == EndpointState(endpoint=endpoint)
    assert ledger.projection(endpoint) is None
    for event in story(3):
        write(ledger, endpoint, event)
        entries = ledger.read(endpoint)
        assert ledger.state(endpoint) == fold(endpoint, entries)
        kept = ledger.projection(endpoint)
        assert kept is not None
        assert (kept.seq, kept.hash, kept.state) == (len(entries), entries[-1].hash, fold(endpoint, entries))


def test_an_append_that_lost_leaves_the_state_of_the_winner(ledger: Ledger, endpoint: EndpointRef) -> None:
    write(ledger, endpoint, opened("run-1"))
    with pytest.raises(LedgerConflict):
        ledger.append(endpoint, expected_seq=0, events=[opened("run-2")], origin=ORIGIN)
    rollout = ledger.state(endpoint).rollout
    assert rollout is not None and rollout.id == "run-1"


def test_eight_writers_that_decide_again_leave_a_chain_and_its_state(ledger: Ledger, endpoint: EndpointRef) -> None:
    def write_until_won(number: int) -> None:
        while True:
            try:
                seq = ledger.state(endpoint).seq
                ledger.append(endpoint, expected_seq=seq, events=[opened(f"run-{number}")], origin=ORIGIN)
                return
            except LedgerConflict:
                continue

    writers = [threading.Thread(target=write_until_won, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    entries = ledger.read(endpoint)
    assert len(entries) == 8
    hash_chain.verify(entries)
    assert ledger.state(endpoint) == fold(endpoint, entries)


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM mlpipex_state",
        "UPDATE mlpipex_state SET fold_version = 'another'",
        "UPDATE mlpipex_state SET state = '{}'",
        "UPDATE mlpipex_state SET state = 'no json'",
        "UPDATE mlpipex_state SET hash = 'of another chain', seq = 3",
    ],
)
def test_a_state_that_is_missing_or_of_another_fold_is_folded_anew(url: str, endpoint: EndpointRef, harm: str) -> None:
    ledger = SqlLedger(url)
    write(ledger, endpoint, *story(3))
    expected = fold(endpoint, ledger.read(endpoint))
    with make_engine(url).begin() as connection:
        connection.exec_driver_sql(harm)
    assert ledger.state(endpoint) == expected
    assert write(ledger, endpoint, opened("next"))[0].seq == 31
    assert ledger.state(endpoint) == fold(endpoint, ledger.read(endpoint))


def test_entries_of_a_version_that_keeps_no_state_are_read_on_the_way(url: str, endpoint: EndpointRef) -> None:
    """Two versions of the provider may share a ledger while it is being upgraded."""
    ledger = SqlLedger(url)
    head = write(ledger, endpoint, opened("run-1"))[-1]
    later = hash_chain.extend(endpoint, head, [rejected("run-1"), opened("run-2")], now=NOON, origin=ORIGIN)
    add_rows(make_engine(url), later)
    assert ledger.state(endpoint) == fold(endpoint, ledger.read(endpoint))
    kept = ledger.projection(endpoint)
    assert kept is not None and kept.seq == 3, "the next reader finds it"
    add_rows(make_engine(url), hash_chain.extend(endpoint, later[-1], [rejected("run-2")], now=NOON, origin=ORIGIN))
    ledger.append(endpoint, expected_seq=4, events=[opened("run-3")], origin=ORIGIN)
    assert ledger.state(endpoint) == fold(endpoint, ledger.read(endpoint))


def test_a_crash_between_entries_and_state_leaves_neither(
    url: str, endpoint: EndpointRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SqlLedger(url)
    write(ledger, endpoint, opened("run-1"))
    with monkeypatch.context() as patched:

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(kept_state, "keep", crash)
        with pytest.raises(KeyboardInterrupt):
            write(ledger, endpoint, rejected("run-1"))
    assert [entry.seq for entry in ledger.read(endpoint)] == [1]
    assert ledger.state(endpoint) == fold(endpoint, ledger.read(endpoint))


def test_whoever_may_not_keep_the_state_reads_it_all_the_same(
    url: str, endpoint: EndpointRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SqlLedger(url)
    write(ledger, endpoint, *story(1))
    with make_engine(url).begin() as connection:
        connection.exec_driver_sql("DELETE FROM mlpipex_state")

    def refuse(connection: sa.Connection, _: object) -> None:
        connection.exec_driver_sql("INSERT INTO no_such_table VALUES (1)")

    monkeypatch.setattr(kept_state, "keep", refuse)
    assert ledger.state(endpoint) == fold(endpoint, ledger.read(endpoint))


def test_a_state_takes_one_statement_however_long_the_chain_is(url: str, endpoint: EndpointRef) -> None:
    ledger = SqlLedger(url)
    write(ledger, endpoint, *story(30))
    statements: list[str] = []
    sa.event.listen(
        shared_database(url)._engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, *rest: statements.append(statement),
    )
    ledger.state(endpoint)
    assert len([statement for statement in statements if not statement.startswith("BEGIN")]) == 1


# The state at a moment of the past.


def test_the_state_at_a_moment_is_the_fold_up_to_it(
    ledger: Ledger, endpoint: EndpointRef, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints lie close, and are asked for before, at and behind each, forwards and backwards."""
    monkeypatch.setattr(checkpoints, "EVERY", 4)
    for event in story(4):
        clock.moment += timedelta(minutes=1)
        write(ledger, endpoint, event)
    entries = ledger.read(endpoint)
    assert ledger.state_at(endpoint, NOON) == EndpointState(endpoint=endpoint)
    for minutes in [*range(41), *range(40, -1, -1), 0.5, 17.5, 500]:
        at = NOON + timedelta(minutes=minutes)
        upto = [entry for entry in entries if entry.recorded_at <= at]
        assert ledger.state_at(endpoint, at) == fold(endpoint, upto), minutes


def test_an_old_chain_is_folded_once_and_read_from_its_checkpoints_then(
    url: str, endpoint: EndpointRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 10)
    entries = hash_chain.extend(endpoint, None, story(300), now=NOON, origin=ORIGIN)
    make_old_ledger(url, revision="r0004", entries=entries)
    ledger = SqlLedger(url)
    assert ledger.checkpoints(endpoint, limit=1000) == []
    assert ledger.state_at(endpoint, NOON) == fold(endpoint, entries)
    left = ledger.checkpoints(endpoint, limit=1000)
    assert len(left) >= 50
    for checkpoint in left:
        assert checkpoint.state == fold(endpoint, entries[: checkpoint.seq])
        assert checkpoint.hash == entries[checkpoint.seq - 1].hash
    read: list[object] = []
    monkeypatch.setattr(sql_ledger, "_entry", lambda row: read.append(row) or entries[row["seq"] - 1])
    assert ledger.state_at(endpoint, NOON) == fold(endpoint, entries)
    assert len(read) <= 10
    assert ledger.checkpoints(endpoint, after_seq=left[3].seq, limit=2) == left[4:6]


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM mlpipex_checkpoints",
        "UPDATE mlpipex_checkpoints SET fold_version = 'another'",
        "UPDATE mlpipex_checkpoints SET state = 'no json'",
        "UPDATE mlpipex_checkpoints SET hash = 'of another chain'",
    ],
)
def test_checkpoints_that_are_missing_or_of_another_chain_are_made_again(
    url: str, endpoint: EndpointRef, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 4)
    ledger = SqlLedger(url, clock=clock)
    for event in story(4):
        clock.moment += timedelta(minutes=1)
        write(ledger, endpoint, event)
    with make_engine(url).begin() as connection:
        assert connection.exec_driver_sql(harm).rowcount >= 3
    entries = ledger.read(endpoint)[:-5]
    expected = fold(endpoint, entries)
    assert ledger.state_at(endpoint, entries[-1].recorded_at) == expected
    assert ledger.state_at(endpoint, entries[-1].recorded_at) == expected
    with make_engine(url).begin() as connection:
        versions = connection.exec_driver_sql("SELECT DISTINCT fold_version FROM mlpipex_checkpoints").scalars().all()
    assert "another" not in versions


def test_whoever_may_keep_no_checkpoint_is_answered_all_the_same(
    url: str, endpoint: EndpointRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: sa.Connection, _: object) -> None:
        connection.exec_driver_sql("INSERT INTO no_such_table VALUES (1)")

    monkeypatch.setattr(checkpoints, "EVERY", 4)
    monkeypatch.setattr(checkpoints, "keep", refuse)
    ledger = SqlLedger(url)
    write(ledger, endpoint, *story(3))
    entries = ledger.read(endpoint)
    assert ledger.state_at(endpoint, entries[-1].recorded_at) == fold(endpoint, entries)


# Reading by what is asked for.


def test_filters_say_what_a_filter_over_everything_says(
    ledger: Ledger, endpoint: EndpointRef, clock: SteppedClock
) -> None:
    for event in [
        opened("run-1"),
        served('b"1\\ü'),
        looked("r-1"),
        rejected("run-1"),
        AlertRaised(title="run-1"),
        opened("run-2"),
        served("b2"),
        looked("r-1", "fail"),
    ]:
        write(ledger, endpoint, event, origin=TASK if isinstance(event, RolloutRejected) else ORIGIN)
        clock.moment += timedelta(minutes=1)
    write(ledger, EndpointRef.parse(f"{endpoint}-other"), opened("run-1"))

    def numbers(**filters: object) -> list[int]:
        return [entry.seq for entry in ledger.read(endpoint, **filters)]  # type: ignore[arg-type]

    assert numbers() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert numbers(newest_first=True, limit=2) == [8, 7]
    assert numbers(after_seq=2, before_seq=5) == [3, 4]
    assert numbers(before_seq=1) == []
    assert numbers(types=("drift-judged",)) == [3, 8]
    assert numbers(types=("drift-judged", "alert-raised"), newest_first=True, limit=2) == [8, 5]
    assert numbers(types=("drift-judged", "alert-raised"), limit=2) == [3, 5]
    assert numbers(subject="run-1") == [1, 4], "an alert's title is no subject"
    assert numbers(subject="r-1", newest_first=True) == [8, 3]
    assert numbers(subject='b"1\\ü') == [2]
    assert numbers(subject="b") == []
    assert numbers(subject="run-1", types=("rollout-rejected",), limit=1) == [4]
    assert numbers(since=NOON + timedelta(minutes=5)) == [6, 7, 8]
    assert numbers(since=NOON + timedelta(minutes=1), until=NOON + timedelta(minutes=2)) == [2, 3]
    assert numbers(since=NOON + timedelta(hours=1)) == []
    assert numbers(until=NOON - timedelta(seconds=1)) == []
    assert numbers(task=TASK.model_copy(update={"try_number": 7, "trace_id": "0"})) == [4]
    assert numbers(task=TASK.model_copy(update={"run_id": "manual__u"})) == []


def test_subjects_that_are_long_are_told_apart(ledger: Ledger, endpoint: EndpointRef) -> None:
    long = "x" * 1_000
    write(ledger, endpoint, opened(f"{long}1"), rejected(f"{long}2"))
    assert [entry.seq for entry in ledger.read(endpoint, subject=f"{long}2")] == [2]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({"subject": "run-7"}, "ix_mlpipex_ledger_subject"),
        ({"types": ("gates-judged",), "newest_first": True, "limit": 1}, "ix_mlpipex_ledger_type"),
    ],
)
def test_a_filter_is_answered_by_its_index(
    url: str, endpoint: EndpointRef, filters: dict[str, object], index: str
) -> None:
    ledger = SqlLedger(url)
    write(ledger, endpoint, *story(300))
    asked: list[tuple[str, object]] = []
    engine = shared_database(url)._engine
    sa.event.listen(engine, "before_cursor_execute", lambda c, cursor, sql, args, *rest: asked.append((sql, args)))
    ledger.read(endpoint, **filters)  # type: ignore[arg-type]
    statement, arguments = next((sql, args) for sql, args in asked if "mlpipex_ledger" in sql)
    with make_engine(url).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE mlpipex_ledger")
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = str(connection.exec_driver_sql(explain + statement, arguments).all())  # type: ignore[arg-type]
    assert index in plan


# Old ledgers.


@pytest.mark.parametrize("revision", ["r0001", "r0002"])
def test_an_old_ledger_is_brought_up_to_date_in_place(url: str, endpoint: EndpointRef, revision: str) -> None:
    entries = hash_chain.extend(endpoint, None, story(300), now=NOON, origin=ORIGIN)
    make_old_ledger(url, revision=revision, entries=entries)
    ledger = SqlLedger(url)
    assert ledger.state(endpoint) == fold(endpoint, entries)
    assert ledger.read(endpoint) == entries, "no entry is touched"
    assert [entry.seq for entry in ledger.read(endpoint, subject="run-100")] == [1001, 1003]
    assert write(ledger, endpoint, opened("next"))[0].previous_hash == entries[-1].hash
    assert ledger.endpoints() == [endpoint]


def test_an_entry_that_somebody_has_spoilt_does_not_keep_the_others_from_the_upgrade(
    url: str, endpoint: EndpointRef
) -> None:
    entries = hash_chain.extend(endpoint, None, story(1), now=NOON, origin=ORIGIN)
    make_old_ledger(url, revision="r0002", entries=entries)
    with make_engine(url).begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO mlpipex_ledger VALUES ('production/spoilt', 1, '2026', 'x', 'no', 'no {json', '', '')"
        )
    assert SqlLedger(url).state(endpoint) == fold(endpoint, entries)


def test_the_newest_revision_is_the_one_that_is_looked_for() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "airflow_provider_mlpipex.adapters.sql:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == database.HEAD_REVISION


# Many endpoints.


def test_endpoints_are_each_found_once(url: str) -> None:
    ledger = SqlLedger(url)
    assert ledger.endpoints() == []
    names = [f"{environment}/e-{number}" for environment in ("production", "staging") for number in range(7)]
    for name in names:
        write(ledger, EndpointRef.parse(name), AlertRaised(title="a"), AlertRaised(title="b"))
    assert [str(endpoint) for endpoint in ledger.endpoints()] == sorted(names)


# Routine records.


def test_routine_records_stand_beside_the_chain_until_they_are_pruned(
    ledger: Ledger, endpoint: EndpointRef, clock: SteppedClock
) -> None:
    other = EndpointRef.parse(f"{endpoint}-other")
    chain = write(ledger, endpoint, opened("run-1"))
    ended = StageEnded(stage="watch", outcome="succeeded", seconds=0.1, facts={"ü": 1.5})
    assert ledger.record(endpoint, ended, origin=ORIGIN).event == ended
    clock.moment += timedelta(days=1)
    ledger.record(endpoint, looked("r-1"), origin=ORIGIN)
    ledger.record(endpoint, looked("r-2"), origin=TASK)
    ledger.record(other, looked("r-1"), origin=ORIGIN)
    assert [record.event for record in ledger.records(endpoint)] == [looked("r-2"), looked("r-1"), ended]
    assert [record.origin for record in ledger.records(endpoint, limit=1)] == [TASK]
    assert [record.event for record in ledger.records(endpoint, types=("stage-ended",))] == [ended]
    assert [record.event for record in ledger.records(endpoint, subject="r-1")] == [looked("r-1")]
    assert len(ledger.records(endpoint, since=NOON + timedelta(days=1))) == 2
    assert ledger.read(endpoint) == chain and ledger.state(endpoint).seq == 1
    assert ledger.prune(before=NOON) == 0
    assert ledger.prune(before=NOON + timedelta(hours=1)) == 1
    assert ledger.prune(before=NOON + timedelta(hours=1)) == 0
    assert [record.event for record in ledger.records(endpoint)] == [looked("r-2"), looked("r-1")]
    assert len(ledger.records(other)) == 1
    assert ledger.read(endpoint) == chain


def test_pruning_can_be_done_a_little_at_a_time(ledger: Ledger, endpoint: EndpointRef, clock: SteppedClock) -> None:
    ledger.prune(before=NOON + timedelta(days=9000))
    for number in range(5):
        ledger.record(endpoint, looked(f"r-{number}"), origin=ORIGIN)
    clock.moment += timedelta(days=1)
    assert [ledger.prune(before=clock.moment, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert ledger.records(endpoint) == []


# Connections that stay open.


def test_calls_share_connections(url: str, endpoint: EndpointRef) -> None:
    connected: list[object] = []
    sa.event.listen(shared_database(url)._engine, "connect", lambda *_: connected.append(1))
    for _ in range(5):
        write(SqlLedger(url), endpoint, AlertRaised(title="a"))
    assert len(connected) <= 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_shares_no_connection_with_its_parent(url: str, endpoint: EndpointRef) -> None:
    ledger = SqlLedger(url)
    write(ledger, endpoint, AlertRaised(title="parent"))
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for _ in range(5):
                    while True:
                        try:
                            write(ledger, endpoint, AlertRaised(title=f"child {number}"))
                            break
                        except LedgerConflict:
                            continue
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    for _ in range(5):
        while True:
            try:
                write(ledger, endpoint, AlertRaised(title="parent"))
                break
            except LedgerConflict:
                continue
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    entries = ledger.read(endpoint)
    hash_chain.verify(entries)
    assert len(entries) == 21


def test_a_file_that_was_replaced_from_a_backup_is_the_one_that_is_used(tmp_path: Path, endpoint: EndpointRef) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = SqlLedger(url)
    write(ledger, endpoint, AlertRaised(title="before the backup"))
    with sqlite3.connect(tmp_path / "ledger.db") as now, sqlite3.connect(tmp_path / "backup.db") as backup:
        now.backup(backup)
    write(ledger, endpoint, AlertRaised(title="after the backup"))
    for leftover in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    (tmp_path / "backup.db").rename(tmp_path / "ledger.db")
    assert [entry.seq for entry in ledger.read(endpoint)] == [1]
    write(ledger, endpoint, AlertRaised(title="after the restore"))
    assert [entry.seq for entry in SqlDatabaseReader(url).entries()] == [1, 2]


class SqlDatabaseReader:
    """Another process's look at the same file: a database of its own."""

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url)

    def entries(self) -> list[sa.Row[tuple[int]]]:
        with self._database.reading() as connection:
            return list(connection.execute(sa.text("SELECT seq FROM mlpipex_ledger ORDER BY seq")))


def test_summaries_say_of_every_endpoint_what_its_state_says(ledger: Ledger, endpoint: EndpointRef) -> None:
    """The oracle is the whole state, folded entry by entry."""
    release = make_release("1.1.0")
    events: list[Event] = [
        RolloutOpened(rollout_id="run + 1", release=release, policy=make_policy(), manifest={"owner": {"team": "ü"}}),
        AlertRaised(title="lost", notified=(), channel="on-call", body="", severity="warning", facts={}),
    ]
    written = ledger.append(endpoint, expected_seq=0, events=events, origin=ORIGIN)
    (summary,) = [each for each in ledger.summaries() if each.endpoint == endpoint]
    state = fold(endpoint, written)
    assert summary == EndpointSummary.of(state)
    assert summary.rollout is not None and state.rollout is not None
    assert (summary.rollout.id, summary.rollout.candidate.id) == ("run + 1", release.id)
    assert summary.rollout.policy.canary_weights == state.rollout.policy.canary_weights
    assert [owed.title for owed in summary.owed_alerts] == ["lost"]
    assert [str(each.endpoint) for each in ledger.summaries()] == [str(each) for each in ledger.endpoints()]


def test_a_summary_is_right_where_no_state_is_kept(tmp_path: Path, endpoint: EndpointRef) -> None:
    """A ledger of before states were kept, one whose state is behind, and one whose state nobody can read."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = SqlLedger(url)
    opened: Event = RolloutOpened(rollout_id="run-1", release=make_release(), policy=make_policy(), manifest={})
    ledger.append(endpoint, expected_seq=0, events=[opened], origin=ORIGIN)
    rejected: Event = RolloutRejected(rollout_id="run-1", cause="no")
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        for broken in ("DELETE FROM mlpipex_state", "UPDATE mlpipex_state SET state = '{'"):
            database.execute(broken)
            database.commit()
            (summary,) = ledger.summaries()
            assert summary.rollout is not None and summary.rollout.id == "run-1"
    head = ledger.read(endpoint)[-1]
    behind = hash_chain.extend(
        endpoint, hash_chain.Head(head.seq, head.hash, head.recorded_at), [rejected], now=NOON, origin=ORIGIN
    )
    add_rows(make_engine(url), behind)
    (summary,) = ledger.summaries()
    assert (summary.seq, summary.rollout) == (2, None)
