"""The whole life of a model, step by step, each step compared with what should have happened.

Every step goes the way a team would go: it edits the manifest, triggers the reference Dag through Airflow's API,
answers the review, and reads the ledger afterwards. Nothing is simulated but time and the faults, which go through
the drill port of the serving plane.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.demo import keyed
from airflow_provider_mlpipex.demo.keyed import KeyedStory
from airflow_provider_mlpipex.demo.outage import Outage
from airflow_provider_mlpipex.demo.progress import minutes
from airflow_provider_mlpipex.demo.report import Report, Rollback, Step
from airflow_provider_mlpipex.demo.scene import SLOWEST_VERB_S, Cause, Run, Scene
from airflow_provider_mlpipex.demo.scored import ScoredStory
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry, ReviewDecided, RollbackDecided, StageEnded
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services.rollout.tenures import tenures

DAG_ID = "release__flight_delay"
DEVELOPMENT = EndpointRef.parse("development/flight-delay")
STAGING = EndpointRef.parse("staging/flight-delay")
PRODUCTION = EndpointRef.parse("production/flight-delay")
#: The task that watches what was promoted.
WATCH = "production.watch"
#: Beside the manifest: the pinned requirements of runtime 1.1.0.
RUNTIME_LOCK = "runtime-1.1.0.txt"


@dataclass
class Story:
    """:param manifest: the copy that the reference Dags read.
    :param keyed: steps of features from a store. :param scored: the step of batches and their drift.
    """

    scene: Scene
    manifest: Path
    keyed: KeyedStory
    scored: ScoredStory

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
        self.keyed.planted_skew()
        self.keyed.features_from_the_store()
        self.scored.drift_to_its_batch()
        self.clients_were_served()
        report = self.scene.report
        for endpoint in (PRODUCTION, STAGING, keyed.ENDPOINT):
            report.tenures[str(endpoint)] = [t.to_json() for t in tenures(self.scene.platform, endpoint)]
        return report

    # The steps, in the order of the story.

    def first_release(self) -> None:
        with self.scene.step("first release", "1.0.0 is current in production") as step:
            run = self.release(as_of="2013-04-01")
            self.scene.traffic.start()
            self.judge(step, run.state == "success" and self.version() == "1.0.0", run)
        if step.ok:
            self.scene.say(f"  1.0.0 is in production, {minutes(self.scene.progress.elapsed_s)} after the start")

    def retrain(self) -> None:
        with self.scene.step("retrain", "1.1.0 current after shadow and canary, 1.0.0 warm") as step:
            run = self.release(as_of="2013-07-01")
            state = self.state()
            warm = state.previous is not None and self.plane_state(state.previous.id) == "ready"
            self.judge(step, run.state == "success" and self.version() == "1.1.0" and warm, run, previous_warm=warm)

    def refused_offline(self) -> None:
        with self.scene.step("refused offline", "a gate stops the autumn challenger; 1.1.0 stays") as step:
            run = self.release(as_of="2013-11-01")
            failed = [r for r in self.scene.gate_results(DEVELOPMENT, "gate") if r["verdict"] == "fail"]
            explained = bool(failed) and failed[0]["threshold"] is not None and failed[0]["margin"] is not None
            self.judge(
                step,
                run.state == "failed" and explained and self.version() == "1.1.0",
                run,
                gate=failed[:1],
                explained=explained,
            )

    def rolled_back_in_canary(self) -> None:
        expected = "slow under live traffic: back to 1.1.0, on-call told"
        with self.scene.step("rolled back in canary", expected) as step:
            before = len(self.scene.alerts.received())
            cause = Cause("slow canary (500 ms)")

            def slow_down(_: dict[str, str]) -> None:
                rollout = self.state().rollout if cause.at is None else None
                if rollout is not None and rollout.phase == "canary":
                    self.scene.inject(PRODUCTION, cause, rollout.candidate.id, latency_ms=500)

            run = self.release(as_of="2013-08-01", meanwhile=slow_down)
            self.measure_rollback(cause)
            notified = self.scene.wait_for(lambda: len(self.scene.alerts.received()) > before)
            ok = run.state == "failed" and self.version() == "1.1.0" and notified and cause.at is not None
            self.judge(step, ok, run, on_call_notified=notified)

    def rolled_back_after_promotion(self) -> None:
        expected = "starts to fail when promoted, its control arm does not: reverted in its window"
        with self.scene.step("rolled back after 100 %", expected) as step:
            self.edit(lambda manifest: manifest["training"]["parameters"].update(max_iter=80))
            before = len(self.scene.alerts.received())
            cause = Cause("promoted release fails (all requests)", rescued=False)

            def fail(tasks: dict[str, str]) -> None:
                # Some time after the promotion: the worker has gone, and the trigger alone is watching.
                rollout = self.state().rollout if cause.at is None and tasks.get(WATCH) == "deferred" else None
                if rollout is not None and rollout.phase == "watching":
                    self.scene.inject(PRODUCTION, cause, rollout.candidate.id, error_rate=1.0)

            run = self.release(as_of="2013-08-01", meanwhile=fail)
            decided = self.measure_rollback(cause)
            notified = self.scene.wait_for(lambda: len(self.scene.alerts.received()) > before)
            by = decided.origin.kind if decided else "nobody"
            beside = self.control_arm(cause, decided)
            ok = run.state == "failed" and self.version() == "1.1.0" and notified and by == "trigger"
            healthy = beside["sent"] > 0 and beside["failed"] == 0
            self.judge(step, ok and healthy, run, on_call_notified=notified, reverted_by=by, control_arm=beside)

    def refused_data(self) -> None:
        with self.scene.step("refused data", "data-quality checks stop it before training") as step:
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
        with self.scene.step("runtime bump, rejected", "review opens; rejected, nothing changes") as step:
            self.edit(bump_runtime)
            before = self.state().current
            run = self.release(approve=False)
            reviewed = self.last_review()
            ok = run.state == "failed" and self.state().current == before
            self.judge(step, ok and reviewed is not None and not reviewed.approved, run)

    def runtime_bump_approved(self) -> None:
        expected = "the same model on runtime 1.1.0, after shadow and canary"
        outage = Outage(self.scene, PRODUCTION, task=WATCH)
        with self.scene.step("runtime bump, approved", expected) as step:
            run = self.release(meanwhile=outage.play)
            current = self.state().current
            ok = current is not None and (current.model.version, current.runtime.version) == ("1.1.0", "1.1.0")
            kept = self.scene.platform.ledger.records(PRODUCTION, types=("stage-ended",))
            stages = {record.event.stage for record in kept if isinstance(record.event, StageEnded)}
            self.judge(step, ok and run.state == "success" and {"shadow", "canary"} <= stages, run)
        outage.judge(run)

    def one_call(self) -> None:
        with self.scene.step("one call, terminal", "mlpipex rollback: runtime 1.0.0 serves again") as step:
            bad, cause = self.state().current, Cause("manual rollback by CLI")
            assert bad is not None
            cause.strike(bad.id)
            called = subprocess.run(
                [sys.executable, "-m", "airflow_provider_mlpipex", "rollback", str(PRODUCTION), "--cause", "drill"],
                env=self.scene.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=SLOWEST_VERB_S,
            )
            self.measure_rollback(cause)
            current = self.state().current
            ok = called.returncode == 0 and current is not None and current.runtime.version == "1.0.0"
            self.judge(step, ok, None, said=(called.stdout or called.stderr).strip())
        expected = "POST …/rollback on staging: its previous release serves"
        with self.scene.step("one call, HTTP", expected) as step:
            previous = self.scene.state(STAGING).previous
            asked = {"cause": "drill", "user": "demo"}
            answer = self.scene.rollbacks.post(f"/v1/endpoints/{STAGING}/rollback", json=asked)
            after = self.scene.state(STAGING).current
            ok = answer.status_code == 200 and after is not None and after == previous
            self.judge(step, ok, None, answered=answer.status_code)

    def clients_were_served(self) -> None:
        """Judged at the end, over the whole story."""
        expected = "no client request fails, but those answered by releases that were broken while all depended on them"
        with self.scene.step("clients", expected) as step:
            traffic = self.scene.traffic
            totals = traffic.totals()
            broken = [cause for cause in self.scene.causes if not cause.rescued]
            stray = [f.sent for f in traffic.failures() if not any(cause.covers(f) for cause in broken)]
            self.scene.report.requests = {**totals, "failed_outside_faults": len(stray)}
            step.ok = totals["sent"] > 0 and not stray
            step.observed = (
                f"{totals['sent']} sent, {totals['failed']} failed, {len(stray)} of them outside the injected faults; "
                f"{totals['held_back']} not sent, as too many waited"
            )
            step.facts = {**totals, "stray": stray[:20]}

    # How the story acts and looks, where it is about this manifest and its endpoint in production.

    def release(
        self,
        *,
        as_of: str | None = None,
        approve: bool = True,
        meanwhile: Callable[[dict[str, str]], None] = lambda _tasks: None,
    ) -> Run:
        conf = {"as_of": as_of} if as_of else {}
        return self.scene.follow(DAG_ID, conf=conf, approve=approve, meanwhile=meanwhile)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        self.scene.edit(self.manifest, DAG_ID, change)

    def state(self) -> EndpointState:
        return self.scene.state(PRODUCTION)

    def version(self) -> str:
        current = self.state().current
        return current.model.version if current else "nothing"

    def plane_state(self, release_id: str) -> str:
        status = self.scene.platform.plane.observe(PRODUCTION).releases.get(release_id)
        return status.state if status else "unknown"

    def last_review(self) -> ReviewDecided | None:
        reviews = (e.event for e in reversed(self.scene.entries(PRODUCTION)) if isinstance(e.event, ReviewDecided))
        return next(reviews, None)

    def judge(self, step: Step, ok: bool, run: Run | None, **facts: Any) -> None:
        step.ok = ok
        step.observed = f"production serves {self.state().serving_now}" + (f"; Dag run {run.state}" if run else "")
        step.facts = {**facts, **({"run_id": run.run_id} if run else {})}

    def measure_rollback(self, cause: Cause) -> Entry | None:
        """Put the rollback that followed ``cause`` into the report; return its decision, ``None`` if there was none."""
        if cause.at is None:
            return None
        since = self.scene.entries(PRODUCTION, since=cause.at)
        decided = next((entry for entry in since if isinstance(entry.event, RollbackDecided)), None)
        if decided is None or not isinstance(decided.event, RollbackDecided):
            return None
        decision, traffic = decided.recorded_at.timestamp(), self.scene.traffic
        last_bad = max((traffic.last_served_by(release) or 0.0 for release in cause.releases), default=0.0)
        cause.reverted = max(decision, last_bad)
        self.scene.causes.append(cause)
        self.scene.report.rollbacks.append(
            Rollback(
                cause=cause.name,
                endpoint=str(PRODUCTION),
                from_release=decided.event.from_release,
                to_release=decided.event.to_release,
                detected_ms=round((decision - cause.at) * 1000, 1),
                reverted_ms=round(max(0.0, last_bad - decision) * 1000, 1),
                failed_requests=traffic.failed_since(cause.at),
            )
        )
        return decided

    def control_arm(self, cause: Cause, decided: Entry | None) -> dict[str, int]:
        """How the previous release answered its share while the promoted one was failing."""
        if cause.at is None or decided is None or not isinstance(decided.event, RollbackDecided):
            return {"sent": 0, "failed": 0}
        until = decided.recorded_at.timestamp()
        return self.scene.traffic.answered_by(decided.event.to_release, since=cause.at, until=until)


def bump_runtime(manifest: dict[str, Any]) -> None:
    manifest["model"]["version"] = "1.1.0"
    manifest["runtime"] = {"version": "1.1.0", "lock": RUNTIME_LOCK}
