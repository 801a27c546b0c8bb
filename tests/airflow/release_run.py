"""A Dag run without Airflow: operators executed one by one on fakes, each in a context of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_mlpipex import (
    CanaryDeployOperator,
    CanarySensor,
    GateCheckOperator,
    PromoteModelOperator,
    RegisterModelOperator,
    ShadowDeployOperator,
    ShadowSensor,
    SnapshotDatasetOperator,
    TrainModelOperator,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry, StageEnded
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout.review import decide_review, open_review
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.support.stages import stage_ends

PRODUCTION = EndpointRef.parse("production/fraud-scorer")
AS_OF = "2026-03-01"


@dataclass
class TaskRun:
    """What an operator sees of its task instance; ``xcoms`` is what it pushed, as it came out of JSON."""

    task_id: str
    run_id: str = "manual__1"
    dag_id: str = "release__fraud_scorer"
    try_number: int = 1
    map_index: int = -1
    id: UUID = field(default_factory=uuid4)
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    @property
    def context(self) -> Context:
        return cast("Context", {"ti": self, "task_instance": self, "run_id": self.run_id})


@dataclass
class ReleaseRun:
    """One release of the manifest at ``manifest`` through its stages. The rollout is named after the run."""

    platform: MemoryPlatform
    manifest: Path
    run_id: str = "run-1"

    def execute(self, operator: BaseOperator, *, try_number: int = 1) -> Any:
        """Its result as it would come out of XCom."""
        task = TaskRun(operator.task_id, run_id=self.run_id, try_number=try_number)
        return json.loads(json.dumps(operator.execute(task.context)))

    def snapshot(self, **kwargs: Any) -> Any:
        return self.execute(
            SnapshotDatasetOperator(task_id="snapshot", manifest=str(self.manifest), as_of=AS_OF, **kwargs)
        )

    def train(self, snapshot: Any) -> Any:
        return self.execute(self.train_task(snapshot))

    def train_task(self, snapshot: Any) -> TrainModelOperator:
        return TrainModelOperator(
            task_id="train", manifest=str(self.manifest), snapshot=snapshot, code_version="0123abc"
        )

    def register(self) -> Any:
        trained = self.train(self.snapshot())
        return self.execute(RegisterModelOperator(task_id="register", manifest=str(self.manifest), trained=trained))

    def gates_task(self, registered: Any, environment: str = "production") -> GateCheckOperator:
        return GateCheckOperator(
            task_id="gates",
            manifest=str(self.manifest),
            environment=environment,
            registered=registered,
            rollout_id=self.run_id,
        )

    def approve(self) -> None:
        open_review(self.platform, endpoint=PRODUCTION, rollout_id=self.run_id)
        decide_review(self.platform, endpoint=PRODUCTION, rollout_id=self.run_id, approved=True, reviewer="a person")

    @property
    def common(self) -> dict[str, Any]:
        return {"endpoint": str(PRODUCTION), "rollout_id": self.run_id}

    def shadow_task(self) -> ShadowDeployOperator:
        return ShadowDeployOperator(task_id="shadow", **self.common)

    def canary_task(self, step: int) -> CanaryDeployOperator:
        return CanaryDeployOperator(task_id=f"canary_{step}", step=step, **self.common)

    def promote_task(self) -> PromoteModelOperator:
        return PromoteModelOperator(task_id="promote", **self.common)

    def open(self) -> None:
        """Up to the review, approved."""
        self.execute(self.gates_task(self.register()))
        self.approve()

    def first_release(self) -> None:
        """The whole of a first release, which nothing can be compared with."""
        self.open()
        self.execute(self.promote_task())

    def to_shadow(self) -> None:
        self.open()
        self.execute(self.shadow_task())

    def to_canary(self, step: int = 0) -> None:
        """To canary ``step``, every step before it passed."""
        self.to_shadow()
        self.pass_shadow()
        self.execute(ShadowSensor(task_id="shadow_watch", **self.common))
        for number in range(step):
            self.execute(self.canary_task(number))
            self.pass_canary()
            self.execute(CanarySensor(task_id=f"canary_{number}_watch", step=number, **self.common))
        self.execute(self.canary_task(step))

    # The world.

    @property
    def candidate(self) -> str:
        rollout = self.state.rollout
        assert rollout is not None
        return rollout.candidate.id

    @property
    def current(self) -> str:
        assert self.state.current is not None
        return self.state.current.id

    def traffic(self, *, seconds: float, errors: int = 0, latency_ms: float = 10.0) -> None:
        """Let ``seconds`` pass in which the candidate answers 2000 requests, ``errors`` of them wrongly.

        The watcher of a trial looks in between, so that its lease does not run out.
        """
        plane, clock = self.platform.plane, self.platform.clock
        clock.advance(1)
        plane.serve(PRODUCTION, self.candidate, requests=2000, errors=errors, latency_ms=latency_ms)
        plane.answer_pairs(PRODUCTION, primary=self.current, shadow=self.candidate, pairs=1000)
        left = seconds
        while left > 0:
            clock.advance(min(20.0, left))
            left -= 20.0
            plan = self.state.planned
            if plan is not None and plan.lease_s is not None:
                plane.renew(PRODUCTION, plan.id)

    def pass_shadow(self) -> None:
        self.traffic(seconds=11 * 60)

    def pass_canary(self) -> None:
        self.traffic(seconds=16 * 60)

    @property
    def state(self) -> EndpointState:
        return journal.load(self.platform, PRODUCTION)

    @property
    def entries(self) -> Sequence[Entry]:
        return self.platform.ledger.read(PRODUCTION)

    def stages(self, stage: str) -> list[StageEnded]:
        """What the envelope wrote about every run of ``stage`` in production."""
        return [ended for ended in stage_ends(self.platform.ledger, PRODUCTION) if ended.stage == stage]


def failure(run: ReleaseRun, operator: BaseOperator) -> tuple[str, TaskRun]:
    """The sentence with which ``operator`` fails for good, and the task run that it failed in."""
    task = TaskRun(operator.task_id, run_id=run.run_id)
    with pytest.raises(AirflowFailException) as failed:
        operator.execute(task.context)
    return str(failed.value), task
