"""Each batch against all others: SciPy says what the tests must say, and simulation how often they may be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from airflow_provider_mlpipex.domain.drift.batch_faults import BatchCounts, counts_of, exact_tail, find_faults
from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference, make_reference
from airflow_provider_mlpipex.domain.drift.report import BatchFaults
from airflow_provider_mlpipex.domain.drift.served import REST

BATCHES, ROWS = 50, 400
KINDS = ["NL", "BE", "DE", "FR"]


def rows_like_training(chance: np.random.Generator, rows: int) -> dict[str, Any]:
    return {
        "amount": chance.gamma(4.0, 5.0, rows),
        "unused": chance.normal(size=rows),
        "country": chance.choice(KINDS, rows, p=[0.4, 0.3, 0.2, 0.1]).astype(object),
    }


def scores_of(rows: dict[str, Any]) -> Any:
    return 1.0 / (1.0 + np.exp(2.0 - np.nan_to_num(np.asarray(rows["amount"], dtype=float)) / 10.0))


def trained(rows: int = 20_000) -> Reference:
    learned = rows_like_training(np.random.default_rng(0), rows)
    return make_reference(learned, scores=scores_of(learned))


REFERENCE = trained()


def window(chance: np.random.Generator, faulty: dict[str, Any], *, batches: int = BATCHES) -> dict[str, BatchCounts]:
    """Batches ``b00`` to ``b49``; ``faulty`` name -> a function of its rows."""
    sketches = {}
    for number in range(batches):
        name, rows = f"b{number:02d}", rows_like_training(chance, ROWS)
        if name in faulty:
            faulty[name](rows)
        sketches[name] = REFERENCE.sketch(rows, scores=scores_of(rows))
    return {
        name: counts_of(column, {batch: sketch[name] for batch, sketch in sketches.items()})
        for name, column in REFERENCE.columns.items()
    }


def shifted(rows: dict[str, Any]) -> None:
    rows["amount"] = rows["amount"] + 10.0


def all_of(value: Any, column: str) -> Any:
    def broken(rows: dict[str, Any]) -> None:
        rows[column] = np.full(ROWS, value)

    return broken


def some_of(value: Any, column: str, every: int) -> Any:
    def broken(rows: dict[str, Any]) -> None:
        rows[column][::every] = value

    return broken


FAULTS = {
    "one standard deviation": (shifted, "amount"),
    "zeros": (all_of(0.0, "amount"), "amount"),
    "-999": (all_of(-999.0, "amount"), "amount"),
    "null": (all_of(np.nan, "amount"), "amount"),
    "a new category": (all_of("??", "country"), "country"),
    "-999 in 2% of its rows": (some_of(-999.0, "amount", 50), "amount"),
    "null in 2% of its rows": (some_of(np.nan, "amount", 50), "amount"),
    "a new category in 2% of its rows": (some_of("??", "country", 50), "country"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_faulty_batch_of_fifty_is_named_and_no_other(name: str) -> None:
    fault, column = FAULTS[name]
    found = find_faults(REFERENCE, window(np.random.default_rng(5), {"b07": fault})).faults
    assert {one.batch for one in found} == {"b07"}
    assert column in {one.column for one in found} <= {column, SCORE}
    assert all(one.rows == ROWS and one.p_value < 1e-6 for one in found)


def test_batches_that_are_all_alike_are_named_no_oftener_than_alpha() -> None:
    chance = np.random.default_rng(6)
    alarms = sum(bool(find_faults(REFERENCE, window(chance, {}), alpha=0.05).faults) for _ in range(40))
    # Of a chance of 5% a look, more than 6 of 40 come in 1 of 70 such runs; a fixed seed makes this one of the others.
    assert alarms <= 6


def test_the_certain_fault_comes_before_the_small_one() -> None:
    found = find_faults(
        REFERENCE, window(np.random.default_rng(7), {"b03": FAULTS["null in 2% of its rows"][0]} | {"b41": shifted})
    )
    assert list(dict.fromkeys(one.batch for one in found.faults)) == ["b41", "b03"]
    assert (found.batches, found.columns) == (BATCHES, len(REFERENCE.columns))


def test_of_few_batches_nobody_knows_what_is_usual() -> None:
    """Two weeks differ by their weather; rows that training never had are none the less told."""
    chance = np.random.default_rng(8)
    assert find_faults(REFERENCE, window(chance, {"b01": shifted}, batches=4)).faults == ()
    found = find_faults(REFERENCE, window(chance, {"b01": some_of(np.nan, "amount", 20)}, batches=2)).faults
    assert {one.batch for one in found} == {"b01"}
    found = find_faults(REFERENCE, window(chance, {"b01": shifted}, batches=5)).faults
    assert {one.batch for one in found} == {"b01"}


def test_a_batch_alone_has_nothing_to_be_compared_with() -> None:
    alone = find_faults(REFERENCE, window(np.random.default_rng(8), {"b00": shifted}, batches=1))
    assert alone == BatchFaults()
    assert find_faults(REFERENCE, {}) == BatchFaults()


def test_a_window_that_drifts_as_a_whole_has_no_faulty_batch() -> None:
    everywhere = {f"b{number:02d}": shifted for number in range(BATCHES)}
    assert find_faults(REFERENCE, window(np.random.default_rng(9), everywhere)).faults == ()


def test_rows_whose_batch_is_not_known_are_never_named() -> None:
    counts = window(np.random.default_rng(10), {"b07": shifted})
    renamed = {
        name: BatchCounts(
            batches=tuple(REST if batch == "b07" else batch for batch in own.batches),
            groups=own.groups,
            beyond=own.beyond,
        )
        for name, own in counts.items()
    }
    assert find_faults(REFERENCE, renamed).faults == ()


def test_damage_tells_a_column_that_the_score_does_not_depend_on() -> None:
    def both(rows: dict[str, Any]) -> None:
        shifted(rows)
        rows["unused"] = rows["unused"] + 1.0

    found = find_faults(REFERENCE, window(np.random.default_rng(11), {"b07": both})).faults
    damage = {one.column: one.damage for one in found}
    assert damage["unused"] is not None and damage["unused"] < 0.1
    assert damage["amount"] is not None and damage["amount"] > 1.0


@pytest.mark.parametrize("faulty", [None, 17])
def test_batches_that_differ_as_a_rule_are_not_faulty_for_it(faulty: int | None) -> None:
    """Each batch is of another hour of the day, and the column goes with the hour, as it did in training."""
    chance = np.random.default_rng(12)

    def of_hours(hours: Any) -> dict[str, Any]:
        return {"amount": chance.normal(size=len(hours)) + 0.7 * np.sin(2 * np.pi * hours / 24)}

    reference = make_reference(of_hours(np.arange(20_000) % 24))
    batches = {f"hour {hour}": of_hours(np.full(ROWS, hour)) for hour in range(24)}
    if faulty is not None:
        batches[f"hour {faulty}"]["amount"][:] = 0.0
    sketches = {batch: reference.sketch(rows)["amount"] for batch, rows in batches.items()}
    found = find_faults(reference, {"amount": counts_of(reference.columns["amount"], sketches)}).faults
    assert {one.batch for one in found} == (set() if faulty is None else {f"hour {faulty}"})


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_exact_tail_is_that_of_scipy(data: st.DataObject) -> None:
    among = data.draw(st.integers(1, 50_000))
    of, total = data.draw(st.integers(0, among)), data.draw(st.integers(0, among))
    found = data.draw(st.integers(max(0, of + total - among), min(of, total)))
    expected = stats.hypergeom.sf(found - 1, among, total, of)
    assert exact_tail(found, of=of, total=total, among=among) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_p_values_of_the_groups_are_those_of_scipy() -> None:
    counts = window(np.random.default_rng(13), {"b07": shifted})["amount"]
    at = counts.batches.index("b07")
    table = np.array([counts.groups.sum(axis=0) - counts.groups[at], counts.groups[at]])
    table = table[:, table.sum(axis=0) > 0]
    expected = stats.chi2_contingency(table, correction=False).pvalue
    found = find_faults(REFERENCE, {"amount": counts}).faults
    assert [one.p_value for one in found if one.kind == "values"] == [pytest.approx(expected, rel=1e-6, abs=1e-300)]


def test_what_is_named_is_what_benjamini_and_hochberg_name() -> None:
    """Among many weak faults: SciPy's adjusted p-values at most alpha, of as many tests as were made."""
    chance = np.random.default_rng(14)
    weak = {f"b{number:02d}": some_of(np.nan, "amount", 150 + 10 * number) for number in range(20)}
    counts = {"amount": window(chance, weak)["amount"]}
    everything = find_faults(REFERENCE, counts, alpha=0.999).faults
    tests = np.ones(3 * BATCHES)
    tests[: len(everything)] = [one.p_value for one in everything]
    for alpha in (0.5, 0.1, 0.01):
        adjusted = stats.false_discovery_control(tests)
        named = find_faults(REFERENCE, counts, alpha=alpha).faults
        assert len(named) == int((adjusted[: len(everything)] <= alpha).sum())
