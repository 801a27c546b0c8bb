"""Drift of 20 columns: sketches against Evidently's DataDriftPreset, and thirty days of minutes without raw rows.

``python -m benchmarks.drift 1000000`` sets the number of rows on each side (about two CPU minutes for Evidently).
CPU seconds of the whole process, threads included.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from airflow_provider_mlpipex.domain.drift.attribution import attribute, rank
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import Reference, make_reference
from airflow_provider_mlpipex.domain.drift.report import DriftReport
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, from_arrays, merge_arrays, to_arrays
from benchmarks.table import Table

NUMERIC, CATEGORICAL = 15, 5
MOVED = ("n0", "n1", "c0")
MINUTES, ROWS_A_MINUTE = 30 * 24 * 60, 60
Result = TypeVar("Result")


def run(*, quick: bool = False, rows: int | None = None) -> Table:
    rows = rows or (10_000 if quick else 100_000)
    trained, served = _columns(rows, seed=1, moved=()), _columns(rows, seed=2, moved=MOVED)
    made, reference = _cpu(lambda: make_reference(trained), rounds=1)
    sketched, sketches = _cpu(lambda: reference.sketch(served), rounds=3)
    judged, report = _cpu(lambda: _judge(reference, sketches), rounds=3)
    theirs, found = _evidently(trained, served)
    table = Table(("what", "rows", "columns", "CPU s"))
    size = f"{rows:,}"
    table.rows = [
        ("Evidently DataDriftPreset", size, len(trained), f"{theirs:.2f}"),
        ("reference, made once at registration", size, len(trained), f"{made:.3f}"),
        ("sketches of the served rows", size, len(trained), f"{sketched:.3f}"),
        ("five measures, verdicts, ranking from sketches", size, len(trained), f"{judged:.4f}"),
    ]
    flagged = {column.column for column in report.columns if column.verdict == "fail"}
    table.ratios = [
        f"sketches and verdicts take 1/{theirs / (sketched + judged):.0f} of Evidently's time",
        f"with the reference made anew each time, 1/{theirs / (made + sketched + judged):.0f}",
        f"drifted: {_names(flagged)}; Evidently: {_names(found)}; planted: {_names(set(MOVED))}",
    ]
    _thirty_days(table, MINUTES // 10 if quick else MINUTES)
    return table


def _thirty_days(table: Table, minutes: int) -> None:
    """A window over minute batches from stored arrays, and the batch that caused its drift, against raw rows."""
    generator = np.random.default_rng(3)
    trained = {"x": generator.normal(size=100_000)}
    reference = make_reference(trained)
    rows = generator.normal(size=minutes * ROWS_A_MINUTE)
    day = slice(minutes * ROWS_A_MINUTE // 2, minutes * ROWS_A_MINUTE // 2 + minutes * ROWS_A_MINUTE // 30)
    rows[day] += 2.0
    by_minute = reference.sketch_by(np.repeat(np.arange(minutes), ROWS_A_MINUTE), {"x": rows})
    stored = to_arrays([sketches["x"] for sketches in by_minute.values()])
    day_of = np.arange(minutes) * 30 // minutes
    raw, _ = _cpu(lambda: check(reference, reference.sketch({"x": rows})), rounds=3)
    window, _ = _cpu(lambda: check(reference, {"x": merge_arrays(stored)}), rounds=3)
    cause, blamed = _cpu(
        lambda: attribute(
            reference.columns["x"], {f"day {day}": merge_arrays(stored, day_of == day) for day in range(30)}
        ),
        rounds=3,
    )
    each, _ = _cpu(lambda: attribute(reference.columns["x"], _each_minute(stored)), rounds=1)
    what = f"{minutes:,} minutes"
    table.rows += [
        ("30 days from raw rows in memory", f"{len(rows):,}", 1, f"{raw:.3f}"),
        ("30 days from stored minutes", what, 1, f"{window:.3f}"),
        ("30 days by day, leaving out each", what, 1, f"{cause:.3f}"),
        ("30 days by minute, leaving out each", what, 1, f"{each:.3f}"),
    ]
    table.ratios += [
        f"thirty days of minutes are judged in {window / raw:.2f} times what raw rows in memory would take",
        f"the planted day is day 15: {blamed.reason}",
    ]


def _each_minute(stored: dict[str, Any]) -> dict[str, Sketch]:
    return {f"minute {number}": sketch for number, sketch in enumerate(from_arrays(stored))}


def _judge(reference: Reference, sketches: dict[str, Sketch]) -> DriftReport:
    report = check(reference, sketches)
    rank(reference, sketches, report)
    return report


def _columns(rows: int, *, seed: int, moved: tuple[str, ...]) -> dict[str, Any]:
    """Normal, skewed and counted numbers by turns, and categories; ``moved`` ones are planted drift."""
    generator = np.random.default_rng(seed)
    samplers: list[Callable[[float], Any]] = [
        lambda by: generator.normal(by, 1, rows),
        lambda by: generator.lognormal(by, 1, rows),
        lambda by: generator.poisson(20 + 10 * by, rows).astype(float),
    ]
    columns: dict[str, Any] = {}
    for number in range(NUMERIC):
        name = f"n{number}"
        columns[name] = samplers[number % len(samplers)](0.8 if name in moved else 0.0)
    names = np.array([f"value {number}" for number in range(12)], dtype=object)
    for number in range(CATEGORICAL):
        name = f"c{number}"
        weights = np.linspace(1, 3, 12) ** (-2 if name in moved else 1)
        columns[name] = names[generator.choice(12, rows, p=weights / weights.sum())]
    return columns


def _evidently(trained: dict[str, Any], served: dict[str, Any]) -> tuple[float, set[str]]:
    """CPU seconds of the preset with its defaults, and the columns that it calls drifted."""
    os.environ["DO_NOT_TRACK"] = "1"
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before, after = pd.DataFrame(trained), pd.DataFrame(served)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds, snapshot = _cpu(lambda: Report([DataDriftPreset()]).run(after, before), rounds=1)
    drifted = set()
    for metric in snapshot.dict()["metrics"]:
        config = metric["config"]
        if config["type"].endswith("ValueDrift") and metric["value"] >= config["threshold"]:
            drifted.add(config["column"])
    return seconds, drifted


def _cpu(work: Callable[[], Result], *, rounds: int) -> tuple[float, Result]:
    """Least CPU seconds of ``rounds``, and what the work gave."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        result = work()
        seconds.append(time.process_time() - began)
    return min(seconds), result


def _names(columns: set[str]) -> str:
    return ", ".join(sorted(columns)) or "none"


if __name__ == "__main__":
    print(run(rows=int(sys.argv[1]) if len(sys.argv) > 1 else None).render())
