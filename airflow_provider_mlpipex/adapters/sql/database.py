"""The ledger's database: SQLite by default, PostgreSQL where it is shared; one schema, migrated when first used.

Times are stored as fixed-width ISO 8601 text in UTC: they compare as text, and come back to the microsecond on every
dialect.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, DisconnectionError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, LedgerUnavailable

#: Seconds to wait for another writer's lock, and for a server to answer.
LOCK_TIMEOUT_S = 5
#: Any number, the same in every process: serialises migrations of processes that start together.
_MIGRATION_LOCK = 6_170_118
VERSION_TABLE = "mlpipex_schema_version"
#: The newest revision under ``migrations/versions``.
HEAD_REVISION = "r0005"
#: Connections that stay open between calls. More are opened where more are needed at once, and closed after.
POOLED = 4
_POOL: dict[str, Any] = {"pool_size": POOLED, "max_overflow": -1, "pool_recycle": 1800}
#: Option of a connection whose transactions only read.
_READS = "mlpipex_reads"
#: Where a pooled connection to SQLite remembers which file it has open.
_FILE = "mlpipex_file"


class SqlDatabase:
    """A database with its schema. Connections are kept open between calls, and never shared with a forked child.

    :param url: SQLAlchemy url, ``sqlite:///path`` or ``postgresql+psycopg://…``.
    :raises ConfigurationInvalid: a url of another kind.
    """

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._shown = self._engine.url.render_as_string(hide_password=True)
        self._upgraded: object = None
        self._upgrading = threading.Lock()
        _open_databases.add(self)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction that may write; in SQLite it keeps other writers waiting from its beginning.

        :raises LedgerUnavailable: whatever the database says is wrong.
        """
        file = _file_of(self._engine.url)
        if file is not None and not file.is_file():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.touch(mode=0o600)
        with self._begin(self._engine) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One transaction that reads, all of it as of one moment. It waits for no writer, and keeps none waiting.

        :raises LedgerUnavailable: whatever the database says is wrong.
        """
        if not self.exists:
            with _nothing_yet().connect() as empty:
                yield empty
            return
        with self._begin(self._engine.execution_options(**{_READS: True})) as connection:
            yield connection

    @property
    def exists(self) -> bool:
        """Whether there is a database to read; of a server, that is not asked. Only who writes makes one, so that a
        slip in the url leaves no empty database behind."""
        file = _file_of(self._engine.url)
        return file is None or file.is_file()

    @contextmanager
    def _begin(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        try:
            with self._upgrading:
                there = _identity(self._engine.url)
                if self._upgraded != there:
                    upgrade(self._engine)
                    self._upgraded = there
            with engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise LedgerUnavailable(
                f"ledger {self._shown}",
                value=str(cause).strip().splitlines()[0][:200],
                limit=f"an answer within {LOCK_TIMEOUT_S} s",
                remedy="nothing was written; look at the database, then run the task again",
            ) from None

    def leave_to_parent(self) -> None:
        """In a forked child: connect anew when next used. What the parent has open is not closed here either, for that
        would say good-bye to its server, and let SQLite clean up after it."""
        _of_the_parent.append(self._engine.pool)
        self._engine.dispose(close=False)
        self._upgrading = threading.Lock()


_open_databases: weakref.WeakSet[SqlDatabase] = weakref.WeakSet()
#: Kept from the garbage collector, which would close their connections.
_of_the_parent: list[sa.Pool] = []


def _after_fork_in_child() -> None:
    for database in list(_open_databases):
        database.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork_in_child)


@cache
def shared_database(url: str) -> SqlDatabase:
    """One database for all of a process that name the same url: a triggerer has hundreds of them."""
    return SqlDatabase(url)


def _identity(url: sa.URL) -> object:
    """Which database stands behind ``url``: a SQLite file may be replaced by another one, say from a backup."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return True
    try:
        file = os.stat(url.database)
    except FileNotFoundError:
        return None
    return file.st_dev, file.st_ino


def make_engine(url: str) -> sa.Engine:
    """An engine with a pool of the connections that were needed at once, at most :data:`POOLED` of them."""
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
    return _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql_engine(parsed)


#: A rollback must not hang on a table that somebody has locked, nor on a server whose machine is gone: libpq would wait
#: for ever for the one, and for a quarter of an hour for the other. A migration alone may take its time.
_POSTGRESQL_LIMITS: dict[str, Any] = {
    "connect_timeout": LOCK_TIMEOUT_S,
    "tcp_user_timeout": LOCK_TIMEOUT_S * 1000,
    "keepalives_idle": LOCK_TIMEOUT_S,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "options": f"-c lock_timeout={LOCK_TIMEOUT_S}s -c statement_timeout=120s",
}


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    """Where the url names no driver, psycopg: the choice of SQLAlchemy 2.0 is another one, which no extra installs."""
    if url.drivername == "postgresql" and find_spec("psycopg") is not None:
        url = url.set(drivername="postgresql+psycopg")
    try:
        return sa.create_engine(url, connect_args=_POSTGRESQL_LIMITS, pool_pre_ping=True, **_POOL)
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigurationInvalid(
            "ledger url",
            value=url.drivername,
            limit=f"a driver that is installed here ({error})",
            remedy="pip install 'airflow-provider-mlpipex[postgres]', and write postgresql+psycopg://…",
        ) from error


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    # Threads of the pool take turns with a connection, and never share one.
    arguments = {"timeout": LOCK_TIMEOUT_S, "check_same_thread": False}
    engine = sa.create_engine(url, poolclass=sa.QueuePool, connect_args=arguments, **_POOL)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        record.info[_FILE] = _identity(url)
        # The driver's own transaction handling begins too late for BEGIN IMMEDIATE.
        connection.isolation_level = None
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "checkout")
    def _is_still_the_file(_: Any, record: Any, __: Any) -> None:
        if record.info.get(_FILE) != _identity(url):
            # What is written to a file that was replaced or removed is lost: the pool connects anew.
            raise DisconnectionError

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(_READS) else "BEGIN IMMEDIATE")

    return engine


def _file_of(url: sa.URL) -> Path | None:
    """The file of a SQLite database; ``None`` for a server, and for one in memory."""
    of_file = url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:"
    return Path(str(url.database)) if of_file else None


@cache
def _nothing_yet() -> sa.Engine:
    """An empty database in memory, which nobody writes to."""
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    upgrade(engine)
    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Log of writes ahead: readers and the writer do not wait for each other.

    Of all statements, SQLite does not wait for a lock in this one, whatever the connection's timeout: two tasks that
    open a new ledger together would see it locked.
    """
    give_up = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema to its newest version; safe when many processes start at once.

    Where it is there already, that is only read: every task begins here, and most of them write nothing.
    """
    with engine.execution_options(**{_READS: True}).begin() as connection:
        if sa.inspect(connection).has_table(VERSION_TABLE):
            revision = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
            if revision == HEAD_REVISION:
                return
    # Alembic takes a tenth of a second to import: only whoever needs it pays.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "airflow_provider_mlpipex.adapters.sql:migrations")
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            for limit in ("lock_timeout", "statement_timeout"):
                connection.execute(sa.text(f"SET LOCAL {limit} = 0"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def moment_text(moment: datetime) -> str:
    """Fixed width, so that it compares as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
