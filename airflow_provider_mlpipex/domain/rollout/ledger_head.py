"""The last entry of a chain, as it is noted outside the ledger's database.

A chain cannot know by itself that its end was cut off, or that all of it was written anew. So the serving plane notes
the head of the chain that each plan comes from, and a later plan has to come from a chain that goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from airflow_provider_mlpipex.domain.errors import LedgerRewritten, LedgerTampered
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry
from airflow_provider_mlpipex.domain.rollout.hash_chain import Head, Verifier
from airflow_provider_mlpipex.domain.values import Value


class LedgerHead(Value):
    """One entry of a chain by its place and its hash."""

    seq: int = Field(ge=1)
    hash: str = Field(pattern=r"[0-9a-f]{64}")

    def __str__(self) -> str:
        return f"entry {self.seq}, hash {self.hash[:12]}"


class HeadClaim(Value):
    """What a writer says of the chain that its plan comes from.

    :param head: its last entry; ``None`` for a chain that does not verify from the noted head on, or is empty.
    :param follows: the head that was noted before, where the chain still has that entry; ``None`` where there was none,
        or the chain has another one in its place.
    """

    head: LedgerHead | None
    follows: LedgerHead | None = None

    def continues(self, noted: LedgerHead | None) -> bool:
        """Whether the chain is the one that ``noted`` was the head of, or the first one to be noted."""
        if noted is None:
            return True
        if self.head is None or self.head.seq < noted.seq:
            return False
        return noted in (self.head, self.follows)


def claim_of(noted: LedgerHead | None, tail: Iterable[Entry]) -> HeadClaim:
    """The claim of a chain.

    :param noted: its head as it was noted before.
    :param tail: its entries from that one on, or its last entry where none was noted. Every link is verified.
    """
    verifier: Verifier | None = None
    follows: LedgerHead | None = None
    try:
        for entry in tail:
            if verifier is None:
                verifier = Verifier(entry.endpoint, after=Head(entry.seq - 1, entry.previous_hash, entry.recorded_at))
                follows = noted if noted == LedgerHead(seq=entry.seq, hash=entry.hash) else None
            verifier.add(entry)
    except LedgerTampered:
        return HeadClaim(head=None)
    head = verifier.head if verifier else None
    return HeadClaim(head=head and LedgerHead(seq=head.seq, hash=head.hash), follows=follows)


def rewritten(endpoint: EndpointRef, *, noted: LedgerHead, claim: HeadClaim) -> LedgerRewritten:
    """What is raised where ``claim`` does not continue ``noted``."""
    if claim.head is None:
        said = "no chain that verifies from there on"
    elif claim.head.seq < noted.seq:
        said = f"it ends at {claim.head}"
    else:
        said = f"it goes to {claim.head}, with another entry {noted.seq}"
    return LedgerRewritten(
        f"ledger of {endpoint}",
        value=said,
        limit=f"{noted}, which the serving plane has noted",
        remedy="find who could write to the database, and restore it; where it was restored on purpose: mlpipex audit "
        f"accept-head {endpoint}",
    )
