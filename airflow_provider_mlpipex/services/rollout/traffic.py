"""Moving traffic: intent into the ledger, effect on the plane, confirmation into the ledger. In this order, always.

Whoever comes after a crash calls :func:`converge` and finds in the ledger what was meant to happen. The ledger decides
who wins: a writer that put a plan in force which was no longer the newest one puts the newest one back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    LedgerConflict,
    LedgerRewritten,
    PlaneUnavailable,
    PlanRefused,
    ReleaseNotReady,
    RuntimeMismatch,
    SignatureMismatch,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.control_arm import end_control
from airflow_provider_mlpipex.domain.rollout.drill import interrupt
from airflow_provider_mlpipex.domain.rollout.events import Event, TrafficConfirmed, TrafficPlanned
from airflow_provider_mlpipex.domain.rollout.plane_observation import AppliedPlan
from airflow_provider_mlpipex.domain.rollout.rollback import roll_back
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import ledger_heads

Decision = Callable[[EndpointState], Sequence[Event]]

#: Seconds that a release which was warm a moment ago may take to come back before it is called not ready.
REVIVAL_TIMEOUT_S = 120.0
#: Answers of a plane that will not take a plan, however often it is asked.
_REFUSALS = (PlanRefused, ReleaseNotReady, ArtifactMismatch, RuntimeMismatch, SignatureMismatch)


def shift(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    intend: Decision,
    conclude: Decision | None = None,
    rollout_id: str | None = None,
) -> EndpointState:
    """Append what ``intend`` decides, put the plan in force, then append confirmation and ``conclude`` together.

    By default it concludes what the plan stands for: a rollback or a promotion. On-call is told of a rollout that ends
    by this. A plan that the plane refuses ends the trial that wanted it.

    :param rollout_id: the rollout that ``intend`` is about, as in ``journal.load``.
    :raises PlanRefused: and its siblings of ``ServingPlane.apply``; traffic is where it was.
    :raises LedgerConflict: somebody wrote another plan meanwhile; that one is in force.
    """
    intending = alerts.Deciding(intend)
    concluding = alerts.Deciding(conclude or (lambda now: decisions.conclude(now, now=platform.clock.now())))
    state = journal.decide(platform, endpoint, intending, rollout_id=rollout_id)
    if state.planned is not None and not state.confirmed:
        applied = _put_in_force(platform, state, state.planned)
        after = _confirm(platform, endpoint, applied, concluding, rollout_id=rollout_id)
        # Whoever was overtaken by another writer is disputed as well, and nothing is wrong with the ledger.
        if applied.ledger_disputed and ledger_heads.is_rewritten(platform, endpoint):
            _tell_disputed(platform, after)
    else:
        after = journal.decide(platform, endpoint, concluding, rollout_id=rollout_id)
    intending.tell(platform, state)
    concluding.tell(platform, after)
    ledger_heads.note(platform, endpoint)
    return after


def _tell_disputed(platform: Platform, state: EndpointState) -> None:
    """On-call hears that traffic was taken back on a ledger that cannot be believed."""
    manifest = state.rollout.manifest if state.rollout else state.current_manifest
    alerts.raise_alert(
        platform,
        state.endpoint,
        channel=alerts.channel_of(manifest, state.endpoint),
        title=f"{state.endpoint} the ledger was rewritten",
        body="Traffic was returned to a release that the serving plane itself knows as good. The ledger is not the one "
        "whose head the plane has noted: see mlpipex audit verify. Nothing goes forward until that is settled.",
        severity="critical",
        facts={"endpoint": str(state.endpoint), "serving now": state.planned.current if state.planned else "nothing"},
    )


def _put_in_force(platform: Platform, state: EndpointState, plan: TrafficPlan) -> AppliedPlan:
    try:
        return apply(platform, state, plan)
    except _REFUSALS as error:
        without = _without_control(platform, state.endpoint, plan, cause=str(error))
        if without is not None:
            return _put_in_force(platform, without, plan.only_current())
        _give_up(platform, state.endpoint, plan, cause=str(error))
        raise


def _without_control(
    platform: Platform, endpoint: EndpointRef, plan: TrafficPlan, *, cause: str
) -> EndpointState | None:
    """Plan the same without its control arm, which is no reason to withhold or undo a promotion; ``None`` if it has
    none, or somebody has planned otherwise."""
    if plan.control is None:
        return None
    state = journal.decide(
        platform,
        endpoint,
        lambda now: end_control(now, reason=f"no control arm: {cause}") if _plans(now, plan) else [],
    )
    return state if _plans(state, plan.only_current()) and not state.confirmed else None


def _give_up(platform: Platform, endpoint: EndpointRef, plan: TrafficPlan, *, cause: str) -> None:
    def intend(now: EndpointState) -> list[Event]:
        return decisions.give_up(now, cause=cause, detected_at=platform.clock.now()) if _plans(now, plan) else []

    if intend(journal.load(platform, endpoint)):
        shift(platform, endpoint, intend=intend)


def _plans(state: EndpointState, plan: TrafficPlan) -> bool:
    return state.planned is not None and state.planned.id == plan.id


def apply(platform: Platform, state: EndpointState, plan: TrafficPlan) -> AppliedPlan:
    """Put ``plan`` in force, reviving a release of it that has died meanwhile. Nothing is built for that: artifact
    and runtime are still in the plane's caches."""
    try:
        return _claimed(platform, plan)
    except PlanRefused:
        missing = [state.release(release_id) for release_id in plan.releases]
        for release in missing:
            if release is not None:
                platform.plane.ensure(state.endpoint, release, timeout_s=REVIVAL_TIMEOUT_S)
        return _claimed(platform, plan)


