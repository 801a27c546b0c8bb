"""Great Expectations on pandas tables: what it finds, what it must not let pass, what nobody may break it with."""

from __future__ import annotations

import os
import sys
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, ManifestInvalid
from airflow_provider_mlpipex.domain.quality.expectations import Expectation
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation, QualityReport, explain
from airflow_provider_mlpipex.ports import DataValidator
from tests.support.expectations import expectation

DISTANCE = expectation("column_values_to_be_between", "distance", min_value=0, max_value=5000)
CARRIER = expectation("column_values_to_be_in_set", "carrier", value_set=["AA", "B6"])
MANY = 200_000


def flights(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "flight_id": ["f0", "f1", "f2", "f3"],
            "distance": [100.0, 200.0, 300.0, 400.0],
            "carrier": ["AA", "B6", "AA", "B6"],
            **columns,
        }
    )


def judge(frame: pd.DataFrame, *expectations: Expectation, key: tuple[str, ...] = ()) -> QualityReport:
    return GxValidator().validate(frame, expectations, subject="dataset flights", key=key)


def broken(frame: pd.DataFrame, *expectations: Expectation, key: tuple[str, ...] = ()) -> BrokenExpectation:
    report = judge(frame, *expectations, key=key)
    assert not report.passed
    assert len(report.broken) == 1, explain(report)
    return report.broken[0]


def test_a_good_table_passes() -> None:
    assert isinstance(GxValidator(), DataValidator)
    report = judge(flights(), DISTANCE, CARRIER, expectation("table_row_count_to_be_between", min_value=4))
    assert report == QualityReport(subject="dataset flights", rows=4, judged=3)
    assert report.passed


def test_no_expectation_is_not_a_success() -> None:
    report = judge(flights())
    assert (report.passed, report.broken, report.rows) == (False, (), 4)


def test_says_what_was_expected_and_shows_offending_values_and_rows() -> None:
    table = flights(distance=[-5.0, 200.0, np.inf, -5.0])
    assert broken(table, DISTANCE, CARRIER, key=("flight_id",)) == BrokenExpectation(
        expectation="column_values_to_be_between",
        column="distance",
        expected="min_value=0, max_value=5000",
        observed="3 of 4 values break it",
        sample=("-5.0", "inf"),
        keys=("flight_id=f0", "flight_id=f2", "flight_id=f3"),
    )


def test_a_row_is_named_by_every_column_of_its_key_or_by_its_number() -> None:
    table = flights(distance=[100.0, -1.0, 300.0, 400.0]).set_index("distance", drop=False)
    assert broken(table, DISTANCE, key=("carrier", "flight_id")).keys == ("carrier=B6, flight_id=f1",)
    assert broken(table, DISTANCE).keys == ("row 1",)
    # A key need not be one: then it names all rows that share it.
    assert broken(flights(distance=[-1.0] * 4), DISTANCE, key=("carrier",)).keys == ("carrier=AA", "carrier=B6")


def test_a_row_condition_does_not_shift_the_rows_that_are_named() -> None:
    table = flights(distance=[-1.0, 200.0, 300.0, -4.0])
    of_b6 = expectation(
        "column_values_to_be_between", "distance", min_value=0, row_condition='carrier=="B6"', condition_parser="pandas"
    )
    found = broken(table, of_b6, key=("flight_id",))
    assert (found.sample, found.keys, found.observed) == (("-4.0",), ("flight_id=f3",), "1 of 2 values break it")


def test_several_columns_are_named_together() -> None:
    equal = expectation("column_pair_values_to_be_equal", column_A="distance", column_B="planned")
    found = broken(flights(planned=[100.0, 200.0, 301.0, 400.0]), equal, key=("flight_id",))
    assert (found.column, found.sample, found.keys) == ("distance, planned", ("[300.0, 301.0]",), ("flight_id=f2",))
    unique = expectation("compound_columns_to_be_unique", column_list=["carrier", "distance"])
    found = broken(flights(distance=[1.0, 2.0, 1.0, 3.0]), unique, key=("flight_id",))
    assert (found.observed, found.keys) == ("2 of 4 values break it", ("flight_id=f0", "flight_id=f2"))


def test_only_a_few_offenders_are_shown_and_none_at_length() -> None:
    table = pd.DataFrame({"carrier": ["x" * 1000 + str(number) for number in range(50)], "id": range(50)})
    found = broken(table, CARRIER, key=("id",))
    assert (found.observed, len(found.sample), len(found.keys)) == ("50 of 50 values break it", 1, 5)
    assert max(map(len, found.sample)) < 70


