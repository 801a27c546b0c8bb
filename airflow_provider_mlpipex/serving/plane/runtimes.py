"""Runtime environments: pinned by digest, built once before traffic, cached, checked. A rollback never builds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.release.lock import Lock, LockRefused, canonical_name
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.serving import cancelling
from airflow_provider_mlpipex.serving.artifacts import exclusive, fetch_text
from airflow_provider_mlpipex.serving.plane import provider_packages

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
    return _parse(_text_of(lock), lock.name)


def _text_of(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8")
    except OSError as error:
        raise _mismatch(lock.name, value=error.strerror or "unreadable", limit="a readable lock file") from None
    except UnicodeDecodeError:
        raise _mismatch(lock.name, value="not UTF-8", limit="a readable lock file") from None


def _parse(text: str, name: str) -> Lock:
    try:
        return Lock.parse(text)
    except LockRefused as refused:
        raise _mismatch(name, value=refused.line, limit=refused.limit) from None


def lock_digest(lock: Path) -> str:
    """SHA-256 of what the lock in a file pins; comments and order make no difference."""
    return read_lock(lock).digest


class RuntimeCache:
    """Virtual environments under ``root``, one a lock digest, each built from the lock that lies beside it.

    :param tracking_uri: MLflow, which keeps the lock of each release with its model.
    """

    def __init__(self, root: Path, *, tracking_uri: str = "") -> None:
        self._root = root
        self._tracking_uri = tracking_uri

    def python_for(self, runtime: RuntimeEnvironment, *, model_dir: Path | None = None) -> Path:
        """The interpreter that serves ``runtime``; builds a locked environment on first use.

        :param model_dir: the model that it will serve; says which packages matter when a release starts again.
        :raises RuntimeMismatch: it is not, or cannot be made, what the release pins.
        """
        if runtime.kind == "provider":
            return self._provider(runtime, model_dir)
        if runtime.kind == "lock":
            return self._locked(runtime)
        raise _mismatch(
            runtime.version, value=runtime.image or "image", limit="environments of this machine: provider or lock"
        )

    def _provider(self, runtime: RuntimeEnvironment, model_dir: Path | None) -> Path:
        """The provider's own interpreter, as long as what serves is what the release pinned.

        Where it has changed since the release first started here, an environment is built of the packages of then.
        """
        packages = self._root / f"provider-{runtime.digest}.json"
        here = list(distributions())
        now = provider_packages.installed(here, without=_OURSELVES)
        digest = provider_digest()
        if digest == runtime.digest:
            provider_packages.keep(packages, now)
            return Path(sys.executable)
        before = provider_packages.kept(packages)
        model = provider_packages.requirements_of(model_dir) if model_dir is not None else None
        if not before or model_dir is None:
            raise _mismatch(runtime.version, value=digest, limit=f"pinned digest {runtime.digest}")
        changed = provider_packages.changed(before, now, here, model=model)
        if not changed:
            return Path(sys.executable)
        return self._as_before(runtime, before, provider_packages.serving(before, here, model=model), changed)

    def _as_before(
        self, runtime: RuntimeEnvironment, before: Mapping[str, str], serving: Collection[str], changed: Sequence[str]
    ) -> Path:
        """An environment of the packages that served when the release first started; built once, then kept.

        :raises RuntimeMismatch: it cannot be built here; says which packages have changed.
        """
        pins = "".join(f"{name}=={before[name]}\n" for name in sorted(serving))
        lock = self._root / f"provider-{runtime.digest}.lock.txt"
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not lock.exists():
            atomic_write(lock, pins)
        try:
            return self._locked(
                RuntimeEnvironment(version=runtime.version, kind="lock", digest=lock_digest(lock), lock_uri=str(lock))
            )
        except RuntimeMismatch as error:
            raise _mismatch(
                runtime.version,
                value=f"{', '.join(changed[:5])}; and it could not be built anew: {error.value}",
                limit="the packages that the release was started with",
            ) from error

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
            # When it was last used, for whoever collects what nobody uses any more.
            os.utime(home / _MARKER)
        return python

    def paths_of(self, runtime: RuntimeEnvironment) -> list[Path]:
        """All that is kept here for ``runtime``, whether it is there or not."""
        digest, anew = runtime.digest, self._root / f"provider-{runtime.digest}.lock.txt"
        paths = [self._root / digest, self._root / f"{digest}.lock.txt", self._root / f"provider-{digest}.json", anew]
        if anew.is_file():
            built = lock_digest(anew)
            paths += [self._root / built, self._root / f"{built}.lock.txt"]
        return paths

    def lock_text(self, runtime: RuntimeEnvironment) -> str:
        """The lock that ``runtime`` pins: kept here under its digest, or from where its release says.

        :raises RuntimeMismatch: there is no such lock any more. :raises RegistryUnavailable: MLflow does not give it.
        """
        kept = self._root / f"{runtime.digest}.lock.txt"
        if kept.is_file() and runtime.digest in read_lock(kept).digests:
            return kept.read_text(encoding="utf-8")
        uri = runtime.lock_uri or ""
        text = fetch_text(uri, tracking_uri=self._tracking_uri) if urlsplit(uri).scheme else _text_of(Path(uri))
        digests = _parse(text, uri).digests
        if runtime.digest not in digests:
            raise _mismatch(runtime.version, value=digests[0], limit=f"pinned digest {runtime.digest}")
        return text

    def _kept(self, runtime: RuntimeEnvironment) -> Path:
        """:meth:`lock_text` as a file under its digest: an environment can be built anew when the file that the
        manifest named has changed or gone, and while MLflow is away."""
        kept = self._root / f"{runtime.digest}.lock.txt"
        atomic_write(kept, self.lock_text(runtime))
        return kept


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
        done = cancelling.run(command, timeout_s=BUILD_TIMEOUT_S)
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
    return [f"{canonical_name(name)}=={version}" for name, _, version in pairs]


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _mismatch(what: str, *, value: str, limit: str) -> RuntimeMismatch:
    return RuntimeMismatch(
        f"runtime environment {what}",
        value=value,
        limit=limit,
        remedy="bump runtime.version in the manifest for a new environment; that opens a review",
    )
