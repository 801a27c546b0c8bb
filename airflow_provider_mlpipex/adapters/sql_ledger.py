"""The ledger on SQLAlchemy: SQLite by default, PostgreSQL where it is shared.

Compare and append is one transaction over a primary key of endpoint and sequence number, so the database itself
refuses the second of two writers. Times are stored as fixed-width ISO 8601 text in UTC: they compare as text, and
come back to the microsecond on every dialect, which the hash chain needs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from airflow_provider_mlpipex.adapters.system_clock import SystemClock
from airflow_provider_mlpipex.domain import chain
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, LedgerTampered, LedgerUnavailable
from airflow_provider_mlpipex.domain.events import Entry, Event, Origin
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.ports import Clock

#: Seconds to wait for another writer's lock, and for a server to answer.
LOCK_TIMEOUT_S = 5
#: Any number, the same in every process: serialises migrations of processes that start together.
_MIGRATION_LOCK = 6_170_118

_metadata = sa.MetaData()
_ledger = sa.Table(
    "mlpipex_ledger",
    _metadata,
    sa.Column("endpoint", sa.String(130), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("recorded_at", sa.String(32)),
    sa.Column("type", sa.String(40)),
    sa.Column("origin", sa.Text),
    sa.Column("event", sa.Text),
    sa.Column("previous_hash", sa.String(64)),
    sa.Column("hash", sa.String(64)),
)


class SqlLedger:
    """:param url: SQLAlchemy url, ``sqlite:///path`` or ``postgresql+psycopg://…``.
    :raises ConfigurationInvalid: a url of another kind.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._engine = make_engine(url)
        self._shown = self._engine.url.render_as_string(hide_password=True)
        self._upgraded = False
        self._upgrading = threading.Lock()

    def append(
        self, endpoint: EndpointRef, *, expected_seq: int, events: Sequence[Event], origin: Origin
    ) -> list[Entry]:
        with self._transaction() as connection:
            newest = sa.select(_ledger).where(_ledger.c.endpoint == str(endpoint)).order_by(_ledger.c.seq.desc())
            row = connection.execute(newest.limit(1)).mappings().first()
            head = _entry(row) if row else None
            actual = head.seq if head else 0
            if actual != expected_seq:
                raise chain.lost_race(endpoint, expected=expected_seq, actual=actual)
            linked = chain.extend(endpoint, head, events, now=self._clock.now(), origin=origin)
            if linked:
                try:
                    connection.execute(_ledger.insert(), [_row(entry) for entry in linked])
                except IntegrityError:
                    raise chain.lost_race(endpoint, expected=expected_seq, actual=expected_seq + 1) from None
        return linked

    def read(self, endpoint: EndpointRef, *, after_seq: int = 0, until: datetime | None = None) -> list[Entry]:
        query = (
            sa.select(_ledger)
            .where(_ledger.c.endpoint == str(endpoint), _ledger.c.seq > after_seq)
            .order_by(_ledger.c.seq)
        )
        if until is not None:
            query = query.where(_ledger.c.recorded_at <= _moment(until))
        with self._transaction() as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def endpoints(self) -> list[EndpointRef]:
        with self._transaction() as connection:
            found = connection.execute(sa.select(_ledger.c.endpoint).distinct().order_by(_ledger.c.endpoint))
            return [EndpointRef.parse(endpoint) for (endpoint,) in found]

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """One transaction; whatever the database says is wrong becomes :class:`LedgerUnavailable`."""
        try:
            with self._upgrading:
                if not self._upgraded:
                    upgrade(self._engine)
                    self._upgraded = True
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise LedgerUnavailable(
                f"ledger {self._shown}",
                value=str(cause).strip().splitlines()[0][:200],
                limit=f"an answer within {LOCK_TIMEOUT_S} s",
                remedy="nothing was written; look at the database, then run the task again",
            ) from None


def make_engine(url: str) -> sa.Engine:
    """An engine without a pool: ledger calls are few, tasks are short, and a fork must not share a connection."""
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError(f"unsupported database {parsed.get_backend_name()}")
    except (SQLAlchemyError, ValueError) as error:
        raise ConfigurationInvalid(
            "ledger url",
            value=type(error).__name__,
            limit="sqlite:///path or postgresql+psycopg://user:password@host/database",
            remedy="set MLPIPEX_LEDGER_URL, or ledger_url in the connection's extra",
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed)
    return sa.create_engine(parsed, poolclass=NullPool, connect_args={"connect_timeout": LOCK_TIMEOUT_S})


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    if url.database:
        path = Path(url.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        # The driver's own transaction handling begins too late for BEGIN IMMEDIATE.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema to its newest version; safe when many processes start at once."""
    from alembic import command
    from alembic.config import Config

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config = Config()
        config.set_main_option("script_location", "airflow_provider_mlpipex.adapters:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _row(entry: Entry) -> dict[str, Any]:
    document = entry.to_json()
    return {
        "endpoint": document["endpoint"],
        "seq": entry.seq,
        "recorded_at": _moment(entry.recorded_at),
        "type": entry.event.type,
        "origin": json.dumps(document["origin"], ensure_ascii=False),
        "event": json.dumps(document["event"], ensure_ascii=False),
        "previous_hash": entry.previous_hash,
        "hash": entry.hash,
    }


def _entry(row: Any) -> Entry:
    """:raises LedgerTampered: the row is no entry."""
    try:
        return Entry.model_validate(
            {
                "endpoint": row["endpoint"],
                "seq": row["seq"],
                "recorded_at": row["recorded_at"],
                "origin": json.loads(row["origin"]),
                "event": json.loads(row["event"]),
                "previous_hash": row["previous_hash"],
                "hash": row["hash"],
            }
        )
    except ValueError as error:  # of JSON, and of pydantic
        raise LedgerTampered(
            f"ledger of {row['endpoint']}, entry {row['seq']}",
            value=str(error).splitlines()[0],
            limit="an entry that this version of the provider can read",
            remedy="if no newer version wrote it, restore the ledger from a backup and find who could write to it",
        ) from None
