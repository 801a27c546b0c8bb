"""Twelve who take traffic back at the same moment make one decision, and on-call is notified once."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised
from airflow_provider_mlpipex.services.rollout import rollback
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.rollouts import ENDPOINT, World

TWELVE = 12


@pytest.mark.parametrize("named", [True, False], ids=["by release", "whatever is there"])
def test_one_decision_and_one_alert(tmp_path: Path, named: bool) -> None:
    memory = memory_platform()
    world = World(memory=memory, ledger=SqlLedger(f"sqlite:///{tmp_path}/ledger.db", clock=memory.clock))
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    rollout = world.state.rollout
    assert rollout is not None and world.state.current is not None
    current, taken = world.state.current.id, rollout.candidate.id if named else None
    together = threading.Barrier(TWELVE)

    def ask(number: int) -> str:
        together.wait(timeout=30)
        report = rollback.answer_request(world.platform, ENDPOINT, cause=f"caller {number}", release_id=taken)
        return str(report.current)

    with ThreadPoolExecutor(TWELVE) as pool:
        answers = Counter(pool.map(ask, range(TWELVE)))
    assert answers == {current: TWELVE}
    ended = [result for result in world.state.results.values() if result.ending == "rolled-back"]
    assert len(ended) == 1
    assert [alert.title for alert in world.events(AlertRaised)] == [f"{ENDPOINT} rolled back"]
    assert len(world.alerts) == 1
