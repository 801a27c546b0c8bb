"""Runtime environments: pinned by digest, built once before traffic, cached, checked. A rollback never builds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.release.lock import Lock, LockRefused, canonical_name
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.serving.artifacts import exclusive

BUILD_TIMEOUT_S = 900
_MARKER = "complete.json"
#: Our own distribution: an editable install changes with every commit, and the code version is pinned elsewhere.
_OURSELVES = "airflow-provider-mlpipex"


def provider_digest() -> str:
    """SHA-256 of the distributions installed beside the provider, sorted ``name==version`` lines."""
    lines = {f"{canonical_name(d.metadata['Name'])}=={d.version}" for d in distributions() if d.metadata["Name"]}
    return _digest(sorted(line for line in lines if not line.startswith(f"{_OURSELVES}==")))


def read_lock(lock: Path) -> Lock:
    """The lock in a file.

    :raises RuntimeMismatch: the file is missing, empty, or holds a line that does not pin one version.
    """
    try:
        return Lock.parse(lock.read_text(encoding="utf-8"))
    except OSError as error:
        raise _mismatch(lock.name, value=error.strerror or "unreadable", limit="a readable lock file") from None
    except UnicodeDecodeError:
        raise _mismatch(lock.name, value="not UTF-8", limit="a readable lock file") from None
    except LockRefused as refused:
        raise _mismatch(lock.name, value=refused.line, limit=refused.limit) from None


def lock_digest(lock: Path) -> str:
    """SHA-256 of what the lock in a file pins; comments and order make no difference."""
    return read_lock(lock).digest


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
                lock = self._kept(runtime)
                # A killed build leaves no marker; virtual environments cannot be moved, so it is built in place.
                shutil.rmtree(home, ignore_errors=True)
                _build(home, lock)
            wanted = json.loads((home / _MARKER).read_text(encoding="utf-8"))
            missing = sorted(set(wanted) - set(_installed(python)))
            if missing:
                raise _mismatch(runtime.version, value=f"missing {', '.join(missing[:5])}", limit="the lock file")
        return python

    def _kept(self, runtime: RuntimeEnvironment) -> Path:
        """The lock that ``runtime`` pins, under its digest: kept since the release was first started, so that its
        environment can be built anew when the file that the manifest named has changed or gone."""
        kept = self._root / f"{runtime.digest}.lock.txt"
        if kept.is_file() and runtime.digest in read_lock(kept).digests:
            return kept
        lock = Path(runtime.lock_uri or "")
        digests = read_lock(lock).digests
        if runtime.digest not in digests:
            raise _mismatch(runtime.version, value=digests[0], limit=f"pinned digest {runtime.digest}")
        scratch = kept.with_suffix(".new")
        scratch.write_bytes(lock.read_bytes())
        scratch.replace(kept)
        return kept


def server_environment(python: Path) -> dict[str, str]:
    """Environment variables with which ``python`` finds this package, and nothing else of the provider's."""
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")}
    environment |= {
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONUNBUFFERED": "1",
    }
    package = Path(__file__).resolve().parents[2]
    if python == Path(sys.executable):
        # What is installed is found anyhow; a checkout that this plane was started from is found only if it is named.
        if package.parent != Path(sysconfig.get_path("purelib")).resolve():
            environment["PYTHONPATH"] = str(package.parent)
    else:
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
    atomic_write(home / _MARKER, json.dumps(read_lock(lock).installed_here), fsync=True)


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
    return [f"{canonical_name(name)}=={found}" for name, _, found in pairs]


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _mismatch(what: str, *, value: str, limit: str) -> RuntimeMismatch:
    return RuntimeMismatch(
        f"runtime environment {what}",
        value=value,
        limit=limit,
        remedy="bump runtime.version in the manifest for a new environment; that opens a review",
    )
