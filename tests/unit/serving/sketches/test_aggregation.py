"""Prediction logs become sketches: each row once, whatever happens meanwhile, and what was lost is said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference, make_reference
from airflow_provider_mlpipex.domain.drift.served import REST
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, merge
from airflow_provider_mlpipex.domain.errors import SketchUnusable
from airflow_provider_mlpipex.serving.prediction_log.outputs import describe_all
from airflow_provider_mlpipex.serving.prediction_log.writer import PredictionLog
from airflow_provider_mlpipex.serving.sketches import aggregation
from airflow_provider_mlpipex.serving.sketches import store as sketch_store
from airflow_provider_mlpipex.serving.sketches.aggregation import compact
from airflow_provider_mlpipex.serving.sketches.packed import pack, unpack
from airflow_provider_mlpipex.serving.sketches.store import DAY, HOUR, MINUTE, Counted, Position, SketchStore, opened
from tests.support.faults import Killed
from tests.support.polling import until

#: Noon of a day: nothing here looks at the clock.
NOW = 1_772_366_400.0
ALL = (0, int(NOW) + DAY)


def trained() -> Reference:
    generator = np.random.default_rng(1)
    amounts = generator.lognormal(size=2000)
    countries = np.array(["NL", "BE", "DE"], dtype=object)[generator.integers(0, 3, 2000)]
    return make_reference({"amount": amounts, "country": countries}, scores=generator.random(2000))


REFERENCE = trained()


def record(number: int, *, ago: float = 60.0, **changes: Any) -> dict[str, Any]:
    told = {
        "rid": f"r{number}",
        "t": NOW - ago,
        "status": 200,
        "batch": "",
        "columns": ["amount", "country"],
        "inputs": [0.5 + number / 10, "NL" if number % 2 else "BE"],
        "output": 0.5,
        "score": 0.5,
    }
    return told | changes


class Log:
    """A log folder that a test writes by hand, and the store that it is counted into."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "log"
        self.folder.mkdir()
        self.path = root / "sketches" / "release.sqlite"

    def write(self, *lines: Mapping[str, Any] | bytes, segment: str = "00000001.jsonl.open") -> Path:
        path = self.folder / segment
        with path.open("ab") as stream:
            stream.writelines(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines)
        return path

    @contextmanager
    def store(self, reference: Reference = REFERENCE) -> Iterator[SketchStore]:
        with opened(self.path, reference) as store:
            yield store

    def compact(self, *, now: float = NOW) -> int:
        with self.store() as store:
            return compact(self.folder, store, now=lambda: now)

    def total(self, column: str = "amount", window: tuple[int, int] = ALL) -> Sketch:
        with self.store() as store:
            return store.total(column, *window)

    def dropped(self, window: tuple[int, int] = ALL) -> int:
        with self.store() as store:
            return store.dropped(*window)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def counted(records: Sequence[Mapping[str, Any]], column: str = "amount") -> Sketch:
    """What the reference itself counts of these records."""
    rows = {name: [one["inputs"][place] for one in records] for place, name in enumerate(("amount", "country"))}
    return REFERENCE.sketch(rows, scores=[one["score"] for one in records])[column]


# Reading


def test_a_log_is_counted_as_the_reference_counts_its_rows(log: Log) -> None:
    records = [record(number, ago=3 * number, batch=f"b{number % 2}", score=number / 100) for number in range(100)]
    log.write(*records)
    log.compact()
    for column in REFERENCE.columns:
        assert log.total(column) == counted(records, column)
    with log.store() as store:
        names = {name: number for number, name in store.names().items()}
        for batch in ("b0", "b1"):
            mine = [one for one in records if one["batch"] == batch]
            assert store.batches("amount", [names[batch]], *ALL) == {names[batch]: counted(mine)}
    last_minute = (int(NOW) - MINUTE, int(NOW))
    assert log.total(window=last_minute) == counted([one for one in records if NOW - MINUTE <= one["t"] < NOW])


