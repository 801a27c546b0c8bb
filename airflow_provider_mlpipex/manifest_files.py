"""Deployment manifests on disk: one file, and the folder from which the reference Dags are made."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.validation.loading import load_manifest

#: Names another folder of manifests than the one that the reference Dags have beside them.
FOLDER_VARIABLE = "MLPIPEX_MANIFESTS"


#: Manifests of a process that are kept, by content: a Dag file names each of hundreds several times.
_KEPT = 2_000


def load_manifest_file(path: str | Path) -> Manifest:
    """A manifest that can work: shape, rules, and the proof that each of its gates can decide.

    The same content is proved once a process.

    :raises ManifestInvalid: the file cannot be read, or what stands in it cannot work.
    """
    manifest = _proved(_text_of(path), str(path))
    _require_lock(manifest, Path(path))
    return manifest


def read_manifest_shape(path: str | Path) -> Manifest:
    """A manifest as a Dag file needs it: everything but the proof of its gates, which takes fifty times as long.

    The first task of its Dag proves it, as ``mlpipex manifest validate`` does in CI.

    :raises ManifestInvalid: the file cannot be read, or what stands in it breaks a rule.
    """
    manifest = _shape(_text_of(path), str(path))
    _require_lock(manifest, Path(path))
    return manifest


@lru_cache(maxsize=_KEPT)
def _proved(text: str, file: str) -> Manifest:
    return load_manifest(text, file=file)


@lru_cache(maxsize=_KEPT)
def _shape(text: str, file: str) -> Manifest:
    return load_manifest(text, file=file, prove=False)


def _text_of(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestInvalid(
            f"manifest {path}",
            value=getattr(error, "strerror", None) or "not UTF-8",
            limit="a readable YAML file",
            remedy="check the path and its permissions, where this runs",
        ) from None


def _require_lock(manifest: Manifest, path: Path) -> None:
    """:raises ManifestInvalid: the lock file that it names is not beside it, or pins nothing."""
    if manifest.runtime.lock is None:
        return
    from airflow_provider_mlpipex.domain.release.lock import Lock, LockRefused

    try:
        Lock.parse((path.parent / manifest.runtime.lock).read_text(encoding="utf-8"))
        return
    except (OSError, UnicodeDecodeError) as error:
        value, limit = getattr(error, "strerror", None) or "not UTF-8", "a readable lock file beside the manifest"
    except LockRefused as error:
        value, limit = error.line, error.limit
    raise ManifestInvalid(
        f"manifest {path}, field runtime.lock",
        value=f"{manifest.runtime.lock}: {value}",
        limit=limit,
        remedy="write one with: uv pip compile --generate-hashes requirements.in -o " + manifest.runtime.lock,
    )


def read_manifests(folder: Path) -> dict[Path, Manifest | ManifestInvalid]:
    """The shape of every ``*.yaml`` and ``*.yml`` in ``folder`` (or in :data:`FOLDER_VARIABLE`), or its defects.

    One bad file must not take the Dags of the others away, so what is wrong with it is returned in its place.

    :raises ManifestInvalid: there is no such folder.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE) or folder)
    if not folder.is_dir():
        raise ManifestInvalid(
            f"folder of manifests {folder}",
            value="not there",
            limit="a folder that can be read",
            remedy=f"make it, or correct {FOLDER_VARIABLE}",
        )
    manifests: dict[Path, Manifest | ManifestInvalid] = {}
    first: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml")):
        try:
            manifest = read_manifest_shape(path)
        except ManifestInvalid as error:
            manifests[path] = error
            continue
        holder = first.setdefault(manifest.name, path)
        manifests[path] = manifest if holder is path else _name_taken(path, manifest.name, holder)
    return manifests


def _name_taken(path: Path, name: str, holder: Path) -> ManifestInvalid:
    return ManifestInvalid(
        f"manifest {path}, field name",
        value=name,
        limit=f"one manifest a name; {holder.name} has it",
        remedy="rename one of them: they would move the same endpoints",
    )
