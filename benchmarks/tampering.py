"""Tampering: what somebody does who can write to the ledger's database, and to more, and who notices.

Release 1.1.0 was promoted over 1.0.0 and taken back. Each attack is made on a SQLite database of its own, with the
triggers out of the way; then every one looks who could notice. ``docs/security.md`` has this table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.table import Bar, Table
from tests.support.tampering import ALL_ATTACKS, FINDERS, finds, make_scene


def run(*, quick: bool = False) -> Table:
    """:param quick: makes no difference."""
    table = Table(("attack", *FINDERS))
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="mlpipex-tampering-") as folder:
        for number, (attack, make) in enumerate(ALL_ATTACKS.items()):
            place = Path(folder) / str(number)
            place.mkdir()
            scene = make_scene(place)
            assert not any(finds(scene).values()), "an honest ledger is found fault with"
            make(scene)
            found = finds(scene)
            unnoticed += not any(found.values())
            table.rows.append((attack, *(said.partition(":")[0] or "-" for said in found.values())))
    table.bars.append(Bar("attacks that nobody notices", unnoticed, 0))
    return table
