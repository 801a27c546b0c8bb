"""Expectations of a manifest as one Great Expectations suite, and its verdicts back in our words.

Great Expectations lets a table pass where it found nothing to judge. A suite therefore carries precautions beside the
expectations: how many values, and how many rows that meet a ``row_condition``, there were at all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.great_expectations.results import plain
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed, ManifestInvalid
from airflow_provider_mlpipex.domain.quality.catalogue import ABOUT_MISSING
from airflow_provider_mlpipex.domain.quality.expectations import Expectation
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation
from airflow_provider_mlpipex.services.training.code_failure import describe_failure

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.datasource.fluent.interfaces import Batch

#: Offending values, and keys of their rows, shown for one broken expectation; the longest text shown for one of them.
SAMPLE_SIZE, SAMPLE_LENGTH = 5, 60
_OBSERVED_LENGTH = 300
_FILTER = ("row_condition", "condition_parser")
#: Arguments that decide nothing.
_WORDS = ("notes", "description")
#: Names a row of a table without key, by its number from 0.
ROW = "row"


class Suite:
    """The vendor's side of ``expectations``.

    :param in_utc: bounds that are moments are compared with moments in UTC, as :func:`frames.plain_frame` makes them;
        a database compares them as they are written.
    :raises ManifestInvalid: one that the installed version does not know, or arguments that it does not take.
    """

    def __init__(self, expectations: Sequence[Expectation], *, in_utc: bool = False) -> None:
        self._expectations = tuple(expectations)
        self._judges = [_judge(expectation, mark=at, in_utc=in_utc) for at, expectation in enumerate(expectations)]

    def run(self, batch: Batch, *, key: Sequence[str] = ()) -> tuple[ExpectationSuiteValidationResult, int]:
        """Judge ``batch``; return what was found, in the order of the manifest, and the number of rows.

        :param key: columns by which the database names offending rows.
        :raises DataQualityFailed: Great Expectations itself gave up.
        """
        import great_expectations as gx

        shown: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": 4 * SAMPLE_SIZE}
        if key:
            shown["unexpected_index_column_names"] = list(key)
        guards = {name: guard for expectation in self._expectations for name, guard in _guards(expectation)}
        suite = gx.ExpectationSuite("mlpipex", expectations=[*self._judges, _row_count(), *guards.values()])
        try:
            report = batch.validate(suite, result_format=shown)
        except Exception as error:  # noqa: BLE001 - whatever Great Expectations and a database driver raise
            # Nothing of it is chained, and its text is not told: both may quote rows and parameters.
            raise DataQualityFailed(
                "Great Expectations",
                value=describe_failure(error, code="Great Expectations"),
                limit="a table that it can judge",
                remedy="are all columns of plain types, and does the database answer? its lines are in the log",
            ) from None
        marked = {_mark(result): result for result in report.results}
        report.results = [marked[at] for at in range(len(self._judges))]
        for result in report.results:
            # One of its expectations answers with NumPy's bool, which its own JSON writer refuses.
            result.success = bool(result.success)
        for at, why in self._passed_unjudged(report, marked).items():
            overrule(report, at, why)
        return report, int(marked["rows"].result["observed_value"])

    def _passed_unjudged(
        self, report: ExpectationSuiteValidationResult, marked: Mapping[int | str, ExpectationValidationResult]
    ) -> dict[int, str]:
        """Index of an expectation -> why its success is none."""
        unjudged = {}
        for at, (expectation, result) in enumerate(zip(self._expectations, report.results, strict=True)):
            observed = (result.result or {}).get("observed_value")
            whys = [_nothing_there(expectation, marked[name].result or {}) for name in _guard_names(expectation)]
            if not _finite(observed):
                whys.append(str(plain(observed)))
            if result.success and any(whys):
                unjudged[at] = next(filter(None, whys))
        return unjudged

    def broken(
        self, report: ExpectationSuiteValidationResult, *, key: Sequence[str] = ()
    ) -> Iterator[BrokenExpectation]:
        """What did not hold, in our words. Rows are named by ``key``, or by their number."""
        for expectation, result in zip(self._expectations, report.results, strict=True):
            if not result.success:
                yield _broken(expectation, result, key)


def require_great_expectations() -> None:
    """Import it, with its usage reporting off; its first import takes seconds.

    :raises ConfigurationInvalid: it is not installed here.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    try:
        import great_expectations.expectations  # noqa: F401 - registers what there is
    except ImportError as error:
        raise ConfigurationInvalid(
            "Great Expectations",
            value=str(error),
            limit="installed wherever tables are judged: workers, and triggerers where predictions are",
            remedy="pip install 'airflow-provider-mlpipex[gx]'",
        ) from error


def overrule(report: ExpectationSuiteValidationResult, at: int, why: str) -> None:
    """The expectation at ``at`` passed, but must not: ``why`` is what is told as observed."""
    result = report.results[at]
    if result.success:
        report.success = result.success = False
        result.result = {"observed_value": why}


def count_successes(report: ExpectationSuiteValidationResult) -> None:
    """Make the statistics fit the results."""
    total, held = len(report.results), sum(bool(result.success) for result in report.results)
    report.statistics = {
        "evaluated_expectations": total,
        "successful_expectations": held,
        "unsuccessful_expectations": total - held,
        "success_percent": 100.0 * held / total,
    }
    report.success = held == total


