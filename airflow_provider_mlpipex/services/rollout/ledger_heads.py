"""Heads of chains that are noted on the serving plane, and chains that go on from them, or do not.

Noting never stands in the way of taking traffic back: where the plane or the ledger cannot be asked, there is no claim,
and the plane takes a return without one.
"""

from __future__ import annotations

from contextlib import suppress

from airflow_provider_mlpipex.domain.errors import (
    LedgerRewritten,
    LedgerTampered,
    MlpipexError,
    NotFound,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import HeadAccepted
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead, claim_of, rewritten
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform


def claim(platform: Platform, endpoint: EndpointRef) -> HeadClaim | None:
    """What this ledger says of its chain, every link verified from the noted head on; ``None`` where ledger or plane
    cannot be asked."""
    try:
        return _claim(platform, endpoint, platform.plane.heads(endpoint).get(str(endpoint)))
    except LedgerTampered:  # an entry that cannot be read
        return HeadClaim(head=None)
    except MlpipexError:
        return None


def _claim(platform: Platform, endpoint: EndpointRef, noted: LedgerHead | None) -> HeadClaim:
    if noted is None:
        return claim_of(None, platform.ledger.read(endpoint, newest_first=True, limit=1))
    tail = claim_of(noted, journal.walk(platform, endpoint, after_seq=noted.seq - 1))
    if tail.head is None:
        # The chain may end before: then say where, for whoever reads the refusal.
        return claim_of(None, platform.ledger.read(endpoint, newest_first=True, limit=1))
    return tail


def note(platform: Platform, endpoint: EndpointRef) -> None:
    """Note how far the chain has come. What cannot be noted now is with the next plan."""
    claimed = claim(platform, endpoint)
    if claimed is not None and claimed.head is not None:
        with suppress(MlpipexError):  # whoever moves traffic next hears of it
            platform.plane.note_head(endpoint, claimed)


def check(platform: Platform, endpoint: EndpointRef) -> None:
    """:raises LedgerRewritten: the chain does not go on from the head that the plane has noted."""
    noted = platform.plane.heads(endpoint).get(str(endpoint))
    if noted is None:
        return
    claimed = claim(platform, endpoint)
    if claimed is not None and not claimed.continues(noted):
        raise rewritten(endpoint, noted=noted, claim=claimed)


def is_rewritten(platform: Platform, endpoint: EndpointRef) -> bool:
    """Whether :func:`check` finds it so; false where the plane cannot be asked."""
    try:
        check(platform, endpoint)
    except LedgerRewritten:
        return True
    except MlpipexError:
        return False
    return False


def anchor(platform: Platform, endpoint: EndpointRef, *, model: str) -> None:
    """Note at the registry's ``model`` how far the chain has come.

    :raises RegistryUnavailable: it cannot be asked. :raises LedgerUnavailable: nor can the ledger.
    """
    for last in platform.ledger.read(endpoint, newest_first=True, limit=1):
        platform.registry.anchor_head(model, endpoint, LedgerHead(seq=last.seq, hash=last.hash))


def anchored(platform: Platform, endpoint: EndpointRef) -> LedgerHead | None:
    """The head that the registry has noted of this chain at the model of its current release; ``None`` where there is
    none.

    :raises RegistryUnavailable: it cannot be asked.
    """
    current = journal.load(platform, endpoint).current
    return platform.registry.anchored_heads(current.model.name).get(str(endpoint)) if current else None


def accept(platform: Platform, endpoint: EndpointRef, *, instead_of: str, reason: str) -> LedgerHead:
    """Declare the chain as it is now to be the true one, because a backup was restored; return its head.

    :param instead_of: the hash that is noted, or its first 12 characters at least: who gives it up has looked at it.
    :raises LedgerTampered: the chain does not verify. :raises NotFound: another head is noted, or none.
    """
    noted = platform.plane.heads(endpoint).get(str(endpoint))
    if noted is None or len(instead_of) < 12 or not noted.hash.startswith(instead_of):
        raise NotFound(
            f"noted head of the ledger of {endpoint}",
            value=instead_of,
            limit=f"{noted}" if noted else "one that is noted: nothing is",
            remedy="copy the hash from what mlpipex audit verify says",
        )
    hash_chain.verify(journal.walk(platform, endpoint))
    event = HeadAccepted(noted=noted.seq, noted_hash=noted.hash, reason=reason)
    state = journal.decide(platform, endpoint, lambda _: [event])
    (last,) = platform.ledger.read(endpoint, after_seq=state.seq - 1, before_seq=state.seq + 1)
    head = LedgerHead(seq=last.seq, hash=last.hash)
    who = platform.origin.user or platform.origin.kind
    platform.plane.accept_head(endpoint, head, instead_of=noted, reason=f"{who}: {reason}")
    if state.current is not None:
        with suppress(MlpipexError):  # a registry that is away has the older head until the next promotion
            anchor(platform, endpoint, model=state.current.model.name)
    return head
