"""The rollout as a pure state machine.

Each verb is ``decide``: it looks at the state and answers with the events that follow, or raises. An empty list means
that the verb has been run before and there is nothing left to do, so every verb may be run twice. Nothing here does
I/O or reads a clock; ``fold.evolve`` is the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.errors import IllegalTransition, ManifestChanged, RolloutInProgress
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.drill import interrupt
from airflow_provider_mlpipex.domain.rollout.endpoint_hold import require_not_held_back
from airflow_provider_mlpipex.domain.rollout.events import (
    CanaryStepped,
    Event,
    GatesJudged,
    Promoted,
    ReviewDecided,
    ReviewOpened,
    RolloutOpened,
    RolloutPolicy,
    RolloutRejected,
    ShadowStarted,
    StageName,
    TaskGateJudged,
    TrafficPlanned,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.rollout.hold import require_not_held
from airflow_provider_mlpipex.domain.rollout.preconditions import (
    ended,
    has_traffic,
    is_promoted,
    own,
    require_gates,
    require_no_traffic,
    require_review,
    require_task_gates,
    require_verdict,
)
from airflow_provider_mlpipex.domain.rollout.promotion_doubt import require_no_doubt
from airflow_provider_mlpipex.domain.rollout.rollback import confirm_rollback, roll_back
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Phase, Rollout
from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    KEPT_ON_CURRENT,
    TOTAL_WEIGHT,
    Mirror,
    TrafficPlan,
)


def open_rollout(
    state: EndpointState, *, rollout_id: str, release: Release, policy: RolloutPolicy, manifest: dict[str, Any]
) -> list[Event]:
    """Take the endpoint for ``release``.

    :raises RolloutInProgress: another rollout holds it, or a rollback is under way.
    :raises RolloutEnded: this very rollout has ended already.
    :raises ManifestChanged: it was opened under another manifest.
    :raises PromotionInDoubt: late labels have reopened the promotion of this model here.
    :raises EndpointHeldBack: a person took it, or a later one of its lineage, back.
    :raises GateFailed: and :class:`GateUndecided`: a gate of the Dag's own stands against it.
    """
    if state.result_of(rollout_id):
        raise ended(state, rollout_id)
    mine = state.rollout if state.rollout and state.rollout.id == rollout_id else None
    require_task_gates(state, rollout_id, (mine.policy if mine else policy).declared_gates or ())
    if state.rollout and state.rollout.id == rollout_id:
        if state.rollout.candidate.digest != release.digest:
            raise IllegalTransition(
                f"rollout {rollout_id} of {state.endpoint}",
                value=release.id,
                limit=f"it was opened for {state.rollout.candidate.id}",
                remedy="start a new Dag run for another release",
            )
        if state.rollout.candidate.manifest_digest != release.manifest_digest:
            raise ManifestChanged(
                f"rollout {rollout_id} of {state.endpoint}",
                value=release.manifest_digest[:12],
                limit=f"it was opened under manifest {state.rollout.candidate.manifest_digest[:12]}",
                remedy="start a new Dag run; it will follow the new manifest from its first stage",
            )
        return []
    if state.rollout or state.rollback:
        holder = state.rollout.id if state.rollout else state.rollback.rollout_id if state.rollback else ""
        raise RolloutInProgress(
            f"endpoint {state.endpoint}",
            value=rollout_id,
            limit=f"rollout {holder} holds it",
            remedy=f"wait for it to end, or end it with: mlpipex rollback {state.endpoint} --rollout {holder}",
        )
    if is_current(state, release):
        return []
    require_no_doubt(state, release.model)
    require_not_held_back(state, release)
    return [RolloutOpened(rollout_id=rollout_id, release=release, policy=policy, manifest=manifest)]


def is_current(state: EndpointState, release: Release) -> bool:
    """Whether ``release`` is current under the very same manifest, so that a rollout would change nothing."""
    return (
        state.current is not None
        and state.current.digest == release.digest
        and state.current.manifest_digest == release.manifest_digest
    )


def needs_live_trial(state: EndpointState) -> bool:
    """Whether shadow and canary have something to compare: not for a first release nor for a change of policy."""
    rollout = state.rollout
    return bool(rollout and state.current and state.current.digest != rollout.candidate.digest)


def record_verdict(state: EndpointState, *, judged: GatesJudged, step: int) -> list[Event]:
    """Write down what the gates of a stage said.

    Nothing, if the rollout has moved on meanwhile: a verdict must not count for what it did not judge.

    :param step: the canary step that was judged, from 0; -1 before the canary.
    """
    rollout = state.rollout
    if rollout is None or rollout.id != judged.rollout_id or state.rollback is not None:
        return []
    if judged.stage != "gate" and (rollout.phase, rollout.step) != (_PHASE[judged.stage], step):
        return []
    return [judged]


#: The phase in which the gates of a live stage are judged.
_PHASE: dict[StageName, Phase] = {"shadow": "shadow", "canary": "canary", "watch": "watching"}


def judge_task_gate(
    state: EndpointState, *, rollout_id: str, gate: str, verdict: VerdictName, results: Sequence[GateResult]
) -> list[Event]:
    """Write down what a gate of the Dag's own says of a rollout, open or yet to open. A failure rejects one that waits;
    one whose candidate has traffic is for ``rollback.roll_back`` to undo."""
    judged = TaskGateJudged(rollout_id=rollout_id, gate=gate, verdict=verdict, results=tuple(results))
    rollout = state.rollout
    waits = rollout is not None and rollout.id == rollout_id and state.rollback is None and not has_traffic(state)
    if verdict != "fail" or not waits:
        return [judged]
    return [judged, RolloutRejected(rollout_id=rollout_id, cause=task_gate_cause(gate, results))]


def task_gate_cause(gate: str, results: Sequence[GateResult]) -> str:
    """Why a gate of the Dag's own ends a rollout, in words."""
    stopped = [f"{r.gate} {r.verdict}: {r.reason}" for r in results if r.verdict != "pass" and not r.advisory]
    return f"gate {gate} of the Dag failed: {'; '.join(stopped)}"


