"""An endpoint whose life a test plays: a platform in memory, a manifest, releases, and live requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion, Release
from airflow_provider_mlpipex.domain.rollout.events import Event
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT
from airflow_provider_mlpipex.ports import Ledger
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import (
    opening,
    review,
    rollback,
    trial,
)
from airflow_provider_mlpipex.services.rollout import (
    promote as promotion,
)
from airflow_provider_mlpipex.services.rollout import (
    watch as watching,
)
from airflow_provider_mlpipex.services.rollout.opening import GateCheck
from airflow_provider_mlpipex.services.rollout.review import ReviewRequest
from airflow_provider_mlpipex.services.rollout.task_gates import record_task_gate
from airflow_provider_mlpipex.services.rollout.watch import WatchedStage, WatchResult
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from airflow_provider_mlpipex.testing.snapshots import MemorySnapshots
from tests.support.factories import NOON, make_gate_result, make_model
from tests.support.faults import Faulty
from tests.support.manifests import make_manifest

ENDPOINT = EndpointRef.parse("production/fraud-scorer")
#: Requests a second, and seconds between two looks (well below the lease).
RATE = 10
#: Of requests whose copies are compared, in one go.
PAIRS = 60
LOOK_EVERY = 50
SHADOW_S, STEP_S, WATCH_S = 600, 900, 1800
#: Where this manifest sends its alerts: not the default.
PAGER = ("channel: on-call", "channel: risk-pager")
Phase = Literal["opened", "review", "shadow", "canary-0", "canary-1", "canary-2", "watching", "promoted"]


#: Rows that every version was evaluated on: none of them is fraud.
ROWS = 1000


@cache
def _same_rows() -> tuple[DatasetSnapshot, MemorySnapshots]:
    store = MemorySnapshots()
    ages = [timedelta(days=60)] + [timedelta(days=1)] * ROWS
    table = pd.DataFrame(
        {"amount": np.arange(float(ROWS + 1)), "country": "CH", "fraud": 0, "at": [NOON - age for age in ages]}
    )
    moments = {"window_start": NOON - timedelta(days=90), "split_at": NOON - timedelta(days=30), "window_end": NOON}
    return store.write(table, name="fraud-scorer", time_column="at", **moments), store


def keep_rows(snapshots: MemorySnapshots) -> None:
    """Let ``snapshots`` hold the rows that every version was evaluated on."""
    snapshots.tables.update(_same_rows()[1].tables)


def right_on(accuracy: float) -> Callable[[pd.DataFrame], list[int]]:
    """Answers that are right on the first rows, so that the better of two versions is right wherever the other is."""
    return lambda rows: [int(place >= accuracy * len(rows)) for place in range(len(rows))]


def make_candidate(version: str, *, accuracy: float = 0.8) -> ModelVersion:
    model = make_model(version, name="fraud-scorer", accuracy=accuracy)
    return model.model_copy(update={"dataset": _same_rows()[0]})


class World:
    """``memory`` holds the fakes to play with, ``platform`` is what use cases get: ledger, plane and registry of it can
    be made to fail at one call (see :class:`Faulty`).

    :param edits: of the manifest that releases use unless they say otherwise; or ``manifest``, that itself.
    :param ports: ports to use in place of the fakes.
    """

    def __init__(
        self,
        *edits: tuple[str, str],
        memory: MemoryPlatform | None = None,
        manifest: Manifest | None = None,
        **ports: Any,
    ) -> None:
        self.memory = memory or memory_platform()
        used = replace(self.memory, **ports) if ports else self.memory
        self.ledger, self.plane, self.registry = Faulty(used.ledger), Faulty(used.plane), Faulty(used.registry)
        self.platform: Platform = replace(used, ledger=self.ledger, plane=self.plane, registry=self.registry)
        self.manifest = manifest or make_manifest(PAGER, *edits)
        self.clock = self.memory.clock
        keep_rows(self.memory.snapshots)

    # The verbs.

    def release(self, version: str, *, manifest: Manifest | None = None, accuracy: float = 0.8) -> Release:
        self.memory.registry.answers[version] = right_on(accuracy)
        return opening.make_release(
            self.platform, manifest or self.manifest, make_candidate(version, accuracy=accuracy), manifest_dir=Path()
        )

    def open(
        self,
        run: str,
        version: str,
        *,
        manifest: Manifest | None = None,
        declared_gates: Sequence[str] = (),
        **model: Any,
    ) -> GateCheck:
        manifest = manifest or self.manifest
        release = self.release(version, manifest=manifest, **model)
        return opening.check_offline_gates(
            self.platform,
            endpoint=ENDPOINT,
            rollout_id=run,
            release=release,
            manifest=manifest,
            declared_gates=declared_gates,
        )

    def gate(self, run: str, gate: str, verdict: VerdictName) -> VerdictName:
        """A gate of the Dag's own judges ``run``."""
        return record_task_gate(
            self.platform, ENDPOINT, rollout_id=run, gate=gate, results=[make_gate_result(gate, verdict)]
        )

    def review(self, run: str) -> ReviewRequest:
        return review.open_review(self.platform, endpoint=ENDPOINT, rollout_id=run)

    def decide(self, run: str, *, approved: bool = True, note: str = "") -> None:
        review.decide_review(
            self.platform, endpoint=ENDPOINT, rollout_id=run, approved=approved, reviewer="ada", note=note
        )

    def shadow(self, run: str) -> EndpointState:
        return trial.start_shadow(self.platform, endpoint=ENDPOINT, rollout_id=run, timeout_s=1)

    def canary(self, run: str, step: int) -> EndpointState:
        return trial.step_canary(self.platform, endpoint=ENDPOINT, rollout_id=run, step=step, timeout_s=1)

    def promote(self, run: str) -> EndpointState:
        return promotion.promote(self.platform, endpoint=ENDPOINT, rollout_id=run, timeout_s=1)

    def look(self, run: str, stage: WatchedStage, step: int = -1) -> WatchResult:
        return watching.look(self.platform, endpoint=ENDPOINT, rollout_id=run, stage=stage, step=step)

    def roll_back(self, cause: str = "drill", *, rollout_id: str | None = None) -> EndpointState:
        return rollback.roll_back(self.platform, ENDPOINT, cause=cause, rollout_id=rollout_id)

    def end_trial(self, run: str) -> rollback.RollbackReport | None:
        return rollback.end_trial(self.platform, ENDPOINT, cause="the run ended", rollout_id=run)

    # Live requests.

    def serve(self, seconds: float, *, failing: float = 0.0, latency_ms: float = 10.0, outage: float = 0.0) -> None:
        """``seconds`` of requests, all at the clock's now, as the plan in force spreads and mirrors them.

        :param failing: share of its requests that the release under watch fails; its latency is ``latency_ms``.
        :param outage: share of the requests that every release fails.
        """
        plan = self.memory.plane.plan_in_force(ENDPOINT)
        rollout = self.state.rollout
        judged = rollout.candidate.id if rollout else ""
        if plan is None:
            return
        shares = {release: weight / TOTAL_WEIGHT for release, weight in plan.weights.items()}
        if plan.mirror:
            shares[plan.mirror.release] = plan.mirror.fraction
            # Enough in a shadow for any gate of these tests. More would only be compared again at every look.
            pairs = min(int(RATE * seconds * plan.mirror.fraction), PAIRS)
            self.memory.plane.answer_pairs(ENDPOINT, primary=plan.current, shadow=plan.mirror.release, pairs=pairs)
        for release, share in shares.items():
            requests = int(RATE * seconds * share)
            own = {"latency_ms": latency_ms} if release == judged else {}
            failed = max(outage, failing if release == judged else 0.0)
            self.memory.plane.serve(ENDPOINT, release, requests=requests, errors=round(requests * failed), **own)

    def watch(
        self,
        run: str,
        stage: WatchedStage,
        step: int = -1,
        *,
        seconds: float,
        every: float = LOOK_EVERY,
        **traffic: Any,
    ) -> WatchResult:
        """Live requests for ``seconds`` with a look in between; ends early when the stage does."""
        seen = WatchResult(status="watching")
        for _ in range(int(seconds / every)):
            self.serve(every, **traffic)
            self.clock.advance(every)
            seen = self.look(run, stage, step)
            if seen.status != "watching":
                return seen
        return seen

    # The whole path.

    def bring(self, run: str, version: str, *, to: Phase, manifest: Manifest | None = None, **model: Any) -> None:
        """Nothing goes wrong until ``to``; canary steps are in force and not yet judged."""
        self.open(run, version, manifest=manifest, **model)
        if to == "opened":
            return
        if self.review(run).needs_person:
            if to == "review":
                return
            self.decide(run)
        if self.state.current is not None and self._try(run, to):
            return
        self.promote(run)
        if to == "promoted" and self.state.rollout is not None:
            assert self._uneventful(run, "watch", seconds=WATCH_S).status == "passed"

    def _try(self, run: str, to: Phase) -> bool:
        """Shadow and canary, where the manifest has them; true if ``to`` was reached on the way."""
        rollout = self.state.rollout
        assert rollout is not None
        if rollout.policy.shadow_fraction is not None:
            self.shadow(run)
            if to == "shadow":
                return True
            assert self._uneventful(run, "shadow", seconds=SHADOW_S).status == "passed"
        for step in range(len(rollout.policy.canary_weights)):
            self.canary(run, step)
            if to == f"canary-{step}":
                return True
            assert self._uneventful(run, "canary", step, seconds=STEP_S).status == "passed"
        return False

    def _uneventful(self, run: str, stage: WatchedStage, step: int = -1, *, seconds: int) -> WatchResult:
        """A stage on the way to where a test begins: nothing goes wrong, so two of three looks only renew the lease."""
        for elapsed in range(LOOK_EVERY, seconds + 1, LOOK_EVERY):
            self.serve(LOOK_EVERY)
            self.clock.advance(LOOK_EVERY)
            plan = self.memory.plane.plan_in_force(ENDPOINT)
            if elapsed % (3 * LOOK_EVERY) and plan is not None:
                self.memory.plane.renew(ENDPOINT, plan.id)
            else:
                seen = self.look(run, stage, step)
        return seen

    def first_release(self) -> Release:
        self.bring("run-1", "1.0.0", to="promoted")
        assert self.state.current is not None
        return self.state.current

    # What came of it.

    @property
    def state(self) -> EndpointState:
        return journal.load(self.memory if self.ledger.port is self.memory.ledger else self.platform, ENDPOINT)

    @property
    def weights(self) -> dict[str, int]:
        """Release -> its share of the requests, by the plan that is in force."""
        plan = self.memory.plane.plan_in_force(ENDPOINT)
        return plan.weights if plan else {}

    def events(self, kind: type[Event] | None = None) -> list[Any]:
        """Of the chain; those of one ``kind`` that stand beside it as well, oldest first."""
        ledger: Ledger = self.ledger.port
        beside = reversed(ledger.records(ENDPOINT)) if kind else ()
        both = sorted([*ledger.read(ENDPOINT), *beside], key=lambda each: each.recorded_at)
        return [each.event for each in both if kind is None or isinstance(each.event, kind)]

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """Channel and title of everything that on-call was told."""
        return [(alert.channel, alert.title) for alert in self.memory.alerter.sent]
