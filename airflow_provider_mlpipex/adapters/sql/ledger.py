"""The ledger on SQLAlchemy.

Compare and append is one transaction over a primary key of endpoint and sequence number, so the database itself
refuses the second of two writers. The same transaction writes the state after the entries (:mod:`.kept_state`). The
hash chain needs times to come back to the microsecond (``database``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from airflow_provider_mlpipex.adapters.sql import checkpoints, kept_state
from airflow_provider_mlpipex.adapters.sql.database import moment_text, shared_database
from airflow_provider_mlpipex.adapters.sql.routine_records import RoutineRecords
from airflow_provider_mlpipex.adapters.sql.tables import LEDGER, subject_is
from airflow_provider_mlpipex.adapters.system_clock import SystemClock
from airflow_provider_mlpipex.domain.errors import LedgerTampered, LedgerUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import Entry, Event, Origin
from airflow_provider_mlpipex.domain.rollout.projection import STATE_EVENTS, Projection, empty
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.summary import EndpointSummary
from airflow_provider_mlpipex.ports import Clock

#: Entries that are read at once where a state is folded anew.
PAGE = 1000
#: Checkpoints that are written in one transaction.
_LEFT_AT_ONCE = 20
#: Up to so many types are looked up one by one in the index of types; more of them are sifted on the way.
_FEW_TYPES = 4
_MINE = LEDGER.c


class _StateOutdated(Exception):
    """The kept state does not belong to the last entry: it has to be folded before anything is appended."""


class SqlLedger(RoutineRecords):
    """:param url: SQLAlchemy url, ``sqlite:///path`` or ``postgresql+psycopg://…``.
    :raises ConfigurationInvalid: a url of another kind.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        super().__init__(shared_database(url), clock or SystemClock())
        self._has_own_clock = clock is not None

    def append(
        self, endpoint: EndpointRef, *, expected_seq: int, events: Sequence[Event], origin: Origin
    ) -> list[Entry]:
        try:
            return self._append(endpoint, expected_seq, events, origin, fold_here=False)
        except _StateOutdated:
            # Of a long chain that takes a while, so other writers are not kept waiting meanwhile.
            self.state(endpoint)
            return self._append(endpoint, expected_seq, events, origin, fold_here=True)

    def _append(
        self, endpoint: EndpointRef, expected_seq: int, events: Sequence[Event], origin: Origin, *, fold_here: bool
    ) -> list[Entry]:
        with self._database.transaction() as connection:
            head = kept_state.head_of(connection, endpoint)
            actual = head.seq if head else 0
            if actual != expected_seq:
                raise hash_chain.lost_race(endpoint, expected=expected_seq, actual=actual)
            linked = hash_chain.extend(endpoint, head, events, now=self._now(connection), origin=origin)
            if not linked:
                return linked
            before = empty(endpoint) if head is None else kept_state.of(connection, endpoint)
            if head and (before is None or (before.seq, before.hash) != (head.seq, head.hash)):
                if not fold_here:
                    raise _StateOutdated
                before = self._folded(connection, endpoint, before, head)
            assert before is not None
            try:
                connection.execute(LEDGER.insert(), [_row(entry) for entry in linked])
            except IntegrityError:
                raise hash_chain.lost_race(endpoint, expected=expected_seq, actual=expected_seq + 1) from None
            after = before.advanced(linked)
            kept_state.keep(connection, after)
        if before.seq // checkpoints.EVERY != after.seq // checkpoints.EVERY:
            self._leave([after])
        return linked

    def _now(self, connection: sa.Connection) -> datetime:
        """Of the database where it has a clock: many machines write, and one of them may have a clock that is wrong."""
        if connection.dialect.name != "postgresql" or self._has_own_clock:
            return self._clock.now()
        now: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
        return now.astimezone(UTC)

    def _soon(self, connection: sa.Connection) -> str:
        """What is dated later was written by a clock that was wrong."""
        return moment_text(self._now(connection) + hash_chain.CLOCK_SLACK)

    def read(
        self,
        endpoint: EndpointRef,
        *,
        after_seq: int = 0,
        before_seq: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        types: Sequence[str] = (),
        subject: str | None = None,
        task: Origin | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[Entry]:
        with self._database.reading() as connection:
            query = sa.select(LEDGER).where(_MINE.endpoint == str(endpoint), _MINE.seq > after_seq)
            if before_seq is not None:
                query = query.where(_MINE.seq < before_seq)
            # Time does not run backwards in a chain but after entries from the future, which no moment until now leads
            # to: so a moment is a place in it.
            soon = self._soon(connection) if since or until else ""
            if since is not None:
                between = _MINE.recorded_at.between(moment_text(since), soon)
                first = _place(connection, endpoint, between, _MINE.seq)
                if first is None:
                    return []
                query = query.where(_MINE.seq >= first)
            if until is not None:
                latest = min(moment_text(until), soon)
                last = _place(connection, endpoint, _MINE.recorded_at <= latest, _MINE.seq.desc())
                query = query.where(_MINE.seq <= (last or 0))
            if subject is not None:
                query = query.where(subject_is(connection.dialect.name, subject))
            if task is not None:
                query = query.where(*_by_task(connection.dialect.name, task))
            query = query.order_by(_MINE.seq.desc() if newest_first else _MINE.seq)
            if limit is not None:
                query = query.limit(limit)
            rows: list[Any] = []
            few = 1 < len(types) <= _FEW_TYPES and limit is not None
            for some in [[event_type] for event_type in types] if few else [list(types)]:
                of_type = query.where(_MINE.type.in_(some)) if some else query
                rows += connection.execute(of_type).mappings().all()
        rows.sort(key=lambda row: row["seq"], reverse=newest_first)
        return [_entry(row) for row in rows[:limit]]

    def state(self, endpoint: EndpointRef) -> EndpointState:
        with self._database.reading() as connection:
            head, kept = kept_state.head_and_kept(connection, endpoint)
            if head is None:
                return EndpointState(endpoint=endpoint)
            if kept and (kept.seq, kept.hash) == (head.seq, head.hash):
                return kept.state
            folded = self._folded(connection, endpoint, kept, head)
        try:
            with self._database.transaction() as connection:
                kept_state.keep(connection, folded)
        except LedgerUnavailable:
            pass  # The state is right all the same; whoever may write, and finds no lock, keeps it.
        return folded.state

    def state_at(self, endpoint: EndpointRef, at: datetime) -> EndpointState:
        with self._database.reading() as connection:
            latest = min(moment_text(at), self._soon(connection))
            last = _place(connection, endpoint, _MINE.recorded_at <= latest, _MINE.seq.desc())
            if last is None:
                return EndpointState(endpoint=endpoint)
            state = self._kept_until(connection, endpoint, last)
            passed: list[Projection] = []
            for further in _fold(connection, state, last, page=checkpoints.EVERY):
                if len(passed) == _LEFT_AT_ONCE:
                    self._leave(passed)
                    passed = []
                passed.append(further)
                state = further
        self._leave(passed[:-1])
        return state.state.model_copy(update={"seq": last})

    @staticmethod
    def _kept_until(connection: sa.Connection, endpoint: EndpointRef, seq: int) -> Projection:
        """The latest state that is kept of the chain as it is, at or before entry ``seq``."""
        newest = kept_state.of(connection, endpoint)
        if newest and newest.seq <= seq and kept_state.is_of_chain(connection, endpoint, newest):
            return newest
        return checkpoints.last_until(connection, endpoint, seq) or empty(endpoint)

    def _leave(self, passed: Sequence[Projection]) -> None:
        """Keep checkpoints, if that can be done now: whoever finds none folds a little more."""
        if not passed:
            return
        try:
            with self._database.transaction() as connection:
                checkpoints.keep(connection, passed)
        except LedgerUnavailable:
            pass

    def projection(self, endpoint: EndpointRef) -> Projection | None:
        with self._database.reading() as connection:
            return kept_state.of(connection, endpoint)

    def checkpoints(self, endpoint: EndpointRef, *, after_seq: int = 0, limit: int) -> list[Projection]:
        with self._database.reading() as connection:
            return checkpoints.page(connection, endpoint, after_seq=after_seq, limit=limit)

    def summaries(self) -> list[EndpointSummary]:
        with self._database.reading() as connection:
            kept = kept_state.summaries(connection, _heads())
        summaries = [summary or EndpointSummary.of(self.state(endpoint)) for endpoint, summary in kept]
        return sorted(summaries, key=lambda summary: str(summary.endpoint))

    def endpoints(self) -> list[EndpointRef]:
        known = _known_endpoints()
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(known.c.endpoint).where(known.c.endpoint.is_not(None)))
            return sorted((EndpointRef.parse(endpoint) for (endpoint,) in rows), key=str)

    def heads(self) -> dict[EndpointRef, int]:
        with self._database.reading() as connection:
            rows = connection.execute(_heads())
            return {EndpointRef.parse(row.endpoint): row.last for row in rows}

    def _folded(
        self, connection: sa.Connection, endpoint: EndpointRef, kept: Projection | None, head: hash_chain.Head
    ) -> Projection:
        """The state at ``head``, from the kept one where that belongs to an earlier entry of this chain."""
        state = kept if kept and kept_state.is_of_chain(connection, endpoint, kept) else empty(endpoint)
        for further in _fold(connection, state, head.seq, page=PAGE):
            state = further
        return state.moved_to(head.seq, head.hash)


