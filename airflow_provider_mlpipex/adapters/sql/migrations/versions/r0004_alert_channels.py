"""Receivers of alerts, for every process that has the ledger. They may be named anew, so rows may change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mlpipex_alert_channels",
        sa.Column("channel", sa.String(100), primary_key=True),
        sa.Column("urls", sa.Text, nullable=False),
        sa.Column("set_by", sa.String(200), nullable=False),
        sa.Column("set_at", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    raise RuntimeError("alert channels are never taken down by a migration: drop their table by hand if you must")
