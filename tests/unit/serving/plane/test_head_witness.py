"""Noted heads are signed and sent on, and nothing waits for whoever receives them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
from airflow_provider_mlpipex.serving.plane import head_witness
from airflow_provider_mlpipex.serving.plane.head_witness import HeadWitness
from airflow_provider_mlpipex.serving.plane.ledger_heads import LedgerHeads, records_in
from airflow_provider_mlpipex.signatures import PublicKey
from tests.support.polling import until
from tests.support.tampering import write_key

HEAD = "production/fraud-scorer"


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent. :param away: how many of the first it answers with 503."""

    def __init__(self, away: int = 0) -> None:
        self.got: list[dict[str, Any]] = []
        self.away = away
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://team:s3cret@127.0.0.1:{self.server_port}/heads"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_away, self.server.away = self.server.away > 0, max(0, self.server.away - 1)
        if not is_away:
            self.server.got.append(body)
        self.send_response(503 if is_away else 204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(away=2) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def head(seq: int) -> LedgerHead:
    return LedgerHead(seq=seq, hash="a" * 64)


def test_each_head_is_signed_and_reaches_the_receiver_though_that_was_away(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_witness, "_FIRST_PAUSE_S", 0.01)
    said: list[str] = []
    witness = HeadWitness(key_file=write_key(tmp_path / "key.pem"), url=receiver.url)
    heads = LedgerHeads(tmp_path / "heads.jsonl", say=lambda _, error: said.append(str(error)), witness=witness)
    for seq in (1, 2, 3):
        heads.note(HEAD, head(seq))
    until(lambda: len(receiver.got) == 3, within_s=60, what="all are received")
    assert [line["seq"] for line in receiver.got] == [1, 2, 3]
    assert receiver.got == list(records_in(tmp_path / "heads.jsonl"))
    public = PublicKey(tmp_path / "key.pub")
    assert all(map(public.has_signed, receiver.got))
    assert len(said) == 2
    assert "503" in said[0] and "s3cret" not in "".join(said)


def test_a_receiver_that_is_away_for_good_holds_up_nothing_and_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_witness, "MAX_WAITING", 3)
    hung = threading.Event()
    monkeypatch.setattr(HeadWitness, "_post", lambda *_: hung.wait())
    witness = HeadWitness(url="http://127.0.0.1:9/")
    heads = LedgerHeads(tmp_path / "heads.jsonl", say=lambda *_: None, witness=witness)
    for seq in range(1, 50):
        heads.note(HEAD, head(seq))
    assert heads.of(HEAD) == head(49)
    waiting = [witness._waiting.get_nowait()["seq"] for _ in range(witness._waiting.qsize())]
    assert waiting[-1] == 49 and len(waiting) <= 3
    hung.set()


def test_without_key_and_receiver_a_head_is_noted_as_it_always_was(tmp_path: Path) -> None:
    LedgerHeads(tmp_path / "heads.jsonl", say=lambda *_: None).note(HEAD, head(1))
    (line,) = records_in(tmp_path / "heads.jsonl")
    assert line.keys() == {"t", "endpoint", "seq", "hash"}
