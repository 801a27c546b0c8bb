"""What the log says of an output: a number, a class, several of them, or text, and never an error."""

from __future__ import annotations

import json
import math
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.serving.prediction_log.outputs import (
    MAX_LABEL_LENGTH,
    MAX_OUTPUTS,
    MAX_SCORE,
    Described,
    describe,
    describe_all,
    drift_answers,
)
from airflow_provider_mlpipex.serving.prediction_log.record import LABEL, OUTPUT


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ([0.2, 0.8], Described("probability", 0.8, "1")),
        ([0.8, 0.2], Described("probability", 0.2, "0")),
        ([0.5, 0.5], Described("probability", 0.5, "0")),
        ([0.1, 0.7, 0.2], Described("probability", 0.7, "1")),
        ([1, 0.0], Described("probability", 0.0, "0")),
        ([0.0, 0.0, 1], Described("probability", 1.0, "2")),
        ([1e308, -1e308, 1e308], Described("numbers", None, '["1e+308", "-1e+308", "1e+308"]', [None] * 3)),
        (0.25, Described("number", 0.25, "0.25")),
        (3, Described("number", 3.0, "3.0")),
        ([3.5], Described("number", 3.5, "3.5")),
        ({"delay": 3.5}, Described("number", 3.5, "3.5")),
        (math.nan, Described("number", None, "nan")),
        (-math.inf, Described("number", None, "-inf")),
        (-1e300, Described("number", None, "-1e+300")),
        ("late", Described("text", None, "late")),
        (True, Described("number", 1.0, "True")),
        (False, Described("number", 0.0, "False")),
        (None, Described("text", None, "None")),
        ({}, Described("text", None, "{}")),
        ([], Described("text", None, "[]")),
    ],
)
def test_an_output_is_told_as_what_it_is(output: Any, told: Described) -> None:
    assert describe(output) == told


@pytest.mark.parametrize(
    ("output", "kind", "score", "labels", "outputs"),
    [
        ([3.5, 1.25], "numbers", 3.5, ["3.5", "1.25"], [3.5, 1.25]),
        ([0, 1], "numbers", 0.0, ["0.0", "1.0"], [0.0, 1.0]),
        ([0.9, 0.8, 0.1], "numbers", 0.9, ["0.9", "0.8", "0.1"], [0.9, 0.8, 0.1]),
        ([0.6, 0.6, -0.2], "numbers", 0.6, ["0.6", "0.6", "-0.2"], [0.6, 0.6, -0.2]),
        ([math.nan, math.nan], "numbers", None, ["nan", "nan"], [None, None]),
        ({"b": 1.5, "a": 2}, "numbers", 2.0, {"a": "2.0", "b": "1.5"}, [2.0, 1.5]),
        ({"delay": 4.0, "why": "wind"}, "several", 4.0, {"delay": "4.0", "why": "wind"}, [4.0, None]),
        ({"reason": "wind", "score": 0.5}, "several", 0.5, {"reason": "wind", "score": "0.5"}, [None, 0.5]),
        ([[0.1, 0.9], [0.7, 0.3]], "several", 0.9, ["1", "0"], [0.9, 0.3]),
    ],
)
def test_several_outputs_are_told_one_by_one(
    output: Any, kind: str, score: float | None, labels: Any, outputs: list[float | None]
) -> None:
    told = describe(output)
    assert (told.kind, told.score, json.loads(told.label), told.outputs) == (kind, score, labels, outputs)


def test_of_very_many_outputs_any_change_shows_in_the_label() -> None:
    many = [float(number) for number in range(MAX_OUTPUTS + 1)]
    told, moved = describe(many), describe([*many[:-1], many[-1] + 1e-9])
    assert (told.kind, told.score, told.outputs) == ("several", 0.0, None)
    assert told.label != moved.label
    assert told == describe(list(many))


def test_long_texts_are_cut_and_still_told_apart() -> None:
    one, other = (describe("x" * 10_000 + end).label for end in "ab")
    assert one != other
    assert max(map(len, (one, other))) < 2 * MAX_LABEL_LENGTH
    assert describe("\ud800" * 1000).kind == "text"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.floats(), max_size=5) | st.lists(_JSON, max_size=5))
def test_many_outputs_at_once_are_told_as_one_by_one(outputs: list[Any]) -> None:
    for output, fields in zip(outputs, describe_all(outputs), strict=True):
        told = describe(output)
        if "label" in fields:
            assert repr(fields["output"]) == repr(output)
            assert (fields["kind"], fields["score"], fields["label"]) == (told.kind, told.score, told.label)
        else:
            assert (fields["kind"], repr(fields["score"])) == (told.kind, repr(output))
        assert fields.get("outputs") == told.outputs


@settings(deadline=None)
@given(st.floats(-MAX_SCORE, MAX_SCORE))
def test_a_number_that_is_logged_without_a_label_gets_the_same_one_from_whoever_reads_the_log(number: float) -> None:
    (fields,) = describe_all([number])
    said = "SELECT NULL::VARCHAR AS label, NULL::JSON AS output, ?::DOUBLE AS score"
    told = duckdb.execute(f"SELECT {LABEL}, {OUTPUT} FROM ({said})", [fields["score"]]).fetchone()
    assert told is not None
    assert (told[0], json.loads(told[1])) == (describe(number).label, number)


@given(_JSON)
def test_whatever_a_model_answers_is_told_and_is_equal_to_itself(output: Any) -> None:
    told = describe(output)
    assert told == describe(output)
    assert told.score is None or math.isfinite(told.score)
    json.dumps(told._asdict(), allow_nan=False)


@pytest.mark.parametrize(
    ("outputs", "answers"),
    [
        ([0.5, None, float("nan")], [0.5, None, None]),
        ([True, False], [1.0, 0.0]),
        (["yes", "no"], ["yes", "no"]),
        ([["yes", "no"], ["no", "no"]], ['["yes", "no"]', '["no", "no"]']),
        ([float("nan")], [None]),
        ([], []),
    ],
)
def test_drift_is_counted_in_scores_and_where_there_are_none_in_labels(outputs: list[Any], answers: list[Any]) -> None:
    assert drift_answers(outputs) == answers
