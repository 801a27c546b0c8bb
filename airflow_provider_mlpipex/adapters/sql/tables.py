"""The ledger's tables as the adapter reads and writes them. Their schema is that of the migrations."""

from __future__ import annotations

import json

import sqlalchemy as sa

metadata = sa.MetaData()
LEDGER = sa.Table(
    "mlpipex_ledger",
    metadata,
    sa.Column("endpoint", sa.String(130), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("recorded_at", sa.String(32)),
    sa.Column("type", sa.String(40)),
    sa.Column("origin", sa.Text),
    sa.Column("event", sa.Text),
    sa.Column("previous_hash", sa.String(64)),
    sa.Column("hash", sa.String(64)),
)
STATE = sa.Table(
    "mlpipex_state",
    metadata,
    sa.Column("endpoint", sa.String(130), primary_key=True),
    sa.Column("fold_version", sa.String(40), primary_key=True),
    sa.Column("seq", sa.Integer),
    sa.Column("hash", sa.String(64)),
    sa.Column("state", sa.Text),
)
CHECKPOINTS = sa.Table(
    "mlpipex_checkpoints",
    metadata,
    sa.Column("endpoint", sa.String(130), primary_key=True),
    sa.Column("fold_version", sa.String(40), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.String(64)),
    sa.Column("state", sa.Text),
)
ROUTINE = sa.Table(
    "mlpipex_routine",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("endpoint", sa.String(130)),
    sa.Column("recorded_at", sa.String(32)),
    sa.Column("type", sa.String(40)),
    sa.Column("subject", sa.Text),
    sa.Column("origin", sa.Text),
    sa.Column("event", sa.Text),
)

#: What an entry is about, taken out of its event's text: the very expressions that ``r0003`` has put an index on, which
#: no other wording of them would find.
_SUBJECT = {
    "sqlite": (
        "CASE WHEN json_valid(event) THEN coalesce(json_extract(event, '$.rollout_id'), "
        "json_extract(event, '$.batch'), json_extract(event, '$.release')) END"
    ),
    "postgresql": (
        r"""substring(event from '^\{"type": "[a-z-]+", "(?:rollout_id|batch|release)": "((?:[^"\\]|\\.)*)"')"""
    ),
}
_INDEXED = 600


def subject_is(dialect: str, subject: str) -> sa.ColumnElement[bool]:
    """Entries about ``subject``. PostgreSQL compares what stands in the text, where JSON has escaped some of it."""
    written = subject if dialect == "sqlite" else json.dumps(subject, ensure_ascii=False)[1:-1]
    whole: sa.ColumnElement[str] = sa.literal_column(_SUBJECT[dialect], sa.Text)
    begins: sa.ColumnElement[str] = sa.literal_column(f"substr({_SUBJECT[dialect]}, 1, {_INDEXED})", sa.Text)
    return sa.and_(begins == written[:_INDEXED], whole == written)