def _judge(expectation: Expectation, *, mark: int, in_utc: bool) -> Any:
    require_great_expectations()
    from great_expectations.exceptions.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.registry import get_expectation_impl

    thing = f"expectation {expectation.expect}" + (f" on column {expectation.column}" if expectation.column else "")
    remedy = "see https://greatexpectations.io/expectations, or mlpipex quality expectations"
    try:
        kind = get_expectation_impl(f"expect_{expectation.expect}")
    except ExpectationNotFoundError:
        limit = "an expectation of the installed Great Expectations"
        raise ManifestInvalid(thing, value=expectation.expect, limit=limit, remedy=remedy) from None
    moments = {name: moment.isoformat() for name, moment in expectation.moments.items()} if in_utc else {}
    arguments: dict[str, Any] = {**expectation.arguments, **moments, "meta": {"mlpipex": mark}}
    if expectation.column is not None:
        arguments["column"] = expectation.column
    try:
        return kind(**arguments)
    except (ValueError, TypeError) as error:
        raise ManifestInvalid(
            f"{thing}, arguments",
            value=dict(expectation.arguments),
            limit="; ".join(line.strip() for line in str(error).split("\n")[1:]) or str(error),
            remedy=remedy,
        ) from error


def _row_count() -> Any:
    from great_expectations.expectations.core.expect_table_row_count_to_be_between import (
        ExpectTableRowCountToBeBetween,
    )

    return ExpectTableRowCountToBeBetween(min_value=1, meta={"mlpipex": "rows"})


def _conditions(expectation: Expectation) -> dict[str, Any]:
    return {name: expectation.arguments[name] for name in _FILTER if name in expectation.arguments}


def _guard_names(expectation: Expectation) -> list[str]:
    """One name for each column that must hold something for ``expectation`` to mean anything."""
    conditions = _conditions(expectation)
    needless = expectation.expect in ABOUT_MISSING and not conditions
    return [] if needless else [f"values of {column} where {conditions}" for column in expectation.columns]


def _guards(expectation: Expectation) -> Iterator[tuple[str, Any]]:
    """Name -> a precaution: it counts the rows that are judged at all, and those without a value. It need not hold."""
    from great_expectations.expectations.core.expect_column_values_to_not_be_null import ExpectColumnValuesToNotBeNull

    for name, column in zip(_guard_names(expectation), expectation.columns, strict=False):
        guard = ExpectColumnValuesToNotBeNull(column=column, **_conditions(expectation), meta={"mlpipex": name})
        yield name, guard


def _nothing_there(expectation: Expectation, counted: Mapping[str, Any]) -> str:
    rows = counted.get("element_count")
    if rows is None:
        return "its values could not be counted"
    if rows == 0:
        return "no row meets the row_condition"
    missing = expectation.expect not in ABOUT_MISSING and counted.get("unexpected_count") == rows
    return "every value is missing" if missing else ""


def _finite(observed: Any) -> bool:
    if isinstance(observed, Mapping):
        return all(map(_finite, observed.values()))
    if isinstance(observed, (list, tuple)):
        return all(map(_finite, observed))
    return not isinstance(observed, float) or math.isfinite(observed)


def _mark(result: ExpectationValidationResult) -> int | str:
    config = result.expectation_config
    assert config is not None and config.meta is not None  # every expectation of the suite was marked
    mark: int | str = config.meta["mlpipex"]
    return mark


def _broken(expectation: Expectation, outcome: ExpectationValidationResult, key: Sequence[str]) -> BrokenExpectation:
    result = plain(outcome.result or {})
    offending = dict.fromkeys(_cut(value) for value in result.get("partial_unexpected_list") or ())
    rows = [row for row in result.get("partial_unexpected_index_list") or () if isinstance(row, Mapping)]
    arguments = {name: value for name, value in expectation.arguments.items() if name not in ("severity", *_WORDS)}
    return BrokenExpectation(
        expectation=expectation.expect,
        column=", ".join(expectation.columns) or None,
        expected=_cut(", ".join(f"{name}={value!r}" for name, value in arguments.items()), _OBSERVED_LENGTH)
        or "to hold",
        observed=_cut(_observed(result, outcome.exception_info or {}), _OBSERVED_LENGTH),
        sample=tuple(offending)[:SAMPLE_SIZE],
        keys=tuple(dict.fromkeys(_row_name(row, key) for row in rows))[:SAMPLE_SIZE],
        severity=expectation.severity,
    )


def _row_name(row: Mapping[str, Any], key: Sequence[str]) -> str:
    return ", ".join(f"{column}={_cut(row.get(column))}" for column in key) or f"row {row[ROW]}"


def _cut(value: Any, longest: int = SAMPLE_LENGTH) -> str:
    text = str(value)
    return text if len(text) <= longest else f"{text[:longest]}…"


def _observed(result: Mapping[str, Any], raised: Mapping[str, Any]) -> str:
    # One flat record, or one record a metric: Great Expectations gives either.
    records = [record for record in (raised, *raised.values()) if isinstance(record, Mapping)]
    messages = [str(record["exception_message"]) for record in records if record.get("exception_message")]
    if messages:
        return f"could not be judged: {messages[0].removeprefix('Error: ')}"
    if result.get("unexpected_count") is not None and "element_count" in result:
        missing = f", {result['missing_count']} missing" if result.get("missing_count") else ""
        return f"{result['unexpected_count']} of {result['element_count']} values break it{missing}"
    if result.get("observed_value") is not None:
        return str(result["observed_value"])
    counts = {"values not in it": result.get("unexpected_count"), "of its values missing": result.get("missing_count")}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "does not hold"
