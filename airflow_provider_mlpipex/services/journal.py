"""Reading an endpoint's state from the ledger, deciding on it, and writing the decision back."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from airflow_provider_mlpipex.domain.errors import LedgerConflict, NotFound
from airflow_provider_mlpipex.domain.fields.free_text import one_line
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry, Event
from airflow_provider_mlpipex.domain.rollout.fold import fold
from airflow_provider_mlpipex.domain.rollout.projection import ENDING_EVENTS, result_from
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services.platform import Platform

#: Appends lost in a row before giving up. Each loss means that somebody else made progress.
ATTEMPTS = 20
#: Fields of events, and of their origin, that hold what people say.
_SAID_BY_PEOPLE = ("cause", "note", "reason", "by", "reviewer", "user")
_Written = TypeVar("_Written", bound=Value)
#: Entries that :func:`walk` holds at once.
PAGE = 1000
#: What is said where there is no entry at all.
NO_LEDGER = "the ledger holds no entries; is MLPIPEX_LEDGER_URL the right one?"


def load(platform: Platform, endpoint: EndpointRef, *, rollout_id: str | None = None) -> EndpointState:
    """The state of ``endpoint`` now.

    :param rollout_id: a rollout that is asked about. A state knows only those that ended lately; how this one ended
        is looked up in the ledger if need be.
    """
    state = platform.ledger.state(endpoint)
    if not rollout_id or state.result_of(rollout_id) or (state.rollout and state.rollout.id == rollout_id):
        return state
    ended = platform.ledger.read(endpoint, types=ENDING_EVENTS, subject=rollout_id, newest_first=True, limit=2)
    return state.model_copy(update={"looked_up": result_from(ended)})


def load_known(platform: Platform, endpoint: EndpointRef) -> EndpointState:
    """The state of an endpoint that somebody named.

    :raises NotFound: it has no entry, with the nearest that has one.
    """
    state = load(platform, endpoint)
    if state.seq:
        return state
    names = [str(each) for each in platform.ledger.endpoints()]
    near = difflib.get_close_matches(str(endpoint), names, n=1, cutoff=0.6)
    others = f"known are {', '.join(names[:10])}{' …' if len(names) > 10 else ''}" if names else NO_LEDGER
    raise NotFound(
        f"endpoint {endpoint}",
        value="nothing was ever released there",
        limit="an endpoint that the ledger knows",
        remedy=f"did you mean {near[0]}? mlpipex status lists all" if near else others,
    )


def newest(
    platform: Platform,
    endpoint: EndpointRef,
    *types: str,
    subject: str | None = None,
    before_seq: int | None = None,
    until: datetime | None = None,
) -> Entry | None:
    """The last entry of one of these types; ``None`` where there is none."""
    entries = platform.ledger.read(
        endpoint, types=types, subject=subject, before_seq=before_seq, until=until, newest_first=True, limit=1
    )
    return entries[0] if entries else None


def walk(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    after_seq: int = 0,
    since: datetime | None = None,
    until: datetime | None = None,
    types: Sequence[str] = (),
) -> Iterator[Entry]:
    """Entries in order, read in pages: however long the chain is, a page of it is held."""
    while True:
        page = platform.ledger.read(endpoint, after_seq=after_seq, since=since, until=until, types=types, limit=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after_seq = page[-1].seq


def walk_back(
    platform: Platform, endpoint: EndpointRef, *, types: Sequence[str] = (), subject: str | None = None
) -> Iterator[Entry]:
    """Entries in reverse order, read in pages: for whoever looks for the last one that has some property."""
    before: int | None = None
    size = 10
    while True:
        page = platform.ledger.read(
            endpoint, before_seq=before, types=types, subject=subject, newest_first=True, limit=size
        )
        yield from page
        if len(page) < size:
            return
        before, size = page[-1].seq, PAGE


def decide(
    platform: Platform,
    endpoint: EndpointRef,
    decision: Callable[[EndpointState], Sequence[Event]],
    *,
    rollout_id: str | None = None,
) -> EndpointState:
    """Append what ``decision`` answers to the present state; return the state after it.

    Compare and append: when somebody appends first, the decision is taken again on the new state. So two promoters
    cannot both win (the second one's decision raises), while a mere fact written meanwhile costs only a second look.

    :param rollout_id: the rollout that is decided on, as in :func:`load`.
    :raises LedgerConflict: :data:`ATTEMPTS` appends were lost in a row.
    """
    state = load(platform, endpoint, rollout_id=rollout_id)
    for _ in range(ATTEMPTS):
        events = decision(state)
        if not events:
            return state
        try:
            entries = platform.ledger.append(
                endpoint,
                expected_seq=state.seq,
                events=[_on_one_line(event) for event in events],
                origin=_on_one_line(platform.origin),
            )
        except LedgerConflict:
            state = load(platform, endpoint, rollout_id=rollout_id)
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


def _on_one_line(written: _Written) -> _Written:
    """``written`` with what a person has said in it on one line, whoever shows it later, and where."""
    said = {name: getattr(written, name, None) for name in _SAID_BY_PEOPLE}
    clean = {name: one_line(text) for name, text in said.items() if isinstance(text, str)}
    changed = {name: text for name, text in clean.items() if text != said[name]}
    return written.model_copy(update=changed) if changed else written
