"""Where a manifest names a feature service: training rows joined through it, and the very same one for a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed, FeatureMismatch
from airflow_provider_mlpipex.domain.features.service import FeatureServiceRef, HistoricalFrame
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.release import FeatureJoin, ModelVersion

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import FeatureStore

#: Rows numbered in a refusal.
_SHOWN = 3


def needed_columns(manifest: Manifest) -> tuple[str, ...]:
    """What the data source must give: the feature columns, or where a store gives those, the entities."""
    return manifest.features.entities if manifest.features.joined else manifest.features.columns


def join(
    manifest: Manifest, frame: pd.DataFrame, store: FeatureStore | None, *, subject: str
) -> tuple[pd.DataFrame, FeatureJoin | None]:
    """``frame`` with the service's features as of each row's own moment, and how many rows that lost.

    A row that the store cannot answer is not trained on: a model server would not answer it either. Without a service,
    ``frame`` as it is.

    :raises DataQualityFailed: more rows were lost than ``features.max_dropped`` allows, or all.
    :raises FeatureMismatch: the service lacks a feature or asks for other entities than the manifest names.
    """
    if not manifest.features.joined:
        return frame, None
    chosen = require_store(manifest, store)
    service = service_of(manifest, chosen)
    assert manifest.data is not None  # validation asks for it wherever features are joined
    joined = chosen.historical(service.name, frame, time_column=manifest.data.time_column)
    lost = joined.counts
    if lost.asked and (lost.lost_share > manifest.features.max_dropped or lost.lost_share == 1):
        raise DataQualityFailed(
            f"{subject}, feature service {service.name}",
            value=_explain(joined),
            limit=f"at most {format_ratio(manifest.features.max_dropped)} (features.max_dropped)",
            remedy="backfill the features over the training window, or train on a later one",
        )
    return joined.answered, lost


def service_for(manifest: Manifest, model: ModelVersion, store: FeatureStore | None) -> FeatureServiceRef | None:
    """The service that a release of ``model`` is served with: the one that it was trained on. ``None`` without one.

    :raises FeatureMismatch: the model was trained on another definition of it, or on none.
    """
    if not manifest.features.joined:
        return None
    service = service_of(manifest, require_store(manifest, store))
    trained = model.dataset.features
    if trained is None or (trained.service, trained.digest) != (service.name, service.digest):
        known = "no feature service" if trained is None else f"{trained.service} {trained.digest[:12]}"
        raise FeatureMismatch(
            f"model {model.name} {model.version}, feature service {service.name}",
            value=f"trained on {known}",
            limit=f"as it is defined now: {service.digest[:12]}",
            remedy="train a new version on the present definition, or put the definition back",
        )
    return service


def service_of(manifest: Manifest, store: FeatureStore) -> FeatureServiceRef:
    """The service that ``manifest`` names.

    :raises FeatureMismatch: there is none, or it cannot give what the manifest asks.
    """
    assert manifest.features.service is not None  # callers have asked whether features are joined
    service = store.describe(manifest.features.service)
    service.require(columns=manifest.features.columns, entities=manifest.features.entities)
    return service


def require_store(manifest: Manifest, store: FeatureStore | None) -> FeatureStore:
    """:raises ConfigurationInvalid: the manifest names a feature service, and no store is configured."""
    if store is None:
        raise ConfigurationInvalid(
            f"manifest {manifest.name}, features.service",
            value=manifest.features.service,
            limit="a configured feature store",
            remedy="set MLPIPEX_FEATURE_REPOSITORY, or feature_repository in the connection's extra",
        )
    return store


def _explain(joined: HistoricalFrame) -> str:
    lost = joined.counts
    # By number: keys are a customer's, and this message reaches logs and alerts.
    rows = ", ".join(str(at) for at in [*joined.dropped, *joined.unknown][:_SHOWN])
    return (
        f"{lost.dropped + lost.unknown} of {lost.asked} rows lost ({format_ratio(round(lost.lost_share, 4))}): "
        f"{lost.dropped} without a value by their moment, {lost.unknown} of unknown entities; "
        f"for example rows {rows} of the data source"
    )
