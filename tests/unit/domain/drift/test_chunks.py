"""What a column does by itself over day and week is no drift, and a fault on top of it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy import stats

from airflow_provider_mlpipex.domain.drift import student
from airflow_provider_mlpipex.domain.drift.chunks import HOUR, MAX_SLOTS, Chunks, Window, reach, slots_of
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import Reference, make_reference
from airflow_provider_mlpipex.domain.drift.season import chosen, explained, in_season
from airflow_provider_mlpipex.domain.errors import SketchUnusable

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
DAYS = 28
AN_HOUR = 100


def month(days: int = DAYS, *, seed: int = 0, begin: datetime = BEGIN) -> tuple[dict[str, Any], Any]:
    """Rows of ``days`` days, and their moments. ``cycle`` goes with the hour, ``week`` is higher on weekends."""
    chance = np.random.default_rng(seed)
    hours = np.repeat(np.arange(days * 24), AN_HOUR)
    rows = {
        "cycle": 1.5 * np.sin(2 * np.pi * hours / 24) + chance.normal(size=len(hours)),
        "week": 2.0 * (hours // 24 % 7 >= 5) + chance.normal(size=len(hours)),
        "steady": chance.normal(size=len(hours)),
        "kind": np.where(chance.random(len(hours)) < 0.5 + 0.4 * np.sin(2 * np.pi * hours / 24), "a", "b"),
        "day": (hours // 24).astype(float),
    }
    seconds = begin.timestamp() + hours * 3600.0 + chance.random(len(hours)) * 3600.0
    return rows, (seconds * 1e9).astype("datetime64[ns]")


ROWS, TIMES = month()
REFERENCE = make_reference(ROWS, times=TIMES)
WITHOUT_TIMES = make_reference(ROWS)


def seen(
    first_hour: float,
    hours: float,
    *,
    reference: Reference = REFERENCE,
    season: Any = None,
    shift: Any = None,
    **of: Any,
) -> dict[str, str]:
    """Column -> verdict of a window of the reference month itself, ``shift`` column -> what is added to it."""
    rows, times = (ROWS, TIMES) if not of else month(**of)
    since = BEGIN + timedelta(hours=first_hour)
    window = Window(since=since, until=since + timedelta(hours=hours), season=season)
    low, high = (np.datetime64(moment.replace(tzinfo=None)) for moment in (window.since, window.until))
    inside = (times >= low) & (times < high)
    taken = {name: values[inside] for name, values in rows.items()}
    for name, by in (shift or {}).items():
        taken[name] = taken[name] + by
    compared = in_season(reference, window)
    assert compared is not None
    report = check(compared, reference.sketch(taken), window=window)
    return {column.column: column.verdict for column in report.columns}


@pytest.mark.parametrize("hours", [6, 24, 24 * 7])
def test_windows_cut_inside_the_reference_drift_without_its_times_and_not_with_them(hours: int) -> None:
    starts = range(0, DAYS * 24 - hours, 53)
    before = [seen(start, hours, reference=WITHOUT_TIMES) for start in starts]
    after = [seen(start, hours) for start in starts]
    assert all("fail" in verdicts.values() for verdicts in before)
    assert not any("fail" in verdicts.values() for verdicts in after)


@pytest.mark.parametrize("column", ["cycle", "steady"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_fault_of_one_standard_deviation_is_found_on_its_day(column: str, sign: int) -> None:
    by = sign * float(np.std(ROWS[column]))
    for day in range(1, DAYS, 5):
        verdicts = seen(24 * day, 24, shift={column: by})
        assert verdicts[column] == "fail"
        assert verdicts["week"] != "fail"


def test_a_night_that_looks_like_a_day_is_seen_beside_nights_only() -> None:
    """At 6 pm the column is at its lowest: moved up by its whole amplitude it looks like the mean of all hours."""
    moved = {"cycle": 1.45}
    assert seen(24 * 5 + 15, 6, shift=moved)["cycle"] != "fail"
    assert seen(24 * 5 + 15, 6, shift=moved, season="day")["cycle"] == "fail"
    assert seen(24 * 5 + 15, 6, season="day")["cycle"] != "fail"


def test_a_sunday_beside_sundays() -> None:
    """A Sunday that looks like a Monday is no drift from the whole month."""
    sunday = 24 * 13
    assert seen(sunday, 24, shift={"week": -2.0})["week"] != "fail"
    assert seen(sunday, 24, shift={"week": -2.0}, season="week")["week"] == "fail"
    assert seen(sunday, 24, season="week")["week"] != "fail"


@pytest.mark.parametrize("season", ["day", "week"])
def test_the_reference_of_a_season_is_that_of_its_own_rows(season: Any) -> None:
    """Against rows picked by hand."""
    since = BEGIN + timedelta(days=6, hours=3)
    window = Window(since=since, until=since + timedelta(hours=2), season=season)
    found = in_season(REFERENCE, window)
    assert found is not None
    hours = (TIMES - np.datetime64(BEGIN.replace(tzinfo=None))) // np.timedelta64(1, "h")
    period = 24 if season == "day" else 168
    chosen = np.isin(hours % period, [(6 * 24 + 3) % period, (6 * 24 + 4) % period])
    for name in ("cycle", "kind", "day"):
        own = REFERENCE.sketch({name: ROWS[name][chosen]})[name]
        bins = REFERENCE.columns[name]
        assert found.columns[name].sketch.rows == pytest.approx(own.rows, abs=64)
        mine, by_hand = (bins.counts(sketch)[1] for sketch in (found.columns[name].sketch, own))
        assert mine / mine.sum() == pytest.approx(by_hand / by_hand.sum(), abs=0.02)


def test_a_reference_without_times_has_no_season() -> None:
    window = Window(since=BEGIN, until=BEGIN + timedelta(hours=6), season="day")
    assert in_season(WITHOUT_TIMES, window) is None


def test_what_is_kept_is_read_back_and_an_old_reference_as_ever() -> None:
    stored = json.loads(json.dumps(REFERENCE.to_json(), allow_nan=False))
    assert stored["format"] == 1  # a provider of before reads what it knows
    again = Reference.from_json(stored)
    assert again.to_json() == stored
    window = Window(since=BEGIN + timedelta(days=3), until=BEGIN + timedelta(days=4))
    for name, column in REFERENCE.columns.items():
        other = again.columns[name].chunks
        assert column.chunks is not None and other is not None
        assert reach(column.bins, column.chunks, "psi", window, alpha=0.01) == reach(
            column.bins, other, "psi", window, alpha=0.01
        )
    for column in stored["columns"].values():
        del column["chunks"]
    assert Reference.from_json(stored).to_json() == WITHOUT_TIMES.to_json()


@pytest.mark.parametrize(
    "broken", [{"counts": "AAAA"}, {"counts": "?"}, {"slot_s": 7}, {"begin": 5}, {"starts": [0]}, {"starts": None}]
)
def test_chunks_that_cannot_be_read_are_said_to_be_so(broken: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(REFERENCE.to_json()))
    stored["columns"]["cycle"]["chunks"] |= broken
    with pytest.raises(SketchUnusable):
        Reference.from_json(stored)


def test_slots_are_bounded_however_long_the_reference_is() -> None:
    for days, slot_s in ((20, HOUR), (100, 3 * HOUR), (300, 12 * HOUR), (900, 24 * HOUR), (4000, 24 * HOUR)):
        found = slots_of(BEGIN.timestamp() + np.arange(days * 24) * 3600.0)
        assert found is not None
        slots, begin, length = found
        assert length == slot_s and begin % slot_s == 0
        assert slots.max() < MAX_SLOTS
        assert slots.max() - slots[slots >= 0].min() >= min(days * 24 * 3600 // slot_s, MAX_SLOTS) - 2


def test_rows_of_one_moment_or_of_none_have_no_chunks() -> None:
    assert make_reference({"x": [1.0, 2.0]}, times=["2026-03-01", "2026-03-01"]).columns["x"].chunks is None
    assert make_reference({"x": [1.0, 2.0]}, times=["2026-03-01", None]).columns["x"].chunks is None
    with pytest.raises(SketchUnusable, match="one length"):
        make_reference({"x": [1.0, 2.0]}, times=["2026-03-01"])


def test_too_few_chunks_say_nothing() -> None:
    rows, times = month(3)
    column = make_reference(rows, times=times).columns["cycle"]
    assert column.chunks is not None
    for hours in (24, 48, 72, 100):
        window = Window(since=BEGIN, until=BEGIN + timedelta(hours=hours))
        assert reach(column.bins, column.chunks, "psi", window, alpha=0.01) is None


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 29, 30, 99])
def test_student_is_that_of_scipy(degrees: int) -> None:
    for statistic in (-2.0, 0.0, 0.1, 1.0, 4.0):
        assert student.upper_tail(statistic, degrees) == pytest.approx(stats.t.sf(statistic, degrees), rel=1e-8)
    for probability in (0.4, 0.01, 1e-4):
        assert student.exceeded_with(probability, degrees) == pytest.approx(stats.t.isf(probability, degrees), rel=1e-6)


@pytest.mark.parametrize("wrong", [lambda: student.upper_tail(1.0, 0), lambda: student.exceeded_with(0.5, 3)])
def test_student_refuses_what_has_no_answer(wrong: Any) -> None:
    with pytest.raises(ValueError):
        wrong()


# Which season there is, the reference says itself.


def asked_for(hours: float, *, without: tuple[str, ...] = (), days: int = DAYS) -> tuple[str, str] | None:
    rows, times = month(days)
    reference = make_reference({name: values for name, values in rows.items() if name not in without}, times=times)
    found = chosen(reference, Window(since=BEGIN, until=BEGIN + timedelta(hours=hours)))
    return None if found is None else (found.season, found.column)


def test_a_weekly_cycle_asks_for_the_week_and_a_daily_one_for_the_day_where_windows_are_short() -> None:
    assert asked_for(24) == asked_for(6) == ("week", "week")
    assert asked_for(24, without=("week",)) is None, "a window of a day has each of its hours once"
    assert asked_for(6, without=("week", "kind")) == ("day", "cycle")
    assert asked_for(6, without=("week", "kind", "cycle")) is None
    assert asked_for(24 * 7) is None, "a window of a week has each of its weekdays once"


def test_a_season_is_not_asked_for_that_the_reference_has_too_seldom() -> None:
    assert asked_for(24, days=21) == ("week", "week")
    assert asked_for(24, days=20) is None
    assert asked_for(6, days=6) is None
    assert chosen(WITHOUT_TIMES, Window(since=BEGIN, until=BEGIN + timedelta(hours=6))) is None


def test_the_reference_that_a_weekly_cycle_asks_for_finds_its_fault_by_default() -> None:
    """A Saturday that looks like a Monday."""
    saturday = Window(since=BEGIN + timedelta(days=12), until=BEGIN + timedelta(days=13))
    found = chosen(REFERENCE, saturday)
    assert found is not None
    assert seen(24 * 12, 24, shift={"week": -2.0})["week"] != "fail", "among all days it is one of them"
    assert seen(24 * 12, 24, shift={"week": -2.0}, season=found.season)["week"] == "fail"
    assert seen(24 * 12, 24, season=found.season)["week"] != "fail"


@pytest.mark.parametrize("weather", [0.0, 0.1])
def test_columns_without_a_cycle_ask_for_none(weather: float) -> None:
    """300 flags of which each day is like the others, or has a weather of its own."""
    chance, asked = np.random.default_rng(7), 0
    for _ in range(300):
        share = np.clip(0.4 + weather * chance.normal(size=DAYS), 0.01, 0.99)
        ones = chance.binomial(AN_HOUR, np.repeat(share, 24))
        counts = np.stack([ones, AN_HOUR - ones, np.zeros_like(ones)], axis=1)
        flag = Chunks(begin=round(BEGIN.timestamp()), slot_s=HOUR, starts=np.arange(2), counts=counts)
        asked += explained(flag, "week") >= 0.5
        assert explained(flag, "day") < 0.5
    assert asked <= 6, "once in fifty"


@pytest.mark.parametrize("begins", [0, 5, 23])
def test_what_a_season_explains_is_the_part_between_its_phases(begins: int) -> None:
    """The textbook: with so many rows that chance is nothing it is the adjusted coefficient of determination."""
    chance = np.random.default_rng(8)
    many, days = 10_000_000, 30
    share = 0.5 + 0.1 * (np.arange(days) % 7 >= 5) + 0.05 * chance.normal(size=days)
    ones = np.rint(many * np.repeat(share, 24))[begins:].astype(np.int64)
    counts = np.stack([ones, many - ones, np.zeros_like(ones)], axis=1)
    flag = Chunks(begin=round(BEGIN.timestamp()) + begins * HOUR, slot_s=HOUR, starts=np.arange(2), counts=counts)
    whole = np.arange(1 if begins else 0, days)
    groups = [share[whole][whole % 7 == weekday] for weekday in range(7)]
    f, _ = stats.f_oneway(*groups)
    between, free = 6, len(whole) - 7
    determined = f * between / (f * between + free)
    assert explained(flag, "week") == pytest.approx(1 - (1 - determined) * (len(whole) - 1) / free, abs=1e-4)
