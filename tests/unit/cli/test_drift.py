"""``mlpipex drift``: a verdict with an exit code, and the batch that is behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference
from airflow_provider_mlpipex.domain.rollout.events import DriftJudged
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from tests.support.drifting import reference, send_batch
from tests.support.factories import make_release
from tests.support.manifests import edited, make_manifest
from tests.support.terminal import ENDPOINT, answer, refusal, release, run, terminal_platform

BLOCK = ("    alerts: {on", "    drift: {window: 6h, max_dropped: 2%}\n    alerts: {on")
RELEASE = make_release()


@pytest.fixture(scope="module")
def trained() -> Reference:
    return reference()


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Reference) -> Platform:
    """A current release that knows its reference and was asked nothing yet."""
    monkeypatch.chdir(tmp_path)
    platform = terminal_platform(tmp_path, monkeypatch)
    release(platform, RELEASE, make_manifest(BLOCK))
    assert isinstance(platform.plane, MemoryPlane)
    platform.plane.know_reference(RELEASE.id, trained)
    return platform


def send(platform: Platform, batch: str, **given: Any) -> str:
    return send_batch(platform, ENDPOINT, RELEASE.id, batch, **given)


@pytest.fixture
def digest(platform: Platform) -> str:
    """Of the batch that drifts."""
    send(platform, "monday")
    return send(platform, "tuesday", shifted={"amount": 30.0})


def judged(platform: Platform) -> list[DriftJudged]:
    both = [*platform.ledger.read(ENDPOINT), *reversed(platform.ledger.records(ENDPOINT))]
    return [each.event for each in both if isinstance(each.event, DriftJudged)]


def test_no_drift_is_exit_code_0_and_stands_in_the_ledger(platform: Platform) -> None:
    send(platform, "monday")
    result = run("drift", "check", str(ENDPOINT))
    assert result.exit_code == 0, result.output
    assert f"{ENDPOINT} {RELEASE.id}: pass, 2,000 rows" in result.stdout
    assert [event.verdict for event in judged(platform)] == ["pass"]
    found = answer("drift", "check", str(ENDPOINT))
    assert (found["verdict"], found["demand"]["max_dropped"]) == ("pass", "2%")


def test_a_drift_is_exit_code_1_and_names_batch_dag_run_and_rows(digest: str) -> None:
    result = run("drift", "check", str(ENDPOINT))
    assert result.exit_code == 1
    for part in (
        "batch tuesday carries 100%",
        "task score of Dag run run-tuesday of score__fraud-scorer",
        digest[:12],
        "2,000 rows carry",
        "tuesday-",
        "damage",
    ):
        assert part in result.stdout, part
    assert "runbook: drift-found" in result.stderr


@pytest.mark.usefixtures("digest")
def test_a_drift_as_json_is_the_finding_and_the_refusal() -> None:
    result = run("drift", "check", str(ENDPOINT), "--json")
    assert result.exit_code == 1
    found, refused = json.loads(result.stdout), json.loads(result.stderr)
    assert (found["verdict"], found["raising"]) == ("fail", [SCORE, "amount"])
    assert len(found["traced"]["batches"][0]["sample"]) == 5
    assert (refused["error"], refused["runbook"]) == ("DriftFound", "drift-found")


def test_an_inconclusive_check_is_exit_code_1(platform: Platform) -> None:
    result = run("drift", "check", str(ENDPOINT))
    assert result.exit_code == 1
    assert "inconclusive, 0 rows" in result.stdout and "runbook: drift-unmeasurable" in result.stderr


@pytest.mark.usefixtures("digest")
def test_window_release_and_manifest_may_be_others(platform: Platform, tmp_path: Path) -> None:
    lenient = tmp_path / "lenient.yaml"
    block = ("    alerts: {on", "    drift: {limits: {psi: 50}, batches: false}\n    alerts: {on")
    lenient.write_text(edited(block), encoding="utf-8")
    assert answer("drift", "check", str(ENDPOINT), "--manifest", lenient)["verdict"] == "pass"
    other = run("drift", "check", str(ENDPOINT), "--release", "other")
    assert "other: inconclusive" in other.stdout
    past = run("drift", "check", str(ENDPOINT), "--since", "2020-01-01", "--until", "2020-01-02")
    assert "answered no rows from 2020-01-01 00:00 to 2020-01-02 00:00" in past.stdout
    assert refusal("drift", "check", str(ENDPOINT), "--since", "yesterday")["thing"] == "--since"
    lenient.write_text(edited(), encoding="utf-8")
    refused = refusal("drift", "check", str(ENDPOINT), "--manifest", lenient)
    assert "environments.production.drift" in refused["thing"]


def test_a_drift_is_attributed_later(platform: Platform, digest: str) -> None:
    entry = json.loads(run("drift", "check", str(ENDPOINT), "--json").stdout)["seq"]
    result = run("drift", "attribute", str(ENDPOINT))
    assert result.exit_code == 0, result.output
    assert f"ledger entry {entry}:" in result.stdout
    assert "batch tuesday carries" in result.stdout and digest[:12] in result.stdout
    found = answer("drift", "attribute", str(ENDPOINT), "--event", str(entry))
    assert found["entry"]["seq"] == entry
    assert [batch["batch"] for batch in found["batches"]] == ["tuesday"]
    only = answer("drift", "attribute", str(ENDPOINT), "--column", "country")
    assert [(one["column"], one["conclusive"]) for one in only["attributions"]] == [("country", False)]
    # Attributing decides nothing, so nothing is written down.
    assert len(judged(platform)) == 1


def test_what_cannot_be_attributed_is_refused(platform: Platform) -> None:
    assert "a look that found drift" in refusal("drift", "attribute", str(ENDPOINT))["limit"]
    send(platform, "monday")
    answer("drift", "check", str(ENDPOINT))
    refused = refusal("drift", "attribute", str(ENDPOINT), "--column", "amuont")
    assert refused["runbook"] == "drift-unmeasurable"
