"""Segments are renamed and deleted under whoever reads them."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from airflow_provider_mlpipex.serving.prediction_log.reader import MAX_TRIES, read_segments
from airflow_provider_mlpipex.serving.prediction_log.record import FIELDS, SERVER_FIELDS, records_in_sql

CLOSED, OPEN = "00000001.jsonl", "00000002.jsonl.open"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (CLOSED, OPEN):
        (tmp_path / name).write_text('{"t": 1.0, "rid": "' + name[:8] + '"}\n')
    return tmp_path


def test_a_segment_that_is_closed_between_list_and_read_is_read_under_its_new_name(folder: Path) -> None:
    asked: list[list[str]] = []

    def read(paths: list[Path]) -> str:
        asked.append([path.name for path in paths])
        if len(asked) == 1:
            (folder / OPEN).rename(folder / OPEN.removesuffix(".open"))
        return "".join(path.read_text() for path in paths)

    assert "00000002" in read_segments([folder], read)
    assert asked == [[CLOSED, OPEN], [CLOSED, OPEN.removesuffix(".open")]]


def test_the_error_of_a_reader_by_sql_counts_as_a_segment_that_went(folder: Path) -> None:
    tries = []

    def read(paths: list[Path]) -> list[tuple[str]]:
        tries.append(paths)
        names = [str(path) for path in paths] if len(tries) > 1 else [str(folder / "00000009.jsonl")]
        with duckdb.connect() as database:
            return database.execute(f"SELECT rid FROM {records_in_sql('rid')} ORDER BY 1", [names]).fetchall()

    assert read_segments([folder], read, gone=duckdb.IOException) == [("00000001",), ("00000002",)]
    assert len(tries) == 2


def test_a_segment_that_never_comes_back_is_an_error_in_the_end(folder: Path) -> None:
    tries = []

    def read(paths: list[Path]) -> None:
        tries.append(paths)
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        read_segments([folder], read)
    assert len(tries) == MAX_TRIES


def test_another_error_is_not_tried_again(folder: Path) -> None:
    tries = []

    def read(paths: list[Path]) -> None:
        tries.append(paths)
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        read_segments([folder], read)
    assert len(tries) == 1


def test_a_segment_that_ends_before_the_window_is_left_out(folder: Path) -> None:
    os.utime(folder / CLOSED, (100.0, 100.0))
    assert read_segments([folder], lambda paths: [path.name for path in paths], since=200.0) == [OPEN]


def test_every_field_can_be_read_and_a_torn_line_has_none_of_them(tmp_path: Path) -> None:
    (tmp_path / CLOSED).write_text('{"t": 1.5, "rid": "r", "columns": ["a"], "outputs": [0.5]}\n{"t": 2.')
    with duckdb.connect() as database:
        sql = f"SELECT * FROM {records_in_sql(*FIELDS)}"
        rows = database.execute(sql, [[str(tmp_path / CLOSED)]]).fetchall()
    assert [dict(zip(FIELDS, row, strict=True))["t"] for row in rows] == [1.5, None]
    assert not any(rows[1])


def test_what_a_client_sent_is_no_field_of_the_server() -> None:
    assert not {"columns", "inputs", "output", "keys"} & set(SERVER_FIELDS)
