"""The outcome of judging a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import SecretStr

from airflow_provider_mlpipex.domain.fields.types import FolderName, SchemaName, TableName
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.quality.expectations import Severity
from airflow_provider_mlpipex.domain.values import Value


class BrokenExpectation(Value):
    """One expectation that did not hold.

    :param expected: its arguments, or ``to hold`` where it has none.
    :param observed: how many values break it, the value of a statistic, or why it could not be judged.
    :param sample: a few offending values, never whole rows.
    :param keys: what names the rows of ``sample``: ``flight_id=2013-01-01-UA1545-EWR``, or ``row 17``, counted from 0.
    :param severity: only ``critical`` stops a stage.
    """

    expectation: str
    column: str | None
    expected: str
    observed: str
    sample: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    severity: Severity = "critical"


class QualityReport(Value):
    """``subject`` is the table judged. No expectation judged is not a success: ``passed`` is false then.

    :param results: the page that Great Expectations wrote about it; empty where nobody asked for one.
    :param trouble: why the page could not be written; the verdict stands without it.
    """

    subject: str
    rows: int
    judged: int
    broken: tuple[BrokenExpectation, ...] = ()
    results: str = ""
    trouble: str = ""

    @property
    def passed(self) -> bool:
        """Something was judged, and nothing critical is broken."""
        return self.judged > 0 and not self.critical

    @property
    def critical(self) -> tuple[BrokenExpectation, ...]:
        """What stops a stage."""
        return tuple(broken for broken in self.broken if broken.severity == "critical")

    @property
    def warnings(self) -> tuple[BrokenExpectation, ...]:
        """What is told, and stops nothing."""
        return tuple(broken for broken in self.broken if broken.severity != "critical")


class SqlTable(Value):
    """A table, or a view, in a database that SQLAlchemy reaches.

    :param url: SQLAlchemy url; it may hold a password and is shown to nobody.
    :param table: its name without schema and without quotes; its case counts unless it is all lower case.
    """

    url: SecretStr
    table: TableName
    schema_name: SchemaName | None = None

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.table}" if self.schema_name else self.table


class ResultPlace(Value):
    """Where the full result of one judgement is kept, below the root that the composition root knows.

    :param folder: of one manifest, or of whoever asks. :param table: what was judged: ``snapshot``, ``features`` …
    """

    folder: FolderName
    table: Name


def explain(report: QualityReport) -> str:
    """Every critical broken expectation in words, then the warnings."""
    sentences = [_sentence(broken) for broken in report.critical]
    sentences += [f"{broken.severity}: {_sentence(broken)}" for broken in report.warnings]
    return "; ".join(sentences) or ("nothing was judged" if report.judged == 0 else "")


def _sentence(broken: BrokenExpectation) -> str:
    """Column, what was expected, what was found, a few offending values and the rows that they stand in."""
    words = f"{broken.column or 'table'}: {broken.expectation} ({broken.expected}), observed {broken.observed}"
    if broken.sample:
        words += f", for example {', '.join(broken.sample)}"
    if broken.keys:
        words += f" in {', '.join(broken.keys)}"
    return words


def evidence_of(reports: Sequence[QualityReport], *, since: datetime, until: datetime) -> dict[str, Evidence]:
    """``quality.metric`` -> evidence of ``reports`` together; no evidence where none of them judged anything."""
    rows = sum(report.rows for report in reports if report.judged)
    judged = sum(report.judged for report in reports)
    if judged == 0:
        return {}
    # Nothing holds for no rows, though only one thing is told about them.
    broken = sum(min(len(report.broken), report.judged) if report.rows else report.judged for report in reports)
    values = {
        "success_share": 1 - broken / judged,
        "broken": float(sum(len(report.critical) for report in reports)),
        "warnings": float(sum(len(report.warnings) for report in reports)),
    }
    return {
        f"quality.{metric}": Evidence(
            source="quality", metric=metric, value=value, samples=rows, since=since, until=until
        )
        for metric, value in values.items()
    }
