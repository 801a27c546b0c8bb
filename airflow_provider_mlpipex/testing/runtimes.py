"""Runtime environments in memory: the port's fake, with the same refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from airflow_provider_mlpipex.adapters.embedded.runtime_rules import pin
from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.manifest.manifest import RuntimeSpec
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.domain.values import digest_of


class MemoryRuntimes:
    """``locks``: path as the manifest writes it -> text of the lock file; one that is not there is missing.

    ``provider``: stands for the packages beside the provider; set it to another text to upgrade one of them.
    """

    def __init__(self, locks: Mapping[str, str] | None = None) -> None:
        self.locks = dict(locks or {})
        self.provider = "as installed"

    def resolve(self, spec: RuntimeSpec, *, manifest_dir: Path) -> RuntimeEnvironment:
        return pin(spec, self._digest(spec), lock_uri=str(manifest_dir / spec.lock) if spec.lock else None)

    def _digest(self, spec: RuntimeSpec) -> str:
        if spec.image is not None:
            return spec.image.rpartition(":")[2]
        if spec.lock is None:
            return digest_of(["provider", self.provider])
        if spec.lock not in self.locks:
            raise RuntimeMismatch(
                f"lock file {spec.lock}",
                value="No such file or directory",
                limit="a readable lock file",
                remedy="put it beside the manifest: here, into the locks of MemoryRuntimes",
            )
        return digest_of(["lock", self.locks[spec.lock]])
