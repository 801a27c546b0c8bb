"""The whole life of a model, step by step, each step compared with what should have happened.

Every step goes the way a team would go: it edits the manifest, triggers the reference Dag through Airflow's API,
answers the review, and reads the ledger afterwards. Nothing is simulated but time and the faults, which go through
the drill port of the serving plane.
"""

from __future__ import annotations

import subprocess
import sys
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
from airflow_provider_mlpipex.demo.report import Report, Rollback, Step
from airflow_provider_mlpipex.demo.traffic import Answer, LiveTraffic
from airflow_provider_mlpipex.demo.webhook import AlertReceiver
from airflow_provider_mlpipex.domain.endpoint_state import EndpointState
from airflow_provider_mlpipex.domain.events import Entry, GatesJudged, ReviewDecided, RollbackDecided, StageEnded
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.history import tenures
from airflow_provider_mlpipex.services.platform import Platform

DAG_ID = "release__flight_delay"
PRODUCTION = EndpointRef.parse("production/flight-delay")
STAGING = EndpointRef.parse("staging/flight-delay")
#: Beside the manifest: the pinned requirements of runtime 1.1.0.
RUNTIME_LOCK = "runtime-1.1.0.txt"
RUN_TIMEOUT_S = 600.0
#: How long the person takes who answers a review.
READING_S = 2.0
POLL_S = 0.3


@dataclass
class Run:
    """One Dag run as the story saw it."""

    run_id: str
    state: str
    tasks: dict[str, str]


