"""What every feature store promises: values as of each moment, every row accounted for, one digest a meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, FeatureMismatch
from airflow_provider_mlpipex.domain.features.service import plain
from airflow_provider_mlpipex.ports import FeatureStore
from tests.support.feature_stores import FeastHarness, Harness, MemoryHarness, view

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WIND = {"wind": "Float64", "gate": "String", "seats": "Int64"}
LATE = {"late_share": "Float64"}

WEATHER = view(
    "weather",
    "flight",
    WIND,
    ("UA1", NOON, 1.0, "A", 100),
    ("UA1", NOON + 2 * HOUR, 2.0, "B", 100),
    ("UA2", NOON + 3 * HOUR, 3.0, "C", 200),
    ("UA3", NOON, None, "D", 300),
)
ROUTES = view("routes", "route", LATE, (1, NOON - 24 * HOUR, 0.25), (1, NOON + HOUR, 0.5), (2, NOON, 0.75))


@pytest.fixture(params=[MemoryHarness, FeastHarness], ids=["memory", "feast"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    harness: Harness = request.param(tmp_path)
    harness.define(WEATHER, ROUTES, flights_v1=["weather"], both=["weather", "routes"])
    return harness


def rows(*asked: tuple[str, datetime], **more: Any) -> pd.DataFrame:
    table = pd.DataFrame(asked, columns=["flight", "at"]).astype({"at": "datetime64[us, UTC]"})
    return table.assign(**more)


def test_is_the_port(made: Harness) -> None:
    assert isinstance(made.store, FeatureStore)


def test_a_service_is_described(made: Harness) -> None:
    found = made.store.describe("flights-v1")
    assert (found.name, found.entities) == ("flights-v1", {"flight": "String"})
    assert found.features == {"gate": "String", "seats": "Int64", "wind": "Float64"}
    assert made.store.describe("both").entities == {"flight": "String", "route": "Int64"}


def test_each_row_gets_what_was_known_at_its_moment(made: Harness) -> None:
    asked = rows(("UA1", NOON + HOUR), ("UA1", NOON), ("UA1", NOON + 2 * HOUR), ("UA1", NOON + 50 * HOUR))
    joined = made.store.historical("flights-v1", asked, time_column="at")
    assert list(joined.frame["wind"]) == [1.0, 1.0, 2.0, 2.0]
    assert list(joined.frame["gate"]) == ["A", "A", "B", "B"]
    assert (joined.asked, joined.dropped, joined.unknown) == (4, (), ())


def test_the_future_does_not_leak(made: Harness) -> None:
    """Whatever is written later, a row's values stay those of its moment."""
    asked = rows(("UA1", NOON + HOUR), ("UA1", NOON + 2 * HOUR))
    before = made.store.historical("flights-v1", asked, time_column="at").frame
    later = [(f"UA{n}", NOON + (2 + n / 1e6) * HOUR, 99.0, "Z", 9) for n in (1, 2)]
    kept = [tuple(row) for row in WEATHER.rows.itertuples(index=False)]
    made.define(view("weather", "flight", WIND, *kept, *later))
    after = made.store.historical("flights-v1", asked, time_column="at").frame
    pd.testing.assert_frame_equal(before, after)


def test_rows_keep_order_columns_and_repetitions(made: Harness) -> None:
    asked = rows(("UA1", NOON + 2 * HOUR), ("UA1", NOON), ("UA1", NOON + 2 * HOUR), late=[1, 0, 1])
    asked.index = [7, 7, 3]
    joined = made.store.historical("flights-v1", asked.assign(wind=-1.0), time_column="at")
    assert list(joined.frame.index) == [0, 1, 2]
    assert list(joined.frame["late"]) == [1, 0, 1]
    assert list(joined.frame["wind"]) == [2.0, 1.0, 2.0], "the store's column, not the one that was there"
    assert joined.frame["at"].dtype == "datetime64[us, UTC]"
    assert list(joined.frame["at"]) == list(asked["at"])


def test_rows_without_an_earlier_value_are_dropped_and_counted(made: Harness) -> None:
    asked = rows(("UA2", NOON), ("UA1", NOON), ("UA1", NOON - HOUR), ("UA2", NOON + 3 * HOUR))
    joined = made.store.historical("flights-v1", asked, time_column="at")
    assert (joined.asked, joined.dropped) == (4, (0, 2))
    assert list(joined.frame.index) == [1, 3]
    counted = joined.counts
    assert (counted.asked, counted.dropped, counted.unknown, counted.lost_share) == (4, 2, 0, 0.5)


