"""``mlpipex quality``: from a table to a block, and from a block to a verdict."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.files.parquet_snapshots import ParquetSnapshots
from airflow_provider_mlpipex.domain.fields.yaml_text import read_yaml
from airflow_provider_mlpipex.domain.quality.catalogue import CATALOGUE
from tests.support.manifests import edited
from tests.support.terminal import refusal, run

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOT_NULL = "    - expect: column_values_to_not_be_null\n      column: amount\n      mostly: 0.99\n"
PAYMENTS = pd.DataFrame(
    {
        "at": pd.date_range(NOON - timedelta(days=9), periods=200, freq="h"),
        "amount": [float(number % 100) for number in range(200)],
        "country": ["NL", "BE"] * 100,
        "fraud": [0, 1] * 100,
    }
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLPIPEX_SNAPSHOT_ROOT", str(tmp_path / "snapshots"))
    monkeypatch.delenv("MLPIPEX_QUALITY_ROOT", raising=False)
    PAYMENTS.to_parquet("payments.parquet")
    PAYMENTS.to_csv("payments.csv", index=False)
    Path("fraud.yaml").write_text(edited(), encoding="utf-8")
    return tmp_path


def manifest_with(block: str) -> None:
    Path("fraud.yaml").write_text(edited((NOT_NULL, block)), encoding="utf-8")


def take_snapshot(folder: Path, table: pd.DataFrame = PAYMENTS, name: str = "fraud-scorer") -> str:
    snapshot = ParquetSnapshots(folder / "snapshots").write(
        table,
        name=name,
        time_column="at",
        window_start=NOON - timedelta(days=9),
        split_at=NOON - timedelta(days=3),
        window_end=NOON,
    )
    return snapshot.digest


# Propose.


@pytest.mark.parametrize("table", ["payments.parquet", "payments.csv"])
def test_a_file_is_profiled(folder: Path, table: str) -> None:
    result = run("quality", "propose", table)
    assert result.exit_code == 0
    assert f"# Proposed from {table}: 200 rows, 4 columns." in result.stdout
    assert read_yaml(result.stdout).data["quality"].keys() == {"snapshot"}


def test_a_snapshot_is_found_by_the_beginning_of_its_digest(folder: Path) -> None:
    digest = take_snapshot(folder)
    result = run("quality", "propose", digest[:8], "--key", "at", "--manifest", "fraud.yaml")
    assert result.exit_code == 0
    assert f"# Proposed from snapshot fraud-scorer {digest[:12]}: 200 rows" in result.stdout
    block = read_yaml(result.stdout).data["quality"]
    assert (block["key"], block.keys()) == (["at"], {"key", "snapshot", "predictions"})


def test_what_is_proposed_can_be_pasted_into_the_manifest_and_holds(folder: Path) -> None:
    assert (
        run("quality", "propose", "payments.parquet", "--manifest", "fraud.yaml", "--output", "q.yaml").exit_code == 0
    )
    text = edited(("quality:\n  snapshot:\n" + NOT_NULL, Path("q.yaml").read_text(encoding="utf-8") + "\n"))
    Path("fraud.yaml").write_text(text, encoding="utf-8")
    result = run("quality", "check", "payments.parquet", "--manifest", "fraud.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("payments.parquet: 11 of 11 hold for 200 rows")


def test_as_json_the_block_is_a_field(folder: Path) -> None:
    told = json.loads(run("quality", "propose", "payments.csv", "--json").stdout)
    assert (told["subject"], told["rows"], told["output"]) == ("payments.csv", 200, None)
    assert read_yaml(told["block"]).data["quality"]


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        ("nowhere.parquet", "TableUnavailable", "No such file"),
        ("fraud.yaml", "ConfigurationInvalid", ".parquet"),
        ("torn.parquet", "DataQualityFailed", "a readable table"),
        ("empty.csv", "DataQualityFailed", "EmptyDataError"),
        ("header.csv", "DataQualityFailed", "no rows"),
        ("0123456789", "SnapshotCorrupt", "not found"),
        ("xyz", "ConfigurationInvalid", "hex digits"),
        ("../snapshots", "ConfigurationInvalid", ".parquet"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(folder: Path, table: str, error: str, says: str) -> None:
    Path("torn.parquet").write_bytes(Path("payments.parquet").read_bytes()[:1000])
    Path("empty.csv").touch()
    Path("header.csv").write_text("a,b\n", encoding="utf-8")
    told = refusal("quality", "propose", table)
    assert told["error"] == error
    assert says in json.dumps(told)


def test_a_beginning_of_two_digests_is_of_neither(folder: Path) -> None:
    digest = take_snapshot(folder)
    take_snapshot(folder, name="another")
    told = refusal("quality", "propose", digest[:6])
    assert (told["error"], told["limit"]) == ("ConfigurationInvalid", "one snapshot")


# Check.


def test_a_broken_table_is_exit_code_1_with_everything_named(folder: Path) -> None:
    manifest_with("    - {expect: column_values_to_be_between, column: amount, max_value: 97}\n  key: at\n")
    result = run("quality", "check", "payments.parquet", "--manifest", "fraud.yaml")
    assert result.exit_code == 1
    assert result.stdout.strip() == "payments.parquet: 0 of 1 hold for 200 rows"
    assert "amount: column_values_to_be_between (max_value=97), observed 4 of 200 values break it" in result.stderr
    assert "for example 98.0, 99.0 in at=2026-02-24T14:00:00+00:00" in result.stderr


def test_a_warning_is_told_and_is_exit_code_0(folder: Path) -> None:
    manifest_with(
        "    - {expect: column_values_to_be_between, column: amount, max_value: 97, severity: warning}\n"
        "    - {expect: column_values_to_not_be_null, column: amount}\n"
    )
    result = run("quality", "check", "payments.parquet", "--manifest", "fraud.yaml")
    assert result.exit_code == 0
    assert "1 of 2 hold" in result.stdout
    assert "warning: amount: column_values_to_be_between" in result.stdout


def test_the_report_is_json_beside_the_refusal(folder: Path) -> None:
    manifest_with("    - {expect: column_values_to_be_between, column: amount, max_value: 97}\n")
    result = run("quality", "check", "payments.parquet", "--manifest", "fraud.yaml", "--json")
    assert result.exit_code == 1
    report, told = json.loads(result.stdout), json.loads(result.stderr)
    assert (report["judged"], report["broken"][0]["column"], told["error"]) == (1, "amount", "DataQualityFailed")


def test_results_go_where_the_user_points(folder: Path) -> None:
    result = run("quality", "check", "payments.parquet", "--manifest", "fraud.yaml", "--results", "docs", "--json")
    page = Path(json.loads(result.stdout)["results"])
    assert page.is_file() and page.relative_to("docs").parts[:3] == ("fraud-scorer", "validations", "snapshot")
    assert (
        "result: docs/"
        in run("quality", "check", "payments.csv", "--manifest", "fraud.yaml", "--results", "docs").stdout
    )


def test_a_block_that_asks_nothing_is_no_success(folder: Path) -> None:
    told = refusal("quality", "check", "payments.parquet", "--manifest", "fraud.yaml", "--block", "features")
    assert (told["error"], told["value"]) == ("ManifestInvalid", "no expectations")
    assert "quality.features" in told["thing"]


def test_an_unknown_block_is_wrong_usage(folder: Path) -> None:
    assert run("quality", "check", "payments.csv", "--manifest", "fraud.yaml", "--block", "rows").exit_code == 2


def test_a_table_without_the_key_is_refused(folder: Path) -> None:
    manifest_with("    - {expect: column_values_to_not_be_null, column: amount}\n  key: payment_id\n")
    told = refusal("quality", "check", "payments.parquet", "--manifest", "fraud.yaml")
    assert "columns payment_id" in told["thing"]


# Expectations.


def test_all_expectations_are_listed_with_their_arguments(folder: Path) -> None:
    listed = run("quality", "expectations").stdout.splitlines()
    assert [line.split(":")[0] for line in listed[:-1]] == list(CATALOGUE)
    (between,) = [line for line in listed if line.startswith("column_values_to_be_between")]
    assert between.startswith("column_values_to_be_between: column, [min_value], [max_value]")
    sets = json.loads(run("quality", "expectations", "in_set", "--json").stdout)
    assert sets["column_values_to_be_in_set"]["required"] == ["value_set"]
    assert "column_values_to_be_between" not in sets
