"""Runtime environments in memory: the port's fake, with the same refusals."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.adapters.embedded.runtime_rules import pin
from airflow_provider_mlpipex.adapters.embedded.training_process import fit_in
from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.runtime_block import RuntimeSpec
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.domain.release.training import Fitted, LockedRuntime
from airflow_provider_mlpipex.domain.values import digest_of

if TYPE_CHECKING:
    import pandas as pd


class MemoryRuntimes:
    """``locks``: path as the manifest writes it -> text of the lock file; one that is not there is missing.

    ``provider``: stands for the packages beside the provider; set it to another text to upgrade one of them.
    """

    def __init__(self, locks: Mapping[str, str] | None = None) -> None:
        self.locks = dict(locks or {})
        self.provider = "as installed"
        self._texts: dict[str, str] = {}

    def resolve(self, spec: RuntimeSpec, *, manifest_dir: Path) -> RuntimeEnvironment:
        runtime = pin(spec, self._digest(spec), lock_uri=str(manifest_dir / spec.lock) if spec.lock else None)
        if spec.lock is not None:
            self._texts[runtime.digest] = self.locks[spec.lock]
        return runtime

    def lock_text(self, runtime: RuntimeEnvironment) -> str:
        return self._texts[runtime.digest]

    def python_for(self, runtime: RuntimeEnvironment) -> Path:
        """This interpreter, for whatever is pinned."""
        return Path(sys.executable)

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
