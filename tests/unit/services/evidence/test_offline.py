"""What a candidate is held against: the model that users have, on rows that neither has learned from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from airflow_provider_mlpipex.domain.errors import SignatureMismatch
from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion
from airflow_provider_mlpipex.domain.statistics.same_rows import Discordant
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
from airflow_provider_mlpipex.services.evidence import offline as offline_evidence
from airflow_provider_mlpipex.services.training import evaluation
from airflow_provider_mlpipex.services.training.same_rows import Answers
from tests.support.factories import make_model, make_snapshot
from tests.support.rollouts import ENDPOINT, World

STAGING = EndpointRef(environment="staging", name=ENDPOINT.name)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(model version, digest of the rows) of every model that was asked; on rows of others it is right on 70 %."""
    found: list[tuple[str, str]] = []

    def answers_on(model: ModelVersion, labels: Any, rows: DatasetSnapshot, **ports: Any) -> Answers:
        found.append((model.version, rows.digest))
        right = 0.7 if model.dataset != rows else model.metrics["accuracy"]
        return Answers(np.zeros(500, dtype=int), [int(place >= 500 * right) for place in range(500)], None)

    monkeypatch.setattr(evaluation, "answers_on", answers_on)
    return found


def model(version: str, *, months_later: int = 0, accuracy: float = 0.8) -> ModelVersion:
    later = timedelta(days=30 * months_later)
    snapshot = make_snapshot(f"after {months_later} months")
    moved = {field: getattr(snapshot, field) + later for field in ("window_start", "split_at", "window_end")}
    made = make_model(version, accuracy=accuracy)
    return made.model_copy(update={"dataset": snapshot.model_copy(update=moved)})


def test_before_any_release_there_is_no_baseline() -> None:
    world = World()
    assert offline_evidence.find_baseline(world.platform, world.manifest, STAGING) is None


def test_staging_is_held_against_what_production_serves() -> None:
    world = World()
    current = world.first_release()
    found = offline_evidence.find_baseline(world.platform, world.manifest, STAGING)
    assert found == current.model


def test_production_is_not_held_against_staging() -> None:
    """Staging may hold a release that production has never had, or has rolled back."""
    world = World()
    current = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.roll_back()
    assert offline_evidence.find_baseline(world.platform, world.manifest, ENDPOINT) == current.model


def test_the_baseline_is_asked_again_on_the_candidates_rows(asked: list[tuple[str, str]]) -> None:
    world, candidate, baseline = World(), model("1.1.0", months_later=1), model("1.0.0")
    found = offline_evidence.measure(world.platform, world.manifest, candidate, baseline)
    assert asked == [("1.1.0", candidate.dataset.digest), ("1.0.0", candidate.dataset.digest)]
    evidence = found["evaluation.accuracy"]
    assert (evidence.value, evidence.baseline) == (0.8, 0.7)
    assert (evidence.samples, evidence.baseline_samples) == (candidate.evaluation_rows, 500)
    assert evidence.paired == Discordant(both=350, only_candidate=50, only_baseline=0, neither=100)
    assert (evidence.since, evidence.until) == (candidate.dataset.split_at, candidate.dataset.window_end)
    assert found["baseline.accuracy"].value == 0.7


def test_a_newer_baseline_judges_on_its_own_rows(asked: list[tuple[str, str]]) -> None:
    """It has learned from the candidate's evaluation rows and would look better on them than it is."""
    world, candidate, baseline = World(), model("1.0.0"), model("1.1.0", months_later=1, accuracy=0.9)
    evidence = offline_evidence.measure(world.platform, world.manifest, candidate, baseline)["evaluation.accuracy"]
    assert asked == [("1.0.0", baseline.dataset.digest), ("1.1.0", baseline.dataset.digest)]
    assert (evidence.value, evidence.baseline) == (0.7, 0.9)


def test_the_same_model_on_another_runtime_is_not_asked_at_all(asked: list[tuple[str, str]]) -> None:
    world, candidate = World(), model("1.0.0")
    evidence = offline_evidence.measure(world.platform, world.manifest, candidate, candidate)["evaluation.accuracy"]
    assert asked == []
    assert evidence.value == evidence.baseline == 0.8


def test_a_first_release_has_no_baseline_metrics(asked: list[tuple[str, str]]) -> None:
    world = World()
    found = offline_evidence.measure(world.platform, world.manifest, model("1.0.0"), None)
    assert asked == [("1.0.0", make_snapshot("after 0 months").digest)]
    first = found["evaluation.accuracy"]
    assert (first.baseline, first.paired, first.summary) == (None, None, Counted(events=400, trials=500))
    assert not any(key.startswith("baseline.") for key in found)
    asked.clear()
    relative = [gate for gate in world.manifest.environments["production"].gates if gate.relative]
    offline_evidence.measure(world.platform, world.manifest, model("1.0.0"), None, gates=relative)
    assert asked == []


def test_a_current_release_that_cannot_answer_is_an_error_of_the_gates_that_compare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(model: ModelVersion, *_: Any, **__: Any) -> Any:
        if model.version == "1.1.0":
            return Answers(np.zeros(1000, dtype=int), [0] * 800 + [1] * 200, None)
        raise SignatureMismatch("model m 1.0.0 as it is served", value="rows from 0 on: 400 column seats in row 560")

    monkeypatch.setattr(evaluation, "answers_on", refuses)
    world = World()
    measured = offline_evidence.measure(
        world.platform, world.manifest, model("1.1.0", months_later=1), model("1.0.0", accuracy=0.7)
    )
    accuracy = measured["evaluation.accuracy"]
    assert (accuracy.value, accuracy.baseline) == (0.8, None)
    gates = {
        "compares": Gate.model_validate({"name": "a", "metric": "evaluation.accuracy", "within": 0.01}),
        "alone": Gate.model_validate({"name": "b", "metric": "evaluation.accuracy", "min": 0.5}),
        "baseline": Gate.model_validate({"name": "c", "metric": "baseline.accuracy", "min": 0.5}),
    }
    now = accuracy.until
    results = {name: judging.judge(gate, measured[gate.metric], now=now) for name, gate in gates.items()}
    assert {name: result.verdict for name, result in results.items()} == {
        "compares": "error",
        "alone": "pass",
        "baseline": "error",
    }
    assert "column seats" in results["compares"].reason


def test_a_candidate_that_cannot_answer_as_it_is_served_is_an_error_of_every_gate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(model: ModelVersion, *_: Any, **__: Any) -> Any:
        raise SignatureMismatch("model m 1.1.0 as it is served", value="rows from 0 on: 400 column seats in row 560")

    monkeypatch.setattr(evaluation, "answers_on", refuses)
    world = World()
    accuracy = offline_evidence.measure(world.platform, world.manifest, model("1.1.0"), None)["evaluation.accuracy"]
    gate = Gate.model_validate({"name": "b", "metric": "evaluation.accuracy", "min": 0.5})
    result = judging.judge(gate, accuracy, now=accuracy.until)
    assert result.verdict == "error" and "the candidate: model m 1.1.0 as it is served" in result.reason
