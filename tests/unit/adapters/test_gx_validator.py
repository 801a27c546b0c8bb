from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.gx_validator import GxValidator
from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.manifest import Expectation
from airflow_provider_mlpipex.domain.quality import BrokenExpectation, QualityReport
from airflow_provider_mlpipex.ports import DataValidator


def expectation(expect: str, column: str | None = None, **arguments: Any) -> Expectation:
    return Expectation(expect=expect, column=column, arguments=arguments)


DISTANCE = expectation("column_values_to_be_between", "distance", min_value=0, max_value=5000)
CARRIER = expectation("column_values_to_be_in_set", "carrier", value_set=["AA", "B6"])


def flights(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"distance": [100.0, 200.0, 300.0, 400.0], "carrier": ["AA", "B6", "AA", "B6"], **columns})


def judge(frame: pd.DataFrame, *expectations: Expectation) -> QualityReport:
    return GxValidator().validate(frame, expectations, subject="dataset flights")


def broken(frame: pd.DataFrame, *expectations: Expectation) -> BrokenExpectation:
    report = judge(frame, *expectations)
    assert not report.passed
    assert len(report.broken) == 1
    return report.broken[0]


def test_a_good_table_passes() -> None:
    assert isinstance(GxValidator(), DataValidator)
    report = judge(flights(), DISTANCE, CARRIER, expectation("table_row_count_to_be_between", min_value=4))
    assert report == QualityReport(subject="dataset flights", rows=4, judged=3)
    assert report.passed


def test_no_expectation_is_not_a_success() -> None:
    assert not judge(flights()).passed


def test_says_what_was_expected_and_shows_offending_values() -> None:
    found = broken(flights(distance=[-5.0, 200.0, np.inf, -5.0]), DISTANCE, CARRIER)
    assert found == BrokenExpectation(
        expectation="column_values_to_be_between",
        column="distance",
        expected="min_value=0, max_value=5000",
        observed="3 of 4 values break it",
        sample=("-5.0", "inf"),
    )


def test_missing_values_break_only_what_forbids_them() -> None:
    with_nan = flights(distance=[np.nan, 200.0, 300.0, 400.0], carrier=["AA", None, "AA", "B6"])
    assert judge(with_nan, DISTANCE, CARRIER).passed
    found = broken(with_nan, expectation("column_values_to_not_be_null", "carrier"))
    assert (found.column, found.observed) == ("carrier", "1 of 4 values break it")


def test_a_column_without_any_value_is_broken() -> None:
    assert broken(flights(distance=[np.nan] * 4), DISTANCE).observed == "every value is missing"


def test_a_new_category_is_named() -> None:
    assert broken(flights(carrier=["AA", "B6", "ZZ", "AA"]), CARRIER).sample == ("ZZ",)


def test_a_retyped_column_is_broken() -> None:
    found = broken(flights(distance=["100", "200", "300", "400"]), DISTANCE)
    assert found.column == "distance"
    assert found.observed.startswith("could not be judged: ")


def test_a_missing_column_is_broken() -> None:
    assert '"distance"' in broken(flights().drop(columns="distance"), DISTANCE).observed


def test_an_empty_table_is_broken() -> None:
    found = broken(flights().head(0), DISTANCE, CARRIER)
    assert (found.expectation, found.observed) == ("table_to_have_rows", "no rows")


def test_aggregates_show_the_observed_value() -> None:
    mean = expectation("column_mean_to_be_between", "distance", max_value=100)
    assert broken(flights(), mean).observed == "250.0"


def test_quantiles_can_be_reported_as_json() -> None:
    ranges = {"quantiles": [0.5], "value_ranges": [[0, 1]]}
    quantiles = expectation("column_quantile_values_to_be_between", "distance", quantile_ranges=ranges)
    assert judge(flights(), quantiles).to_json()["broken"][0]["column"] == "distance"


def test_mostly_is_obeyed() -> None:
    mostly = expectation("column_values_to_be_between", "distance", min_value=150, mostly=0.75)
    assert judge(flights(), mostly).passed
    assert not judge(flights(distance=[0.0, 0.0, 300.0, 400.0]), mostly).passed


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (expectation("column_values_to_be_nice", "distance"), "column_values_to_be_nice"),
        (expectation("column_values_to_be_between", "distance", minimum=0), "minimum"),
        (expectation("column_values_to_be_between", min_value=0), "column"),
        (expectation("column_values_to_be_in_set", "carrier", value_set=3), "value_set"),
    ],
    ids=["unknown", "argument", "no-column", "type"],
)
def test_a_wrong_expectation_is_refused_before_any_is_judged(wrong: Expectation, named: str) -> None:
    with pytest.raises(ManifestInvalid, match=named):
        judge(flights().head(0), wrong)


def test_usage_reporting_is_off() -> None:
    judge(flights(), DISTANCE)
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
