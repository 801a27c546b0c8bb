"""Signatures of records, held against openssl."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.signatures import PublicKey, Signer, signed_bytes
from tests.support.tampering import write_key

RECORD = {"t": 1.5, "endpoint": "production/prüf", "seq": 41, "hash": "a" * 64}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "key.pem")


def test_openssl_verifies_what_is_signed_and_nothing_else(key: Path, tmp_path: Path) -> None:
    signed = Signer(key).signed(RECORD)
    (tmp_path / "signature").write_bytes(base64.b64decode(signed["signature"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key.with_suffix(".pub"), "-rawin"]
    command += ["-sigfile", tmp_path / "signature", "-in", tmp_path / "record"]
    for content, accepted in ((signed_bytes(signed), True), (signed_bytes({**signed, "seq": 42}), False)):
        (tmp_path / "record").write_bytes(content)
        assert (subprocess.run(command, capture_output=True, check=False).returncode == 0) is accepted


@pytest.mark.parametrize(
    "change", [{"seq": 42}, {"more": 1}, {"signature": "AAAA"}, {"signature": "?"}, {"signature": None}]
)
def test_a_record_that_was_changed_was_not_signed(key: Path, change: dict[str, object]) -> None:
    signed, public = Signer(key).signed(RECORD), PublicKey(key.with_suffix(".pub"))
    assert public.has_signed(signed)
    assert public.has_signed(dict(reversed(signed.items()))), "the order of its fields means nothing"
    assert not public.has_signed({**signed, **change})
    assert not public.has_signed(RECORD)


def test_somebody_elses_key_has_not_signed_it(key: Path, tmp_path: Path) -> None:
    other = write_key(tmp_path / "other.pem")
    assert not PublicKey(other.with_suffix(".pub")).has_signed(Signer(key).signed(RECORD))


def test_a_key_that_others_can_read_is_refused(key: Path) -> None:
    key.chmod(0o640)
    with pytest.raises(ConfigurationInvalid, match=r"key key\.pem.*mode 0640"):
        Signer(key)


@pytest.mark.parametrize("content", [None, b"", b"not a key", "public", "rsa"])
def test_what_is_no_such_key_is_refused_in_words(key: Path, tmp_path: Path, content: bytes | str | None) -> None:
    file = tmp_path / "given.pem"
    if content == "public":
        content = key.with_suffix(".pub").read_bytes()
    elif content == "rsa":
        subprocess.run(["openssl", "genrsa", "-out", file, "2048"], check=True, capture_output=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    if file.exists():
        file.chmod(0o600)
    with pytest.raises(ConfigurationInvalid, match=r"given\.pem.*openssl genpkey"):
        Signer(file)
    if content != key.with_suffix(".pub").read_bytes():
        with pytest.raises(ConfigurationInvalid, match=r"given\.pem.*openssl pkey"):
            PublicKey(file)
