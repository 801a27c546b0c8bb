"""Rollback: one call, whoever makes it. Needs the ledger and the plane; no registry, scheduler, worker or build."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_provider_mlpipex.domain.errors import LedgerUnavailable, MlpipexError, RequestInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import rollback as rollback_decisions
from airflow_provider_mlpipex.domain.rollout.endpoint_hold import held_lineage
from airflow_provider_mlpipex.domain.rollout.events import (
    Entry,
    Origin,
    RollbackDecided,
    RolloutRejected,
    TrafficConfirmed,
)
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic
from airflow_provider_mlpipex.services.rollout.promote import retire_superseded


def roll_back(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    cause: str,
    detected_at: datetime | None = None,
    rollout_id: str | None = None,
    release_id: str | None = None,
    held_by: str | None = None,
) -> EndpointState:
    """Return all traffic of ``endpoint`` to its last good release and tell on-call.

    During a trial that is the current release, after promotion the previous one. A rollout that merely waits, without
    traffic, is rejected with it. Run twice, the second call finds nothing to do.

    :param cause: why, in words; goes into ledger and alert.
    :param detected_at: when the evidence was complete (UTC); now, if a person decides.
    :param rollout_id: undo only this rollout.
    :param release_id: take only this release away. With it a call may be made again however long after.
    :param held_by: who is asked before automation releases the same lineage here again; ``None``: nobody.
    :raises IllegalTransition: there is no release to return to.
    :raises PlaneUnavailable: and what else ``ServingPlane.apply`` raises; the decision stands in the ledger, the error
        and on-call say that it is not carried out yet, and whoever comes next carries it out.
    """
    detected = detected_at or platform.clock.now()
    try:
        return traffic.shift(
            platform,
            endpoint,
            intend=lambda now: rollback_decisions.roll_back(
                now,
                cause=cause,
                detected_at=detected,
                rollout_id=rollout_id,
                release_id=release_id,
                held_by=held_by,
            ),
            rollout_id=rollout_id,
        )
    except MlpipexError as error:
        _tell_undone(platform, endpoint, error)
        raise


class RollbackOffer(Value):
    """What a rollback would do now, for somebody who is about to decide.

    :param takes: the release that it takes away; ``None`` where there is nothing left to undo.
    :param returns_to: the release that has all traffic then; ``None`` where nobody's traffic changes.
    :param rejects: the rollout that waits, and ends with it.
    """

    endpoint: EndpointRef
    current: str | None
    current_since: datetime | None
    takes: str | None
    returns_to: str | None
    rejects: str | None

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same, for people."""
        since = f" since {self.current_since:%Y-%m-%d %H:%M} UTC" if self.current_since else ""
        said = [f"{self.endpoint} serves {self.current or 'no release'}{since}"]
        if self.takes is None:
            return (*said, "nothing is left to undo")
        if self.returns_to:
            said.append(f"all traffic returns to {self.returns_to}, and {self.takes} gets none")
        if self.rejects:
            said.append(f"rollout {self.rejects}, which has no traffic yet, is rejected")
        return tuple(said)


def offer(platform: Platform, endpoint: EndpointRef) -> RollbackOffer:
    """What :func:`roll_back` would do now; nothing is done.

    :raises IllegalTransition: there is no release to return to.
    """
    return offer_on(journal.load(platform, endpoint), now=platform.clock.now())


def offer_on(state: EndpointState, *, now: datetime) -> RollbackOffer:
    """The same of a state that has been read.

    :raises IllegalTransition: there is no release to return to.
    """
    events = rollback_decisions.roll_back(state, cause="", detected_at=now)
    decided = next((event for event in events if isinstance(event, RollbackDecided)), None)
    rejected = next((event for event in events if isinstance(event, RolloutRejected)), None)
    waiting = state.rollout.candidate.id if rejected and state.rollout else None
    return RollbackOffer(
        endpoint=state.endpoint,
        current=state.current.id if state.current else None,
        current_since=state.current_since,
        takes=decided.from_release if decided else waiting,
        returns_to=decided.to_release if decided else None,
        rejects=rejected.rollout_id if rejected else None,
    )


class RollbackReport(Value):
    """What a rollback that somebody asked for has done.

    :param ended: rollouts that ended by it, and how: ``rolled-back`` or ``rejected``.
    :param returned_from: the release that was current until now; ``None`` where the same one still is.
    :param notified: receivers of the alerts that were raised by it. :param not_notified: who was not, and why.
    :param held_back: what automation may not release here now, in words; ``None`` where it may release anything.
    :param plan: that is in force, as the plane has confirmed it; ``None`` where it has not, or nothing serves.
    :param acknowledged_ms: from the request to the plane until its confirmation; ``None`` where no traffic was moved.
    :param repeated: this very request had been carried out before.
    """

    endpoint: EndpointRef
    current: str | None
    previous: str | None
    ended: dict[str, str]
    returned_from: str | None
    seq: int
    notified: tuple[str, ...] = ()
    not_notified: tuple[str, ...] = ()
    held_back: str | None = None
    plan: TrafficPlan | None = None
    acknowledged_ms: float | None = None
    repeated: bool = False

    @property
    def sentence(self) -> str:
        """The same, for people."""
        did = [f"rollout {rollout_id} {ending.replace('-', ' ')}" for rollout_id, ending in self.ended.items()]
        instead = f" instead of {self.returned_from}" if self.returned_from else " as before"
        if not self.returned_from and "rejected" in self.ended.values() and self.previous is None:
            instead += ": there is no previous release to return to"
        done = "; ".join([*(did or ["nothing was left to undo"]), f"{self.endpoint} serves {self.current}{instead}"])
        kept = f"held back until mlpipex resume {self.endpoint}: {self.held_back}" if self.held_back else ""
        return "; ".join(part for part in (done, kept, self.who_was_notified) if part)

    @property
    def who_was_notified(self) -> str:
        return alerts.Notified(self.notified, self.not_notified).sentence

    @property
    def facts(self) -> dict[str, Any]:
        """What a task leaves behind, and an answer as JSON."""
        return {
            "current": self.current,
            "done": self.sentence,
            "notified": list(self.notified),
            "not_notified": list(self.not_notified),
        }


