"""Which answers are the release's fault, whatever MLflow's contract calls them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from airflow_provider_mlpipex.serving.model_server.scoring import Scored

ROWS = [[1.5, "AA"], [2.5, "UA"]]


def scored(outputs: list[Any], *, rows: list[list[Any]] = ROWS, status: int = 200, failed: bool = False) -> Scored:
    return Scored(status, b"", "application/json", rows=rows, outputs=outputs, model_failed=failed)


@pytest.mark.parametrize(
    "outputs",
    [[1.0, 2.0], [0, 1], ["low", "high"], [True, False], [[0.1, 0.9], [0.5, 0.5]], [{"a": 1.0}, {"a": 2.0}], ["", "x"]],
)
def test_an_answer_a_row_is_no_fault(outputs: list[Any]) -> None:
    assert not scored(outputs).is_fault


@pytest.mark.parametrize(
    "outputs",
    [[1.0, math.nan], [math.inf, 1.0], [1.0, None], [[0.1, math.nan], [0.5, 0.5]], [{"a": -math.inf}, {"a": 1.0}],
     [1.0], [1.0, 2.0, 3.0], []],
)  # fmt: skip
def test_no_number_and_no_answer_and_one_too_many_are_faults(outputs: list[Any]) -> None:
    assert scored(outputs).is_fault


def test_forms_whose_rows_nobody_counts_are_judged_by_what_they_say() -> None:
    assert not scored([1.0], rows=[]).is_fault
    assert scored([math.nan], rows=[]).is_fault


def test_a_refused_request_is_the_callers_and_a_model_that_raised_is_not() -> None:
    assert not scored([], status=400).is_fault
    assert scored([], status=400, failed=True).is_fault
