"""Room that is kept for the worst moment: on a full disk, traffic must still be taken back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

RESERVE_BYTES = 16_000_000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """A file that holds nothing but room. What it gives back is enough for routes, state and a ledger's entries.

    :param path: of the file, on the filesystem whose room it keeps.
    """

    def __init__(self, path: Path, *, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size

    def spend(self, write: Callable[[], T]) -> T:
        """The result of ``write``; where the disk is full, of a second try in the room that was kept.

        :raises OSError, MlpipexError: what ``write`` raises, where that room is gone already, or was too little.
        """
        try:
            return write()
        except Exception as error:
            if not is_full(error) or not self.free():
                raise
        return write()

    def free(self) -> bool:
        """Give the room back to the disk; false where there was none."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    @property
    def disk_is_full(self) -> bool:
        """Whether the filesystem has less left than a ledger needs for an entry."""
        stat = os.statvfs(self._path.parent)
        return stat.f_bavail * stat.f_frsize < 1_000_000

    def refill(self) -> None:
        """Keep room again, where the disk has plenty.

        :raises OSError: it has not.
        """
        stat = os.statvfs(self._path.parent)
        if self._path.exists() or stat.f_bavail * stat.f_frsize < 4 * self._size:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        finally:
            os.close(descriptor)


def is_full(error: BaseException | None) -> bool:
    """Whether ``error``, or what it came from, says that a disk has no room left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False
