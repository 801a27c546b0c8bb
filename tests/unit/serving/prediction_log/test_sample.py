"""The sample of served predictions, read from a prediction log as the model server writes it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.predictions import PredictionSample
from airflow_provider_mlpipex.serving.prediction_log.outputs import describe_all
from airflow_provider_mlpipex.serving.prediction_log.sample import sample
from airflow_provider_mlpipex.serving.prediction_log.writer import PredictionLog

NOW = datetime.now(UTC)
RELEASE = "1.0.0-rt1.0.0-0123abcd"


def record(rid: str, *, at: datetime = NOW, **changes: Any) -> dict[str, Any]:
    told = {
        "rid": rid,
        "t": at.timestamp(),
        "status": 200,
        "ms": 1.5,
        "batch": "monday",
        "columns": ["amount", "country"],
        "inputs": [12.5, "NL"],
        "output": [0.25, 0.75],
        "score": 0.75,
        "label": "1",
    }
    return told | changes


def write(folder: Path, *records: dict[str, Any], segment_bytes: int = 10_000) -> None:
    log = PredictionLog(folder, queue_size=100_000, segment_bytes=segment_bytes, segments_kept=100)
    for one in records:
        log.put(one)
    log.close()


def read(folder: Path, *, limit: int = 100, since: datetime | None = None, until: datetime | None = None) -> Any:
    since, until = since or NOW - timedelta(minutes=5), until or NOW + timedelta(minutes=5)
    found = sample(folder, release=RELEASE, since=since, until=until, limit=limit)
    # It must survive the way over HTTP.
    assert PredictionSample.model_validate(found.to_json()) == found
    return found


def test_a_row_is_told_as_it_was_served(tmp_path: Path) -> None:
    write(tmp_path, record("r1"))
    found = read(tmp_path)
    (row,) = found.rows
    assert (row.request_id, row.batch, row.inputs) == ("r1", "monday", {"amount": 12.5, "country": "NL"})
    assert (row.output, row.score, row.label) == ([0.25, 0.75], 0.75, "1")
    assert abs(row.at - NOW) < timedelta(milliseconds=1)
    assert (found.total, found.dropped_share, found.release) == (1, 0.0, RELEASE)


def test_a_plain_number_which_is_logged_once_is_told_as_output_score_and_label(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, queue_size=100, segment_bytes=10_000, segments_kept=100)
    shared = {"t": NOW.timestamp(), "status": 200, "columns": ["amount"]}
    log.put(
        shared, [{"rid": f"r{at}", "inputs": [1.0], **fields} for at, fields in enumerate(describe_all([0.1, 3.0]))]
    )
    log.close()
    told = {row.request_id: (row.output, row.score, row.label) for row in read(tmp_path).rows}
    assert told == {"r0": (0.1, 0.1, "0.1"), "r1": (3.0, 3.0, "3.0")}


def test_of_a_record_too_large_for_its_output_nothing_is_made_up(tmp_path: Path) -> None:
    write(tmp_path, record("r1", output=None))
    assert [(row.output, row.score, row.label) for row in read(tmp_path).rows] == [(None, 0.75, "1")]


def test_a_release_that_was_never_asked_has_no_rows(tmp_path: Path) -> None:
    assert (read(tmp_path / "nowhere").rows, read(tmp_path / "nowhere").total) == ((), 0)


def test_only_answers_of_the_window_count(tmp_path: Path) -> None:
    write(
        tmp_path,
        record("before", at=NOW - timedelta(minutes=6)),
        record("failed", status=500, output=None, score=None, label=None),
        {"rid": "refused", "t": NOW.timestamp(), "status": 400, "ms": 1.0, "batch": ""},
        record("inside"),
        record("after", at=NOW + timedelta(minutes=6)),
    )
    assert [row.request_id for row in read(tmp_path).rows] == ["inside"]


@pytest.mark.parametrize(
    ("changes", "inputs", "output", "score"),
    [
        ({"columns": [], "inputs": None}, {}, [0.25, 0.75], 0.75),
        ({"columns": ["amount"], "inputs": [1.0, 2.0]}, {}, [0.25, 0.75], 0.75),
        ({"inputs": [None, "ü\n"]}, {"amount": None, "country": "ü\n"}, [0.25, 0.75], 0.75),
        ({"output": float("nan"), "score": None, "label": "nan"}, None, None, None),
        ({"output": {"price": 3.5, "risk": "low"}, "score": 3.5}, None, {"price": 3.5, "risk": "low"}, 3.5),
        ({"output": "spam", "score": None, "label": "spam"}, None, "spam", None),
        ({"output": "x" * 2_000_000}, {}, None, 0.75),
    ],
    ids=["unnamed", "torn-names", "gaps", "not-finite", "mapping", "text", "too-long"],
)
def test_odd_rows_are_rows(tmp_path: Path, changes: dict[str, Any], inputs: Any, output: Any, score: Any) -> None:
    write(tmp_path, record("odd", **changes), record("plain"))
    (row,) = (row for row in read(tmp_path).rows if row.request_id == "odd")
    assert row.inputs == ({"amount": 12.5, "country": "NL"} if inputs is None else inputs)
    assert (row.output, row.score) == (output, score)


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    write(tmp_path, record("whole"))
    with (tmp_path / "00000002.jsonl.open").open("w") as stream:
        stream.write('{"rid": "torn", "t": 17')
    assert [row.request_id for row in read(tmp_path).rows] == ["whole"]


def test_the_sample_is_even_bounded_and_always_the_same(tmp_path: Path) -> None:
    count, step = 2_000, 0.1
    write(tmp_path, *(record(f"r{n}", at=NOW + timedelta(seconds=n * step)) for n in range(count)))
    first = read(tmp_path, limit=200)
    assert (len(first.rows), first.total) == (200, count)
    assert read(tmp_path, limit=200) == first
    # No stretch of the window is left out or preferred: ten stretches, 20 rows each on average.
    of_stretch = [0] * 10
    for row in first.rows:
        of_stretch[int((row.at - NOW).total_seconds() / (count * step / 10))] += 1
    assert min(of_stretch) >= 5 and max(of_stretch) <= 45


def test_lost_records_are_a_share(tmp_path: Path) -> None:
    write(tmp_path, record("kept"), {"t": NOW.timestamp(), "dropped": 3})
    assert read(tmp_path).dropped_share == 0.75


def test_a_log_that_has_fallen_silent_may_have_lost_everything(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, queue_size=10, segment_bytes=10_000, segments_kept=10)
    log.put(record("r1"))
    deadline = time.monotonic() + 10
    while not (tmp_path / "stats.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    stats = (tmp_path / "stats.json").read_text(encoding="utf-8")
    log.close()
    # As if the server had been killed: its last word is old, and not that it has closed.
    old = stats.replace(str(int(time.time()))[:9], str(int(time.time()) - 3600)[:9])
    (tmp_path / "stats.json").write_text(old, encoding="utf-8")
    assert read(tmp_path).dropped_share == 1.0


_ONE_ROW = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
import duckdb
from airflow_provider_mlpipex.serving.prediction_log.sample import sample

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

duckdb.sql("SELECT 1").fetchall()
before = peak_mb()
since, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
found = sample(Path(sys.argv[1]), release="r", since=since, until=until, limit=1)
print(found.total, len(found.rows), peak_mb() - before)
"""


def test_a_row_of_a_large_log_costs_little_memory(tmp_path: Path) -> None:
    # As a table in memory the log cost about what it is on disk.
    folder = tmp_path / "predictions" / "production" / "shop" / "1-0-0"
    folder.mkdir(parents=True)
    megabytes, text = 250, "x" * 10_000
    with (folder / "00000001.jsonl").open("w") as stream:
        for number in range(megabytes * 100):
            stream.write(json.dumps(record(f"r{number}", inputs=[text, "NL"])) + "\n")
    done = subprocess.run([sys.executable, "-c", _ONE_ROW, str(folder)], capture_output=True, text=True, check=True)
    total, rows, cost_mb = done.stdout.splitlines()[-1].split()
    assert (int(total), int(rows)) == (megabytes * 100, 1)
    assert float(cost_mb) < megabytes * 0.75
