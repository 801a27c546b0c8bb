"""A release Dag as Airflow runs it, by ``dag.test()`` on fakes: a first release, one on trial, one that fails there.

Time runs six hundred times as fast as on a clock: a window of ten minutes is a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_mlpipex import release_tasks, training_tasks
from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.rollout.events import ReviewDecided, RollbackDecided, StageEnded
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.testing.dags import DagRunResult, run_dag, use_platform
from airflow_provider_mlpipex.testing.ledger import MemoryLedger
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from airflow_provider_mlpipex.triggers import base
from tests.airflow.release_run import PRODUCTION
from tests.support.acme import manifest_text
from tests.support.stages import stage_records

SPEED = 600.0
POLICY = "{required_for: [], auto_approve: [data, model, runtime, features, gate-loosened, gate-tightened, policy]}"
REVIEW = ("review:\n      auto_approve: [data]\n      timeout: 24h", f"review: {POLICY}")
AS_OF = "2026-03-01"


class FastClock:
    """Wall time, :data:`SPEED` times as fast."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def now(self) -> datetime:
        passed = (time.monotonic() - self._began) * SPEED
        return datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(seconds=passed)


class Users(threading.Thread):
    """Users: a thousand requests every few seconds to whoever the plan in force sends them to.

    ``failing``: share of a release's requests that it fails, by release.
    """

    def __init__(self, plane: MemoryPlane) -> None:
        super().__init__(daemon=True)
        self._plane = plane
        self._over = threading.Event()
        self.failing: dict[str, float] = {}

    def run(self) -> None:
        while not self._over.wait(0.02):
            plan = self._plane.plan_in_force(PRODUCTION)
            if plan is None:
                continue
            for release in plan.releases:
                errors = round(1000 * self.failing.get(release, 0.0))
                with suppress(ValueError):  # the plan has changed since, and the release was retired
                    self._plane.serve(PRODUCTION, release, requests=1000, errors=errors)
            if plan.mirror:
                self._plane.answer_pairs(PRODUCTION, primary=plan.current, shadow=plan.mirror.release, pairs=50)

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryPlatform]:
    clock: Any = FastClock()
    platform = replace(memory_platform(), clock=clock, ledger=MemoryLedger(clock), plane=MemoryPlane(clock))
    monkeypatch.setenv("MLPIPEX_CODE_VERSION", "0123abc")
    monkeypatch.setattr(base, "SETTLE_S", 0.0)
    with use_platform(platform):
        yield platform


@pytest.fixture
def users(fast: MemoryPlatform) -> Iterator[Users]:
    users = Users(fast.plane)
    users.start()
    yield users
    users.stop()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "fraud.yaml"
    write(path)
    return path


def write(path: Path, *edits: tuple[str, str]) -> None:
    lease = ("expected_rate: 10/s", "expected_rate: 10/s\n  lease: 24h")
    path.write_text(manifest_text(REVIEW, lease, *edits), encoding="utf-8")


def run(manifest: Path, *, number: int) -> DagRunResult:
    """Play one Dag run to its end."""
    with DAG("release__fraud_scorer", schedule=None, params={"as_of": AS_OF}) as dag:
        release_tasks(str(manifest), registered=training_tasks(str(manifest)))
    for task in dag.tasks:
        task.retry_delay = task.max_retry_delay = timedelta(seconds=0.1)
        if hasattr(task, "poke_interval"):
            task.poke_interval = 0.05
    return run_dag(dag, logical_date=datetime(2026, 3, number, tzinfo=UTC))


