"""The ledger on SQLAlchemy.

Compare and append is one transaction over a primary key of endpoint and sequence number, so the database itself
refuses the second of two writers. The hash chain needs times to come back to the microsecond (``sql_database``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from airflow_provider_mlpipex.adapters.sql.database import SqlDatabase, moment_text
from airflow_provider_mlpipex.adapters.system_clock import SystemClock
from airflow_provider_mlpipex.domain.errors import LedgerTampered
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import Entry, Event, Origin
from airflow_provider_mlpipex.ports import Clock

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
        self._database = SqlDatabase(url)

    def append(
        self, endpoint: EndpointRef, *, expected_seq: int, events: Sequence[Event], origin: Origin
    ) -> list[Entry]:
        with self._database.transaction() as connection:
            newest = sa.select(_ledger).where(_ledger.c.endpoint == str(endpoint)).order_by(_ledger.c.seq.desc())
            row = connection.execute(newest.limit(1)).mappings().first()
            head = _entry(row) if row else None
            actual = head.seq if head else 0
            if actual != expected_seq:
                raise hash_chain.lost_race(endpoint, expected=expected_seq, actual=actual)
            linked = hash_chain.extend(endpoint, head, events, now=self._clock.now(), origin=origin)
            if linked:
                try:
                    connection.execute(_ledger.insert(), [_row(entry) for entry in linked])
                except IntegrityError:
                    raise hash_chain.lost_race(endpoint, expected=expected_seq, actual=expected_seq + 1) from None
        return linked

    def read(self, endpoint: EndpointRef, *, after_seq: int = 0, until: datetime | None = None) -> list[Entry]:
        query = (
            sa.select(_ledger)
            .where(_ledger.c.endpoint == str(endpoint), _ledger.c.seq > after_seq)
            .order_by(_ledger.c.seq)
        )
        if until is not None:
            query = query.where(_ledger.c.recorded_at <= moment_text(until))
        with self._database.reading() as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def endpoints(self) -> list[EndpointRef]:
        with self._database.reading() as connection:
            found = connection.execute(sa.select(_ledger.c.endpoint).distinct().order_by(_ledger.c.endpoint))
            return [EndpointRef.parse(endpoint) for (endpoint,) in found]


def _row(entry: Entry) -> dict[str, Any]:
    document = entry.to_json()
    return {
        "endpoint": document["endpoint"],
        "seq": entry.seq,
        "recorded_at": moment_text(entry.recorded_at),
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
