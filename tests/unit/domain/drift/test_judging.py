"""Drift: measures against exact computation, chance against simulation, bad input against every verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

from airflow_provider_mlpipex.domain.drift import chi_square, divergence
from airflow_provider_mlpipex.domain.drift.attribution import alarm, attribute, rank
from airflow_provider_mlpipex.domain.drift.judging import check, check_column, compare
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins
from airflow_provider_mlpipex.domain.drift.references import SCORE, ColumnReference, Reference, make_reference
from airflow_provider_mlpipex.domain.drift.report import (
    DEFAULT_LIMITS,
    MEASURES,
    Attribution,
    ColumnDrift,
    DriftReport,
    Measure,
    RankedDrift,
)
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, merge
from airflow_provider_mlpipex.domain.errors import SketchUnusable

Floats = NDArray[np.float64]
LETTERS = np.array(list("abcdefgh"), dtype=object)
COMMON = [0.4, 0.2, 0.15, 0.1, 0.08, 0.04, 0.02, 0.01]


def generator(seed: int = 20130101) -> np.random.Generator:
    return np.random.default_rng(seed)


def reference_of(values: Any) -> ColumnReference:
    return make_reference({"x": values}).columns["x"]


def sketch_of(reference: ColumnReference, values: Any) -> Sketch:
    return Reference(columns={"x": reference}).sketch({"x": values})["x"]


def measured(trained: Any, served: Any, measure: Measure) -> float:
    reference = reference_of(trained)
    return float(divergence.distance(measure, compare(reference, sketch_of(reference, served))))


def judged(trained: Any, served: Any, limits: Mapping[Measure, float] = DEFAULT_LIMITS) -> ColumnDrift:
    report = check(make_reference({"x": trained}), make_reference({"x": trained}).sketch({"x": served}), limits=limits)
    drift = report.of("x")
    assert drift is not None and report.verdict == drift.verdict
    return drift


# -- against exact computation


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 20, 49, 300, 1015, 20_000])
def test_chi_square_agrees_with_scipy(degrees: int) -> None:
    for statistic in [0.0, 1e-9, 0.1, *(degrees * factor for factor in (0.2, 0.7, 0.99, 1.0, 1.01, 1.5, 3.0, 10.0))]:
        expected = stats.chi2.sf(statistic, degrees)
        assert chi_square.survival(statistic, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-290)
    for probability in (0.99, 0.5, 0.05, 0.001, 1e-8):
        expected = stats.chi2.isf(probability, degrees)
        assert chi_square.exceeded_with(probability, degrees) == pytest.approx(expected, rel=1e-8)
    assert chi_square.survival(math.inf, degrees) == 0.0


@pytest.mark.parametrize(("statistic", "degrees"), [(-1.0, 3), (math.nan, 3), (1.0, 0)])
def test_chi_square_refuses_what_has_no_p_value(statistic: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="chi-square needs"):
        chi_square.survival(statistic, degrees)


@pytest.mark.parametrize("probability", [0.0, 1.0, math.nan])
def test_chi_square_refuses_probabilities_that_are_none(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        chi_square.exceeded_with(probability, 3)


@given(st.lists(st.tuples(st.integers(20, 5000), st.integers(20, 5000)), min_size=2, max_size=12))
def test_the_chi_square_test_agrees_with_scipy(table: list[tuple[int, int]]) -> None:
    one, other = (np.array(column, dtype=float) for column in zip(*table, strict=True))
    found = divergence.chi_square_test(one, other)
    expected = stats.chi2_contingency([one, other], correction=False)
    if expected.expected_freq.min() >= 5:
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
        assert found.p_value == pytest.approx(expected.pvalue, rel=1e-8, abs=1e-250)
        assert found.degrees == expected.dof


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12))
def test_the_chi_square_test_puts_small_cells_together(table: list[tuple[int, int]]) -> None:
    one, other = (np.array(column, dtype=float) for column in zip(*table, strict=True))
    found = divergence.chi_square_test(one, other)
    assert 0.0 <= found.p_value <= 1.0 and 0 <= found.degrees < len(table)
    if found.degrees:
        # Every cell left holds at least five expected rows on the smaller side, so so many cells fit at most.
        assert min(one.sum(), other.sum()) >= divergence.MIN_EXPECTED * (found.degrees + 1) * 0.999


def test_psi_agrees_with_a_direct_computation_from_rows() -> None:
    trained, served = generator().normal(size=50_000), generator(2).normal(0.3, 1.2, size=7000)
    bins = reference_of(trained).bins
    assert isinstance(bins, NumericBins)
    found = measured(trained, served, "psi")
    for cuts, precision in (
        (bins.edges[bins.starts[1:] - 1], 1e-12),
        (np.quantile(trained, np.arange(1, 20) / 20), 0.01),
    ):
        p, q = (np.bincount(np.searchsorted(cuts, rows), minlength=20) / len(rows) for rows in (trained, served))
        assert found == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=precision)


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), min_size=2, max_size=30))
def test_psi_and_jensen_shannon_are_the_textbook_ones_where_no_bin_is_empty(table: list[tuple[int, int]]) -> None:
    one, other = (np.array(column, dtype=float) for column in zip(*table, strict=True))
    p, q = one / one.sum(), other / other.sum()
    psi = float(divergence.population_stability(one, other))
    assert psi == pytest.approx(float(((q - p) * np.log(q / p)).sum()), abs=1e-12)
    assert psi == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), abs=1e-9)
    # Square roots of rounding errors: 1e-7 is as near as two equal distributions can be told to be.
    assert float(divergence.jensen_shannon(one, other)) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)


def test_jensen_shannon_knows_its_ends() -> None:
    assert float(divergence.jensen_shannon(np.array([3.0, 0.0]), np.array([0.0, 9.0]))) == 1.0
    assert float(divergence.jensen_shannon(np.array([3.0, 1.0]), np.array([9.0, 3.0]))) == 0.0


PAIRS: dict[str, tuple[Floats, Floats]] = {
    "same": (generator(1).normal(size=20_000), generator(2).normal(size=20_000)),
    "shifted": (generator(1).normal(size=20_000), generator(2).normal(0.1, 1, size=3000)),
    "wider": (generator(1).normal(size=20_000), generator(2).normal(0, 3, size=3000)),
    "skewed": (generator(1).lognormal(1, 1.5, size=20_000), generator(2).lognormal(1.2, 1.4, size=3000)),
    "far": (generator(1).normal(size=20_000), generator(2).normal(30, 1, size=3000)),
    "counts": (generator(1).poisson(3, 20_000).astype(float), generator(2).poisson(3.3, 3000).astype(float)),
    "many counts": (generator(1).poisson(2e6, 20_000).astype(float), generator(2).poisson(2e6, 3000).astype(float)),
    "zeros": (
        np.where(generator(1).random(20_000) < 0.6, 0.0, generator(3).exponential(size=20_000)),
        np.where(generator(2).random(3000) < 0.6, -1e-9, generator(4).exponential(size=3000)),
    ),
    "flags": (generator(1).integers(0, 2, 20_000).astype(float), generator(2).random(3000).round(1)),
    "few": (generator(1).normal(size=40), generator(2).normal(0.5, 1, size=3000)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_ks_agrees_with_scipy_to_8e_4(name: str) -> None:
    trained, served = PAIRS[name]
    exact = stats.ks_2samp(trained, served).statistic
    found = measured(trained, served, "ks")
    resolution = reference_of(trained).bins.resolution(reference_of(trained).sketch)
    assert exact - 8e-4 <= exact - resolution - 1e-12 <= found <= exact + 1e-12


#: Apart by more than float width, or the same.
DECIMALS = st.floats(-6, 6).map(lambda value: round(value, 4))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 5) | DECIMALS, min_size=1, max_size=80), st.lists(DECIMALS, min_size=1))
def test_ks_is_exact_for_few_training_rows(trained: list[float], served: list[float]) -> None:
    everywhere = np.sort([*trained, *served])
    below = (np.searchsorted(np.sort(rows), everywhere, side="right") / len(rows) for rows in (trained, served))
    exact = float(np.abs(np.subtract(*below)).max())
    assert measured(np.array(trained, dtype=float), np.array(served), "ks") == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "flags"])
def test_wasserstein_agrees_with_scipy_in_standard_deviations(name: str) -> None:
    trained, served = PAIRS[name]
    exact = stats.wasserstein_distance(trained, served) / trained.std()
    assert measured(trained, served, "wasserstein") == pytest.approx(exact, rel=0.01, abs=3e-3)


def test_wasserstein_spreads_values_evenly_where_training_had_none() -> None:
    """Between 0 and 1 there is one bin only: what a flag that became a share does there is known roughly."""
    trained, served = PAIRS["flags"]
    exact = stats.wasserstein_distance(trained, served) / trained.std()
    assert measured(trained, served, "wasserstein") == pytest.approx(exact, rel=0.1)


def test_one_wild_value_cannot_hide_all_others() -> None:
    trained = generator().normal(size=5000)
    served = np.append(generator(2).normal(size=999), 1e300)
    assert measured(trained, served, "wasserstein") == pytest.approx(1024 / 1000, abs=0.1)
    drift = judged(trained, served)
    assert drift.verdict == "pass" and drift.mean is not None and drift.mean < 2


def test_pooled_windows_compare_like_the_rows_themselves() -> None:
    """Fifty merged minutes against one sketch of all their rows: every measure to the last bit."""
    trained, served = generator().gamma(2, size=9000), generator(2).gamma(2.2, size=5000)
    reference = reference_of(trained)
    merged = merge(sketch_of(reference, minute) for minute in np.array_split(served, 50))
    whole = sketch_of(reference, served)
    for measure in MEASURES:
        assert divergence.distance(measure, compare(reference, merged)) == divergence.distance(
            measure, compare(reference, whole)
        )


# -- chance

SAMPLERS: dict[str, Any] = {
    "normal": lambda r, rows: r.normal(size=rows),
    "counts": lambda r, rows: r.poisson(3, rows).astype(float),
    "zeros": lambda r, rows: np.where(r.random(rows) < 0.6, 0.0, r.exponential(size=rows)),
    "letters": lambda r, rows: r.choice(LETTERS, rows, p=COMMON),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("rows", [100, 1000])
def test_what_chance_does_is_foreseen(sampler: str, rows: int) -> None:
    """Without drift: the mean of every measure is as foreseen, and its bound is exceeded as seldom as told."""
    r, draws, alpha = generator(7), 400, 0.05
    reference = reference_of(SAMPLERS[sampler](r, 30_000))
    compared = [compare(reference, sketch_of(reference, SAMPLERS[sampler](r, rows))) for _ in range(draws)]
    for measure in compared[0].measures:
        found = np.array([float(divergence.distance(measure, one)) for one in compared])
        bounds = np.array([divergence.chance_bound(measure, one, alpha=alpha) for one in compared])
        expected = np.mean([float(divergence.by_chance(measure, one)) for one in compared])
        # KS of values with few steps is smaller than Kolmogorov's: the promise errs to the safe side.
        lowest = 0.6 if measure == "ks" else 0.85
        assert lowest <= found.mean() / expected <= 1.15, measure
        # 400 draws at 5 %: more than 33 has probability below 1 %; twice the rate is allowed for 5 rows a bin.
        assert (found > bounds).sum() <= (33 if rows > 100 else 50), measure


def test_twenty_columns_without_drift_raise_no_alarm() -> None:
    r = generator(11)
    false_alarms = 0
    reference = make_reference({f"c{i}": r.normal(size=5000) for i in range(20)})
    for rows in (30, 100, 300, 1000, 3000) * 12:
        sketches = reference.sketch({f"c{i}": r.normal(size=rows) for i in range(20)})
        report = check(reference, sketches, limits={measure: 0.02 for measure in MEASURES})
        false_alarms += report.verdict == "fail"
    assert false_alarms <= 3


def test_few_rows_are_inconclusive_unless_the_drift_is_gross() -> None:
    trained = generator().normal(size=10_000)
    drift = judged(trained, generator(2).normal(size=50))
    assert drift.verdict == "inconclusive" and "chance alone reaches" in drift.reason
    psi = drift.of("psi")
    assert psi is not None and psi.value > 0.2 and psi.verdict == "inconclusive"
    assert psi.by_chance == pytest.approx(19 * (1 / 50 + 1e-4), rel=0.25)
    assert judged(trained, generator(2).normal(3, 1, size=50)).verdict == "fail"


@pytest.mark.parametrize("measure", MEASURES)
def test_excess_takes_off_what_chance_adds(measure: Measure) -> None:
    reference = reference_of(generator().normal(size=5000))
    drifted = compare(reference, sketch_of(reference, generator(2).normal(0.8, 1, size=400)))
    value, chance = (float(take(measure, drifted)) for take in (divergence.distance, divergence.by_chance))
    left = float(divergence.excess(measure, drifted))
    assert 0 < left < value
    assert divergence.with_chance(measure, left, chance) == pytest.approx(value, rel=1e-12)
    # A thousandth of the rows, and chance does most of what is seen.
    few = compare(reference, sketch_of(reference, generator(2).normal(0, 1, size=40)))
    assert float(divergence.excess(measure, few)) < 0.6 * float(divergence.distance(measure, few))


def test_the_threshold_of_ks_allows_for_the_width_of_bins() -> None:
    trained = generator().normal(size=20_000)
    reference = reference_of(trained)
    ks = judged(trained, generator(2).normal(size=4000), {"ks": 0.1}).of("ks")
    resolution = reference.bins.resolution(reference.sketch)
    assert ks is not None and ks.threshold == pytest.approx(0.1 + ks.by_chance + resolution, rel=1e-12)
    assert 0 < resolution <= 7.4e-4


def test_a_reference_of_few_rows_is_named_because_no_traffic_will_mend_it() -> None:
    few, many = TRAINED[:100], np.tile(TRAINED, 5)
    assert "however many are served: the reference has 100 rows" in judged(few, np.tile(few, 200)).reason
    assert "however many" not in judged(many, TRAINED[:100]).reason


def test_enough_rows_decide() -> None:
    trained = generator().normal(size=10_000)
    same = judged(trained, generator(2).normal(size=5000))
    assert same.verdict == "pass" and {m.verdict for m in same.measures} == {"pass", None}
    moved = judged(trained, generator(2).normal(0.6, 1, size=5000))
    assert moved.verdict == "fail" and "beyond" in moved.reason
    psi = moved.of("psi")
    assert psi is not None and psi.limit == 0.2 and psi.threshold is not None
    assert 0.2 < psi.threshold < 0.25 and psi.value > psi.threshold
    assert moved.mean == pytest.approx(0.6, abs=0.05) and moved.reference_mean == pytest.approx(0.0, abs=0.05)
    assert max(shift.share - shift.reference_share for shift in moved.shifts) > 0.05


def test_the_p_value_of_categories_is_that_of_scipy() -> None:
    trained, served = generator().choice(LETTERS, 20_000, p=COMMON), generator(2).choice(LETTERS, 3000, p=COMMON)
    drift = judged(trained, served, {"chi_square": 0.3})
    table = [[(rows == letter).sum() for letter in LETTERS] for rows in (trained, served)]
    chi = drift.of("chi_square")
    assert chi is not None and chi.verdict == "pass"
    assert chi.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-8)


# -- bad input

TRAINED = generator().normal(size=4000)
CARRIERS = generator().choice(LETTERS, 4000, p=COMMON)
BAD: list[tuple[str, Any, Any, str, str]] = [
    ("no rows", TRAINED, np.zeros(0), "inconclusive", "no rows in the window"),
    ("no categories", CARRIERS, [], "inconclusive", "no rows in the window"),
    ("retyped to text", TRAINED, ["1.5"] * 1000, "error", "another type"),
    ("retyped to numbers", CARRIERS, np.ones(1000), "error", "another type"),
    ("one batch retyped", TRAINED, [*TRAINED[:980], *["1.5"] * 20], "error", "20 of 1000 rows are of another type"),
    ("a few odd values", TRAINED, [*TRAINED, "1.5", "2"], "pass", "2 unreadable"),
    ("infinities", TRAINED, np.append(TRAINED[:900], [np.inf] * 100), "error", "100 of 1000 rows are infinite"),
    ("two infinities", TRAINED, np.append(TRAINED, [np.inf, -np.inf]), "pass", "2 infinite"),
    ("infinite in training too", np.append(TRAINED, [np.inf] * 500), np.append(TRAINED, [np.inf] * 500), "pass", "500"),
    ("a fifth is NaN", TRAINED, np.append(TRAINED[:800], [np.nan] * 200), "fail", "200 nan (training 0.00%)"),
    ("all NaN", TRAINED, np.full(1000, np.nan), "fail", "1000 nan"),
    ("five NaN", TRAINED, np.full(5, np.nan), "inconclusive", "5 nan"),
    ("all null", CARRIERS, [None] * 1000, "fail", "1000 missing"),
    ("always a third NaN", np.append(TRAINED, [np.nan] * 2000), np.append(TRAINED, [np.nan] * 2000), "pass", "33.33%"),
    ("nothing in training, nothing served", np.full(900, np.nan), [None] * 900, "pass", "training had no usable value"),
    ("no text in training, none served", [None] * 900, [None] * 900, "pass", "training had no usable value"),
    ("something where training had nothing", np.full(900, np.nan), TRAINED, "fail", "training had no usable value"),
    ("a stuck sensor", TRAINED, np.full(1000, TRAINED[0]), "fail", "all 1000 usable values are"),
    ("a constant", np.full(1000, 3.0), np.full(1000, 3.0), "pass", "all 1000 usable values are 3"),
    ("a constant that moved", np.full(1000, 3.0), np.full(1000, 3.0000001), "fail", "psi"),
    ("a constant that fell", np.full(1000, 3.0), np.full(1000, -2.0), "fail", "psi"),
    ("a constant category", ["web"] * 1000, ["web"] * 1000, "pass", "within"),
    ("new categories", CARRIERS, np.append(CARRIERS[:900], ["z"] * 100), "fail", "psi"),
    ("only new categories", CARRIERS, ["z"] * 1000, "fail", "psi"),
    ("huge values", TRAINED, np.full(1000, 1.7e308), "fail", "psi"),
    ("one training row", [1.0], TRAINED, "inconclusive", "chance"),
    ("two alike", [1.0, 1.0], [1.0], "inconclusive", "chance"),
]


@pytest.mark.parametrize(("trained", "served", "verdict", "words"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_bad_input_gets_a_clear_verdict(trained: Any, served: Any, verdict: str, words: str) -> None:
    drift = judged(trained, served)
    assert (drift.verdict, words in drift.reason) == (verdict, True), drift.reason
    assert ColumnDrift.model_validate(json.loads(json.dumps(drift.to_json(), allow_nan=False))) == drift


def test_a_column_that_is_gone_is_an_error() -> None:
    reference = make_reference({"x": TRAINED, "y": CARRIERS})
    report = check(reference, reference.sketch({"y": CARRIERS}))
    gone = report.of("x")
    assert gone is not None and (gone.verdict, report.verdict) == ("error", "error")
    assert "4000 of 4000 rows have no such column" in gone.reason
    unsketched = check(reference, {"y": reference.columns["y"].sketch}).of("x")
    assert unsketched is not None and unsketched.verdict == "error" and "no sketch" in unsketched.reason


def test_a_sketch_of_another_release_is_an_error() -> None:
    stranger = make_reference({"x": TRAINED * 2}).columns["x"].sketch
    drift = check(make_reference({"x": TRAINED}), {"x": stranger}).of("x")
    assert drift is not None and drift.verdict == "error" and "different bins" in drift.reason
    with pytest.raises(SketchUnusable):
        attribute(reference_of(TRAINED), {"a": stranger})


def test_a_sketch_with_bins_that_do_not_exist_is_an_error() -> None:
    reference = reference_of(TRAINED)
    damaged = reference.sketch.to_json() | {"filled": [10**6], "counts": [5]}
    drift = check_column(reference, Sketch.from_json(damaged), limits=DEFAULT_LIMITS, alpha=0.01)
    assert drift.verdict == "error" and "rows in bin 1000000" in drift.reason


def test_nothing_to_judge_is_never_a_pass() -> None:
    assert check(Reference(columns={}), {}).verdict == "inconclusive"
    assert judged(CARRIERS, CARRIERS, {"ks": 0.1}).verdict == "inconclusive"
    assert judged(TRAINED, TRAINED, {}).verdict == "inconclusive"


def test_a_million_category_column_does_not_drift_because_its_values_are_new() -> None:
    trained = [f"user-{number}" for number in range(100_000)]
    served = [f"user-{number}" for number in range(200_000, 210_000)]
    same = judged(trained, served)
    assert same.verdict == "pass" and same.beyond_training is None
    assert judged(trained, ["user-1"] * 10_000).verdict == "fail"


def test_new_identifiers_are_no_drift_even_where_all_of_training_could_be_listed() -> None:
    trained = [f"order-{number}" for number in range(900)]
    served = [f"order-{number}" for number in range(5000, 9000)]
    assert judged(trained, served).verdict != "fail"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats() | st.none() | st.text(max_size=2) | st.integers(0, 3), min_size=1, max_size=60),
    st.lists(st.floats() | st.none() | st.text(max_size=2) | st.integers(0, 3), max_size=60),
)
def test_any_pair_of_columns_gets_a_verdict(trained: list[Any], served: list[Any]) -> None:
    drift = judged(trained, served, {measure: 0.1 for measure in MEASURES})
    assert drift.verdict in ("pass", "fail", "inconclusive", "error") and drift.reason
    for one in drift.measures:
        assert math.isfinite(one.value) and one.value >= 0 and math.isfinite(one.by_chance)
    if not served:
        assert drift.verdict == "inconclusive"


# -- damage


def scored(rows: int, seed: int, *, temperature: float, distance: float) -> tuple[dict[str, Floats], Floats]:
    """Scores follow the distance and hardly the temperature; ``noise`` belongs to nothing."""
    r = generator(seed)
    columns = {
        "temperature": r.normal(temperature, 1, rows),
        "distance": r.normal(distance, 1, rows),
        "noise": r.normal(size=rows),
    }
    logit = columns["distance"] + 0.03 * columns["temperature"] + r.normal(0, 0.5, rows)
    return columns, 1 / (1 + np.exp(-logit))


def ranked(**drift: float) -> tuple[DriftReport, tuple[RankedDrift, ...]]:
    trained, trained_scores = scored(40_000, 1, temperature=0.0, distance=0.0)
    served, served_scores = scored(6000, 2, **drift)
    reference = make_reference(trained, scores=trained_scores)
    sketches = reference.sketch(served, scores=served_scores)
    report = check(reference, sketches)
    return report, rank(reference, sketches, report)


def test_drift_is_ranked_by_its_damage_not_by_its_size() -> None:
    report, ranking = ranked(temperature=2.0, distance=0.35)
    by_name = {one.column: one for one in ranking}
    temperature, distance = by_name["temperature"], by_name["distance"]
    assert temperature.psi is not None and distance.psi is not None and temperature.psi > 10 * distance.psi
    assert [one.column for one in ranking] == ["distance", "temperature", "noise"]
    assert distance.influence == pytest.approx(0.75, abs=0.1) and temperature.influence == pytest.approx(0, abs=0.01)
    assert distance.damage == pytest.approx(0.3, abs=0.06) and by_name["noise"].damage == pytest.approx(0, abs=0.01)
    score = report.of(SCORE)
    assert score is not None and score.mean is not None and score.reference_mean is not None
    assert distance.score_shift == pytest.approx(score.mean - score.reference_mean, rel=0.25)


def test_chance_is_no_damage_and_no_influence() -> None:
    """Few rows move by themselves, most of all into groups where the score differs; and few rows explain anything."""
    damages, influences = [], []
    for seed in range(10):
        trained, trained_scores = scored(300, seed, temperature=0.0, distance=0.0)
        served, _ = scored(300, seed + 50, temperature=0.0, distance=0.0)
        reference = make_reference(trained, scores=trained_scores)
        sketches = reference.sketch(served)
        by_name = {one.column: one for one in rank(reference, sketches, check(reference, sketches))}
        damages.append(by_name["distance"].damage)
        influences.append(by_name["noise"].influence)
    assert np.mean([damage for damage in damages if damage is not None]) < 0.06
    assert np.mean([influence for influence in influences if influence is not None]) < 0.025


def test_a_feature_that_drifts_without_harm_raises_no_alarm() -> None:
    report, ranking = ranked(temperature=2.0, distance=0.0)
    assert report.verdict == "fail"
    verdict, reason = alarm(report, ranking)
    assert verdict == "pass" and "drifted without harm: temperature" in reason


def test_a_broken_column_is_not_forgiven_because_another_drifts_without_harm() -> None:
    trained, trained_scores = scored(20_000, 1, temperature=0.0, distance=0.0)
    served, served_scores = scored(5000, 2, temperature=2.0, distance=0.0)
    reference = make_reference(trained, scores=trained_scores)
    sketches = reference.sketch({**served, "noise": ["text"] * 5000}, scores=served_scores)
    report = check(reference, sketches)
    verdict, reason = alarm(report, rank(reference, sketches, report))
    assert (report.verdict, verdict) == ("fail", "error")
    assert "noise: 5000 of 5000 rows are of another type" in reason and "temperature" not in reason


def test_a_feature_that_moves_the_score_raises_an_alarm() -> None:
    report, ranking = ranked(temperature=0.0, distance=1.0)
    assert alarm(report, ranking)[0] == "fail"
    without_score = DriftReport(
        verdict="fail", reason="", columns=tuple(one for one in report.columns if one.column != SCORE)
    )
    verdict, reason = alarm(without_score, ranking)
    assert verdict == "fail" and "distance (0." in reason and "temperature" not in reason


def test_damage_that_cannot_be_known_counts_as_harm() -> None:
    reference = make_reference({"x": TRAINED, "constant": np.ones(4000)})
    sketches = reference.sketch({"x": TRAINED + 2, "constant": np.ones(4000)})
    report = check(reference, sketches)
    ranking = rank(reference, sketches, report)
    assert ranking[0].column == "x" and ranking[0].damage is None and "not scored" in ranking[0].reason
    assert alarm(report, ranking) == ("fail", "drifted features that move the score: x (damage unknown)")


def test_ranking_survives_scores_and_windows_that_say_nothing() -> None:
    flat = make_reference({"x": TRAINED}, scores=np.full(4000, 0.5))
    sketches = flat.sketch({"x": TRAINED + 2}, scores=np.full(4000, 0.5))
    assert "the same for all" in rank(flat, sketches, check(flat, sketches))[0].reason
    unscored = make_reference({"x": TRAINED}, scores=np.full(4000, np.nan))
    sketches = unscored.sketch({"x": TRAINED}, scores=np.full(4000, 0.5))
    assert rank(unscored, sketches, check(unscored, sketches))[0].damage is None
    empty = flat.empty()
    report = check(flat, empty)
    ranking = rank(flat, empty, report)
    assert ranking[0].reason == "no rows in the window"
    assert alarm(report, ranking)[0] == "inconclusive"
    assert alarm(check(flat, {}), ())[0] == "error"


def test_values_that_training_never_scored_are_named() -> None:
    r = generator(3)
    trained = r.choice(LETTERS[:4], 20_000)
    reference = make_reference({"carrier": trained}, scores=r.random(20_000))
    served = np.append(r.choice(LETTERS[:4], 2700), ["new"] * 300)
    scores = np.append(r.random(2700), np.full(300, 0.99))
    sketches = reference.sketch({"carrier": served}, scores=scores)
    (one,) = rank(reference, sketches, check(reference, sketches))
    assert one.damage is not None and one.damage > 0.1
    assert one.score_shift == pytest.approx(0.1 * 0.49, rel=0.1)
    assert one.reason.startswith("10% of rows have values that training hardly had")


# -- the batch that caused it


def batches(means: Sequence[float], *, rows: int = 600, seed: int = 5) -> tuple[ColumnReference, dict[str, Sketch]]:
    reference = reference_of(generator(seed).normal(size=50_000))
    r = generator(seed + 1)
    return reference, {f"b{i}": sketch_of(reference, r.normal(mean, 1, rows)) for i, mean in enumerate(means)}


@pytest.mark.parametrize("measure", MEASURES)
def test_the_one_bad_batch_is_named_first_and_carries_nearly_all(measure: Measure) -> None:
    reference, window = batches([0.0] * 7 + [3.0] + [0.0] * 4)
    found = attribute(reference, window, measure=measure)
    assert found.conclusive and found.batches[0].batch == "b7"
    assert found.batches[0].share > 0.85 > 0.1 > found.batches[1].share
    assert "batch b7 carries" in found.reason and f"of {measure}" in found.reason
    assert Attribution.model_validate(json.loads(json.dumps(found.to_json()))) == found


def test_a_share_is_what_the_drift_loses_when_the_batch_is_left_out() -> None:
    """Against doing it the long way: merging all other batches, for every batch and measure."""
    reference, window = batches([0.0, 0.1, 2.5, -0.3, 1.2, 0.0, 0.4])
    window["empty"] = sketch_of(reference, [])
    window["odd"] = sketch_of(reference, [None, "text", np.inf, 50.0, -50.0])
    for measure in MEASURES:
        found = attribute(reference, window, measure=measure)
        whole = float(divergence.excess(measure, compare(reference, merge(window.values()))))
        assert found.drift == pytest.approx(whole, rel=1e-12)
        for share in found.batches:
            others = compare(reference, merge(sketch for name, sketch in window.items() if name != share.batch))
            left = float(divergence.excess(measure, others))
            assert share.carried == pytest.approx(min(1.0, max(0.0, 1 - left / whole)), abs=1e-9)
        assert sum(share.share for share in found.batches) + (found.spread or 0) == pytest.approx(1.0)
        assert [share.share for share in found.batches] == sorted((s.share for s in found.batches), reverse=True)
        assert {share.batch for share in found.batches} == set(window) - {"empty"}


def test_two_bad_batches_share_by_what_they_do() -> None:
    reference, window = batches([0.0] * 10 + [2.5, 2.5])
    equal = attribute(reference, window)
    assert {share.batch for share in equal.batches[:2]} == {"b10", "b11"}
    assert [share.share for share in equal.batches[:2]] == pytest.approx([0.5, 0.5], abs=0.05)
    reference, window = batches([0.0] * 10 + [2.0, 1.2])
    unequal = attribute(reference, window)
    assert [share.batch for share in unequal.batches[:2]] == ["b10", "b11"]
    assert 0.55 < unequal.batches[0].share < 0.8 and 0.2 < unequal.batches[1].share < 0.45


def test_a_drift_that_all_batches_share_is_blamed_on_none() -> None:
    reference, window = batches([1.0] * 12)
    found = attribute(reference, window)
    assert found.conclusive and found.spread is not None and found.spread > 0.8
    assert "shared by 12 batches" in found.reason


def test_the_only_batch_carries_everything() -> None:
    reference, window = batches([2.0])
    found = attribute(reference, window)
    assert [(share.batch, share.share) for share in found.batches] == [("b0", 1.0)]


def test_chance_is_not_blamed_on_any_batch() -> None:
    reference, window = batches([0.0] * 12)
    found = attribute(reference, window)
    assert not found.conclusive and not found.batches and "no more than chance" in found.reason


def test_a_batch_that_lost_its_values_is_found() -> None:
    reference, window = batches([0.0] * 9)
    window["b4"] = sketch_of(reference, [None] * 600)
    found = attribute(reference, window)
    assert found.batches[0].batch == "b4" and found.batches[0].share > 0.9


def test_a_batch_of_new_categories_is_found() -> None:
    reference = reference_of(CARRIERS)
    r = generator(3)
    window = {f"b{i}": sketch_of(reference, r.choice(LETTERS, 500, p=COMMON)) for i in range(8)}
    window["b2"] = sketch_of(reference, ["XX"] * 500)
    for measure in ("psi", "jensen_shannon", "chi_square"):
        assert attribute(reference, window, measure=measure).batches[0].batch == "b2"
    ordered = attribute(reference, window, measure="ks")
    assert not ordered.conclusive and "ks cannot be taken of a categorical column" in ordered.reason


def test_nothing_to_attribute_is_said() -> None:
    reference = reference_of(TRAINED)
    assert attribute(reference, {}).reason == "no rows in the window"
    assert attribute(reference, {"a": sketch_of(reference, [])}).reason == "no rows in the window"
    untrained = reference_of(np.full(5, np.nan))
    assert not attribute(untrained, {"a": sketch_of(untrained, [1.0])}).conclusive
