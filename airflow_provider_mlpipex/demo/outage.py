"""An upstream that takes both releases of a watch down: on-call is told, and nothing is rolled back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_mlpipex.demo.scene import Cause, Run, Scene
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, Entry, GatesJudged, RollbackDecided

#: What on-call reads of a limit that both releases break.
SAYS = "the previous release is no better"
#: An outage that nobody is told of is over by then; the watch must see its end.
MAX_OUTAGE_S = 10.0


@dataclass
class Outage:
    """Played while a Dag run watches what it has promoted, judged when the run has ended.

    :param task: the task that watches.
    """

    scene: Scene
    endpoint: EndpointRef
    task: str
    cause: Cause = field(default_factory=lambda: Cause("outage upstream (both releases)", rescued=False))

    def play(self, tasks: dict[str, str]) -> None:
        """Break both releases once the trigger alone is watching, and mend them when on-call has been told."""
        if self.cause.at is None:
            if tasks.get(self.task) == "deferred":
                self._begin()
            return
        if self.alerts() or time.time() - self.cause.at > MAX_OUTAGE_S:
            self._end()

    def alerts(self) -> list[dict[str, Any]]:
        """What on-call has been told of it."""
        return [alert for alert in self.scene.alerts.received() if SAYS in str(alert.get("title"))]

    def judge(self, run: Run) -> None:
        """The step in the report, once ``run`` has ended."""
        self._end()
        with self.scene.step(
            "outage upstream",
            "both releases of the last watch failed alike: on-call told, nothing rolled back",
        ) as step:
            broken = self.cause.releases
            since = self.scene.entries(self.endpoint, since=self.cause.at) if self.cause.at else []
            reverted = [entry for entry in since if isinstance(entry.event, RollbackDecided)]
            excused = [
                result
                for entry in since
                if isinstance(entry.event, GatesJudged)
                for result in entry.event.results
                if result.excused
            ]
            current = self.scene.state(self.endpoint).current
            stayed = current is not None and broken[-1:] == (current.id,) and run.state == "success"
            step.ok = bool(self.alerts() and excused) and stayed and not reverted
            step.observed = (
                f"production serves {current.id if current else 'nothing'}; {len(self.alerts())} alerts; "
                f"{len(reverted)} rollbacks; Dag run {run.state}"
            )
            failed = [answer for answer in self.scene.traffic.failures() if self.cause.covers(answer)]
            step.facts = {
                "broken": broken,
                "alerts": self.alerts(),
                "notified_after_ms": self._notified_after_ms(since),
                "excused": [result.to_json() for result in excused],
                "failed_requests": {release: sum(f.release == release for f in failed) for release in broken},
            }

    def _begin(self) -> None:
        state = self.scene.state(self.endpoint)
        control = state.planned.control if state.planned else None
        if state.rollout is None or state.rollout.phase != "watching" or control is None:
            return
        # The control arm first: it gets few requests, and must not look better for having been asked later.
        self.scene.inject(self.endpoint, self.cause, control, state.rollout.candidate.id, error_rate=1.0)

    def _end(self) -> None:
        if self.cause.at is not None and self.cause.reverted is None:
            self.scene.mend(self.endpoint, self.cause)
            self.scene.causes.append(self.cause)

    def _notified_after_ms(self, since: list[Entry]) -> float | None:
        alerts = (entry for entry in since if isinstance(entry.event, AlertRaised) and SAYS in entry.event.title)
        first = next(alerts, None)
        if first is None or self.cause.at is None:
            return None
        return round((first.recorded_at.timestamp() - self.cause.at) * 1000, 1)
