"""A judge of tables that finds what it is told to find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.quality.expectations import Expectation
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation, QualityReport, ResultPlace, SqlTable

if TYPE_CHECKING:
    import pandas as pd


class MemoryValidator:
    """Looks at no value; only a table without rows is broken by itself.

    ``broken``: what every table is found to break; empty: nothing. ``judged``: the tables' subjects, in order;
    ``frames``: the tables themselves. ``sql_rows``: rows that every table in a database has.
    """

    def __init__(self) -> None:
        self.broken: tuple[BrokenExpectation, ...] = ()
        self.judged: list[str] = []
        self.frames: list[pd.DataFrame] = []
        self.sql_rows = 1

    def validate(
        self,
        frame: pd.DataFrame,
        expectations: Sequence[Expectation],
        *,
        subject: str,
        key: Sequence[str] = (),
        place: ResultPlace | None = None,
    ) -> QualityReport:
        self.frames.append(frame)
        return self._report(subject, len(frame), expectations)

    def validate_table(
        self,
        table: SqlTable,
        expectations: Sequence[Expectation],
        *,
        subject: str,
        key: Sequence[str] = (),
        place: ResultPlace | None = None,
    ) -> QualityReport:
        return self._report(subject, self.sql_rows, expectations)

    def _report(self, subject: str, rows: int, expectations: Sequence[Expectation]) -> QualityReport:
        self.judged.append(subject)
        empty = BrokenExpectation(expectation="table_to_have_rows", column=None, expected="rows", observed="no rows")
        broken = self.broken if rows else (empty,)
        return QualityReport(subject=subject, rows=rows, judged=len(expectations), broken=broken)