def test_answers_in_words_are_counted_by_their_classes(log: Log) -> None:
    answers = ["yes", "no", "yes", "perhaps"] * 10
    reference = make_reference({"amount": range(40)}, scores=answers)
    served = answers[:20]
    records = [record(at, **fields) for at, fields in enumerate(describe_all(served))]
    # A plain number is its own label, and none of this model's classes.
    log.write(*records, record(20, score=0.5))
    with log.store(reference) as store:
        compact(log.folder, store, now=lambda: NOW)
        total = store.total(SCORE, *ALL)
    (column,) = [one for name, one in reference.columns.items() if name == SCORE]
    categories = dict(zip(column.bins.categories, column.counts(total)[0], strict=False))
    assert categories == {"yes": 10, "no": 5, "perhaps": 5}
    assert total.unreadable == 1


def test_the_log_of_a_model_server_is_read_while_it_is_written(log: Log) -> None:
    writer = PredictionLog(log.folder, queue_size=10_000, segment_bytes=3000, segments_kept=100)
    records = [record(number) for number in range(200)]
    for first in range(0, 200, 20):
        for one in records[first : first + 20]:
            writer.put(one)
        until(lambda: writer.written == first + 20, within_s=10, what="the rows are in the log")  # noqa: B023
        log.compact()
    writer.close()
    assert len(list(log.folder.glob("*.jsonl"))) > 3
    log.compact()
    log.compact()
    assert log.total() == counted(records)
    assert log.dropped() == 0


def test_only_answers_are_counted(log: Log) -> None:
    log.write(record(1), record(2, status=500), record(3, status=400), {"rid": "r4", "t": NOW, "status": 503})
    log.compact()
    assert (log.total().rows, log.dropped()) == (1, 0)


def test_a_request_that_was_answered_twice_counts_twice(log: Log) -> None:
    log.write(record(1), record(1))
    log.compact()
    assert log.total().rows == 2


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1000])
def test_the_size_of_chunks_changes_nothing(log: Log, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "CHUNK_BYTES", chunk_bytes)
    records = [record(number) for number in range(12)]
    log.write(*records[:6], b'{"torn', segment="00000001.jsonl")
    log.write(*records[6:])
    log.write(*records[6:], segment="00000002.jsonl.open")
    log.write(b'{"not yet whole', segment="00000002.jsonl.open")
    (log.folder / "00000001.jsonl.open").unlink()
    log.compact()
    assert (log.total(), log.dropped()) == (counted(records), 1)


def test_columns_that_a_row_does_not_have_are_absent(log: Log) -> None:
    log.write(
        record(1),
        record(2, columns=["country", "amount", "unknown"], inputs=["BE", 1.5, 7]),
        record(3, columns=["country"], inputs=["NL"]),
        record(4, columns=["amount"], inputs=[1.0, 2.0]),
        record(5, columns=None, inputs=None),
        {"rid": "r6", "t": NOW, "status": 200, "score": 0.5},
    )
    log.compact()
    found = {column: (log.total(column).usable, log.total(column).absent) for column in REFERENCE.columns}
    assert found == {"amount": (2, 4), "country": (3, 3), SCORE: (6, 0)}


def test_values_of_another_type_than_in_training_are_unreadable(log: Log) -> None:
    log.write(
        record(1, inputs=["12.5", 7]),
        record(2, inputs=[[1, 2], {"a": 1}]),
        record(3, inputs=[None, None], score=None),
        record(4, inputs=[1e308, "XX"], score="high"),
    )
    log.compact()
    amount, country, score = (log.total(column) for column in ("amount", "country", SCORE))
    assert (amount.unreadable, amount.missing, amount.usable) == (2, 1, 1)
    assert (country.unreadable, country.missing, country.usable) == (2, 1, 1)
    assert (score.missing, score.unreadable, score.usable) == (1, 1, 2)


def test_what_json_cannot_say_is_missing(log: Log) -> None:
    writer = PredictionLog(log.folder, queue_size=100, segment_bytes=10_000, segments_kept=2)
    for number, value in enumerate((float("nan"), float("inf"), 1.0)):
        writer.put(record(number, inputs=[value, "NL"], score=value))
    writer.close()
    log.compact()
    assert (log.total().missing, log.total().usable, log.total(SCORE).missing) == (2, 1, 2)
    assert log.dropped() == 0


def test_a_column_of_very_many_values_stays_small(log: Log) -> None:
    def size() -> int:
        with log.store() as store:
            return len(pack(store.total("country", *ALL)))

    for number in range(5):
        log.write(*(record(row, inputs=[1.0, f"{number}-{row}"]) for row in range(4000)))
        log.compact()
        assert size() < 400
    assert log.total("country").rows == 20_000


