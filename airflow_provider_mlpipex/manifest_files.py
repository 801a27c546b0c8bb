"""Deployment manifests on disk: one file, and the folder from which the reference Dags are made."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest_loading import load_manifest

#: Names another folder of manifests than the one that the reference Dags have beside them.
FOLDER_VARIABLE = "MLPIPEX_MANIFESTS"


def load_manifest_file(path: str | Path) -> Manifest:
    """:raises ManifestInvalid: the file cannot be read, or what stands in it cannot work."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestInvalid(
            f"manifest {path}",
            value=getattr(error, "strerror", None) or "not UTF-8",
            limit="a readable YAML file",
            remedy="check the path and its permissions where the task runs",
        ) from None
    return load_manifest(text, file=str(path))


def read_manifests(folder: Path) -> dict[Path, Manifest | ManifestInvalid]:
    """Every ``*.yaml`` in ``folder`` (or in :data:`FOLDER_VARIABLE`), or what is wrong with it.

    One bad file must not take the Dags of the others away, so nothing is raised.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE) or folder)
    found: dict[Path, Manifest | ManifestInvalid] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            found[path] = load_manifest_file(path)
        except ManifestInvalid as error:
            found[path] = error
    return found