def test_severity_decides_what_stops() -> None:
    warning = expectation("column_values_to_not_be_null", "distance", severity="warning")
    report = judge(flights(distance=[np.nan, 200.0, 300.0, 400.0]), warning, CARRIER)
    assert report.passed
    assert [(one.severity, one.expected) for one in report.warnings] == [("warning", "to hold")]


def test_the_same_expectation_may_stand_there_twice() -> None:
    report = judge(flights(distance=[-1.0, 2.0, 3.0, 4.0]), DISTANCE, CARRIER, DISTANCE)
    assert [one.column for one in report.broken] == ["distance", "distance"]


def test_mostly_is_obeyed() -> None:
    mostly = expectation("column_values_to_be_between", "distance", min_value=150, mostly=0.75)
    assert judge(flights(), mostly).passed
    assert not judge(flights(distance=[0.0, 0.0, 300.0, 400.0]), mostly).passed


def test_statistics_and_sets_show_what_was_observed() -> None:
    mean = expectation("column_mean_to_be_between", "distance", max_value=100)
    assert broken(flights(), mean).observed == "250.0"
    ranges = {"quantiles": [0.5], "value_ranges": [[0, 1]]}
    quantiles = expectation("column_quantile_values_to_be_between", "distance", quantile_ranges=ranges)
    # NumPy's bool, which this one answers with, is no JSON.
    assert judge(flights(), quantiles).to_json()["broken"][0]["column"] == "distance"
    distinct = expectation("column_distinct_values_to_equal_set", "carrier", value_set=["AA", "ZZ"])
    assert broken(flights(), distinct).observed == "1 values not in it, 1 of its values missing"


# Bad input: a clear verdict, never a crash, never a silent pass.


def test_an_empty_table_is_broken() -> None:
    found = broken(flights().head(0), DISTANCE, CARRIER)
    assert (found.expectation, found.observed) == ("table_to_have_rows", "no rows")


def test_missing_values_break_only_what_forbids_them() -> None:
    with_nan = flights(distance=[np.nan, 200.0, 300.0, 400.0], carrier=["AA", None, "AA", "B6"])
    assert judge(with_nan, DISTANCE, CARRIER).passed
    found = broken(with_nan, expectation("column_values_to_not_be_null", "carrier"), key=("flight_id",))
    assert (found.column, found.observed, found.keys) == ("carrier", "1 of 4 values break it", ("flight_id=f1",))


MEANS_NOTHING_WITHOUT_VALUES = [
    DISTANCE,
    expectation("column_values_to_be_unique", "distance"),
    expectation("column_values_to_not_be_in_set", "distance", value_set=[1]),
    expectation("column_distinct_values_to_be_in_set", "distance", value_set=[1]),
    expectation("column_sum_to_be_between", "distance", min_value=0),
    expectation("column_value_z_scores_to_be_less_than", "distance", threshold=3, double_sided=True),
    expectation("column_mean_to_be_between", "distance", min_value=0),
    expectation("select_column_values_to_be_unique_within_record", column_list=["distance", "carrier"]),
    expectation("column_pair_values_to_be_equal", column_A="distance", column_B="distance", ignore_row_if="neither"),
]


@pytest.mark.parametrize("nothing", [np.nan, None, pd.NA, pd.NaT], ids=["NaN", "None", "NA", "NaT"])
@pytest.mark.parametrize("one", MEANS_NOTHING_WITHOUT_VALUES, ids=lambda one: one.expect)
def test_a_column_without_any_value_is_broken(one: Expectation, nothing: Any) -> None:
    assert broken(flights(distance=[nothing] * 4), one).column is not None


def test_what_speaks_of_missing_values_may_find_nothing_else() -> None:
    nothing = flights(distance=[np.nan] * 4)
    assert judge(nothing, expectation("column_values_to_be_null", "distance")).passed
    assert judge(nothing, expectation("column_to_exist", "distance")).passed
    assert not judge(nothing, expectation("column_values_to_not_be_null", "distance", mostly=0.1)).passed


