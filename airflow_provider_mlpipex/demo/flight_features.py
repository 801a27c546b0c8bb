"""The flights' features as a Feast repository: schedule, weather and the history of route and carrier.

Everything about a flight is stamped with the moment from which it is known, always before its departure: the schedule
a week before, the weather as observed six hours and one hour before, the history at midnight, from arrivals of at
least two days earlier (a flight of yesterday may still be in the air). So a model learns from nothing that it could
not have been told in time.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_mlpipex.demo import flights
from airflow_provider_mlpipex.demo.flights import CATEGORIES, TARGET, TIME_COLUMN, WEATHER

if TYPE_CHECKING:
    import pandas as pd

SERVICE = "flights-v1"
ENTITY = "flight_id"
PLANNED = ("hour", "weekday", "sched_dep_time", *CATEGORIES, "distance")
HISTORY = ("route_late_share", "carrier_late_share")
#: What a model may learn from; ``features.columns`` of a manifest, in any order.
FEATURES = (*PLANNED, *WEATHER, *HISTORY)
#: Where the airports' clocks are, and what ``planted_skew`` mistakes for UTC.
AIRPORTS_ZONE = "America/New_York"

_MOMENT = "event_timestamp"
_PUBLISHED = timedelta(days=7)
_OBSERVED = (timedelta(hours=6), timedelta(hours=1))
#: Arrivals that a share is taken of: days, counted back from the day before yesterday.
_REMEMBERED_DAYS = 28
_CONFIG = """\
project: flights
provider: local
registry: registry.db
online_store: {type: sqlite, path: online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""

Skew = Literal["time-zone"]
#: Moments of departure, UTC: from the first up to, without, the second.
Window = tuple[datetime, datetime]
YEAR: Window = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC))


def entity_rows(start: datetime, end: datetime, *, corrupt: bool = False) -> pd.DataFrame:
    """A data source for manifests with ``features.service``: which flight, when, and whether it was late.

    :param corrupt: see :func:`flights.load`; here it costs labels.
    """
    rows = flights.load(start, end)[[ENTITY, TIME_COLUMN, TARGET]]
    return rows.assign(**{TARGET: rows[TARGET].where(rows.index % 7 != 0)}) if corrupt else rows


def write(folder: Path, *, departing: Window = YEAR) -> Path:
    """A Feast repository under ``folder``, its definitions applied, nothing online yet.

    :param departing: flights that it knows; their history begins with the first of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(_CONFIG, encoding="utf-8")
    every = flights.load(*departing)
    schedule = every[[ENTITY, *PLANNED]].assign(**{_MOMENT: every[TIME_COLUMN] - _PUBLISHED})
    tables = {"schedule": schedule, "weather": _weather_of(every), "history": _history_of(every)}
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    with _quiet():
        _feast(folder).apply(_definitions(folder))
    return folder


def bring_online(folder: Path, departing: Sequence[Window], *, planted_skew: Skew | None = None) -> None:
    """Load what is known of the flights of these windows into the online store.

    :param planted_skew: ``time-zone`` loads the weather as a job would that takes the airports' local time for UTC:
        it finds observations of four or five hours later. Loading again without it repairs that.
    """
    store = _feast(folder)
    with _quiet():
        for start, end in departing:
            store.materialize(start - _PUBLISHED, end - _PUBLISHED, feature_views=["schedule"])
            # The history of a flight stands from midnight on, at most a day before it leaves.
            store.materialize(start - timedelta(days=1), end, feature_views=["history"])
            weather = _weather_of(flights.load(start, end), local_time_as_utc=planted_skew == "time-zone")
            newest = weather.sort_values(_MOMENT).drop_duplicates(ENTITY, keep="last")
            store.write_to_online_store("weather", newest)


def _weather_of(departing: pd.DataFrame, *, local_time_as_utc: bool = False) -> pd.DataFrame:
    """One row a flight and observation; missing where the station reported none."""
    import pandas as pd

    observed = flights.weather()
    if local_time_as_utc:
        local = observed[TIME_COLUMN].dt.tz_convert(AIRPORTS_ZONE).dt.tz_localize(None)
        observed = observed.assign(**{TIME_COLUMN: local.dt.tz_localize("UTC")})
        # The hour that the clocks repeat in autumn.
        observed = observed.drop_duplicates(["origin", TIME_COLUMN])
    known = [
        departing[[ENTITY, "origin"]]
        .assign(**{TIME_COLUMN: departing[TIME_COLUMN] - before})
        .merge(observed, on=["origin", TIME_COLUMN], how="left", validate="many_to_one")
        .rename(columns={TIME_COLUMN: _MOMENT})
        for before in _OBSERVED
    ]
    return pd.concat(known, ignore_index=True)[[ENTITY, _MOMENT, *WEATHER]]


def _history_of(every: pd.DataFrame) -> pd.DataFrame:
    """Share of late arrivals on the same route, and of the same carrier from the same airport; missing before any."""
    day = every[TIME_COLUMN].dt.tz_convert(AIRPORTS_ZONE).dt.normalize()
    rows = every.assign(day=day.dt.tz_localize(None))
    shares = {"route_late_share": ["origin", "dest"], "carrier_late_share": ["carrier", "origin"]}
    for name, by in shares.items():
        rows = rows.merge(_late_share(rows, by, name), on=[*by, "day"], how="left", validate="many_to_one")
    return rows[[ENTITY, *HISTORY]].assign(**{_MOMENT: day.dt.tz_convert("UTC")})


def _late_share(rows: pd.DataFrame, by: list[str], name: str) -> pd.DataFrame:
    """Columns ``by``, ``day`` and ``name``: the share in the days remembered, as midnight of ``day`` knows it."""
    import pandas as pd

    daily = rows.groupby([*by, "day"])[TARGET].agg(["sum", "count"]).reset_index()
    days = pd.date_range(rows["day"].min(), rows["day"].max(), freq="D")
    late, flown = (
        daily.pivot_table(index="day", columns=by, values=counted, fill_value=0)
        .reindex(days, fill_value=0)
        .shift(2)
        .rolling(_REMEMBERED_DAYS, min_periods=1)
        .sum()
        for counted in ("sum", "count")
    )
    share = (late / flown.where(flown > 0)).rename_axis("day")
    return share.stack(by, future_stack=True).rename(name).reset_index()


def _definitions(folder: Path) -> list[Any]:
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, Int64, String

    flight = Entity(name="flight", join_keys=[ENTITY], value_type=ValueType.STRING)
    text = {name: String for name in CATEGORIES}
    whole = {name: Int64 for name in ("hour", "weekday", "sched_dep_time", "distance")}
    columns = {"schedule": PLANNED, "weather": WEATHER, "history": HISTORY}
    views: list[Any] = [
        FeatureView(
            name=name,
            entities=[flight],
            # A flight departs once: what is known of it does not expire.
            ttl=timedelta(0),
            schema=[Field(name=column, dtype=(text | whole).get(column, Float64)) for column in named],
            source=FileSource(name=name, path=str((folder / f"{name}.parquet").resolve()), timestamp_field=_MOMENT),
        )
        for name, named in columns.items()
    ]
    return [flight, *views, FeatureService(name=SERVICE, features=views)]


def _feast(folder: Path) -> Any:
    os.environ.setdefault("FEAST_USAGE", "False")
    from feast import FeatureStore

    return FeatureStore(repo_path=str(folder.resolve()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Feast talks while it works, and shows bars."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
