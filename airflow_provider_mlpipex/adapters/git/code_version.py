"""Which code trained a model: the git commit of a checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

#: For images and machines that have no checkout: whoever builds them knows the commit.
CODE_VERSION_VARIABLE = "MLPIPEX_CODE_VERSION"
_GIT_TIMEOUT_S = 20


def code_version(cwd: Path) -> str:
    """The commit that ``cwd`` is at, or what ``MLPIPEX_CODE_VERSION`` says; empty where neither is known.

    Changes that are not committed give ``<commit>-dirty-<digest of the changes>``: a model trained on other changes is
    another model. Registration refuses an empty code version.
    """
    if stated := os.environ.get(CODE_VERSION_VARIABLE, "").strip():
        return stated
    commit = _git(cwd, "rev-parse", "HEAD")
    if commit is None:
        return ""
    status = _git(cwd, "status", "--porcelain") or b""
    head = commit.decode().strip()
    if not status:
        return head
    digest = hashlib.sha256(status + (_git(cwd, "diff", "HEAD") or b""))
    for name in (_git(cwd, "ls-files", "--others", "--exclude-standard", "-z") or b"").split(b"\0"):
        path = cwd / os.fsdecode(name)
        if name and path.is_file():
            digest.update(str(path.stat().st_mtime_ns).encode())
    return f"{head}-dirty-{digest.hexdigest()[:8]}"


def _git(cwd: Path, *arguments: str) -> bytes | None:
    """What git prints, or ``None`` where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
