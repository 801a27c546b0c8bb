"""The demo says beforehand how long it will take, and forecasts the rest at the pace of this machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_mlpipex import demo
from airflow_provider_mlpipex.demo.progress import EXPECTED_S, START_S, Progress, minutes


def test_every_step_of_the_story_has_its_forecast_in_the_story_s_order() -> None:
    sources = [
        (Path(demo.__file__).parent / f"{name}.py").read_text() for name in ("story", "outage", "keyed", "scored")
    ]
    steps = [step for source in sources for step in re.findall(r'scene\.step\(\s*"([^"]+)"', source)]
    assert sorted(steps) == sorted(EXPECTED_S)


def test_the_promise_is_four_minutes_to_production_and_ten_for_the_story() -> None:
    assert START_S + EXPECTED_S["first release"] < 4 * 60
    assert START_S + sum(EXPECTED_S.values()) < 10 * 60
    assert "15 steps" in Progress(began=0.0).beforehand()


def test_a_machine_that_is_three_times_slower_is_forecast_three_times_as_long() -> None:
    now = 3 * (START_S + 70)
    progress = Progress(began=0.0, expected={"first": 70, "second": 100, "third": 200}, clock=lambda: now)
    assert progress.before("second") == "Step 2 of 3, second (about 5 min; to the end about 15 min)"
    assert progress.before("third") == f"Step 3 of 3, third (about {minutes(200 * now / 215)}; to the end about 5 min)"


def test_a_step_without_a_forecast_is_refused() -> None:
    with pytest.raises(KeyError, match="EXPECTED_S"):
        Progress(began=0.0).before("coffee")
