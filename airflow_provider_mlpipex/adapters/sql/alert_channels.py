"""Receivers of alerts, kept beside the ledger: whoever can write there, from wherever, can notify on-call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from airflow_provider_mlpipex.adapters.sql.database import SqlDatabase, moment_text

_channels = sa.Table(
    "mlpipex_alert_channels",
    sa.MetaData(),
    sa.Column("channel", sa.String(100), primary_key=True),
    sa.Column("urls", sa.Text),
    sa.Column("set_by", sa.String(200)),
    sa.Column("set_at", sa.String(32)),
)


class SqlAlertChannels:
    """Channel name -> Apprise urls. They hold credentials, and are readable for whoever may read the ledger.

    :param url: of the ledger's database.
    """

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url)

    def read(self) -> dict[str, tuple[str, ...]]:
        """Every channel, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(_channels).order_by(_channels.c.channel)).mappings()
            return {row["channel"]: tuple(json.loads(row["urls"])) for row in rows}

    def set(self, channel: str, urls: Sequence[str], *, by: str) -> None:
        """Name the receivers of ``channel`` in place of those it has; none ends it."""
        with self._database.transaction() as connection:
            connection.execute(_channels.delete().where(_channels.c.channel == channel))
            if urls:
                row = {"channel": channel, "urls": json.dumps(list(urls)), "set_by": by}
                connection.execute(_channels.insert(), {**row, "set_at": moment_text(datetime.now(UTC))})
