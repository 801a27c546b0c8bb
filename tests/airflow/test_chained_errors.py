"""No row, value of a query or password is in what Airflow prints of a failed task: its message and its chain."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from airflow_provider_mlpipex.adapters.files.snapshot_table import table_of
from airflow_provider_mlpipex.adapters.files.tables import read_table
from airflow_provider_mlpipex.adapters.great_expectations.suite import Suite
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, MlpipexError, RegistryUnavailable
from airflow_provider_mlpipex.domain.manifest.evaluation_block import EvaluationSpec
from airflow_provider_mlpipex.hooks.rows import _said, rows_of
from airflow_provider_mlpipex.operators.base import MlpipexOperator, StageRun
from airflow_provider_mlpipex.serving.model_server.feast_repository import FeastRepository
from tests.airflow.release_run import PRODUCTION, ReleaseRun

ROW = "ann.secret@example.com"


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


class Leaking(MlpipexOperator):
    """Fails as an adapter does whose library quotes rows."""

    stage_name = "gate"

    def __init__(self, *, failure: type[MlpipexError], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.failure = failure

    def stage_endpoint(self) -> Any:
        return PRODUCTION

    def verb(self, run: StageRun) -> dict[str, Any]:
        try:
            try:
                raise ValueError(f"[parameters: ('{ROW}',)]")
            except ValueError as cause:
                raise RuntimeError(f"row {ROW}") from cause
        except RuntimeError as cause:
            raise self.failure("thing", value="cannot be read", limit="a limit", remedy="a remedy") from cause


@pytest.mark.parametrize("failure", [ConfigurationInvalid, RegistryUnavailable], ids=["at once", "retried"])
def test_a_failed_task_prints_nothing_that_a_library_said(
    first: ReleaseRun, failure: type[MlpipexError], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Exception, match="cannot be read") as failed:
        first.execute(Leaking(task_id="leaking", failure=failure))
    assert ROW not in printed(failed.value) and "RuntimeError" not in printed(failed.value)
    assert ROW not in caplog.text


def parse(folder: Path) -> None:
    path = folder / "rows.parquet"
    path.write_text(ROW)
    read_table(path)


def mix_types(_: Path) -> None:
    table_of(pd.DataFrame({"amount": [1, 2, ROW]}), name="rows")


def judge(_: Path) -> None:
    class Batch:
        def validate(self, *_: Any, **__: Any) -> None:
            raise ValueError(f"could not convert string to float: '{ROW}'")

    Suite([]).run(Batch())  # type: ignore[arg-type]


def look_up(folder: Path) -> None:
    with FeastRepository(folder).answering():
        raise sa.exc.OperationalError(f"SELECT '{ROW}'", {"key": ROW}, ValueError(f"near {ROW}"))


@pytest.mark.parametrize("fails", [parse, mix_types, judge, look_up])
def test_what_a_library_says_of_rows_is_not_told(
    tmp_path: Path, fails: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MlpipexError) as failed:
        fails(tmp_path)
    assert ROW not in printed(failed.value) + caplog.text


def test_a_query_that_fails_shows_no_value_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f"sqlite:///{tmp_path}/it.db")
    sql = f"select * from gone where mail = '{ROW}'"
    spec = EvaluationSpec.model_validate({"sql": sql, "connection": "warehouse"})
    with pytest.raises(MlpipexError, match="no such table: gone") as failed:
        rows_of(spec, folder=tmp_path).load()
    assert ROW not in printed(failed.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            f"syntax error near \"from\"\nLINE 1: select x from where mail = '{ROW}'",
            'syntax error near "from"',
        ),
        (
            f"Conversion failed at the value '{ROW}' to type int",
            "value '…' to type int",
        ),
        (f"Truncated incorrect DOUBLE value: '{ROW}", "DOUBLE value: '…'"),
        ("connection of ann with hush-hush failed", "connection of ann with … failed"),
    ],
)
def test_a_drivers_words_are_told_without_values_and_password(said: str, told: str) -> None:
    shown = _said(ValueError(said), secret="hush-hush")
    assert told in shown and ROW not in shown
