from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.errors import InvalidQuantity
from airflow_provider_mlpipex.domain.fields.quantities import (
    MAX_DURATION,
    format_duration,
    format_rate,
    format_ratio,
    parse_duration,
    parse_moment,
    parse_rate,
    parse_ratio,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("1h30m", 5400),
        ("120ms", 0.12),
        ("2 d", 172800),
        ("1w", 604800),
        ("1.5s", 1.5),
        ("0.5ms", 0.0005),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["30", "", "5x", "-5m", "5m!", "m", "1e3s", "99999w", "999999999999999w", "5m m"])
def test_durations_without_a_unit_or_sense_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuantity) as refused:
        parse_duration(text)
    assert refused.value.limit and refused.value.remedy


@given(st.timedeltas(min_value=timedelta(0), max_value=MAX_DURATION))
def test_a_duration_survives_being_written(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "ratio"), [("0.5%", 0.005), ("5%", 0.05), (0.05, 0.05), ("100%", 1.0), ("150 %", 1.5)]
)
def test_ratios_are_read_as_people_write_them(text: str | float, ratio: float) -> None:
    assert parse_ratio(text) == ratio


@pytest.mark.parametrize("text", [5, "5", "five", None, True, float("nan"), "%", "1e3%"])
def test_ratios_that_could_mean_two_things_are_refused(text: object) -> None:
    with pytest.raises(InvalidQuantity):
        parse_ratio(text)  # type: ignore[arg-type]


@given(st.floats(min_value=-1, max_value=1, allow_subnormal=False))
def test_a_ratio_survives_being_written(ratio: float) -> None:
    assert parse_ratio(format_ratio(ratio)) == ratio


@pytest.mark.parametrize(("text", "rate"), [("30/s", 30), ("1800/min", 30), ("36/h", 0.01), (2.5, 2.5), ("60 / m", 1)])
def test_rates_are_events_a_second(text: str | float, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["0/s", "-1/s", "30", "30/day", 0, float("inf"), True, None])
def test_rates_of_nothing_are_refused(text: object) -> None:
    with pytest.raises(InvalidQuantity):
        parse_rate(text)  # type: ignore[arg-type]


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_a_rate_survives_being_written(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == rate


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T14:03", datetime(2026, 3, 1, 14, 3, tzinfo=UTC)),
        ("2026-03-01T14:03:00+02:00", datetime(2026, 3, 1, 14, 3, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_moments_without_a_zone_are_utc(text: str, moment: datetime) -> None:
    assert parse_moment(text, what="--at") == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "14:03"])
def test_what_is_no_moment_is_refused_by_the_name_of_its_option(text: str) -> None:
    with pytest.raises(InvalidQuantity, match="--at.*ISO 8601"):
        parse_moment(text, what="--at")
