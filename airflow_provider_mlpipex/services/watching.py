"""Looking at a live trial or at a fresh promotion, and acting on what is seen.

One look is one call: it renews the lease of the plan, judges the gates, and rolls back by itself on a failed gate.
Sensors look once before they defer, triggers look in a loop on the triggerer, a terminal may look too: the revert
needs no worker and no scheduler.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from airflow_provider_mlpipex.domain import gates
from airflow_provider_mlpipex.domain import rollout as machine
from airflow_provider_mlpipex.domain.endpoint_state import EndpointState, Rollout, verdict_key
from airflow_provider_mlpipex.domain.errors import IllegalTransition, PlanRefused
from airflow_provider_mlpipex.domain.events import GateResult, GatesJudged, VerdictName
from airflow_provider_mlpipex.domain.evidence import Evidence, Source
from airflow_provider_mlpipex.domain.gates import Gate
from airflow_provider_mlpipex.domain.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import alerts, journal, traffic
from airflow_provider_mlpipex.services.live_evidence import measure
from airflow_provider_mlpipex.services.opening import explain
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollback import roll_back
from airflow_provider_mlpipex.services.trial import already_there

WatchedStage = Literal["shadow", "canary", "watch"]
_SOURCE: dict[WatchedStage, Source] = {"shadow": "shadow", "canary": "canary", "watch": "serving"}
#: A trial that is still undecided after this many times its planned duration has failed to make its case.
PATIENCE = 3.0


class Look(Value):
    """What one look found.

    ``watching``: look again. ``passed``: the stage is over, go on. ``ended``: the rollout is over and was not
    promoted (``cause`` says why).
    """

    status: Literal["watching", "passed", "ended"]
    verdict: VerdictName = "inconclusive"
    results: tuple[GateResult, ...] = ()
    cause: str = ""


def look(platform: Platform, *, endpoint: EndpointRef, rollout_id: str, stage: WatchedStage, step: int = -1) -> Look:
    """Judge ``stage`` of a rollout by what was measured up to now.

    :param step: the canary step (from 0) that the caller believes is in force; ignored for other stages.
    """
    state = traffic.converge(platform, endpoint)
    outcome = state.outcomes.get(rollout_id)
    if outcome and outcome.ending != "promoted":
        return Look(status="ended", verdict="fail", cause=outcome.cause)
    if outcome or already_there(state, rollout_id):
        return Look(status="passed", verdict="pass")
    rollout = _rollout_in(state, rollout_id)
    if not _concerns(state, rollout, stage) or rollout.verdicts.get(verdict_key(stage, step)) == "pass":
        return Look(status="passed", verdict="pass")
    _renew(platform, state)
    results = judge_stage(platform, state, rollout, stage)
    return _act(platform, state, rollout, stage, results)


def _rollout_in(state: EndpointState, rollout_id: str) -> Rollout:
    if state.rollout is None or state.rollout.id != rollout_id:
        raise IllegalTransition(
            f"endpoint {state.endpoint}",
            value=rollout_id,
            limit=f"rollout in progress: {state.rollout.id if state.rollout else 'none'}",
            remedy="run the stages before this one first",
        )
    return state.rollout


def _concerns(state: EndpointState, rollout: Rollout, stage: WatchedStage) -> bool:
    """Whether there is anything to watch: a first release has no shadow, a watched promotion is past its canary."""
    if stage == "watch":
        return rollout.phase == "watching"
    demanded = rollout.policy.shadow_fraction is not None if stage == "shadow" else bool(rollout.policy.canary_weights)
    return demanded and rollout.phase != "watching" and machine.needs_live_trial(state)


def _renew(platform: Platform, state: EndpointState) -> None:
    if state.planned is None or state.planned.lease_s is None:
        return
    try:
        platform.plane.renew(state.endpoint, state.planned.id)
    except PlanRefused:
        # The lease ran out between converge and here; the next look finds that and records the rollback.
        return


def judge_stage(
    platform: Platform, state: EndpointState, rollout: Rollout, stage: WatchedStage
) -> tuple[GateResult, ...]:
    """The gates of ``stage`` on live evidence, each over its own window."""
    now = platform.clock.now()
    environment = _environment(state, rollout)
    judged, beside = rollout.candidate.id, state.current.id if state.current else None
    if stage == "watch":
        beside = state.previous.id if state.previous else None
    measured: dict[datetime, dict[str, Evidence]] = {}
    results = []
    for gate in stage_gates(environment, stage):
        since = _window_start(rollout, stage, gate, now)
        if since not in measured:
            measured[since] = measure(
                platform,
                state.endpoint,
                source=_SOURCE[stage],
                judged=judged,
                beside=beside,
                since=since,
                until=now,
            )
        results.append(gates.judge(gate, measured[since].get(gate.metric), now=now, first_release=False))
    return tuple(results)


def _environment(state: EndpointState, rollout: Rollout) -> EnvironmentSpec:
    return Manifest.model_validate(rollout.manifest).environments[state.endpoint.environment]


def stage_gates(environment: EnvironmentSpec, stage: WatchedStage) -> tuple[Gate, ...]:
    """The gates that ``environment`` sets for ``stage``."""
    spec = {"shadow": environment.shadow, "canary": environment.canary, "watch": environment.rollback}[stage]
    return tuple(spec.gates) if spec else ()


def _window_start(rollout: Rollout, stage: WatchedStage, gate: Gate, now: datetime) -> datetime:
    """Trials are judged from their start; a watch slides, so that a late failure is not diluted by a good past.

    A canary gate whose window is longer than this step reaches back to the canary's first step.
    """
    if stage == "watch":
        return max(rollout.since, now - gate.window) if gate.window else rollout.since
    if gate.window and rollout.canary_since and gate.window > now - rollout.since:
        return rollout.canary_since
    return rollout.since


def _act(
    platform: Platform,
    state: EndpointState,
    rollout: Rollout,
    stage: WatchedStage,
    results: tuple[GateResult, ...],
) -> Look:
    now = platform.clock.now()
    verdict = gates.overall(_due(state, rollout, stage, results, now))
    if verdict == "fail":
        return _revert(platform, state, rollout, stage, results, explain(results))
    ends = rollout.watch_until if stage == "watch" else rollout.since + stage_duration(state, rollout, stage)
    assert ends is not None
    if stage == "watch":
        if now < ends:
            return Look(status="watching", verdict=verdict, results=results)
        before = state
        after = journal.decide(
            platform,
            state.endpoint,
            lambda s: [
                _judged(rollout, stage, verdict, results),
                *machine.pass_watch(s, rollout_id=rollout.id, verdict=verdict),
            ],
        )
        alerts.tell_endings(platform, before, after)
        return Look(status="passed", verdict=verdict, results=results)
    if now >= ends and verdict == "pass":
        journal.note(platform, state.endpoint, _judged(rollout, stage, verdict, results))
        return Look(status="passed", verdict=verdict, results=results)
    if now >= rollout.since + PATIENCE * (ends - rollout.since):
        cause = f"{stage} still {verdict} after {PATIENCE:g} times its duration: {explain(results)}"
        return _revert(platform, state, rollout, stage, results, cause)
    return Look(status="watching", verdict=verdict, results=results)


def stage_duration(state: EndpointState, rollout: Rollout, stage: WatchedStage) -> timedelta:
    """How long the manifest wants this step to bake before it may pass."""
    environment = _environment(state, rollout)
    if stage == "shadow" and environment.shadow:
        return environment.shadow.duration
    if stage == "canary" and environment.canary:
        return environment.canary.step_duration
    return timedelta(0)


def _due(
    state: EndpointState, rollout: Rollout, stage: WatchedStage, results: tuple[GateResult, ...], now: datetime
) -> tuple[GateResult, ...]:
    """Results that count now. A gate over the whole canary can fail at any step but need only pass at the last:
    until then its window cannot be covered."""
    if stage != "canary" or rollout.step + 1 >= len(rollout.policy.canary_weights):
        return results
    windows = {gate.name: gate.window for gate in stage_gates(_environment(state, rollout), stage)}
    elapsed = now - (rollout.canary_since or rollout.since)
    return tuple(r for r in results if r.verdict != "inconclusive" or elapsed >= (windows.get(r.gate) or timedelta(0)))


def _judged(
    rollout: Rollout, stage: WatchedStage, verdict: VerdictName, results: tuple[GateResult, ...]
) -> GatesJudged:
    return GatesJudged(rollout_id=rollout.id, stage=stage, verdict=verdict, results=results)


def _revert(
    platform: Platform,
    state: EndpointState,
    rollout: Rollout,
    stage: WatchedStage,
    results: tuple[GateResult, ...],
    cause: str,
) -> Look:
    # Traffic first: the evidence is written down when users are safe again.
    detected = platform.clock.now()
    roll_back(platform, state.endpoint, cause=cause, detected_at=detected, rollout_id=rollout.id)
    verdict = gates.overall(results)
    journal.note(platform, state.endpoint, _judged(rollout, stage, verdict, results))
    return Look(status="ended", verdict=verdict, results=results, cause=cause)


def check_health(platform: Platform, endpoint: EndpointRef) -> Look:
    """One look at whatever is current, with no rollout in mind: the scheduled watch.

    Inside a rollback window this is :func:`look`, revert included. Outside it a failed gate is reported and alerted,
    but the release stays: nobody promised that *previous* is the better answer to a world that has changed.
    """
    state = traffic.converge(platform, endpoint)
    if state.rollout and state.rollout.phase == "watching":
        return look(platform, endpoint=endpoint, rollout_id=state.rollout.id, stage="watch")
    if state.current is None or state.current_manifest is None or state.current_since is None:
        return Look(status="watching", cause="nothing has been released here")
    now = platform.clock.now()
    environment = Manifest.model_validate(state.current_manifest).environments[endpoint.environment]
    results = []
    for gate in stage_gates(environment, "watch"):
        window = gate.window or (environment.rollback.window if environment.rollback else timedelta(0))
        evidence = measure(
            platform,
            endpoint,
            source="serving",
            judged=state.current.id,
            beside=None,
            since=max(state.current_since, now - window),
            until=now,
        )
        results.append(gates.judge(gate, evidence.get(gate.metric), now=now, first_release=False))
    judged = tuple(results)
    verdict = gates.overall(judged)
    cause = explain(judged) if verdict in ("fail", "error") else ""
    if verdict == "fail":
        alerts.raise_alert(
            platform,
            endpoint,
            channel=alerts.DEFAULT_CHANNEL,
            title=f"{endpoint} unhealthy",
            body=cause,
            severity="critical",
            facts={"endpoint": str(endpoint), "serving now": state.current.id},
        )
    return Look(status="watching", verdict=verdict, results=judged, cause=cause)
