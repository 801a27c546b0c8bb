"""The ledger's only table, append-only by trigger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None

_REFUSAL = "the ledger is append-only"


def upgrade() -> None:
    op.create_table(
        "mlpipex_ledger",
        sa.Column("endpoint", sa.String(130), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("recorded_at", sa.String(32), nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("ix_mlpipex_ledger_as_of", "mlpipex_ledger", ["endpoint", "recorded_at"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER mlpipex_ledger_no_{verb.lower()} BEFORE {verb} ON mlpipex_ledger "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION mlpipex_ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER mlpipex_ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON mlpipex_ledger "
            "FOR EACH STATEMENT EXECUTE FUNCTION mlpipex_ledger_refuse()"
        )


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken down by a migration: drop its table by hand if you must")
