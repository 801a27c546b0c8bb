"""States kept along each chain, so that what was true at a moment of the past is read and not folded. They are made
from the chain and can be made again, so rows may change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mlpipex_checkpoints",
        sa.Column("endpoint", sa.String(130), primary_key=True),
        sa.Column("fold_version", sa.String(40), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )


def downgrade() -> None:
    raise RuntimeError("checkpoints are never taken down by a migration: drop their table by hand if you must")
