"""What the story acts on and looks at: Airflow, the plane and its drill port, the ledger, clients, on-call's pager."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from airflow_provider_mlpipex.demo.airflow_client import AirflowClient
from airflow_provider_mlpipex.demo.progress import Progress
from airflow_provider_mlpipex.demo.report import Report, Step
from airflow_provider_mlpipex.demo.traffic import Answer, LiveTraffic
from airflow_provider_mlpipex.demo.webhook import AlertReceiver
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import (
    Entry,
    GatesJudged,
    RollbackDecided,
    RolloutHeld,
    RolloutRejected,
    RoutineRecord,
)
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.hold import resume

#: A Dag run is given up when nothing has happened in it and in the ledger for so long. However slow the machine is.
STALLED_S = 600.0
#: A verb of the CLI that has not answered by then never will.
SLOWEST_VERB_S = 300.0
#: How long the person takes who answers a review.
READING_S = 2.0
POLL_S = 0.3
#: Model servers look at the drill port five times a second: so long after a mending a request may still fail.
NOTICED_S = 0.5


@dataclass
class Run:
    """One Dag run as the story saw it."""

    run_id: str
    state: str
    tasks: dict[str, str]


@dataclass
class Cause:
    """What the story breaks, and when (epoch seconds) it was set off and over.

    ``rescued``: requests that the bad release fails are answered by the current one, so no client may notice.
    """

    name: str
    rescued: bool = True
    at: float | None = None
    reverted: float | None = None
    releases: tuple[str, ...] = ()

    def strike(self, *release_ids: str) -> None:
        self.at, self.releases = time.time(), release_ids

    def covers(self, answer: Answer) -> bool:
        """Whether it is a broken release's answer to a request under way between the cause and the revert."""
        if self.at is None or self.reverted is None or answer.release not in self.releases:
            return False
        return self.at <= answer.answered and answer.sent <= self.reverted


