from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from airflow_provider_mlpipex.domain.quality.catalogue import CATALOGUE, COMMON
from airflow_provider_mlpipex.domain.quality.expectations import Expectation, QualitySpec
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation, QualityReport, evidence_of, explain
from tests.support.expectations import expectation
from tests.support.factories import NOON


def refusal_of(raw: Any, kind: Any = Expectation) -> str:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(raw)
    return str(refused.value)


def test_the_catalogue_is_that_of_the_installed_great_expectations() -> None:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    from great_expectations.expectations.expectation import Expectation as Theirs
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    core = "great_expectations.expectations.core."
    theirs = {
        name.removeprefix("expect_"): get_expectation_impl(name)
        for name in list_registered_expectation_implementations()
        if get_expectation_impl(name).__module__.startswith(core)
    }
    elsewhere = {
        "query_results_to_match_comparison",
        "table_row_count_to_equal_other_table",
        "unexpected_rows_expectation",
    }
    assert set(CATALOGUE) == set(theirs) - elsewhere
    inner = {*Theirs.__fields__, "batch_id", "library_metadata"}
    for name, kind in CATALOGUE.items():
        fields = {field: spec.required for field, spec in theirs[name].__fields__.items() if field not in inner}
        takes_column = fields.pop("column", False)
        assert takes_column == (kind.subject == "column"), name
        # Bounds of a divergence mean nothing to it.
        known = {*kind.required, *kind.optional} | ({"min_value", "max_value"} if "divergence" in name else set())
        assert set(fields) == known, name
        assert {field for field, required in fields.items() if required} <= set(kind.required), name
    assert set(COMMON) <= set(Theirs.__fields__)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"expect": "column_values_to_be_betwen", "column": "x", "min_value": 1}, "mean column_values_to_be_between?"),
        ({"expect": "expect_column_values_to_be_null", "column": "x"}, "without 'expect_'"),
        ({"expect": "query_results_to_match_comparison"}, "on one table"),
        ({"expect": "column_values_to_be_between", "column": "x", "min_valu": 1}, "did you mean min_value?"),
        ({"expect": "column_values_to_be_between", "column": "x", "result_format": "COMPLETE"}, "remove it"),
        ({"expect": "column_values_to_be_between", "min_value": 1}, "add column"),
        ({"expect": "table_row_count_to_be_between", "column": "x", "min_value": 1}, "remove column"),
        ({"expect": "column_values_to_be_in_set", "column": "x"}, "no value_set"),
        ({"expect": "column_values_to_be_between", "column": "x"}, "min_value, max_value or both"),
        ({"expect": "column_values_to_be_between", "column": "x", "min_value": 2, "max_value": 1}, "swap them"),
        (
            {
                "expect": "column_values_to_be_between",
                "column": "x",
                "min_value": "2026-03-01T00:30:00",
                "max_value": "2026-03-01T01:00:00+01:00",
            },
            "swap them",
        ),
        ({"expect": "column_values_to_be_between", "column": "x", "min_value": "a", "max_value": 1}, "one type"),
        ({"expect": "column_values_to_be_between", "column": "x", "min_value": float("inf")}, "a finite number"),
        ({"expect": "column_values_to_be_between", "column": "x", "min_value": [1]}, "a finite number"),
        ({"expect": "column_values_to_be_in_set", "column": "x", "value_set": []}, "not empty"),
        ({"expect": "column_values_to_be_in_set", "column": "x", "value_set": "abc"}, "a list"),
        ({"expect": "column_values_to_not_be_null", "column": "x", "mostly": 0}, "nothing could break"),
        ({"expect": "column_values_to_not_be_null", "column": "x", "mostly": 1.1}, "at most 1"),
        ({"expect": "column_values_to_not_be_null", "column": "x", "mostly": True}, "at most 1"),
        ({"expect": "column_values_to_not_be_null", "column": "x", "severity": "fatal"}, "critical, warning, info"),
        ({"expect": "column_values_to_match_regex", "column": "x", "regex": "("}, "a regular expression"),
        (
            {
                "expect": "column_quantile_values_to_be_between",
                "column": "x",
                "quantile_ranges": {"quantiles": [0.5, 0.9], "value_ranges": [[0, 1]]},
            },
            "as many value_ranges",
        ),
    ],
)
def test_what_could_never_be_judged_is_refused_without_great_expectations(raw: dict[str, Any], says: str) -> None:
    assert says in refusal_of(raw)


