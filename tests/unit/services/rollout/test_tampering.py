"""The tampering table: what somebody does who can write to the ledger's database, and who notices.

Each attack is made on a real database, with the triggers out of the way, as its administrator can. ``docs/security.md``
holds the same table in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import (
    LedgerRewritten,
    LedgerTampered,
    MlpipexError,
    NotFound,
    PlaneUnavailable,
)
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, HeadAccepted
from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import invariants, ledger_heads, promote, traffic
from airflow_provider_mlpipex.services.rollout.history import audit
from tests.support.rollouts import ENDPOINT
from tests.support.tampering import ALL_ATTACKS, ATTACKS, Scene, before_the_rollback, finds, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


@pytest.mark.parametrize("attack", ATTACKS)
def test_whoever_rewrites_the_ledger_is_noticed_and_moves_nothing(scene: Scene, attack: str) -> None:
    ATTACKS[attack](scene)
    assert audit(scene.world.platform) is not None, "the chain alone cannot tell"
    with pytest.raises(LedgerRewritten, match="which the serving plane has noted"):
        scene.audit()
    assert "noted" in (invariants.the_ledger_is_the_one_that_was_noted(scene.world.platform, ENDPOINT) or "")
    try:
        traffic.converge(scene.world.platform, ENDPOINT)
    except MlpipexError as error:
        assert isinstance(error, LedgerRewritten)
    assert scene.serves == scene.good, "a release that was taken back does not come again"
    with pytest.raises(MlpipexError):
        scene.world.bring("run-3", "1.2.0", to="promoted")
    assert scene.serves == scene.good


def test_an_entry_that_is_changed_in_place_is_noticed_by_the_next_forward_step(scene: Scene) -> None:
    last = scene.world.state.seq
    statement = "UPDATE mlpipex_ledger SET origin = replace(origin, 'test', 'cli') WHERE seq = ?"
    assert scene.execute(statement, last) == 1
    with pytest.raises(LedgerTampered, match=f"entry {last}"):
        scene.audit()
    assert invariants.the_ledger_is_the_one_that_was_noted(scene.world.platform, ENDPOINT) is not None


def test_a_head_that_was_noted_elsewhere_is_compared_as_well(scene: Scene) -> None:
    """As an alert has said it, where even the plane's own file is gone."""
    entry = scene.world.platform.ledger.read(ENDPOINT, newest_first=True, limit=1)[0]
    head = LedgerHead(seq=entry.seq, hash=entry.hash)
    assert audit(scene.world.platform, noted={str(ENDPOINT): [head]})
    scene.cut(after=before_the_rollback(scene))
    with pytest.raises(LedgerRewritten, match=f"entry {entry.seq}"):
        audit(scene.world.platform, noted={str(ENDPOINT): [head]})


def test_traffic_comes_back_though_the_ledger_was_rewritten(scene: Scene) -> None:
    """To a release that the plane itself knows as good, and on-call hears why that was enough."""
    scene.world.bring("run-3", "1.2.0", to="promoted")
    scene.rewrite(lambda entry: entry.model_copy(update={"origin": entry.origin.model_copy(update={"user": "nobody"})}))
    scene.world.roll_back("too slow")
    assert scene.serves == scene.good
    titles = [alert.title for alert in scene.world.memory.alerter.sent]
    assert f"{ENDPOINT} the ledger was rewritten" in titles


@pytest.mark.parametrize("away", ["heads", "note_head"])
def test_a_rollback_needs_no_anchor(scene: Scene, monkeypatch: pytest.MonkeyPatch, away: str) -> None:
    scene.world.bring("run-3", "1.2.0", to="promoted")

    def fail(*_: Any, **__: Any) -> Any:
        raise PlaneUnavailable("heads")

    monkeypatch.setattr(scene.world.memory.plane, away, fail)
    scene.world.roll_back("too slow")
    assert scene.serves == scene.good


def test_a_restored_backup_is_gone_on_with_when_somebody_has_looked(scene: Scene) -> None:
    noted = scene.world.memory.plane.noted[str(ENDPOINT)]
    scene.cut(after=before_the_rollback(scene))
    platform = scene.world.platform
    with pytest.raises(NotFound, match="copy the hash"):
        ledger_heads.accept(platform, ENDPOINT, instead_of="0" * 12, reason="restored the backup of Monday")
    ledger_heads.accept(platform, ENDPOINT, instead_of=noted.hash[:12], reason="restored the backup of Monday")
    assert scene.audit()[str(ENDPOINT)] == scene.world.state.seq
    (accepted,) = [e.event for e in platform.ledger.read(ENDPOINT) if isinstance(e.event, HeadAccepted)]
    assert (accepted.noted, accepted.noted_hash) == (noted.seq, noted.hash)
    # The ledger of Monday says that 1.1.0 is current: that is what was accepted.
    traffic.converge(platform, ENDPOINT)
    assert scene.serves == scene.bad


