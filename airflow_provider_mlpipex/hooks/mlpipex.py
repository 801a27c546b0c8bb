"""The connection ``mlpipex``: where ledger, serving plane, registry and snapshots are, and the ports over them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.urls import secrets_of

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk.definitions.connection import Connection

    from airflow_provider_mlpipex.composition import Settings
    from airflow_provider_mlpipex.domain.quality.report import SqlTable
    from airflow_provider_mlpipex.domain.rollout.events import Origin
    from airflow_provider_mlpipex.ports import AnsweredBatch
    from airflow_provider_mlpipex.services.platform import Platform

#: Fields of the connection's extra; the rest of :class:`Settings` comes from host, port, schema and password.
EXTRA_FIELDS = (
    "ledger_url",
    "tracking_uri",
    "snapshot_root",
    "runtime_root",
    "quality_root",
    "drift_root",
    "feature_repository",
    "plane_token_file",
    "client_token",
    "client_token_file",
    "ingress_url",
    "alert_channels",
)

#: Settings of the plane itself, which no task has a use for.
PLANE_FIELDS = ("standbys", "model_memory", "head_key_file", "head_url")

#: Connection type -> dialect and driver of SQLAlchemy. Others are taken as they are called.
DRIVERS = {
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+mysqldb",
    "mssql": "mssql+pymssql",
    "sqlite": "sqlite",
    "redshift": "redshift+redshift_connector",
}
_NOWHERE = EndpointRef(environment="connection", name="test")


class MlpipexHook(BaseHook):
    """Builds the ports that every operator, sensor and trigger of this provider works with.

    Connection: ``schema://host:port`` is the control API of the serving plane (default ``http://127.0.0.1:8089``), the
    password its bearer token; the extra holds :data:`EXTRA_FIELDS`.

    :param mlpipex_conn_id: id of a connection of type ``mlpipex``.
    """

    conn_name_attr = "mlpipex_conn_id"
    default_conn_name = "mlpipex_default"
    conn_type = "mlpipex"
    hook_name = "MLPipeX"

    def __init__(self, mlpipex_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlpipex_conn_id = mlpipex_conn_id

    def get_conn(self) -> Settings:
        """:raises ConfigurationInvalid: naming the connection and every field that cannot work."""
        return settings_of(self.get_connection(self.mlpipex_conn_id))

    def platform(self, origin: Origin) -> Platform:
        """The ports, their ledger entries signed by ``origin``. Nothing is contacted yet."""
        return _build(self.get_conn(), origin)

    async def platform_async(self, origin: Origin) -> Platform:
        """:meth:`platform` for the triggerer, whose event loop must not wait for imports."""
        connection = await self.aget_connection(self.mlpipex_conn_id)
        settings = await asyncio.to_thread(settings_of, connection)
        return await asyncio.to_thread(_build, settings, origin)

    def code_version(self, folder: Path) -> str:
        """The git commit of ``folder``, or what ``MLPIPEX_CODE_VERSION`` says; empty where neither is known."""
        from airflow_provider_mlpipex.adapters.git.code_version import code_version

        return code_version(folder)

    def read_table(self, path: str | Path) -> pd.DataFrame:
        """A table in a Parquet or CSV file.

        :raises TableUnavailable: no such file. :raises DataQualityFailed: it is torn.
        """
        from airflow_provider_mlpipex.adapters.files.tables import read_table

        return read_table(path)

    def answer_file(self, path: str | Path) -> AnsweredBatch:
        """Where the answers to a batch are kept: a Parquet file.

        :raises ConfigurationInvalid: its path cannot be one.
        """
        from airflow_provider_mlpipex.adapters.files.answers import AnswerFile

        return AnswerFile(path)

    def sql_table(self, conn_id: str, table: str, *, schema: str | None = None) -> SqlTable:
        """A table in the database of any SQL connection of Airflow."""
        from airflow_provider_mlpipex.domain.quality.report import SqlTable

        return SqlTable.model_validate(
            {"url": url_of(self.get_connection(conn_id)), "table": table, "schema_name": schema}
        )

    def test_connection(self) -> tuple[bool, str]:
        """Ask the ledger for its endpoints and the plane for each; where there are none, for one that nobody has."""
        from airflow_provider_mlpipex.domain.rollout.events import Origin

        try:
            platform = self.platform(Origin(kind="task"))
            endpoints = platform.ledger.endpoints()
            for endpoint in endpoints or [_NOWHERE]:
                platform.plane.observe(endpoint)
        except MlpipexError as error:
            return False, str(error)
        return True, f"ledger and serving plane answer; {len(endpoints)} endpoints"


def _build(settings: Settings, origin: Origin) -> Platform:
    # Whoever parses a Dag file builds no platform.
    from airflow_provider_mlpipex.composition import build_platform

    return build_platform(settings, origin)


def settings_of(connection: Connection) -> Settings:
    """Settings from an Airflow connection; its secrets are masked in logs from here on."""
    from airflow_provider_mlpipex.composition import Settings

    extra = dict(connection.extra_dejson)
    raw: dict[str, Any] = {name: extra.pop(name) for name in EXTRA_FIELDS if extra.get(name) not in (None, "")}
    if misplaced := [name for name in extra if name in PLANE_FIELDS]:
        raise ConfigurationInvalid(
            f"connection {connection.conn_id}",
            value="; ".join(f"{name}: would have no effect" for name in misplaced),
            limit=f"fields of the extra: {', '.join(EXTRA_FIELDS)}",
            remedy=f"set MLPIPEX_{misplaced[0].upper()} where mlpipex serve runs: it concerns the plane alone",
        )
    raw |= {name: value for name, value in extra.items() if value not in (None, "")}
    if connection.host:
        port = f":{connection.port}" if connection.port else ""
        raw["plane_url"] = f"{connection.schema or 'http'}://{connection.host}{port}"
    if connection.password:
        raw["plane_token"] = connection.password
    settings = Settings.from_mapping(raw, where=f"connection {connection.conn_id}")
    for secret in _secrets(settings):
        mask_secret(secret)
    return settings


def _secrets(settings: Settings) -> Iterator[str]:
    """Everything that must not stand in a log, as it is written and as it is sent."""
    for token in (settings.plane_token, settings.client_token):
        if token is not None:
            yield token.get_secret_value()
    for file in (settings.plane_token_file, settings.client_token_file):
        # A file that is not there yet is named by whoever needs its token.
        with suppress(OSError):
            if file is not None and (content := file.read_text(encoding="utf-8").strip()):
                yield content
    for url in (settings.ledger_url, settings.tracking_uri, settings.plane_url, settings.ingress_url or ""):
        yield from secrets_of(url)
    for urls in settings.alert_channels.values():
        yield from urls
    # MLflow's own client takes its login from here, where the address has none.
    if password := os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        yield password


def url_of(connection: Connection) -> str:
    """The url of ``connection``; its password is masked in logs from here on.

    Two fields of its extra are heeded: ``sqlalchemy_driver`` (``postgresql+psycopg2``) instead of :data:`DRIVERS`, and
    ``sqlalchemy_query``, a mapping of what stands behind the question mark of an url. Of SQLite, the host is the file.
    """
    from sqlalchemy.engine import URL

    extra = connection.extra_dejson
    kind = connection.conn_type or ""
    if connection.password:
        mask_secret(connection.password)
    is_file = kind == "sqlite"
    url = URL.create(
        str(extra.get("sqlalchemy_driver") or DRIVERS.get(kind, kind)),
        username=connection.login or None,
        password=connection.password or None,
        host=None if is_file else connection.host or None,
        port=None if is_file else connection.port or None,
        database=(connection.host or connection.schema if is_file else connection.schema) or None,
        query={str(name): str(value) for name, value in (extra.get("sqlalchemy_query") or {}).items()},
    )
    return url.render_as_string(hide_password=False)
