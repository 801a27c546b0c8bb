"""Heads of ledgers, noted outside their database: a file that only grows, and is read when the plane starts.

Whoever can write to the ledger's database has no hand on this file, and whoever copies it elsewhere (a log shipper)
can show later what the plane was told and when.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
from airflow_provider_mlpipex.serving.plane.head_witness import HeadWitness

#: Size at which the file is put aside, in place of the one put aside before; some tens of thousands of heads.
MAX_BYTES = 8_000_000


class LedgerHeads:
    """One line of JSON a head: when, of which endpoint, and for one that was accepted, why.

    :param path: of the file. :param say: takes a failure to write, which is tried again with the next head.
    :param witness: signs each line, and sends it on.
    """

    def __init__(
        self, path: Path, *, say: Callable[[str, Exception], None], witness: HeadWitness | None = None
    ) -> None:
        self._path = path
        self._say = say
        self._witness = witness or HeadWitness()
        self._heads = {**_read(path.with_suffix(".1.jsonl")), **_read(path)}
        self._unwritten: list[dict[str, Any]] = []

    def of(self, endpoint: str) -> LedgerHead | None:
        return self._heads.get(endpoint)

    def all(self) -> dict[str, LedgerHead]:
        return dict(self._heads)

    def note(self, endpoint: str, head: LedgerHead, **why: str) -> None:
        """Remember ``head``, and write it down as soon as the disk takes it: to take traffic back needs no disk."""
        if self._heads.get(endpoint) == head and not why:
            return
        self._heads[endpoint] = head
        line = self._witness.signed(_line(endpoint, head, **why))
        self._witness.send(line, say=self._say)
        self._unwritten.append(line)
        try:
            self._make_room()
            with open(self._path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(b"".join(json.dumps(line).encode() + b"\n" for line in self._unwritten))
                file.flush()
                os.fsync(file.fileno())
            self._unwritten = []
        except OSError as error:
            self._say("heads of ledgers", error)

    def _make_room(self) -> None:
        if self._path.exists() and self._path.stat().st_size > MAX_BYTES:
            os.replace(self._path, self._path.with_suffix(".1.jsonl"))
            # Whatever is put aside next time, each endpoint's own head is in the newer file.
            again = [self._witness.signed(_line(name, head)) for name, head in self._heads.items()]
            self._unwritten = again + self._unwritten


def _line(endpoint: str, head: LedgerHead, **why: str) -> dict[str, Any]:
    return {"t": round(time.time(), 3), "endpoint": endpoint, **head.to_json(), **why}


def _read(path: Path) -> dict[str, LedgerHead]:
    """The last head of each endpoint; a line that a crash left torn is none."""
    heads: dict[str, LedgerHead] = {}
    try:
        for record in records_in(path):
            heads[str(record["endpoint"])] = LedgerHead(seq=record["seq"], hash=record["hash"])
    except OSError:
        pass
    return heads


def records_in(path: Path) -> Iterator[dict[str, Any]]:
    """What each line of such a file says that is whole.

    :raises OSError: it cannot be read.
    """
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            LedgerHead(seq=record["seq"], hash=record["hash"])
        except (ValueError, TypeError, KeyError):
            continue
        yield record