def _fold(connection: sa.Connection, state: Projection, until_seq: int, *, page: int) -> Iterator[Projection]:
    """States on the way from ``state`` to entry ``until_seq``: each has read ``page`` more events that change one, the
    last those that are left."""
    query = sa.select(LEDGER).where(_MINE.endpoint == str(state.state.endpoint), _MINE.seq <= until_seq)
    query = query.where(_MINE.type.in_(STATE_EVENTS)).order_by(_MINE.seq).limit(page)
    while rows := connection.execute(query.where(_MINE.seq > state.seq)).mappings().all():
        state = state.advanced(_entry(row) for row in rows)
        yield state


def _known_endpoints() -> sa.CTE:
    """One step in the primary key for each endpoint, not for each entry. The last of its rows is NULL."""
    first = sa.select(sa.func.min(_MINE.endpoint).label("endpoint")).cte("known", recursive=True)
    following = sa.select(sa.func.min(_MINE.endpoint)).where(_MINE.endpoint > first.c.endpoint).scalar_subquery()
    return first.union_all(sa.select(following).where(first.c.endpoint.is_not(None)))


@cache
def _heads() -> sa.Select[Any]:
    known = _known_endpoints()
    last = sa.select(sa.func.max(_MINE.seq)).where(_MINE.endpoint == known.c.endpoint).scalar_subquery()
    return sa.select(known.c.endpoint, last.label("last")).where(known.c.endpoint.is_not(None))


def _place(connection: sa.Connection, endpoint: EndpointRef, where: Any, order: Any) -> int | None:
    """Sequence number of the first entry in ``order`` that ``where`` takes."""
    direction = _MINE.recorded_at.desc() if order is not _MINE.seq else _MINE.recorded_at
    query = sa.select(_MINE.seq).where(_MINE.endpoint == str(endpoint), where).order_by(direction, order).limit(1)
    return connection.execute(query).scalar()


def _by_task(dialect: str, task: Origin) -> list[sa.ColumnElement[bool]]:
    """Conditions on the origin, whose text is JSON as this module writes it."""
    fields = {"kind": task.kind, "dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id}
    finder = sa.func.instr if dialect == "sqlite" else sa.func.strpos
    return [
        finder(_MINE.origin, f'"{name}": {json.dumps(value, ensure_ascii=False)},') > 0
        for name, value in fields.items()
    ]


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
