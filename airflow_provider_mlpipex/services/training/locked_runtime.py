"""The locked environment that will serve a model: one lock a version, kept with the model, proven before traffic."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.release import ModelVersion, RuntimeEnvironment
from airflow_provider_mlpipex.domain.release.training import LockedRuntime
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform


def pinned_runtime(platform: Platform, manifest: Manifest, *, manifest_dir: Path) -> RuntimeEnvironment:
    """The environment that ``manifest`` pins.

    :raises RuntimeMismatch: the lock is missing, not the one whose digest the manifest states, or another one than this
        ``runtime.version`` has ever meant for the model or at its endpoints.
    """
    runtime = platform.runtimes.resolve(manifest.runtime, manifest_dir=manifest_dir)
    if runtime.kind == "lock":
        _require_one_lock(platform, manifest, runtime)
    return runtime


def locked_runtime(platform: Platform, manifest: Manifest, *, manifest_dir: Path) -> LockedRuntime | None:
    """The environment of a lock, built here; ``None`` where a manifest pins no lock.

    :raises RuntimeMismatch: as of :func:`pinned_runtime`, or it cannot be built.
    """
    runtime = pinned_runtime(platform, manifest, manifest_dir=manifest_dir)
    if runtime.kind != "lock":
        return None
    python = platform.runtimes.python_for(runtime)
    return LockedRuntime(environment=runtime, lock=platform.runtimes.lock_text(runtime), python=python)


def require_proven(
    platform: Platform, manifest: Manifest, model: ModelVersion, *, manifest_dir: Path
) -> RuntimeEnvironment | None:
    """See that a model which was not logged under this lock loads and answers its golden rows in its environment.

    :return: that environment; ``None`` where the manifest pins no lock.

    :raises TrainingFailed: it does not; the message names what is missing. :raises RuntimeMismatch: as above.
    """
    runtime = pinned_runtime(platform, manifest, manifest_dir=manifest_dir)
    if runtime.kind != "lock":
        return None
    if model.runtime is None or model.runtime.digest != runtime.digest:
        platform.registry.prove(model, python=platform.runtimes.python_for(runtime))
    return runtime


def kept_with(platform: Platform, model: ModelVersion, runtime: RuntimeEnvironment) -> RuntimeEnvironment:
    """``runtime`` with its lock where the model is: what serves can be built anew wherever the manifest's file is."""
    if runtime.kind != "lock":
        return runtime
    if model.runtime is not None and model.runtime.digest == runtime.digest:
        return runtime.model_copy(update={"lock_uri": model.runtime.lock_uri})
    kept = platform.registry.keep_lock(model, runtime, platform.runtimes.lock_text(runtime))
    return runtime.model_copy(update={"lock_uri": kept})


def python_of(platform: Platform, model: ModelVersion) -> Path | None:
    """The interpreter that ``model`` was proven in, built here where it is not yet; ``None``: this one.

    :raises RuntimeMismatch: it cannot be built from the lock that is kept with the model.
    """
    return platform.runtimes.python_for(model.runtime) if model.runtime else None


def _require_one_lock(platform: Platform, manifest: Manifest, runtime: RuntimeEnvironment) -> None:
    for endpoint in platform.ledger.endpoints():
        if endpoint.name == manifest.name:
            meant = journal.load(platform, endpoint).locks.get(runtime.version, runtime.digest)
            _require_same(runtime, meant, where=f"on {endpoint}")
    for model in platform.registry.versions(manifest.model.name):
        if model.runtime is not None and model.runtime.version == runtime.version:
            _require_same(runtime, model.runtime.digest, where=f"for model {model.name} {model.version}")


def _require_same(runtime: RuntimeEnvironment, meant: str, *, where: str) -> None:
    if meant != runtime.digest:
        raise RuntimeMismatch(
            f"runtime {runtime.version}",
            value=f"lock {runtime.digest[:12]}",
            limit=f"lock {meant[:12]}, which this version means {where}",
            remedy="the lock file has changed: bump runtime.version with it; that opens a review",
        )
