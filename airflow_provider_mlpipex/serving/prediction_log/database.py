"""A DuckDB over prediction logs: one thread, little memory, and what is beyond that beside the logs meanwhile."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What DuckDB may keep in memory to compare logs: enough for some million pairs.
MEMORY = "1GB"
#: What it may keep to read one log through, of which little is kept.
READING_MEMORY = "256MB"
_SPILL = ".spill-"
#: Age (seconds) at which what a killed plane spilled is nobody's any more.
_SPILL_LEFT_S = 3600.0


@contextmanager
def database(root: Path, *, memory: str = READING_MEMORY) -> Iterator[Any]:
    """One thread, for the model servers beside it need the others.

    :param root: folder of all prediction logs; takes what does not fit into ``memory``.
    """
    import duckdb

    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in root.glob(f"{_SPILL}*"):
        if time.time() - left.stat().st_mtime > _SPILL_LEFT_S:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_SPILL, dir=root, ignore_cleanup_errors=True) as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "threads": 1,
            "memory_limit": memory,
            "temp_directory": spill,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=settings) as opened:
            yield opened
