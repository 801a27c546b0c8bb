"""Adopting what a manifest names, with the rows that it names: what operator and terminal share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.hooks.rows import rows_of

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.services.platform import Platform
    from airflow_provider_mlpipex.services.quality.check import Tell
    from airflow_provider_mlpipex.services.training.adopt import Adopted


def adopt(
    platform: Platform, manifest: Manifest, *, folder: Path, reference: str = "", tell: Tell | None = None
) -> Adopted:
    """Register what ``manifest`` adopts, evaluated on its rows; errors as of :func:`adopt_model`.

    The rows are judged by the manifest's ``quality`` before anything is registered, and those of a model that is
    known by what it expects today.

    :param folder: of the manifest.
    :param reference: another model than the one of ``model.adopt``.
    :param tell: gets the reports on the rows' quality, also where they stop the adoption.
    :raises ConfigurationInvalid: the manifest names no rows, or nothing says what to adopt.
    :raises DataQualityFailed: a critical expectation does not hold.
    """
    from airflow_provider_mlpipex.services.quality.check import judge_proof, unheard
    from airflow_provider_mlpipex.services.training import registered
    from airflow_provider_mlpipex.services.training.adopt import AdoptionRequest, adopt_model
    from airflow_provider_mlpipex.services.training.locked_runtime import locked_runtime

    named = ModelReference.parse(reference) if reference else manifest.model.reference
    if named is None or manifest.evaluation is None:
        raise ConfigurationInvalid(
            f"manifest {manifest.name}, adopting",
            value="no model.adopt" if named is None else "no evaluation block",
            limit="a model, and rows that it is proven on",
            remedy="write model: {adopt: models:/NAME/7} and evaluation: {file: holdout.parquet}",
        )
    rows = rows_of(manifest.evaluation, folder=folder)
    request = AdoptionRequest(
        reference=named,
        endpoint_name=manifest.name,
        model_name=manifest.model.name,
        evaluation=manifest.evaluation,
        # A version that is given belongs to the model of the manifest, not to another one.
        version=manifest.model.version if named == manifest.model.reference else "auto",
        columns=manifest.features.columns,
        rows_digest=rows.digest,
    )

    def judged(table: pd.DataFrame) -> pd.DataFrame:
        judge_proof(manifest, table, validator=platform.validator, tell=tell or unheard)
        return table

    adopted = adopt_model(
        request,
        load=lambda: judged(rows.load()),
        registry=platform.registry,
        snapshots=platform.snapshots,
        clock=platform.clock,
        runtime=locked_runtime(platform, manifest, manifest_dir=folder),
    )
    if adopted.known and (manifest.quality.snapshot or manifest.quality.features):
        judged(platform.snapshots.read(adopted.model.dataset))
    registered.record(platform, manifest, adopted.model)
    return adopted
