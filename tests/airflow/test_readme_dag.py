"""The Dag of the README, as it is written there: its gate stands before the release, whatever anybody does to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import RolloutOpened, StageEnded, TaskGateJudged
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.testing import DagRunResult, MemoryPlatform, run_dag
from tests.airflow.release_run import PRODUCTION
from tests.support.acme import manifest_text
from tests.support.airflow_home import REPOSITORY

STAGING = EndpointRef.parse("staging/fraud-scorer")
GATE = "recall_on_chargebacks"
POLICY = "{required_for: [], auto_approve: [data, model, runtime, features, gate-loosened, gate-tightened, policy]}"
REVIEW = ("review:\n      auto_approve: [data]\n      timeout: 24h", f"review: {POLICY}")
CHAINED = "judged >> release_tasks("


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "fraud.yaml"
    path.write_text(manifest_text(REVIEW), encoding="utf-8")
    return path


@pytest.fixture
def world(fakes: MemoryPlatform, airflow_db: None, monkeypatch: pytest.MonkeyPatch) -> MemoryPlatform:
    monkeypatch.setenv("MLPIPEX_CODE_VERSION", "0123abc")
    return fakes


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """What the team's function says of a model: recall and rows."""

    def say(answer: Any) -> None:
        fraud = ModuleType("acme.fraud")
        fraud.judge_on_chargebacks = lambda version: answer  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "acme", ModuleType("acme"))
        monkeypatch.setitem(sys.modules, "acme.fraud", fraud)

    return say


def readme_dag(manifest: Path, *edits: tuple[str, str]) -> DAG:
    """The Dag that the README's own text makes of ``manifest``."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    code = text.partition("## A Dag of your own")[2].partition("```python\n")[2].partition("```")[0]
    for before, after in (("/opt/airflow/manifests/fraud-scorer.yaml", str(manifest)), *edits):
        assert before in code, before
        code = code.replace(before, after)
    names: dict[str, Any] = {}
    body, _, call = code.strip().rpartition("\n")
    exec(compile(f"{body}\nmade = {call}", "dag of README.md", "exec"), names)
    dag = names["made"]
    assert isinstance(dag, DAG)
    return dag


def run(dag: DAG, *, number: int, **options: str) -> DagRunResult:
    """The run of day ``number``; nobody waits long for a retry or a look."""
    for task in dag.tasks:
        task.retry_delay = task.max_retry_delay = timedelta(seconds=0.1)
        if hasattr(task, "poke_interval"):
            task.poke_interval = 0.05
    return run_dag(dag, logical_date=datetime(2026, 3, number, tzinfo=UTC), **options)


def refused(platform: MemoryPlatform, played: DagRunResult) -> None:
    """Nothing was opened and nothing serves, in any environment."""
    assert played.state == "failed", played
    for endpoint in (STAGING, PRODUCTION):
        assert journal.load(platform, endpoint).current is None
        assert [e for e in platform.ledger.read(endpoint) if isinstance(e.event, RolloutOpened)] == []
    assert platform.plane.applied == []


def verdicts(platform: MemoryPlatform) -> list[tuple[str, str]]:
    return [
        (e.event.gate, e.event.verdict) for e in platform.ledger.read(STAGING) if isinstance(e.event, TaskGateJudged)
    ]


def test_a_recall_of_1_percent_against_80_stops_the_release(
    world: MemoryPlatform, manifest: Path, measured: Callable[[Any], None]
) -> None:
    measured((0.01, 12_000))
    played = run(readme_dag(manifest), number=1)
    refused(world, played)
    assert played.of("failed") == {GATE}
    assert played.tasks["staging.gates"] == played.tasks["production.promote"] == "upstream_failed"
    assert verdicts(world) == [(GATE, "fail")]


def test_a_recall_above_it_is_released_and_the_rollout_keeps_the_name_of_the_gate(
    world: MemoryPlatform, manifest: Path, measured: Callable[[Any], None]
) -> None:
    measured((0.9, 12_000))
    played = run(readme_dag(manifest), number=1)
    assert played.state == "success", played
    assert verdicts(world) == [(GATE, "pass")]
    opened = [e.event for e in world.ledger.read(STAGING) if isinstance(e.event, RolloutOpened)]
    assert [event.policy.declared_gates for event in opened] == [(GATE,)]
    assert journal.load(world, PRODUCTION).current is not None
    assert journal.load(world, STAGING).current_gates == (GATE,)


@pytest.mark.parametrize("answer", [(0.9, 0), (None, 12_000)])
def test_a_gate_does_not_pass_on_nothing(
    world: MemoryPlatform, manifest: Path, measured: Callable[[Any], None], answer: Any
) -> None:
    measured(answer)
    refused(world, run(readme_dag(manifest), number=1))


def test_a_gate_that_nobody_chained_stands_before_the_release_all_the_same(
    world: MemoryPlatform, manifest: Path, measured: Callable[[Any], None]
) -> None:
    measured((0.01, 12_000))
    dag = readme_dag(manifest, (CHAINED, "release_tasks("))
    assert GATE in dag.get_task("staging.gates").upstream_task_ids
    refused(world, run(dag, number=1))


def test_a_gate_that_somebody_marked_as_successful_has_not_passed(
    world: MemoryPlatform, manifest: Path, measured: Callable[[Any], None]
) -> None:
    measured((0.9, 12_000))
    played = run(readme_dag(manifest), number=1, mark_success=GATE)
    refused(world, played)
    assert (played.tasks[GATE], played.tasks["staging.gates"]) == ("success", "failed")
    ended = [e.event for e in world.ledger.read(STAGING) if isinstance(e.event, StageEnded)]
    (error,) = [event.error for event in ended if event.error]
    assert (error["error"], error["value"]) == ("GateUndecided", f"{GATE} never judged")


def test_a_trigger_rule_that_runs_the_release_whatever_the_gate_says_does_not_release(
    world: MemoryPlatform, manifest: Path, measured: Callable[[Any], None]
) -> None:
    measured((0.01, 12_000))
    dag = readme_dag(manifest)
    dag.get_task("staging.gates").trigger_rule = "all_done"
    played = run(dag, number=1)
    refused(world, played)
    assert played.tasks["staging.gates"] == "failed"
    ended = [e.event for e in world.ledger.read(STAGING) if isinstance(e.event, StageEnded) and e.event.error]
    assert ended[-1].error is not None and ended[-1].error["error"] == "GateFailed"


def test_a_gate_of_an_endpoint_that_the_dag_does_not_release_is_refused_with_the_one_that_was_meant(
    world: MemoryPlatform, manifest: Path, measured: Callable[[Any], None]
) -> None:
    measured((0.9, 12_000))
    played = run(readme_dag(manifest, ("staging/fraud-scorer", "staging/fraud-scroer")), number=1)
    refused(world, played)
    ended = [e.event for e in world.ledger.read(STAGING) if isinstance(e.event, StageEnded) and e.event.error]
    assert ended[-1].error is not None
    assert ended[-1].error["remedy"] == "did you mean staging/fraud-scorer?"
