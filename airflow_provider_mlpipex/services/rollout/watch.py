"""Looking at a live trial or at a fresh promotion, and acting on what is seen.

One look is one call: it renews the lease of the plan, judges the gates, and rolls back by itself on a failed gate.
Sensors look once before they defer, triggers look in a loop on the triggerer, a terminal may look too: the revert
needs no worker and no scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

from airflow_provider_mlpipex.domain.errors import IllegalTransition, PlanRefused
from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.manifest.stage_blocks import WhenUndecided
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.false_alarms import LiveStage, stage_gates
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.control_arm import end_control
from airflow_provider_mlpipex.domain.rollout.ending import Ending
from airflow_provider_mlpipex.domain.rollout.events import Event, GatesJudged
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout, verdict_key
from airflow_provider_mlpipex.domain.shadow.report import report
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import control_arm, hold, traffic
from airflow_provider_mlpipex.services.rollout.opening import explain
from airflow_provider_mlpipex.services.rollout.rollback import roll_back
from airflow_provider_mlpipex.services.rollout.stage_judge import StageJudge
from airflow_provider_mlpipex.services.rollout.trial import already_there

WatchedStage = LiveStage


class WatchResult(Value):
    """What one look found.

    ``watching``: look again, as soon as ``look_again_s`` says, whatever the pace; ``cause`` says why, where the rollout
    is on hold. ``passed``: the stage is over, go on. ``ended``: the rollout is over and was not promoted (``ending``
    says how, ``cause`` why).
    """

    status: Literal["watching", "passed", "ended"]
    verdict: VerdictName = "inconclusive"
    results: tuple[GateResult, ...] = ()
    ending: Ending | None = None
    cause: str = ""
    look_again_s: float | None = None


def look(
    platform: Platform, *, endpoint: EndpointRef, rollout_id: str, stage: WatchedStage, step: int = -1
) -> WatchResult:
    """Judge ``stage`` of a rollout by what was measured up to now.

    :param step: the canary step (from 0) that the caller believes is in force; ignored for other stages.
    :raises IllegalTransition: the stage has not begun.
    :raises PlaneUnavailable: a trial is on, and the plane does not answer. Nobody renews its lease then.
    """
    state = traffic.converge(platform, endpoint, rollout_id=rollout_id)
    result = state.result_of(rollout_id)
    if result and result.ending != "promoted":
        return WatchResult(status="ended", verdict="fail", ending=result.ending, cause=result.cause)
    if result or already_there(state, rollout_id):
        return WatchResult(status="passed", verdict="pass")
    rollout = _rollout_in(state, rollout_id)
    if not _demanded(state, rollout, stage):
        return WatchResult(status="passed", verdict="pass")
    passed_before = stage != "watch" and rollout.verdicts.get(verdict_key(stage, step)) == "pass"
    if not passed_before:
        _require_begun(state, rollout, stage, step)
    behind = rollout.since - platform.clock.now()
    if behind > timedelta(0):
        # Nothing can be judged by such a clock, so the lease is not renewed either.
        why = f"the clock is {format_duration(behind)} behind the ledger"
        return WatchResult(status="watching", verdict="error", cause=why)
    if not _renewed(platform, state):
        return WatchResult(status="watching", cause="the lease ran out just now: the next look says what came of it")
    if passed_before:
        return WatchResult(status="passed", verdict="pass")
    watched = _Watched(platform, state, rollout, stage)
    return watched.act(watched.judge.look())


def _rollout_in(state: EndpointState, rollout_id: str) -> Rollout:
    if state.rollout is None or state.rollout.id != rollout_id:
        raise IllegalTransition(
            f"endpoint {state.endpoint}",
            value=rollout_id,
            limit=f"rollout in progress: {state.rollout.id if state.rollout else 'none'}",
            remedy="run the stages before this one first",
        )
    return state.rollout


def _demanded(state: EndpointState, rollout: Rollout, stage: WatchedStage) -> bool:
    """Whether there is anything to watch: a first release has no shadow, a watched promotion is past its canary."""
    if stage == "watch":
        return True
    demanded = rollout.policy.shadow_fraction is not None if stage == "shadow" else bool(rollout.policy.canary_weights)
    return demanded and rollout.phase != "watching" and decisions.needs_live_trial(state)


def _renewed(platform: Platform, state: EndpointState) -> bool:
    """Prolong the lease, where the plan has one; false if the plane has taken the plan back already."""
    if state.planned is None or state.planned.lease_s is None:
        return True
    try:
        platform.plane.renew(state.endpoint, state.planned.id)
    except PlanRefused:
        return False
    return True


def _require_begun(state: EndpointState, rollout: Rollout, stage: WatchedStage, step: int) -> None:
    phase = "watching" if stage == "watch" else stage
    if rollout.phase == phase and (stage != "canary" or rollout.step == step):
        return
    raise IllegalTransition(
        f"{stage} of rollout {rollout.id} on {state.endpoint}",
        value=f"step {step + 1}" if stage == "canary" else None,
        limit=f"the rollout is in {rollout.phase}"
        + (f", step {rollout.step + 1}" if rollout.phase == "canary" else ""),
        remedy="run the task that begins this stage first",
    )


@dataclass(frozen=True)
class _Watched:
    """A stage of a rollout at one moment, as :func:`look` found it."""

    platform: Platform
    state: EndpointState
    rollout: Rollout
    stage: WatchedStage

    @cached_property
    def judge(self) -> StageJudge:
        return StageJudge(self.platform, self.state, self.rollout, self.stage)

    def act(self, results: tuple[GateResult, ...]) -> WatchResult:
        """Revert, wait, or let the rollout go on."""
        now = self.platform.clock.now()
        self._tell_wrong_split(results)
        began, ends = self.rollout.since, self.rollout.since + self.judge.duration
        patient_until = max(began, self.rollout.resumed_at or began) + self.judge.patience * self.judge.duration
        verdict = self.judge.verdict(results)
        if now >= patient_until and self.stage != "watch":
            results = self.judge.settled(results)
            verdict = self.judge.verdict(results)
        due = now >= ends and self.rollout.hold is None
        if due and (verdict == "pass" or (self.stage == "watch" and verdict != "fail")):
            # Judging a table takes a while, so it is done once, before more users get what the release answers.
            results = (*results, *self.judge.predictions(), *self.judge.feature_parity())
            verdict = self.judge.verdict(results)
        if verdict == "fail":
            return self._tell_apart(results) or self._revert(results, explain(results))
        self._tell_excused([result for result in results if result.excused and not result.advisory], results)
        if self.rollout.hold is not None:
            hold.ask_on_call(self.platform, self.state)
            return self._wait(verdict, results)
        if self.stage == "watch":
            if not any(result.excused for result in results):
                control_arm.shrink(self.platform, self.state, self.rollout)
            # No evidence is no reason to take a promoted release away; evidence that cannot be read is worth a wait.
            over = now >= (patient_until if verdict == "error" else ends)
            return self._end_watch(verdict, results) if over else self._wait(verdict, results)
        if now >= ends and verdict == "pass":
            return self._pass(results)
        if now >= patient_until:
            cause = f"{self.stage} still {verdict} after {self.judge.patience:g} times its duration: {explain(results)}"
            # A watcher that measures takes a held release back when it fails; one that measures nothing cannot.
            asks = verdict != "error" and self._undecided == "hold"
            return self._hold(results, cause) if asks else self._revert(results, cause)
        return self._wait(verdict, results)

    def _wait(self, verdict: VerdictName, results: tuple[GateResult, ...]) -> WatchResult:
        held = self.rollout.hold
        return WatchResult(
            status="watching", verdict=verdict, results=results, cause=f"on hold: {held.cause}" if held else ""
        )

    @property
    def _undecided(self) -> WhenUndecided:
        spec = self.judge.environment.shadow if self.stage == "shadow" else self.judge.environment.canary
        return (spec.undecided if spec else None) or "hold"

    def _hold(self, results: tuple[GateResult, ...], cause: str) -> WatchResult:
        """Ask a person: nobody can tell whether the release is good."""
        judged, step = self._gates_event("inconclusive", results), self.rollout.step
        journal.decide(
            self.platform, self.state.endpoint, lambda now: decisions.record_verdict(now, judged=judged, step=step)
        )
        hold.hold(self.platform, endpoint=self.state.endpoint, rollout_id=self.rollout.id, cause=cause)
        return WatchResult(status="watching", results=results, cause=f"on hold: {cause}")

    def _pass(self, results: tuple[GateResult, ...]) -> WatchResult:
        judged, step = self._gates_event("pass", results), self.rollout.step
        after = journal.decide(
            self.platform,
            self.state.endpoint,
            lambda now: decisions.record_verdict(now, judged=judged, step=step),
            rollout_id=self.rollout.id,
        )
        passed = after.rollout and after.rollout.verdicts.get(verdict_key(self.stage, step)) == "pass"
        return WatchResult(status="passed" if passed else "watching", verdict="pass", results=results)

    def _end_watch(self, verdict: VerdictName, results: tuple[GateResult, ...]) -> WatchResult:
        judged, rollout_id = self._gates_event(verdict, results), self.rollout.id
        if self.judge.control_share:
            traffic.shift(self.platform, self.state.endpoint, intend=self._end_control)
        alerts.decide_and_tell(
            self.platform,
            self.state.endpoint,
            lambda now: [
                *decisions.record_verdict(now, judged=judged, step=self.rollout.step),
                *decisions.pass_watch(now, rollout_id=rollout_id, verdict=verdict),
            ],
            rollout_id=rollout_id,
        )
        if verdict == "error":
            self._tell_unmeasured(results)
        return WatchResult(status="passed", verdict=verdict, results=results)

    def _tell_apart(self, results: tuple[GateResult, ...]) -> WatchResult | None:
        """Wait for arms of equal size, where only they can tell a bad release from an outage, or a slow one from a busy
        one; ``None`` where the release goes back at once."""
        gates = stage_gates(self.judge.environment, self.stage)
        at_once = {gate.name for gate in gates if gate.on_fail == "revert"}
        broken = [result for result in results if result.verdict == "fail" and not result.advisory]
        stands = self.judge.monitor.standings
        # A trial that is undecided waits as it is, or fails by a count, which is exact.
        decided_by_equals = ("undecided", "uneven") if self.stage == "watch" else ("uneven",)
        if any(result.gate in at_once or stands.get(result.gate) not in decided_by_equals for result in broken):
            return None
        if self.stage == "watch":
            latencies = {gate.name for gate in gates if gate.quantile is not None}
            of_latency = all(result.gate in latencies for result in broken)
            again = control_arm.tells_within(self.platform, self.state, self.rollout, broken, of_latency=of_latency)
        else:
            again = control_arm.made_even(self.platform, self.state, self.rollout, broken)
        if again is None:
            return None
        return WatchResult(
            status="watching", results=results, cause=explain(results), look_again_s=again.total_seconds()
        )

    def _end_control(self, now: EndpointState) -> list[Event]:
        watched = now.rollout is not None and now.rollout.id == self.rollout.id
        return end_control(now, reason="the watch is over: no control arm any more") if watched else []

    def _tell_excused(self, excused: list[GateResult], results: tuple[GateResult, ...]) -> None:
        """Tell on-call, once for the same gates, of a limit that both releases break: no rollback would mend it. And
        write it down where the watch must remember it."""
        if not excused:
            return
        endpoint, names = self.state.endpoint, ", ".join(result.gate for result in excused)
        other = "previous" if self.stage == "watch" else "current"
        title = f"{endpoint}: {names} broken, and the {other} release is no better"
        known = title in self.rollout.alerts
        if not known:
            self._alert(title, "; ".join(f"{result.gate}: {result.reason}" for result in excused), severity="critical")
        if known and (self.stage != "watch" or all(self._remembers(result) for result in excused)):
            return
        judged, step = self._gates_event("inconclusive", results), self.rollout.step
        journal.decide(self.platform, endpoint, lambda now: decisions.record_verdict(now, judged=judged, step=step))

    def _tell_wrong_split(self, results: tuple[GateResult, ...]) -> None:
        """Tell on-call, once a stage, that requests do not come to the releases by the shares of the plan."""
        wrong, endpoint = self.judge.monitor.wrong_split, self.state.endpoint
        where = f"step {self.rollout.step + 1} of its canary" if self.stage == "canary" else f"its {self.stage}"
        title = f"{endpoint}: requests are not split as planned, in {where}"
        if wrong is None or title in self.rollout.alerts:
            return
        body = f"{wrong}; gates say nothing of the release until this is mended: {explain(results)}"
        self._alert(title, body, severity="critical")

    def _remembers(self, excused: GateResult) -> bool:
        """Whether the ledger has this excuse already, but for a few looks."""
        if self.judge.monitor.standings.get(excused.gate) == "excused-before":
            return True
        last = self.rollout.excused_at.get(excused.gate)
        if last is None or excused.gate in self.rollout.broken_since:
            return False
        window = next(
            (gate.window for gate in stage_gates(self.judge.environment, self.stage) if gate.name == excused.gate),
            None,
        )
        return window is None or self.platform.clock.now() - last < window / 4

    def _tell_unmeasured(self, results: tuple[GateResult, ...]) -> None:
        title = f"{self.state.endpoint} was promoted and could not be watched"
        self._alert(title, explain(results), severity="warning")

    def _alert(self, title: str, body: str, *, severity: str) -> None:
        endpoint = self.state.endpoint
        alerts.raise_alert(
            self.platform,
            endpoint,
            channel=alerts.channel_of(self.rollout.manifest, endpoint),
            title=title,
            body=body,
            severity=severity,
            facts={
                "endpoint": str(endpoint),
                "rollout": self.rollout.id,
                "serving now": self.state.serving_now,
            },
        )

    def _revert(self, results: tuple[GateResult, ...], cause: str) -> WatchResult:
        # Traffic first: the evidence is written down when users are safe again.
        detected = self.platform.clock.now()
        roll_back(self.platform, self.state.endpoint, cause=cause, detected_at=detected, rollout_id=self.rollout.id)
        verdict = self.judge.verdict(results)
        journal.note(self.platform, self.state.endpoint, self._gates_event(verdict, results))
        return WatchResult(status="ended", verdict=verdict, results=results, ending="rolled-back", cause=cause)

    def _gates_event(self, verdict: VerdictName, results: tuple[GateResult, ...]) -> GatesJudged:
        compared = self.judge.monitor.comparison
        facts = report(compared) if compared else None
        return GatesJudged(rollout_id=self.rollout.id, stage=self.stage, verdict=verdict, results=results, facts=facts)
