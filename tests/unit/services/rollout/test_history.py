"""What was current when, why and by whom, and whether the record can be believed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.adapters.sql import checkpoints
from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.errors import LedgerTampered
from airflow_provider_mlpipex.domain.rollout.events import Entry, Origin, ReviewDecided
from airflow_provider_mlpipex.services.rollout.history import as_of, audit
from airflow_provider_mlpipex.services.rollout.review import decide_review
from airflow_provider_mlpipex.services.rollout.tenures import tenures
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.manifests import MANIFEST, make_manifest
from tests.support.rollouts import ENDPOINT, PAGER, World

LIVE_STAGES = (MANIFEST[MANIFEST.index("    shadow:") : MANIFEST.index("    alerts:")], "")
HOUR = 3600


@pytest.fixture
def world() -> World:
    return World(LIVE_STAGES)


def test_an_endpoint_without_a_release_has_no_history(world: World) -> None:
    assert tenures(world.platform, ENDPOINT) == []
    assert as_of(world.platform, ENDPOINT, world.clock.now()).seq == 0
    assert audit(world.platform) == {}


def test_tenures_follow_one_another_without_a_gap(world: World) -> None:
    began = world.clock.now()
    first = world.first_release()
    world.clock.advance(HOUR)
    world.bring("run-2", "1.1.0", to="promoted")
    second = world.state.current
    world.clock.advance(HOUR)
    world.roll_back("too slow")
    held = tenures(world.platform, ENDPOINT)
    assert [(tenure.release, tenure.rollout_id, tenure.ended_by) for tenure in held] == [
        (first.id, "run-1", "promoted"),
        (second.id, "run-2", "rolled-back"),
        (first.id, "run-2", ""),
    ]
    hours = [began + timedelta(hours=number) for number in range(3)]
    assert [tenure.since for tenure in held] == hours
    assert [tenure.until for tenure in held] == [*hours[1:], None]
    assert (held[1].model, held[1].runtime) == ("fraud-scorer 1.1.0", "1.0.0")


def test_an_audit_finds_a_checkpoint_that_its_chain_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 2)
    path, memory = tmp_path / "ledger.db", memory_platform()
    world = World(memory=memory, ledger=SqlLedger(f"sqlite:///{path}", clock=memory.clock))
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    assert len(world.platform.ledger.checkpoints(ENDPOINT, limit=100)) >= 3
    assert audit(world.platform) == {str(ENDPOINT): world.state.seq}
    with sqlite3.connect(path) as database:
        changed = database.execute(
            "UPDATE mlpipex_checkpoints SET state = replace(state, '1.0.0', '6.6.6') "
            "WHERE seq = (SELECT max(seq) FROM mlpipex_checkpoints)"
        )
        assert changed.rowcount == 1
    with pytest.raises(LedgerTampered, match="mlpipex_checkpoints"):
        audit(world.platform)


def test_a_trial_that_fails_is_nobodys_tenure() -> None:
    world = World()
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    world.roll_back()
    assert [tenure.release for tenure in tenures(world.platform, ENDPOINT)] == [first.id]


def test_the_same_release_under_another_manifest_is_the_same_tenure(world: World) -> None:
    world.first_release()
    world.bring(
        "run-2", "1.0.0", to="promoted", manifest=make_manifest(PAGER, LIVE_STAGES, ("team: risk", "team: fraud"))
    )
    assert len(tenures(world.platform, ENDPOINT)) == 1


def test_any_moment_can_be_asked_for(world: World) -> None:
    began = world.clock.now()
    world.first_release()
    world.clock.advance(HOUR)
    world.open("run-2", "1.1.0")
    world.review("run-2")
    world.clock.advance(HOUR)
    ada = world.platform.acting_as(Origin(kind="http", user="ada"))
    decide_review(ada, endpoint=ENDPOINT, rollout_id="run-2", approved=True, reviewer="ada", note="looks good")
    world.promote("run-2")
    world.clock.advance(HOUR)
    world.roll_back("errors")

    def current_at(hours: float) -> str | None:
        release = as_of(world.platform, ENDPOINT, began + timedelta(hours=hours)).current
        return release and release.model.version

    assert [current_at(hours) for hours in (-0.1, 0, 0.9, 1.9, 2, 2.9, 3)] == [
        None, "1.0.0", "1.0.0", "1.0.0", "1.1.0", "1.1.0", "1.0.0",
    ]  # fmt: skip
    then = as_of(world.platform, ENDPOINT, began + timedelta(hours=1.5))
    assert then.rollout.phase == "review" and then.rollout.approved is None
    # Why, and who approved.
    entry = next(e for e in world.ledger.port.read(ENDPOINT) if isinstance(e.event, ReviewDecided) and e.event.note)
    assert (entry.event.reviewer, entry.origin.user, entry.recorded_at) == ("ada", "ada", began + timedelta(hours=2))


def test_a_clock_that_steps_back_does_not_turn_history_around(world: World) -> None:
    world.first_release()
    world.clock.advance(HOUR)
    world.bring("run-2", "1.1.0", to="promoted")
    promoted_at = world.clock.now()
    world.clock.advance(-HOUR / 2)
    world.roll_back()
    held = tenures(world.platform, ENDPOINT)
    assert [tenure.since for tenure in held] == sorted(tenure.since for tenure in held)
    assert held[-1].since == promoted_at, "recorded when it happened, as seen from what happened before it"
    assert as_of(world.platform, ENDPOINT, promoted_at).current.model.version == "1.0.0"
    assert as_of(world.platform, ENDPOINT, promoted_at - timedelta(seconds=1)).results.keys() == {"run-1"}
    assert audit(world.platform) == {"production/fraud-scorer": world.state.seq}


# Whether it can be believed.


def test_every_chain_is_verified(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    assert audit(world.platform) == {str(ENDPOINT): world.state.seq}


def edit(chain: list[Entry], position: int, **changes: Any) -> None:
    chain[position] = chain[position].model_copy(update=changes)


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (lambda chain: chain.pop(2), 4),
        (lambda chain: chain.insert(2, chain[2]), 3),
        (lambda chain: chain.reverse(), 8),
        (lambda chain: edit(chain, 3, event=chain[3].event.model_copy(update={"reviewer": "eve"})), 4),
        (lambda chain: edit(chain, 4, origin=Origin(kind="cli", user="eve")), 5),
        (lambda chain: edit(chain, 5, recorded_at=chain[0].recorded_at - timedelta(days=1)), 6),
    ],
    ids=["removed", "inserted", "reordered", "edited", "signed by another", "dated back"],
)
def test_what_was_tampered_with_is_named(world: World, tamper: Callable[[list[Entry]], object], named: int) -> None:
    world.first_release()
    tamper(world.memory.ledger._chains[ENDPOINT])
    with pytest.raises(LedgerTampered, match=f"entry {named} "):
        audit(world.platform)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE mlpipex_ledger SET event = replace(event, '1.0.0', '6.6.6') WHERE seq = 1", "entry 1"),
        ("UPDATE mlpipex_ledger SET recorded_at = '1999-01-01T00:00:00.000000Z' WHERE seq = 3", "entry 3"),
        ('UPDATE mlpipex_ledger SET event = \'{"type": "no-such-event"}\' WHERE seq = 4', "entry 4"),
        ("UPDATE mlpipex_ledger SET origin = 'not JSON' WHERE seq = 2", "entry 2"),
        ("DELETE FROM mlpipex_ledger WHERE seq = 2", "entry 3"),
    ],
    ids=["edited", "dated back", "of no known type", "unreadable", "deleted"],
)
def test_a_database_that_was_tampered_with_is_named(tmp_path: Path, statement: str, named: str) -> None:
    memory = memory_platform()
    world = World(LIVE_STAGES, memory=memory, ledger=SqlLedger(f"sqlite:///{tmp_path}/ledger.db", clock=memory.clock))
    world.first_release()
    assert audit(world.platform) == {str(ENDPOINT): world.state.seq}
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        for trigger in ("mlpipex_ledger_no_update", "mlpipex_ledger_no_delete"):
            database.execute(f"DROP TRIGGER {trigger}")
        assert database.execute(statement).rowcount == 1
    with pytest.raises(LedgerTampered, match=named):
        audit(replace(world.platform, ledger=SqlLedger(f"sqlite:///{tmp_path}/ledger.db", clock=memory.clock)))
