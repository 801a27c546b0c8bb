"""Moments: in training as timestamps or dates, served as ISO 8601, and counted as the same seconds."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.drift.column_values import as_column, holds_moments, moment_text, read_moments
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins
from airflow_provider_mlpipex.domain.drift.references import Reference, make_reference

START = datetime(2026, 1, 1)
HOURS = [START + timedelta(hours=hour, minutes=7 * hour % 60) for hour in range(2000)]
DAYS = [moment.date() for moment in HOURS]


def seconds(raw: Any) -> list[float]:
    return read_moments(as_column(raw, name="at")).values.tolist()


@settings(deadline=None)
@given(
    st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
)
def test_a_moment_is_one_number_however_it_comes(moment: datetime, zone: str) -> None:
    stamp = pd.Timestamp(moment).tz_localize("UTC")
    told = stamp.tz_convert(zone)
    expected = (moment - datetime(1970, 1, 1)).total_seconds()
    forms = [moment, stamp, told, told.isoformat(), moment.isoformat(), str(stamp), stamp.to_datetime64()]
    assert seconds(forms) == [expected] * len(forms)
    assert seconds(pd.Series([moment])) == seconds(pd.Series([told])) == [expected]


def test_a_date_is_its_midnight() -> None:
    assert seconds([date(2026, 3, 1), "2026-03-01", datetime(2026, 3, 1)]) == [1772323200.0] * 3


@pytest.mark.parametrize("value", [1772323200, 1.5, True, "yesterday", "01/03/2026", [START]])
def test_what_is_no_moment_is_unreadable(value: Any) -> None:
    read = read_moments(as_column([START, value], name="at"))
    assert (read.unreadable, read.usable.tolist()) == (1, [True, False])


def test_what_is_missing_is_missing() -> None:
    read = read_moments(as_column([None, pd.NaT, float("nan"), pd.NA, START], name="at"))
    assert (read.missing, read.unreadable, int(read.usable.sum())) == (4, 0, 1)


@pytest.mark.parametrize(
    "raw",
    [
        pd.Series(HOURS),
        pd.Series(HOURS).dt.tz_localize("Europe/Berlin", ambiguous=True, nonexistent="shift_forward"),
        pd.Series([*HOURS[:-1], pd.NaT]),
        DAYS,
        [*DAYS, None],
    ],
    ids=["naive", "zone", "gap", "dates", "dates with a gap"],
)
def test_columns_of_moments_are_known_by_their_values(raw: Any) -> None:
    assert holds_moments(as_column(raw, name="at"))


@pytest.mark.parametrize("raw", [["2026-01-01"], [1, 2], [START, 1], [None], np.arange(3), [timedelta(1)]])
def test_other_columns_are_none(raw: Any) -> None:
    assert not holds_moments(as_column(raw, name="at"))


@pytest.mark.parametrize("served", [[m.isoformat() for m in HOURS], [f"{m.isoformat()}Z" for m in HOURS]])
def test_the_training_rows_served_as_text_have_not_drifted(served: list[str]) -> None:
    reference = make_reference({"at": pd.Series(HOURS)})
    same = check(reference, reference.sketch({"at": served}))
    assert same.verdict == "pass", same.reason
    # A reference is stored and read again before anything is served.
    stored = Reference.from_json(json.loads(json.dumps(reference.to_json())))
    assert check(stored, stored.sketch({"at": served})) == same


def test_moments_that_moved_have_drifted_and_are_shown_as_moments() -> None:
    reference = make_reference({"at": DAYS})
    later = [(day + timedelta(days=400)).isoformat() for day in DAYS]
    (column,) = check(reference, reference.sketch({"at": later})).columns
    assert column.verdict == "fail"
    assert all("2026-" in shift.group for shift in column.shifts)


def test_numbers_served_for_moments_are_a_broken_column() -> None:
    reference = make_reference({"at": pd.Series(HOURS)})
    (column,) = check(reference, reference.sketch({"at": [moment.timestamp() for moment in HOURS]})).columns
    assert (column.verdict, "another type" in column.reason) == ("error", True)


def test_bins_of_numbers_are_stored_as_before_there_were_moments() -> None:
    bins = make_reference({"x": [1.0, 2.0]}).columns["x"].bins
    assert isinstance(bins, NumericBins) and "moments" not in bins.to_json()


def test_a_moment_is_shown_to_the_second() -> None:
    assert moment_text(datetime(2026, 3, 1, 14, 3, tzinfo=UTC).timestamp()) == "2026-03-01 14:03:00"
    assert moment_text(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) == "2026-03-01"
    assert moment_text(1e300) == "1e+300 s"


# -- answers that are classes

WORDS = np.random.default_rng(1).choice(["yes", "no", "perhaps"], 3000, p=[0.6, 0.3, 0.1]).tolist()


def test_answers_in_words_are_compared_by_class() -> None:
    reference = make_reference({"x": range(3000)}, scores=WORDS)
    assert (reference.answer_field, reference.score) == ("label", None)
    same = check(reference, reference.sketch({"x": range(3000)}, scores=WORDS))
    assert same.verdict == "pass", same.reason
    moved = check(reference, reference.sketch({"x": range(3000)}, scores=["yes"] * 3000)).of("@score")
    assert moved is not None and moved.verdict == "fail"


@pytest.mark.parametrize("scores", [[0.5] * 10, [None] * 10, [True] * 10])
def test_numbers_flags_and_nothing_are_scores(scores: list[Any]) -> None:
    assert make_reference({"x": range(10)}, scores=scores).answer_field == "score"
