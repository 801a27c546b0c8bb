"""What somebody does who can write to the ledger's database, and to more, on a real database of SQLite."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.adapters.sql.database import make_engine
from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.errors import LedgerRewritten, LedgerTampered, MlpipexError
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import Entry
from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
from airflow_provider_mlpipex.services.rollout import invariants, ledger_heads, promote
from airflow_provider_mlpipex.services.rollout.history import audit
from airflow_provider_mlpipex.serving.plane.head_witness import HeadWitness
from airflow_provider_mlpipex.serving.plane.ledger_heads import LedgerHeads, records_in
from airflow_provider_mlpipex.signatures import PublicKey
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.ledgers import add_rows
from tests.support.manifests import MANIFEST
from tests.support.rollouts import ENDPOINT, World

LIVE_STAGES = (MANIFEST[MANIFEST.index("    shadow:") : MANIFEST.index("    alerts:")], "")


@dataclass
class Scene:
    """Release 1.1.0 was promoted over 1.0.0 and taken back: the plane serves 1.0.0, and has noted the chain."""

    world: World
    path: Path
    good: str
    bad: str
    #: The plane's file of noted heads, signed.
    heads: Path
    key: PublicKey
    #: What has left the machine, in alerts and to the receiver of heads.
    sent: list[LedgerHead]

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def serves(self) -> str:
        plan = self.world.memory.plane.plan_in_force(ENDPOINT)
        assert plan is not None
        return plan.current

    def audit(self) -> dict[str, int]:
        heads = {name: [head] for name, head in self.world.memory.plane.noted.items()}
        return audit(self.world.platform, noted=heads)

    def plane_was_restarted(self) -> None:
        """What it knows is what its file says."""
        noted = LedgerHeads(self.heads, say=_raise).all()
        self.world.memory.plane.noted.clear()
        self.world.memory.plane.noted.update(noted)

    def execute(self, statement: str, *values: Any) -> int:
        with sqlite3.connect(self.path) as database:
            for trigger in ("mlpipex_ledger_no_update", "mlpipex_ledger_no_delete"):
                database.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            return database.execute(statement, values).rowcount

    def forget_state(self) -> None:
        """As somebody does who knows that it is kept beside the chain."""
        self.execute("DELETE FROM mlpipex_state")

    def cut(self, *, after: int) -> None:
        self.execute("DELETE FROM mlpipex_ledger WHERE seq > ?", after)
        self.forget_state()

    def rewrite(self, change: Callable[[Entry], Entry]) -> None:
        """Every entry as ``change`` makes it, with hashes that fit: a chain that verifies."""
        chain = self.world.platform.ledger.read(ENDPOINT)
        self.cut(after=0)
        previous, rows = hash_chain.GENESIS, []
        for entry in map(change, chain):
            fields = {name: getattr(entry, name) for name in ("endpoint", "seq", "recorded_at", "origin", "event")}
            rows.append(hash_chain.link(**fields, previous_hash=previous))
            previous = rows[-1].hash
        add_rows(make_engine(self.url), rows)


def make_scene(folder: Path) -> Scene:
    """A scene in ``folder``."""
    memory, path = memory_platform(), folder / "ledger.db"
    world = World(LIVE_STAGES, memory=memory, ledger=SqlLedger(f"sqlite:///{path}", clock=memory.clock))
    good = world.first_release()
    world.clock.advance(3600)
    world.bring("run-2", "1.1.0", to="promoted")
    promote.mirror_alias(world.platform, ENDPOINT)
    key = folder / "key.pem"
    witness = HeadWitness(key_file=write_key(key))
    heads = LedgerHeads(folder / "ledger-heads.jsonl", say=_raise, witness=witness)
    heads.note(str(ENDPOINT), memory.plane.noted[str(ENDPOINT)])
    bad = world.state.current
    assert bad is not None
    world.roll_back("too slow")
    heads.note(str(ENDPOINT), memory.plane.noted[str(ENDPOINT)])
    public = PublicKey(key.with_suffix(".pub"))
    sent = [LedgerHead(seq=line["seq"], hash=line["hash"]) for line in records_in(folder / "ledger-heads.jsonl")]
    scene = Scene(world, path, good.id, bad.id, folder / "ledger-heads.jsonl", public, sent)
    assert scene.serves == scene.good
    assert scene.audit() == {str(ENDPOINT): world.state.seq}
    return scene


def before_the_rollback(scene: Scene) -> int:
    """The last entry of when the bad release was current."""
    entries = scene.world.platform.ledger.read(ENDPOINT, types=["rollback-decided"])
    return entries[0].seq - 1


def _raise(_: str, error: Exception) -> None:
    raise error


def write_key(file: Path) -> Path:
    """A new private key in ``file``, and its public half beside it as ``.pub``."""
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", file], check=True, capture_output=True)
    public = file.with_suffix(".pub")
    subprocess.run(["openssl", "pkey", "-in", file, "-pubout", "-out", public], check=True, capture_output=True)
    file.chmod(0o600)
    return file


ATTACKS: dict[str, Callable[[Scene], object]] = {
    "the tail is cut off": lambda scene: scene.cut(after=before_the_rollback(scene)),
    "the last entry is cut off": lambda scene: scene.cut(after=scene.world.state.seq - 1),
    "the chain is deleted": lambda scene: scene.cut(after=0),
    "the chain is written anew": lambda scene: scene.rewrite(
        lambda entry: entry.model_copy(update={"origin": entry.origin.model_copy(update={"user": "nobody"})})
    ),
}


def nobody(entry: Entry) -> Entry:
    return entry.model_copy(update={"origin": entry.origin.model_copy(update={"user": "nobody"})})


def edit_entry(scene: Scene) -> None:
    """The last one, whose hash stays as it is."""
    statement = "UPDATE mlpipex_ledger SET origin = replace(origin, 'test', 'cli') WHERE seq = ?"
    assert scene.execute(statement, scene.world.state.seq) == 1


def edit_kept_state(scene: Scene) -> None:
    assert scene.execute("UPDATE mlpipex_state SET state = replace(state, ?, ?)", scene.good, scene.bad) == 1


def cut_file(scene: Scene) -> None:
    """Of the plane, so that it knows of no more than what is left of the chain; its user has done it."""
    scene.cut(after=before_the_rollback(scene))
    left = scene.world.state.seq
    lines = [line for line in scene.heads.read_text().splitlines() if json.loads(line)["seq"] <= left]
    scene.heads.write_text("".join(f"{line}\n" for line in lines))


def forge_file(scene: Scene) -> None:
    """Of the plane, so that it has noted what the chain that was written anew says."""
    scene.rewrite(nobody)
    hashes = {entry.seq: entry.hash for entry in scene.world.platform.ledger.read(ENDPOINT)}
    lines = [json.loads(line) for line in scene.heads.read_text().splitlines()]
    scene.heads.write_text("".join(json.dumps({**line, "hash": hashes[line["seq"]]}) + "\n" for line in lines))


#: The attacks of the table in docs/security.md.
ALL_ATTACKS: dict[str, Callable[[Scene], object]] = {
    **ATTACKS,
    "an entry is edited": edit_entry,
    "the kept state is edited": edit_kept_state,
    "the tail is cut off, and the plane's file": cut_file,
    "the chain is written anew, and the plane's file": forge_file,
}


def _by_chain(scene: Scene) -> None:
    audit(scene.world.platform)


def _by_plane(scene: Scene) -> None:
    noted = LedgerHeads(scene.heads, say=_raise).all()
    audit(scene.world.platform, noted={name: [head] for name, head in noted.items()})


def _by_signature(scene: Scene) -> None:
    if not all(map(scene.key.has_signed, records_in(scene.heads))):
        raise LedgerTampered("ledger-heads.jsonl", value="a signature of something else")


def _by_registry(scene: Scene) -> None:
    # Asked at the model itself: which one is current, only the ledger says.
    for heads in scene.world.memory.registry.anchors.values():
        audit(scene.world.platform, noted={name: [head] for name, head in heads.items()})


def _by_copy(scene: Scene) -> None:
    """What an alert named, or the receiver of the plane's heads has."""
    audit(scene.world.platform, noted={str(ENDPOINT): scene.sent})


def _by_next_step(scene: Scene) -> None:
    scene.plane_was_restarted()
    if trouble := invariants.the_ledger_is_the_one_that_was_noted(scene.world.platform, ENDPOINT):
        raise LedgerRewritten("the next release", value=trouble)
    ledger_heads.check(scene.world.platform, ENDPOINT)


FINDERS: dict[str, Callable[[Scene], None]] = {
    "chain alone": _by_chain,
    "plane's heads": _by_plane,
    "their signatures": _by_signature,
    "registry's head": _by_registry,
    "alert, receiver": _by_copy,
    "next step forward": _by_next_step,
}


def finds(scene: Scene) -> dict[str, str]:
    """Finder -> what it says; empty for one that notices nothing."""
    found = {}
    for name, finder in FINDERS.items():
        try:
            finder(scene)
            found[name] = ""
        except MlpipexError as error:
            found[name] = f"{type(error).__name__}: {error.value}"
    return found
