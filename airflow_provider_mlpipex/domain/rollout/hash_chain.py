"""The hash chain of a ledger: how an entry is linked to the one before, and how a chain is verified.

``hash`` is the SHA-256 of the canonical JSON of every other field of the entry, ``previous_hash`` among them; so
changing, removing, inserting or reordering an entry breaks every link after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from airflow_provider_mlpipex.domain.errors import LedgerConflict, LedgerTampered
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry, Event, Origin
from airflow_provider_mlpipex.domain.values import digest_of

#: What the first entry of a chain links to.
GENESIS = "0" * 64
#: By how much clocks may differ that write into one chain. An entry that is dated farther ahead than this was written
#: by a clock that was wrong, and nothing after it is dated by it.
CLOCK_SLACK = timedelta(hours=1)


class Head(NamedTuple):
    """Of the last entry of a chain, what the next one is linked to."""

    seq: int
    hash: str
    recorded_at: datetime


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
    endpoint: EndpointRef, head: Entry | Head | None, events: Sequence[Event], *, now: datetime, origin: Origin
) -> list[Entry]:
    """``events`` as the entries that follow ``head``.

    Time does not run backwards within a chain when a clock is set a little: ``as of`` must not see an effect before its
    cause. After an entry from the future it does: otherwise one clock that was a year ahead would date a year of
    entries, and every trial among them would begin in the future and be taken back.
    """
    recorded_at = now
    if head is not None and now < head.recorded_at <= now + CLOCK_SLACK:
        recorded_at = head.recorded_at
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


class Verifier:
    """Checks a chain entry by entry, and remembers no more than the last.

    :param endpoint: whose chain it is; ``None``: that of the first entry.
    :param after: the entry before the first one that is added; ``None`` where that begins the chain.
    """

    def __init__(self, endpoint: EndpointRef | None = None, *, after: Head | None = None) -> None:
        self.endpoint = endpoint
        self.head = after

    def add(self, entry: Entry) -> None:
        """:raises LedgerTampered: ``entry`` is not what follows the entries before it."""
        seq, previous, previous_at = self.head or (0, GENESIS, None)
        self.endpoint = self.endpoint or entry.endpoint
        if entry.seq != seq + 1:
            limit = f"{seq + 1}: an entry is missing or was moved"
            raise _tampered(entry, f"sequence number {entry.seq}", limit)
        if entry.endpoint != self.endpoint:
            raise _tampered(entry, str(entry.endpoint), f"one chain an endpoint: {self.endpoint}")
        if entry.previous_hash != previous:
            raise _tampered(entry, f"previous_hash {entry.previous_hash[:12]}", f"hash before it: {previous[:12]}")
        own = entry_hash(entry)
        if entry.hash != own:
            raise _tampered(entry, f"hash {entry.hash[:12]}", f"hash of its content: {own[:12]}")
        if previous_at is not None and timedelta(0) < previous_at - entry.recorded_at <= CLOCK_SLACK:
            raise _tampered(entry, entry.recorded_at.isoformat(), f"not before {previous_at.isoformat()}")
        self.head = Head(entry.seq, entry.hash, entry.recorded_at)


def verify(entries: Iterable[Entry], *, expected_head: str | None = None) -> None:
    """Check a whole chain, from its first entry.

    :param expected_head: hash of the last entry as noted elsewhere. A chain cannot know by itself that its tail was
        cut off.
    :raises LedgerTampered: naming the first entry that does not verify, and how.
    """
    verifier = Verifier()
    for entry in entries:
        verifier.add(entry)
    last = verifier.head.hash if verifier.head else GENESIS
    if expected_head is not None and last != expected_head:
        raise LedgerTampered(
            "ledger head",
            value=last[:12],
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