@pytest.mark.parametrize("plan", ["forward", "return"])
def test_who_was_overtaken_by_another_writer_has_rewritten_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    """Both have read the same noted head; what the slower one says of the chain is behind when it arrives."""
    platform = scene.world.platform
    if plan == "forward":
        scene.world.bring("run-3", "1.2.0", to="review")
        scene.world.decide("run-3")
    else:
        scene.world.bring("run-3", "1.2.0", to="promoted")
    real, claims = ledger_heads.claim, iter([ledger_heads.claim(platform, ENDPOINT)])
    journal.note(platform, ENDPOINT, AlertRaised(title="by another writer"))
    ledger_heads.note(platform, ENDPOINT)
    monkeypatch.setattr(ledger_heads, "claim", lambda *arguments: next(claims, None) or real(*arguments))
    if plan == "forward":
        scene.world.promote("run-3")
        assert scene.serves == scene.world.state.current.id != scene.good
    else:
        scene.world.roll_back("too slow")
        assert scene.serves == scene.good
    assert not [alert for alert in scene.world.memory.alerter.sent if "rewritten" in alert.title]
    assert scene.audit() == {str(ENDPOINT): scene.world.state.seq}


def test_a_ledger_from_before_heads_were_noted_is_the_first_to_be(scene: Scene) -> None:
    scene.world.memory.plane.noted.clear()
    scene.world.bring("run-3", "1.2.0", to="promoted")
    assert scene.audit() == {str(ENDPOINT): scene.world.state.seq}


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name != "the chain is deleted"])
def test_the_registry_has_noted_the_head_too(scene: Scene, attack: str) -> None:
    """Where whoever rewrites the database has the plane's own file as well."""
    promote.mirror_alias(scene.world.platform, ENDPOINT)
    noted = ledger_heads.anchored(scene.world.platform, ENDPOINT)
    assert noted is not None and noted.seq == scene.world.state.seq
    assert audit(scene.world.platform, noted={str(ENDPOINT): [noted]}) == {str(ENDPOINT): noted.seq}
    ATTACKS[attack](scene)
    after = ledger_heads.anchored(scene.world.platform, ENDPOINT)
    assert after == noted, "nobody of the database writes there"
    with pytest.raises(LedgerRewritten):
        audit(scene.world.platform, noted={str(ENDPOINT): [after]})


def test_a_backup_that_was_accepted_is_the_registrys_head_as_well(scene: Scene) -> None:
    promote.mirror_alias(scene.world.platform, ENDPOINT)
    scene.cut(after=scene.world.state.seq - 1)
    noted = scene.world.memory.plane.noted[str(ENDPOINT)]
    head = ledger_heads.accept(scene.world.platform, ENDPOINT, instead_of=noted.hash, reason="a backup")
    assert ledger_heads.anchored(scene.world.platform, ENDPOINT) == head


PLANE, SIGNED, REGISTRY, SENT, STEP, CHAIN = (
    "plane's heads", "their signatures", "registry's head", "alert, receiver", "next step forward", "chain alone",
)  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "noticed_by"),
    [
        ("the tail is cut off", {PLANE, SENT, STEP}),
        ("the last entry is cut off", {PLANE, SENT, STEP}),
        ("the chain is deleted", {PLANE, REGISTRY, SENT, STEP}),
        ("the chain is written anew", {PLANE, REGISTRY, SENT, STEP}),
        ("an entry is edited", {CHAIN, PLANE, REGISTRY, SENT, STEP}),
        ("the kept state is edited", {CHAIN, PLANE, REGISTRY, SENT}),
        ("the tail is cut off, and the plane's file", {SENT}),
        ("the chain is written anew, and the plane's file", {SIGNED, REGISTRY, SENT}),
    ],
)
def test_the_table_of_who_notices_what(scene: Scene, attack: str, noticed_by: set[str]) -> None:
    """As docs/security.md has it, and ``python -m benchmarks tampering`` prints it."""
    assert not any(finds(scene).values())
    ALL_ATTACKS[attack](scene)
    assert {finder for finder, said in finds(scene).items() if said} == noticed_by


def test_every_attack_is_in_the_table() -> None:
    text = (Path(__file__).parents[4] / "docs" / "security.md").read_text(encoding="utf-8")
    assert [attack for attack in ALL_ATTACKS if f"| {attack} |" not in text] == []
