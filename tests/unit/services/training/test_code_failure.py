"""Exceptions of a team's code quote its rows: whatever they quote, and however, no message and no log shows it."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn, cast

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.services.training.code_failure import describe_failure, without_values
from airflow_provider_mlpipex.services.training.user_code import load_table

VALUES = st.one_of(
    st.text(min_size=1, max_size=12).filter(str.strip),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1e6, max_value=1e6),
)
#: How libraries quote: as Python writes it, in a list, in a sentence, rounded, over the fault of another.
QUOTES: dict[str, Callable[[Any], str]] = {
    "as it is": str,
    "as Python writes it": repr,
    "in a list": lambda value: repr([value, value]),
    "in ASCII": ascii,
    "in a table": lambda value: repr(pd.Series([value])),
    "rounded": lambda value: f"{value:.2f}" if isinstance(value, float) else str(value),
    "short": lambda value: f"{value:.3g}" if isinstance(value, float) else str(value),
}
WORD = re.compile(r"[^\W\d_]+|\d+")


def raise_over(quoted: str) -> NoReturn:
    try:
        raise KeyError(quoted)
    except KeyError as error:
        raise ValueError(f"cannot convert <{quoted}> to float") from error


@settings(deadline=None, max_examples=300, derandomize=True)
@given(value=VALUES, quote=st.sampled_from(sorted(QUOTES)))
@example(value="a\nb", quote="as Python writes it")
@example(value="Mu\u0308ller, \u00c4nne", quote="in ASCII")
@example(value=1234567.891, quote="rounded")
@example(value=Decimal("12.500"), quote="as Python writes it")
def test_whatever_value_an_exception_quotes_is_masked(value: Any, quote: str) -> None:
    table = pd.DataFrame(
        {"column": pd.Series([value, value], dtype=None if isinstance(value, int | float) else object)}
    )
    quoted = QUOTES[quote](value)
    try:
        raise_over(quoted)
    except ValueError as error:
        told = describe_failure(error, code="training callable team:train", rows=[table])
    assert told.startswith("ValueError: ")
    shown = told[told.index("<") + 1 : told.rindex(">")] if "<" in told and ">" in told else ""
    # What a table's print says beside its values is no value: its index, its type.
    printed = {"dtype", "object", "int", "float", "str", "64", "32", "0", "datetime", "date", "Decimal"}
    assert not set(WORD.findall(shown)) & (set(WORD.findall(f"{value!s} {value!r} {value!a}")) - printed)
    assert isinstance(value, int | float) or quoted not in told or not WORD.search(quoted)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("could not convert string to float: 'Ann Lee'", "could not convert string to float: '…'"),
        ("income 1234.57 of user42 is too high (max 99)", "income … of user… is too high (max 99)"),
        ("X has 3 features, but 7 are expected", "X has 3 features, but 7 are expected"),
        ("['Bo', 'x'] not in index", "['…', 'x'] not in index"),
    ],
)
def test_the_rest_of_a_text_is_kept(text: str, shown: str) -> None:
    table = pd.DataFrame({"name": ["Ann Lee", "Bo"], "income": [1234.5678, 800.25], "user": [42, 43]})
    assert without_values(text, [table]) == shown


def quote_rows(error: type[Exception], *arguments: Any) -> NoReturn:
    raise error(*arguments)


@pytest.mark.parametrize(
    ("load", "found", "hidden"),
    [
        (partial(quote_rows, ValueError, "row 7 of Ann Lee is odd"), "ValueError", "Ann"),
        (partial(quote_rows, FileNotFoundError, 2, "Ann Lee", "ann.csv"), "No such file or directory", "nn"),
        (partial(quote_rows, OSError, "Ann Lee"), "OSError", "Ann"),
        (partial(quote_rows, TypeError, "Ann Lee"), "TypeError", "Ann"),
        (partial(cast(Any, quote_rows), surprise=1), "surprise", "Ann"),  # Python's own words: nothing ran
    ],
)
def test_a_source_that_raises_shows_its_line_and_none_of_its_rows(
    load: Any, found: str, hidden: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(DataQualityFailed) as refused:
        load_table(load, source="data source team:load", remedy="call it")
    told = "".join(traceback.format_exception(refused.value))
    assert found in told
    assert hidden not in str(refused.value) + caplog.text
    assert "Ann" not in told.replace(str(refused.value), "") and "During handling" not in told
    if "surprise" not in found:
        assert "test_code_failure.py:" in str(refused.value) and "quote_rows" in caplog.text


def test_a_class_that_cannot_say_what_it_is_is_named() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("Ann Lee")

    said = describe_failure(Mute(), code="it", rows=[pd.DataFrame({"a": [timedelta(1)]})])
    assert said == "Mute: its own text cannot be had, for that raises RuntimeError"
    assert describe_failure(Mute(), code="it").startswith("Mute (its text is left out")
