"""The flights' features in Feast: known in time, the same online and offline, and a planted skew that is caught."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.feast.features import FeastFeatures
from airflow_provider_mlpipex.demo import flight_features, flights
from airflow_provider_mlpipex.domain.features.parity import ParityReport
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.services.evidence import feature_parity
from airflow_provider_mlpipex.services.training import snapshots
from airflow_provider_mlpipex.testing.clock import ManualClock
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.factories import make_model, make_release

KNOWN = (datetime(2013, 3, 1, tzinfo=UTC), datetime(2013, 3, 22, tzinfo=UTC))
#: Flights that are asked for.
ASKED = (datetime(2013, 3, 19, tzinfo=UTC), datetime(2013, 3, 21, tzinfo=UTC))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ENDPOINT = EndpointRef.parse("production/flight-delay")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flight_features.write(tmp_path_factory.mktemp("flights"), departing=KNOWN)


@pytest.fixture(scope="module")
def store(repository: Path) -> FeastFeatures:
    return FeastFeatures(repository)


@pytest.fixture(scope="module")
def joined(store: FeastFeatures) -> pd.DataFrame:
    """Two days of flights with their features as of departure, by flight."""
    found = store.historical(flight_features.SERVICE, flight_features.entity_rows(*ASKED), time_column="time_hour")
    assert (found.dropped, found.unknown) == ((), ())
    return found.answered.set_index("flight_id")


def test_every_feature_is_in_the_service(store: FeastFeatures) -> None:
    service = store.describe(flight_features.SERVICE)
    service.require(columns=flight_features.FEATURES, entities=(flight_features.ENTITY,))


def test_a_flight_is_told_the_weather_of_an_hour_before(joined: pd.DataFrame) -> None:
    observed = flights.weather().set_index(["origin", "time_hour"])["temp"]
    for row in joined.sample(50, random_state=1).itertuples():
        assert row.temp == observed.get((row.origin, row.time_hour - timedelta(hours=1)))


def test_earlier_it_was_told_an_earlier_observation(store: FeastFeatures, joined: pd.DataFrame) -> None:
    rows = flight_features.entity_rows(*ASKED)
    early = store.historical(
        flight_features.SERVICE,
        rows.assign(time_hour=rows["time_hour"] - timedelta(hours=3)),
        time_column="time_hour",
    )
    observed = flights.weather().set_index(["origin", "time_hour"])["temp"]
    for row in early.frame.sample(50, random_state=1).itertuples():
        # Three hours of those six have passed.
        assert row.temp == observed.get((row.origin, row.time_hour - timedelta(hours=3)))


def test_history_is_of_arrivals_before_yesterday(joined: pd.DataFrame) -> None:
    past = flights.load(*KNOWN)
    past = past.assign(day=past["time_hour"].dt.tz_convert(flight_features.AIRPORTS_ZONE).dt.normalize())
    for row in joined.sample(50, random_state=2).itertuples():
        today = row.time_hour.tz_convert(flight_features.AIRPORTS_ZONE).normalize()
        known = past[past["day"] <= today - pd.DateOffset(days=2)]
        route = known[(known["origin"] == row.origin) & (known["dest"] == row.dest)]["late"]
        carrier = known[(known["origin"] == row.origin) & (known["carrier"] == row.carrier)]["late"]
        assert row.route_late_share == pytest.approx(route.mean(), nan_ok=True)
        assert row.carrier_late_share == pytest.approx(carrier.mean(), nan_ok=True)


def test_no_label_of_today_changes_a_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole history, computed again in a world where every flight of the last two days was late."""
    every = flights.load(*KNOWN)
    day = every["time_hour"].dt.tz_convert(flight_features.AIRPORTS_ZONE).dt.normalize()
    last = day.max()
    other = every.assign(late=every["late"].where(day < last - pd.DateOffset(days=1), 1))
    assert not other["late"].equals(every["late"])
    histories = [flight_features._history_of(table) for table in (every, other)]
    pd.testing.assert_frame_equal(*histories)


def manifest() -> Manifest:
    here = "airflow_provider_mlpipex.demo"
    raw: dict[str, Any] = {
        "apiVersion": "mlpipex/v1",
        "kind": "Deployment",
        "name": "flight-delay",
        "owner": {"team": "ml-platform", "contact": "on-call@localhost"},
        "model": {"name": "flight-delay"},
        "training": {"callable": f"{here}.flights:train", "task": "binary", "target": "late"},
        "runtime": {"version": "1.0.0", "environment": "provider"},
        "data": {
            "source": f"{here}.flight_features:entity_rows",
            "time_column": "time_hour",
            "window": {"train": "1d", "evaluate": "1d"},
        },
        "features": {
            "service": flight_features.SERVICE,
            "entities": [flight_features.ENTITY],
            "columns": list(flight_features.FEATURES),
            "parity": {"min_equal": "99.5%", "rows": 500},
        },
        "environments": {"production": {}},
    }
    return Manifest.model_validate(raw)


def check(store: FeastFeatures) -> tuple[str, str, ParityReport]:
    """The parity gate of a first release on the flights asked for."""
    world, of = memory_platform(clock=ManualClock(NOW)), manifest()
    snapshot, _ = snapshots.snapshot_dataset(
        of, ASKED[1], store=world.snapshots, validator=world.validator, features=store
    )
    model = make_model().model_copy(update={"dataset": snapshot})
    release: Release = make_release().model_copy(
        update={
            "model": model,
            "feature_service": flight_features.SERVICE,
            "feature_digest": store.describe(flight_features.SERVICE).digest,
        }
    )
    platform = replace(world, features=store)
    assert of.features.parity is not None
    found = feature_parity.measure(platform, of, of.features.parity, endpoint=ENDPOINT, release=release)
    judged = feature_parity.judge(platform, of, endpoint=ENDPOINT, release=release)[0]
    assert found.report is not None
    return judged.verdict, judged.reason, found.report


def test_parity_holds_and_a_planted_time_zone_is_caught_by_name(repository: Path, store: FeastFeatures) -> None:
    flight_features.bring_online(repository, [ASKED])
    verdict, _, report = check(store)
    assert (verdict, report.rows, report.equality) == ("pass", 500, 1.0)

    flight_features.bring_online(repository, [ASKED], planted_skew="time-zone")
    verdict, reason, report = check(store)
    assert verdict == "fail"
    assert report.equality is not None and report.equality < 0.5
    apart = {found.feature for found in report.features}
    assert {"temp", "humid"} <= apart <= set(flights.WEATHER), "schedule and history were not skewed"
    assert (
        f"{report.features[0].feature} differs in {report.features[0].unequal} of 500 rows (flight_id=2013-" in reason
    )

    flight_features.bring_online(repository, [ASKED])
    assert check(store)[0] == "pass", "loading again repairs it"
