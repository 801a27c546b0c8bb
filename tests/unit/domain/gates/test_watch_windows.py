from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.watch_windows import beginnings, decisive, open_since
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
from tests.support.factories import NOON

MINUTE = timedelta(minutes=1)
WATCH = 30 * MINUTE


@pytest.mark.parametrize(
    ("window", "count"), [(None, 1), (WATCH, 1), (2 * WATCH, 1), (MINUTE, 60), (7 * MINUTE, 9), (20 * MINUTE, 3)]
)
def test_so_many_windows_begin_in_a_watch(window: timedelta | None, count: int) -> None:
    assert beginnings(window, WATCH) == count


@given(st.integers(1, 40), st.integers(0, 5000))
def test_windows_stand_on_a_grid_and_the_oldest_covers_what_is_asked(minutes: int, seconds: int) -> None:
    window, now = minutes * MINUTE, NOON + timedelta(seconds=seconds)
    open_windows = open_since(NOON, now, window=window, watch=WATCH)
    grid = [NOON + k * window / 2 for k in range(beginnings(window, WATCH))]
    assert list(open_windows) == sorted(open_windows)
    assert set(open_windows) <= set(grid)
    assert 1 <= len(open_windows) <= 3
    assert all(begin <= now for begin in open_windows)
    # Wherever so much time has passed, the oldest has lasted a window, and one began less than half of one ago.
    if now - NOON >= window:
        assert now - open_windows[0] >= window
    if now - NOON < WATCH and len(grid) > 1:
        assert now - open_windows[-1] < window / 2


def test_every_window_that_was_ever_open_is_counted() -> None:
    """The union bound pays for each; a look long after the planned end opens no more."""
    seen = {
        begin
        for second in range(0, 3 * 1800, 7)
        for begin in open_since(NOON, NOON + timedelta(seconds=second), window=MINUTE, watch=WATCH)
    }
    assert len(seen) == beginnings(MINUTE, WATCH)


def test_without_a_window_of_its_own_a_gate_has_one_that_never_ends() -> None:
    assert open_since(NOON, NOON + 3 * WATCH, window=None, watch=WATCH) == (NOON,)


GATE = Gate.model_validate({"name": "it", "metric": "serving.error_rate", "max": "2%", "window": "1m"})


def result(events: int, trials: int, alpha: float = 0.001):  # type: ignore[no-untyped-def]
    seen = Evidence(
        source="serving",
        metric="error_rate",
        value=events / trials,
        samples=trials,
        summary=Counted(events=events, trials=trials),
        since=NOON - MINUTE,
        until=NOON,
    )
    return judge(GATE, seen, now=NOON, alpha=alpha)


def test_a_failure_in_any_window_is_one_and_else_the_oldest_speaks() -> None:
    good, also_good, bad = result(0, 600), result(1, 300), result(60, 100)
    assert decisive([good, also_good]) == good
    assert decisive([good, also_good, bad]) == bad


def test_a_late_failure_is_not_diluted_by_a_good_past() -> None:
    """Half an hour of 10 requests a second without an error, then 10 % of them fail."""
    generator = random.Random(20130108)
    errors = [generator.random() < (0.1 if second >= 1700 * 10 else 0.0) for second in range(18_000)]
    alpha = 0.01 / beginnings(MINUTE, WATCH)

    def fails_at(second: int, begin: float, alpha: float) -> bool:
        window = errors[int(begin * 10) : second * 10]
        return bool(window) and result(sum(window), len(window), alpha).verdict == "fail"

    def first(windows: bool) -> int | None:
        for second in range(1700, 1800):
            now = NOON + timedelta(seconds=second)
            begins = open_since(NOON, now, window=MINUTE, watch=WATCH) if windows else (NOON,)
            of_each = alpha if windows else 0.01
            if any(fails_at(second, (begin - NOON).total_seconds(), of_each) for begin in begins):
                return second
        return None

    on_the_grid = first(windows=True)
    assert on_the_grid is not None and on_the_grid < 1700 + 45
    assert first(windows=False) is None
