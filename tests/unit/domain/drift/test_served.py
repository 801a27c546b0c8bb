"""What a plane has counted, as it travels, and the minutes that a window is made of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.drift.references import make_reference
from airflow_provider_mlpipex.domain.drift.served import BatchSketches, ServedSketches, whole_minutes
from airflow_provider_mlpipex.domain.errors import SketchUnusable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REFERENCE = make_reference({"amount": [1.0, 2.0, 3.0], "country": ["NL", "BE", "NL"]}, scores=[0.1, 0.2, 0.3])
WINDOW: dict[str, Any] = {"release": "r", "since": NOON, "until": NOON + timedelta(hours=1)}


def travelled(sent: Any) -> Any:
    return type(sent).from_json(json.loads(json.dumps(sent.to_json(), allow_nan=False)))


@pytest.mark.parametrize(
    ("since", "until", "first", "end"),
    [(0, 60, 0, 60), (59.999, 60.001, 0, 120), (0, 0, 0, 0), (30, 30, 0, 60), (61, 179, 60, 180)],
)
def test_a_window_is_cut_to_whole_minutes(since: float, until: float, first: int, end: int) -> None:
    moments = [NOON + timedelta(seconds=second) for second in (since, until, first, end)]
    elsewhere = [moment.astimezone(timezone(timedelta(hours=5, minutes=30))) for moment in moments[:2]]
    found = whole_minutes(*elsewhere)
    assert found == tuple(moments[2:])
    assert {moment.utcoffset() for moment in found} == {timedelta()}


def test_there_is_no_minute_after_the_last() -> None:
    assert whole_minutes(NOON, datetime.max.replace(tzinfo=UTC))[1].year == 9999


def test_sketches_of_a_window_travel() -> None:
    rows = {"amount": [1.5, None], "country": ["NL", "XX"]}
    sent = ServedSketches(**WINDOW, reference=REFERENCE, columns=REFERENCE.sketch(rows), dropped_share=0.25)
    found = travelled(sent)
    assert (found.columns, found.since, found.until, found.dropped_share) == (
        sent.columns,
        sent.since,
        sent.until,
        0.25,
    )
    assert found.reference.to_json() == REFERENCE.to_json()
    assert travelled(ServedSketches(**WINDOW)).reference is None


@pytest.mark.parametrize("column", ["amount", "country"])
def test_sketches_of_batches_travel(column: str) -> None:
    batches = {
        name: REFERENCE.sketch({column: values})[column]
        for name, values in {"": [None], "full": [1.5, 2.5], "none": []}.items()
    }
    sent = BatchSketches(**WINDOW, column=column, reference=REFERENCE.columns[column], batches=batches, rest=3)
    found = travelled(sent)
    assert (found.batches, found.rest, found.column, found.since) == (batches, 3, column, NOON)
    assert found.reference.to_json() == REFERENCE.columns[column].to_json()
    nothing = travelled(BatchSketches(**WINDOW, column=column))
    assert (nothing.reference, nothing.batches, nothing.rest) == (None, {}, 0)


@pytest.mark.parametrize("kind", [ServedSketches, BatchSketches])
@pytest.mark.parametrize(
    "broken", [{}, {"since": "noon"}, {"reference": {"bins": 1}}, {"batches": ["a", "b"]}], ids=str
)
def test_what_did_not_travel_whole_is_said(kind: Any, broken: dict[str, Any]) -> None:
    whole = {"release": "r", "since": NOON.isoformat(), "until": NOON.isoformat(), "reference": None}
    with pytest.raises(SketchUnusable, match="sketches of|stored reference"):
        kind.from_json({**(whole if broken else {}), **broken, "sketches": None, "columns": None})
