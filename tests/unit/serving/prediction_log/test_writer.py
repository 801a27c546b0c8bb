"""The prediction log is bounded, counts what it loses, and never keeps anybody waiting."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.serving.prediction_log.reader import STATS_FILE, read_stats, records, segments
from airflow_provider_mlpipex.serving.prediction_log.writer import RECORD_BYTES, PredictionLog, _line, _lines
from tests.support.polling import until


@pytest.fixture
def opened() -> Iterator[list[PredictionLog]]:
    logs: list[PredictionLog] = []
    yield logs
    for log in logs:
        log.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "production" / "fraud-scorer" / "1-0-0"


def open_log(folder: Path, opened: list[PredictionLog], **changes: int) -> PredictionLog:
    log = PredictionLog(folder, **({"queue_size": 1000, "segment_bytes": 10**6, "segments_kept": 4} | changes))
    opened.append(log)
    return log


def record(number: int, **changes: Any) -> dict[str, Any]:
    return {"t": time.time(), "rid": f"r-{number}", "status": 200, "score": 0.5, "label": "1"} | changes


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def rids(folder: Path) -> list[str]:
    return [found["rid"] for found in records(folder) if "rid" in found]


def settled(log: PredictionLog, count: int) -> None:
    until(lambda: log.written + log.dropped >= count, within_s=10, what=f"{count} records written or dropped")


class FullDisk:
    """Makes every write of the log's segments fail while ``full``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        original = Path.open

        def opening(path: Path, *args: Any, **kwargs: Any) -> Any:
            if self.full and path.name.endswith((".jsonl.open", STATS_FILE)):
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(path, *args, **kwargs)

        monkeypatch.setattr(Path, "open", opening)


def test_records_come_back_in_order(folder: Path, opened: list[PredictionLog]) -> None:
    log = open_log(folder, opened)
    for number in range(50):
        log.put(record(number, inputs=[np.float64(1.5), np.int64(3), None], output=np.array([0.25, 0.75])))
    log.close()
    found = list(records(folder))
    assert [one["rid"] for one in found] == [f"r-{number}" for number in range(50)]
    assert found[0]["inputs"] == [1.5, 3, None]
    assert found[0]["output"] == [0.25, 0.75]
    assert (log.stats()["written"], log.stats()["dropped"]) == (50, 0)


def test_open_segments_can_be_read_while_they_are_written(folder: Path, opened: list[PredictionLog]) -> None:
    log = open_log(folder, opened)
    log.put(record(1))
    until(lambda: rids(folder) == ["r-1"], within_s=10, what="the record on disk")
    assert [path.name for path in segments(folder)] == ["00000001.jsonl.open"]