def open_review(state: EndpointState, *, rollout_id: str, changes: Sequence[Change]) -> list[Event]:
    """Ask for approval of ``changes``, where anybody demands one.

    Offline gates come first, so that nobody reviews what cannot pass.
    """
    rollout = own(state, rollout_id)
    require_gates(state, rollout)
    if not rollout.policy.review or rollout.approved is not None or rollout.phase != "opened":
        return []
    return [ReviewOpened(rollout_id=rollout_id, changes=tuple(changes))]


def decide_review(
    state: EndpointState, *, rollout_id: str, approved: bool, reviewer: str, note: str = "", automatic: str = ""
) -> list[Event]:
    """Record the answer; a rejection ends the rollout.

    :raises IllegalTransition: the review was answered otherwise before, or nobody may ask for it any more.
    """
    rollout = own(state, rollout_id)
    if rollout.approved is not None:
        if rollout.approved == approved:
            return []
        raise IllegalTransition(
            f"review of rollout {rollout_id}",
            value="approved" if approved else "rejected",
            limit="it has been answered otherwise",
            remedy="start a new rollout to decide anew",
        )
    require_no_traffic(state, "review")
    decided = ReviewDecided(rollout_id=rollout_id, approved=approved, reviewer=reviewer, note=note, automatic=automatic)
    if approved:
        return [decided]
    cause = f"review rejected by {reviewer}" + (f": {note}" if note else "")
    return [decided, RolloutRejected(rollout_id=rollout_id, cause=cause)]


def start_shadow(state: EndpointState, *, rollout_id: str) -> list[Event]:
    """Mirror live requests to the candidate."""
    rollout = own(state, rollout_id)
    require_gates(state, rollout)
    require_review(rollout)
    fraction = rollout.policy.shadow_fraction
    if fraction is None or not needs_live_trial(state) or rollout.phase in ("shadow", "canary", "watching"):
        return []
    require_not_held(state, rollout)
    plan = _plan(state, mirror=Mirror(release=rollout.candidate.id, fraction=fraction))
    return [ShadowStarted(rollout_id=rollout_id, fraction=fraction), TrafficPlanned(plan=plan, reason="shadow")]


def step_canary(state: EndpointState, *, rollout_id: str, step: int) -> list[Event]:
    """Move the candidate to the weight of ``step`` (from 0). Every step before it must have passed its gates.

    In a step of 100 % the current release keeps a little until the step is judged: the promotion gives it away.
    """
    rollout = own(state, rollout_id)
    require_gates(state, rollout)
    require_review(rollout)
    weights = rollout.policy.canary_weights
    if not 0 <= step < len(weights):
        raise IllegalTransition(
            f"canary of {state.endpoint}",
            value=f"step {step}",
            limit=f"the manifest it was opened under has {len(weights)} steps",
            remedy="parse the Dag again from the manifest",
        )
    if not needs_live_trial(state) or rollout.step >= step:
        return []
    require_not_held(state, rollout)
    if step == 0:
        if rollout.policy.shadow_fraction is not None:
            require_verdict(rollout, "shadow", step=-1)
    else:
        require_verdict(rollout, "canary", step=step - 1)
    weight = min(weights[step], TOTAL_WEIGHT - KEPT_ON_CURRENT)
    plan = _plan(state, candidate=rollout.candidate.id, weight=weight)
    return [
        CanaryStepped(rollout_id=rollout_id, step=step, weight=weight),
        TrafficPlanned(plan=plan, reason=f"canary step {step + 1} of {len(weights)}"),
    ]