@dataclass
class Story:
    """:param control: authenticated client of the plane's control API; ``environment``: variables of the CLI."""

    airflow: AirflowClient
    platform: Platform
    control: httpx.Client
    traffic: LiveTraffic
    alerts: AlertReceiver
    manifest: Path
    environment: dict[str, str]
    say: Callable[[str], None]
    report: Report = field(default_factory=Report)
    causes: list[Cause] = field(default_factory=list)

    def play(self) -> Report:
        self.first_release()
        self.retrain()
        self.refused_offline()
        self.rolled_back_in_canary()
        self.rolled_back_after_promotion()
        self.refused_data()
        self.runtime_bump_rejected()
        self.runtime_bump_approved()
        self.one_call()
        self.clients_were_served()
        for endpoint in (PRODUCTION, STAGING):
            self.report.tenures[str(endpoint)] = [t.to_json() for t in tenures(self.platform, endpoint)]
        return self.report

    # The steps, in the order of the story.

    def first_release(self) -> None:
        with self.step("1 first release", "1.0.0 is current in production") as step:
            run = self.release(as_of="2013-04-01")
            self.traffic.start()
            self.judge(step, run.state == "success" and self.version() == "1.0.0", run)

    def retrain(self) -> None:
        with self.step("2 retrain", "1.1.0 current after shadow and canary, 1.0.0 warm") as step:
            run = self.release(as_of="2013-07-01")
            state = self.state()
            warm = state.previous is not None and self.plane_state(state.previous.id) == "ready"
            self.judge(step, run.state == "success" and self.version() == "1.1.0" and warm, run, previous_warm=warm)

    def refused_offline(self) -> None:
        with self.step("3 refused offline", "a gate stops the autumn challenger; 1.1.0 stays") as step:
            run = self.release(as_of="2013-11-01")
            failed = [r for r in self.gate_results("development", "gate") if r["verdict"] == "fail"]
            told = bool(failed) and failed[0]["threshold"] is not None and failed[0]["margin"] is not None
            self.judge(
                step, run.state == "failed" and told and self.version() == "1.1.0", run, gate=failed[:1], told=told
            )

    def rolled_back_in_canary(self) -> None:
        with self.step("4 rolled back in canary", "slow under live traffic: back to 1.1.0, on-call told") as step:
            before = len(self.alerts.received())
            cause = Cause("slow canary (500 ms)")

            def slow_down(state: EndpointState, _: dict[str, str]) -> None:
                if cause.at is None and state.rollout and state.rollout.phase == "canary":
                    self.inject(state.rollout.candidate.id, cause, latency_ms=500)

            run = self.release(as_of="2013-08-01", meanwhile=slow_down)
            self.measure_rollback(cause)
            told = self.wait_for(lambda: len(self.alerts.received()) > before)
            ok = run.state == "failed" and self.version() == "1.1.0" and told and cause.at is not None
            self.judge(step, ok, run, on_call_told=told)

    def rolled_back_after_promotion(self) -> None:
        with self.step("5 rolled back after 100 %", "starts to fail when promoted: reverted in its window") as step:
            self.edit(lambda manifest: manifest["training"]["parameters"].update(max_iter=80))
            before = len(self.alerts.received())
            cause = Cause("promoted release fails (all requests)", rescued=False)

            def fail(state: EndpointState, tasks: dict[str, str]) -> None:
                # Some time after the promotion: the worker has gone, and the trigger alone is watching.
                deferred = tasks.get("production.watch") == "deferred"
                if cause.at is None and state.rollout and state.rollout.phase == "watching" and deferred:
                    self.inject(state.rollout.candidate.id, cause, error_rate=1.0)

            run = self.release(as_of="2013-08-01", meanwhile=fail)
            self.measure_rollback(cause)
            told = self.wait_for(lambda: len(self.alerts.received()) > before)
            decided = self.last_decision()
            by_trigger = decided is not None and decided.origin.kind == "trigger"
            ok = run.state == "failed" and self.version() == "1.1.0" and told and by_trigger
            self.judge(step, ok, run, on_call_told=told, reverted_by=decided.origin.kind if decided else "nobody")

    def refused_data(self) -> None:
        with self.step("7 refused data", "data-quality checks stop it before training") as step:
            self.edit(lambda manifest: manifest["data"].update(parameters={"corrupt": True}))
            run = self.release(as_of="2013-09-01")
            self.edit(lambda manifest: manifest["data"].update(parameters={}))
            stopped = [task for task, state in run.tasks.items() if state == "failed"]
            untrained = not any(
                "train" in task and state == "success" for task, state in run.tasks.items() if task.endswith("train")
            )
            ok = run.state == "failed" and untrained and any("snapshot" in task for task in stopped)
            self.judge(step, ok and self.version() == "1.1.0", run, stopped_at=stopped)

    def runtime_bump_rejected(self) -> None:
        with self.step("8a runtime bump, rejected", "review opens; rejected, nothing changes") as step:
            self.edit(self.bump_runtime)
            before = self.state().current
            run = self.release(approve=False)
            reviewed = self.last_review()
            ok = run.state == "failed" and self.state().current == before and reviewed is not None
            self.judge(step, ok and not reviewed.approved, run)  # type: ignore[union-attr]

    def runtime_bump_approved(self) -> None:
        with self.step("8b runtime bump, approved", "the same model on runtime 1.1.0, after shadow and canary") as step:
            run = self.release()
            current = self.state().current
            ok = current is not None and (current.model.version, current.runtime.version) == ("1.1.0", "1.1.0")
            stages = {e.event.stage for e in self.entries(PRODUCTION) if isinstance(e.event, StageEnded)}
            self.judge(step, ok and run.state == "success" and {"shadow", "canary"} <= stages, run)

    def one_call(self) -> None:
        with self.step("6a one call, terminal", "mlpipex rollback: runtime 1.0.0 serves again") as step:
            bad, cause = self.state().current, Cause("manual rollback by CLI")
            assert bad is not None
            cause.strike(bad.id)
            called = subprocess.run(
                [sys.executable, "-m", "airflow_provider_mlpipex", "rollback", str(PRODUCTION), "--cause", "drill"],
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            self.measure_rollback(cause)
            current = self.state().current
            ok = called.returncode == 0 and current is not None and current.runtime.version == "1.0.0"
            self.judge(step, ok, None, said=(called.stdout or called.stderr).strip())
        with self.step("6b one call, HTTP", "POST …/rollback on staging: its previous release serves") as step:
            state = journal.load(self.platform, STAGING)
            answer = self.control.post(f"/v1/endpoints/{STAGING}/rollback", json={"cause": "drill", "user": "demo"})
            after = journal.load(self.platform, STAGING)
            ok = answer.status_code == 200 and after.current == state.previous and after.current is not None
            self.judge(step, ok, None, answered=answer.status_code)

    def clients_were_served(self) -> None:
        """Judged at the end, over the whole story."""
        expected = "no client request fails, but those answered by the release that was broken at 100 %"
        with self.step("9 clients", expected) as step:
            totals = self.traffic.totals()
            broken = [cause for cause in self.causes if not cause.rescued]
            stray = [f.sent for f in self.traffic.failures() if not any(cause.covers(f) for cause in broken)]
            self.report.requests = {**totals, "failed_outside_faults": len(stray)}
            step.ok = totals["sent"] > 0 and not stray and totals["held_back"] == 0
            step.observed = (
                f"{totals['sent']} sent, {totals['failed']} failed, {len(stray)} of them outside the injected fault"
            )
            step.facts = {**totals, "stray": stray[:20]}

    # How the story acts.

    def release(
        self,
        *,
        as_of: str | None = None,
        approve: bool = True,
        meanwhile: Callable[[EndpointState, dict[str, str]], None] = lambda _state, _tasks: None,
    ) -> Run:
        """Trigger the release Dag, answer its review, and follow it to its end."""
        conf = {"as_of": as_of} if as_of else {}
        run_id = self.airflow.trigger(DAG_ID, conf=conf)
        seen: dict[str, str] = {}
        asked_at, answered = 0.0, False
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while time.monotonic() < deadline:
            for task, state in self.airflow.task_states(DAG_ID, run_id).items():
                if seen.get(task) != state and state in ("success", "failed", "skipped", "upstream_failed"):
                    self.say(f"    {state:16} {task}")
                if task.endswith("review"):
                    # Airflow may ask again: it can lose a task that is answered before it has seen the worker leave.
                    if state == "awaiting_input" != seen.get(task):
                        asked_at, answered = time.monotonic(), False
                    if state == "awaiting_input" and not answered and time.monotonic() - asked_at > READING_S:
                        self.airflow.answer_review(DAG_ID, run_id, task, approve=approve)
                        self.say(f"    {'approved' if approve else 'rejected':16} {task}")
                        answered = True
                seen[task] = state
            meanwhile(self.state(), seen)
            state = self.airflow.run_state(DAG_ID, run_id)
            if state in ("success", "failed"):
                return Run(run_id=run_id, state=state, tasks=self.airflow.task_states(DAG_ID, run_id))
            time.sleep(POLL_S)
        return Run(run_id=run_id, state=f"still running after {RUN_TIMEOUT_S:.0f} s", tasks=seen)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the manifest the way a person would, and wait until Airflow has parsed the Dag again."""
        manifest = yaml.safe_load(self.manifest.read_text(encoding="utf-8"))
        change(manifest)
        self.manifest.write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
        self.airflow.wait_until_parsed(DAG_ID, after=datetime.now(UTC))

    @staticmethod
    def bump_runtime(manifest: dict[str, Any]) -> None:
        manifest["model"]["version"] = "1.1.0"
        manifest["runtime"] = {"version": "1.1.0", "lock": RUNTIME_LOCK}

    def inject(self, release_id: str, cause: Cause, **fault: float) -> None:
        """Break one release through the drill port of the plane."""
        self.control.put(f"/v1/endpoints/{PRODUCTION}/releases/{release_id}/fault", json=fault).raise_for_status()
        cause.strike(release_id)
        self.say(f"    fault            {release_id}: {fault}")

    # How the story looks.

    @contextmanager
    def step(self, name: str, expected: str) -> Iterator[Step]:
        self.say(f"\n{name}: expecting {expected}")
        step = Step(name=name, expected=expected, observed="did not get to an end", ok=False, seconds=0.0)
        self.report.steps.append(step)
        started = time.monotonic()
        try:
            yield step
        finally:
            step.seconds = round(time.monotonic() - started, 1)
            self.say(f"  {'ok' if step.ok else 'FAIL'}: {step.observed} ({step.seconds} s)")

    def judge(self, step: Step, ok: bool, run: Run | None, **facts: Any) -> None:
        state = self.state()
        current = state.current.id if state.current else "nothing"
        step.ok = ok
        step.observed = f"production serves {current}" + (f"; Dag run {run.state}" if run else "")
        step.facts = {**facts, **({"run_id": run.run_id} if run else {})}

    def measure_rollback(self, cause: Cause) -> None:
        decided = self.last_decision()
        if decided is None or cause.at is None or not isinstance(decided.event, RollbackDecided):
            return
        decision = decided.recorded_at.timestamp()
        last_bad = self.traffic.last_served_by(cause.release) or 0.0
        cause.reverted = max(decision, last_bad)
        self.causes.append(cause)
        self.report.rollbacks.append(
            Rollback(
                cause=cause.name,
                endpoint=str(PRODUCTION),
                from_release=decided.event.from_release,
                to_release=decided.event.to_release,
                detected_ms=round((decision - cause.at) * 1000, 1),
                reverted_ms=round(max(0.0, last_bad - decision) * 1000, 1),
                failed_requests=self.traffic.failed_since(cause.at),
            )
        )

    def state(self) -> EndpointState:
        return journal.load(self.platform, PRODUCTION)

    def version(self) -> str:
        current = self.state().current
        return current.model.version if current else "nothing"

    def entries(self, endpoint: EndpointRef) -> list[Entry]:
        return self.platform.ledger.read(endpoint)

    def plane_state(self, release_id: str) -> str:
        status = self.platform.plane.observe(PRODUCTION).releases.get(release_id)
        return status.state if status else "unknown"

    def gate_results(self, environment: str, stage: str) -> list[dict[str, Any]]:
        """The gates of ``stage`` as last judged in ``environment``."""
        endpoint = EndpointRef(environment=environment, name=PRODUCTION.name)
        judged = [e.event for e in self.entries(endpoint) if isinstance(e.event, GatesJudged)]
        return [r.to_json() for r in judged[-1].results] if judged and judged[-1].stage == stage else []

    def last_decision(self) -> Entry | None:
        return next((e for e in reversed(self.entries(PRODUCTION)) if isinstance(e.event, RollbackDecided)), None)

    def last_review(self) -> ReviewDecided | None:
        found = (e.event for e in reversed(self.entries(PRODUCTION)) if isinstance(e.event, ReviewDecided))
        return next(found, None)

    @staticmethod
    def wait_for(happened: Callable[[], bool], seconds: float = 10.0) -> bool:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


@dataclass
class Cause:
    """Why a rollback is expected, and when (epoch seconds) it was set off and over.

    ``rescued``: requests that the bad release fails are answered by the current one, so no client may notice.
    """

    name: str
    rescued: bool = True
    at: float | None = None
    reverted: float | None = None
    release: str = ""

    def covers(self, answer: Answer) -> bool:
        """Whether a request was under way between the cause and the revert."""
        if self.at is None or self.reverted is None:
            return False
        return self.at <= answer.answered and answer.sent <= self.reverted

    def strike(self, release_id: str) -> None:
        self.at, self.release = time.time(), release_id
