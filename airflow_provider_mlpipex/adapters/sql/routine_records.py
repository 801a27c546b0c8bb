"""Facts that decide nothing, in a table of their own that forgets: the chain of decisions does not grow by them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from airflow_provider_mlpipex.adapters.sql.database import SqlDatabase, moment_text
from airflow_provider_mlpipex.adapters.sql.tables import ROUTINE
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Event, Origin, RoutineRecord, subject_of
from airflow_provider_mlpipex.ports import Clock

#: Rows that are deleted in one transaction: nobody else waits for longer.
_AT_ONCE = 5_000


class RoutineRecords:
    """The part of ``Ledger`` that is no chain."""

    def __init__(self, database: SqlDatabase, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, endpoint: EndpointRef, event: Event, *, origin: Origin) -> RoutineRecord:
        record = RoutineRecord(endpoint=endpoint, recorded_at=self._clock.now(), origin=origin, event=event)
        document = record.to_json()
        with self._database.transaction() as connection:
            connection.execute(
                ROUTINE.insert(),
                {
                    "endpoint": str(endpoint),
                    "recorded_at": moment_text(record.recorded_at),
                    "type": event.type,
                    "subject": subject_of(event),
                    "origin": json.dumps(document["origin"], ensure_ascii=False),
                    "event": json.dumps(document["event"], ensure_ascii=False),
                },
            )
        return record

    def records(
        self,
        endpoint: EndpointRef,
        *,
        since: datetime | None = None,
        types: Sequence[str] = (),
        subject: str | None = None,
        limit: int | None = None,
    ) -> list[RoutineRecord]:
        query = sa.select(ROUTINE).where(ROUTINE.c.endpoint == str(endpoint)).order_by(ROUTINE.c.id.desc())
        if since is not None:
            query = query.where(ROUTINE.c.recorded_at >= moment_text(since))
        if types:
            query = query.where(ROUTINE.c.type.in_(types))
        if subject is not None:
            query = query.where(ROUTINE.c.subject == subject)
        if limit is not None:
            query = query.limit(limit)
        with self._database.reading() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def prune(self, *, before: datetime, limit: int | None = None) -> int:
        outdated = sa.select(ROUTINE.c.id).where(ROUTINE.c.recorded_at < moment_text(before))
        pruned = 0
        while limit is None or pruned < limit:
            at_once = _AT_ONCE if limit is None else min(_AT_ONCE, limit - pruned)
            with self._database.transaction() as connection:
                some = ROUTINE.delete().where(ROUTINE.c.id.in_(outdated.limit(at_once)))
                deleted = connection.execute(some).rowcount
            pruned += deleted
            if deleted < at_once:
                break
        return pruned


def _record(row: Any) -> RoutineRecord:
    return RoutineRecord.model_validate(
        {
            "endpoint": row["endpoint"],
            "recorded_at": row["recorded_at"],
            "origin": json.loads(row["origin"]),
            "event": json.loads(row["event"]),
        }
    )
