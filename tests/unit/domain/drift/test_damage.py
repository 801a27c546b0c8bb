"""What a column does to the score, by asking the model: known models say what must come out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from airflow_provider_mlpipex.domain.drift.attribution import alarm, rank
from airflow_provider_mlpipex.domain.drift.damage import rows_to_ask
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import Reference, make_reference, with_effects
from airflow_provider_mlpipex.domain.drift.report import RankedDrift

CHANCE = np.random.default_rng(3)
DAY = np.repeat(np.arange(30), 400)
WEATHER = CHANCE.normal(size=30)[DAY] + CHANCE.normal(0, 0.3, len(DAY))
ROWS: dict[str, Any] = {
    "weather": WEATHER,
    "day": DAY.astype(float),  # goes with the weather, and the model does not use it
    "side": CHANCE.normal(size=len(DAY)),
    "gap": np.where(CHANCE.random(len(DAY)) < 0.2, np.nan, CHANCE.normal(size=len(DAY))),
    "kind": CHANCE.choice(["a", "b", "c"], len(DAY)).astype(object),
}


def additive(rows: dict[str, Any]) -> Any:
    return 2.0 * rows["weather"] + np.where(rows["kind"] == "a", 1.0, 0.0) + np.nan_to_num(rows["gap"], nan=3.0)


def product(rows: dict[str, Any]) -> Any:
    """On average ``side`` does nothing; to each row it does much."""
    return rows["weather"] * rows["side"]


def measured(model: Any) -> Reference:
    def answer(own: Any, column: str, others: Any) -> Any:
        asked = {name: values[own] for name, values in ROWS.items()} | {column: ROWS[column][others]}
        return [float(score) for score in model(asked)]

    return with_effects(make_reference(ROWS, scores=model(ROWS)), ROWS, answer)


ADDITIVE = measured(additive)


def ranked(reference: Reference, rows: dict[str, Any], model: Any = additive) -> dict[str, RankedDrift]:
    sketches = reference.sketch(rows, scores=model(rows))
    return {one.column: one for one in rank(reference, sketches, check(reference, sketches))}


def test_a_column_that_goes_with_a_used_one_does_no_damage_itself() -> None:
    """One day of the reference itself: 0.52 standard deviations by association."""
    rows = {name: values[DAY == 12] for name, values in ROWS.items()}
    by_association = ranked(make_reference(ROWS, scores=additive(ROWS)), rows)
    assert by_association["day"].damage is not None and by_association["day"].damage > 0.3
    assert "by association" in by_association["day"].reason
    permuted = ranked(ADDITIVE, rows)
    assert (permuted["day"].damage, permuted["day"].influence) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert permuted["weather"].damage is not None and permuted["weather"].damage > 0.3


def test_an_unused_column_with_values_of_which_training_knows_nothing_wakes_nobody() -> None:
    rows = {name: values[:3000] for name, values in ROWS.items()} | {"day": np.full(3000, np.nan)}
    sketches = ADDITIVE.sketch(rows, scores=additive(rows))
    report = check(ADDITIVE, sketches)
    (day,) = (one for one in rank(ADDITIVE, sketches, report) if one.column == "day")
    assert (day.verdict, day.damage) == ("fail", pytest.approx(0.0, abs=1e-12))


def test_an_unused_column_makes_no_batch_faulty() -> None:
    away = ADDITIVE.effects("day")
    assert away is not None and not away.any() and not np.isnan(away).any()


def test_a_used_column_with_values_of_which_training_knows_nothing_is_harmful() -> None:
    rows = {name: values[:3000] for name, values in ROWS.items()} | {"weather": np.full(3000, np.nan)}
    sketches = ADDITIVE.sketch(rows, scores=np.full(3000, 0.5))
    ranking = rank(ADDITIVE, sketches, check(ADDITIVE, sketches))
    (weather,) = (one for one in ranking if one.column == "weather")
    assert weather.damage is None and "training did not have" in weather.reason
    assert alarm(check(ADDITIVE, sketches), ranking)[0] == "fail"


def test_influence_is_the_share_of_the_variance_that_the_model_moves() -> None:
    scores = additive(ROWS)
    expected = {
        "weather": np.var(2.0 * ROWS["weather"]) / np.var(scores),
        "kind": np.var(np.where(ROWS["kind"] == "a", 1.0, 0.0)) / np.var(scores),
        "gap": np.var(np.nan_to_num(ROWS["gap"], nan=3.0)) / np.var(scores),
        "side": 0.0,
    }
    for name, share in expected.items():
        effects = ADDITIVE.columns[name].effects
        assert effects is not None
        assert effects.influence == pytest.approx(share, rel=0.1, abs=1e-12)


def test_the_group_without_a_value_is_measured_too() -> None:
    """A gap counts as 3, where the mean is 0.6: (3 - 0.6) over the score's standard deviation."""
    effects = ADDITIVE.columns["gap"].effects
    assert effects is not None
    assert effects.mean[-1] == pytest.approx(2.4 / np.std(additive(ROWS)), rel=0.05)
    assert effects.away[-1] == pytest.approx(effects.mean[-1], rel=0.05)


def test_what_cancels_out_over_rows_is_damage_all_the_same() -> None:
    reference = measured(product)
    rows = {name: values[:3000] for name, values in ROWS.items()} | {"side": ROWS["side"][:3000] + 2.0}
    side = ranked(reference, rows, product)["side"]
    assert side.damage is not None and side.damage > 0.5
    shift = ranked(make_reference(ROWS, scores=product(ROWS)), rows, product)["side"]
    assert shift.damage is not None and shift.damage < side.damage


def test_effects_are_kept_and_old_references_have_none() -> None:
    stored = json.loads(json.dumps(ADDITIVE.to_json(), allow_nan=False))
    assert Reference.from_json(stored).to_json() == stored
    for column in stored["columns"].values():
        column.pop("effects", None)
    old = Reference.from_json(stored)
    assert all(column.effects is None for column in old.columns.values())
    assert old.effects("weather") is not None and old.effects("@score") is not None


def test_a_model_that_refuses_permuted_rows_is_known_by_association() -> None:
    reference = make_reference(ROWS, scores=additive(ROWS))
    refusing = with_effects(reference, ROWS, lambda own, column, others: [None] * len(own))
    assert refusing.to_json() == reference.to_json()


def test_asking_is_bounded() -> None:
    assert [rows_to_ask(columns, 21) for columns in (1, 20, 100, 100_000)] == [256, 238, 47, 32]
