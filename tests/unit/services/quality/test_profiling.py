"""Proposed quality blocks, judged by Great Expectations on the table that they were proposed from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.domain.fields.yaml_text import read_yaml
from airflow_provider_mlpipex.domain.quality.expectations import Expectation, QualitySpec
from airflow_provider_mlpipex.domain.quality.report import explain
from airflow_provider_mlpipex.services.quality.profiling import propose
from tests.support.manifests import make_manifest

ROWS = 400


def block(table: pd.DataFrame, **options: Any) -> QualitySpec:
    document = read_yaml(propose(table, subject="payments", **options))
    assert document.problems == ()
    return QualitySpec.model_validate(document.data["quality"])


def asked(table: pd.DataFrame, name: str, **options: Any) -> list[Expectation]:
    return [one for one in block(table, **options).snapshot if one.expect == name]


def arguments(table: pd.DataFrame, name: str) -> dict[str, Any]:
    (one,) = asked(table, name)
    return one.arguments


def x(values: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": values})


def broken_by(table: pd.DataFrame, proposed_from: pd.DataFrame) -> str:
    spec = block(proposed_from)
    return explain(GxValidator().validate(table, spec.snapshot, subject="payments"))


def test_everything_is_proposed_once_for_an_ordinary_table() -> None:
    random = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "id": [f"p{number}" for number in range(ROWS)],
            "amount": random.normal(100, 10, ROWS).round(2),
            "items": random.integers(1, 40, ROWS),
            "country": random.choice(["NL", "BE", "no"], ROWS),
            "paid": random.random(ROWS) < 0.5,
            "discount": np.where(np.arange(ROWS) % 10 == 0, np.nan, 0.5),
            "at": pd.date_range("2026-01-01", periods=ROWS, freq="h", tz="UTC"),
        }
    )
    table.loc[0, "amount"], table.loc[1, "amount"], table.loc[2, "items"], table.loc[3, "items"] = 61.5, 139.0, 1, 39
    assert propose(table, subject="payments", key=["id"]) == (
        "# Proposed from payments: 400 rows, 7 columns.\n"
        "# Each line says what was observed. Tighten what you know, remove what need not hold, then keep it in"
        " review.\n"
        "quality:\n"
        "  key: [id]\n"
        "  snapshot:\n"
        "    - {expect: table_row_count_to_be_between, min_value: 200, max_value: 800} # 400 rows\n"
        "    - {expect: column_values_to_be_unique, column: id} # no repetition\n"
        "    - {expect: column_values_to_not_be_null, column: id} # none missing\n"
        "    - {expect: column_values_to_be_in_type_list, column: id, type_list: [str]} # object\n"
        "    # id: 400 distinct values, too many or too rare for a set\n"
        "    - {expect: column_values_to_not_be_null, column: amount} # none missing\n"
        "    - {expect: column_values_to_be_in_type_list, column: amount, type_list: [float64, float32]} # float64\n"
        "    - {expect: column_values_to_be_between, column: amount, min_value: 53, max_value: 150}"
        f" # 61.5 to 139, mean {table['amount'].mean():.6g}\n"
        "    - {expect: column_values_to_not_be_null, column: items} # none missing\n"
        "    - {expect: column_values_to_be_in_type_list, column: items, type_list: [int64, int32, float64]} # int64\n"
        "    - {expect: column_values_to_be_between, column: items, min_value: 0, max_value: 43}"
        f" # 1 to 39, mean {table['items'].mean():.6g}\n"
        "    - {expect: column_values_to_not_be_null, column: country} # none missing\n"
        "    - {expect: column_values_to_be_in_type_list, column: country, type_list: [str]} # object\n"
        '    - {expect: column_values_to_be_in_set, column: country, value_set: [BE, NL, "no"]} # 3 distinct values\n'
        "    - {expect: column_values_to_not_be_null, column: paid} # none missing\n"
        "    - {expect: column_values_to_be_in_set, column: paid, value_set: [false, true]} # 2 distinct values\n"
        "    - {expect: column_values_to_not_be_null, column: discount, mostly: 0.85} # 10% missing\n"
        "    - {expect: column_values_to_be_in_type_list, column: discount, type_list: [float64, float32]} # float64\n"
        "    - {expect: column_values_to_be_between, column: discount, min_value: 0.45, max_value: 0.55}"
        " # 0.5 to 0.5, mean 0.5\n"
        "    - {expect: column_values_to_not_be_null, column: at} # none missing\n"
        "    # at: 2026-01-01 00:00:00+00:00 to 2026-01-17 15:00:00+00:00"
    )


COLUMN = st.one_of(
    st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), min_size=1, max_size=30),
    st.lists(st.integers(-(2**62), 2**62) | st.integers(-3, 3), min_size=1, max_size=30),
    st.lists(st.none() | st.text(max_size=8), min_size=1, max_size=30),
    st.lists(
        st.none() | st.sampled_from(["1e5", "on", "null", "~", "2026-01-01", "0x1", "a: b", "# c"]), min_size=1
    ).map(lambda values: (values * 100)[:200]),
    st.lists(st.booleans() | st.none(), min_size=1, max_size=30),
    st.lists(st.none() | st.integers(0, 3) | st.text(max_size=2), min_size=1, max_size=30),
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=NAMES, values=COLUMN, category=st.booleans())
def test_a_table_passes_what_was_proposed_from_it(name: str, values: list[Any], category: bool) -> None:
    table = pd.DataFrame({name: pd.Series(values)})
    if category and table[name].map(type).nunique() == 1:
        table[name] = table[name].astype("category")
    spec = block(table)
    report = GxValidator().validate(table, spec.snapshot, subject="payments")
    assert report.broken == (), propose(table, subject="payments")
    assert propose(table, subject="payments") == propose(table.copy(), subject="payments")


@pytest.mark.parametrize(
    ("worse", "told"),
    [
        (x(np.arange(1.0, 1001.0) * 2), "column_values_to_be_between"),
        (x([float("inf"), *np.arange(2.0, 1001.0)]), "column_values_to_be_between"),
        (x([None, *np.arange(2.0, 1001.0)]), "column_values_to_not_be_null"),
        (x([str(value) for value in range(1000)]), "column_values_to_be_in_type_list"),
        (x(np.arange(1.0, 101.0)), "table_row_count_to_be_between"),
        (x([]), "table_to_have_rows"),
        (pd.DataFrame({"y": np.arange(1.0, 1001.0)}), '"x"'),
    ],
    ids=["range", "infinite", "missing", "retyped", "few-rows", "empty", "no-column"],
)
def test_a_table_that_went_bad_breaks_what_was_proposed_from_the_good_one(worse: pd.DataFrame, told: str) -> None:
    good = x(np.arange(1.0, 1001.0))
    assert broken_by(good, good) == ""
    assert told in broken_by(worse, good)


def test_a_new_category_breaks_a_proposed_set() -> None:
    good = x(["a", "b"] * 50)
    assert "for example c" in broken_by(x(["a", "b"] * 49 + ["c", "a"]), good)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([0.0, 10.0], 0, 11),
        ([-10.0, 0.0], -11, 0),
        ([-1.0, 1.0], -1.2, 1.2),
        ([1234.0, 5678.0], 780, 6200),
        ([7.0, 7.0], 6.3, 7.7),
        ([0.0, 0.0], 0, 0),
        ([0.001, 0.002], 0.0009, 0.0021),
        ([3, 14], 1, 16),
    ],
)
def test_ranges_have_room_and_keep_their_sign(values: list[float], low: float, high: float) -> None:
    assert arguments(x([values[0], *values * 3]), "column_values_to_be_between") == {
        "min_value": low,
        "max_value": high,
    }


@pytest.mark.parametrize(
    ("missing", "mostly"), [(0, None), (1, 0.98), (10, 0.85), (50, 0.25), (66, 0.01), (70, "none")]
)
def test_the_share_of_missing_values_has_room(missing: int, mostly: Any) -> None:
    table = x([None] * missing + [1.5] * (100 - missing))
    found = asked(table, "column_values_to_not_be_null")
    assert ([one.arguments.get("mostly") for one in found] or ["none"]) == [mostly]


def test_sets_are_small_and_often_seen() -> None:
    assert arguments(x(["b", "a"] * 5), "column_values_to_be_in_set")["value_set"] == ["a", "b"]
    assert asked(x(["a", "b"] * 4), "column_values_to_be_in_set") == []
    assert asked(x([f"c{number}" for number in range(21)] * 50), "column_values_to_be_in_set") == []
    # A set of months would refuse the next one; a flag is a flag.
    assert asked(x([1, 2, 3] * 50), "column_values_to_be_in_set") == []
    assert arguments(x([0, 1] * 50), "column_values_to_be_in_set")["value_set"] == [0, 1]


@pytest.mark.parametrize(
    ("table", "remark"),
    [
        (x([np.nan] * 9), "x: every value is missing"),
        (x([1.0, np.inf] * 9), "x: 9 infinite values"),
        (x([1e300, 2e300]), "too large to be bounded exactly"),
        (x([[1], [2]]), "x: values of mixed or nested types"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "x: 2 columns of this name"),
        (pd.DataFrame({"a\nb": [None]}), '"a\\U0000000ab": every value is missing'),
    ],
    ids=["missing", "infinite", "large", "nested", "twice", "name"],
)
def test_what_cannot_be_asked_is_said(table: pd.DataFrame, remark: str) -> None:
    comments = [line for line in propose(table, subject="t").splitlines() if line.lstrip().startswith("#")]
    assert any(remark in line for line in comments)


def test_a_key_that_does_not_name_rows_is_told() -> None:
    table = pd.DataFrame({"a": [1, 1, 2], "b": [1, 2, 1]})
    assert "not unique" in propose(table, subject="t", key=["a"])
    assert [one.arguments["column_list"] for one in asked(table, "compound_columns_to_be_unique", key=["a", "b"])] == [
        ["a", "b"]
    ]


def test_nothing_is_proposed_from_nothing() -> None:
    with pytest.raises(DataQualityFailed, match="no rows"):
        propose(x([]), subject="t")
    with pytest.raises(DataQualityFailed, match="columns y"):
        propose(x([1]), subject="t", key=["y"])


def test_millions_of_categories_are_no_set() -> None:
    assert "200000 distinct values" in propose(x(np.arange(200_000).astype(str)), subject="t")


# Predictions.


PAYMENTS = pd.DataFrame({"amount": [1.0, 99.0] * 50, "country": ["NL", "BE"] * 50, "fraud": [0, 1] * 50})


def predictions(table: pd.DataFrame = PAYMENTS, *edits: tuple[str, str]) -> dict[str, dict[str, Any]]:
    proposed = block(table, manifest=make_manifest(*edits)).predictions
    return {f"{one.expect} {one.column}": one.arguments for one in proposed}


def test_predictions_are_probabilities_of_inputs_like_those_of_the_table() -> None:
    assert predictions() == {
        "column_values_to_not_be_null score": {},
        "column_values_to_be_between score": {"min_value": 0, "max_value": 1},
        "column_values_to_be_in_set label": {"value_set": ["0", "1"]},
        "column_values_to_be_between amount": {"min_value": 0, "max_value": 110, "mostly": 0.99},
        "column_values_to_be_in_set country": {"value_set": ["BE", "NL"], "mostly": 0.99},
    }


def test_labels_are_those_that_the_model_answers_with() -> None:
    to_labels = ("predict_method: predict_proba", "predict_method: predict")
    assert predictions(PAYMENTS, to_labels)["column_values_to_be_in_set label"] == {"value_set": ["0.0", "1.0"]}
    words = PAYMENTS.assign(fraud=["no", "yes"] * 50)
    assert predictions(words, to_labels)["column_values_to_be_in_set label"] == {"value_set": ["no", "yes"]}


def test_a_regression_answers_in_the_range_of_its_target() -> None:
    regression = (("task: binary", "task: regression"), ("predict_proba", "predict"), ("accuracy at", "r2 at"))
    table = PAYMENTS.assign(fraud=np.linspace(5, 10, 100))
    more = (("accuracy within 0.5% of the baseline", "rmse at most 3"),)
    found = predictions(table, *regression, *more)
    assert found["column_values_to_be_between score"] == {"min_value": 4.5, "max_value": 11}
    assert "column_values_to_be_in_set label" not in found


def test_a_table_without_the_features_is_refused() -> None:
    with pytest.raises(DataQualityFailed, match="columns country"):
        propose(PAYMENTS.drop(columns="country"), subject="t", manifest=make_manifest())
