"""Paired comparison: DuckDB over two prediction logs against pandas on the same files, in wall time and peak memory.

``python -m benchmarks.paired 1000000`` sets the number of pairs. Each side is a process of its own, so that its peak is
its own; both read what model servers write, find the same pairs, and must agree on what they say.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.prediction_log.comparison import compare, log_folder
from airflow_provider_mlpipex.serving.prediction_log.reader import segments
from benchmarks.table import Bar, Table
from tests.support.factories import make_release

PAIRS, QUICK_PAIRS = 10_000_000, 100_000
LIMIT_GIB = 2.0
ENDPOINT = EndpointRef.parse("production/bench")
CURRENT, SHADOW = make_release("1.0.0").id, make_release("1.1.0").id
SEGMENT = 50_000
#: One request in so many has been sent twice.
REPEATED = 10_000
SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
_GIB = 2**30


def run(*, quick: bool = False, pairs: int | None = None) -> Table:
    pairs = pairs or (QUICK_PAIRS if quick else PAIRS)
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as scratch:
        root = Path(scratch)
        _write_logs(root, pairs)
        ours, theirs = _measured("ours", root), _measured("pandas", root)
    _agree(ours, theirs)
    table = Table(("what", "pairs", "wall s", "peak GiB"))
    table.rows = [
        (name, f"{one['pairs']:,}", f"{one['wall']:.1f}", f"{one['peak'] / _GIB:.2f}")
        for name, one in (("mlpipex, DuckDB with one thread", ours), ("pandas", theirs))
    ]
    table.ratios = [
        f"pandas takes {theirs['wall'] / ours['wall']:.1f} times as long, "
        f"{theirs['after_reading'] / ours['wall']:.2f} times for what follows the reading alone",
        f"and {theirs['peak'] / ours['peak']:.1f} times the memory",
    ]
    table.bars = [Bar(f"peak memory for {ours['pairs']:,} pairs", ours["peak"] / _GIB, LIMIT_GIB, " GiB")]
    return table


def _measured(side: str, root: Path) -> dict[str, Any]:
    """What a process of its own says of both logs.

    :raises RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.paired", side, str(root)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        raise RuntimeError(f"{side} failed: {child.stderr[-1500:]}")
    said: dict[str, Any] = json.loads(child.stdout)
    return said


def _agree(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in ("pairs", "flips", "mean", "p95", "worst_carrier"):
        one, other = ours[name], theirs[name]
        same = math.isclose(one, other, rel_tol=1e-6) if isinstance(one, float) else one == other
        if not same:
            raise RuntimeError(f"{name}: {one} by DuckDB, {other} by pandas")


# The two sides, each in its process.


def _ours(root: Path) -> dict[str, Any]:
    found = compare(
        root, ENDPOINT, primary=CURRENT, shadow=SHADOW, since=SINCE, until=UNTIL, slices=["carrier", "origin"]
    )
    carriers = found.slices[0].slices
    return {
        "pairs": found.pairs,
        "flips": found.flips,
        "mean": found.difference.mean,
        "p95": found.difference.quantile(0.95),
        "worst_carrier": max(carriers, key=lambda part: (part.flips / part.pairs, part.value or "")).value,
    }


def _pandas(root: Path) -> dict[str, Any]:
    import pandas as pd

    def read(release: str) -> pd.DataFrame:
        frames = []
        for path in segments(log_folder(root, ENDPOINT, release)):
            frame = pd.read_json(path, lines=True, dtype={"label": "str"}, convert_dates=False)
            carrier, origin = (frame["inputs"].str[at] for at in (1, 2))
            kept = frame[["rid", "t", "ms", "score", "label"]].assign(carrier=carrier, origin=origin)
            frames.append(kept[frame["status"] == 200])
        return pd.concat(frames, ignore_index=True)

    current, shadow = read(CURRENT), read(SHADOW)
    began = time.perf_counter()
    current = current.sort_values("t").drop_duplicates("rid")
    shadow = shadow.sort_values("t").drop_duplicates("rid")[["rid", "ms", "score", "label"]]
    pairs = current.merge(shadow, on="rid", suffixes=("", "_shadow"))
    flipped = pairs["label"] != pairs["label_shadow"]
    difference = pairs["score_shadow"] - pairs["score"]
    sizes = difference.abs().quantile([0.05, 0.5, 0.95, 0.99])
    (pairs["ms_shadow"] - pairs["ms"]).quantile([0.05, 0.5, 0.95, 0.99])
    by_slice = {
        column: pd.DataFrame({"flipped": flipped, "difference": difference})
        .groupby(pairs[column])
        .agg(["count", "sum", "mean"])
        for column in ("carrier", "origin")
    }
    rates = by_slice["carrier"]["flipped"]["mean"]
    return {
        "pairs": len(pairs),
        "flips": int(flipped.sum()),
        "mean": float(difference.mean()),
        "p95": float(sizes[0.95]),
        "worst_carrier": max(rates.index, key=lambda carrier: (rates[carrier], carrier)),
        "after_reading": time.perf_counter() - began,
    }


# What they read.


def _write_logs(root: Path, pairs: int) -> None:
    """Both logs as model servers write them; the shadow's scores are a little off, most of all for one carrier."""
    import duckdb

    with duckdb.connect() as database:
        for release, off in ((CURRENT, 0.0), (SHADOW, 0.02)):
            folder = log_folder(root, ENDPOINT, release)
            folder.mkdir(parents=True)
            for number, first in enumerate(range(0, pairs, SEGMENT), start=1):
                path = folder / f"{number:08d}.jsonl"
                database.execute(
                    f"COPY ({_RECORDS}) TO '{path}' (FORMAT JSON)", [off, release, first, min(pairs, first + SEGMENT)]
                )


_RECORDS = f"""
    WITH requests AS (
        SELECT if(i % {REPEATED} = 1, i - 1, i) AS i, i AS place, hash(i) AS dice FROM range($3, $4) AS numbers(i)
    ), scored AS (
        SELECT *, 'C' || dice % 16 AS carrier, ['EWR', 'JFK', 'LGA'][1 + (hash(i, 1) % 3)::INT] AS origin,
            $1 * (1 + 3 * (dice % 16 = 7)::INT) * ((hash(i, 2) % 1000) / 500 - 1) AS off
        FROM requests
    ), answered AS (
        SELECT *, least(1, greatest(0, (hash(i, 3) % 100000) / 100000 + off)) AS p, md5(i::VARCHAR) AS name FROM scored
    )
    SELECT name[1:8] || '-' || name[9:12] || '-4000-8000-' || name[13:24] AS rid,
        {SINCE.timestamp()} + place * 0.001 AS t, $2 AS release, 200 AS status,
        3.0 + (hash(place, $1) % 1000) / 1000 AS ms, '' AS batch,
        ['hour', 'carrier', 'origin', 'distance', 'temp', 'visib'] AS columns,
        [to_json(dice % 24), to_json(carrier), to_json(origin), to_json(700.5), to_json(55.4), to_json(10)] AS inputs,
        [1 - p, p] AS output, 'probability' AS kind, p AS score, (p > 0.5)::INT::VARCHAR AS label
    FROM answered"""


def _child(work: Callable[[Path], dict[str, Any]], root: Path) -> None:
    began = time.perf_counter()
    said = work(root)
    wall = time.perf_counter() - began
    # Kilobytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**said, "wall": wall, "peak": peak}))


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["pandas"]):
        _child(_ours if sys.argv[1] == "ours" else _pandas, Path(sys.argv[2]))
    else:
        print(run(pairs=int(sys.argv[1]) if len(sys.argv) > 1 else None).render())
