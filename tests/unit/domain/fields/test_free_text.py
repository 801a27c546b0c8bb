"""Text of people: it is seen, on one line, and does nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.fields.free_text import UNSEEN, one_line, without_controls

TEXTS = st.text(st.characters(codec=None), max_size=60)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("too slow", "too slow"),
        ("  two\n lines\t ", "two lines"),
        ("\x1b[31mred", f"{UNSEEN}[31mred"),
        ("a\u2028b", "a b"),
        ("turned \u202e round", f"turned {UNSEEN} round"),
        ("half \ud83d", f"half {UNSEEN}"),
        ("\x00", UNSEEN),
        ("prüfen, 価格, 👩\u200d🔬", "prüfen, 価格, 👩\u200d🔬"),
        ("", ""),
    ],
)
def test_a_line_is_what_can_be_seen_of_it(text: str, line: str) -> None:
    assert one_line(text) == line


@given(TEXTS)
def test_nothing_that_acts_is_left_and_a_clean_line_stays_as_it_is(text: str) -> None:
    line = one_line(text)
    line.encode()
    assert len(line.splitlines()) <= 1
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in line)
    assert one_line(line) == line


@given(TEXTS)
def test_lines_stay_where_a_text_has_lines(text: str) -> None:
    shown = without_controls(text, but="\n\t")
    assert shown.count("\n") == text.count("\n")
    assert "\x1b" not in shown and "\r" not in shown