# What is lost


def test_torn_lines_are_dropped_rows(log: Log) -> None:
    log.write(record(1, ago=600), b'{"rid": "r2", "t":\n', b"\x00\x00\x00\n", b"[1]\n", b"\n", record(3))
    log.compact()
    assert (log.total().rows, log.dropped()) == (2, 3)
    torn = int(NOW - 600) // MINUTE * MINUTE
    assert log.dropped((torn, torn + MINUTE)) == 3


def test_the_last_line_waits_until_it_is_whole(log: Log) -> None:
    whole = json.dumps(record(2)).encode() + b"\n"
    log.write(record(1), whole[:40])
    log.compact()
    assert (log.total().rows, log.dropped()) == (1, 0)
    log.write(whole[40:])
    log.compact()
    assert (log.total().rows, log.dropped()) == (2, 0)


def test_the_last_line_of_a_closed_segment_is_torn_for_good(log: Log) -> None:
    path = log.write(record(1), b'{"rid": "r2", "t"')
    log.compact()
    path.rename(path.with_suffix(""))
    log.compact()
    log.compact()
    assert (log.total().rows, log.dropped()) == (1, 1)


def test_what_the_model_server_dropped_is_dropped_in_its_minute(log: Log) -> None:
    log.write(record(1), {"t": NOW - 600, "dropped": 7}, {"t": NOW - 60, "dropped": 2})
    log.compact()
    assert log.dropped() == 9
    assert log.dropped((int(NOW) - 120, int(NOW))) == 2


@pytest.mark.parametrize(
    "moment", [NOW + 3700, 1e300, -5.0, 0.0, NOW - 500 * DAY, "2026-03-01", None, True, [NOW]], ids=str
)
def test_a_time_that_cannot_be_is_a_dropped_row(log: Log, moment: Any) -> None:
    log.write(record(1), record(2, t=moment), record(3))
    log.compact()
    assert (log.total().rows, log.dropped()) == (2, 1)


def test_a_clock_that_steps_back_decides_the_minute_all_the_same(log: Log) -> None:
    log.write(record(1, ago=-3000), record(2, ago=7200), record(3, ago=60))
    log.compact()
    windows = [(minute, minute + MINUTE) for minute in (int(NOW) + 3000, int(NOW) - 7200, int(NOW) - 60)]
    assert [log.total(window=window).rows for window in windows] == [1, 1, 1]
    assert log.dropped() == 0


def test_segments_that_were_deleted_unread_are_dropped_rows(log: Log) -> None:
    """Ten rows a segment: one whole segment, and half of the one before."""
    for number in range(1, 5):
        rows = [record(row, ago=3600.0 - 600 * number) for row in range(10)]
        log.write(*rows[: 5 if number == 1 else 10], segment=f"{number:08d}.jsonl{'.open' if number in (1, 4) else ''}")
        if number == 1:
            log.compact()
    for gone in ("00000001.jsonl.open", "00000002.jsonl"):
        (log.folder / gone).unlink()
    lost = log.compact()
    assert lost == log.dropped() == 15
    assert log.total().rows == 25
    between = (int(NOW) - 3000, int(NOW) - 1800 + MINUTE)
    assert log.dropped(between) == 15
    assert 0 < log.dropped((between[0], between[0] + 5 * MINUTE)) < 15
    assert log.compact() == 0


def test_a_segment_that_was_read_to_its_end_may_be_deleted(log: Log) -> None:
    first = log.write(record(1), segment="00000001.jsonl")
    log.write(record(2), segment="00000002.jsonl.open")
    log.compact()
    first.unlink()
    log.write(record(3), segment="00000002.jsonl.open")
    assert log.compact() == 0
    assert (log.total().rows, log.dropped()) == (3, 0)


def test_a_log_that_was_deleted_is_counted_from_its_new_beginning(log: Log) -> None:
    old = [log.write(*map(record, range(5)), segment=f"0000000{number}.jsonl") for number in (1, 2, 3)]
    log.compact()
    for path in old:
        path.unlink()
    log.compact()
    log.write(record(9))
    log.compact()
    assert (log.total().rows, log.dropped()) == (16, 0)


