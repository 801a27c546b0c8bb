"""What the record says of any moment, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from airflow_provider_mlpipex.domain.errors import IllegalTransition, LedgerTampered, ModelNotFound
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout import hash_chain, projection
from airflow_provider_mlpipex.domain.rollout.events import Entry, RolloutOpened, RoutineRecord
from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead, claim_of, rewritten
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

#: Checkpoints that an audit holds at once.
_CHECKPOINTS = 20


def facts(
    platform: Platform, endpoint: EndpointRef, *, routine: bool = False, last: int = 0
) -> Iterator[Entry | RoutineRecord]:
    """Every entry of a chain, or with ``routine`` every record beside it, oldest first.

    :param last: at most so many, the latest; 0 for all.
    """
    if routine:
        yield from reversed(platform.ledger.records(endpoint, limit=last or None))
    elif last:
        yield from reversed(platform.ledger.read(endpoint, newest_first=True, limit=last))
    else:
        yield from journal.walk(platform, endpoint)


def prune(platform: Platform, *, older_than: timedelta, limit: int | None = None) -> int:
    """Forget routine records that are older, at most ``limit`` of them; return how many. No chain is touched."""
    return platform.ledger.prune(before=platform.clock.now() - older_than, limit=limit)


def as_of(platform: Platform, endpoint: EndpointRef, at: datetime) -> EndpointState:
    """The whole state of ``endpoint`` at ``at`` (UTC): what served, why, and who approved."""
    return platform.ledger.state_at(endpoint, at)


def released(platform: Platform, named: str) -> tuple[Release, Manifest]:
    """A release and the manifest that it was last rolled out with.

    :param named: a release id, or an endpoint, which means its current release.
    :raises IllegalTransition: nothing is current there. :raises ModelNotFound: no ledger knows such a release.
    """
    if "/" in named:
        endpoint = EndpointRef.parse(named)
        state = journal.load(platform, endpoint)
        if state.current is None or state.current_manifest is None:
            raise IllegalTransition(
                f"endpoint {endpoint}",
                value="nothing is current",
                limit="a current release",
                remedy="name an endpoint that mlpipex status shows a current release for",
            )
        return state.current, Manifest.model_validate(state.current_manifest)
    opened = [opening for each in platform.ledger.endpoints() if (opening := _last_opened(platform, each, named))]
    if not opened:
        raise ModelNotFound(
            "release",
            value=named,
            limit="a release that was rolled out, like 1.1.0-rt1.0.0-3fa9c2d1, or an endpoint",
            remedy="copy it from mlpipex status or mlpipex history",
        )
    newest = max(opened, key=lambda each: each.recorded_at).event
    assert isinstance(newest, RolloutOpened)
    return newest.release, Manifest.model_validate(newest.manifest)


def _last_opened(platform: Platform, endpoint: EndpointRef, release: str) -> Entry | None:
    """The last entry by which ``release`` was rolled out there."""
    for entry in journal.walk_back(platform, endpoint, types=("rollout-opened",)):
        if isinstance(entry.event, RolloutOpened) and entry.event.release.id == release:
            return entry
    return None


def audit(platform: Platform, *, noted: Mapping[str, Sequence[LedgerHead]] | None = None) -> dict[str, int]:
    """Verify every chain, and the state that is kept beside it; return entries per endpoint. Holds a page at a time.

    :param noted: endpoint -> heads of its chain that were noted outside the database; a chain must have each, and a
        chain that is gone has none.
    :raises LedgerTampered: naming the first entry that does not verify, or the state that is none of its chain.
    :raises LedgerRewritten: a chain verifies, and is another one than was noted.
    """
    heads = noted or {}
    names = dict.fromkeys([*map(str, platform.ledger.endpoints()), *heads])
    return {name: _audit(platform, EndpointRef.parse(name), heads.get(name, ())) for name in names}


def _audit(platform: Platform, endpoint: EndpointRef, noted: Sequence[LedgerHead]) -> int:
    # Read first: whatever is appended meanwhile, the chain then reaches at least as far.
    kept = platform.ledger.projection(endpoint)
    checkpoints = _Checkpoints(platform, endpoint)
    verifier, folded = hash_chain.Verifier(endpoint), projection.empty(endpoint)
    due = set(noted)
    for entry in journal.walk(platform, endpoint):
        verifier.add(entry)
        here = {head for head in due if head.seq == entry.seq}
        due -= here
        for head in here - {LedgerHead(seq=entry.seq, hash=entry.hash)}:
            raise rewritten(endpoint, noted=head, claim=claim_of(None, _last(platform, endpoint)))
        folded = folded.advanced([entry])
        if kept is not None and entry.seq == kept.seq:
            kept.check(folded)
        checkpoints.check(folded)
    if kept is not None and kept.seq > folded.seq:
        raise LedgerTampered(
            f"ledger of {endpoint}",
            value=f"last entry {folded.seq}",
            limit=f"a kept state that has read entry {kept.seq}",
            remedy="entries were cut off the end: restore the database and find who could write to it",
        )
    for head in due:
        raise rewritten(endpoint, noted=head, claim=claim_of(None, _last(platform, endpoint)))
    return folded.seq


class _Checkpoints:
    """Those of one endpoint, checked in order; a page of them is held."""

    def __init__(self, platform: Platform, endpoint: EndpointRef) -> None:
        self._ledger, self._endpoint = platform.ledger, endpoint
        self._page = self._ledger.checkpoints(endpoint, limit=_CHECKPOINTS)

    def check(self, folded: projection.Projection) -> None:
        """:raises LedgerTampered: a checkpoint at the entry that ``folded`` has read last says something else."""
        while self._page and self._page[0].seq <= folded.seq:
            checkpoint, *self._page = self._page
            if checkpoint.seq == folded.seq:
                checkpoint.check(folded, table="mlpipex_checkpoints")
            if not self._page:
                self._page = self._ledger.checkpoints(self._endpoint, after_seq=checkpoint.seq, limit=_CHECKPOINTS)


def _last(platform: Platform, endpoint: EndpointRef) -> list[Entry]:
    return platform.ledger.read(endpoint, newest_first=True, limit=1)