def test_a_full_queue_drops_and_counts_and_never_waits(
    folder: Path, opened: list[PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, go_on = threading.Event(), threading.Event()
    original = PredictionLog._write
    log = open_log(folder, opened, queue_size=10)

    def slow(self: PredictionLog, batch: list[Any]) -> None:
        if self is log:  # the logs of other tests may still be writing in this process
            held.set()
            go_on.wait(30)
        original(self, batch)

    monkeypatch.setattr(PredictionLog, "_write", slow)
    log.put(record(0))
    assert held.wait(10)
    for number in range(1, 101):
        log.put(record(number))
    assert log.dropped == 90, "ten wait, the rest is lost at once"
    go_on.set()
    settled(log, 101)
    log.close()
    assert rids(folder) == [f"r-{number}" for number in range(11)]
    assert sum(found.get("dropped", 0) for found in records(folder)) == 90, "the log itself says where it has a hole"


def test_wide_rows_are_dropped_by_their_bytes(folder: Path, opened: list[PredictionLog]) -> None:
    log = PredictionLog(folder, queue_size=10**6, segment_bytes=10**9, segments_kept=4, queue_bytes=100_000)
    opened.append(log)
    wide = {"inputs": ["x" * 60_000]}
    for number in range(2000):
        log.put(record(number, **wide))
        assert sum(len(entry.lines) for entry in list(log._queue)) <= 100_000 + 2 * 61_000
    log.close()
    assert log.written + log.dropped == 2000
    assert log.dropped > 0


def test_a_full_disk_costs_records_and_nothing_else(
    folder: Path, opened: list[PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    disk.full = True
    log = open_log(folder, opened)
    for number in range(20):
        log.put(record(number))
    settled(log, 20)
    assert (log.written, log.dropped) == (0, 20)
    assert "No space left" in log.trouble
    disk.full = False
    log.put(record(20))
    settled(log, 21)
    log.close()
    assert rids(folder) == ["r-20"]
    assert log.trouble == ""
    assert sum(found.get("dropped", 0) for found in records(folder)) == 20


def test_a_disk_that_stays_full_does_not_push_out_what_was_written_before(
    folder: Path, opened: list[PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(folder, opened, segments_kept=2)
    log.put(record(0))
    settled(log, 1)

    class Stuck:
        """A segment on a full disk: it can be opened, and nothing can be written to it."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream
            self.name = stream.name

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self._stream.close()

    original = PredictionLog._open_segment
    monkeypatch.setattr(PredictionLog, "_open_segment", lambda self: Stuck(original(self)))
    log._abandon_segment()
    for number in range(1, 8):
        log.put(record(number))
        settled(log, number + 1)
    monkeypatch.setattr(PredictionLog, "_open_segment", original)
    log.put(record(8))
    settled(log, 9)
    assert rids(folder) == ["r-0", "r-8"]


def test_a_folder_that_cannot_be_made_costs_records_only(tmp_path: Path, opened: list[PredictionLog]) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    log = open_log(tmp_path / "taken", opened)
    log.put(record(1))
    settled(log, 1)
    assert (log.written, log.dropped) == (0, 1)


@pytest.mark.parametrize(
    "sent",
    [
        {"inputs": ["\ud800", 1.5]},
        {"inputs": [2**80]},
        {"columns": ["\udfff"], "inputs": [1]},
        {"output": "\ud800", "label": "\ud800"},
        {"output": 2**70},
        {"keys": {"account": 2**70}},
        {"keys": {"account": "\ud800"}},
        {"rid": 2**70},
        {"inputs": nested(300)},
        {"inputs": ["x" * 3_000_000]},
        {"output": "x" * 3_000_000, "label": "x" * 3_000_000},
    ],
    ids=lambda sent: next(f"{name}-{repr(value)[:12]}" for name, value in sent.items()),
)
def test_what_a_client_may_send_does_not_end_the_log(
    folder: Path, opened: list[PredictionLog], sent: dict[str, Any]
) -> None:
    log = open_log(folder, opened)
    log.put(record(1, **sent))
    log.put({"t": time.time()}, [sent, {"rid": "of-two"}])
    log.put(record(2))
    settled(log, 4)
    log.close()
    assert len(rids(folder)) == 3 + ("rid" in sent)
    assert rids(folder)[-2:] == ["of-two", "r-2"]
    assert log.dropped == 0
    assert all(path.stat().st_size < 2 * RECORD_BYTES for path in segments(folder))


def test_a_label_that_can_be_said_is_kept_where_the_inputs_cannot(folder: Path, opened: list[PredictionLog]) -> None:
    log = open_log(folder, opened)
    log.put(record(1, inputs=[2**80], label="größer"))
    settled(log, 1)
    log.close()
    (kept,) = records(folder)
    assert (kept["label"], kept["score"], "inputs" in kept) == ("größer", 0.5, False)


def test_segments_are_closed_by_size_and_the_oldest_go(folder: Path, opened: list[PredictionLog]) -> None:
    log = open_log(folder, opened, segment_bytes=1, segments_kept=3)
    for number in range(8):
        log.put(record(number))
        settled(log, number + 1)
    log.close()
    assert [path.name for path in segments(folder)] == [f"{number:08d}.jsonl" for number in range(5, 9)]
    assert rids(folder) == ["r-4", "r-5", "r-6", "r-7"]


def test_what_a_killed_server_left_is_closed_and_its_torn_line_skipped(
    folder: Path, opened: list[PredictionLog]
) -> None:
    folder.mkdir(parents=True)
    whole = json.dumps(record(1))
    (folder / "00000007.jsonl.open").write_text(f"{whole}\n{whole[:25]}")
    log = open_log(folder, opened)
    log.put(record(2))
    settled(log, 1)
    log.close()
    assert [path.name for path in segments(folder)] == ["00000007.jsonl", "00000008.jsonl"]
    assert rids(folder) == ["r-1", "r-2"]


def test_spoilt_bytes_in_a_segment_are_skipped(folder: Path) -> None:
    folder.mkdir(parents=True)
    lines = [json.dumps(record(1)).encode(), b"\x00" * 40, b"{]", json.dumps(record(2)).encode()]
    (folder / "00000001.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert rids(folder) == ["r-1", "r-2"]


def test_counters_are_told_while_it_runs_and_when_it_ends(folder: Path, opened: list[PredictionLog]) -> None:
    assert read_stats(folder) == read_stats(folder / "nowhere")
    log = open_log(folder, opened)
    log.put(record(1))
    until(lambda: read_stats(folder).reported_at is not None, within_s=10, what="a first word of the log")
    assert abs(time.time() - (read_stats(folder).reported_at or 0)) < 10
    log.close()
    assert (read_stats(folder).written, read_stats(folder).dropped, read_stats(folder).reported_at) == (1, 0, None)


@pytest.mark.parametrize("spoilt", ["", "{", "[]", "7", '{"written": 1}', '{"written": "x", "dropped": 0}'])
def test_spoilt_counters_are_no_counters(folder: Path, spoilt: str) -> None:
    folder.mkdir(parents=True)
    (folder / STATS_FILE).write_text(spoilt)
    assert (read_stats(folder).written, read_stats(folder).dropped) == (0, 0)


def test_only_its_owner_reads_what_clients_sent(folder: Path, opened: list[PredictionLog]) -> None:
    log = open_log(folder, opened)
    log.put(record(1))
    settled(log, 1)
    assert folder.stat().st_mode & 0o077 == 0


# Many rows of one request.

_CELLS = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.integers(-(2**80), 2**80)


@given(
    shared=st.dictionaries(st.sampled_from(["t", "release", "columns"]), _CELLS | st.lists(_CELLS, max_size=3)),
    rows=st.lists(
        st.dictionaries(st.sampled_from(["rid", "inputs", "label"]), _CELLS | st.lists(_CELLS, max_size=3)),
        min_size=1,
        max_size=5,
    ),
)
def test_rows_of_one_request_are_the_lines_that_they_would_be_one_by_one(
    shared: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    together = [json.loads(line) for line in _lines(shared, rows).splitlines()]
    one_by_one = [json.loads(_line({**shared, **row})) for row in rows]
    assert len(together) == len(rows)
    # Where one of them holds what cannot be said, the others keep all of theirs.
    assert together == one_by_one


def test_a_request_of_many_rows_is_bounded_row_by_row(folder: Path, opened: list[PredictionLog]) -> None:
    log = open_log(folder, opened)
    rows = [
        {"rid": f"r-{at}", "inputs": ["x" * (2 * RECORD_BYTES if at == 1 else 10)], "label": "1"} for at in range(3)
    ]
    log.put({"t": time.time(), "status": 200}, rows)
    settled(log, 3)
    log.close()
    found = list(records(folder))
    assert [(one["rid"], "inputs" in one, one["label"]) for one in found] == [
        ("r-0", True, "1"),
        ("r-1", False, "1"),
        ("r-2", True, "1"),
    ]
    assert (log.written, log.dropped) == (3, 0)


def test_a_request_of_more_rows_than_the_queue_holds_is_kept_and_the_next_one_dropped_whole(
    folder: Path, opened: list[PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    original = PredictionLog._next_batch

    def held(self: PredictionLog) -> Any:
        go_on.wait(30)
        return original(self)

    monkeypatch.setattr(PredictionLog, "_next_batch", held)
    log = open_log(folder, opened, queue_size=10)
    for request in ("a", "b"):
        log.put({"t": time.time()}, [{"rid": f"{request}-{at}"} for at in range(25)])
    assert log.dropped == 25
    go_on.set()
    settled(log, 50)
    log.close()
    assert rids(folder) == [f"a-{at}" for at in range(25)]
