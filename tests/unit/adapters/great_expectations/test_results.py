"""What is written for people: Great Expectations' result and its Data Docs."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from airflow_provider_mlpipex.adapters.great_expectations.results import plain
from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
from airflow_provider_mlpipex.domain.quality.report import QualityReport, ResultPlace, SqlTable
from tests.support.expectations import expectation

ATTACK = "<script>alert('owned')</script>"
SNAPSHOT = ResultPlace(folder="risk/fraud-scorer", table="snapshot")
TABLE = pd.DataFrame({"id": ["a", "b", "c"], "x": [1.0, np.inf, np.nan], "c": ["AA", ATTACK, None]})
EXPECTATIONS = [
    expectation("column_values_to_be_between", "x", min_value=0, max_value=100),
    expectation("column_values_to_be_in_set", "c", value_set=["AA"], severity="warning"),
    expectation("column_distinct_values_to_equal_set", "c", value_set=["AA", "ZZ"]),
    expectation("column_most_common_value_to_be_in_set", "c", value_set=["ZZ"]),
    expectation(
        "column_quantile_values_to_be_between", "x", quantile_ranges={"quantiles": [0.5], "value_ranges": [[5, 6]]}
    ),
    expectation("column_value_z_scores_to_be_less_than", "x", threshold=3, double_sided=True),
    expectation("column_mean_to_be_between", "x", min_value=0),
    expectation("column_values_to_be_between", "no such column", min_value=0),
    expectation("column_pair_values_to_be_equal", column_A="id", column_B="c"),
    expectation("compound_columns_to_be_unique", column_list=["id", "c"]),
    expectation("column_values_to_be_between", "c", min_value=0),
    expectation("table_row_count_to_be_between", min_value=100),
]


def judge(root: Path | None, table: pd.DataFrame = TABLE, **changes: Any) -> QualityReport:
    asked: dict[str, Any] = {"subject": "t", "key": ("id",), "place": SNAPSHOT, **changes}
    return GxValidator(root).validate(table, EXPECTATIONS, **asked)


def test_result_and_data_docs_are_written_where_the_user_points(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = judge(tmp_path)
    page = Path(report.results)
    assert report.trouble == ""
    assert re.fullmatch(
        r"risk/fraud-scorer/validations/snapshot/\d{4}-\d\d-\d\d/\d{6}\.\d{6}Z-failed-[0-9a-f]{8}/result\.html",
        str(page.relative_to(tmp_path)),
    )
    result = json.loads(page.with_name("result.json").read_text(encoding="utf-8"))
    assert (result["suite_name"], result["success"]) == ("snapshot", False)
    assert result["statistics"]["evaluated_expectations"] == len(result["results"]) == len(EXPECTATIONS)
    first = result["results"][0]
    assert first["expectation_config"]["type"] == "expect_column_values_to_be_between"
    assert first["result"]["partial_unexpected_index_list"] == [{"x": "inf", "id": "b"}]
    text = page.read_text(encoding="utf-8")
    assert "Great Expectations" in text and "values must be greater than or equal to" in text
    # Great Expectations swallows what it cannot draw, and logs it.
    assert "data docs rendering" not in caplog.text


def test_our_precautions_are_not_in_the_result_but_their_verdict_is(tmp_path: Path) -> None:
    nothing = pd.DataFrame({"id": ["a"], "x": [np.nan]})
    one = expectation("column_values_to_be_between", "x", min_value=0)
    report = GxValidator(tmp_path).validate(nothing, [one], subject="t", place=SNAPSHOT)
    result = json.loads(Path(report.results).with_name("result.json").read_text(encoding="utf-8"))
    assert [(r["success"], r["result"]["observed_value"]) for r in result["results"]] == [
        (False, "every value is missing")
    ]
    assert result["statistics"]["unsuccessful_expectations"] == 1


def test_values_of_a_table_are_text_on_every_page(tmp_path: Path) -> None:
    page = Path(judge(tmp_path).results).read_text(encoding="utf-8")
    assert ATTACK not in page
    assert "&lt;script&gt;alert(" in page


def test_pages_ask_the_vendor_for_nothing(tmp_path: Path) -> None:
    page = Path(judge(tmp_path).results)
    for path in (page, tmp_path / SNAPSHOT.folder / "index.html"):
        fetched = re.findall(r"(?:src|href)=\"(https?://[^\"]+)\"|url\('?(https?:[^')]+)", path.read_text("utf-8"))
        assert not [url for pair in fetched for url in pair if "great-expectations-web" in url]


def test_the_index_lists_every_result_the_newest_first(tmp_path: Path) -> None:
    first, second = judge(tmp_path), judge(tmp_path, place=ResultPlace(folder=SNAPSHOT.folder, table="features"))
    index = (tmp_path / SNAPSHOT.folder / "index.html").read_text(encoding="utf-8")
    places = [index.index(str(Path(one.results).relative_to(tmp_path / SNAPSHOT.folder))) for one in (second, first)]
    assert places == sorted(places)
    # From a page back to the index, as Great Expectations writes it.
    back = re.search(r'href="((?:\.\./)+index\.html)"', Path(first.results).read_text(encoding="utf-8"))
    assert back and (Path(first.results).parent / back[1]).resolve() == (tmp_path / SNAPSHOT.folder / "index.html")


def test_those_who_judge_at_once_lose_no_result_of_each_other(tmp_path: Path) -> None:
    one = [expectation("column_values_to_not_be_null", "id")]
    threads = [
        threading.Thread(target=lambda: GxValidator(tmp_path).validate(TABLE, one, subject="t", place=SNAPSHOT))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index = (tmp_path / SNAPSHOT.folder / "index.html").read_text(encoding="utf-8")
    written = list((tmp_path / SNAPSHOT.folder).glob("validations/*/*/*/result.html"))
    assert len(written) == 4
    assert all(str(page.relative_to(tmp_path / SNAPSHOT.folder)) in index for page in written)


def test_nothing_is_written_unless_both_root_and_place_are_known(tmp_path: Path) -> None:
    assert judge(None).results == judge(tmp_path, place=None).results == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file stands here")
    report = judge(tmp_path / "root")
    assert (report.results, report.passed, report.broken) == ("", False, judge(None).broken)
    assert "NotADirectoryError" in report.trouble


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "a/../b", "", "a b", "x" * 300])
def test_no_name_leads_out_of_the_root(folder: str) -> None:
    with pytest.raises(ValidationError):
        ResultPlace(folder=folder, table="snapshot")


@pytest.mark.parametrize("table", ["../snapshot", "a/b", "Snapshot", ""])
def test_no_table_is_a_path(table: str) -> None:
    with pytest.raises(ValidationError):
        ResultPlace(folder="fraud-scorer", table=table)


def test_results_of_a_database_hold_no_password(tmp_path: Path) -> None:
    TABLE.drop(columns="c").to_sql("t", f"sqlite:///{tmp_path}/t.db?password=hunter2", index=False)
    table = SqlTable.model_validate({"url": f"sqlite:///{tmp_path}/t.db?password=hunter2", "table": "t"})
    report = GxValidator(tmp_path).validate_table(table, EXPECTATIONS[:1], subject="t", key=("id",), place=SNAPSHOT)
    folder = Path(report.results).parent
    assert not any("hunter2" in path.read_text(encoding="utf-8") for path in folder.iterdir())


def test_plain_is_json_whatever_comes() -> None:
    odd = {
        1: np.bool_(True),
        "n": [np.int64(3), np.float64("nan"), float("inf")],
        "t": pd.Timestamp("2026-03-01", tz="UTC"),
        "a": np.arange(100),
        "s": "x" * 5000,
        "o": object,
        "none": None,
    }
    found = plain(odd)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["1"], found["n"], found["t"]) == (True, [3, "nan", "inf"], "2026-03-01T00:00:00+00:00")
    assert (found["a"][-1], len(found["a"]), len(found["s"]) < 2100) == ("… 80 more", 21, True)
