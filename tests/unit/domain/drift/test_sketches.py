"""Sketches: they add up exactly, count every row somewhere, and stay bounded whatever arrives."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_mlpipex.domain.drift.categorical_bins import LISTED, TAIL_BINS, CategoricalBins
from airflow_provider_mlpipex.domain.drift.column_values import as_column
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins
from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference, make_reference
from airflow_provider_mlpipex.domain.drift.sketches import (
    OUTSIDE_BINS,
    Sketch,
    SketchKey,
    from_arrays,
    merge,
    merge_arrays,
    merge_by,
    to_arrays,
)
from airflow_provider_mlpipex.domain.errors import SketchUnusable
from airflow_provider_mlpipex.domain.names import EndpointRef

GENERATOR = np.random.default_rng(20130101)
ROWS = 5000
TRAINING: dict[str, Any] = {
    "delay": np.where(GENERATOR.random(ROWS) < 0.4, 0.0, GENERATOR.exponential(20.0, ROWS)),
    "carrier": GENERATOR.choice(np.array(["UA", "B6", "EV", "DL"], dtype=object), ROWS, p=[0.5, 0.3, 0.15, 0.05]),
}
REFERENCE = make_reference(TRAINING, scores=1 / (1 + np.exp(-TRAINING["delay"] / 20)))

numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1.5, 20.0, 1e300, -1.7976931348623157e308]),
    st.none(),
    st.integers(-(10**400), 10**400),
    st.sampled_from(["12", b"x", [1], {"a": 1}]),
)
labels = st.one_of(
    st.sampled_from(["UA", "B6", "EV", "DL", "", "never seen", "ü" * 300]),
    st.text(max_size=5),
    st.none(),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.sampled_from([b"x", [1], (1, [2]), {"a": 1}]),
)
scores = st.one_of(st.floats(0, 1), st.sampled_from([math.nan, math.inf, -1e300, 1e300]))
rows = st.lists(st.tuples(numbers, labels, scores), max_size=20)
Rows = list[tuple[Any, Any, float]]


def sketched(batch: Rows, reference: Reference = REFERENCE) -> dict[str, Sketch]:
    columns = {"delay": [row[0] for row in batch], "carrier": [row[1] for row in batch]}
    return reference.sketch(columns, scores=[row[2] for row in batch])


@given(rows, rows, rows)
def test_merging_is_exact_in_any_order_and_grouping(one: Rows, two: Rows, three: Rows) -> None:
    for column in (*TRAINING, SCORE):
        a, b, c = (sketched(batch)[column] for batch in (one, two, three))
        nothing = REFERENCE.empty()[column]
        assert a + b == b + a
        assert (a + b) + c == a + (b + c) == merge([c, a, b])
        assert a + nothing == a == nothing + a


@given(rows, rows)
def test_a_merged_sketch_is_the_sketch_of_all_rows(one: Rows, two: Rows) -> None:
    apart, together = (sketched(one), sketched(two)), sketched(one + two)
    for column in (*TRAINING, SCORE):
        assert apart[0][column] + apart[1][column] == together[column]


@given(rows)
def test_every_row_is_counted_once(batch: Rows) -> None:
    for sketch in sketched(batch).values():
        assert sketch.rows == len(batch)
        assert sketch.usable + sketch.unusable == len(batch)


@given(st.lists(rows, min_size=1, max_size=5))
def test_sketches_survive_json_and_arrays(batches: list[Rows]) -> None:
    for column in (*TRAINING, SCORE):
        sketches = [sketched(batch)[column] for batch in batches]
        for sketch in sketches:
            assert Sketch.from_json(json.loads(json.dumps(sketch.to_json(), allow_nan=False))) == sketch
        arrays = to_arrays(sketches)
        assert all(isinstance(array, np.ndarray) and array.dtype != object for array in arrays.values())
        assert from_arrays(arrays) == sketches
        assert merge_arrays(arrays) == merge(sketches)
        assert merge_arrays(arrays, [0]) == sketches[0]


def test_sums_beyond_64_bits_survive_arrays() -> None:
    far = REFERENCE.sketch({"delay": np.full(1000, 1e12)})["delay"]
    for _ in range(30):
        far = far + far
    assert far.squares > 2**64
    assert from_arrays(to_arrays([far, far]))[1] == far
    assert merge_arrays(to_arrays([far, far])) == far + far


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60), st.data())
def test_bins_hold_what_lies_between_their_edges(values: list[float], data: st.DataObject) -> None:
    """Against counting by hand, on training values and their neighbours, where a wrong side would show."""
    reference = make_reference({"x": np.array(values)}).columns["x"]
    assert isinstance(reference.bins, NumericBins)
    edges = reference.bins.edges
    near = st.sampled_from([value for edge in edges for value in (edge, np.nextafter(edge, 0.0), -edge)])
    served = data.draw(st.lists(st.one_of(near, st.floats(allow_nan=False, allow_infinity=False)), max_size=30))
    sketch = Reference(columns={"x": reference}).sketch({"x": np.array(served, dtype=float)})["x"]
    counting = reference.bins.counting_edges
    assert len(counting) == len(edges) and (counting[1:] > counting[:-1]).all()
    lower, upper = [-math.inf, *counting], [*counting, math.inf]
    by_hand = [sum(low < v <= high for v in served) for low, high in zip(lower, upper, strict=True)]
    assert sketch.dense(reference.bins.size).tolist() == by_hand
    assert reference.sketch.usable == len(values)


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.3, 0.7, 0.9], [0.37], [0.0, 0.1 + 0.2], [1e-30, -0.7, 1e30]])
@pytest.mark.parametrize("width", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("times", [1 + 1e-6, 1 - 1e-6, 1.0])
def test_float_width_moves_no_row_off_a_common_value(values: list[float], width: Any, times: float) -> None:
    if width is np.float16 and max(values) > 1:
        return
    served = np.tile(np.array(values, dtype=width).astype(np.float64), 200)
    trained = served.astype(np.float32)
    reference = make_reference({"x": trained}).columns["x"]
    for moved in (served * times, np.nextafter(served, np.inf), np.nextafter(served, -np.inf)):
        sketch = reference.bins.count(as_column(moved, name="x"))
        assert sketch.counts.tolist() == reference.sketch.counts.tolist()
        assert sketch.filled.tolist() == reference.sketch.filled.tolist()


def test_a_difference_that_is_no_float_width_moves_the_row() -> None:
    trained = np.tile([0.1, 0.2, 0.9], 1000)
    reference = make_reference({"x": trained, "code": np.tile([100_000_001.0, 100_000_002.0, 5.0], 1000)})
    near = reference.sketch({"x": trained * (1 + 1e-5), "code": np.tile([100_000_003.0], 3000)})
    assert not set(near["x"].filled) & set(reference.columns["x"].sketch.filled)
    # Whole numbers are codes: the next one is another value, however large they are.
    assert not set(near["code"].filled) & set(reference.columns["code"].sketch.filled)


def test_moments_a_second_apart_are_no_float_width() -> None:
    trained = np.tile(np.array(["2026-03-01T12:00:00.5", "2026-03-01T12:00:01.5"], dtype="datetime64[ms]"), 500)
    reference = make_reference({"at": trained})
    later = reference.sketch({"at": trained + np.timedelta64(10, "ms")})["at"]
    assert not set(later.filled) & set(reference.columns["at"].sketch.filled)


def test_the_stored_bins_are_those_of_every_age() -> None:
    """The identity decides whether kept counts may be added up: it must not change with the tolerance."""
    bins = make_reference({"x": np.tile([0.1, 0.5, 0.9], 100)}).columns["x"].bins
    assert isinstance(bins, NumericBins)
    assert bins.edges.tolist() == [float(np.nextafter(v, -1)) if low else v for v in (0.1, 0.5, 0.9) for low in (1, 0)]


def test_a_value_that_many_rows_share_has_a_bin_of_its_own() -> None:
    bins = REFERENCE.columns["delay"].bins
    sketch = REFERENCE.sketch({"delay": [0.0, -1e-9, 1e-9]})["delay"]
    assert len(sketch.filled) == 3
    assert "0" in [bins.label(group) for group in range(len(bins.starts))]


def test_groups_have_even_shares_of_training_and_readable_names() -> None:
    reference = make_reference({"x": GENERATOR.normal(size=20_000)}).columns["x"]
    _, groups = reference.counts(reference.sketch)
    assert len(groups) == 21
    assert groups[:-1] / 20_000 == pytest.approx(0.05, abs=0.001)
    names = [reference.bins.label(group) for group in range(21)]
    assert names[0].startswith("(-∞, -1.6") and names[-2].endswith(", ∞)") and names[-1] == "no usable value"


@pytest.mark.parametrize("spread", [1e-12, 1.0, 1e150, 1e307])
def test_mean_variance_and_extremes_of_merged_sketches(spread: float) -> None:
    values = GENERATOR.normal(3.0, 1.0, 4000) * spread
    reference = make_reference({"x": values})
    served = GENERATOR.normal(4.0, 2.0, 3000) * spread
    parts = [reference.sketch({"x": part})["x"] for part in np.array_split(served, 7)]
    merged, bins = merge(parts), reference.columns["x"].bins
    assert isinstance(bins, NumericBins)
    assert bins.unfixed(merged.mean) / spread == pytest.approx((served / spread).mean(), abs=1e-3)
    assert math.sqrt(merged.variance) * bins.scale / spread == pytest.approx((served / spread).std(), rel=1e-3)
    assert (merged.minimum, merged.maximum) == (served.min(), served.max())


UNUSABLE: list[tuple[str, Any, dict[str, int]]] = [
    ("delay", np.array([1.0, math.nan, math.inf, -math.inf]), {"nan": 1, "infinite": 2}),
    ("delay", np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[False, True, True]), {"missing": 2}),
    ("delay", np.ma.MaskedArray([1.0, math.nan], mask=[True, False]), {"missing": 1, "nan": 1}),
    ("delay", np.ma.MaskedArray(np.array([1, None, 3], dtype=object), mask=[True, False, False]), {"missing": 2}),
    ("delay", [1, None, "12", math.nan, Decimal("2.5"), True], {"missing": 1, "unreadable": 1, "nan": 1}),
    ("delay", np.array(["1", "2"]), {"unreadable": 2}),
    ("delay", np.ones((3, 2)), {"unreadable": 3}),
    ("delay", np.ma.MaskedArray(np.ones((2, 2)), mask=[[True, True], [True, False]]), {"missing": 1, "unreadable": 1}),
    ("delay", [10**400, -(10**400)], {"infinite": 2}),
    ("delay", [Decimal("sNaN"), Decimal("Infinity")], {"nan": 1, "infinite": 1}),
    ("delay", np.array([1 + 2j]), {"unreadable": 1}),
    ("delay", pd.Series([1, None, 3], dtype="Int64").astype(object), {"missing": 1}),
    ("delay", pd.Series([1.5, pd.NaT], dtype=object), {"missing": 1}),
    ("carrier", ["UA", None, math.nan, 7, ["UA"], b"UA"], {"missing": 1, "nan": 1, "unreadable": 3}),
    ("carrier", np.ma.MaskedArray(["UA", "B6"], mask=[True, False]), {"missing": 1}),
    ("carrier", pd.Series(["UA", pd.NA], dtype="string"), {"missing": 1}),
    ("carrier", pd.Series(["UA", None], dtype="category"), {"nan": 1}),
    ("carrier", [pd.NaT, np.datetime64("NaT"), Decimal("sNaN")], {"missing": 2, "unreadable": 1}),
    ("carrier", np.array([1.0, 2.0]), {"unreadable": 2}),
    ("carrier", np.array([[1.0, 2.0]]), {"unreadable": 1}),
]


@pytest.mark.parametrize(("column", "values", "expected"), UNUSABLE)
def test_each_kind_of_unusable_value_is_counted_apart(column: str, values: Any, expected: dict[str, int]) -> None:
    sketch = REFERENCE.sketch({column: values})[column]
    assert {kind: getattr(sketch, kind) for kind in OUTSIDE_BINS if getattr(sketch, kind)} == expected
    assert sketch.rows == len(values)


def test_a_column_that_is_not_there_is_absent_in_every_row() -> None:
    sketches = REFERENCE.sketch({"delay": [1.0, 2.0], "origin": ["EWR", "JFK"]})
    assert sketches["carrier"].absent == sketches["carrier"].rows == 2
    assert sketches[SCORE].absent == 2
    assert set(sketches) == {*TRAINING, SCORE}


def test_times_are_counted_as_numbers() -> None:
    times = np.datetime64("2013-01-01", "ns") + np.arange(1000).astype("timedelta64[h]")
    reference = make_reference({"at": times})
    served = np.append(times[:9].astype("datetime64[s]"), np.datetime64("NaT", "s"))
    sketch = reference.sketch({"at": served})["at"]
    assert (sketch.usable, sketch.missing) == (9, 1)
    assert sketch.minimum == datetime(2013, 1, 1, tzinfo=UTC).timestamp()


ODD_TRAINING: list[tuple[Any, int]] = [
    (np.array([7.0]), 1),
    (np.full(100, 3), 100),
    (np.full(10, math.nan), 0),
    (np.array([math.inf, -math.inf, 1.0]), 1),
    (np.array([-1.7976931348623157e308, 1.7976931348623157e308] * 3), 6),
    (np.array([5e-324, 0.0, -5e-324]), 3),
    (np.array([True, False, True]), 3),
    (np.array([2**63 - 1, -(2**63)], dtype=np.int64), 2),
    ([None, None], 0),
    ([[1], [2]], 2),
    (["only one"] * 5, 5),
    (np.zeros((4, 2)), 4),
]


@pytest.mark.parametrize(("values", "usable"), ODD_TRAINING)
def test_odd_training_columns_give_a_reference_that_still_counts(values: Any, usable: int) -> None:
    reference = make_reference({"x": values}, scores=np.linspace(0, 1, len(values)))
    again = Reference.from_json(json.loads(json.dumps(reference.to_json(), allow_nan=False)))
    served = [0.0, 1e308, -1e308, math.nan, math.inf, "text", None, 3, True]
    sketch = again.sketch({"x": served}, scores=[0.5] * len(served))["x"]
    assert again.columns["x"].sketch.usable == usable
    assert sketch.rows == len(served)
    assert sketch == reference.sketch({"x": served}, scores=[0.5] * len(served))["x"]


def test_a_million_categories_stay_bounded() -> None:
    training = [f"customer-{number}" for number in range(1_000_000)]
    reference = make_reference({"customer": training})
    bins = reference.columns["customer"].bins
    served = reference.sketch({"customer": [f"other-{number}" for number in range(100_000)]})["customer"]
    assert isinstance(bins, CategoricalBins) and not bins.complete and bins.size <= LISTED + TAIL_BINS
    assert len(json.dumps(reference.to_json())) < 100_000
    assert len(served.filled) <= bins.size and served.usable == 100_000


def test_frequent_categories_of_an_open_ended_column_are_listed() -> None:
    training = ["web"] * 5000 + ["app"] * 3000 + [f"referrer-{number}" for number in range(2000)]
    bins = make_reference({"source": training}).columns["source"].bins
    assert isinstance(bins, CategoricalBins)
    assert bins.categories == ("web", "app") and not bins.complete


def test_long_categories_are_cut_and_still_told_apart() -> None:
    reference = make_reference({"note": ["a" * 5000 + "1"] * 60 + ["a" * 5000 + "2"] * 40})
    bins = reference.columns["note"].bins
    assert isinstance(bins, CategoricalBins)
    assert max(map(len, bins.categories)) <= 128
    assert reference.columns["note"].sketch.counts.tolist() == [60, 40]


def test_codes_may_be_categories_and_keep_their_name_when_nulls_make_them_floats() -> None:
    reference = make_reference({"code": np.array([1, 2, 2, 3] * 50)}, categorical=["code"])
    sketch = reference.sketch({"code": np.array([2.0, 2.0, math.nan, 9.5])})["code"]
    bins = reference.columns["code"].bins
    assert isinstance(bins, CategoricalBins) and bins.categories == ("2", "1", "3")
    assert sketch.counts.tolist() == [2, 1] and sketch.filled[0] == 0 and sketch.nan == 1


def test_scores_are_summed_by_group() -> None:
    sketch = REFERENCE.sketch({"delay": [0.0, 0.0, None], "carrier": ["UA"] * 3}, scores=[0.4, 0.6, 0.9])["delay"]
    score = REFERENCE.score
    assert score is not None and sketch.group_rows.sum() == 3 and sketch.group_rows[-1] == 1
    at_zero = int(sketch.group_rows.argmax())
    mean = sketch.group_scores[at_zero] / sketch.group_rows[at_zero] / 1024
    assert score.unfixed(mean) == pytest.approx(0.5, abs=1e-3)


def test_rows_by_label_add_up_to_all_rows() -> None:
    columns = {name: values[:999] for name, values in TRAINING.items()}
    batches = np.array(["b0", "b1", "b2"])[np.arange(999) % 3]
    by_batch = REFERENCE.sketch_by(batches, columns, scores=np.linspace(0, 1, 999))
    whole = REFERENCE.sketch(columns, scores=np.linspace(0, 1, 999))
    assert set(by_batch) == {"b0", "b1", "b2"}
    for name, sketch in whole.items():
        assert merge(sketches[name] for sketches in by_batch.values()) == sketch
        assert by_batch["b1"][name].rows == 333
    picked = {name: values[batches == "b1"] for name, values in columns.items()}
    assert by_batch["b1"]["carrier"] == REFERENCE.sketch(picked, scores=np.linspace(0, 1, 999)[1::3])["carrier"]


def test_minutes_merge_into_batches() -> None:
    def key(batch: str, minute: int) -> SketchKey:
        at = datetime(2013, 6, 1, 12, minute, 59, tzinfo=timezone(timedelta(hours=2)))
        return SketchKey(endpoint="production/flight-delay", release="r1", column="delay", batch=batch, minute=at)

    one = REFERENCE.sketch({"delay": [1.0, 2.0]})["delay"]
    stored = [(key("a", 1), one), (key("a", 2), one), (key("b", 1), one)]
    assert stored[0][0].minute == datetime(2013, 6, 1, 10, 1, tzinfo=UTC)
    assert stored[0][0].endpoint == EndpointRef.parse("production/flight-delay")
    assert SketchKey.model_validate_json(stored[0][0].model_dump_json()) == stored[0][0]
    merged = merge_by(stored, lambda key: (key.column, key.batch))
    assert merged == {("delay", "a"): one + one, ("delay", "b"): one}


def test_a_key_needs_to_know_its_time_zone() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        SketchKey(
            endpoint=EndpointRef.parse("production/x"), release="r", column="c", batch="b", minute=datetime(2013, 1, 1)
        )


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: make_reference({}), "0 columns"),
    (lambda: make_reference({"x": np.zeros(0)}), "0 rows"),
    (lambda: make_reference({"x": [1, 2], "y": [1]}), "one length"),
    (lambda: make_reference({SCORE: [1, 2]}), "rename"),
    (lambda: REFERENCE.sketch({"delay": 3.0}), "column delay"),
    (lambda: REFERENCE.sketch({"delay": "text"}), "column delay"),
    (lambda: REFERENCE.sketch({"delay": [1.0]}, scores=[1.0, 2.0]), "one length"),
    (lambda: REFERENCE.sketch_by(["a"], {"delay": [1.0, 2.0]}), "labels"),
    (lambda: merge([]), "at least one"),
    (lambda: merge([REFERENCE.empty()["delay"], REFERENCE.empty()["carrier"]]), "different bins"),
    (lambda: to_arrays([]), "at least one"),
    (lambda: merge_arrays(to_arrays([REFERENCE.empty()["delay"]]), []), "at least one"),
]


@pytest.mark.parametrize(("refused", "words"), REFUSED)
def test_what_cannot_be_sketched_is_refused_by_name(refused: Callable[[], Any], words: str) -> None:
    with pytest.raises(SketchUnusable, match=words):
        refused()


DAMAGED: list[dict[str, Any]] = [
    {"filled": [3, 1]},
    {"filled": [-1, 1]},
    {"filled": [1]},
    {"filled": [[1, 2]]},
    {"counts": [1, 0]},
    {"counts": ["a", 1]},
    {"counts": None},
    {"missing": -1},
    {"nan": "many"},
    {"minimum": math.nan},
    {"group_rows": [1]},
    {"groups": "x"},
    {"groups": 10**30},
]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_sketch_is_refused(damage: dict[str, Any]) -> None:
    whole = REFERENCE.sketch({"delay": [1.0, 50.0]}, scores=[0.1, 0.2])["delay"].to_json()
    assert len(whole["filled"]) == 2
    with pytest.raises(SketchUnusable, match="stored sketch"):
        Sketch.from_json(whole | damage)
    with pytest.raises(SketchUnusable):
        Sketch.from_json({key: value for key, value in whole.items() if key != "bins"})


@pytest.mark.parametrize("name", ["offsets", "counts", "whole", "extremes", "group_rows", "filled"])
def test_damaged_arrays_are_refused(name: str) -> None:
    arrays = to_arrays([REFERENCE.sketch({"delay": [1.0, 50.0]})["delay"]] * 2)
    for damaged in (arrays[name][:-1], np.array(["x"])):
        with pytest.raises(SketchUnusable, match="stored sketch"):
            from_arrays(arrays | {name: damaged})
    with pytest.raises(SketchUnusable, match="KeyError"):
        merge_arrays({key: value for key, value in arrays.items() if key != name})


def test_a_reference_survives_json_with_its_identity() -> None:
    again = Reference.from_json(json.loads(json.dumps(REFERENCE.to_json(), allow_nan=False)))
    assert sketched([(3.0, "UA", 0.5)], again) == sketched([(3.0, "UA", 0.5)])
    assert {name: column.bins.identity for name, column in again.columns.items()} == {
        name: column.bins.identity for name, column in REFERENCE.columns.items()
    }


def damaged_reference(**damage: Any) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(REFERENCE.to_json()))
    stored["columns"]["delay"]["bins"] |= damage
    return stored


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"format": 99, "columns": {}},
        {"format": 1, "columns": {"x": {}}},
        {"format": 1, "columns": []},
        damaged_reference(edges=[2.0, 1.0]),
        damaged_reference(edges=[1.0, math.nan]),
        damaged_reference(starts=[]),
        damaged_reference(starts=[0, 10**6]),
        damaged_reference(centre=1.0),
    ],
)
def test_a_damaged_reference_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(SketchUnusable):
        Reference.from_json(stored)


@settings(max_examples=30)
@given(st.lists(st.one_of(numbers, labels), min_size=1, max_size=30), rows)
def test_any_training_column_and_any_served_rows_are_counted(values: list[Any], batch: Rows) -> None:
    """Never a crash: whatever was trained on, whatever is served."""
    reference = make_reference({"x": values}, scores=[0.5] * len(values))
    assert reference.columns["x"].sketch.rows == len(values)
    for served in ([row[0] for row in batch], [row[1] for row in batch]):
        assert reference.sketch({"x": served})["x"].rows == len(batch)


def test_nothing_heavy_is_imported() -> None:
    """Manifests and Dag files must not pay for numpy, nor the domain for pandas."""
    script = (
        "import sys\n"
        "import airflow_provider_mlpipex.domain.drift.report\n"
        "assert 'numpy' not in sys.modules\n"
        "import airflow_provider_mlpipex.domain.drift.attribution\n"
        "print([name for name in ('pandas', 'pyarrow', 'duckdb', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
