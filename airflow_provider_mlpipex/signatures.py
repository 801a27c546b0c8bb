"""Ed25519 signatures of small records: whoever has the public key can show that nobody else has written them.

Signed are the bytes of the record as JSON without its ``signature``, keys in order and no space between, so that any
tool can verify it: ``openssl pkeyutl -verify -pubin -inkey PUBLIC.pem -rawin -in RECORD -sigfile SIGNATURE``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "signature"


class Signer:
    """:param key_file: an Ed25519 private key, PEM without a passphrase, that nobody but its owner can read.

    :raises ConfigurationInvalid: it is none, or others can read it.
    """

    def __init__(self, key_file: Path) -> None:
        self._key = _private_key(key_file)

    def signed(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """``record`` with its signature, in base64."""
        return {**record, SIGNATURE: base64.b64encode(self._key.sign(signed_bytes(record))).decode()}


class PublicKey:
    """:param file: the public half, PEM. :raises ConfigurationInvalid: it is none."""

    def __init__(self, file: Path) -> None:
        self._key = _public_key(file)

    def has_signed(self, record: Mapping[str, Any]) -> bool:
        """Whether the holder of the private half has signed exactly this record."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(base64.b64decode(str(record[SIGNATURE]), validate=True), signed_bytes(record))
        except (KeyError, binascii.Error, InvalidSignature):
            return False
        return True


def signed_bytes(record: Mapping[str, Any]) -> bytes:
    """What is signed of ``record``."""
    content = {name: value for name, value in record.items() if name != SIGNATURE}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _private_key(file: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    made = "make one: openssl genpkey -algorithm ed25519 -out KEY.pem; chmod 0600 KEY.pem"
    try:
        status, key = file.stat(), load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise _no_key(file, error.strerror or "unreadable", "an Ed25519 private key", made) from None
    except (ValueError, TypeError):
        raise _no_key(file, "no private key without a passphrase", "an Ed25519 private key, PEM", made) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(file, "a key of another kind", "an Ed25519 private key", made)
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        mode = f"owner {status.st_uid}, mode {status.st_mode & 0o777:04o}"
        raise _no_key(file, mode, f"owner {os.geteuid()}, and nobody else may read it", "make a new one: others saw it")
    return key


def _public_key(file: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    remedy = "write it: openssl pkey -in KEY.pem -pubout -out PUBLIC.pem"
    try:
        key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise _no_key(file, error.strerror or "unreadable", "an Ed25519 public key", remedy) from None
    except ValueError:
        raise _no_key(file, "no public key", "an Ed25519 public key, PEM", remedy) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(file, "a key of another kind", "an Ed25519 public key", remedy)
    return key


def _no_key(file: Path, value: str, limit: str, remedy: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(f"key {file.name}", value=value, limit=limit, remedy=remedy)
