"""The state of an endpoint as it is kept beside its chain: how far it has read, and by which version of the fold.

A projection is never the truth: whoever doubts it folds the chain again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import get_args

from airflow_provider_mlpipex.domain.errors import LedgerTampered
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import (
    BatchServed,
    DriftJudged,
    Entry,
    Event,
    FaultInjected,
    FaultRemoved,
    HeadAccepted,
    ModelRegistered,
    RollbackDecided,
    RolledBack,
    RolloutRejected,
    StageEnded,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.rollout.fold import evolve
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, RolloutResult
from airflow_provider_mlpipex.domain.values import Value, digest_of

#: Raise it by one with every change of what ``evolve`` makes of a chain. Fields of a state that come or go are noticed
#: without it (:func:`fold_version`).
FOLD_VERSION = 2

#: Events that move the sequence number of a state and change nothing else of it.
_FACTS = (BatchServed, DriftJudged, FaultInjected, FaultRemoved, HeadAccepted, ModelRegistered, StageEnded)
#: Events that change more of a state.
STATE_EVENTS: tuple[str, ...] = tuple(
    event.model_fields["type"].default for event in get_args(get_args(Event)[0]) if event not in _FACTS
)
#: Events by which a rollout ends, and the one that says why it is rolled back.
ENDING_EVENTS = ("watch-passed", "rolled-back", "rollout-rejected", "rollback-decided")


@cache
def fold_version() -> str:
    """Names fold and fields of a state: one that another version has written is folded anew from its chain."""
    return f"{FOLD_VERSION}-{digest_of(EndpointState.model_json_schema())[:12]}"


class Projection(Value):
    """:param seq: of the last entry that ``state`` has read. :param hash: of that entry."""

    seq: int
    hash: str
    state: EndpointState

    def advanced(self, entries: Iterable[Entry]) -> Projection:
        """The same, with ``entries`` read as well, which are those that follow."""
        state, seq, digest = self.state, self.seq, self.hash
        for entry in entries:
            state, seq, digest = evolve(state, entry), entry.seq, entry.hash
        return Projection(seq=seq, hash=digest, state=state)

    def moved_to(self, seq: int, digest: str) -> Projection:
        """The same at a later entry, where none in between is of :data:`STATE_EVENTS`."""
        return Projection(seq=seq, hash=digest, state=self.state.model_copy(update={"seq": seq}))

    def check(self, folded: Projection, *, table: str = "mlpipex_state") -> None:
        """:param folded: what the chain itself says, up to the same entry. :param table: where this is kept.

        :raises LedgerTampered: it says something else.
        """
        if (self.hash, self.state.to_json()) == (folded.hash, folded.state.to_json()):
            return
        kept, true = self.state.to_json(), folded.state.to_json()
        differing = sorted(name for name in {*kept, *true} if kept.get(name) != true.get(name)) or ["hash"]
        raise LedgerTampered(
            f"kept state of {self.state.endpoint} at entry {self.seq}",
            value=f"other {', '.join(differing)} than its chain",
            limit="the fold of the chain, which verifies",
            remedy=f"delete its row from {table}, it is folded anew; and find who could write to the database",
        )


def empty(endpoint: EndpointRef) -> Projection:
    """Before the first entry."""
    return Projection(seq=0, hash="", state=EndpointState(endpoint=endpoint))


def result_from(newest_first: Iterable[Entry]) -> RolloutResult | None:
    """How a rollout ended, from its :data:`ENDING_EVENTS`, the newest first; ``None`` if it has not.

    The same that ``evolve`` writes into ``results``, for a rollout that has left them.
    """
    ended = None
    for entry in newest_first:
        match entry.event, ended:
            case WatchPassed() as passed, None:
                return RolloutResult(
                    rollout_id=passed.rollout_id, ending="promoted", cause=passed.cause, at=entry.recorded_at
                )
            case RolloutRejected() as rejected, None:
                return RolloutResult(
                    rollout_id=rejected.rollout_id, ending="rejected", cause=rejected.cause, at=entry.recorded_at
                )
            case RolledBack() as back, None:
                ended = RolloutResult(rollout_id=back.rollout_id, ending="rolled-back", at=entry.recorded_at)
            case RollbackDecided() as decided, RolloutResult():
                return ended.model_copy(update={"cause": decided.cause}) if ended else None
            case _:
                continue
    return ended
