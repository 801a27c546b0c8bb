"""Ledgers as earlier versions left them: their schema by the migrations of then, their rows without anything else."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from airflow_provider_mlpipex.adapters.sql.database import make_engine, moment_text
from airflow_provider_mlpipex.domain.rollout.events import Entry


def make_old_ledger(url: str, *, revision: str, entries: Iterable[Entry] = ()) -> None:
    """A ledger at ``revision`` that holds ``entries``."""
    config = Config()
    config.set_main_option("script_location", "airflow_provider_mlpipex.adapters.sql:migrations")
    engine = make_engine(url)
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    add_rows(engine, entries)
    engine.dispose()


def add_rows(engine: sa.Engine, entries: Iterable[Entry]) -> None:
    """Append ``entries`` as a version before 0003 did: rows of the chain, and no kept state."""
    insert = sa.text(
        "INSERT INTO mlpipex_ledger (endpoint, seq, recorded_at, type, origin, event, previous_hash, hash) VALUES "
        "(:endpoint, :seq, :recorded_at, :type, :origin, :event, :previous_hash, :hash)"
    )
    left = iter(entries)
    with engine.begin() as connection:
        while some := [_row(entry) for entry in itertools.islice(left, 1_000)]:
            connection.execute(insert, some)


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
