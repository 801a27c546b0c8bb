"""From a manifest's runtime block to an environment pinned by digest."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_mlpipex.adapters.embedded.runtime_rules import pin
from airflow_provider_mlpipex.domain.manifest.manifest import RuntimeSpec
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.serving.plane.runtimes import lock_digest, provider_digest


class LockedRuntimes:
    """Digests of this machine: the provider's own environment, and lock files beside the manifest."""

    def resolve(self, spec: RuntimeSpec, *, manifest_dir: Path) -> RuntimeEnvironment:
        """Pin ``spec`` to what is there; where the manifest states a digest, that must be it."""
        lock = (manifest_dir / spec.lock).resolve() if spec.lock else None
        if lock is not None:
            found = lock_digest(lock)
        elif spec.image is not None:
            found = spec.image.rpartition(":")[2]
        else:
            found = provider_digest()
        return pin(spec, found, lock_uri=str(lock) if lock else None)
