"""Reading prediction logs while their model servers write them.

A segment is renamed when it is closed and deleted when it is old, so a list of paths may be out of date as soon as it
is made; :func:`read_segments` is the one place that knows.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

STATS_FILE = "stats.json"
T = TypeVar("T")
#: ``00000001.jsonl.open`` while it is written, ``00000001.jsonl`` once it is closed.
SEGMENT = re.compile(r"(\d{8})\.jsonl(\.open)?")
#: A log that lives says every second how much it lost; after this long (seconds) its silence counts as loss.
SILENT_S = 5.0
#: Between two tries a log may close one segment or delete one; three in a row do not meet one moment of it.
MAX_TRIES = 3


@dataclass(frozen=True)
class LogStats:
    """What a model server last said of its log.

    ``reported_at`` (epoch seconds): when; ``None`` if the log was closed in good order or never began. A server that
    lives says it every second, so a word much older than that means that its disk takes nothing.
    """

    written: int = 0
    dropped: int = 0
    reported_at: float | None = None


def read_stats(folder: Path) -> LogStats:
    """Counters as last written; zeros where there is no log yet."""
    try:
        stats = json.loads((folder / STATS_FILE).read_text(encoding="utf-8"))
        return LogStats(
            written=int(stats["written"]),
            dropped=int(stats["dropped"]),
            reported_at=None if stats["closed"] else float(stats["t"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return LogStats()


def is_silent(folder: Path, until: datetime) -> bool:
    """Whether a log that lives has not said for long what it lost, and so may have lost all up to ``until``."""
    reported_at = read_stats(folder).reported_at
    return reported_at is not None and min(until.timestamp(), time.time()) - reported_at > SILENT_S


def segments(folder: Path) -> list[Path]:
    """Segments in order of writing, the open one last."""
    return sorted((p for p in folder.glob("*.jsonl*") if SEGMENT.fullmatch(p.name)), key=lambda p: p.name[:8])


def read_segments(
    folders: Sequence[Path],
    read: Callable[[list[Path]], T],
    *,
    gone: type[Exception] = FileNotFoundError,
    since: float = 0.0,
) -> T:
    """What ``read`` makes of the segments of ``folders``; it is asked again where one of them went away meanwhile.

    :param read: may be called up to :data:`MAX_TRIES` times, and must leave nothing behind where it raises.
    :param gone: what ``read`` raises where a segment is not there; of DuckDB its ``IOException``.
    :param since: epoch seconds; a segment that was last written before then is left out.
    :raises FileNotFoundError, gone: a segment that is there cannot be read.
    """
    for tries_left in reversed(range(MAX_TRIES)):
        try:
            paths = [path for folder in folders for path in segments(folder)]
            # Nothing is written to a closed segment: one that ends before the window has nothing in it.
            return read([path for path in paths if not since or path.stat().st_mtime >= since])
        except (FileNotFoundError, gone):
            # A segment was closed, which renames it, or deleted since it was listed.
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """Every whole record, markers of lost ones included; a line torn by a crash is skipped."""
    for path in segments(folder):
        with path.open("rb") as stream:
            for line in stream:
                with suppress(orjson.JSONDecodeError):
                    yield orjson.loads(line)
