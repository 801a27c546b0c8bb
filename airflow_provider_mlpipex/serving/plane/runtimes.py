"""Runtime environments: pinned by digest, built once before traffic, cached, checked. A rollback never builds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.serving.artifacts import exclusive

BUILD_TIMEOUT_S = 900
_MARKER = "complete.json"
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([A-Za-z0-9.!+_-]+)(?:\s*;.*)?")
#: Our own distribution: an editable install changes with every commit, and the code version is pinned elsewhere.
_OURSELVES = "airflow-provider-mlpipex"


def provider_digest() -> str:
    """SHA-256 of the distributions installed beside the provider, sorted ``name==version`` lines."""
    lines = {f"{_canonical(d.metadata['Name'])}=={d.version}" for d in distributions() if d.metadata["Name"]}
    return _digest(sorted(line for line in lines if not line.startswith(f"{_OURSELVES}==")))


def lock_lines(lock: Path) -> list[str]:
    """The requirements of a lock file, normalised and sorted.

    :raises RuntimeMismatch: the file is missing, empty, or holds a line that does not pin one version.
    """
    try:
        text = lock.read_text(encoding="utf-8")
    except OSError as error:
        raise _mismatch(lock.name, value=error.strerror or "unreadable", limit="a readable lock file") from None
    lines = [line for raw in text.splitlines() if (line := re.sub(r"(^|\s)#.*$", "", raw).strip())]
    loose = [line for line in lines if not _PINNED.fullmatch(line)]
    if loose or not lines:
        raise _mismatch(lock.name, value=loose[0] if loose else "no lines", limit="name==version on every line")
    return sorted(f"{_canonical(m.group(1))}=={m.group(2)}" for m in map(_PINNED.fullmatch, lines) if m)


def lock_digest(lock: Path) -> str:
    """SHA-256 of :func:`lock_lines`; comments and order make no difference."""
    return _digest(lock_lines(lock))


class RuntimeCache:
    """Virtual environments under ``root``, one a lock digest."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def python_for(self, runtime: RuntimeEnvironment) -> Path:
        """The interpreter that serves ``runtime``; builds a locked environment on first use.

        :raises RuntimeMismatch: it is not, or cannot be made, what the release pins.
        """
        if runtime.kind == "provider":
            return self._provider(runtime)
        if runtime.kind == "lock":
            return self._locked(runtime)
        raise _mismatch(
            runtime.version, value=runtime.image or "image", limit="environments of this machine: provider or lock"
        )

    def _provider(self, runtime: RuntimeEnvironment) -> Path:
        found = provider_digest()
        if found != runtime.digest:
            raise _mismatch(runtime.version, value=found, limit=f"pinned digest {runtime.digest}")
        return Path(sys.executable)

    def _locked(self, runtime: RuntimeEnvironment) -> Path:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = self._root / runtime.digest
        python = home / "bin" / "python"
        with exclusive(self._root / f".{runtime.digest}.lock"):
            if not (home / _MARKER).is_file():
                lock = Path(runtime.lock_uri or "")
                if lock_digest(lock) != runtime.digest:
                    raise _mismatch(runtime.version, value=lock_digest(lock), limit=f"pinned digest {runtime.digest}")
                # A killed build leaves no marker; virtual environments cannot be moved, so it is built in place.
                shutil.rmtree(home, ignore_errors=True)
                _build(home, lock)
            wanted = json.loads((home / _MARKER).read_text(encoding="utf-8"))
            missing = sorted(set(wanted) - set(_installed(python)))
            if missing:
                raise _mismatch(runtime.version, value=f"missing {', '.join(missing[:5])}", limit="the lock file")
        return python


def server_environment(python: Path) -> dict[str, str]:
    """Environment variables with which ``python`` finds this package, and nothing else of the provider's."""
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")}
    environment |= {
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONUNBUFFERED": "1",
    }
    if python != Path(sys.executable):
        package = Path(__file__).resolve().parents[1]
        link = python.parents[1] / "provider"
        link.mkdir(exist_ok=True)
        target = link / package.name
        if not target.exists() or target.resolve() != package:
            target.unlink(missing_ok=True)
            target.symlink_to(package)
        environment["PYTHONPATH"] = str(link)
    return environment


def _build(home: Path, lock: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if uv.is_file():
        _run(str(uv), "venv", "--quiet", "--python", sys.executable, str(home))
        _run(str(uv), "pip", "install", "--quiet", "--python", str(home / "bin" / "python"), "-r", str(lock))
    else:
        _run(sys.executable, "-m", "venv", str(home))
        _run(str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(lock))
    scratch = home / f".{_MARKER}"
    scratch.write_text(json.dumps(lock_lines(lock)), encoding="utf-8")
    scratch.replace(home / _MARKER)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise _mismatch(
            Path(command[-1]).name, value="still building", limit=f"an environment built within {BUILD_TIMEOUT_S} s"
        ) from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _mismatch(
            Path(command[-1]).name, value=said[:300], limit="an environment that can be built from its lock"
        )


def _installed(python: Path) -> list[str]:
    listing = (
        "import importlib.metadata as m, json; "
        "print(json.dumps([f\"{d.metadata['Name']}=={d.version}\" for d in m.distributions() if d.metadata['Name']]))"
    )
    limit = "an interpreter that starts"
    try:
        done = subprocess.run([str(python), "-c", listing], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _mismatch(python.parents[1].name, value=type(error).__name__, limit=limit) from None
    if done.returncode != 0:
        raise _mismatch(python.parents[1].name, value=done.stderr.strip()[-200:], limit=limit)
    pairs = (line.partition("==") for line in json.loads(done.stdout))
    return [f"{_canonical(name)}=={found}" for name, _, found in pairs]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _mismatch(what: str, *, value: str, limit: str) -> RuntimeMismatch:
    return RuntimeMismatch(
        f"runtime environment {what}",
        value=value,
        limit=limit,
        remedy="bump runtime.version in the manifest for a new environment; that opens a review",
    )
