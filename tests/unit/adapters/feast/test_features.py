"""What Feast does in its own way, beyond the contract of every feature store."""

from __future__ import annotations

import builtins
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.feast.entity_rows import MOMENT, rounds
from airflow_provider_mlpipex.adapters.feast.features import FeastFeatures
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, FeatureStoreUnavailable
from tests.support.feature_stores import FeastHarness, quiet, view

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEATHER = view("weather", "flight", {"wind": "Float64"}, ("UA1", NOON, 2.0), ("UA2", NOON, 3.0))


@pytest.fixture
def made(tmp_path: Path) -> FeastHarness:
    harness = FeastHarness(tmp_path)
    harness.define(WEATHER, flights_v1=["weather"])
    return harness


def with_demand(made: FeastHarness, code: str, *, request: str = "tail_wind") -> None:
    """Service ``gusty``: the wind, and what on-demand ``code`` makes of it and of a number in the request."""
    from feast import FeatureService, Field, RequestSource
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.transformation.pandas_transformation import PandasTransformation
    from feast.types import Float64

    scope: dict[str, Any] = {"pd": pd}
    exec(code, scope)
    with quiet():
        weather = made.feast().get_feature_view("weather")
        asked = RequestSource(name="asked", schema=[Field(name=request, dtype=Float64)])
        demand = OnDemandFeatureView(
            name="demand",
            sources=[weather, asked],
            schema=[Field(name="gust", dtype=Float64)],
            feature_transformation=PandasTransformation(udf=scope["gust"], udf_string=code),
            mode="pandas",
        )
    made.apply(demand, FeatureService(name="gusty", features=[weather, demand]))


DOUBLED = """\
def gust(inputs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd
    return pd.DataFrame({"gust": 2 * inputs["wind"] + inputs["tail_wind"]})
"""


def test_on_demand_features_are_the_same_online_and_offline(made: FeastHarness) -> None:
    with_demand(made, DOUBLED)
    made.materialise(NOON)
    service = made.store.describe("gusty")
    assert service.entities == {"flight": "String", "tail_wind": "Float64"}
    keys = [{"flight": "UA1", "tail_wind": 0.5}, {"flight": "UA2", "tail_wind": 0.25}]
    asked = pd.DataFrame(keys).assign(at=pd.Timestamp(NOON))
    offline = made.store.historical("gusty", asked, time_column="at").frame
    online = made.store.online("gusty", keys, as_of=NOON)
    assert list(offline["gust"]) == [4.5, 6.25] == [row.values["gust"] for row in online]


def test_another_transformation_is_another_digest(made: FeastHarness) -> None:
    with_demand(made, DOUBLED)
    before = made.store.describe("gusty").digest
    with_demand(made, DOUBLED)
    assert made.store.describe("gusty").digest == before
    with_demand(made, DOUBLED.replace("2 *", "3 *"))
    assert made.store.describe("gusty").digest != before


def test_what_an_on_demand_view_is_made_from_counts(made: FeastHarness) -> None:
    with_demand(made, DOUBLED)
    before = made.store.describe("gusty").digest
    made.define(view("weather", "flight", {"wind": "Float64"}, ("UA1", NOON, 2.0), ttl=HOUR))
    assert made.store.describe("gusty").digest != before


def test_one_user_and_several_items_at_one_moment_are_several_rows(made: FeastHarness) -> None:
    """Feast itself would give back one of them: it looks for doubles by the entities of the first view."""
    routes = view("routes", "route", {"late": "Float64"}, *((n, NOON, n / 10) for n in range(5)))
    made.define(routes, both=["weather", "routes"])
    rows = [{"flight": flight, "route": n} for n in range(5) for flight in ("UA1", "UA2")]
    asked = pd.DataFrame(rows).assign(at=pd.Timestamp(NOON))
    joined = made.store.historical("both", asked, time_column="at")
    assert (joined.dropped, joined.unknown) == ((), ())
    assert list(joined.frame["late"]) == [n / 10 for n in range(5) for _ in range(2)]
    assert list(joined.frame["wind"]) == [2.0, 3.0] * 5


def test_rounds_put_no_question_to_a_view_twice() -> None:
    asked = pd.DataFrame({"user": [1, 1, 2, 2, 1], "item": [1, 2, 1, 2, 1], MOMENT: [NOON] * 4 + [NOON + HOUR]})
    parts = list(rounds(asked, [("user",), ("item",)]))
    assert sum(map(len, parts)) == len(asked)
    for part in parts:
        for entity in ("user", "item"):
            assert not part.duplicated([entity, MOMENT]).any()
    assert len(list(rounds(asked, [("user", "item")]))) == 1, "nothing to part"


def test_asking_nothing_reads_nothing(tmp_path: Path) -> None:
    """A rollback must not wait for a feature store; building the port must not touch it."""
    FeastFeatures(tmp_path / "not there")


def test_a_folder_without_a_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"feature_store\.yaml.*MLPIPEX_FEATURE_REPOSITORY"):
        FeastFeatures(tmp_path).describe("flights-v1")


def test_without_feast_the_extra_is_named(made: FeastHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "feast":
            raise ModuleNotFoundError("No module named 'feast'")
        return real(name, *rest, **more)

    for module in [name for name in sys.modules if name.partition(".")[0] == "feast"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationInvalid, match=r"mlpipex\[feast\]"):
        FeastFeatures(made.folder).describe("flights-v1")


def test_a_store_whose_data_is_gone_is_unavailable(made: FeastHarness) -> None:
    made.materialise(NOON)
    (made.folder / "weather.parquet").unlink()
    asked = pd.DataFrame({"flight": ["UA1"], "at": [pd.Timestamp(NOON)]})
    with pytest.raises(FeatureStoreUnavailable, match=r"weather\.parquet") as away:
        made.store.historical("flights-v1", asked, time_column="at")
    assert away.value.transient
    assert made.store.online("flights-v1", [{"flight": "UA1"}], as_of=NOON)[0].values == {"wind": 2.0}


def test_a_store_that_was_never_brought_online_knows_nobody(made: FeastHarness) -> None:
    assert made.store.online("flights-v1", [{"flight": "UA1"}], as_of=NOON)[0].state == "unknown"
