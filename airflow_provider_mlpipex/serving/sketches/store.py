"""Sketches of one release of one endpoint, in one SQLite file, and how far its prediction log has been counted.

Counts and position are written in one transaction: after a crash at any line each row is counted once. ``parts`` are
kept by minute and batch; ``totals`` by hour and by day over all batches, so that thirty days of a column are some
hundred small rows; and ``batch_totals`` by day of batches that live longer than a minute. Sketches add up exactly, so a
late row is simply added to its minute, its hour and its day.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.drift.column_bins import no_rows
from airflow_provider_mlpipex.domain.drift.references import Reference
from airflow_provider_mlpipex.domain.drift.served import REST
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, merge
from airflow_provider_mlpipex.serving.sketches.packed import pack, unpack

MINUTE, HOUR, DAY = 60, 3600, 86_400
#: Ages (seconds) at which minutes, with the batches in them, and hours and days are deleted.
MINUTES_KEPT_S = 35 * DAY
TOTALS_KEPT_S = 400 * DAY
#: Size at which the oldest minutes are deleted before their time; hours and days stay.
MAX_BYTES = 2_000_000_000
#: Batches that one day may have by name: what names a batch for each request must not fill the disk.
BATCHES_A_DAY = 5000
#: Id of the batch of whatever has no name of its own.
REST_ID = 0
_FORMAT = 1
_BUSY_S = 30.0
_PRUNE_EVERY_S = HOUR
_SCHEMA = f"""
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE batches (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE batch_days (
        day INTEGER, batch INTEGER, minute INTEGER, longer INTEGER DEFAULT 0, PRIMARY KEY (day, batch)
    ) WITHOUT ROWID;
    CREATE TABLE batch_totals (col INTEGER, day INTEGER, batch INTEGER, sketch BLOB, PRIMARY KEY (col, day, batch));
    CREATE TABLE parts (
        col INTEGER, minute INTEGER, batch INTEGER, groups BLOB, low REAL, high REAL, PRIMARY KEY (col, minute, batch)
    ) WITHOUT ROWID;
    CREATE TABLE part_sketches (
        col INTEGER, minute INTEGER, batch INTEGER, sketch BLOB, PRIMARY KEY (col, minute, batch)
    );
    CREATE TABLE totals (col INTEGER, span INTEGER, start INTEGER, sketch BLOB, PRIMARY KEY (col, span, start));
    CREATE TABLE dropped (minute INTEGER PRIMARY KEY, rows INTEGER NOT NULL);
    INSERT INTO batches VALUES ({REST_ID}, '{REST}');
    PRAGMA user_version = {_FORMAT};
"""
# batch_days.minute: the first of a batch that was counted on a day; longer: there are others, and a total of the day.
# parts.groups: rows in each group of the column, which is all that is needed to find the batches that matter.

#: Parameters: column, minute, batch.
_PART = "SELECT sketch FROM part_sketches WHERE (col, minute, batch) = (?, ?, ?)"
#: Parameters: column, beginning, end, ids of batches as a JSON list; in the two statements below as well.
_PARTS_OF_BATCHES = """
    SELECT batch, sketch FROM part_sketches WHERE col = ? AND minute >= ? AND minute < ?
    AND batch IN (SELECT value FROM json_each(?))"""
#: Totals of whole days, and parts of batches that have none.
_WHOLE_DAYS_OF_BATCHES = (
    """
    SELECT batch, sketch FROM batch_totals WHERE col = ? AND day >= ? AND day < ?
    AND batch IN (SELECT value FROM json_each(?))""",
    f"""
    {_PARTS_OF_BATCHES} AND NOT EXISTS (
        SELECT 1 FROM batch_days AS whole
        WHERE day = part_sketches.minute / {DAY} * {DAY} AND whole.batch = part_sketches.batch AND longer
    )""",
)


@dataclass(frozen=True, kw_only=True)
class Position:
    """Up to where a prediction log has been read.

    :param segment: its number, 0 before the first; ``offset``: bytes of it that were read.
    :param closed: nothing will be added to it, and all of it was read.
    :param at: time (epoch seconds) of the last record that was read.
    """

    segment: int = 0
    offset: int = 0
    closed: bool = False
    at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What one chunk of a log adds. Minutes are epoch seconds of their beginning.

    :param sketches: (batch, minute) -> column -> rows. :param dropped: minute -> rows that could not be counted.
    """

    sketches: Mapping[tuple[str, int], Mapping[str, Sketch]] = field(default_factory=dict)
    dropped: Mapping[int, int] = field(default_factory=dict)


class SketchStore:
    """An open store. :param reference: of the release, kept in it so that the store can be read without the artifact.

    :raises sqlite3.Error: from every method; the file holds what it held before.
    """

    def __init__(self, database: sqlite3.Connection, reference: Reference) -> None:
        self._database = database
        self.reference = reference
        self._numbers = {name: number for number, name in enumerate(reference.columns)}

    def position(self) -> Position:
        stored = self._meta("position")
        return Position(**json.loads(stored)) if stored else Position()

    def admitted(self, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """Under which batch (batch, minute) is counted: its own, or :data:`REST` on a day that has too many.

        Part of the transaction that then adds them.
        """
        admitted = {}
        with self.writing():
            for batch, minute in wanted:
                admitted[batch, minute] = batch if batch != REST and self._admit(batch, minute) else REST
        return admitted

    def add(self, counted: Counted, position: Position) -> None:
        """Merge into what is there, and remember the position, or do neither."""
        with self.writing():
            kept_from = self.minutes_from()
            totals: defaultdict[tuple[str, int, int], list[Sketch]] = defaultdict(list)
            batch_totals: defaultdict[tuple[str, int, int], list[Sketch]] = defaultdict(list)
            for (batch, minute), columns in counted.sketches.items():
                number, day = self._id(batch), minute // DAY * DAY
                longer, before = self._lives_longer(number, minute) if minute >= kept_from else (False, None)
                for name, sketch in columns.items():
                    totals[name, HOUR, minute // HOUR * HOUR].append(sketch)
                    totals[name, DAY, day].append(sketch)
                    if longer:
                        key = (self._numbers[name], before, number)
                        batch_totals[name, day, number] += [sketch, *self._sketches(name, _PART, key)]
                    if minute >= kept_from:
                        self._add_part(name, minute, number, sketch)
            self._merge_into("totals", "col, span, start", totals)
            self._merge_into("batch_totals", "col, day, batch", batch_totals)
            self._database.executemany(
                "INSERT INTO dropped VALUES (?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
                list(counted.dropped.items()),
            )
            self._set_meta("position", json.dumps(asdict(position)))

    def minutes_from(self) -> int:
        """Older minutes are known as hours only."""
        return int(self._meta("minutes_from") or 0)

    def total(self, column: str, first: int, end: int) -> Sketch:
        """All rows of ``column`` in [first, end): whole minutes, or whole hours before :meth:`minutes_from`."""
        parts = [no_rows(self.reference.columns[column].bins)]
        number = self._numbers[column]
        for span, begin, until in _pieces(first, end):
            if span == MINUTE:
                sql = "SELECT sketch FROM part_sketches WHERE col = ? AND minute >= ? AND minute < ?"
                parts += self._sketches(column, sql, (number, begin, until))
            else:
                sql = "SELECT sketch FROM totals WHERE col = ? AND span = ? AND start >= ? AND start < ?"
                parts += self._sketches(column, sql, (number, span, begin, until))
        return merge(parts)

    def dropped(self, first: int, end: int) -> int:
        sql = "SELECT coalesce(sum(rows), 0) FROM dropped WHERE minute >= ? AND minute < ?"
        return int(self._database.execute(sql, (first, end)).fetchone()[0])

    def parts(self, column: str, first: int, end: int) -> list[tuple[int, bytes, float, float]]:
        """Batch id, rows in each group, smallest and largest value of every part in the window."""
        sql = "SELECT batch, groups, low, high FROM parts WHERE col = ? AND minute >= ? AND minute < ?"
        return self._database.execute(sql, (self._numbers[column], first, end)).fetchall()

    def batches(self, column: str, ids: Iterable[int], first: int, end: int) -> dict[int, Sketch]:
        """Each of these batches, merged over the window."""
        wanted, number = json.dumps(list(ids)), self._numbers[column]
        bins = self.reference.columns[column].bins.identity
        by_batch: defaultdict[int, list[Sketch]] = defaultdict(list)
        for span, begin, until in _pieces(first, end, (DAY, MINUTE)):
            for sql in _WHOLE_DAYS_OF_BATCHES if span == DAY else (_PARTS_OF_BATCHES,):
                for batch, packed in self._database.execute(sql, (number, begin, until, wanted)):
                    by_batch[batch].append(unpack(packed, bins))
        return {batch: merge(sketches) for batch, sketches in by_batch.items()}

    def names(self) -> dict[int, str]:
        return dict(self._database.execute("SELECT id, name FROM batches"))

    def prune(self, now: float) -> None:
        """Delete what is too old, and the oldest minutes of a store that has become too large. At most once an hour."""
        if now - float(self._meta("pruned_at") or 0.0) < _PRUNE_EVERY_S:
            return
        today = int(now // DAY * DAY)
        with self.writing():
            self._delete_minutes(today - MINUTES_KEPT_S)
            # By whole days, as are the minutes, or an hour might be gone that its day still has.
            oldest = today - TOTALS_KEPT_S
            self._database.execute("DELETE FROM totals WHERE start < ?", (oldest,))
            self._database.execute("DELETE FROM dropped WHERE minute < ?", (oldest,))
            self._set_meta("pruned_at", now)
        while self._bytes() > MAX_BYTES and (first := self._oldest_minute()) is not None and first < today:
            with self.writing():
                self._delete_minutes(first // DAY * DAY + DAY)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is read inside is of one moment, whatever is added meanwhile."""
        self._database.execute("BEGIN")
        try:
            yield
        finally:
            self._database.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All that is written inside is written at its end, or nothing; the outermost one counts."""
        if self._database.in_transaction:
            yield
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:  # a key press as well must not leave the transaction open; it goes on to the caller
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _add_part(self, name: str, minute: int, batch: int, sketch: Sketch) -> None:
        column = self.reference.columns[name]
        key = (self._numbers[name], minute, batch)
        merged = merge([sketch, *self._sketches(name, _PART, key)])
        groups = column.counts(merged)[1].astype("<u4").tobytes()
        extremes = (merged.minimum, merged.maximum)
        self._database.execute("REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", (*key, groups, *extremes))
        self._database.execute("REPLACE INTO part_sketches VALUES (?, ?, ?, ?)", (*key, pack(merged)))

    def _merge_into(self, table: str, keys: str, added: Mapping[tuple[str, int, int], Iterable[Sketch]]) -> None:
        for (name, first, second), sketches in added.items():
            key = (self._numbers[name], first, second)
            there = self._sketches(name, f"SELECT sketch FROM {table} WHERE ({keys}) = (?, ?, ?)", key)
            packed = pack(merge([*sketches, *there]))
            self._database.execute(f"REPLACE INTO {table} VALUES (?, ?, ?, ?)", (*key, packed))

    def _lives_longer(self, batch: int, minute: int) -> tuple[bool, int | None]:
        """Whether a batch has more than one minute on a day, and where that turns out just now, the one that it had."""
        day = minute // DAY * DAY
        self._database.execute("INSERT OR IGNORE INTO batch_days VALUES (?, ?, ?, 0)", (day, batch, minute))
        sql = "SELECT minute, longer FROM batch_days WHERE (day, batch) = (?, ?)"
        first, longer = self._database.execute(sql, (day, batch)).fetchone()
        if longer or first == minute:
            return bool(longer), None
        self._database.execute("UPDATE batch_days SET longer = 1 WHERE (day, batch) = (?, ?)", (day, batch))
        return True, first

    def _sketches(self, column: str, sql: str, parameters: tuple[int | None, ...]) -> list[Sketch]:
        bins = self.reference.columns[column].bins.identity
        return [unpack(packed, bins) for (packed,) in self._database.execute(sql, parameters)]

    def _id(self, batch: str) -> int:
        self._database.execute("INSERT OR IGNORE INTO batches (name) VALUES (?)", (batch,))
        return int(self._database.execute("SELECT id FROM batches WHERE name = ?", (batch,)).fetchone()[0])

    def _admit(self, batch: str, minute: int) -> bool:
        day = minute // DAY * DAY
        known = "SELECT 1 FROM batch_days JOIN batches ON id = batch WHERE day = ? AND name = ?"
        if self._database.execute(known, (day, batch)).fetchone():
            return True
        (many,) = self._database.execute(
            "SELECT count(*) FROM batch_days WHERE day = ? AND batch <> ?", (day, REST_ID)
        ).fetchone()
        if many >= BATCHES_A_DAY:
            return False
        self._database.execute("INSERT INTO batch_days VALUES (?, ?, ?, 0)", (day, self._id(batch), minute))
        return True

    def _delete_minutes(self, until: int) -> None:
        if until <= self.minutes_from():
            return
        for table in ("parts", "part_sketches"):
            # By column: the key begins with it.
            for number in self._numbers.values():
                self._database.execute(f"DELETE FROM {table} WHERE col = ? AND minute < ?", (number, until))
        self._database.execute("DELETE FROM batch_totals WHERE day < ?", (until,))
        self._database.execute("DELETE FROM batch_days WHERE day < ?", (until,))
        self._database.execute(
            "DELETE FROM batches WHERE id <> ? AND id NOT IN (SELECT batch FROM batch_days)", (REST_ID,)
        )
        self._set_meta("minutes_from", until)

    def _oldest_minute(self) -> int | None:
        sql = "SELECT min(minute) FROM parts WHERE col = ?"
        minutes = [self._database.execute(sql, (number,)).fetchone()[0] for number in self._numbers.values()]
        return min((minute for minute in minutes if minute is not None), default=None)

    def _bytes(self) -> int:
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _meta(self, key: str) -> Any:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _set_meta(self, key: str, value: Any) -> None:
        self._database.execute("REPLACE INTO meta VALUES (?, ?)", (key, value))


@contextmanager
def opened(path: Path, reference: Reference) -> Iterator[SketchStore]:
    """The store in ``path``, made if it is not there, for ``reference`` then.

    :raises sqlite3.Error: it cannot be opened, or is of another version of the plane.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _connected(path) as database:
        if not _version(database):
            database.executescript(f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; {_SCHEMA}")
            packed = zlib.compress(json.dumps(reference.to_json()).encode())
            database.execute("INSERT INTO meta VALUES ('reference', ?)", (packed,))
            database.execute("COMMIT")
        yield SketchStore(database, reference)


def reference_in(path: Path) -> Reference | None:
    """The reference that the store in ``path`` was made for; ``None`` where there is no store.

    :raises sqlite3.Error: as :func:`opened`.
    :raises SketchUnusable: it cannot be read.
    """
    if not path.exists():
        return None
    with _connected(path) as database:
        if not _version(database):
            return None
        (packed,) = database.execute("SELECT value FROM meta WHERE key = 'reference'").fetchone()
    return Reference.from_json(json.loads(zlib.decompress(packed)))


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        # After a loss of power the last transactions may be gone, counts and position alike: they are made again.
        database.execute("PRAGMA synchronous = NORMAL")
        yield database
    finally:
        database.close()


def _version(database: sqlite3.Connection) -> int:
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, _FORMAT):
        raise sqlite3.DatabaseError(f"a store of format {version}; this version of the plane writes {_FORMAT}")
    return version


def _pieces(first: int, end: int, spans: tuple[int, ...] = (DAY, HOUR, MINUTE)) -> Iterator[tuple[int, int, int]]:
    """[first, end) as (span, begin, until): whole days, whole hours beside them, minutes beside those."""
    if first >= end:
        return
    span, *smaller = spans
    begin, until = -(-first // span) * span, end // span * span
    if begin >= until:
        yield from _pieces(first, end, tuple(smaller)) if smaller else ()
        return
    yield span, begin, until
    yield from _pieces(first, begin, tuple(smaller))
    yield from _pieces(until, end, tuple(smaller))
