"""Model artifacts by the digest of their bytes: verified at registration, before loading, and in the plane's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from airflow_provider_mlpipex.domain.errors import ArtifactMismatch, RegistryUnavailable
from airflow_provider_mlpipex.domain.urls import hide_credentials
from airflow_provider_mlpipex.serving import cancelling

#: Written by MLflow into a download, never into what was logged.
_ADDED_BY_DOWNLOAD = frozenset({"registered_model_meta"})
DOWNLOAD_TIMEOUT_S = 300
_CHUNK = 1 << 20
_POLL_S = 0.05


def directory_digest(folder: Path) -> str:
    """SHA-256 over every file's relative path, length and bytes, in sorted order; 64 hex digits.

    Times and modes are left out, as is ``registered_model_meta``, so the digest is the same before upload and after
    download. A symbolic link is refused: what it points to is not in the artifact.

    :raises ArtifactMismatch: the folder is missing, empty, or holds a symbolic link.
    """
    files = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    total = hashlib.sha256()
    counted = 0
    for path in files:
        name = path.relative_to(folder).as_posix()
        if name in _ADDED_BY_DOWNLOAD:
            continue
        if path.is_symlink():
            raise _mismatch(folder, value=f"symbolic link {name}", limit="regular files only")
        content = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                content.update(chunk)
        total.update(f"{len(name)}:{name}:{path.stat().st_size}:{content.hexdigest()}\n".encode())
        counted += 1
    if counted == 0:
        raise _mismatch(folder, value="no files", limit="a model directory")
    return total.hexdigest()


def verify_directory(folder: Path, digest: str) -> None:
    """:raises ArtifactMismatch: ``folder`` does not hold the bytes of ``digest``."""
    actual = directory_digest(folder)
    if actual != digest:
        raise _mismatch(folder, value=actual, limit=f"registered digest {digest}")


class ArtifactCache:
    """Content-addressed model directories under ``root``. What is cached needs no registry and no network."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def fetch(self, uri: str, digest: str, *, tracking_uri: str) -> Path:
        """The local directory of artifact ``uri``, verified against ``digest``.

        :param uri: what ``mlflow artifacts download -u`` takes, a ``file:`` uri, or a path.
        :raises ArtifactMismatch: downloaded or cached bytes are not the registered ones.
        :raises RegistryUnavailable: it is not cached and cannot be downloaded.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self._root / digest
        with exclusive(self._root / f".{digest}.lock"):
            if not target.is_dir():
                with tempfile.TemporaryDirectory(dir=self._root, prefix=".fetch-") as scratch:
                    fetched = _obtain(uri, Path(scratch), tracking_uri)
                    verify_directory(fetched, digest)
                    os.replace(fetched, target)
            verify_directory(target, digest)
            # When it was last used, for whoever collects what nobody uses any more.
            os.utime(target)
        return target


def fetch_text(uri: str, *, tracking_uri: str) -> str:
    """The text of the one file that ``uri`` names, as :meth:`ArtifactCache.fetch` takes it.

    :raises RegistryUnavailable: it cannot be downloaded, or is no single file of text.
    """
    parts = urlsplit(uri)
    with tempfile.TemporaryDirectory(prefix="mlpipex-fetch-") as scratch:
        fetched = (
            Path(unquote(parts.path)) if parts.scheme in ("", "file") else _obtain(uri, Path(scratch), tracking_uri)
        )
        files = [path for path in fetched.rglob("*") if path.is_file()] if fetched.is_dir() else [fetched]
        if len(files) != 1:
            raise _unavailable(uri, f"{len(files)} files")
        try:
            return files[0].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unavailable(uri, getattr(error, "strerror", None) or "not UTF-8") from None


def _obtain(uri: str, scratch: Path, tracking_uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        source = Path(unquote(parts.path))
        if not source.is_dir():
            raise _unavailable(uri, "no such directory")
        return Path(shutil.copytree(source, scratch / "artifact", symlinks=True))
    target = scratch / "artifact"
    target.mkdir()
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "-u", uri, "-d", str(target)]
    # Ids in the environment belong to whichever server this process has worked with before.
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")},
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    }
    try:
        done = cancelling.run(command, env=environment, timeout_s=DOWNLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise _unavailable(uri, f"no download within {DOWNLOAD_TIMEOUT_S} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _unavailable(uri, hide_credentials(said)[:300])
    # MLflow downloads a directory either as itself or as one directory inside the target.
    inside = list(target.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process at a time; the others wait and then find the work done."""
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                cancelling.check()
                time.sleep(_POLL_S)
        yield


def _mismatch(folder: Path, *, value: str, limit: str) -> ArtifactMismatch:
    return ArtifactMismatch(
        f"model artifact {folder.name}",
        value=value,
        limit=limit,
        remedy="do not serve it; register the model again, and find who could write to the artifact store",
    )


def _unavailable(uri: str, why: str) -> RegistryUnavailable:
    return RegistryUnavailable(
        f"model artifact {uri}", value=why, limit="a download from the registry", remedy="start the registry, run again"
    )
