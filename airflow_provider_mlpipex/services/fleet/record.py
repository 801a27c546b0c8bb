"""What the ledger says of an endpoint's past, page by page: decisions, alerts, batches, and whether it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from airflow_provider_mlpipex.domain.errors import MlpipexError, NotFound
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    AlertRetried,
    DriftJudged,
    Entry,
    GatesJudged,
    Promoted,
    ReviewDecided,
    RollbackDecided,
    RolledBack,
    RolloutOpened,
    RolloutRejected,
    RoutineRecord,
    StageEnded,
)
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

AlertState = Literal["delivered", "owed", "undelivered"]
_DECISIONS = ("promoted", "rolled-back", "rollout-rejected")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision on what serves, and what it stood on.

    :param by: who made it. :param approved_by: who had approved the rollout before.
    """

    entry: Entry
    kind: Literal["promoted", "rolled-back", "rejected"]
    opened: RolloutOpened | None
    by: str
    cause: str
    approved_by: str | None
    evidence: tuple[GateResult, ...]


def decisions(
    platform: Platform, endpoint: EndpointRef, *, limit: int, before: int | None = None
) -> tuple[Decision, ...]:
    """Promotions, rollbacks and rejections, the newest first."""
    journal.load_known(platform, endpoint)
    entries = platform.ledger.read(endpoint, types=_DECISIONS, before_seq=before, newest_first=True, limit=limit)
    return tuple(_decision(platform, entry) for entry in entries)


def _decision(platform: Platform, entry: Entry) -> Decision:
    event, endpoint = entry.event, entry.endpoint
    assert isinstance(event, (Promoted, RolledBack, RolloutRejected))
    rollout = event.rollout_id

    def last(kind: str) -> Entry | None:
        return journal.newest(platform, endpoint, kind, subject=rollout, before_seq=entry.seq + 1)

    opened, review, judged = last("rollout-opened"), last("review-decided"), last("gates-judged")
    decided = last("rollback-decided") if isinstance(event, RolledBack) else None
    by = (decided or entry).origin
    cause = ""
    if isinstance(event, RolloutRejected):
        cause = event.cause
    elif decided is not None and isinstance(decided.event, RollbackDecided):
        cause = decided.event.cause
    return Decision(
        entry=entry,
        kind="promoted"
        if isinstance(event, Promoted)
        else "rolled-back"
        if isinstance(event, RolledBack)
        else "rejected",
        opened=opened.event if opened and isinstance(opened.event, RolloutOpened) else None,
        by=by.user or (f"{by.dag_id}/{by.run_id}/{by.task_id}" if by.dag_id else by.kind),
        cause=cause,
        approved_by=_approver(review),
        evidence=judged.event.results if judged and isinstance(judged.event, GatesJudged) else (),
    )


@dataclass(frozen=True, kw_only=True)
class AlertLine:
    """:param notified: by the first try or a later one. :param tries: how often it was sent."""

    entry: Entry
    alert: AlertRaised
    state: AlertState
    notified: tuple[str, ...]
    failures: tuple[str, ...]
    tries: int


#: Later tries that are read for one page of alerts.
_RETRIES = 500


def alerts(
    platform: Platform, endpoint: EndpointRef, *, limit: int, before: int | None = None
) -> tuple[AlertLine, ...]:
    """What on-call was to be told, the newest first, and whether it reached anybody."""
    state = journal.load_known(platform, endpoint)
    raised = platform.ledger.read(endpoint, types=("alert-raised",), before_seq=before, newest_first=True, limit=limit)
    if not raised:
        return ()
    retried = platform.ledger.read(
        endpoint, types=("alert-retried",), after_seq=raised[-1].seq, newest_first=True, limit=_RETRIES
    )
    return tuple(_alert(state, entry, retried) for entry in raised)


def _alert(state: EndpointState, entry: Entry, retried: Sequence[Entry]) -> AlertLine:
    alert = entry.event
    assert isinstance(alert, AlertRaised)
    again = [each.event for each in retried if isinstance(each.event, AlertRetried) and each.event.alert == entry.seq]
    # Entries of before it was written down who was notified: on-call was, but where it failed.
    notified = alert.notified if alert.notified is not None else (() if alert.failures else ("on-call",))
    reached = tuple(dict.fromkeys([*notified, *(who for each in again for who in each.notified)]))
    owed = any(each.seq == entry.seq for each in state.owed_alerts)
    return AlertLine(
        entry=entry,
        alert=alert,
        state="delivered" if reached else "owed" if owed else "undelivered",
        notified=reached,
        failures=again[0].failures if again else alert.failures,
        tries=1 + len(again),
    )


@dataclass(frozen=True, kw_only=True)
class Audit:
    """:param agrees: whether the chain has the head that was noted outside its database; ``None``: nobody can tell."""

    entries: int
    head: str
    noted: str | None
    agrees: bool | None
    detail: str