def test_an_unknown_entity_is_kept_as_missing_and_counted(made: Harness) -> None:
    asked = rows(("UA1", NOON), ("XX9", NOON))
    joined = made.store.historical("flights-v1", asked, time_column="at")
    assert (joined.dropped, joined.unknown) == ((), (1,))
    assert joined.frame.loc[1, ["wind", "gate", "seats"]].isna().all()
    assert list(joined.answered["flight"]) == ["UA1"]
    assert joined.answered["seats"].dtype == "int64"


BIG = 2**53 + 1


def test_large_integers_keep_every_digit(made: Harness) -> None:
    numbers = {"account": "Int64", "seats": "Int64", "wind": "Float64"}
    made.define(
        view("accounts", "flight", numbers, ("UA1", NOON, BIG, 1, 0.5), ("UA2", NOON, BIG + 2, 2, None)),
        accounts_v1=["accounts"],
    )
    asked = rows(("UA1", NOON), ("XX9", NOON), ("UA2", NOON), ("UA1", NOON + HOUR))
    joined = made.store.historical("accounts-v1", asked, time_column="at")
    assert joined.answered["account"].tolist() == [BIG, BIG + 2, BIG]
    assert joined.answered["account"].dtype == "int64"
    assert [plain(value) for value in joined.frame["account"]] == [BIG, None, BIG + 2, BIG]
    made.materialise(NOON)
    online = made.store.online("accounts-v1", [{"flight": "UA1"}, {"flight": "UA2"}], as_of=NOON)
    assert [row.values["account"] for row in online] == [BIG, BIG + 2]


def test_one_missing_value_is_no_unknown_entity(made: Harness) -> None:
    joined = made.store.historical("flights-v1", rows(("UA3", NOON)), time_column="at")
    assert (joined.dropped, joined.unknown) == ((), ())
    assert joined.frame["wind"].isna().all()
    assert list(joined.frame["gate"]) == ["D"]


def test_rows_without_key_or_moment_are_counted_as_dropped(made: Harness) -> None:
    asked = rows(("UA1", NOON), ("UA1", NOON), ("UA1", NOON))
    asked.loc[1, "flight"] = None
    asked.loc[2, "at"] = pd.NaT
    joined = made.store.historical("flights-v1", asked, time_column="at")
    assert (list(joined.frame.index), joined.dropped) == ([0], (1, 2))


def test_an_empty_table_gives_an_empty_frame(made: Harness) -> None:
    joined = made.store.historical("flights-v1", rows(), time_column="at")
    assert (joined.asked, len(joined.frame), joined.counts.lost_share) == (0, 0, 0.0)
    assert set(WIND) <= set(joined.frame.columns)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda table: table.drop(columns="flight"), "columns flight"),
        (lambda table: table.drop(columns="at"), "columns at"),
        (lambda table: table.assign(at=table["at"].dt.tz_localize(None)), "time zone"),
        (lambda table: table.assign(at="noon"), "time zone"),
        (lambda table: table.assign(flight=1), "column flight .*int64.*String"),
    ],
    ids=["no-entity", "no-moment", "no-time-zone", "no-timestamp", "key-of-another-type"],
)
def test_rows_that_cannot_be_joined_are_refused(
    made: Harness, spoil: Callable[[pd.DataFrame], pd.DataFrame], named: str
) -> None:
    with pytest.raises(DataQualityFailed, match=named):
        made.store.historical("flights-v1", spoil(rows(("UA1", NOON))), time_column="at")


def test_moments_in_another_time_zone_are_the_same_moments(made: Harness) -> None:
    asked = rows(("UA1", NOON + HOUR), ("UA1", NOON + 2 * HOUR))
    local = asked.assign(at=asked["at"].dt.tz_convert("America/New_York"))
    joined = made.store.historical("flights-v1", local, time_column="at")
    assert list(joined.frame["wind"]) == [1.0, 2.0]
    assert joined.frame["at"].dtype == local["at"].dtype


def test_several_views_each_as_of_the_moment(made: Harness) -> None:
    asked = rows(("UA1", NOON), ("UA1", NOON + 2 * HOUR), ("UA1", NOON), ("XX9", NOON), route=[1, 1, 3, 2])
    joined = made.store.historical("both", asked, time_column="at")
    assert list(joined.frame["wind"].fillna(-1)) == [1.0, 2.0, 1.0, -1]
    assert list(joined.frame["late_share"].fillna(-1)) == [0.25, 0.5, -1, 0.75]
    assert (joined.dropped, joined.unknown) == ((), ()), "half of the features is not nothing"


def test_a_row_that_one_view_cannot_answer_for_is_dropped(made: Harness) -> None:
    joined = made.store.historical("both", rows(("UA2", NOON), route=[1]), time_column="at")
    assert joined.dropped == (0,)


