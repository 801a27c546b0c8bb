"""Whose turn it is to serve a release: of several processes with its model loaded, one answers, the others wait.

The turn is a record lock on a file beside the socket. It ends with its holder, however that ends, and who waits
has it the same moment: no pid to compare, nothing to time out. A record lock and no ``flock``, because the children
that a model may start would inherit that and keep it beyond their parent's death.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

#: ``struct flock`` of Linux, as ``fcntl(2)`` takes it: type, whence, start, length, pid.
_FLOCK = "hhqqi"


def take_turn(socket: Path) -> int:
    """Wait until no other process serves ``socket``; the descriptor that holds the turn for as long as it is open."""
    descriptor = os.open(_lock(socket), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    return descriptor


def whose_turn(socket: Path) -> int | None:
    """Pid of the process that serves ``socket``, as this process counts pids; ``None`` where none does."""
    try:
        descriptor = os.open(_lock(socket), os.O_RDWR)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else int(pid)
    finally:
        os.close(descriptor)


def _lock(socket: Path) -> Path:
    return socket.with_suffix(".turn")