def test_a_condition_that_no_row_meets_is_no_success() -> None:
    of_nobody = {"row_condition": 'carrier=="ZZ"', "condition_parser": "pandas"}
    for name in ("column_values_to_be_between", "column_sum_to_be_between"):
        found = broken(flights(), expectation(name, "distance", min_value=0, **of_nobody))
        assert found.observed == "no row meets the row_condition"
    assert not judge(flights(), expectation("column_values_to_be_null", "distance", **of_nobody)).passed
    # To ask that there be no such row is another matter.
    assert judge(flights(), expectation("table_row_count_to_be_between", max_value=0, **of_nobody)).passed


def test_a_condition_that_cannot_be_read_is_broken() -> None:
    odd = expectation(
        "column_values_to_be_between", "distance", min_value=0, row_condition="no such", condition_parser="pandas"
    )
    assert broken(flights(), odd).observed.startswith("could not be judged: ")


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
@pytest.mark.parametrize(
    "one",
    [
        expectation("column_mean_to_be_between", "distance", min_value=-10),
        expectation("column_mean_to_be_between", "distance", max_value=1000),
        expectation("column_sum_to_be_between", "distance", min_value=0),
        expectation("column_stdev_to_be_between", "distance", min_value=0),
        expectation("column_value_z_scores_to_be_less_than", "distance", threshold=3, double_sided=True),
        expectation("column_values_to_not_be_outliers", "distance"),
        DISTANCE,
    ],
    ids=lambda one: getattr(one, "expect", None),
)
def test_infinities_are_no_statistics(one: Expectation, infinite: float) -> None:
    assert broken(flights(distance=[1.0, 2.0, infinite, 3.0]), one).column == "distance"


@pytest.mark.parametrize("name", ["column_value_z_scores_to_be_less_than", "column_values_to_not_be_outliers"])
def test_equal_values_have_no_spread_to_be_judged_by(name: str) -> None:
    arguments = {"threshold": 3, "double_sided": True} if "z_scores" in name else {}
    found = broken(flights(distance=[7.0] * 4), expectation(name, "distance", **arguments))
    assert found.observed == "every value is 7.0, so that there is no spread"
    assert judge(flights(distance=[7.0] * 4), DISTANCE).passed


def test_a_new_category_is_named() -> None:
    found = broken(flights(carrier=["AA", "B6", "ZZ", "AA"]), CARRIER, key=("flight_id",))
    assert (found.sample, found.keys) == (("ZZ",), ("flight_id=f2",))


RETYPED = [
    (["100", "200", "300", "400"], DISTANCE),
    ([1, "b", 2.0, None], DISTANCE),
    (pd.date_range("2026-01-01", periods=4, tz="UTC"), DISTANCE),
    ([[1], [2], [3], [4]], DISTANCE),
    (["100", "200", "300", "400"], expectation("column_values_to_not_be_in_set", "distance", value_set=[100])),
    ([100, 200, 300, 400], expectation("column_values_to_not_be_in_set", "distance", value_set=["100"])),
    (["1", "2", "3", "4"], expectation("column_mean_to_be_between", "distance", min_value=0)),
    ([1, 2, 3, 4], expectation("column_values_to_be_in_type_list", "distance", type_list=["float64"])),
]


@pytest.mark.parametrize(("values", "one"), RETYPED, ids=lambda value: getattr(value, "expect", type(value).__name__))
def test_a_retyped_column_is_broken(values: Any, one: Expectation) -> None:
    assert broken(flights(distance=values), one).column == "distance"


def test_a_missing_column_is_broken() -> None:
    assert '"distance"' in broken(flights().drop(columns="distance"), DISTANCE).observed


def test_two_columns_of_one_name_are_broken() -> None:
    twice = pd.concat([flights(), flights()[["distance"]]], axis=1)
    found = broken(twice, DISTANCE, CARRIER)
    assert (found.column, found.observed) == ("distance", "more than once")


@pytest.mark.parametrize(
    "carrier",
    [
        pd.Categorical(["AA", "B6", None, "ZZ"]),
        pd.array(["AA", "B6", None, "ZZ"], dtype="string"),
        pd.array(["AA", "B6", None, "ZZ"], dtype="string[pyarrow]"),
    ],
    ids=["category", "string", "arrow"],
)
def test_texts_are_judged_however_pandas_keeps_them(carrier: Any) -> None:
    assert broken(flights(carrier=carrier), CARRIER, key=("flight_id",)).keys == ("flight_id=f3",)


