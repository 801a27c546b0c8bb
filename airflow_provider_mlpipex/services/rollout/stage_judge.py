"""How a live stage of a rollout is judged: which gates, over which windows, beside which release, and what they say as
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from airflow_provider_mlpipex.domain.gates import judging, patience
from airflow_provider_mlpipex.domain.gates.concurrent_baseline import compared_since, is_compared
from airflow_provider_mlpipex.domain.gates.evidence import Source
from airflow_provider_mlpipex.domain.gates.gate import LIVE_SOURCES, Gate, known_metric
from airflow_provider_mlpipex.domain.gates.patience import PATIENCE
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.gates.watch_windows import open_since
from airflow_provider_mlpipex.domain.manifest.drift_block import DriftSpec
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.planning.canary_schedule import step_durations
from airflow_provider_mlpipex.domain.planning.false_alarms import LiveStage, alpha_of, stage_gates
from airflow_provider_mlpipex.domain.planning.honest_release import patience_at
from airflow_provider_mlpipex.domain.planning.sampling import block_of, ignored, spans_canary
from airflow_provider_mlpipex.domain.rollout.control_arm import settling
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT
from airflow_provider_mlpipex.services.evidence.feature_parity import judge_trial
from airflow_provider_mlpipex.services.evidence.served_drift import judge_drift, last_window, not_due
from airflow_provider_mlpipex.services.evidence.served_quality import judge_predictions
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.gate_monitor import GateMonitor, GateWindows

_SOURCE: dict[LiveStage, Source] = {"shadow": "shadow", "canary": "canary", "watch": "serving"}


@dataclass(frozen=True)
class StageJudge:
    """Judges one stage of a rollout at one moment by what was measured up to then; decides nothing.

    :param state: of the endpoint, with ``rollout`` in progress.
    """

    platform: Platform
    state: EndpointState
    rollout: Rollout
    stage: LiveStage

    def look(self) -> tuple[GateResult, ...]:
        """The gates of the stage on live evidence, each over its own windows and at its own alpha."""
        gates = stage_gates(self.environment, self.stage)
        live = {gate: self._windows(gate) for gate in gates if gate.source in LIVE_SOURCES}
        return (*self.monitor.look(live), *(self._drift(gate) for gate in gates if gate.source == "drift"))

    def _drift(self, gate: Gate) -> GateResult:
        """A gate on drift, by its newest window that is over. What drifts for the control arm as well no rollback would
        mend: that is told to on-call, and not held against the release."""
        began, watch = self.rollout.since, self.duration
        length, now = min(gate.window or watch, watch), self.platform.clock.now()
        window = last_window(began, min(now, began + watch), window=length)
        if window is None:
            return not_due(self.platform, gate, ends=began + length)
        result = self._drift_of(self.rollout.candidate.id, gate, window)
        if result.verdict != "fail" or self._beside is None:
            return result
        control = self._drift_of(self._beside, gate, window)
        if control.verdict != "fail":
            return result
        excused = f"the previous release drifts as well: {control.reason}"
        return result.model_copy(
            update={"verdict": "inconclusive", "reason": f"{excused}; {result.reason}", "excused": excused}
        )

    def _drift_of(self, release: str, gate: Gate, window: tuple[datetime, datetime]) -> GateResult:
        return judge_drift(
            self.platform,
            self.state.endpoint,
            gate,
            release=release,
            since=window[0],
            until=window[1],
            demand=self.environment.drift or DriftSpec(),
            alpha=alpha_of(self.environment, self.stage, gate),
        )

    @cached_property
    def monitor(self) -> GateMonitor:
        shadow = self.environment.shadow if self.stage == "shadow" else None
        return GateMonitor(
            self.platform,
            self.state.endpoint,
            _SOURCE[self.stage],
            judged=self.rollout.candidate.id,
            beside=self._beside,
            now=self.platform.clock.now(),
            beside_share=self._beside_share,
            slices=shadow.slices if shadow else (),
        )

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.model_validate(self.rollout.manifest)

    @cached_property
    def environment(self) -> EnvironmentSpec:
        return self.manifest.environments[self.state.endpoint.environment]

    @property
    def duration(self) -> timedelta:
        """How long the manifest wants this stage to be watched before it may pass."""
        if self.stage == "watch":
            return (self.rollout.watch_until or self.rollout.since) - self.rollout.since
        if self.stage == "shadow":
            return self.environment.shadow.duration if self.environment.shadow else timedelta(0)
        steps = step_durations(self.environment, self.manifest.traffic.expected_rate)
        return steps[self.rollout.step] if self.rollout.step < len(steps) else timedelta(0)

    @cached_property
    def patience(self) -> float:
        """How many times its duration the stage may take: a trial of thin traffic longer than another one."""
        now = self.platform.clock.now()
        if self.stage == "watch" or now < self.rollout.since + PATIENCE * self.duration:
            return PATIENCE  # not over yet, however long it is
        return patience_at(self.environment, self.manifest.traffic.expected_rate)

    @property
    def _beside(self) -> str | None:
        """The release that answers other requests of the same minutes."""
        if self.stage == "watch":
            return self.state.planned.control if self.state.planned else None
        return self.state.current.id if self.state.current else None

    @property
    def control_share(self) -> float:
        planned = self.state.planned if self.stage == "watch" else None
        return planned.control_weight / TOTAL_WEIGHT if planned else 0.0

    @property
    def _beside_share(self) -> float:
        """Of the requests of both releases, that the other one gets."""
        planned = self.state.planned
        if self.stage == "watch" or planned is None:
            return self.control_share
        if self.stage == "shadow":
            return 1.0 / (1.0 + (planned.mirror.fraction if planned.mirror else 1.0))
        return 1.0 - planned.candidate_weight / TOTAL_WEIGHT

    def _windows(self, gate: Gate) -> GateWindows:
        """A trial is judged from its start; a watch in windows, so that a good past does not dilute a late failure.
        Nothing is compared across a change of the shares."""
        began, alpha = self.rollout.since, alpha_of(self.environment, self.stage, gate)
        settles = settling(self.state) if gate.quantile is not None else timedelta(0)
        if self.stage != "watch":
            away, now = max(ignored(gate, self._ignore_first), settles), self.platform.clock.now()
            since = self.rollout.canary_since if gate.name in self._spanning else None
            beside = bool(self._beside_share) and is_compared(gate)
            whole, step = (min(moment + away, max(now, moment)) for moment in (since or began, began))
            return GateWindows((whole,), alpha, (step,) if beside else (), block=block_of(self.duration))
        now, window, watch = self.platform.clock.now(), gate.window, self.duration
        shares_since = min(self.state.confirmed_at + settles, now) if self.state.confirmed_at else None
        compared = (
            compared_since(began, now, window=window, watch=watch, shares_since=shares_since)
            if self.control_share
            else ()
        )
        return GateWindows(
            open_since(began, now, window=window, watch=watch),
            alpha,
            compared,
            broken_since=self.rollout.broken_since.get(gate.name),
            excused_at=self.rollout.excused_at.get(gate.name),
            alone=self._alone if gate.name in self.rollout.broken_since else None,
        )

    @property
    def _ignore_first(self) -> timedelta | None:
        spec = self.environment.shadow if self.stage == "shadow" else self.environment.canary
        return spec.ignore_first if spec else None

    @property
    def _alone(self) -> tuple[datetime, datetime]:
        """The minutes before the candidate answered anybody, as many as the watch has."""
        until = self.rollout.canary_since or self.rollout.since
        return max(self.rollout.opened_at, until - self.duration), until

    @cached_property
    def _spanning(self) -> dict[str, Gate]:
        """The gates that are judged over the whole canary, by name."""
        canary = self.environment.canary if self.stage == "canary" else None
        return {gate.name: gate for gate in canary.gates if spans_canary(gate, canary)} if canary else {}

    def verdict(self, results: tuple[GateResult, ...]) -> VerdictName:
        """What the gates say as one, at this step.

        A gate over the whole canary can fail at any step but need only pass at the last: until then it cannot have
        seen enough, and does not hold up a step while what it has seen is good.
        """
        binding = [result for result in results if not result.advisory]
        if self.rollout.step + 1 < len(self.rollout.policy.canary_weights):
            due = [result for result in binding if not self._on_course(result)]
            return judging.verdict_of(due) if due or not binding else "pass"
        return judging.verdict_of(binding)

    def _on_course(self, result: GateResult) -> bool:
        gate = self._spanning.get(result.gate)
        if gate is None or result.verdict != "inconclusive" or not result.evidence.samples:
            return False
        grows_into_it = gate.min is not None and known_metric(gate.metric).only_grows
        return grows_into_it or (result.margin is not None and result.margin >= 0)

    def predictions(self) -> tuple[GateResult, ...]:
        """What the candidate has answered since this stage began, judged by the manifest's expectations."""
        return judge_predictions(
            self.platform,
            self.state.endpoint,
            self.manifest,
            release_id=self.rollout.candidate.id,
            since=self.rollout.since,
            until=self.platform.clock.now(),
        )

    def feature_parity(self) -> tuple[GateResult, ...]:
        """Features that the candidate has looked up since this stage began, beside the offline path. After promotion
        that comes too late: the gate has spoken before."""
        if self.stage == "watch":
            return ()
        return judge_trial(
            self.platform,
            self.manifest,
            endpoint=self.state.endpoint,
            release=self.rollout.candidate,
            since=self.rollout.since,
            until=self.platform.clock.now(),
        )

    def settled(self, results: tuple[GateResult, ...]) -> tuple[GateResult, ...]:
        """The last word of the gates, now that the trial has had all its time."""
        gates = {gate.name: gate for gate in stage_gates(self.environment, self.stage)}
        return tuple(patience.settle(gates[result.gate], result) for result in results)
