"""Rows of a request as the log keeps them, whatever form the request has."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_provider_mlpipex.serving.model_server.logged_inputs import logged_inputs

NOTHING: tuple[list[str], list[list[Any]]] = ([], [])


def logged(payload: Any, decoded: Any = None) -> tuple[list[str], list[list[Any]]]:
    return logged_inputs(json.dumps(payload).encode(), decoded)


def test_rows_are_kept_as_they_were_sent() -> None:
    table = pd.DataFrame({"a": [1.0], "b": [2.0]})
    split = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, "2"]]}}
    assert logged(split, table) == (["a", "b"], [[1, "2"]])
    assert logged({"dataframe_records": [{"a": 1, "b": "2"}]}, table) == (["a", "b"], [[1, "2"]])


def test_a_record_may_leave_out_what_is_missing_in_any_row() -> None:
    records = [{"a": 1}, {"b": 2, "a": 3}, {}]
    assert logged({"dataframe_records": records}) == (["a", "b"], [[1, None], [3, 2], [None, None]])


@pytest.mark.parametrize("body", [b'{"inputs": {"a": [1, 2]}}', b"a,b\n1,2\n", b'{"instances": [{"a": 1}]}', b"\xff"])
def test_other_forms_are_kept_as_they_were_read(body: bytes) -> None:
    table = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [0.5, float("nan")],
            "t": ["a", None],
            "at": [pd.Timestamp("2026-03-01 14:03"), pd.NaT],
        }
    )
    columns, rows = logged_inputs(body, table)
    assert columns == ["n", "x", "t", "at"]
    assert rows == [[1, 0.5, "a", "2026-03-01T14:03:00"], [2, None, None, None]]


@pytest.mark.parametrize(
    ("decoded", "rows"),
    [
        ({"a": np.array([1, 2]), "b": np.array([0.5, np.nan])}, [[1, 0.5], [2, None]]),
        ({"a": [1, 2], "b": ["x", None]}, [[1, "x"], [2, None]]),
        ({"a": np.array(1), "b": 0.5}, [[1, 0.5]]),
        ([{"b": 0.5, "a": 1}, {"a": 2}], [[0.5, 1], [None, 2]]),
    ],
    ids=["arrays", "lists", "one row", "rows"],
)
def test_columns_and_rows_by_name_are_kept_as_they_were_read(decoded: Any, rows: list[list[Any]]) -> None:
    columns, kept = logged({"inputs": "whatever"}, decoded)
    assert (sorted(columns), kept) == (["a", "b"], rows)


@pytest.mark.parametrize(
    "decoded", [None, [1, 2], {"a": [1], "b": [1, 2]}, {}, np.zeros((1, 2)), pd.DataFrame([[1, 2]])]
)
def test_nothing_is_kept_of_columns_without_names(decoded: Any) -> None:
    assert logged({"inputs": [[1, 2]]}, decoded) == NOTHING
    assert logged({"dataframe_split": {"data": [[1, 2]]}}, decoded) == NOTHING