@pytest.mark.parametrize("kind", ["Int64", "Float64", "int64[pyarrow]", "category"])
def test_numbers_are_judged_however_pandas_keeps_them(kind: str) -> None:
    distance = pd.Series([100, 200, None, -1]).astype("Int64").astype(kind)
    assert broken(flights(distance=distance), DISTANCE, key=("flight_id",)).keys == ("flight_id=f3",)
    highest = expectation("column_max_to_be_between", "distance", max_value=150)
    assert broken(flights(distance=distance), highest).observed.removesuffix(".0") == "200"


def test_booleans_with_gaps_are_judged() -> None:
    flags = flights(late=pd.array([True, False, None, True], dtype="boolean"))
    assert judge(flags, expectation("column_values_to_be_in_set", "late", value_set=[True, False])).passed
    assert not judge(flags, expectation("column_values_to_not_be_null", "late")).passed


def test_a_column_of_very_many_categories_is_told_briefly() -> None:
    many = pd.DataFrame({"carrier": np.arange(MANY).astype(str), "flight_id": np.arange(MANY)})
    report = judge(
        many,
        CARRIER,
        expectation("column_distinct_values_to_be_in_set", "carrier", value_set=["1"]),
        expectation("column_most_common_value_to_be_in_set", "carrier", value_set=["none of them"]),
        key=("flight_id",),
    )
    assert len(report.broken) == 3
    assert f"{MANY} of {MANY} values break it" in explain(report)
    assert len(explain(report)) < 2000


def test_a_table_is_not_changed_by_being_judged() -> None:
    table = flights(carrier=pd.Categorical(["AA", "B6", "AA", "B6"])).set_index("flight_id", drop=False)
    before = table.copy(deep=True)
    judge(table, DISTANCE, CARRIER, key=("flight_id",))
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (
            expectation("column_values_to_be_in_set", "carrier", value_set=["a"], condition_parser="sql"),
            "condition_parser",
        ),
        (expectation("column_values_to_not_be_outliers", "distance", multiplier="large"), "multiplier"),
    ],
)
def test_arguments_that_only_great_expectations_knows_are_refused_before_anything_is_judged(
    wrong: Expectation, named: str
) -> None:
    with pytest.raises(ManifestInvalid, match=named):
        judge(flights().head(0), DISTANCE, wrong)


def test_where_great_expectations_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "great_expectations.expectations", None)
    with pytest.raises(ConfigurationInvalid, match=r"airflow-provider-mlpipex\[gx\]"):
        judge(flights(), DISTANCE)


def test_usage_reporting_is_off() -> None:
    judge(flights(), DISTANCE)
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"


# Moments

MOMENTS = pd.Series(pd.to_datetime(["2026-03-01T00:00", "2026-03-02T12:00", "2026-03-03T00:00", None]))
FORMS = {
    "naive": MOMENTS,
    "zone": MOMENTS.dt.tz_localize("UTC").dt.tz_convert("Asia/Kathmandu"),
    "text": MOMENTS.dt.strftime("%Y-%m-%dT%H:%M:%S"),
    "text with a zone": MOMENTS.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "dates": pd.Series([date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3), None]),
}


@pytest.mark.parametrize("column", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    ("bounds", "offending"),
    [
        ({"min_value": "2026-03-01", "max_value": "2026-03-03"}, 0),
        ({"min_value": "2026-03-01T01:00:00+01:00"}, 0),
        ({"min_value": "2026-03-02"}, 1),
        ({"max_value": "2026-03-02T23:59:59"}, 1),
        ({"min_value": "2026-03-04"}, 3),
    ],
)
def test_moments_hold_in_whichever_form_they_come(column: pd.Series, bounds: dict[str, str], offending: int) -> None:
    asked = expectation("column_values_to_be_between", "at", **bounds)
    report = judge(pd.DataFrame({"at": column}), asked)
    assert report.passed == (offending == 0), explain(report)
    if offending:
        assert f"{offending} of 4 values break it" in report.broken[0].observed
        assert all(repr(bound) in report.broken[0].expected for bound in bounds.values())


def test_the_latest_moment_is_bounded_too() -> None:
    asked = expectation("column_max_to_be_between", "at", min_value="2026-03-03", max_value="2026-03-03T00:00:00Z")
    assert all(judge(pd.DataFrame({"at": column}), asked).passed for column in FORMS.values())


@pytest.mark.parametrize("values", [["2026-03-01", "soon"], [1.0, 2.0]])
def test_what_is_no_moment_cannot_be_bounded_by_one(values: list[Any]) -> None:
    asked = expectation("column_values_to_be_between", "at", min_value="2026-01-01")
    assert not judge(pd.DataFrame({"at": values}), asked).passed
