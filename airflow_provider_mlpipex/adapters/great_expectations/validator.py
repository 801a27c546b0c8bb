"""Data quality judged by Great Expectations, in memory or where a table lives.

A manifest names expectations as people know them from Great Expectations, in snake case and without ``expect_``:
``column_values_to_be_between``. All of one table run as one suite; nothing is reported to the vendor.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.adapters.great_expectations.frames import (
    name_rows,
    plain_frame,
    repeated_columns,
    unjudgeable,
    with_moments,
)
from airflow_provider_mlpipex.adapters.great_expectations.results import ResultsFolder
from airflow_provider_mlpipex.adapters.great_expectations.suite import Suite, count_successes, overrule
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed, TableUnavailable
from airflow_provider_mlpipex.domain.quality.expectations import Expectation
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation, QualityReport, ResultPlace, SqlTable

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from great_expectations.datasource.fluent.interfaces import Batch
    from great_expectations.datasource.fluent.sql_datasource import SQLDatasource

#: Great Expectations keeps one data context a process.
_CONTEXT = threading.Lock()
_NO_ROWS = BrokenExpectation(expectation="table_to_have_rows", column=None, expected="rows", observed="no rows")


class GxValidator:
    """:class:`~airflow_provider_mlpipex.ports.DataValidator` on Great Expectations 1.x, pandas and SQLAlchemy.

    :param root: folder for results and Data Docs; ``None``: nothing is written.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._results = ResultsFolder(root) if root else None

    def validate(
        self,
        frame: pd.DataFrame,
        expectations: Sequence[Expectation],
        *,
        subject: str,
        key: Sequence[str] = (),
        place: ResultPlace | None = None,
    ) -> QualityReport:
        """Judge ``frame``.

        Fails closed: an empty table, a missing column, a column of another type, a column without any value, and a
        statistic that is not finite are broken expectations, though most expectations hold for no values at all.

        :param subject: the table in the user's words, for messages.
        :param key: columns of ``frame`` that name a row in messages; its number where none is given.
        :param place: where the full result is kept, if there is a root to keep it under.
        :raises ManifestInvalid: arguments that an expectation does not take.
        :raises DataQualityFailed: Great Expectations itself gave up.
        """
        suite, judged = Suite(expectations, in_utc=True), len(expectations)
        if repeated := repeated_columns(frame):
            names = ", ".join(repeated)
            twice = BrokenExpectation(
                expectation="table_columns_to_have_distinct_names",
                column=names,
                expected="each name once",
                observed="more than once",
            )
            return QualityReport(subject=subject, rows=len(frame), judged=judged, broken=(twice,))
        if frame.empty:
            return QualityReport(subject=subject, rows=0, judged=judged, broken=(_NO_ROWS,))
        if judged == 0:
            return QualityReport(subject=subject, rows=len(frame), judged=0)
        frame = plain_frame(frame, {column for expectation in expectations for column in expectation.columns})
        frame = with_moments(
            frame, {column for expectation in expectations if expectation.moments for column in expectation.columns}
        )
        with _context() as context:
            asset = context.data_sources.add_pandas("memory").add_dataframe_asset("table")
            batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
            report, rows = suite.run(batch)
        name_rows(report, frame, key)
        for at, why in unjudgeable(frame, expectations).items():
            overrule(report, at, why)
        return self._conclude(suite, report, subject=subject, rows=rows, key=key, place=place)

    def validate_table(
        self,
        table: SqlTable,
        expectations: Sequence[Expectation],
        *,
        subject: str,
        key: Sequence[str] = (),
        place: ResultPlace | None = None,
    ) -> QualityReport:
        """Judge a table where it lives: the database counts, and only a few offending values travel.

        :raises ManifestInvalid: arguments that an expectation does not take.
        :raises DataQualityFailed: no such table, or Great Expectations itself gave up.
        :raises TableUnavailable: the database does not answer.
        """
        suite, judged = Suite(expectations), len(expectations)
        if judged == 0:
            return QualityReport(subject=subject, rows=0, judged=0)
        _check_url(table, subject)
        with _context() as context:
            source = _connect(context, table, subject)
            try:
                report, rows = suite.run(_table_batch(source, table, subject), key=key)
            finally:
                source.get_engine().dispose()
        if rows == 0:
            return QualityReport(subject=subject, rows=0, judged=judged, broken=(_NO_ROWS,))
        return self._conclude(suite, report, subject=subject, rows=rows, key=key, place=place)

    def _conclude(
        self,
        suite: Suite,
        validation: ExpectationSuiteValidationResult,
        *,
        subject: str,
        rows: int,
        key: Sequence[str],
        place: ResultPlace | None,
    ) -> QualityReport:
        count_successes(validation)
        report = QualityReport(
            subject=subject, rows=rows, judged=len(validation.results), broken=tuple(suite.broken(validation, key=key))
        )
        if self._results is None or place is None:
            return report
        validation.suite_name = place.table
        try:
            page = self._results.write(validation, place, passed=report.passed, now=datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - a full disk or a page that cannot be drawn costs no verdict; it is told
            return report.model_copy(update={"trouble": f"{type(error).__name__}: {error}"})
        return report.model_copy(update={"results": str(page)})


@contextmanager
def _context() -> Iterator[EphemeralDataContext]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    with _CONTEXT:
        context = gx.get_context(mode="ephemeral")
        context.enable_analytics(False)
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        yield context


def _check_url(table: SqlTable, subject: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(table.url.get_secret_value()).get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ConfigurationInvalid(
            f"{subject}, database",
            value=_without_secrets(error, table),
            limit="an url of SQLAlchemy whose driver is installed",
            remedy="correct the url, or install its driver",
        ) from None


def _connect(context: EphemeralDataContext, table: SqlTable, subject: str) -> SQLDatasource:
    from great_expectations.datasource.fluent.interfaces import GxDatasourceWarning, TestConnectionError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with warnings.catch_warnings():
            # It would rather be told which database this is; the url says so.
            warnings.simplefilter("ignore", GxDatasourceWarning)
            return context.data_sources.add_sql("database", connection_string=table.url.get_secret_value())
    except (TestConnectionError, SQLAlchemyError) as error:
        raise TableUnavailable(
            f"{subject}, database",
            value=_without_secrets(error, table),
            limit="a database that answers",
            remedy="check connection and network, and run the task again; nothing was judged",
        ) from None


def _table_batch(source: SQLDatasource, table: SqlTable, subject: str) -> Batch:
    from great_expectations.datasource.fluent.interfaces import TestConnectionError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        # Great Expectations writes a name into its SQL as it is, unless it stands in quotes.
        needs_quotes = source.get_engine().dialect.identifier_preparer.quote(table.table) != table.table
        name = f'"{table.table}"' if needs_quotes else table.table
        asset = (
            source.add_table_asset("table", table_name=name, schema_name=table.schema_name)
            if table.schema_name
            else source.add_table_asset("table", table_name=name)
        )
        return asset.add_batch_definition_whole_table("whole").get_batch()
    except (TestConnectionError, SQLAlchemyError) as error:
        raise DataQualityFailed(
            subject,
            value=_without_secrets(error, table),
            limit=f"table {table} that this connection may read",
            remedy="check the table's name, its schema and the user's rights",
        ) from None


def _without_secrets(error: Exception, table: SqlTable) -> str:
    """The first line of ``error`` without url and password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    url = table.url.get_secret_value()
    text = str(error).replace(url, "(url)").splitlines()[0]
    try:
        password = make_url(url).password
    except ArgumentError:
        return text
    return text.replace(str(password), "***") if password else text
