"""Registering a training record under a version that is computed, not typed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_mlpipex.domain.errors import RegistrationRefused
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.release.semver import BumpKind, bump
from airflow_provider_mlpipex.domain.release.training import TrainingRecord

if TYPE_CHECKING:
    from airflow_provider_mlpipex.ports import ModelRegistry


class Registration(NamedTuple):
    """A registered model, the kind of bump that its version is, and why."""

    model: ModelVersion
    bump: BumpKind
    reasons: tuple[str, ...]


def register_model(manifest: Manifest, record: TrainingRecord, *, registry: ModelRegistry) -> Registration:
    """Register ``record`` after the newest version of its model; again gives the same version for the same reasons.

    :raises RegistrationRefused: something is missing in ``record``, or another record took the version meanwhile.
    """
    if record.model_name != manifest.model.name:
        raise RegistrationRefused(
            f"training record of model {record.model_name}",
            value=record.model_name,
            limit=f"model {manifest.model.name} of manifest {manifest.name}",
            remedy="register with the manifest that the model was trained by",
        )
    versions = registry.versions(record.model_name)
    # A retry must not bump on top of what the first try registered.
    runs = [model.run_id for model in versions]
    earlier = versions[: runs.index(record.run_id)] if record.run_id in runs else versions
    version, kind, reasons = bump(earlier[-1] if earlier else None, record)
    return Registration(registry.register(record, version=version), kind, reasons)