def test_values_expire(made: Harness) -> None:
    made.define(replace(WEATHER, ttl=2 * HOUR))
    asked = rows(("UA1", NOON + 4 * HOUR), ("UA1", NOON + 4.1 * HOUR), ("XX9", NOON))
    joined = made.store.historical("flights-v1", asked, time_column="at")
    assert (joined.dropped, joined.unknown) == ((1,), (2,))
    made.materialise(NOON + 4 * HOUR)
    keys = [{"flight": "UA1"}, {"flight": "XX9"}]
    fresh, nobody = made.store.online("flights-v1", keys, as_of=NOON + 4 * HOUR)
    assert (fresh.state, fresh.values["wind"], nobody.state) == ("found", 2.0, "unknown")
    stale, nobody = made.store.online("flights-v1", keys, as_of=NOON + 4.1 * HOUR)
    assert (stale.state, set(stale.values.values()), nobody.state) == ("expired", {None}, "unknown")


def test_online_answers_in_order(made: Harness) -> None:
    made.materialise(NOON + 10 * HOUR)
    keys = [{"flight": name} for name in ("UA2", "XX9", "UA3", "UA2")]
    answers = made.store.online("flights-v1", keys, as_of=NOON + 10 * HOUR)
    assert [answer.state for answer in answers] == ["found", "unknown", "found", "found"]
    assert dict(answers[0].values) == {"wind": 3.0, "gate": "C", "seats": 200} == dict(answers[3].values)
    assert answers[2].values["wind"] is None, "missing is None, not NaN"
    assert set(answers[1].values) == set(WIND)
    assert made.store.online("flights-v1", [], as_of=NOON) == []


@pytest.mark.parametrize("hours", [0.0, 1.0, 2.0, 3.0, 30.0])
def test_online_equals_offline_as_of_the_same_instant(made: Harness, hours: float) -> None:
    instant = NOON + hours * HOUR
    made.materialise(instant)
    asked = rows(*((flight, instant) for flight in ("UA1", "UA2", "UA3", "XX9")), route=[1, 2, 3, 2])
    offline = made.store.historical("both", asked, time_column="at").frame
    online = made.store.online("both", asked[["flight", "route"]].to_dict("records"), as_of=instant)
    assert len(offline) >= 3
    for at, expected in offline.iterrows():
        told = {name: None if pd.isna(expected[name]) else expected[name] for name in (*WIND, *LATE)}
        assert dict(online[at].values) == told  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "changed",
    [
        replace(WEATHER, ttl=HOUR),
        view("weather", "flight", {**WIND, "rain": "Float64"}, ("UA1", NOON, 1.0, "A", 1, 0.0)),
        view("weather", "flight", {"wind": "Float64", "gate": "String"}, ("UA1", NOON, 1.0, "A")),
        view("weather", "flight", {**WIND, "seats": "Float64"}, ("UA1", NOON, 1.0, "A", 1.0)),
        view("weather", "route", WIND, (1, NOON, 1.0, "A", 1)),
    ],
    ids=["ttl", "more-fields", "fewer-fields", "dtype", "entity"],
)
def test_another_definition_is_another_digest(made: Harness, changed: Any) -> None:
    before = made.store.describe("flights-v1")
    made.define(changed, flights_v1=["weather"])
    assert made.store.describe("flights-v1").digest != before.digest


def test_what_decides_no_value_does_not_change_the_digest(made: Harness) -> None:
    before = made.store.describe("flights-v1").digest
    made.define(replace(WEATHER, note="asked by the weather team"), flights_v1=["weather"])
    made.define(replace(ROUTES, ttl=HOUR), more=["routes"])
    kept = [tuple(row) for row in WEATHER.rows.itertuples(index=False)]
    made.define(view("weather", "flight", WIND, *kept, ("UA8", NOON, 1.0, "A", 1)))
    made.materialise(NOON)
    assert made.store.describe("flights-v1").digest == before
    assert made.store.describe("both").digest != before


def test_the_order_of_views_does_not_change_the_digest(made: Harness) -> None:
    made.define(forth=["weather", "routes"], back=["routes", "weather"])
    assert made.store.describe("forth").digest == made.store.describe("back").digest


def test_an_unknown_service_is_named_with_those_there_are(made: Harness) -> None:
    for ask in (
        lambda: made.store.describe("flights-v9"),
        lambda: made.store.historical("flights-v9", rows(), time_column="at"),
        lambda: made.store.online("flights-v9", [{"flight": "UA1"}], as_of=NOON),
    ):
        with pytest.raises(FeatureMismatch, match=r"flights-v9.*both, flights-v1"):
            ask()
