"""A few rows that training never had, spread evenly over all batches: what no measure and no single batch shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from airflow_provider_mlpipex.domain.drift.astray import find_astray
from airflow_provider_mlpipex.domain.drift.attribution import alarm, rank
from airflow_provider_mlpipex.domain.drift.batch_faults import beyond_training
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import Reference, make_reference
from tests.unit.domain.drift.test_batch_faults import REFERENCE, rows_like_training, scores_of
from tests.unit.domain.drift.test_damage import ADDITIVE, ROWS, additive

WINDOW = 20_000
KINDS: dict[str, tuple[str, Any]] = {
    "-999": ("amount", -999.0),
    "null": ("amount", np.nan),
    "a new category": ("country", "??"),
}


def served(kind: str | None, *, share: float, seed: int = 5, rows: int = WINDOW) -> dict[str, Any]:
    chance = np.random.default_rng(seed)
    window = rows_like_training(chance, rows)
    if kind is not None:
        column, value = KINDS[kind]
        window[column][chance.random(rows) < share] = value
    return window


def looked_at(rows: dict[str, Any], reference: Reference = REFERENCE) -> tuple[str, str]:
    sketches = reference.sketch(rows, scores=scores_of(rows))
    report = check(reference, sketches)
    return alarm(report, rank(reference, sketches, report))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.008])
def test_a_few_rows_that_training_never_had_are_a_drift(kind: str, share: float) -> None:
    column, rows = KINDS[kind][0], served(kind, share=share)
    report = check(REFERENCE, REFERENCE.sketch(rows, scores=scores_of(rows)))
    drift = report.of(column)
    assert drift is not None and drift.verdict == "fail" and "in training 0.00%" in drift.reason
    assert all(measured.verdict == "pass" for measured in drift.measures if measured.verdict), "no measure sees them"
    # Of an old reference it is known by association whether a column moves the score: the country does not.
    verdict, reason = looked_at(rows)
    assert column in reason and verdict == ("fail" if column == "amount" else "pass")


def test_honest_windows_raise_none() -> None:
    beyond = 0
    for seed in range(200):
        rows = served(None, share=0.0, seed=100 + seed, rows=2_000)
        sketches = REFERENCE.sketch(rows, scores=scores_of(rows))
        assert not any(find_astray(column, sketches[name]) for name, column in REFERENCE.columns.items())
        beyond += beyond_training(REFERENCE.columns["unused"], sketches["unused"])
    assert beyond > 0, "some lie a little beyond the largest of training"


def test_a_day_hotter_than_any_before_is_no_fault() -> None:
    rows = served(None, share=0.0)
    hottest = REFERENCE.columns["unused"].sketch.maximum
    rows["unused"] = np.minimum(rows["unused"], hottest)
    rows["unused"][:600] = hottest + 0.8
    sketch = REFERENCE.sketch(rows, scores=scores_of(rows))["unused"]
    assert not find_astray(REFERENCE.columns["unused"], sketch)
    rows["unused"][:600] = hottest + 8.0
    (found,) = find_astray(REFERENCE.columns["unused"], REFERENCE.sketch(rows, scores=scores_of(rows))["unused"])
    assert found.rows >= 600


def test_the_chance_of_so_many_is_fishers() -> None:
    rows = served("null", share=0.02, rows=2_000)
    sketch = REFERENCE.sketch(rows, scores=scores_of(rows))["amount"]
    (found,) = find_astray(REFERENCE.columns["amount"], sketch)
    table = [[found.rows, 2_000 - found.rows], [0, 20_000]]
    assert found.p_value == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-6)


def test_what_was_missing_in_training_too_is_no_news() -> None:
    learned = served("null", share=0.02, seed=1)
    reference = make_reference(learned, scores=scores_of(learned))
    assert looked_at(served("null", share=0.035, seed=2), reference)[0] == "pass"


@pytest.mark.parametrize(("column", "alarms"), [("weather", "fail"), ("day", "pass")])
def test_of_a_column_that_the_model_does_not_use_nobody_is_woken(column: str, alarms: str) -> None:
    chance = np.random.default_rng(8)
    taken = chance.integers(0, len(ROWS["weather"]), 6_000)
    rows = {name: values[taken].copy() for name, values in ROWS.items()}
    scores = additive(rows)
    rows[column][chance.random(6_000) < 0.02] = -999.0
    sketches = ADDITIVE.sketch(rows, scores=scores)
    report = check(ADDITIVE, sketches)
    drift = report.of(column)
    assert drift is not None and drift.verdict == "fail" and "beyond what training had" in drift.reason
    verdict, reason = alarm(report, rank(ADDITIVE, sketches, report))
    assert verdict == alarms and column in reason
