from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import pandas as pd
import pytest

from airflow_provider_mlpipex.demo import flights
from airflow_provider_mlpipex.domain.release.training import TrainingContext
from airflow_provider_mlpipex.services.training.evaluation import evaluate

MARCH, APRIL = datetime(2013, 3, 1, tzinfo=UTC), datetime(2013, 4, 1, tzinfo=UTC)
#: As the demo's manifest sets them; see ``flights.train``.
PARAMETERS = {
    "max_iter": 150,
    "learning_rate": 0.05,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 200,
    "l2_regularization": 1.0,
}


def test_load_gives_the_flights_of_its_window() -> None:
    march = flights.load(MARCH, APRIL)
    assert tuple(march.columns) == flights.COLUMNS
    assert march["time_hour"].between(MARCH, APRIL, inclusive="left").all()
    assert march["flight_id"].is_unique
    assert set(march["late"]) == {0, 1}
    assert march["distance"].min() > 0
    assert march["temp"].notna().mean() > 0.99
    halves = [flights.load(MARCH, MARCH + timedelta(days=10)), flights.load(MARCH + timedelta(days=10), APRIL)]
    pd.testing.assert_frame_equal(pd.concat(halves, ignore_index=True), march)


def test_a_loaded_table_is_the_callers_own() -> None:
    mine = flights.load(MARCH, APRIL)
    mine.loc[:, "distance"] = 0
    assert flights.load(MARCH, APRIL)["distance"].min() > 0


def test_corrupt_rows_are_visibly_wrong() -> None:
    spoiled = flights.load(MARCH, APRIL, corrupt=True)
    assert (spoiled["distance"] < 0).any()
    assert spoiled["origin"].isna().any()
    assert len(spoiled) == len(flights.load(MARCH, APRIL))


def test_a_week_is_seven_days_and_its_fault_is_in_the_departures_alone() -> None:
    honest = flights.week("2013-07-03")
    moments = honest["time_hour"]
    assert (moments.min(), moments.max()) >= (datetime(2013, 7, 3, tzinfo=UTC), datetime(2013, 7, 9, 23, tzinfo=UTC))
    assert moments.max() < datetime(2013, 7, 10, tzinfo=UTC)
    faulty = flights.week("2013-07-03", fault="clock-times")
    minutes, shown = honest["sched_dep_time"], faulty["sched_dep_time"]
    assert minutes.max() < 24 * 60 < shown.max()
    assert (shown // 100 == minutes // 60).all() and (shown % 100 == minutes % 60).all()
    unspoiled = [column for column in flights.COLUMNS if column != "sched_dep_time"]
    pd.testing.assert_frame_equal(faulty[unspoiled], honest[unspoiled])


def auc(model: object, rows: pd.DataFrame) -> float:
    predictions = model.predict_proba(rows[list(flights.FEATURES)])  # type: ignore[attr-defined]
    return evaluate("binary", rows["late"], predictions)["auc"]


def fit(as_of: datetime) -> tuple[object, pd.DataFrame]:
    split = as_of - timedelta(days=30)
    rows = flights.load(split - timedelta(days=60), split)
    context = TrainingContext(features=rows[list(flights.FEATURES)], target=rows["late"], parameters=PARAMETERS, seed=7)
    return flights.train(context), flights.load(split, as_of)


#: The model of a moment, learned once: training is deterministic.
model_of = cache(fit)


def test_training_is_deterministic_and_answers_what_it_never_saw() -> None:
    first, evaluation = model_of(APRIL)
    again, _ = fit(APRIL)
    assert auc(first, evaluation) == auc(again, evaluation)
    unseen = evaluation.head(3).assign(dest="XXX", temp=float("nan"))
    assert first.predict_proba(unseen[list(flights.FEATURES)]).shape == (3, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("current_as_of", "challenger_as_of", "better"),
    [
        (datetime(2013, 4, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC), True),
        (datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 11, 1, tzinfo=UTC), False),
        (datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 12, 1, tzinfo=UTC), True),
    ],
    ids=["july", "november", "december"],
)
def test_the_demo_tells_a_true_story(current_as_of: datetime, challenger_as_of: datetime, better: bool) -> None:
    """The demo's gate is AUC + 0.5 % of the current model's: each challenger passes or fails by several times that."""
    current, _ = model_of(current_as_of)
    challenger, evaluation = model_of(challenger_as_of)
    gain = auc(challenger, evaluation) / auc(current, evaluation) - 1
    assert gain > 0.02 if better else gain < -0.02
