"""The access log of an Envoy, one line an answered request: how large it may grow before it is put aside."""

from __future__ import annotations

import os
from pathlib import Path

#: Size at which the log is put aside, in place of the one put aside before.
MAX_BYTES = 64_000_000


def put_aside(log: Path) -> bool:
    """Whether ``log`` was too large and stands elsewhere now; its Envoy goes on writing there until it is told."""
    if not log.exists() or log.stat().st_size <= MAX_BYTES:
        return False
    os.replace(log, log.with_suffix(".1.jsonl"))
    return True