def answer_request(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    cause: str,
    rollout_id: str | None = None,
    release_id: str | None = None,
    hold: bool = True,
) -> RollbackReport:
    """:func:`roll_back` for a person or a task that asks for it, and what it did.

    :param hold: whether automation may not release the same lineage here again until somebody resumes.

    A task that is run again, and an HTTP request that is sent again, finds its own decision in the ledger and does not
    undo a second time.

    :raises RequestInvalid: the key of the request belongs to another one.
    """
    before = journal.load(platform, endpoint)
    since = before.seq
    if decided := _decided_before(platform, endpoint, cause=cause):
        after, since = traffic.converge(platform, endpoint), decided.seq
    else:
        after = roll_back(
            platform,
            endpoint,
            cause=cause,
            rollout_id=rollout_id,
            release_id=release_id,
            held_by=_asker(platform.origin) if hold else None,
        )
        alerts.deliver_owed(platform, before)
    return _report(platform, before, after, since=since, repeated=decided is not None)


def _report(
    platform: Platform, before: EndpointState, after: EndpointState, *, since: int, repeated: bool = False
) -> RollbackReport:
    """:param since: ledger entry behind which alerts and confirmations belong to it."""
    endpoint = after.endpoint
    reached = alerts.notified_since(platform, endpoint, since)
    current, was = (state.current.id if state.current else None for state in (after, before))
    return RollbackReport(
        endpoint=endpoint,
        current=current,
        previous=after.previous.id if after.previous else None,
        ended={
            known: outcome.ending for known, outcome in after.results.items() if before.results.get(known) != outcome
        },
        returned_from=was if was != current else None,
        seq=after.seq,
        notified=reached.notified,
        not_notified=reached.failures,
        held_back=held_lineage(after.held_back) if after.held_back else None,
        plan=after.planned if after.confirmed else None,
        acknowledged_ms=_acknowledged_ms(platform, endpoint, since),
        repeated=repeated,
    )


def _acknowledged_ms(platform: Platform, endpoint: EndpointRef, since: int) -> float | None:
    types = ("traffic-confirmed",)
    for entry in platform.ledger.read(endpoint, after_seq=since, types=types, newest_first=True, limit=1):
        if isinstance(entry.event, TrafficConfirmed):
            return entry.event.acknowledged_ms
    return None


def _asker(origin: Origin) -> str:
    return origin.user or (f"Dag run {origin.dag_id}/{origin.run_id}" if origin.dag_id else origin.kind)


#: Decisions of an endpoint among which one is looked for that a request has made before.
_DECISIONS = 50


def _decided_before(platform: Platform, endpoint: EndpointRef, *, cause: str) -> Entry | None:
    """The rollback that an earlier try of this very task, or this very request, has decided here."""
    mine, types = platform.origin, ("rollback-decided", "rollout-rejected")
    if mine.kind == "task":
        return next(iter(platform.ledger.read(endpoint, types=types, task=mine, newest_first=True, limit=1)), None)
    if mine.request is None:
        return None
    lately = platform.ledger.read(endpoint, types=types, newest_first=True, limit=_DECISIONS)
    decided = next((entry for entry in lately if entry.origin.request == mine.request), None)
    if decided is not None and (decided.event.cause, decided.origin.user) != (cause, mine.user):  # type: ignore[union-attr]
        raise RequestInvalid(
            "header idempotency-key",
            value=mine.request,
            limit=f"a key that no other request has had: this one is of the rollback at entry {decided.seq}",
            remedy="send a new key; nothing was done",
        )
    return decided


def _tell_undone(platform: Platform, endpoint: EndpointRef, error: MlpipexError) -> None:
    if isinstance(error, LedgerUnavailable):
        return  # nothing can be read or recorded; the caller hears of it
    state = journal.load(platform, endpoint)
    if state.rollback is None:
        return
    manifest = state.rollout.manifest if state.rollout else state.current_manifest
    delivery = alerts.raise_alert(
        platform,
        endpoint,
        channel=alerts.channel_of(manifest, endpoint),
        title=f"{endpoint} rollback not carried out",
        body=str(error),
        severity="critical",
        facts={"endpoint": str(endpoint), "rollout": state.rollback.rollout_id, "return to": state.rollback.to_release},
    )
    error.also("the rollback is decided and not carried out: mend this, then call it again")
    if not delivery.notified:
        error.also(f"nobody was notified ({'; '.join(delivery.failures)})")


def end_trial(platform: Platform, endpoint: EndpointRef, *, cause: str, rollout_id: str) -> RollbackReport | None:
    """End ``rollout_id`` if it is still before its promotion; ``None`` where there was nothing to end.

    For whoever cleans up after a failed or killed Dag run: a promotion and an ordinary end are left alone, a trial
    must not go on without anybody waiting for it. Releases that nothing refers to any more are stopped.
    """
    state = traffic.converge(platform, endpoint, rollout_id=rollout_id)
    open_here = state.rollout is not None and state.rollout.id == rollout_id and state.rollout.phase != "watching"
    ended = roll_back(platform, endpoint, cause=cause, rollout_id=rollout_id) if open_here else None
    retire_superseded(platform, endpoint)
    return _report(platform, state, ended, since=state.seq) if ended else None
