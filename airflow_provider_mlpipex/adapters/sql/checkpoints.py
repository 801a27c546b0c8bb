"""States of each endpoint along its chain, one every few hundred entries: where a fold up to a moment begins."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from airflow_provider_mlpipex.adapters.sql.kept_state import projection_of, row_of
from airflow_provider_mlpipex.adapters.sql.tables import CHECKPOINTS, LEDGER
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.projection import Projection, fold_version

#: Events of a fold between two checkpoints: about what a chain of so many entries takes to fold is what it takes to
#: read the state at any moment of a long one.
EVERY = 200
_KEEP = sa.text(
    "INSERT INTO mlpipex_checkpoints (endpoint, fold_version, seq, hash, state) "
    "VALUES (:of, :version, :seq, :hash, :state) "
    "ON CONFLICT (endpoint, fold_version, seq) DO UPDATE SET hash = excluded.hash, state = excluded.state"
)


def keep(connection: sa.Connection, projections: Iterable[Projection]) -> None:
    """Write ``projections`` of one endpoint, and forget what other versions of the fold have kept of it."""
    for projection in projections:
        row = row_of(projection)
        others = sa.and_(CHECKPOINTS.c.endpoint == row["of"], CHECKPOINTS.c.fold_version != row["version"])
        connection.execute(CHECKPOINTS.delete().where(others))
        connection.execute(_KEEP, row)


def last_until(connection: sa.Connection, endpoint: EndpointRef, seq: int) -> Projection | None:
    """The last checkpoint at or before entry ``seq`` that belongs to the chain as it is; ``None`` where there is
    none."""
    of_chain = sa.and_(
        LEDGER.c.endpoint == CHECKPOINTS.c.endpoint,
        LEDGER.c.seq == CHECKPOINTS.c.seq,
        LEDGER.c.hash == CHECKPOINTS.c.hash,
    )
    query = _mine(endpoint).join(LEDGER, of_chain).where(CHECKPOINTS.c.seq <= seq)
    row = connection.execute(query.order_by(CHECKPOINTS.c.seq.desc()).limit(1)).mappings().first()
    return None if row is None else projection_of(row)


def page(connection: sa.Connection, endpoint: EndpointRef, *, after_seq: int, limit: int) -> list[Projection]:
    """Checkpoints in order, those left out that cannot be read: nobody begins a fold there."""
    query = _mine(endpoint).where(CHECKPOINTS.c.seq > after_seq).order_by(CHECKPOINTS.c.seq).limit(limit)
    read = [projection_of(row) for row in connection.execute(query).mappings()]
    return [projection for projection in read if projection is not None]


def _mine(endpoint: EndpointRef) -> sa.Select[tuple[int, str, str]]:
    return sa.select(CHECKPOINTS.c.seq, CHECKPOINTS.c.hash, CHECKPOINTS.c.state).where(
        CHECKPOINTS.c.endpoint == str(endpoint), CHECKPOINTS.c.fold_version == fold_version()
    )
