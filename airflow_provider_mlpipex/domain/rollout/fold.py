"""The fold of a ledger into the state of its endpoint, one entry at a time. It does no I/O and reads no clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import reduce
from typing import Any

from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.domain.rollout.ending import Ending
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    AlertRetried,
    CanaryStepped,
    ControlGrown,
    EndpointHeld,
    EndpointRecovered,
    EndpointResumed,
    EndpointUnhealthy,
    Entry,
    GatesJudged,
    OutcomesJudged,
    Promoted,
    PromotionConfirmed,
    PromotionReopened,
    ReviewDecided,
    ReviewOpened,
    RollbackDecided,
    RollbackDrillBegan,
    RollbackDrillEnded,
    RolledBack,
    RolloutHeld,
    RolloutOpened,
    RolloutRejected,
    RolloutResumed,
    ShadowStarted,
    TaskGateJudged,
    TrafficConfirmed,
    TrafficPlanned,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.rollout.state import (
    Drill,
    DrillResult,
    EndpointState,
    HeldBack,
    Hold,
    Incident,
    OwedAlert,
    PromotionDoubt,
    RollbackIntent,
    Rollout,
    RolloutResult,
    UnannouncedEnding,
    verdict_key,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import EVEN_ARMS

#: Ended rollouts, and titles of alerts of the rollout in progress, that a state holds.
KEPT_RESULTS, KEPT_ALERTS = 32, 64
#: Versions of locked runtimes that a state knows the lock of: the ones that were released last.
KEPT_LOCKS = 200
#: Rollouts not in progress whose task gates a state holds. A verdict that is forgotten stops like one that is missing.
KEPT_UNOPENED = 50
#: Owed alerts that are kept; of more than these, the newest.
MAX_OWED_ALERTS = 10


def fold(endpoint: EndpointRef, entries: Iterable[Entry], start: EndpointState | None = None) -> EndpointState:
    """State after ``entries``."""
    return reduce(evolve, entries, start or EndpointState(endpoint=endpoint))


def evolve(state: EndpointState, entry: Entry) -> EndpointState:
    """State after one more entry. Total: every event leads somewhere, facts that change nothing only move ``seq``."""
    changes = _changes(state, entry)
    return state.model_copy(update={**changes, "seq": entry.seq})


def _changes(state: EndpointState, entry: Entry) -> dict[str, Any]:
    event, at, rollout = entry.event, entry.recorded_at, state.rollout
    match event:
        case RolloutOpened():
            opened = Rollout(
                id=event.rollout_id,
                candidate=event.release,
                policy=event.policy,
                manifest=event.manifest,
                opened_at=at,
                since=at,
            )
            return {"rollout": opened, "locks": _with_lock(state.locks, event.release.runtime)}
        case GatesJudged() if rollout and rollout.id == event.rollout_id:
            key = verdict_key(event.stage, rollout.step)
            judged: dict[str, Any] = {"verdicts": {**rollout.verdicts, key: event.verdict}}
            if event.stage == "gate":
                judged["undecided_for_review"] = bool(event.for_review)
            return _rollout(rollout, **judged, **_excused(rollout, event, at))
        case TaskGateJudged():
            return {"task_gates": _with_task_gate(state, event)}
        case ReviewOpened() if rollout:
            return _rollout(rollout, phase="review", since=at)
        case ReviewDecided() if rollout:
            return _rollout(rollout, approved=event.approved)
        case ShadowStarted() if rollout:
            return _rollout(rollout, phase="shadow", since=at)
        case CanaryStepped() if rollout:
            return _rollout(rollout, phase="canary", step=event.step, since=at, canary_since=rollout.canary_since or at)
        case ControlGrown() if rollout and rollout.id == event.rollout_id:
            return _rollout(rollout, broken_since=dict.fromkeys(event.gates, event.broken_since))
        case TrafficPlanned():
            # Whatever plan follows, the drill is over.
            drill = state.drill if state.drill and state.drill.plan_id == event.plan.id else None
            planned = {"planned": event.plan, "confirmed": False, "drill": drill}
            grown = event.plan.control_weight == EVEN_ARMS
            return planned if rollout is None or grown else {**planned, **_rollout(rollout, broken_since={})}
        case TrafficConfirmed() if state.planned and state.planned.id == event.plan_id:
            # A stage's clock starts when its traffic flows, not when it was planned.
            if rollout and rollout.phase in ("shadow", "canary"):
                canary_since = at if rollout.step == 0 else rollout.canary_since
                return {"confirmed": True, "confirmed_at": at, **_rollout(rollout, since=at, canary_since=canary_since)}
            return {"confirmed": True, "confirmed_at": at}
        case Promoted() if rollout:
            watching = _rollout(rollout, phase="watching", since=at, watch_until=event.watch_until)
            promoted = {
                "current": rollout.candidate,
                "current_manifest": rollout.manifest,
                "current_since": at,
                "current_gates": rollout.policy.declared_gates or (),
                **watching,
            }
            if state.current and state.current.digest == rollout.candidate.digest:
                return promoted  # a change of policy alone: what could be rolled back to before still can
            return {
                **promoted,
                **_NOTHING_KNOWN,
                "previous": state.current,
                "previous_manifest": state.current_manifest,
                "previous_gates": state.current_gates,
            }
        case WatchPassed():
            return _ended(state, event.rollout_id, "promoted", event.cause, at)
        case RollbackDrillBegan():
            return {"drill": Drill.model_validate({**event.model_dump(exclude={"type", "reason"}), "since": at})}
        case RollbackDrillEnded():
            return {"last_drill": DrillResult(at=at, ok=event.ok, to_release=event.to_release, detail=event.detail)}
        case RollbackDecided():
            intent = RollbackIntent.model_validate(event.model_dump(exclude={"type", "detected_at"}))
            return {"rollback": intent}
        case RolledBack():
            cause = state.rollback.cause if state.rollback else ""
            ended = _ended(state, event.rollout_id, "rolled-back", cause, at)
            if state.current and state.current.id == event.from_release:
                restored = {
                    "current": state.previous,
                    "current_manifest": state.previous_manifest,
                    "current_since": at,
                    "previous": None,
                    "previous_manifest": None,
                    "current_gates": state.previous_gates,
                    "previous_gates": (),
                    **_NOTHING_KNOWN,
                }
                return {**ended, **restored}
            return ended
        case RolloutRejected():
            rejected = _ended(state, event.rollout_id, "rejected", event.cause, at)
            # A first release that the plane refused: nothing serves, and nothing is meant to.
            return rejected if state.confirmed else {**rejected, "planned": None, "confirmed": True}
        case RolloutHeld() if rollout and rollout.id == event.rollout_id:
            return _rollout(rollout, hold=Hold(cause=event.cause, by=event.by, since=at))
        case RolloutResumed() if rollout and rollout.id == event.rollout_id:
            accepted = {verdict_key(rollout.phase, rollout.step): "pass"} if event.accepted else {}
            return _rollout(rollout, hold=None, resumed_at=at, verdicts={**rollout.verdicts, **accepted})
        case EndpointHeld():
            held_back = HeldBack.model_validate({**event.model_dump(exclude={"type"}), "since": at})
            return {"held_back": held_back}
        case EndpointResumed():
            return {"held_back": None}
        case AlertRaised():
            return {**_notified(state, event.title), **_owed(state, event, entry)}
        case AlertRetried():
            return _retried(state, event, at)
        case OutcomesJudged() if state.current and state.current.id == event.release:
            return {"outcomes_judged": event}
        case PromotionReopened() if state.current and state.current.id == event.release:
            # What has failed and was not accepted is in doubt still, whatever the labels that came since say.
            gates = tuple(dict.fromkeys([*(state.doubt.gates if state.doubt else ()), *event.gates]))
            return {"doubt": PromotionDoubt(release=event.release, cause=event.cause, gates=gates, since=at)}
        case PromotionConfirmed() if state.doubt and state.doubt.release == event.release:
            return {
                "doubt": None,
                "confirmed_gates": tuple(dict.fromkeys([*state.confirmed_gates, *state.doubt.gates])),
            }
        case EndpointUnhealthy() if state.current and state.current.id == event.release:
            return {"incident": _incident(state.incident, event, at)}
        case EndpointRecovered() if state.incident and state.incident.release == event.release:
            return {"incident": None}
        case _:
            return {}


def _incident(known: Incident | None, event: EndpointUnhealthy, at: datetime) -> Incident:
    return Incident(
        release=event.release,
        verdict=event.verdict,
        gates=event.gates,
        cause=event.cause,
        since=known.since if known else at,
        claimed_at=at,
    )


#: What labels and watchers have said, and what a person has said to it, is of one release as *current*.
_NOTHING_KNOWN: dict[str, Any] = {"outcomes_judged": None, "doubt": None, "confirmed_gates": (), "incident": None}


def _with_lock(locks: dict[str, str], runtime: RuntimeEnvironment) -> dict[str, str]:
    if runtime.kind != "lock":
        return locks
    others = {version: digest for version, digest in locks.items() if version != runtime.version}
    return dict([*others.items(), (runtime.version, runtime.digest)][-KEPT_LOCKS:])


def _owed(state: EndpointState, event: AlertRaised, entry: Entry) -> dict[str, Any]:
    ending = state.unannounced and state.results.get(state.unannounced.rollout_id)
    announced = ending and event.title == ending.title(state.endpoint)
    changes: dict[str, Any] = {"unannounced": None} if announced else {}
    if event.notified or event.channel is None:
        return changes
    owed = OwedAlert(
        seq=entry.seq,
        raised_at=entry.recorded_at,
        tried_at=entry.recorded_at,
        channel=event.channel,
        title=event.title,
        body=event.body or "",
        severity=event.severity or "warning",
        facts=event.facts or {},
    )
    return {**changes, "owed_alerts": (*state.owed_alerts, owed)[-MAX_OWED_ALERTS:]}


def _retried(state: EndpointState, event: AlertRetried, at: datetime) -> dict[str, Any]:
    owed = [
        alert.model_copy(update={"tries": alert.tries + 1, "tried_at": at}) if alert.seq == event.alert else alert
        for alert in state.owed_alerts
        if alert.seq != event.alert or not event.notified
    ]
    return {"owed_alerts": tuple(owed)}


def _notified(state: EndpointState, title: str) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if state.doubt and title == PromotionDoubt.title(state.endpoint):
        changes["doubt"] = state.doubt.model_copy(update={"notified": True})
    if state.incident and title == Incident.title(state.endpoint):
        changes["incident"] = state.incident.model_copy(update={"notified": True})
    if state.rollout:
        others = [known for known in state.rollout.alerts if known != title]
        changes |= _rollout(state.rollout, alerts=tuple([*others, title][-KEPT_ALERTS:]))
    return changes


def _excused(rollout: Rollout, event: GatesJudged, at: datetime) -> dict[str, Any]:
    excused = [result.gate for result in event.results if result.excused] if event.stage == "watch" else []
    if not excused:
        return {}
    left = {gate: since for gate, since in rollout.broken_since.items() if gate not in excused}
    return {"broken_since": left, "excused_at": {**rollout.excused_at, **dict.fromkeys(excused, at)}}


def _rollout(rollout: Rollout, **changes: Any) -> dict[str, Any]:
    return {"rollout": rollout.model_copy(update=changes)}


def _ended(state: EndpointState, rollout_id: str, ending: Ending, cause: str, at: datetime) -> dict[str, Any]:
    outcome = RolloutResult(rollout_id=rollout_id, ending=ending, cause=cause, at=at)
    # A promoted rollout that is rolled back later ends once more, and last.
    others = {known: ended for known, ended in state.results.items() if known != rollout_id}
    gates = {known: verdicts for known, verdicts in state.task_gates.items() if known != rollout_id}
    results = _latest({**others, rollout_id: outcome})
    own = state.rollout is not None and state.rollout.id == rollout_id
    manifest = (state.rollout.manifest if state.rollout and own else state.current_manifest) or {}
    environment = manifest.get("environments", {}).get(state.endpoint.environment, {})
    return {
        "rollout": None,
        "rollback": None,
        "results": results,
        "task_gates": gates,
        "unannounced": UnannouncedEnding(rollout_id=rollout_id, alerts=environment.get("alerts") or {}, since=at),
    }


def _latest(results: dict[str, RolloutResult]) -> dict[str, RolloutResult]:
    """The :data:`KEPT_RESULTS` that ended last, and of the older ones the last promoted: it can still be undone."""
    promoted = [known for known, result in results.items() if result.ending == "promoted"]
    kept = {*list(results)[-KEPT_RESULTS:], *promoted[-1:]}
    return {known: result for known, result in results.items() if known in kept}


def _with_task_gate(state: EndpointState, event: TaskGateJudged) -> dict[str, dict[str, VerdictName]]:
    judged = {**state.task_gates.get(event.rollout_id, {}), event.gate: event.verdict}
    in_progress = state.rollout.id if state.rollout else None
    others = [known for known in state.task_gates if known not in (event.rollout_id, in_progress)]
    forgotten = set(others[: -(KEPT_UNOPENED - 1)])
    kept = {known: gates for known, gates in state.task_gates.items() if known not in {event.rollout_id, *forgotten}}
    return {**kept, event.rollout_id: judged}
