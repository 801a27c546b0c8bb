"""Thirty days of minute batches in the plane's store: a drift query and the batch to blame, against raw rows.

The store is written from sketches, not through a log; both questions then go the whole way that they go in the plane:
the store is read, the answer written as JSON, read again and judged. Raw rows are a part of the same rows as the JSON
lines of a prediction log, read by DuckDB, which reads only what is asked for; their time is scaled up to all rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from airflow_provider_mlpipex.domain.drift.attribution import attribute
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import Reference, make_reference
from airflow_provider_mlpipex.domain.drift.report import Attribution, DriftReport
from airflow_provider_mlpipex.domain.drift.served import BatchSketches, ServedSketches
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.sketches.service import SketchedLogs
from airflow_provider_mlpipex.serving.sketches.store import DAY, MINUTE, Counted, Position, opened
from airflow_provider_mlpipex.serving.state_dir import Places
from benchmarks.table import Bar, Table
from tests.support.factories import make_release

COLUMNS, ROWS_A_MINUTE, DAYS, QUICK_DAYS = 20, 60, 30, 1
#: Minutes whose rows are also written as they would be logged.
RAW_MINUTES, QUICK_RAW_MINUTES = 2000, 200
ENDPOINT, RELEASE = EndpointRef.parse("production/bench"), make_release("1.0.0").id
#: A plain minute, so that the window has hours and minutes at both of its ends.
END = datetime(2026, 3, 1, 9, 17, tzinfo=UTC)
DRIFTED, LIMITS = "x7", {"psi": 0.2, "ks": 0.1}
_DUCK = (
    "SELECT batch, {picked} FROM read_json(?, format='newline_delimited', columns="
    "{{batch: 'VARCHAR', columns: 'VARCHAR[]', inputs: 'DOUBLE[]'}})"
)
Result = TypeVar("Result")


def run(*, quick: bool = False) -> Table:
    minutes = (QUICK_DAYS if quick else DAYS) * DAY // MINUTE
    raw_minutes = QUICK_RAW_MINUTES if quick else RAW_MINUTES
    generator = np.random.default_rng(1)
    reference = make_reference({f"x{number}": generator.normal(size=50_000) for number in range(COLUMNS)})
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as scratch:
        places, log = Places(Path(scratch)), Path(scratch) / "00000001.jsonl"
        begun = time.perf_counter()
        _fill(places, reference, minutes, raw_minutes, log)
        filled = time.perf_counter() - begun
        size = sum(path.stat().st_size for path in places.sketches(ENDPOINT, RELEASE).parent.iterdir())
        logs = SketchedLogs(places, say=_fail, now=END.timestamp)
        window = {"since": END - timedelta(minutes=minutes), "until": END}
        queried, report = _timed(lambda: _query(logs, window))
        blamed, cause = _timed(lambda: _blame(logs, window))
        scale = minutes / raw_minutes
        raw_query, _ = _timed(lambda: _raw_query(log, reference), rounds=1)
        raw_blame, _ = _timed(lambda: _raw_blame(log, reference), rounds=1)
    drifted = [column.column for column in report.columns if column.verdict == "fail"]
    if drifted != [DRIFTED] or cause.batches[0].batch != _name(minutes // 2):
        raise RuntimeError(f"drifted: {drifted}, blamed: {cause.reason}; planted: {DRIFTED}, {_name(minutes // 2)}")
    rows = f"{minutes * ROWS_A_MINUTE:,}"
    table = Table(("what", "minute batches", "columns", "rows", "CPU s"))
    table.rows = [
        ("drift query from the store", f"{minutes:,}", COLUMNS, rows, f"{queried:.3f}"),
        ("drift query from raw rows, scaled", f"{minutes:,}", COLUMNS, rows, f"{raw_query * scale:.1f}"),
        ("a column's drift to its batch, from the store", f"{minutes:,}", 1, rows, f"{blamed:.3f}"),
        ("a column's drift to its batch, from raw rows, scaled", f"{minutes:,}", 1, rows, f"{raw_blame * scale:.1f}"),
    ]
    table.ratios = [
        f"the drift query takes 1/{raw_query * scale / queried:.0f} of reading raw rows, "
        f"and the batch to blame 1/{raw_blame * scale / blamed:.0f}",
        cause.reason,
        f"the store has {size / 2**20:.0f} MiB, {size / minutes / COLUMNS:.0f} bytes a minute and column; "
        f"written in {filled:.0f} s",
    ]
    table.bars = [
        Bar("the drift query", queried, 1.0, " s of CPU"),
        Bar("the batch to blame", blamed, 1.0, " s of CPU"),
    ]
    return table


def _query(logs: SketchedLogs, window: dict[str, datetime]) -> DriftReport:
    text = orjson.dumps(logs.sketches(ENDPOINT, RELEASE, **window).to_json())
    found = ServedSketches.from_json(json.loads(text))
    assert found.reference is not None
    return check(found.reference, found.columns, limits=LIMITS)


def _blame(logs: SketchedLogs, window: dict[str, datetime]) -> Attribution:
    text = orjson.dumps(logs.sketches_by_batch(ENDPOINT, RELEASE, column=DRIFTED, **window).to_json())
    found = BatchSketches.from_json(json.loads(text))
    assert found.reference is not None
    return attribute(found.reference, found.batches)


def _raw_query(log: Path, reference: Reference) -> DriftReport:
    rows = _read(log, [*reference.columns])
    return check(reference, reference.sketch({name: rows[name] for name in reference.columns}), limits=LIMITS)


def _raw_blame(log: Path, reference: Reference) -> Attribution:
    rows = _read(log, [DRIFTED])
    sketches = reference.sketch_by(rows["batch"].astype(str), {DRIFTED: rows[DRIFTED]})
    return attribute(reference.columns[DRIFTED], {str(batch): columns[DRIFTED] for batch, columns in sketches.items()})


def _read(log: Path, columns: list[str]) -> dict[str, Any]:
    import duckdb

    picked = ", ".join(f"inputs[list_position(columns, '{name}')] AS {name}" for name in columns)
    with duckdb.connect(config={"threads": 1}) as database:
        return database.execute(_DUCK.format(picked=picked), [str(log)]).fetchnumpy()


def _fill(places: Places, reference: Reference, minutes: int, raw_minutes: int, log: Path) -> None:
    """Every minute a batch of its own; one of them, in the middle, has lost its sense of scale in one column."""
    first = int(END.timestamp()) - minutes * MINUTE
    names = [*reference.columns]
    generator = np.random.default_rng(2)
    at_once = 500
    with opened(places.sketches(ENDPOINT, RELEASE), reference) as store, log.open("wb") as stream:
        for begin in range(0, minutes, at_once):
            chunk = range(begin, min(begin + at_once, minutes))
            rows = generator.normal(size=(len(chunk), ROWS_A_MINUTE, len(names)))
            # All that is planted: a burst in one minute, as large as it takes to be seen in thirty days.
            burst = minutes // 2
            labels = np.repeat(np.arange(len(chunk)), ROWS_A_MINUTE)
            columns = {name: rows[:, :, place].ravel() for place, name in enumerate(names)}
            if burst in chunk:
                extra = generator.normal(4.0, 0.3, size=minutes * ROWS_A_MINUTE // 8)
                labels = np.append(labels, np.full(len(extra), burst - begin))
                columns = {
                    name: np.append(values, extra if name == DRIFTED else generator.normal(size=len(extra)))
                    for name, values in columns.items()
                }
            counted = reference.sketch_by(labels, columns)
            keys = [(_name(minute), first + minute * MINUTE) for minute in chunk]
            with store.writing():
                store.admitted(keys)
                store.add(Counted(sketches=dict(zip(keys, counted.values(), strict=True))), Position())
            for minute, values in zip(chunk, rows, strict=True):
                if minute < raw_minutes:
                    stream.writelines(_line(minute, number, names, one) for number, one in enumerate(values.tolist()))


def _line(minute: int, number: int, names: list[str], row: list[float]) -> bytes:
    """A record as the model server logs it."""
    record = {"rid": f"{minute}-{number}", "t": 0.0, "release": RELEASE, "status": 200, "ms": 1.0}
    told = {"batch": _name(minute), "columns": names, "inputs": row, "output": 0.5, "score": 0.5, "label": "0.5"}
    return orjson.dumps(record | told) + b"\n"


def _name(minute: int) -> str:
    return f"minute {minute}"


def _timed(work: Callable[[], Result], *, rounds: int = 3) -> tuple[float, Result]:
    """Least seconds of CPU of ``rounds``, and what the work gave. It waits for nothing but the machine."""
    seconds = []
    for _ in range(rounds):
        begun = time.process_time()
        result = work()
        seconds.append(time.process_time() - begun)
    return min(seconds), result


def _fail(what: str, error: Exception) -> None:
    raise RuntimeError(what) from error


if __name__ == "__main__":
    print(run(quick="--quick" in sys.argv[1:]).render())
