"""A PostgreSQL server of our own on a unix socket, for the tests that need the real one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _as_server_user() -> list[str]:
    """initdb refuses to run as root; Debian's package brings a user for it."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return ["impossible"]
    return ["runuser", "-u", "postgres", "--"]


class PostgresServer:
    """One temporary cluster. ``url`` is what SQLAlchemy takes; ``stop`` and ``start`` play an outage."""

    def __init__(self, folder: Path, binaries: Path, prefix: list[str]) -> None:
        self._data, self._folder, self._binaries, self._prefix = folder / "data", folder, binaries, prefix
        self.url = f"postgresql+psycopg://postgres@/postgres?host={folder}"

    def create(self) -> None:
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync")

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self._folder} -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def _run(self, binary: str, *arguments: str) -> None:
        subprocess.run(
            [*self._prefix, str(self._binaries / binary), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=60,
        )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; skips loudly where there is none, and fails instead under ``CI=true``."""
    binaries, prefix = _binaries(), _as_server_user()
    if binaries is None or prefix == ["impossible"]:
        reason = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="mlpx-pg-"))
    if prefix:
        shutil.chown(folder, "postgres")
    folder.chmod(0o755)
    server = PostgresServer(folder, binaries, prefix)
    try:
        server.create()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