def plan_promotion(state: EndpointState, *, rollout_id: str) -> list[Event]:
    """Intent to give the candidate all traffic, once everything the policy demands has passed.

    Where the policy asks for a control arm, the release that was current keeps its share while the promotion is
    watched. The plan has a lease then: a control arm is of no use to anybody but a watcher.

    :raises GateUndecided: a demanded stage has no passing verdict. No evidence, no promotion.
    """
    if is_promoted(state, rollout_id):
        return []
    rollout = own(state, rollout_id)
    require_gates(state, rollout)
    require_review(rollout)
    if rollout.phase == "watching":
        return []
    if needs_live_trial(state):
        if rollout.policy.shadow_fraction is not None:
            require_verdict(rollout, "shadow", step=-1)
        if rollout.policy.canary_weights:
            require_verdict(rollout, "canary", step=len(rollout.policy.canary_weights) - 1)
    if not rollout.policy.serve:
        return []
    require_not_held(state, rollout)
    policy = rollout.policy
    beside = state.current if why_unwatched(state, rollout) is None else None
    weight = policy.control_weight if beside else None
    plan = TrafficPlan(
        endpoint=state.endpoint,
        current=rollout.candidate.id,
        control=beside.id if beside and weight else None,
        control_weight=weight or 0,
        sticky_header=policy.sticky_header,
        lease_s=policy.lease_s if weight else None,
        timeout_s=policy.timeout_s,
        fallback=policy.fallback_to(
            state.current if needs_live_trial(state) else state.previous, beside=rollout.candidate
        ),
    )
    if state.confirmed and state.planned and state.planned.id == plan.id:
        return []
    return [TrafficPlanned(plan=plan, reason="promotion")]


def confirm_promotion(state: EndpointState, *, rollout_id: str, now: datetime) -> list[Event]:
    """The candidate has all traffic, confirmed: make it current and start its rollback window."""
    if is_promoted(state, rollout_id):
        return []
    rollout = own(state, rollout_id)
    if rollout.phase == "watching":
        return []
    watch_until = now + timedelta(seconds=rollout.policy.rollback_window_s)
    promoted = Promoted(rollout_id=rollout_id, watch_until=watch_until)
    unwatched = why_unwatched(state, rollout)
    if unwatched is None:
        return [promoted]
    return [promoted, WatchPassed(rollout_id=rollout_id, verdict="inconclusive", unwatched=unwatched)]


def why_unwatched(state: EndpointState, rollout: Rollout) -> str | None:
    """Why a promotion has nothing to watch for; ``None`` where another release was replaced that could return."""
    if not rollout.policy.serve:
        return "this environment serves nothing"
    if state.is_first:
        return "the first release here has none to return to"
    if not needs_live_trial(state):
        return "the same release goes on under another policy"
    if rollout.policy.rollback_window_s <= 0:
        return "its manifest has no rollback window"
    return None


def pass_watch(state: EndpointState, *, rollout_id: str, verdict: VerdictName) -> list[Event]:
    """End the rollback window.

    :raises IllegalTransition: a control arm still answers requests, or nobody knows whether it does.
    :raises RolloutOnHold: a person has stopped it.
    """
    if is_promoted(state, rollout_id):
        return []
    require_not_held(state, own(state, rollout_id))
    if not state.confirmed or (state.planned is not None and state.planned.control is not None):
        raise IllegalTransition(
            f"watch of rollout {rollout_id}",
            value="its end",
            limit="all traffic is on the current release, and that is confirmed",
            remedy="look again: the next look moves the traffic first",
        )
    return [WatchPassed(rollout_id=rollout_id, verdict=verdict)]


def reject(state: EndpointState, *, rollout_id: str, cause: str) -> list[Event]:
    """End a rollout whose candidate has not received traffic."""
    if state.result_of(rollout_id):
        return []
    own(state, rollout_id)
    require_no_traffic(state, "reject")
    return [RolloutRejected(rollout_id=rollout_id, cause=cause)]


def give_up(state: EndpointState, *, cause: str, detected_at: datetime) -> list[Event]:
    """The plane has refused the plan that was written last: end the rollout that wanted it.

    Where a current release is, that is a rollback. Where none is, the first release is rejected and nothing is planned.
    A drill is over.
    """
    if state.drill is not None and not state.confirmed and state.rollback is None:
        return interrupt(state, cause=cause)
    if state.confirmed or state.rollback is not None or not state.on_trial or state.rollout is None:
        return []
    if state.current is None:
        return [RolloutRejected(rollout_id=state.rollout.id, cause=cause)]
    return roll_back(state, cause=cause, detected_at=detected_at)


def conclude(state: EndpointState, *, now: datetime) -> list[Event]:
    """What follows once the plan that was written last is in force, whoever put it there: a decided rollback is done,
    and a candidate that was given all traffic is current."""
    if state.rollback is not None:
        return confirm_rollback(state)
    rollout, planned = state.rollout, state.planned
    if rollout is None or planned is None or not state.on_trial or planned.current != rollout.candidate.id:
        return []
    return confirm_promotion(state, rollout_id=rollout.id, now=now)


def _plan(
    state: EndpointState, *, candidate: str | None = None, weight: int = 0, mirror: Mirror | None = None
) -> TrafficPlan:
    assert state.rollout is not None and state.current is not None  # callers have checked
    policy = state.rollout.policy
    return TrafficPlan(
        endpoint=state.endpoint,
        current=state.current.id,
        candidate=candidate,
        candidate_weight=min(weight, TOTAL_WEIGHT),
        mirror=mirror,
        sticky_header=policy.sticky_header,
        lease_s=policy.lease_s,
        timeout_s=policy.timeout_s,
        fallback=policy.fallback_to(state.previous, beside=state.rollout.candidate),
    )
