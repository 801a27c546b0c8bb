"""Differences in points and in parts of the baseline: how they are read, written, and told apart."""

from __future__ import annotations

import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.errors import InvalidQuantity
from airflow_provider_mlpipex.domain.fields.differences import Difference, format_points, parse_difference


@pytest.mark.parametrize(
    ("text", "fraction", "form"),
    [
        ("0.5%", "1/200", "bare"),
        (0.005, "1/200", "bare"),
        ("0.5 points", "1/200", "points"),
        ("1 point", "1/100", "points"),
        ("0.5 points of the baseline", "1/200", "points"),
        (" 12.5 % of  the baseline ", "1/8", "spelled-out"),
        ("150 points", "3/2", "points"),
    ],
)
def test_what_is_read(text: object, fraction: str, form: str) -> None:
    read = parse_difference(text)
    assert (float(read), read.form) == (float(Fraction(fraction)), form)


@pytest.mark.parametrize("text", ["0.5", "points", "0.5 point s", "5", 5, True, "0.5% of it", "1 points of it", None])
def test_what_says_nothing_is_refused(text: object) -> None:
    if text == "0.5":
        assert parse_difference(text) == 0.5, "half of the baseline, as a number always was"
        return
    with pytest.raises(InvalidQuantity):
        parse_difference(text)


@given(st.decimals(0, 100, places=6, allow_nan=False))
def test_points_survive_being_written(number: object) -> None:
    read = parse_difference(f"{number} points")
    assert parse_difference(format_points(read)) == read
    assert pickle.loads(pickle.dumps(read)) == read and pickle.loads(pickle.dumps(read)).in_points


def test_points_equal_points_alone() -> None:
    points, part, bare = (parse_difference(text) for text in ("0.5 points", "0.5% of the baseline", "0.5%"))
    assert points == Difference(0.005, "points") and hash(points) == hash(Difference(0.005, "points"))
    assert part == bare == 0.005 and hash(part) == hash(bare)
    assert points != bare and bare != points and points != 0.005 and points != "0.5 points"
