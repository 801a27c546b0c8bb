"""The day's cycle is no drift: looks inside the reference month, looks at the month after, and faults of one day.

Columns that go with the hour, the weekend and the weather, one that goes with nothing, a category that goes with the
hour, and the number of the day, which the model does not use. Each method sees the same windows: ours as it was
(limits and chance alone), ours with its defaults, which take the season that the reference asks for, ours with a season
that somebody names, Evidently's ``DataDriftPreset`` with
its defaults (an alarm is any drifted column), and NannyML's documented default, written out here: Jensen-Shannon
distance of day chunks, alarm beyond their mean and three standard deviations.

``python -m benchmarks drift_cycle``
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from airflow_provider_mlpipex.domain.drift.attribution import alarm, harmful, rank
from airflow_provider_mlpipex.domain.drift.chunks import Window
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference, make_reference, with_effects
from airflow_provider_mlpipex.domain.drift.report import Season
from airflow_provider_mlpipex.domain.drift.season import chosen, in_season
from benchmarks.table import Bar, Table

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
DAYS, ROWS_AN_HOUR = 28, 60
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
USED = ("cycle", "week", "weather", "steady")
#: Share of the reference that Evidently gets: it takes seconds for a whole month.
_SAMPLE = 5000
Rows = dict[str, Any]
#: Rows of a window and the window -> the columns that raise an alarm.
Method = Callable[[Rows, Window], set[str]]


@dataclass(frozen=True)
class Month:
    rows: Rows
    seconds: Any

    def window(self, since: datetime, length: timedelta) -> Rows:
        first, end = since.timestamp(), (since + length).timestamp()
        inside = (self.seconds >= first) & (self.seconds < end)
        return {name: values[inside] for name, values in self.rows.items()}


def month(first_day: int, *, seed: int) -> Month:
    chance = np.random.default_rng(seed)
    hours = np.arange(DAYS * 24) + first_day * 24
    weather = np.zeros(len(hours))
    kept = np.exp(-1 / 36)  # of the deviation after an hour: weather of a day and a half
    for at, noise in enumerate(chance.normal(size=len(hours))):
        weather[at] = kept * weather[at - 1] + np.sqrt(1 - kept**2) * noise if at else noise
    busy = ROWS_AN_HOUR * (1 + 0.6 * np.sin(2 * np.pi * (hours % 24 - 9) / 24))
    of = np.repeat(np.arange(len(hours)), busy.astype(int))
    hour, rows = hours[of], len(of)
    wave = np.sin(2 * np.pi * (hour % 24) / 24)
    return Month(
        {
            "cycle": wave + chance.normal(size=rows),
            "week": 0.8 * wave + 0.8 * (hour // 24 % 7 >= 5) + chance.normal(size=rows),
            "weather": 0.5 * wave + 0.2 * weather[of] + 0.9 * chance.normal(size=rows),
            "steady": chance.normal(size=rows),
            "kind": np.where(chance.random(rows) < 0.4 + 0.3 * wave, "a", chance.choice(["b", "c"], rows)).astype(
                object
            ),
            "day": (hour // 24).astype(float),
        },
        BEGIN.timestamp() + hour * 3600.0 + chance.random(rows) * 3600.0,
    )


def scores_of(rows: Rows) -> Any:
    moved = rows["cycle"] + rows["week"] + rows["weather"] + rows["steady"] + 0.7 * (rows["kind"] == "a")
    return 1 / (1 + np.exp(-moved / 2))


def run(*, quick: bool = False) -> Table:
    trained, after = month(0, seed=1), month(DAYS, seed=2)
    methods = _methods(trained)
    looks = 6 if quick else 24
    table = Table(
        ("method", "6h inside", "24h inside", "7d inside", "24h of next month", "1 sd in a day, each feature")
    )
    for name, method in methods.items():
        few = max(4, looks // 3) if name.startswith("Evidently") else looks
        inside = {length: _share(method, trained, BEGIN, length, few) for length in (6 * HOUR, DAY, WEEK)}
        later = _share(method, after, BEGIN + DAYS * DAY, DAY, few)
        found = {column: _found(method, trained, after, column, few) for column in USED}
        table.rows.append(
            (
                name,
                *(f"{share:.0%}" for share in inside.values()),
                f"{later:.0%}",
                ", ".join(f"{column} {share:.0%}" for column, share in found.items()),
            )
        )
        if name == "ours: default":
            table.bars.append(
                Bar("looks inside the reference that alarm, worst length", max(inside.values()) * 100, 5, " %")
            )
            table.bars.append(Bar("looks at the month after that alarm", later * 100, 5, " %"))
            worst = min(found.values()) * 100
            table.bars.append(Bar("faults of 1 sd found on their day, worst feature", worst, 95, " %", at_least=True))
    table.bars.append(_night(methods, trained, looks))
    return table


def _share(method: Method, of: Month, first: datetime, length: timedelta, looks: int) -> float:
    """Share of windows that alarm, evenly over the month and so over the hours of the day."""
    room = (DAYS * DAY - length) / HOUR
    starts = [first + HOUR * float(at) for at in np.rint(np.linspace(0, room, looks))]
    alarms = [bool(method(of.window(since, length), Window(since=since, until=since + length))) for since in starts]
    return float(np.mean(alarms))


def _found(method: Method, trained: Month, after: Month, column: str, looks: int) -> float:
    """Share of days of the month after on which a shift of ``column`` by a standard deviation, up or down, is named."""
    deviation, named = float(np.std(trained.rows[column])), []
    for place, day in enumerate(np.rint(np.linspace(0, DAYS - 1, looks))):
        since = BEGIN + DAYS * DAY + float(day) * DAY
        rows = after.window(since, DAY)
        rows[column] = rows[column] + deviation * (1 if place % 2 else -1)
        named.append(column in method(rows, Window(since=since, until=since + DAY)))
    return float(np.mean(named))


def _night(methods: Mapping[str, Method], trained: Month, looks: int) -> Bar:
    """Windows of six hours around the lowest hour, moved up until they look like the mean of the day."""
    found = []
    for day in np.rint(np.linspace(0, DAYS - 1, looks)):
        since = BEGIN + float(day) * DAY + 15 * HOUR
        rows = trained.window(since, 6 * HOUR)
        rows["cycle"] = rows["cycle"] + 1.0
        found.append("cycle" in methods["ours: default"](rows, Window(since=since, until=since + 6 * HOUR)))
    what = "6 h that look like the mean of the day found"
    return Bar(what, float(np.mean(found)) * 100, 95, " %", at_least=True)


def _methods(trained: Month) -> dict[str, Method]:
    times = (trained.seconds * 1e9).astype("datetime64[ns]")
    untimed = make_reference(trained.rows, scores=scores_of(trained.rows))
    timed = make_reference(trained.rows, scores=scores_of(trained.rows), times=times)

    def answer(own: Any, column: str, others: Any) -> Any:
        asked = {name: values[own] for name, values in trained.rows.items()} | {column: trained.rows[column][others]}
        return [float(score) for score in scores_of(asked)]

    timed = with_effects(timed, trained.rows, answer)
    return {
        "ours before: limits and chance": _ours(untimed, "none"),
        "ours: default": _ours(timed, None),
        "ours: season: none": _ours(timed, "none"),
        "ours: season: day": _ours(timed, "day"),
        "ours: season: week": _ours(timed, "week"),
        "NannyML's default, written out: mean and 3 sd of day chunks": _chunk_deviations(trained),
        "Evidently DataDriftPreset": _evidently(trained),
    }


def _ours(reference: Reference, season: Season | Literal["none"] | None) -> Method:
    def judged(rows: Rows, window: Window) -> set[str]:
        found = chosen(reference, window) if season is None else None
        named = found.season if found else None if season == "none" else season
        window = Window(since=window.since, until=window.until, season=named)
        compared = in_season(reference, window)
        assert compared is not None
        sketches = compared.sketch(rows, scores=scores_of(rows))
        report = check(compared, sketches, window=window)
        ranking = rank(compared, sketches, report)
        if alarm(report, ranking)[0] != "fail":
            return set()
        score = report.of(SCORE)
        return {one.column for one in harmful(ranking)} | ({SCORE} if score and score.verdict == "fail" else set())

    return judged


def _chunk_deviations(trained: Month) -> Method:
    reference = make_reference(trained.rows)

    def distances(rows: Rows) -> dict[str, float]:
        report = check(reference, reference.sketch(rows))
        return {one.column: found.value for one in report.columns if (found := one.of("jensen_shannon"))}

    days = [distances(trained.window(BEGIN + day * DAY, DAY)) for day in range(DAYS)]
    bounds = {
        name: float(np.mean([day[name] for day in days]) + 3 * np.std([day[name] for day in days])) for name in days[0]
    }
    return lambda rows, _: {name for name, value in distances(rows).items() if value > bounds[name]}


def _evidently(trained: Month) -> Method:
    os.environ["DO_NOT_TRACK"] = "1"
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before = pd.DataFrame(trained.rows).sample(_SAMPLE, random_state=0)

    def judged(rows: Rows, _: Window) -> set[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = Report([DataDriftPreset()]).run(pd.DataFrame(rows), before).dict()["metrics"]
        return {
            metric["config"]["column"]
            for metric in found
            if metric["config"]["type"].endswith("ValueDrift")
            and (metric["value"] < metric["config"]["threshold"])
            == metric["config"].get("method", "").endswith("p_value")
        }

    return judged


if __name__ == "__main__":
    print(run().render())
