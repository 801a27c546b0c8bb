"""Files that a reader sees whole or not at all: the one way in which this package writes them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def atomic_write(
    path: Path, data: str | bytes, *, mode: int = 0o600, fsync: bool = False, scratch: Path | None = None
) -> None:
    """Put ``data`` at ``path``: a crash, a full disk and a reader in between leave the old file or the new one.

    :param mode: of the file, from its first byte on.
    :param fsync: whether it must outlast the machine's going down the moment after.
    :param scratch: a folder on the same filesystem to write in first, where somebody watches that of ``path``.
    :raises OSError: it could not be written; what stood there before still does.
    """
    with atomic_file(path, fsync=fsync, scratch=scratch) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_file(path: Path, *, fsync: bool = False, scratch: Path | None = None) -> Iterator[Path]:
    """A file to fill, beside ``path`` or in ``scratch``, which is put in its place at the end: for libraries that write
    by themselves. Parameters and errors as of :func:`atomic_write`; its mode is that of any new file."""
    part = (scratch or path.parent) / f".{path.name}.{uuid.uuid4().hex[:12]}"
    try:
        yield part
        if fsync:
            _sync(part)
        os.replace(part, path)
        if fsync:
            _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
