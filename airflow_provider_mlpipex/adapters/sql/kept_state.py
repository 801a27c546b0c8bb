"""The state of each endpoint beside its chain: one row for each version of the fold."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

import sqlalchemy as sa

from airflow_provider_mlpipex.adapters.sql.tables import LEDGER, STATE
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.hash_chain import Head
from airflow_provider_mlpipex.domain.rollout.projection import Projection, fold_version
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.summary import EndpointSummary

_HEAD = (
    sa.select(LEDGER.c.endpoint, LEDGER.c.seq, LEDGER.c.hash, LEDGER.c.recorded_at)
    .where(LEDGER.c.endpoint == sa.bindparam("of"))
    .order_by(LEDGER.c.seq.desc())
    .limit(1)
)
_KEPT = sa.select(STATE.c.seq, STATE.c.hash, STATE.c.state).where(
    STATE.c.endpoint == sa.bindparam("of"), STATE.c.fold_version == sa.bindparam("version")
)
#: The same words in SQLite and PostgreSQL. A state never gives way to that of an earlier entry: whoever folded a chain
#: while others wrote comes late, and a chain whose end was cut off stays found out.
_KEEP = sa.text(
    "INSERT INTO mlpipex_state (endpoint, fold_version, seq, hash, state) VALUES (:of, :version, :seq, :hash, :state) "
    "ON CONFLICT (endpoint, fold_version) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, "
    "state = excluded.state WHERE mlpipex_state.seq < excluded.seq"
)


def head_of(connection: sa.Connection, endpoint: EndpointRef) -> Head | None:
    """The last entry of the chain; ``None`` where there is none."""
    row = connection.execute(_HEAD, {"of": str(endpoint)}).mappings().first()
    return None if row is None else _head(row)


def of(connection: sa.Connection, endpoint: EndpointRef) -> Projection | None:
    """What this version of the fold has kept; ``None`` where that is nothing, or cannot be read."""
    row = connection.execute(_KEPT, {"of": str(endpoint), "version": fold_version()}).mappings().first()
    return None if row is None else projection_of(row)


def head_and_kept(connection: sa.Connection, endpoint: EndpointRef) -> tuple[Head | None, Projection | None]:
    """:func:`head_of` and :func:`of` in one row."""
    row = connection.execute(_head_and_kept(), {"of": str(endpoint), "version": fold_version()}).mappings().first()
    if row is None:
        return None, None
    head_of_row = _head({"seq": row["head_seq"], "hash": row["head_hash"], "recorded_at": row["recorded_at"]})
    return head_of_row, None if row["seq"] is None else projection_of(row)


@cache
def _head_and_kept() -> sa.Select[Any]:
    """Made once: that takes as long as the whole read."""
    head, kept = _HEAD.subquery("head"), _KEPT.subquery("kept")
    return sa.select(
        head.c.seq.label("head_seq"), head.c.hash.label("head_hash"), head.c.recorded_at, kept
    ).select_from(head.outerjoin(kept, sa.true()))


def summaries(connection: sa.Connection, heads: sa.Select[Any]) -> list[tuple[EndpointRef, EndpointSummary | None]]:
    """Of every endpoint; ``None`` where what is kept is missing, outdated or unreadable.

    :param heads: selects ``endpoint`` and ``last``, the sequence number of its last entry.
    """
    last = heads.subquery("heads")
    query = (
        sa.select(last.c.endpoint, STATE.c.state)
        .join(LEDGER, sa.and_(LEDGER.c.endpoint == last.c.endpoint, LEDGER.c.seq == last.c.last))
        .outerjoin(
            STATE,
            sa.and_(
                STATE.c.endpoint == last.c.endpoint,
                STATE.c.fold_version == fold_version(),
                STATE.c.seq == last.c.last,
                STATE.c.hash == LEDGER.c.hash,
            ),
        )
    )
    return [(EndpointRef.parse(row.endpoint), _summary(row.state)) for row in connection.execute(query)]


#: Summaries that a process keeps: those of a large fleet, whose list is asked for every few seconds.
_KEPT_SUMMARIES = 2000


@lru_cache(_KEPT_SUMMARIES)
def _summary(state: str | None) -> EndpointSummary | None:
    try:
        return None if state is None else EndpointSummary.model_validate_json(state)
    except ValueError:
        return None  # As in :func:`projection_of`.


def keep(connection: sa.Connection, projection: Projection) -> None:
    """Write ``projection``, unless a later one is there."""
    connection.execute(_KEEP, row_of(projection))


def row_of(projection: Projection) -> dict[str, Any]:
    """What a table of states holds of ``projection``."""
    return {
        "of": str(projection.state.endpoint),
        "version": fold_version(),
        "seq": projection.seq,
        "hash": projection.hash,
        "state": json.dumps(projection.state.to_json(), ensure_ascii=False),
    }


def is_of_chain(connection: sa.Connection, endpoint: EndpointRef, kept: Projection) -> bool:
    """Whether the entry that ``kept`` has read last is in the chain as it was then."""
    query = sa.select(LEDGER.c.hash).where(LEDGER.c.endpoint == str(endpoint), LEDGER.c.seq == kept.seq)
    return connection.execute(query).scalar() == kept.hash


def _head(row: Any) -> Head:
    return Head(row["seq"], row["hash"], datetime.fromisoformat(row["recorded_at"]))


def projection_of(row: Any) -> Projection | None:
    """The inverse of :func:`row_of`; ``None`` where the row cannot be read."""
    try:
        state = EndpointState.model_validate_json(row["state"])
    except ValueError:
        return None  # No state of this version, whoever wrote it: the chain says what is true.
    return Projection(seq=row["seq"], hash=row["hash"], state=state)
