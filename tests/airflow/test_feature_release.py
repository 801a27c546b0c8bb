"""A release whose features live in a store, task by task: lost rows are told, a skew stops it before it serves."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from airflow_provider_mlpipex import SnapshotDatasetOperator
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.testing.features import EVENT
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.airflow.release_run import ReleaseRun, failure
from tests.support.flights_store import FLIGHTS, START, STEP, manifest, weather
from tests.support.stages import stage_ends

ENDPOINT = EndpointRef.parse("production/wind-delay")
PARITY = {"parity": {"min_equal": "99%", "rows": 100}}


@pytest.fixture
def run(fakes: MemoryPlatform, tmp_path: Path) -> ReleaseRun:
    fakes.features.define(weather(), flights_v1=["weather"])
    fakes.features.materialise(START + FLIGHTS * STEP)
    made = ReleaseRun(fakes, tmp_path / "wind.yaml")
    # The fakes' clock stands in January: the rows of February must be known when they are asked for.
    fakes.clock.advance((START + (FLIGHTS + 5) * STEP - fakes.clock.now()).total_seconds())
    return made


def write(run: ReleaseRun, **parameters: int) -> None:
    run.manifest.write_text(yaml.safe_dump(manifest(PARITY, **parameters).to_json()), encoding="utf-8")


def test_the_snapshot_task_tells_what_the_store_could_not_answer(run: ReleaseRun) -> None:
    write(run, early=4, unknown=6)
    told = run.snapshot()["snapshot"]["features"]
    assert (told["asked"], told["dropped"], told["unknown"]) == (FLIGHTS, 4, 6)
    ended = stage_ends(run.platform.ledger, ENDPOINT)
    assert ended[-1].facts["features"] == told


def test_too_many_lost_rows_fail_the_task_by_name(run: ReleaseRun) -> None:
    write(run, unknown=100)
    task = SnapshotDatasetOperator(task_id="snapshot", manifest=str(run.manifest), as_of="2026-03-01")
    sentence, told = failure(run, task)
    assert "100 of 600 rows lost" in sentence
    assert told.xcoms["refused"]["error"] == "DataQualityFailed"


def test_parity_holds_and_the_release_carries_its_features(run: ReleaseRun) -> None:
    write(run)
    run.execute(run.gates_task(run.register()))
    rollout = journal.load(run.platform, ENDPOINT).rollout
    assert rollout is not None
    assert rollout.candidate.feature_digest == run.platform.features.describe("flights-v1").digest


def test_a_skew_fails_the_gate_task_naming_the_feature(run: ReleaseRun) -> None:
    write(run)
    registered = run.register()
    for n in range(FLIGHTS):
        record = {"flight": f"F{n}", EVENT: START + n * STEP, "wind": -5.0, "gusts": n % 7}
        run.platform.features.put_online("weather", record)
    sentence, told = failure(run, run.gates_task(registered))
    assert "wind differs in 100 of 100 rows (flight=F" in sentence
    assert [gate["gate"] for gate in told.xcoms["gates"]] == ["feature-parity"]
    assert journal.load(run.platform, ENDPOINT).results["run-1"].ending == "rejected"