def test_a_log_that_is_not_there_yet_is_empty(log: Log) -> None:
    log.folder.rmdir()
    assert log.compact() == 0
    assert log.total().rows == 0


# Storing


def test_a_crash_at_any_write_neither_loses_nor_doubles_rows(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "CHUNK_BYTES", 1500)
    records = [record(number, ago=100.0 * number, batch=f"b{number % 2}") for number in range(20)]
    log.write(*records, b"torn\n")
    real, left, kills = sketch_store.pack, 0, 0

    def pack_or_die(sketch: Sketch) -> bytes:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return real(sketch)

    monkeypatch.setattr(sketch_store, "pack", pack_or_die)
    for enough in range(0, 400, 7):
        left = enough
        try:
            log.compact()
        except Killed:
            kills += 1
        else:
            break
    assert kills > 3
    assert log.total() == counted(records)
    assert log.dropped() == 1


def test_a_store_that_cannot_be_written_loses_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write(*(record(number, batch=f"b{number}") for number in range(50)))
    connected = sketch_store._connected

    @contextmanager
    def on_a_full_disk(path: Path) -> Iterator[Any]:
        with connected(path) as database:
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            database.execute(f"PRAGMA max_page_count = {pages}")
            yield database

    assert log.total().rows == 0
    with monkeypatch.context() as full:
        full.setattr(sketch_store, "_connected", on_a_full_disk)
        with pytest.raises(sketch_store.sqlite3.OperationalError, match="full"):
            log.compact()
    assert log.total().rows == 0
    log.compact()
    assert log.total().rows == 50


def test_the_store_is_for_its_owner_alone(log: Log) -> None:
    log.compact()
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_store_of_another_version_is_refused(log: Log) -> None:
    log.compact()
    with sketch_store._connected(log.path) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(sketch_store.sqlite3.DatabaseError, match="format 9"):
        log.compact()


SKETCHES = [REFERENCE.sketch({"amount": [0.1 * number + 0.1], "country": ["NL"]}) for number in range(7)]
START = int(NOW) // DAY * DAY - 2 * DAY


