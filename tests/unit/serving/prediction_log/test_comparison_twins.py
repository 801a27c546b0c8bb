"""The SQL over the logs against the same comparison in plain Python, on logs that Hypothesis writes."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.shadow import slices
from airflow_provider_mlpipex.domain.shadow.slices import SlicedColumn
from airflow_provider_mlpipex.testing.paired_answers import Answer
from tests.support.prediction_logs import NEW, OLD, Logs

_NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.5, 1.0, 1e99, -1e300, math.nan, math.inf, -math.inf])
_CHANCE = st.floats(0.0, 1.0).map(lambda p: [1.0 - p, p])
_OUTPUTS = {
    "binary": _CHANCE,
    "multiclass": st.sampled_from([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]),
    "regression": _NUMBERS,
    "several": st.lists(_NUMBERS, min_size=2, max_size=2),
    "named": st.fixed_dictionaries({"b": _NUMBERS, "a": _NUMBERS}),
    "text": st.sampled_from(["cat", "dog"]),
    "mixed": _CHANCE | _NUMBERS | st.sampled_from(["cat", None, True]),
}
_SLICES = st.sampled_from([{}, {"carrier": "AA"}, {"carrier": "UA", "hour": 7}, {"hour": 7.5}, {"carrier": None}])


@st.composite
def records(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """What both releases logged: few ids, so that they meet, and times in and around the window."""
    output = _OUTPUTS[draw(st.sampled_from(sorted(_OUTPUTS)))]
    one = st.fixed_dictionaries(
        {
            "rid": st.sampled_from(["", *(f"r-{number}" for number in range(8))]),
            "row": st.sampled_from([0, 0, 0, 1]),
            "ago": st.sampled_from([2.0, 20.0, 21.0, 22.5, 50.0, 69.0, 150.0]),
            "status": st.sampled_from([200, 200, 200, 500, 400]),
            "ms": st.sampled_from([0.0, 3.0, 3.25, 4096.0]),
            "output": output,
            "inputs": _SLICES,
        }
    )
    return {release: draw(st.lists(one, max_size=25)) for release in (OLD, NEW)}


@settings(deadline=None, max_examples=60)
@given(records())
def test_both_say_the_same(written: dict[str, list[dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        # So that a handful of pairs makes slices.
        patch.setattr("airflow_provider_mlpipex.testing.paired_answers.MIN_PAIRS", 1)
        patch.setattr(
            "airflow_provider_mlpipex.serving.prediction_log.comparison_sql.TOP_SLICES_QUERY",
            _with_any_slice(
                "SELECT value, pairs, flips, count, total, squares, inputs, flipped_inputs FROM sliced "
                "WHERE pairs >= {least} ORDER BY pairs DESC, value LIMIT {most}"
            ),
        )
        patch.setattr(
            "airflow_provider_mlpipex.serving.prediction_log.comparison_sql.COUNT_SLICES",
            _with_any_slice("SELECT count(*), count(*) FILTER (pairs >= {least}), coalesce(sum(pairs), 0) FROM sliced"),
        )
        logs = Logs(Path(folder))
        answers: dict[str, dict[str, list[Answer]]] = {OLD: defaultdict(list), NEW: defaultdict(list)}
        for release, some in written.items():
            for record in some:
                logs.write(release, _line(logs, **record))
                _remember(logs, answers[release], **record)
        found = logs.compare(slices=["carrier", "hour"])
        twin = logs.compare_in_memory(answers[OLD], answers[NEW], slices=["carrier", "hour"])
    _assert_alike(found.to_json(), twin.to_json())


def _with_any_slice(sql: str) -> str:
    return sql.format(least=1, most=slices.MAX_VALUES)


def _line(logs: Logs, *, rid: str, row: int, ago: float, status: int, ms: float, output: Any, inputs: Any) -> Any:
    if status != 200:
        return logs.error(rid, ago=ago, status=status)
    return logs.answer(rid, output, row=row, ago=ago, ms=ms, inputs=inputs)


def _remember(
    logs: Logs,
    answers: dict[str, list[Answer]],
    *,
    rid: str,
    row: int,
    ago: float,
    status: int,
    ms: float,
    output: Any,
    inputs: Any,
) -> None:
    at = logs.now - timedelta(seconds=ago)
    if status != 200:
        answers[rid].append(Answer.to(at, None, status=status, latency_ms=1.0))
        return
    name = f"{rid}#{row}" if row else rid
    answers[name].append(Answer.to(at, output, row=row, latency_ms=ms, inputs=inputs))


def _assert_alike(one: Any, other: Any) -> None:
    """Equal, but for sums that were added up in another order."""
    if isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            _assert_alike(value, other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for each, twin in zip(one, other, strict=True):
            _assert_alike(each, twin)
    else:
        assert one == other


def test_a_column_that_nobody_sent_is_one_slice_without_a_value(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.both(*((f"r-{n}", 1.0, 1.0) for n in range(slices.MIN_PAIRS)), inputs={"hour": 7})
    (found,) = logs.compare(slices=["carrier"]).slices
    assert found == SlicedColumn(
        column="carrier",
        slices=(slices.Slice(value=None, pairs=slices.MIN_PAIRS, flips=0, count=slices.MIN_PAIRS, inputs=1),),
        large_enough=1,
        values=1,
    )
