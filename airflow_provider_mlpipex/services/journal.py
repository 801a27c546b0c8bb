"""Reading an endpoint's state from the ledger, deciding on it, and writing the decision back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from airflow_provider_mlpipex.domain.errors import LedgerConflict
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Event
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, fold
from airflow_provider_mlpipex.services.platform import Platform

#: Appends lost in a row before giving up. Each loss means that somebody else made progress.
ATTEMPTS = 20


def load(platform: Platform, endpoint: EndpointRef, *, at: datetime | None = None) -> EndpointState:
    """The state of ``endpoint`` now, or as of ``at`` (UTC)."""
    return fold(endpoint, platform.ledger.read(endpoint, until=at))


def decide(
    platform: Platform, endpoint: EndpointRef, decision: Callable[[EndpointState], Sequence[Event]]
) -> EndpointState:
    """Append what ``decision`` answers to the present state; return the state after it.

    Compare and append: when somebody appends first, the decision is taken again on the new state. So two promoters
    cannot both win (the second one's decision raises), while a mere fact written meanwhile costs only a second look.

    :raises LedgerConflict: :data:`ATTEMPTS` appends were lost in a row.
    """
    state = load(platform, endpoint)
    for _ in range(ATTEMPTS):
        events = decision(state)
        if not events:
            return state
        try:
            entries = platform.ledger.append(endpoint, expected_seq=state.seq, events=events, origin=platform.origin)
        except LedgerConflict:
            state = load(platform, endpoint)
            continue
        return fold(endpoint, entries, state)
    raise LedgerConflict(
        f"ledger of {endpoint}",
        value=f"{ATTEMPTS} appends lost in a row",
        limit="one writer at a time",
        remedy="run the task again; look for a writer in a loop with: mlpipex history",
    )


def note(platform: Platform, endpoint: EndpointRef, event: Event) -> None:
    """Append a fact that is true whatever the state."""
    decide(platform, endpoint, lambda _: [event])
