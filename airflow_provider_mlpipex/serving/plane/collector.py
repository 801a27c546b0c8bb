"""The collector: what a plane keeps of releases that it no longer runs, and when that may go.

Everything else that grows has a bound of its own. What stays when a release is retired has none: its model, its
environment, its server's folder, its predictions and their sketches. A thing is garbage when no release that is kept
uses it *and* it has not been used for so many days; both are looked at again the moment it is deleted.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.serving.artifacts import exclusive
from airflow_provider_mlpipex.serving.plane.runtimes import lock_digest
from airflow_provider_mlpipex.serving.plane.state import read_memory
from airflow_provider_mlpipex.serving.state_dir import Places

DAY_S = 86_400.0
#: Days without use after which a model, an environment or a server's folder of a retired release is garbage. They can
#: be had again: the registry has the model, and its lock the environment.
DAYS = 14.0
#: Days after which its predictions and sketches are: labels may come late, and they cannot be had again.
LOG_DAYS = 90.0
#: Days after which what a killed download has left is.
SCRATCH_DAYS = 1.0
_TRASH = ".trash-"
#: Kinds that are named by their digest, and guarded by its lock.
_LOCKED = frozenset({"model", "environment"})


@dataclass(frozen=True)
class Garbage:
    """:param used: when it was last written or started from, epoch seconds. :param size: bytes on disk."""

    kind: str
    path: Path
    used: float
    size: int

    def to_json(self) -> dict[str, object]:
        return {"kind": self.kind, "path": str(self.path), "used": self.used, "bytes": self.size}


class _Candidate(NamedTuple):
    kind: str
    path: Path
    days: float


class Collector:
    """:param state_dir: of the plane, which may run meanwhile.
    :param days: for what can be had again. :param log_days: for predictions and sketches.
    :param workers: folder of the environments that workers build to train and to prove models in: use alone counts.
    :param pages: folders of pages for people (drift, Data Docs), which nothing refers to but alerts: age alone counts.

    :raises ConfigurationInvalid: no plane has run there, or what it remembers cannot be read: then nothing is garbage.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        days: float = DAYS,
        log_days: float = LOG_DAYS,
        workers: Path | None = None,
        pages: Collection[Path] = (),
    ) -> None:
        if not (state_dir / "state.json").is_file():
            raise ConfigurationInvalid(
                "state folder of the plane",
                value=str(state_dir),
                limit="a folder in which a plane has run",
                remedy="name it: --state-dir, or MLPIPEX_STATE_DIR",
            )
        self._places = Places(state_dir)
        self._days = days
        self._log_days = log_days
        self._workers = workers
        self._pages = pages

    def find(self) -> list[Garbage]:
        """What may go, the largest first. Nothing is changed."""
        candidates = (self._looked_at(candidate) for candidate in self._candidates())
        return sorted(
            (garbage for garbage in candidates if garbage), key=lambda garbage: (-garbage.size, str(garbage.path))
        )

    def collect(self) -> list[Garbage]:
        """Delete what :meth:`find` finds; what was deleted. What is in use again meanwhile stays."""
        return [garbage for garbage in self.find() if self._delete(garbage)]

    def _delete(self, garbage: Garbage) -> bool:
        digest = garbage.path.name.partition(".")[0]
        # Who fetches a model, or builds an environment, holds this lock and says in it that it is used again.
        with exclusive(garbage.path.parent / f".{digest}.lock") if garbage.kind in _LOCKED else nullcontext():
            still = next((each for each in self._candidates() if each.path == garbage.path), None)
            if still is None or self._looked_at(still) is None:
                return False
            _delete(garbage.path)
        return True

    @staticmethod
    def _looked_at(candidate: _Candidate) -> Garbage | None:
        used, size = _use(candidate.path)
        if used > time.time() - candidate.days * DAY_S:
            return None
        return Garbage(kind=candidate.kind, path=candidate.path, used=used, size=size)

    def _candidates(self) -> Iterator[_Candidate]:
        """What no kept release uses now, however young."""
        places = self._places
        kept = [
            (EndpointRef.parse(name), release)
            for name, held in read_memory(places.memory).endpoints.items()
            for release in held.releases.values()
        ]
        used = {release.model.artifact_digest for _, release in kept}
        used |= _runtimes(places.runtimes, [release for _, release in kept])
        used |= {places.server(endpoint, release.id).name for endpoint, release in kept}
        used |= {path.stem.removesuffix("--standby") for path in places.children.glob("*.json")}
        logs = {places.prediction_log(endpoint, release.id) for endpoint, release in kept}
        logs |= {places.sketches(endpoint, release.id).with_suffix("") for endpoint, release in kept}
        trash = [places.artifacts, places.runtimes, *([self._workers] if self._workers else [])]
        sketches = (places.root / "sketches").glob("*/*/*.sqlite*")
        for kind, paths, days in (
            ("model", _but(places.artifacts.glob("[!.]*"), used), self._days),
            ("environment", _but(_environments(places.runtimes), used), self._days),
            ("environment", _environments(self._workers) if self._workers else (), self._days),
            ("server", _but(places.servers.glob("[!.]*"), used), self._days),
            ("predictions", (p for p in places.predictions.glob("*/*/*") if p not in logs), self._log_days),
            ("sketches", (p for p in sketches if p.with_suffix("") not in logs), self._log_days),
            ("left by a download", places.artifacts.glob(".fetch-*"), SCRATCH_DAYS),
            *(("page", (p for p in folder.rglob("*") if p.is_file()), self._log_days) for folder in self._pages),
            *(("left by a collection", p.glob(f"{_TRASH}*"), 0.0) for p in trash),
        ):
            for path in paths:
                yield _Candidate(kind, path, days)


def _but(paths: Iterable[Path], used: Collection[str]) -> Iterator[Path]:
    """Paths whose name, up to its first dot, is not one of ``used``."""
    return (path for path in paths if path.name.removeprefix("provider-").partition(".")[0] not in used)


def _environments(runtimes: Path) -> Iterator[Path]:
    """Built environments, their locks, and notes of what was installed."""
    return (path for path in runtimes.glob("[!.]*") if not path.name.endswith(".lock"))


def _runtimes(root: Path, releases: Collection[Release]) -> set[str]:
    """Digests of the environments that these releases run in, of those built anew for them too."""
    digests = {release.runtime.digest for release in releases}
    anew = (root / f"provider-{digest}.lock.txt" for digest in digests)
    return digests | {lock_digest(lock) for lock in anew if lock.is_file()}


def _use(path: Path) -> tuple[float, int]:
    """When anything in ``path`` was last written, and the bytes of all of it."""
    used, size = 0.0, 0
    for each in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        try:
            stat = each.lstat()
        except OSError:
            continue  # deleted meanwhile
        used = max(used, stat.st_mtime)
        size += stat.st_blocks * 512
    return used, size


def _delete(path: Path) -> None:
    """Out of the way at once, so that nobody finds half of it; then gone."""
    trash = path.with_name(f"{_TRASH}{path.name}")
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    if trash.is_dir() and not trash.is_symlink():
        shutil.rmtree(trash)
    else:
        trash.unlink()
