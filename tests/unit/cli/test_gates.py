"""``mlpipex gates``: what it shows, as text and as JSON, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.planning.proof import Proof
from airflow_provider_mlpipex.services.evidence.replay import ReplayedRollout
from airflow_provider_mlpipex.services.platform import Platform
from tests.support.factories import make_release
from tests.support.manifests import edited
from tests.support.terminal import answer, refusal, release, run, terminal_platform


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    return terminal_platform(tmp_path, monkeypatch)


@pytest.fixture
def manifest_file(tmp_path: Path) -> Path:
    path = tmp_path / "fraud.yaml"
    path.write_text(edited(), encoding="utf-8")
    return path


def test_prove_shows_fail_pass_and_neither_of_every_gate(manifest_file: Path) -> None:
    shown = run("gates", "prove", manifest_file)
    assert shown.exit_code == 0
    assert shown.stdout.count("just beyond: fail") == shown.stdout.count("just within: pass") == 6
    assert shown.stdout.count("no evidence: inconclusive") == 6
    assert (
        "production canary: gate canary.error_rate at most 1% from at least 100 samples (450 requests" in shown.stdout
    )


def test_prove_as_json_is_the_proofs(manifest_file: Path) -> None:
    proofs = [Proof.model_validate(proof) for proof in answer("gates", "prove", manifest_file)]
    assert [proof.stage for proof in proofs] == ["gate", "gate", "shadow", "canary", "canary", "watch"]
    assert all(proof.defects == () for proof in proofs)


def test_prove_refuses_a_manifest_whose_gate_lets_nothing_pass(manifest_file: Path) -> None:
    manifest_file.write_text(edited(("under 120 ms", "under 0 ms")), encoding="utf-8")
    (problem,) = refusal("gates", "prove", manifest_file)["problems"]
    assert "shadow.gates[0]" in problem and "lets a candidate pass" in problem


def test_replay_says_what_was_and_what_would_be(platform: Platform, manifest_file: Path) -> None:
    release(platform, make_release("1.0.0"))
    release(platform, make_release("1.1.0"))
    shown = run("gates", "replay", manifest_file)
    assert shown.exit_code == 0, shown.output
    assert "production/fraud-scorer" in shown.stdout
    assert "then  promoted: not watched: the first release" in shown.stdout and "now   promoted" in shown.stdout
    assert "then  in progress: no end yet" in shown.stdout
    rollouts = [
        ReplayedRollout.model_validate(each) for each in answer("gates", "replay", manifest_file, "--last", "1")
    ]
    assert [(each.then, each.now) for each in rollouts] == [("in progress", "in progress")]


@pytest.mark.usefixtures("platform")
def test_replay_of_nothing_is_refused(manifest_file: Path) -> None:
    assert refusal("gates", "replay", manifest_file)["error"] == "NotFound"


@pytest.mark.usefixtures("platform")
def test_replay_of_no_rollouts_is_wrong_usage(manifest_file: Path) -> None:
    assert run("gates", "replay", manifest_file, "--last", "0").exit_code == 2