def audit(platform: Platform, endpoint: EndpointRef) -> Audit:
    """The chain's head beside what the plane has noted of it: two entries are read, however long the chain is."""
    journal.load_known(platform, endpoint)
    (last,) = platform.ledger.read(endpoint, newest_first=True, limit=1)
    try:
        noted = platform.plane.heads(endpoint).get(str(endpoint))
    except MlpipexError as error:
        return Audit(entries=last.seq, head=last.hash, noted=None, agrees=None, detail=str(error))
    if noted is None:
        detail = "the plane has noted no head of this chain yet"
        return Audit(entries=last.seq, head=last.hash, noted=None, agrees=None, detail=detail)
    there = platform.ledger.read(endpoint, after_seq=noted.seq - 1, before_seq=noted.seq + 1)
    agrees = bool(there) and there[0].hash == noted.hash and hash_chain.entry_hash(there[0]) == noted.hash
    detail = (
        f"the chain holds the head that the plane has noted: {noted}"
        if agrees
        else f"the chain does not hold the head that the plane has noted: {noted}; see the runbook ledger-rewritten"
    )
    return Audit(entries=last.seq, head=last.hash, noted=f"{noted.seq}:{noted.hash}", agrees=agrees, detail=detail)


def verify(platform: Platform, endpoint: EndpointRef, *, after: int, limit: int) -> tuple[int, int]:
    """Verify ``limit`` links of the chain behind entry ``after``; the last one that was verified, and the chain's last.

    :raises LedgerTampered: naming the first entry that does not verify.
    :raises NotFound: the chain has no entry ``after``.
    """
    state = journal.load_known(platform, endpoint)
    seed = platform.ledger.read(endpoint, after_seq=after - 1, before_seq=after + 1) if after else []
    if after and not seed:
        raise NotFound(
            f"entry {after} of {endpoint}", value="no such entry", limit=f"{state.seq} entries", remedy="begin at 0"
        )
    head = hash_chain.Head(seed[0].seq, seed[0].hash, seed[0].recorded_at) if seed else None
    verifier = hash_chain.Verifier(endpoint, after=head)
    for entry in platform.ledger.read(endpoint, after_seq=after, limit=limit):
        verifier.add(entry)
    return (verifier.head.seq if verifier.head else 0), state.seq


def approved_by(platform: Platform, endpoint: EndpointRef, at: datetime) -> str | None:
    """Who had approved what was current at ``at``: a person, or a policy by its name."""
    promoted = journal.newest(platform, endpoint, "promoted", until=at)
    if promoted is None or not isinstance(promoted.event, Promoted):
        return None
    return _approver(journal.newest(platform, endpoint, "review-decided", subject=promoted.event.rollout_id))


def _approver(review: Entry | None) -> str | None:
    decided = review.event if review else None
    if not isinstance(decided, ReviewDecided) or not decided.approved:
        return None
    return decided.reviewer or f"policy {decided.automatic}"


def entry_of(platform: Platform, endpoint: EndpointRef, seq: int, kind: str) -> Entry:
    """Entry ``seq``, which is of type ``kind``.

    :raises NotFound: it is none.
    """
    for entry in platform.ledger.read(endpoint, after_seq=seq - 1, before_seq=seq + 1):
        if entry.event.type == kind:
            return entry
    raise NotFound(f"entry {seq} of {endpoint}", value="no such entry", limit=f"an entry of type {kind}")


#: Looks at drift among which a batch is looked for.
_LOOKS = 20


def drift_share(platform: Platform, endpoint: EndpointRef, batch: str) -> float | None:
    """The largest part of a column's drift that ``batch`` carries in the last look that names it."""
    for entry in platform.ledger.read(endpoint, types=("drift-judged",), newest_first=True, limit=_LOOKS):
        named = entry.event.facts.get("batches", ()) if isinstance(entry.event, DriftJudged) else ()
        shares = [share for each in named if each.get("batch") == batch for share in each.get("shares", {}).values()]
        if shares:
            return float(max(shares))
    return None


#: Ends of stages that are read to find those of quality.
_STAGE_ENDS = 400


def quality(platform: Platform, endpoint: EndpointRef, *, limit: int) -> tuple[Entry | RoutineRecord, ...]:
    """Checks of tables, the newest first: those that failed stand in the chain, the others beside it."""
    journal.load_known(platform, endpoint)
    types = ("stage-ended",)
    failed = platform.ledger.read(endpoint, types=types, newest_first=True, limit=_STAGE_ENDS)
    passed = platform.ledger.records(endpoint, types=types, limit=_STAGE_ENDS)
    both: list[Entry | RoutineRecord] = [*failed, *passed]
    ends = [each for each in both if isinstance(each.event, StageEnded) and each.event.stage == "quality"]
    return tuple(sorted(ends, key=lambda each: each.recorded_at, reverse=True)[:limit])
