"""IngestOutcomesOperator: labels from a callable or a file, and what the task tells of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_mlpipex import IngestOutcomesOperator, MlpipexHook
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, PlaneUnavailable
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.rollout.events import StageEnded
from tests.airflow.release_run import TaskRun
from tests.support.rollouts import ENDPOINT, World
from tests.support.stages import failed_stages

ALERTS = "    alerts: {on"
GATES = "    outcomes: {window: 30d, gates: [accuracy within 5% of the baseline from at least 3 labels]}\n"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """1.0.0 is current, and has said 1 to the requests a, b and c."""
    world = World((ALERTS, GATES + ALERTS))
    release = world.first_release().id
    for rid in "abc":
        world.memory.plane.answer(ENDPOINT, rid, {release: 0.9}, labels={release: "1"})
    monkeypatch.setattr(MlpipexHook, "platform", lambda self, origin: world.platform.acting_as(origin))
    return world


def load_labels(*truth: int) -> pd.DataFrame:
    return pd.DataFrame({"request_id": ["a", "b", "c", "gone"], "label": [*(truth or (1, 1, 1)), 1]})


def load_bad_labels() -> pd.DataFrame:
    return load_labels(0, 0, 1)


def ingest(**parameters: Any) -> dict[str, Any]:
    task = TaskRun("ingest_labels")
    result = IngestOutcomesOperator(task_id=task.task_id, endpoint=str(ENDPOINT), **parameters).execute(task.context)
    return dict(json.loads(json.dumps(result)))


def stages(world: World) -> list[StageEnded]:
    return [ended for ended in world.events(StageEnded) if ended.stage == "outcomes"]


@pytest.mark.parametrize("load", [load_labels, f"{__name__}:load_labels"])
def test_labels_of_a_callable_are_kept_and_counted(world: World, load: Any) -> None:
    result = ingest(load=load)
    assert world.state.current is not None
    counts = {name: result[name] for name in ("rows", "added", "unmatched", "releases", "verdict", "reopened")}
    assert counts == {
        "rows": 4,
        "added": 3,
        "unmatched": 1,
        "releases": {world.state.current.id: 3},
        "verdict": "pass",
        "reopened": "",
    }
    (ended,) = stages(world)
    assert (ended.outcome, ended.facts["added"], ended.facts["unmatched"]) == ("succeeded", 3, 1)
    assert ended.facts["releases"] == result["releases"]


def test_a_retry_changes_nothing(world: World) -> None:
    first, again = ingest(load=load_labels), ingest(load=load_labels)
    assert (first["added"], again["added"], again["unchanged"]) == (3, 0, 3)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_labels_of_a_file(world: World, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"labels{ending}"
    labels = load_labels()
    labels.to_parquet(path) if ending == ".parquet" else labels.to_csv(path, index=False)
    assert ingest(path=str(path))["added"] == 3


def test_labels_that_break_the_promise_reopen_it_and_the_task_succeeds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[GateResult] = []
    monkeypatch.setattr(
        "airflow_provider_mlpipex.observability.Envelope.gates", lambda _, results: told.extend(results)
    )
    result = ingest(load=load_bad_labels)
    assert (result["verdict"], result["added"]) == ("fail", 3)
    assert "observed 33.3333333% from 3 samples (baseline 80%)" in result["reopened"]
    assert world.state.doubt is not None and world.alerts[-1][1].endswith("reopened by late labels")
    assert [gate.verdict for gate in told] == ["fail"]


def test_other_labels_fail_the_task_unless_they_are_corrections(world: World) -> None:
    ingest(load=load_labels)
    with pytest.raises(AirflowFailException, match="outcome-conflict"):
        ingest(load=load_bad_labels)
    assert [ended.stage for ended in failed_stages(world.memory.ledger, ENDPOINT)] == ["outcomes"]
    assert ingest(load=load_bad_labels, correct=True)["corrected"] == 2


def test_a_plane_that_is_away_is_left_to_a_retry(world: World) -> None:
    world.memory.plane.away = True
    with pytest.raises(PlaneUnavailable):
        ingest(load=load_labels)


@pytest.mark.parametrize("parameters", [{}, {"load": load_labels, "path": "labels.csv"}])
def test_exactly_one_table(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationInvalid, match="exactly one of load, path"):
        IngestOutcomesOperator(task_id="ingest", endpoint=str(ENDPOINT), **parameters)
