"""Data quality judged by Great Expectations.

A manifest names expectations as people know them from Great Expectations, in snake case and without ``expect_``:
``column_values_to_be_between``. They are judged in memory; nothing is stored and nothing is reported to the vendor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.quality import BrokenExpectation, QualityReport

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.datasource.fluent.interfaces import Batch

    from airflow_provider_mlpipex.domain.manifest import Expectation

#: Offending values shown for one broken expectation, and the longest text shown for one of them.
SAMPLE_SIZE, SAMPLE_LENGTH = 5, 60
#: Great Expectations keeps one data context a process.
_CONTEXT = threading.Lock()


class GxValidator:
    """:class:`~airflow_provider_mlpipex.ports.DataValidator` on Great Expectations 1.x and pandas."""

    def validate(self, frame: pd.DataFrame, expectations: Sequence[Expectation], *, subject: str) -> QualityReport:
        """Judge ``frame``.

        Fails closed: an empty table, a missing column, a column of another type and a column without any value are
        broken expectations, though most expectations hold for no values at all.

        :param subject: the table in the user's words, for messages.
        :raises ManifestInvalid: an expectation that does not exist, or arguments that it does not take.
        """
        judges = [(expectation, _judge(expectation)) for expectation in expectations]
        if frame.empty:
            empty = BrokenExpectation(
                expectation="table_to_have_rows", column=None, expected="rows", observed="no rows"
            )
            return QualityReport(subject=subject, rows=0, judged=len(judges), broken=(empty,))
        with _CONTEXT:
            batch = _batch(frame)
            found = [_broken(expectation, batch.validate(judge)) for expectation, judge in judges]
        return QualityReport(
            subject=subject, rows=len(frame), judged=len(judges), broken=tuple(broken for broken in found if broken)
        )


def _judge(expectation: Expectation) -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations.expectations as vendor

    name = "Expect" + "".join(part.capitalize() for part in expectation.expect.split("_"))
    thing = f"expectation {expectation.expect}" + (f" on column {expectation.column}" if expectation.column else "")
    kind = getattr(vendor, name, None)
    if kind is None:
        raise ManifestInvalid(
            thing,
            value=name,
            limit="an expectation of Great Expectations in snake case, without 'expect_'",
            remedy="see https://greatexpectations.io/expectations, for example column_values_to_not_be_null",
        )
    column = {} if expectation.column is None else {"column": expectation.column}
    try:
        return kind(**column, **expectation.arguments)
    except (ValueError, TypeError) as error:
        raise ManifestInvalid(
            f"{thing}, arguments",
            value=dict(expectation.arguments),
            limit="; ".join(str(error).split("\n")[1:]) or str(error),
            remedy=f"see the arguments of {name} in Great Expectations",
        ) from error


def _batch(frame: pd.DataFrame) -> Batch:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("table")
    return asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": frame})


def _broken(expectation: Expectation, verdict: ExpectationValidationResult) -> BrokenExpectation | None:
    result = verdict.result or {}
    rows = result.get("element_count", 0)
    nothing_judged = rows > 0 and result.get("missing_count") == rows
    if verdict.success and not nothing_judged:
        return None
    offending = dict.fromkeys(str(value)[:SAMPLE_LENGTH] for value in result.get("partial_unexpected_list", ()))
    return BrokenExpectation(
        expectation=expectation.expect,
        column=expectation.column,
        expected=", ".join(f"{name}={value!r}" for name, value in expectation.arguments.items()) or "to hold",
        observed="every value is missing" if nothing_judged else _observed(result, verdict.exception_info or {}),
        sample=tuple(offending)[:SAMPLE_SIZE],
    )


def _observed(result: Mapping[str, Any], raised: Mapping[str, Any]) -> str:
    # One flat record, or one record a metric: Great Expectations gives either.
    records = [record for record in (raised, *raised.values()) if isinstance(record, Mapping)]
    messages = [str(record["exception_message"]) for record in records if record.get("exception_message")]
    if messages:
        return f"could not be judged: {messages[0].removeprefix('Error: ')}"
    if "unexpected_count" in result:
        missing = f", {result['missing_count']} missing" if result.get("missing_count") else ""
        return f"{result['unexpected_count']} of {result['element_count']} values break it{missing}"
    return str(result.get("observed_value", "does not hold"))