@pytest.mark.parametrize(
    ("one", "columns"),
    [
        (expectation("column_values_to_be_null", "x"), ("x",)),
        (expectation("column_pair_values_to_be_equal", column_A="a", column_B="b"), ("a", "b")),
        (expectation("compound_columns_to_be_unique", column_list=["a", "b", "c"]), ("a", "b", "c")),
        (expectation("table_columns_to_match_ordered_list", column_list=["a", "b"]), ()),
        (expectation("table_row_count_to_equal", value=3), ()),
    ],
)
def test_an_expectation_knows_the_columns_that_it_reads(one: Expectation, columns: tuple[str, ...]) -> None:
    assert one.columns == columns


def test_arguments_stand_beside_the_name() -> None:
    written = {"expect": "column_values_to_be_in_set", "column": "x", "value_set": [1], "severity": "warning"}
    one = Expectation.model_validate(written)
    assert (one.arguments, one.severity) == ({"value_set": [1], "severity": "warning"}, "warning")
    assert one.to_json() == written
    assert expectation("column_values_to_be_null", "x").severity == "critical"


@pytest.mark.parametrize(("raw", "key"), [("id", ("id",)), (["a", "b"], ("a", "b")), ([], ())])
def test_a_key_is_one_column_or_several(raw: Any, key: tuple[str, ...]) -> None:
    assert QualitySpec.model_validate({"key": raw}).key == key


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"key": ["a", "a"]}, "each column once"),
        ({"key": 3}, "key"),
        ({"results": "../elsewhere"}, "without '..'"),
        ({"results": "/var/www"}, "does not begin with '/'"),
        ({"snapshots": []}, "snapshots"),
    ],
)
def test_a_wrong_block_is_refused(raw: dict[str, Any], says: str) -> None:
    assert says in refusal_of(raw, QualitySpec)


# The outcome.


def broken(severity: str = "critical", **changes: Any) -> BrokenExpectation:
    told = {
        "expectation": "column_values_to_be_between",
        "column": "x",
        "expected": "max_value=1",
        "observed": "2 of 9",
    }
    return BrokenExpectation.model_validate({**told, "severity": severity, **changes})


def test_the_explanation_names_everything_and_the_critical_first() -> None:
    report = QualityReport(
        subject="t",
        rows=9,
        judged=3,
        broken=(broken("warning", column=None), broken(sample=("7", "8"), keys=("id=a", "id=b"))),
    )
    assert explain(report) == (
        "x: column_values_to_be_between (max_value=1), observed 2 of 9, for example 7, 8 in id=a, id=b; "
        "warning: table: column_values_to_be_between (max_value=1), observed 2 of 9"
    )


def test_only_what_is_critical_fails_a_table() -> None:
    assert QualityReport(subject="t", rows=9, judged=2, broken=(broken("warning"),)).passed
    assert not QualityReport(subject="t", rows=9, judged=2, broken=(broken(),)).passed
    assert not QualityReport(subject="t", rows=9, judged=0).passed


def test_reports_are_evidence_together() -> None:
    reports = [
        QualityReport(subject="a", rows=100, judged=3, broken=(broken(), broken("warning"))),
        QualityReport(subject="b", rows=50, judged=5),
        QualityReport(subject="nothing asked", rows=7, judged=0),
    ]
    window = {"since": NOON - timedelta(days=1), "until": NOON}
    found = evidence_of(reports, **window)
    assert {key: evidence.value for key, evidence in found.items()} == {
        "quality.success_share": 0.75,
        "quality.broken": 1.0,
        "quality.warnings": 1.0,
    }
    assert {(e.samples, e.since, e.until) for e in found.values()} == {(150, NOON - timedelta(days=1), NOON)}
    assert evidence_of(reports[2:], **window) == {}


def test_nothing_holds_for_no_rows() -> None:
    empty = QualityReport(subject="a", rows=0, judged=4, broken=(broken(),))
    assert evidence_of([empty], since=NOON, until=NOON)["quality.success_share"].value == 0.0