@dataclass
class Scene:
    """:param drills: client of the plane's control API that may break releases; ``rollbacks``: one that may take
        traffic back. :param clients: of its ingress.
    :param environment: variables of the CLI. :param logs: folder of what every server and task writes.
    """

    airflow: AirflowClient
    platform: Platform
    drills: httpx.Client
    rollbacks: httpx.Client
    clients: httpx.Client
    traffic: LiveTraffic
    alerts: AlertReceiver
    environment: dict[str, str]
    say: Callable[[str], None]
    logs: Path
    progress: Progress
    report: Report = field(default_factory=Report)
    causes: list[Cause] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, expected: str) -> Iterator[Step]:
        """Put a step into the report, whatever becomes of it."""
        self.say(f"\n{self.progress.before(name)}: expecting {expected}")
        began = time.time()
        step = Step(name=name, expected=expected, observed="did not get to an end", ok=False, seconds=0.0)
        self.report.steps.append(step)
        started = time.monotonic()
        try:
            yield step
        finally:
            step.seconds = round(time.monotonic() - started, 1)
            self.say(f"  {'ok' if step.ok else 'FAIL'}: {step.observed} ({step.seconds} s)")
            if not step.ok:
                step.why = self.alerted_causes(since=began)
                for cause in step.why:
                    self.say(f"    why  {cause}")
                of_run = f", Dag run {step.facts['run_id']}" if step.facts.get("run_id") else ""
                self.say(f"    logs {self.logs}{of_run}")

    # How the story acts.

    def follow(
        self,
        dag_id: str,
        *,
        conf: dict[str, Any],
        approve: bool = True,
        meanwhile: Callable[[dict[str, str]], None] = lambda _tasks: None,
    ) -> Run:
        """Trigger a Dag, answer its review and its holds, and follow the run to its end.

        :param meanwhile: called again and again with the tasks' states.
        """
        run_id = self.airflow.trigger(dag_id, conf=conf)
        reported: dict[str, str] = {}
        asked_at, answered = 0.0, False
        moved_at, moved = time.monotonic(), None
        while time.monotonic() - moved_at < STALLED_S:
            for task, state in self.airflow.task_states(dag_id, run_id).items():
                if reported.get(task) != state and state in ("success", "failed", "skipped", "upstream_failed"):
                    self.say(f"    {state:16} {task}")
                if task.endswith("review"):
                    # Airflow may ask again: it can lose a task that is answered before it has seen the worker leave.
                    if state == "awaiting_input" != reported.get(task):
                        asked_at, answered = time.monotonic(), False
                    if state == "awaiting_input" and not answered and time.monotonic() - asked_at > READING_S:
                        self.airflow.answer_review(dag_id, run_id, task, approve=approve)
                        self.say(f"    {'approved' if approve else 'rejected':16} {task}")
                        answered = True
                reported[task] = state
            self._answer_holds()
            meanwhile(reported)
            if moved != (now := (dict(reported), self._ledger_stands_at())):
                moved_at, moved = time.monotonic(), now
            state = self.airflow.run_state(dag_id, run_id)
            if state in ("success", "failed"):
                return Run(run_id=run_id, state=state, tasks=self.airflow.task_states(dag_id, run_id))
            time.sleep(POLL_S)
        return Run(run_id=run_id, state=f"stands still for {STALLED_S:.0f} s", tasks=reported)

    def _answer_holds(self) -> None:
        """What a person on call would do: a stage on hold passes where the current release breaks the same limits, as
        on a machine that is slow for both; otherwise its gates get more time, and take back what is worse."""
        for endpoint in self.platform.ledger.endpoints():
            rollout = self.state(endpoint).rollout
            if rollout is None or rollout.hold is None or rollout.phase not in ("shadow", "canary"):
                continue
            (judged,) = self.platform.ledger.read(endpoint, types=("gates-judged",), newest_first=True, limit=1)
            assert isinstance(judged.event, GatesJudged)
            alike = all(result.verdict == "pass" or result.excused for result in judged.event.results)
            note = f"{'both releases alike' if alike else 'more time'}: {rollout.hold.cause}"[:500]
            resume(self.platform, endpoint=endpoint, rollout_id=rollout.id, reviewer="demo", note=note, accept=alike)
            self.say(
                f"    {'let pass' if alike else 'resumed':16} {endpoint} {rollout.phase}: {rollout.hold.cause[:160]}"
            )

    def edit(self, manifest: Path, dag_id: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a manifest the way a person would, and wait until Airflow has parsed its Dag again."""
        written = yaml.safe_load(manifest.read_text(encoding="utf-8"))
        change(written)
        manifest.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
        self.airflow.wait_until_parsed(dag_id, after=datetime.now(UTC))

    def inject(self, endpoint: EndpointRef, cause: Cause, *release_ids: str, **fault: float) -> None:
        """Break releases through the drill port of the plane."""
        for release_id in release_ids:
            self.drills.put(_fault_path(endpoint, release_id), json=fault).raise_for_status()
            self.say(f"    fault            {release_id}: {fault}")
        cause.strike(*release_ids)

    def mend(self, endpoint: EndpointRef, cause: Cause) -> None:
        """Take the fault of ``cause`` away again."""
        for release_id in reversed(cause.releases):
            self.drills.delete(_fault_path(endpoint, release_id)).raise_for_status()
            self.say(f"    mended           {release_id}")
        cause.reverted = time.time() + NOTICED_S

    # How the story looks.

    def state(self, endpoint: EndpointRef) -> EndpointState:
        return journal.load(self.platform, endpoint)

    def entries(self, endpoint: EndpointRef, *, since: float = 0.0) -> list[Entry]:
        """The ledger of ``endpoint``. :param since: epoch seconds."""
        return [entry for entry in self.platform.ledger.read(endpoint) if entry.recorded_at.timestamp() >= since]

    def facts(self, endpoint: EndpointRef, *, since: float) -> list[Entry | RoutineRecord]:
        """:meth:`entries`, and with them what decided nothing and stands beside the chain, the oldest first."""
        beside = self.platform.ledger.records(endpoint, since=datetime.fromtimestamp(since, tz=UTC))
        return sorted([*self.entries(endpoint, since=since), *beside], key=lambda fact: fact.recorded_at)

    def alerted_causes(self, *, since: float) -> list[str]:
        """Why rollouts ended badly or wait since then (epoch seconds), as the ledger tells it."""
        return [
            f"{endpoint}: {entry.event.type}: {entry.event.cause}"
            for endpoint in self.platform.ledger.endpoints()
            for entry in self.entries(endpoint, since=since)
            if isinstance(entry.event, RolloutRejected | RollbackDecided | RolloutHeld)
        ]

    def _ledger_stands_at(self) -> dict[str, str]:
        """The hash of every endpoint's last entry."""
        kept = {
            str(endpoint): self.platform.ledger.projection(endpoint) for endpoint in self.platform.ledger.endpoints()
        }
        return {endpoint: projection.hash for endpoint, projection in kept.items() if projection is not None}

    def gate_results(self, endpoint: EndpointRef, stage: str) -> list[dict[str, Any]]:
        """The gates of ``stage`` as last judged at ``endpoint``."""
        judged = [e.event for e in self.entries(endpoint) if isinstance(e.event, GatesJudged)]
        return [r.to_json() for r in judged[-1].results] if judged and judged[-1].stage == stage else []

    @staticmethod
    def wait_for(happened: Callable[[], bool], seconds: float = 60.0) -> bool:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def _fault_path(endpoint: EndpointRef, release_id: str) -> str:
    return f"/v1/endpoints/{endpoint}/releases/{release_id}/fault"
