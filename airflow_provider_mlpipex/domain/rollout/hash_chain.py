"""The hash chain of a ledger: how an entry is linked to the one before, and how a chain is verified.

``hash`` is the SHA-256 of the canonical JSON of every other field of the entry, ``previous_hash`` among them; so
changing, removing, inserting or reordering an entry breaks every link after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from airflow_provider_mlpipex.domain.errors import LedgerConflict, LedgerTampered
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry, Event, Origin
from airflow_provider_mlpipex.domain.values import digest_of

#: What the first entry of a chain links to.
GENESIS = "0" * 64


def link(
    *, endpoint: EndpointRef, seq: int, recorded_at: datetime, origin: Origin, event: Event, previous_hash: str
) -> Entry:
    """The entry that follows ``previous_hash``."""
    unsealed = Entry(
        endpoint=endpoint,
        seq=seq,
        recorded_at=recorded_at,
        origin=origin,
        event=event,
        previous_hash=previous_hash,
        hash="",
    )
    return unsealed.model_copy(update={"hash": entry_hash(unsealed)})


def extend(
    endpoint: EndpointRef, head: Entry | None, events: Sequence[Event], *, now: datetime, origin: Origin
) -> list[Entry]:
    """``events`` as the entries that follow ``head``.

    Time never runs backwards within a chain, even when the machine's clock does: ``as of`` must not see an effect
    before its cause.
    """
    recorded_at = max(now, head.recorded_at) if head else now
    linked: list[Entry] = []
    for event in events:
        linked.append(
            link(
                endpoint=endpoint,
                seq=(head.seq if head else 0) + 1,
                recorded_at=recorded_at,
                origin=origin,
                event=event,
                previous_hash=head.hash if head else GENESIS,
            )
        )
        head = linked[-1]
    return linked


def lost_race(endpoint: EndpointRef, *, expected: int, actual: int) -> LedgerConflict:
    """What an append is told that came second."""
    return LedgerConflict(
        f"ledger of {endpoint}",
        value=f"expected to follow entry {expected}",
        limit=f"its last entry is {actual}",
        remedy="read the state again and decide again",
    )


def entry_hash(entry: Entry) -> str:
    """What ``entry.hash`` must be."""
    return digest_of(entry.model_dump(mode="json", exclude={"hash"}))


def verify(entries: Sequence[Entry], *, expected_head: str | None = None) -> None:
    """Check a whole chain, from its first entry.

    :param expected_head: hash of the last entry as noted elsewhere. A chain cannot know by itself that its tail was
        cut off.
    :raises LedgerTampered: naming the first entry that does not verify, and how.
    """
    previous, previous_at = GENESIS, None
    for position, entry in enumerate(entries, start=1):
        if entry.seq != position:
            raise _tampered(entry, f"sequence number {entry.seq}", f"{position}: an entry is missing or was moved")
        if entry.endpoint != entries[0].endpoint:
            raise _tampered(entry, str(entry.endpoint), f"one chain an endpoint: {entries[0].endpoint}")
        if entry.previous_hash != previous:
            raise _tampered(entry, f"previous_hash {entry.previous_hash[:12]}", f"hash before it: {previous[:12]}")
        if entry.hash != entry_hash(entry):
            raise _tampered(entry, f"hash {entry.hash[:12]}", f"hash of its content: {entry_hash(entry)[:12]}")
        if previous_at is not None and entry.recorded_at < previous_at:
            raise _tampered(entry, entry.recorded_at.isoformat(), f"not before {previous_at.isoformat()}")
        previous, previous_at = entry.hash, entry.recorded_at
    if expected_head is not None and previous != expected_head:
        raise LedgerTampered(
            "ledger head",
            value=previous[:12],
            limit=f"expected {expected_head[:12]}",
            remedy="entries were cut off the end: restore the database and find who could write to it",
        )


def _tampered(entry: Entry, value: str, limit: str) -> LedgerTampered:
    return LedgerTampered(
        f"ledger of {entry.endpoint}, entry {entry.seq}",
        value=value,
        limit=limit,
        remedy="restore the ledger from a backup and find who could write to its database",
    )
