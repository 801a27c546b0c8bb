"""Tenures from the end of a chain, in pages: the same that a fold of the whole chain says."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    Promoted,
    RollbackDecided,
    RolledBack,
    RolloutOpened,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.rollout.fold import evolve
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout.tenures import Tenure, tenures
from airflow_provider_mlpipex.testing import MemoryPlatform, memory_platform
from tests.support.factories import NOON, make_policy, make_release
from tests.support.rollouts import ENDPOINT

STEPS = st.lists(st.tuples(st.sampled_from(["promote", "policy", "revert", "trial"]), st.integers(0, 3)), max_size=25)


@cache
def release(number: int) -> Release:
    return make_release(f"1.{number}.0")


def play(steps: list[tuple[str, int]]) -> MemoryPlatform:
    """What can happen to an endpoint: promotions, changes of policy alone, reverts of what was promoted, trials that
    end."""
    platform = memory_platform()
    for number, (step, which) in enumerate(steps):
        platform.clock.advance(60)
        state = journal.load(platform, ENDPOINT)
        rollout_id, candidate = f"run-{number}", release(which)
        if step == "policy" and state.current is not None:
            candidate = state.current
        if step == "revert":
            if state.current is None:
                continue
            # A first release has no previous one: whoever decides names nothing then.
            to = state.previous.id if state.previous else ""
            ends: dict[str, Any] = {"rollout_id": rollout_id, "from_release": state.current.id, "to_release": to}
            journal.note(platform, ENDPOINT, RollbackDecided(**ends, cause="x", detected_at=NOON))
            journal.note(platform, ENDPOINT, RolledBack(**ends))
            continue
        opened = RolloutOpened(rollout_id=rollout_id, release=candidate, policy=make_policy(), manifest={})
        journal.note(platform, ENDPOINT, opened)
        if step == "trial":
            current = state.current.id if state.current else ""
            if candidate.id != current:
                back = RolledBack(rollout_id=rollout_id, from_release=candidate.id, to_release=current)
                journal.note(platform, ENDPOINT, back)
            continue
        journal.note(platform, ENDPOINT, Promoted(rollout_id=rollout_id, watch_until=NOON))
        journal.note(platform, ENDPOINT, WatchPassed(rollout_id=rollout_id, verdict="pass"))
        journal.note(platform, ENDPOINT, AlertRaised(title="something"))
    return platform


def folded(platform: MemoryPlatform) -> list[tuple[str, int, int | None]]:
    """Release, first entry and entry that ended it, by the endpoint's state after each entry."""
    found: list[tuple[str, int, int | None]] = []
    state = EndpointState(endpoint=ENDPOINT)
    for entry in journal.walk(platform, ENDPOINT):
        before, state = state, evolve(state, entry)
        old, new = (each.current.id if each.current else None for each in (before, state))
        if old == new:
            continue
        if found and found[-1][2] is None:
            found[-1] = (*found[-1][:2], entry.seq)
        if new is not None:
            found.append((new, entry.seq, None))
    return found


def shown(platform: MemoryPlatform, held: list[Tenure]) -> list[tuple[str, int, int | None]]:
    entries = {entry.seq: entry for entry in journal.walk(platform, ENDPOINT)}
    ends = {entry.recorded_at: seq for seq, entry in entries.items() if entry.event.type in ("promoted", "rolled-back")}
    return [(each.release, each.seq, ends[each.until] if each.until else None) for each in held]


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 4))
def test_pages_from_the_end_are_what_the_whole_chain_says(steps: list[tuple[str, int]], last: int) -> None:
    platform = play(steps)
    expected = folded(platform)
    assert shown(platform, tenures(platform, ENDPOINT)) == expected
    pages: list[tuple[str, int, int | None]] = []
    before: int | None = None
    while page := shown(platform, tenures(platform, ENDPOINT, last=last, before=before)):
        assert len(page) <= last
        pages = [*page, *pages]
        before = page[0][1]
    assert pages == expected


@pytest.mark.parametrize("years", [30, 300])
def test_a_page_reads_as_much_of_an_old_chain_as_of_a_young_one(years: int, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = play([("promote", number % 4) for number in range(years)])
    read: list[int] = []
    original = platform.ledger.read

    def counted(*asked: Any, **named: Any) -> Any:
        entries = original(*asked, **named)
        read.append(len(entries))
        return entries

    monkeypatch.setattr(platform.ledger, "read", counted)
    assert len(tenures(platform, ENDPOINT, last=5)) == 5
    assert sum(read) < 20
