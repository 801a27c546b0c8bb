"""A ledger whose age costs nothing: kept states, routine records beside the chain, and indexes. No entry is touched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0003"
down_revision = "r0002"
branch_labels = None
depends_on = None

#: Of an event's JSON text, what it is about. A text that is no JSON is about nothing: an upgrade must not fail where
#: somebody has tampered with an entry.
_SUBJECT = {
    "sqlite": (
        "CASE WHEN json_valid(event) THEN coalesce(json_extract(event, '$.rollout_id'), "
        "json_extract(event, '$.batch'), json_extract(event, '$.release')) END"
    ),
    "postgresql": (
        r"""substring(event from '^\{"type": "[a-z-]+", "(?:rollout_id|batch|release)": "((?:[^"\\]|\\.)*)"')"""
    ),
}
#: Characters of it that the index holds: below what a page of PostgreSQL's takes.
_INDEXED = 600


def upgrade() -> None:
    op.create_table(
        "mlpipex_state",
        sa.Column("endpoint", sa.String(130), primary_key=True),
        sa.Column("fold_version", sa.String(40), primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_table(
        "mlpipex_routine",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("endpoint", sa.String(130), nullable=False),
        sa.Column("recorded_at", sa.String(32), nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
    )
    op.create_index("ix_mlpipex_routine_recorded", "mlpipex_routine", ["recorded_at"])
    op.create_index("ix_mlpipex_routine_newest", "mlpipex_routine", ["endpoint", "type", "id"])
    op.create_index("ix_mlpipex_ledger_type", "mlpipex_ledger", ["endpoint", "type", "seq"])
    connection = op.get_bind()
    connection.exec_driver_sql(
        "CREATE INDEX ix_mlpipex_ledger_subject ON mlpipex_ledger "
        f"(endpoint, substr({_SUBJECT[connection.dialect.name]}, 1, {_INDEXED}), seq)"
    )


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken down by a migration: drop its tables by hand if you must")
