"""Files that a reader sees whole or not at all: the one way in which this package writes a small one."""

from __future__ import annotations

import os
import uuid
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
    part = (scratch or path.parent) / f".{path.name}.{uuid.uuid4().hex[:12]}"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            if fsync:
                os.fsync(descriptor)
        os.replace(part, path)
        if fsync:
            _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