Minutes = dict[tuple[str, int], Sketch]


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Minutes]:
    """A store of minutes here and there in three days, late ones among them, and the rows of each batch and minute.

    Two batches live all the time, others one or two minutes.
    """
    path = tmp_path_factory.mktemp("rollup") / "release.sqlite"
    generator = np.random.default_rng(2)
    minutes: Minutes = {}
    with opened(path, REFERENCE) as store:
        for turn in range(8):
            chosen = np.unique(START + generator.integers(0, 3 * DAY // MINUTE, 60) * MINUTE).tolist()
            names = ["always", "", *(f"short {minute // 997 % 40}" for minute in chosen)]
            keys = [
                (names[place % 5] if place % 5 < 2 else names[place], minute) for place, minute in enumerate(chosen)
            ]
            store.add(Counted(sketches={key: SKETCHES[turn % 7] for key in keys}), Position())
            for key in keys:
                minutes[key] = merge([SKETCHES[turn % 7]["amount"], *([minutes[key]] if key in minutes else [])])
    return path, minutes


@settings(max_examples=60, deadline=None)
@given(
    window=st.tuples(st.integers(-100, 3 * 1440 + 100), st.integers(-100, 3 * 1440 + 100)).map(sorted),
    whole=st.sampled_from([MINUTE, HOUR, DAY]),
)
def test_any_window_is_the_sum_of_its_minutes(three_days: tuple[Path, Minutes], window: list[int], whole: int) -> None:
    path, minutes = three_days
    first, end = (START + edge * MINUTE // whole * whole for edge in window)
    with opened(path, REFERENCE) as store:
        found = store.total("amount", first, end)
        names = store.names()
        by_batch = {names[batch]: sketch for batch, sketch in store.batches("amount", names, first, end).items()}
    inside = {key: sketch for key, sketch in minutes.items() if first <= key[1] < end}
    assert found == merge([REFERENCE.empty()["amount"], *inside.values()])
    assert by_batch == {
        batch: merge([sketch for key, sketch in inside.items() if key[0] == batch])
        for batch in {batch for batch, _ in inside}
    }


def test_batches_that_live_long_are_read_by_whole_days(three_days: tuple[Path, Minutes]) -> None:
    path, _ = three_days
    with sketch_store._connected(path) as database:
        days, parts = (
            database.execute(f"SELECT count(*) FROM {table} WHERE batch = 1 AND col = 0").fetchone()[0]
            for table in ("batch_totals", "part_sketches")
        )
    assert days == 3 < parts / 10


# Bounds


def test_a_day_has_so_many_batches_by_name(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch_store, "BATCHES_A_DAY", 3)
    log.write(*(record(number, batch=f"b{number}") for number in range(10)), record(11, batch="x" * 300))
    log.write(record(12, batch="b1"), record(13, batch="late", ago=2 * DAY))
    log.compact()
    assert log.total().rows == 13
    with log.store() as store:
        names = store.names()
        found = store.batches("amount", names, *ALL)
    assert {names[number]: sketch.rows for number, sketch in found.items()} == {
        "b0": 1,
        "b1": 2,
        "b2": 1,
        "late": 1,
        REST: 8,
    }


def test_old_minutes_are_deleted_and_their_hours_stay(log: Log) -> None:
    log.write(*(record(number, ago=number * 10.0 * DAY, batch=f"b{number}") for number in range(30)))
    log.compact()
    log.compact(now=NOW + 2 * HOUR)
    with log.store() as store:
        kept_from = store.minutes_from()
        assert kept_from % DAY == 0
        assert NOW - kept_from >= sketch_store.MINUTES_KEPT_S
        assert store.names().keys() == {0, *range(1, 5)}
        assert len(store.parts("amount", *ALL)) == 4
    assert log.total().rows == 30
    hour = int(NOW - 100 * DAY) // HOUR * HOUR
    assert log.total(window=(hour, hour + HOUR)).rows == 1
    log.compact(now=NOW + 250 * DAY)
    assert log.total().rows == 16
    assert log.total(window=(int(NOW - 150 * DAY) // HOUR * HOUR, int(NOW) + DAY)).rows == 16


def test_a_late_row_is_added_to_the_hours_of_minutes_that_are_gone(log: Log) -> None:
    log.write(record(1, ago=40.0 * DAY))
    log.compact()
    log.compact(now=NOW + 2 * HOUR)
    log.write(record(2, ago=40.0 * DAY))
    log.compact(now=NOW + 2 * HOUR)
    assert log.total().rows == 2
    with log.store() as store:
        assert store.parts("amount", *ALL) == []


def test_a_store_that_grows_too_large_gives_up_its_oldest_minutes(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write(*(record(number, ago=600.0 * number) for number in range(1000)))
    log.compact()
    with log.store() as store:
        before, parts = store._bytes(), len(store.parts("amount", *ALL))
    monkeypatch.setattr(sketch_store, "MAX_BYTES", before * 2 // 3)
    log.compact(now=NOW + 2 * HOUR)
    with log.store() as store:
        assert store._bytes() <= before * 2 // 3
        assert 0 < len(store.parts("amount", *ALL)) < parts
        assert NOW - 7 * DAY < store.minutes_from() < NOW
    assert log.total().rows == 1000


# Bytes


@given(
    values=st.lists(st.one_of(st.floats(), st.none(), st.text(max_size=3)), max_size=30),
    scores=st.floats(-1e6, 1e6),
)
def test_packing_loses_nothing(values: list[Any], scores: float) -> None:
    rows = {"amount": values, "country": values}
    for sketch in REFERENCE.sketch(rows, scores=[scores] * len(values)).values():
        assert unpack(pack(sketch), sketch.bins) == sketch


def test_numbers_beyond_64_bits_are_packed() -> None:
    many = merge([REFERENCE.sketch({"amount": [1e300] * 8})["amount"]] * 1)
    huge = Sketch(**{**many.__dict__, "squares": 2**90, "total": -(2**70), "counts": many.counts * 2**40})
    assert unpack(pack(huge), huge.bins) == huge


@pytest.mark.parametrize("broken", [b"", b"nothing", pack(SKETCHES[0]["amount"])[:-3]])
def test_broken_bytes_are_said(broken: bytes) -> None:
    with pytest.raises(SketchUnusable, match="stored sketch"):
        unpack(broken, "bins")
