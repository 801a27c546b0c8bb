"""From a manifest's runtime block to an environment pinned by digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.adapters.embedded.runtime_rules import pin
from airflow_provider_mlpipex.adapters.embedded.training_process import fit_in
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.runtime_block import RuntimeSpec
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.domain.release.training import Fitted, LockedRuntime
from airflow_provider_mlpipex.serving.plane.runtimes import RuntimeCache, lock_digest, provider_digest

if TYPE_CHECKING:
    import pandas as pd


class LockedRuntimes:
    """Digests of this machine: the provider's own environment, and lock files beside the manifest.

    :param root: folder of the environments that are built here. :param tracking_uri: MLflow, which keeps locks.
    """

    def __init__(self, root: Path, *, tracking_uri: str) -> None:
        self._built = RuntimeCache(root, tracking_uri=tracking_uri)

    def resolve(self, spec: RuntimeSpec, *, manifest_dir: Path) -> RuntimeEnvironment:
        """Pin ``spec`` to what is there; where the manifest states a digest, that must be it."""
        lock = (manifest_dir / spec.lock).resolve() if spec.lock else None
        if lock is not None:
            digest = lock_digest(lock)
        elif spec.image is not None:
            digest = spec.image.rpartition(":")[2]
        else:
            digest = provider_digest()
        return pin(spec, digest, lock_uri=str(lock) if lock else None)

    def lock_text(self, runtime: RuntimeEnvironment) -> str:
        return self._built.lock_text(runtime)

    def python_for(self, runtime: RuntimeEnvironment) -> Path:
        return self._built.python_for(runtime)

    def fit(
        self,
        runtime: LockedRuntime,
        manifest: Manifest,
        *,
        training: pd.DataFrame,
        evaluation: pd.DataFrame,
        folder: Path,
    ) -> Fitted:
        return fit_in(runtime, manifest, training=training, evaluation=evaluation, folder=folder)