@pytest.mark.usefixtures("airflow_db")
def test_a_first_release_a_second_on_trial_and_a_third_that_fails_in_its_canary(
    fast: MemoryPlatform, users: Users, manifest: Path
) -> None:
    first = run(manifest, number=1)
    assert first.state == "success", first
    assert first.of("success") == set(first.tasks)
    state = journal.load(fast, PRODUCTION)
    assert state.current is not None
    assert (state.current.model.version, state.previous, state.rollout) == ("1.0.0", None, None)
    assert fast.registry.aliases["fraud-scorer"]["production"] == "1.0.0"

    write(manifest, ("depth: 3", "depth: 4"))
    second = run(manifest, number=2)
    assert second.state == "success", second
    state = journal.load(fast, PRODUCTION)
    assert state.current is not None
    assert state.previous is not None
    assert (state.current.model.version, state.previous.model.version) == ("1.0.1", "1.0.0")
    assert state.rollout is None
    weights = [plan.weights.get(state.current.id, 0) for plan in fast.plane.applied if plan.endpoint == PRODUCTION]
    assert weights == [0, 0, 500, 5000, 9_500, 10_000]
    assert [plan.mirror is not None for plan in fast.plane.applied if plan.endpoint == PRODUCTION].count(True) == 1
    entries = [e for e in fast.ledger.read(PRODUCTION) if e.origin.run_id == second.run_id]
    (decided,) = [e.event for e in entries if isinstance(e.event, ReviewDecided)]
    assert (decided.approved, decided.reviewer) == (True, "policy")
    records = [e for e in stage_records(fast.ledger, PRODUCTION) if e.origin.run_id == second.run_id]
    waited = [e.event for e in records if isinstance(e.event, StageEnded) and e.event.outcome == "deferred"]
    # A stage whose time is over when its task comes to it, on a machine that is slow, need not wait.
    assert waited
    assert not Counter(stage.stage for stage in waited) - Counter(shadow=1, canary=3, watch=1)

    write(manifest, ("depth: 3", "depth: 5"))
    before, fast.plane.applied[:] = state.current, []
    threading.Thread(target=fail_in_canary, args=(fast, users), daemon=True).start()
    third = run(manifest, number=3)
    assert third.state == "failed", third
    # The third model is as good as the others until its first live request.
    assert third.of("failed") == {"production.canary_5_watch"}
    # The teardown ran although what came before it did not.
    assert third.tasks["production.end_trial"] == "success"
    assert third.tasks["production.promote"] == third.tasks["production.watch"] == "upstream_failed"
    state = journal.load(fast, PRODUCTION)
    assert (state.current, state.rollout) == (before, None)
    plan = fast.plane.plan_in_force(PRODUCTION)
    assert plan is not None
    assert plan.weights == {before.id: 10_000}
    (reverted,) = [e for e in fast.ledger.read(PRODUCTION) if isinstance(e.event, RollbackDecided)]
    assert reverted.origin.kind in ("trigger", "task")
    assert [alert.severity for alert in fast.alerter.sent].count("critical") == 1


def fail_in_canary(platform: MemoryPlatform, users: Users) -> None:
    """Let the candidate fail a fifth of its requests as soon as it has any."""
    while True:
        rollout = journal.load(platform, PRODUCTION).rollout
        if rollout is not None and rollout.phase == "canary":
            users.failing[rollout.candidate.id] = 0.2
            return
        time.sleep(0.01)


@pytest.mark.usefixtures("airflow_db", "users")
def test_a_model_that_fails_its_gates_goes_no_further_and_every_teardown_has_run(
    fast: MemoryPlatform, manifest: Path
) -> None:
    write(manifest, ("accuracy at least 60%", "accuracy at least 99%"))
    played = run(manifest, number=4)
    assert played.state == "failed", played
    assert played.of("failed") == {"staging.gates"}
    assert played.of("success") == {
        "model.snapshot",
        "model.train",
        "model.register",
        "staging.end_trial",
        "production.end_trial",
    }
    assert journal.load(fast, PRODUCTION).current is None


@pytest.mark.usefixtures("airflow_db", "users")
def test_a_plane_that_does_not_answer_once_costs_a_retry(
    fast: MemoryPlatform, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, failures = fast.plane.apply, iter(range(1))

    def flaky(plan: Any, **given: Any) -> Any:
        if next(failures, None) is not None:
            raise PlaneUnavailable("serving plane", value="ConnectTimeout")
        return apply(plan, **given)

    monkeypatch.setattr(fast.plane, "apply", flaky)
    played = run(manifest, number=5)
    assert played.state == "success", played
    promotions = [e for e in stage_records(fast.ledger, PRODUCTION) if e.origin.task_id == "production.promote"]
    tries = [(e.origin.try_number, e.event.outcome) for e in promotions if isinstance(e.event, StageEnded)]
    assert tries == [(1, "failed"), (2, "succeeded")]
