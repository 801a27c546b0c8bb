"""Rows that an ``evaluation`` block names, by function, file, object store and query; and where none come."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, ManifestInvalid, MlpipexError, TableUnavailable
from airflow_provider_mlpipex.domain.manifest.evaluation_block import EvaluationSpec
from airflow_provider_mlpipex.hooks.rows import NamedRows, rows_of
from tests.support.plain_mlflow import payments

ROWS = payments(50, seed=3)


def holdout(*, rows: int = 50, broken: bool = False) -> pd.DataFrame:
    if broken:
        raise ConnectionError("the payments table is away")
    return payments(rows, seed=3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ROWS.to_csv(tmp_path / "holdout.csv", index=False)
    ROWS.to_parquet(tmp_path / "holdout.parquet")
    with sqlite3.connect(tmp_path / "warehouse.db") as database:
        ROWS.to_sql("holdout", database, index=False)
    database.close()
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "sqlite", "host": "{tmp_path}/warehouse.db"}}')
    return tmp_path


def named(folder: Path, **block: Any) -> NamedRows:
    return rows_of(EvaluationSpec.model_validate(block), folder=folder)


@pytest.mark.parametrize("kind", ["callable", "csv", "parquet", "uri", "sql"])
def test_rows_are_those_that_stand_there(folder: Path, kind: str) -> None:
    blocks: dict[str, dict[str, Any]] = {
        "callable": {"callable": f"{__name__}:holdout", "parameters": {"rows": 50}},
        "csv": {"file": "holdout.csv"},
        "parquet": {"file": "holdout.parquet"},
        "uri": {"uri": f"file://{folder}/holdout.parquet"},
        "sql": {"sql": "select * from holdout", "connection": "warehouse"},
    }
    pd.testing.assert_frame_equal(named(folder, **blocks[kind]).load(), ROWS, check_dtype=False)


def test_a_file_is_what_it_holds(folder: Path) -> None:
    before, copied = named(folder, file="holdout.csv"), named(folder, uri=f"file://{folder}/holdout.csv")
    assert before.digest == copied.digest
    payments(50, seed=4).to_csv(folder / "holdout.csv", index=False)
    assert named(folder, file="holdout.csv").digest != before.digest
    # What was named before is what was read then.
    pd.testing.assert_frame_equal(before.load(), ROWS, check_dtype=False)


def test_a_function_is_its_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = folder / "acme_rows.py"
    module.write_text("import pandas as pd\n\ndef rows():\n    return pd.DataFrame({'a': [1]})\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    before = named(folder, callable="acme_rows:rows").digest
    assert before and named(folder, callable="acme_rows:rows").digest == before
    module.write_text(module.read_text(encoding="utf-8").replace("[1]", "[2]"), encoding="utf-8")
    assert named(folder, callable="acme_rows:rows").digest != before


def test_a_query_is_what_it_asks(folder: Path) -> None:
    assert named(folder, sql="select * from holdout", connection="warehouse").digest == ""


@pytest.mark.parametrize(
    ("block", "error", "said"),
    [
        ({"file": "gone.csv"}, TableUnavailable, "beside the manifest"),
        ({"uri": "file:///nowhere/gone.csv"}, TableUnavailable, "check the uri"),
        ({"uri": "nosuchscheme://bucket/gone.csv"}, TableUnavailable, "provider of its scheme"),
        ({"callable": "nobodys.module:rows"}, ManifestInvalid, "evaluation.callable"),
        (
            {"callable": f"{__name__}:holdout", "parameters": {"broken": True}},
            DataQualityFailed,
            "ConnectionError .*holdout",
        ),
        ({"sql": "select * from gone", "connection": "warehouse"}, TableUnavailable, "no such table"),
    ],
)
def test_rows_that_do_not_come_are_told(
    folder: Path, block: dict[str, Any], error: type[MlpipexError], said: str
) -> None:
    with pytest.raises(error, match=said):
        named(folder, **block).load()


def test_a_connection_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(MlpipexError, match="nobodys"):
        named(folder, sql="select 1", connection="nobodys").load()
