"""The ledger's database: SQLite by default, PostgreSQL where it is shared; one schema, migrated when first used.

Times are stored as fixed-width ISO 8601 text in UTC: they compare as text, and come back to the microsecond on every
dialect.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, LedgerUnavailable

#: Seconds to wait for another writer's lock, and for a server to answer.
LOCK_TIMEOUT_S = 5
#: Any number, the same in every process: serialises migrations of processes that start together.
_MIGRATION_LOCK = 6_170_118
VERSION_TABLE = "mlpipex_schema_version"
#: Option of a connection whose transactions only read.
_READS = "mlpipex_reads"


class SqlDatabase:
    """:param url: SQLAlchemy url, ``sqlite:///path`` or ``postgresql+psycopg://…``.
    :raises ConfigurationInvalid: a url of another kind.
    """

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._shown = self._engine.url.render_as_string(hide_password=True)
        self._upgraded = False
        self._upgrading = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction that may write; in SQLite it keeps other writers waiting from its beginning.

        :raises LedgerUnavailable: whatever the database says is wrong.
        """
        with self._begin(self._engine) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One transaction that reads, all of it as of one moment. It waits for no writer, and keeps none waiting.

        :raises LedgerUnavailable: whatever the database says is wrong.
        """
        with self._begin(self._engine.execution_options(**{_READS: True})) as connection:
            yield connection

    @contextmanager
    def _begin(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        try:
            with self._upgrading:
                if not self._upgraded:
                    upgrade(self._engine)
                    self._upgraded = True
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
    return _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql_engine(parsed)


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    """Where the url names no driver, psycopg: the choice of SQLAlchemy 2.0 is another one, which no extra installs."""
    if url.drivername == "postgresql" and find_spec("psycopg") is not None:
        url = url.set(drivername="postgresql+psycopg")
    try:
        return sa.create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": LOCK_TIMEOUT_S})
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigurationInvalid(
            "ledger url",
            value=url.drivername,
            limit=f"a driver that is installed here ({error})",
            remedy="pip install 'airflow-provider-mlpipex[postgres]', and write postgresql+psycopg://…",
        ) from error


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
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(_READS) else "BEGIN IMMEDIATE")

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
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "airflow_provider_mlpipex.adapters.sql:migrations")
    with engine.execution_options(**{_READS: True}).begin() as connection:
        found = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if found == ScriptDirectory.from_config(config).get_current_head():
        return
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def moment_text(moment: datetime) -> str:
    """Fixed width, so that it compares as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
