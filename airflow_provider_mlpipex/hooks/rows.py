"""Rows that a manifest's ``evaluation`` block names: a function, a file, an object store, a query by connection."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed, TableUnavailable
from airflow_provider_mlpipex.domain.manifest.evaluation_block import EvaluationSpec
from airflow_provider_mlpipex.domain.urls import without_credentials

if TYPE_CHECKING:
    import pandas as pd

#: A driver's message names hosts and users, and may be long.
_SHOWN = 200
#: A text in single quotes, also one that is cut off. Double quotes are of names: tables, columns, users.
_QUOTED = re.compile(r"'(?:[^']|'')*(?:'|$)")
_MASKED = "'…'"


class NamedRows(NamedTuple):
    """Rows that can be read.

    :param digest: SHA-256 of the file that holds them, or of the code that gives them; empty where only asking says
        what they are.
    """

    digest: str
    load: Callable[[], pd.DataFrame]


def rows_of(spec: EvaluationSpec, *, folder: Path) -> NamedRows:
    """The rows that ``spec`` names. A file is read now, so that nobody can change it on the way.

    :param folder: what a relative ``file`` lies below.
    :raises TableUnavailable: the file or object store does not answer.
    :raises ManifestInvalid: the callable cannot be imported.
    :raises DataQualityFailed: when the rows are loaded: they cannot be read.
    """
    match spec.kind:
        case "callable":
            from airflow_provider_mlpipex.services.training.user_code import rows_code_digest

            return NamedRows(rows_code_digest(str(spec.callable)), partial(_called, spec))
        case "sql":
            return NamedRows("", partial(_queried, spec))
        case "file":
            return _in_file(str(spec.file), _read_file(folder / str(spec.file)))
    return _in_file(str(spec.uri), _read_object(str(spec.uri)))


def _in_file(name: str, content: bytes) -> NamedRows:
    return NamedRows(hashlib.sha256(content).hexdigest(), partial(_parsed, name, content))


def _parsed(name: str, content: bytes) -> pd.DataFrame:
    from airflow_provider_mlpipex.adapters.files.tables import read_table

    with tempfile.TemporaryDirectory(prefix="mlpipex-rows-") as scratch:
        path = Path(scratch) / name.rpartition("/")[2]
        path.write_bytes(content)
        return read_table(path)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TableUnavailable(
            f"table {path}",
            value=error.strerror or type(error).__name__,
            limit="a file that may be read here",
            remedy="check evaluation.file, which is looked for beside the manifest",
        ) from None


def _read_object(uri: str) -> bytes:
    from airflow.sdk import ObjectStoragePath

    try:
        with ObjectStoragePath(uri).open("rb") as stream:  # type: ignore[no-untyped-call]
            content: bytes = stream.read()
    except Exception as error:  # noqa: BLE001 - whatever a file system of fsspec raises
        # Not its text, and nothing chained: signed addresses and secrets of the connection stand in both.
        known = os.strerror(error.errno) if isinstance(error, OSError) and isinstance(error.errno, int) else ""
        raise TableUnavailable(
            f"table {without_credentials(uri)}",
            value=f"{type(error).__name__}: {known}" if known else type(error).__name__,
            limit="an object that Airflow's ObjectStoragePath can read here",
            remedy="check the uri, the connection in it, and that the provider of its scheme is installed",
        ) from None
    return content


def _called(spec: EvaluationSpec) -> pd.DataFrame:
    from airflow_provider_mlpipex.services.training.user_code import import_callable, load_table

    load = import_callable(str(spec.callable), field="evaluation.callable")
    return load_table(
        partial(load, **spec.parameters),
        source=f"rows of {spec.source}",
        remedy="call it by itself to read its text; does it take evaluation.parameters?",
    )


def _queried(spec: EvaluationSpec) -> pd.DataFrame:
    import pandas as pd
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

    from airflow_provider_mlpipex.hooks.mlpipex import url_of

    subject = f"rows of {spec.source}"
    try:
        connected = BaseHook.get_connection(str(spec.connection))
    except AirflowNotFoundException:
        raise ConfigurationInvalid(
            f"Airflow connection {spec.connection}",
            value="not there",
            limit="a connection of the database that evaluation.sql asks",
            remedy=f"add it, or set AIRFLOW_CONN_{str(spec.connection).upper()}",
        ) from None
    engine = create_engine(url_of(connected))
    try:
        with engine.connect() as connection:
            return pd.read_sql_query(text(str(spec.sql)), connection)
    except DBAPIError as error:
        # Without the statement, which may hold values of customers.
        if error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError"):
            raise TableUnavailable(
                subject,
                value=_said(error.orig, secret=connected.password),
                limit="a database that answers the query",
                remedy="check the connection and evaluation.sql",
            ) from None
        # A value that the database could not convert stands in its text; a wrong query has none of its own.
        reason = type(error).__name__ if isinstance(error, DataError | IntegrityError) else _said(error.orig)
        raise DataQualityFailed(
            subject, value=reason, limit="a query that it takes", remedy="correct evaluation.sql"
        ) from None
    except SQLAlchemyError as error:
        raise DataQualityFailed(
            subject, value=type(error).__name__, limit="a query that gives rows", remedy="correct evaluation.sql"
        ) from None
    finally:
        engine.dispose()


def _said(error: object, *, secret: str | None = None) -> str:
    """A driver's first line, without what stands in quotes or is a password: some quote the statement below it, and the
    value that they could not convert, whatever the class of their error."""
    line = (str(error).strip().splitlines() or [""])[0]
    if secret:
        line = line.replace(secret, "…")
    return f"{type(error).__name__}: {_QUOTED.sub(_MASKED, line)}"[:_SHOWN]