def _claimed(platform: Platform, plan: TrafficPlan) -> AppliedPlan:
    """Apply ``plan`` with what the ledger says of its own chain.

    :raises LedgerRewritten: the plane has noted another one, and the plan is no return to what it knows as good.
    """
    try:
        return platform.plane.apply(plan, claim=ledger_heads.claim(platform, plan.endpoint))
    except LedgerRewritten:
        # Somebody may have noted a later head between the two calls; whoever that was has moved the chain on.
        ledger_heads.check(platform, plan.endpoint)
        return platform.plane.apply(plan, claim=ledger_heads.claim(platform, plan.endpoint))


def _confirm(
    platform: Platform, endpoint: EndpointRef, applied: AppliedPlan, conclude: Decision, *, rollout_id: str | None
) -> EndpointState:
    outdated = False

    def decision(now: EndpointState) -> list[Event]:
        nonlocal outdated
        outdated = not _plans(now, applied.plan)
        if outdated:
            return []
        confirmed = TrafficConfirmed(plan_id=applied.plan.id, acknowledged_ms=applied.acknowledged_ms)
        return [*([] if now.confirmed else [confirmed]), *conclude(now)]

    state = journal.decide(platform, endpoint, decision, rollout_id=rollout_id)
    if outdated:
        newest = _restore_newest(platform, state, applied.plan)
        raise LedgerConflict(
            f"traffic of {endpoint}",
            value=applied.plan.id,
            limit=f"plan {newest} was written meanwhile, and is in force",
            remedy="run the task again; it goes on from the newer plan",
        )
    return state


def _restore_newest(platform: Platform, state: EndpointState, applied: TrafficPlan) -> str:
    """Undo having put an outdated plan in force after a newer one."""
    while state.planned is not None and state.planned.id != applied.id:
        applied = apply(platform, state, state.planned).plan
        state = journal.load(platform, state.endpoint)
    return applied.id


def converge(platform: Platform, endpoint: EndpointRef, *, rollout_id: str | None = None) -> EndpointState:
    """Finish what a killed writer left half done, and take note of what the plane did by itself.

    - A decided rollback is carried out; a planned shift is put in force, and a promotion by it concluded.
    - A planned trial that the plane refuses is rolled back.
    - A trial whose lease ran out was taken back by the plane: the rollout is rolled back in the ledger as well.
    - A drill that nobody ends is ended.
    - Any other plan in force than the confirmed one is put right.
    - An alert that reached nobody is sent again.

    :param rollout_id: the rollout that the caller goes on to ask about, as in ``journal.load``.
    :raises PlaneUnavailable: something is under way, and the plane does not answer.
    """
    state = journal.load(platform, endpoint, rollout_id=rollout_id)
    alerts.deliver_owed(platform, state)
    if state.rollback is not None or not state.confirmed:
        return _finish(platform, endpoint, rollout_id)
    if state.planned is None or _in_force(platform, state) == state.planned.id:
        return state
    planned = state.planned

    def intend(now: EndpointState) -> list[Event]:
        if not _plans(now, planned) or not now.confirmed or now.rollback is not None:
            return []  # somebody moved traffic between the two looks: what was seen is no longer news
        if now.drill is not None:
            return interrupt(now, cause="whoever drilled went silent, and the plane returned all traffic")
        if now.on_trial:
            cause = "the watcher went silent and the plane returned all traffic to the current release"
            return roll_back(now, cause=cause, detected_at=platform.clock.now())
        return [TrafficPlanned(plan=planned, reason="the plane did not serve the confirmed plan")]

    return shift(platform, endpoint, intend=intend, rollout_id=rollout_id)


def _finish(platform: Platform, endpoint: EndpointRef, rollout_id: str | None) -> EndpointState:
    try:
        return shift(platform, endpoint, intend=lambda _: [], rollout_id=rollout_id)
    except _REFUSALS:
        state = journal.load(platform, endpoint, rollout_id=rollout_id)
        if state.rollback is None and state.confirmed:
            return state  # given up: the ledger says so, and why
        raise


def _in_force(platform: Platform, state: EndpointState) -> str | None:
    """Id of the plan that the plane reports; where no trial is on and the plane is away, the confirmed one, because
    whoever needs the plane will hear of that by himself."""
    try:
        observation = platform.plane.observe(state.endpoint)
    except PlaneUnavailable:
        if state.on_trial or state.planned is None:
            raise
        return state.planned.id
    return observation.plan.id if observation.plan else None
