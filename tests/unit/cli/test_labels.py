"""``mlpipex labels``: from a file of labels to what they say of each release."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from tests.support.factories import make_release
from tests.support.manifests import make_manifest
from tests.support.terminal import ENDPOINT, answer, refusal, release, run, terminal_platform

OLD = make_release("1.0.0")


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.chdir(tmp_path)
    platform = terminal_platform(tmp_path, monkeypatch)
    release(platform, OLD)
    assert isinstance(platform.plane, MemoryPlane)
    for rid, score in {"a": 0.9, "b": 0.2, "c": 0.8}.items():
        platform.plane.answer(ENDPOINT, rid, {OLD.id: score}, labels={OLD.id: str(round(score))})
    return platform


def write(**columns: list[object]) -> Path:
    table = pd.DataFrame(columns)
    table.to_csv("labels.csv", index=False)
    table.to_parquet("labels.parquet")
    return Path("labels.csv")


@pytest.mark.parametrize("file", ["labels.csv", "labels.parquet"])
def test_a_file_is_ingested_once_and_tells_what_became_of_it(platform: Platform, file: str) -> None:
    write(request_id=["a", "b", "gone"], label=[1, 0, 1], observed_at=["2026-04-01T08:00:00Z"] * 3)
    found = answer("labels", "ingest", file, "--endpoint", ENDPOINT)
    assert (found["added"], found["unmatched"], found["releases"]) == (2, 1, {OLD.id: 2})
    result = run("labels", "ingest", file, "--endpoint", str(ENDPOINT))
    assert result.exit_code == 0
    assert "0 outcomes added, 2 known before, 0 corrected" in result.stdout
    assert "1 ids without a record, for example gone" in result.stdout
    assert f"the log of {OLD.id} reaches back to 20" in result.stdout


def test_a_bad_file_is_refused_and_keeps_nothing(platform: Platform) -> None:
    write(request_id=["a", "a"], label=[1, 0])
    told = refusal("labels", "ingest", "labels.csv", "--endpoint", ENDPOINT)
    assert (told["error"], told["thing"]) == ("DataQualityFailed", "labels.csv, column label")
    assert refusal("labels", "ingest", "nowhere.csv", "--endpoint", ENDPOINT)["error"] == "TableUnavailable"
    assert answer("labels", "performance", ENDPOINT) == []


def test_a_correction_is_asked_for(platform: Platform) -> None:
    answer("labels", "ingest", write(request_id=["a"], label=[1]), "--endpoint", ENDPOINT)
    wrong = write(request_id=["a"], label=[0])
    assert refusal("labels", "ingest", wrong, "--endpoint", ENDPOINT)["error"] == "OutcomeConflict"
    assert answer("labels", "ingest", wrong, "--endpoint", ENDPOINT, "--correct")["corrected"] == 1


def test_performance_by_day(platform: Platform) -> None:
    assert "no labels" in run("labels", "performance", ENDPOINT).stdout
    answer("labels", "ingest", write(request_id=["a", "b", "c"], label=[1, 0, 0]), "--endpoint", ENDPOINT)
    (day,) = answer("labels", "performance", ENDPOINT, "--by", "day")
    assert (day["release"], day["samples"], day["metrics"]["auc"]) == (OLD.id, 3, 1.0)
    assert f"{OLD.id}  3 labels: accuracy 0.6667" in run("labels", "performance", ENDPOINT).stdout
    assert answer("labels", "performance", ENDPOINT, "--since", "2100-01-01") == []
    assert answer("labels", "performance", ENDPOINT, "--until", "2000-01-01", "--release", OLD.id) == []


def test_a_promotion_in_doubt_is_shown_until_a_person_confirms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    platform = terminal_platform(tmp_path, monkeypatch)
    gates = "    outcomes: {window: 30d, gates: [accuracy within 5% of the baseline from at least 3 labels]}\n"
    release(platform, OLD, make_manifest(("    alerts: {on", f"{gates}    alerts: {{on")))
    assert isinstance(platform.plane, MemoryPlane)
    for rid in "abc":
        platform.plane.answer(ENDPOINT, rid, {OLD.id: 0.9}, labels={OLD.id: "1"})
    write(request_id=["a", "b", "c"], label=[1, 0, 0])
    told = run("labels", "ingest", "labels.csv", "--endpoint", str(ENDPOINT)).stdout
    assert "gate accuracy-within fail: observed 33.3333333% from 3 samples" in told
    assert "in doubt: mlpipex rollback production/fraud-scorer, or mlpipex labels confirm" in told
    assert "REOPENED by late labels (accuracy-within: observed 33" in run("status", str(ENDPOINT)).stdout
    (status,) = answer("status", ENDPOINT)
    assert status["doubt"]["gates"] == ["accuracy-within"]
    assert "promotion-reopened" in run("history", str(ENDPOINT), "--events").stdout
    assert run("labels", "confirm", str(ENDPOINT)).exit_code == 2, "without a reason nobody accepts"
    confirmed = run("labels", "confirm", str(ENDPOINT), "--note", "a strike", "--release", OLD.id)
    assert confirmed.stdout == "production/fraud-scorer: its promotion stands\n"
    assert answer("labels", "confirm", ENDPOINT, "--note", "again") == {"endpoint": str(ENDPOINT), "confirmed": False}
    assert "REOPENED" not in run("status", str(ENDPOINT)).stdout


@pytest.mark.parametrize(("option", "value"), [("--by", "month"), ("--since", "yesterday")])
def test_a_period_that_is_none_is_refused(platform: Platform, option: str, value: str) -> None:
    result = run("labels", "performance", ENDPOINT, option, value)
    assert result.exit_code in (1, 2) and value in result.stderr
