"""Outcomes: labels that came late, beside what was served. Labels may be corrected, so rows may change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mlpipex_outcomes",
        sa.Column("endpoint", sa.String(130), primary_key=True),
        sa.Column("request_id", sa.String(200), primary_key=True),
        sa.Column("release", sa.String(64), nullable=False),
        sa.Column("served_at", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("predicted", sa.Text, nullable=False),
        sa.Column("probabilities", sa.Text),
        sa.Column("label_number", sa.Double),
        sa.Column("label_text", sa.Text),
        sa.Column("observed_at", sa.String(32)),
        sa.CheckConstraint("(label_number IS NULL) <> (label_text IS NULL)", name="ck_mlpipex_outcomes_one_label"),
    )
    op.create_index("ix_mlpipex_outcomes_served", "mlpipex_outcomes", ["endpoint", "release", "served_at"])


def downgrade() -> None:
    raise RuntimeError("outcomes are never taken down by a migration: drop their table by hand if you must")
