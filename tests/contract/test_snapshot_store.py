"""What every snapshot store promises: the digest of all rows, one copy of the same rows, no wrong rows read."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_mlpipex.adapters.files.parquet_snapshots import ParquetSnapshots
from airflow_provider_mlpipex.domain.errors import DataQualityFailed, InvalidName, SnapshotCorrupt
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot
from airflow_provider_mlpipex.ports import SnapshotStore
from airflow_provider_mlpipex.testing.snapshots import MemorySnapshots

START = datetime(2026, 1, 1, tzinfo=UTC)
SPLIT, END = START + timedelta(days=8), START + timedelta(days=10)


@pytest.fixture(params=["memory", "parquet"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SnapshotStore:
    return MemorySnapshots() if request.param == "memory" else ParquetSnapshots(tmp_path)


def table(**columns: object) -> pd.DataFrame:
    """Ten rows, one a day, with every kind of column that a feature table has."""
    frame = {
        "at": pd.date_range(START, periods=10, freq="D"),
        "distance": np.arange(10),
        "wind": [0.5, np.nan, np.inf, -np.inf, -0.0, 1e300, 5e-324, 1.0, 2.0, 3.0],
        "carrier": ["AA", None, "ü", "", "B6", "B6", "UA", "a\0b", "DL", "AA"],
        "size": pd.Categorical(["s", "m", None, "l", "s", "m", "l", "s", "m", "l"], ["s", "m", "l"], ordered=True),
        "late": [True, False] * 5,
    }
    return pd.DataFrame({**frame, **columns})


def write(store: SnapshotStore, frame: pd.DataFrame, **changes: object) -> DatasetSnapshot:
    arguments = {"name": "flights", "time_column": "at", "window_start": START, "split_at": SPLIT, "window_end": END}
    return store.write(frame, **{**arguments, **changes})  # type: ignore[arg-type]


def test_reads_back_what_was_written(store: SnapshotStore) -> None:
    snapshot = write(store, table())
    assert isinstance(store, SnapshotStore)
    assert (snapshot.rows, snapshot.time_column) == (10, "at")
    assert list(snapshot.columns) == ["at", "distance", "wind", "carrier", "size", "late"]
    assert snapshot.columns["at"] == "timestamp[ns, tz=UTC]"
    pd.testing.assert_frame_equal(store.read(snapshot), table())


def test_integers_that_pandas_would_round_are_refused_by_name(store: SnapshotStore) -> None:
    whole = pd.array([2**53 + 1] * 10, dtype="Int64")
    assert store.read(write(store, table(account=whole)))["account"].tolist() == [2**53 + 1] * 10
    gaps = pd.array([2**53 + 1, None] * 5, dtype="Int64")
    with pytest.raises(DataQualityFailed, match=r"column account.*2\^53"):
        write(store, table(account=gaps))
    small = pd.array([2**53, None] * 5, dtype="Int64")
    assert store.read(write(store, table(account=small)))["account"][0] == 2**53


@pytest.mark.parametrize(
    "nested",
    [
        [["x", "y"]] * 9 + [[]],
        [["x"], None] * 5,
        [np.array([0.5, 1.5])] * 10,
        [[[1], [2, 3]]] * 10,
        [{"a": 1, "b": ["x"]}] * 10,
        [Decimal("1.25"), None] * 5,
        [date(2026, 3, 1), None] * 5,
        [b"ab", None] * 5,
        [None] * 10,
    ],
    ids=["lists", "gaps", "arrays", "lists of lists", "structs", "decimals", "dates", "bytes", "nothing"],
)
def test_columns_that_are_no_scalars_are_kept_beside_the_others(store: SnapshotStore, nested: list[object]) -> None:
    frame = table(beside=pd.Series(nested, dtype=object))
    snapshot = write(store, frame)
    held = store.read(snapshot)["beside"].tolist()
    plain = [value.tolist() if isinstance(value, np.ndarray) else value for value in held]
    given = [value.tolist() if isinstance(value, np.ndarray) else value for value in nested]
    assert json.loads(json.dumps(plain, default=_listed)) == json.loads(json.dumps(given, default=_listed))
    assert write(store, frame) == snapshot
    changed = [nested[0], *nested[:9]] if nested[1] is None else [*nested[:9], None]
    other = write(store, table(beside=pd.Series(changed, dtype=object)))
    assert (other.digest == snapshot.digest) == (nested[0] is None)


def _listed(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def test_the_digest_of_rows_is_that_of_their_snapshot_and_keeps_nothing(store: SnapshotStore, tmp_path: Path) -> None:
    digest = store.digest(table(), name="flights")
    assert not list(tmp_path.rglob("*"))
    assert not getattr(store, "tables", {})
    assert digest == write(store, table()).digest
    assert digest != store.digest(table(distance=np.arange(1, 11)), name="flights")
    with pytest.raises(DataQualityFailed, match="column distance"):
        store.digest(table(distance=[1, "two", *range(8)]), name="flights")


def test_same_rows_give_the_same_snapshot(store: SnapshotStore) -> None:
    reindexed = table().set_index(np.arange(10, 20))
    assert write(store, table()) == write(store, table()) == write(store, reindexed)


def test_every_value_counts(store: SnapshotStore) -> None:
    digests = {write(store, table()).digest}
    for column in ("distance", "wind", "carrier", "size", "late"):
        for row in range(9):
            changed = table()
            swapped = [*range(row), row + 1, row, *range(row + 2, 10)]
            changed[column] = changed[column].iloc[swapped].array
            if not changed[column].equals(table()[column]):
                digests.add(write(store, changed).digest)
    # Two neighbours in "carrier" are equal (B6, B6); every other swap is another table.
    assert len(digests) == 1 + 5 * 9 - 1


@pytest.mark.parametrize(
    "changed",
    [
        table().rename(columns={"wind": "gust"}),
        table()[["at", "wind", "distance", "carrier", "size", "late"]],
        table(distance=np.arange(10, dtype="float64")),
        table(distance=np.arange(10, dtype="int32")),
        table(carrier=["AA", "", "ü", "", "B6", "B6", "UA", "a\0b", "DL", "AA"]),
        table(carrier=["AA", None, "ü", "B6", "", "B6", "UA", "a\0b", "DL", "AA"]),
        table(size=table()["size"].cat.reorder_categories(["l", "m", "s"])),
        table(at=pd.date_range(START, periods=10, freq="D").as_unit("us")),
        table(wind=[0.5, 0.0, np.inf, -np.inf, -0.0, 1e300, 5e-324, 1.0, 2.0, 3.0]),
    ],
    ids=["name", "order", "float", "int32", "none-to-empty", "moved-text", "categories", "unit", "nan-to-zero"],
)
def test_shape_counts_too(store: SnapshotStore, changed: pd.DataFrame) -> None:
    assert write(store, changed).digest != write(store, table()).digest


def test_missing_is_missing(store: SnapshotStore) -> None:
    with_nan = table(carrier=["AA", np.nan, "ü", "", "B6", "B6", "UA", "a\0b", "DL", "AA"])
    quiet = np.array([0x7FF8000000000001], dtype="uint64").view("float64")[0]
    other_nan = table(wind=[0.5, quiet, np.inf, -np.inf, -0.0, 1e300, 5e-324, 1.0, 2.0, 3.0])
    assert write(store, table()).digest == write(store, with_nan).digest == write(store, other_nan).digest


def test_rows_beyond_the_first_ten_thousand_count(store: SnapshotStore) -> None:
    at = pd.date_range(START, END, periods=20_001, inclusive="left")
    before = write(store, pd.DataFrame({"at": at, "x": 0}))
    after = write(store, pd.DataFrame({"at": at, "x": [0] * (len(at) - 1) + [1]}))
    assert before.digest != after.digest


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (table().head(0), "at least one row"),
        (table().drop(columns="at"), "a column of the table"),
        (table(at=pd.date_range("2026-01-01", periods=10, freq="D")), "a timestamp with a time zone"),
        (table(at=[None, *pd.date_range(START, periods=9, freq="D")]), "1 rows without a time"),
        (table(at=pd.date_range(START + timedelta(hours=1), periods=10, freq="29h")), "1 rows outside the window"),
        (table(at=END - timedelta(days=1)), "training rows"),
        (table(at=START), "evaluation rows"),
        (table(distance=[1, "2"] * 5), "one type a column"),
        (pd.concat([table(), table()[["wind"]]], axis=1), "distinct texts"),
        (table().rename(columns={"wind": 7}), "distinct texts"),
    ],
    ids=[
        "empty",
        "no-time",
        "naive",
        "null-time",
        "outside",
        "no-training",
        "no-evaluation",
        "mixed",
        "twice",
        "number",
    ],
)
def test_refuses_a_table_that_cannot_be_trained_on(store: SnapshotStore, frame: pd.DataFrame, found: str) -> None:
    with pytest.raises(DataQualityFailed, match="dataset flights") as refused:
        write(store, frame)
    assert found in str(refused.value)


def test_refuses_windows_in_the_wrong_order(store: SnapshotStore) -> None:
    with pytest.raises(DataQualityFailed, match="start < split < end"):
        write(store, table(), split_at=END)


@pytest.mark.parametrize("name", ["../flights", "a.b", "a b", "x" * 300, ""])
def test_refuses_names_that_must_not_reach_a_path(store: SnapshotStore, name: str) -> None:
    with pytest.raises(InvalidName):
        write(store, table(), name=name)


def test_a_snapshot_that_was_never_taken_is_corrupt(store: SnapshotStore) -> None:
    unknown = write(store, table()).model_copy(update={"digest": "0" * 64})
    with pytest.raises(SnapshotCorrupt, match="0000"):
        store.read(unknown)


def test_changed_rows_are_corrupt(tmp_path: Path) -> None:
    store = ParquetSnapshots(tmp_path)
    snapshot = write(store, table())
    path = tmp_path / "flights" / f"{snapshot.digest}.parquet"
    pq.write_table(pa.Table.from_pandas(table(late=[True] * 10)), path)
    with pytest.raises(SnapshotCorrupt, match=snapshot.digest):
        store.read(snapshot)


@pytest.mark.parametrize("damage", ["torn", "empty", "gone"])
def test_a_damaged_file_is_corrupt_and_heals_when_taken_again(tmp_path: Path, damage: str) -> None:
    store = ParquetSnapshots(tmp_path)
    snapshot = write(store, table())
    path = tmp_path / "flights" / f"{snapshot.digest}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "torn" else b"")
    if damage == "gone":
        path.unlink()
    with pytest.raises(SnapshotCorrupt, match=snapshot.digest):
        store.read(snapshot)
    assert write(store, table()) == snapshot
    assert len(store.read(snapshot)) == 10


def test_the_file_is_written_once_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    store = ParquetSnapshots(tmp_path)
    snapshot = write(store, table())
    files = sorted((tmp_path / "flights").iterdir())
    assert [file.name for file in files] == [f"{snapshot.digest}.json", f"{snapshot.digest}.parquet"]
    assert DatasetSnapshot.model_validate_json(files[0].read_text()) == snapshot
    before = [file.stat().st_mtime_ns for file in files]
    write(store, table())
    assert [file.stat().st_mtime_ns for file in sorted((tmp_path / "flights").iterdir())] == before


def test_the_digest_does_not_depend_on_how_parquet_is_written(tmp_path: Path) -> None:
    store = ParquetSnapshots(tmp_path)
    snapshot = write(store, table())
    path = tmp_path / "flights" / f"{snapshot.digest}.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows, path, compression="none", use_dictionary=False, row_group_size=3, version="2.6")
    pd.testing.assert_frame_equal(store.read(snapshot), table())


def test_the_digest_of_these_rows_never_changes() -> None:
    """A pinned value: another digest would orphan every snapshot that was ever recorded."""
    pinned = "ad0180c1ae4a53ddf62bb006cba50d470783abc24e8f709fa8eb089268fa725c"
    assert write(MemorySnapshots(), table()).digest == pinned
    # pandas 3 hands text to Arrow under another type.
    large_text = table(carrier=table()["carrier"].astype(pd.ArrowDtype(pa.large_string())))
    assert write(MemorySnapshots(), large_text).digest == pinned
