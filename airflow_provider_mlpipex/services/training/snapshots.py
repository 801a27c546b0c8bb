"""Taking a dataset snapshot: load the windows, judge the rows, and only then keep them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, ManifestInvalid
from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.training_block import DataSpec
from airflow_provider_mlpipex.domain.quality.report import QualityReport
from airflow_provider_mlpipex.domain.release.inputs import SERVABLE, Unservable, describe_column
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, FeatureJoin
from airflow_provider_mlpipex.services.quality.check import Tell, place_of, require, require_columns, unheard
from airflow_provider_mlpipex.services.training import feature_rows
from airflow_provider_mlpipex.services.training.labels import require_labels
from airflow_provider_mlpipex.services.training.user_code import import_callable, load_table

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import DataValidator, FeatureStore, SnapshotStore


def snapshot_dataset(
    manifest: Manifest,
    as_of: datetime,
    *,
    store: SnapshotStore,
    validator: DataValidator,
    features: FeatureStore | None = None,
    load: Callable[..., pd.DataFrame] | None = None,
    tell: Tell = unheard,
) -> tuple[DatasetSnapshot, QualityReport]:
    """Keep the rows that are known at ``as_of``: the training window, and after it the evaluation window.

    :param as_of: end of the evaluation window, with its time zone; the same moment gives the same snapshot.
    :param features: where the manifest names a feature service, it gives the feature columns, each row's as of its own
        time; how many rows that lost, the snapshot remembers.
    :param load: the data source, called as ``load(start, end, **parameters)``; that of the manifest if not given.
    :param tell: gets the report of the rows' quality, also where it stops the snapshot.
    :raises DataQualityFailed: the source failed, lacks a column, or broke an expectation, or the feature store could
        not answer for too many rows; a feature is of a type that no request can carry, or the labels are no labels of
        the task. Nothing was kept.
    :raises FeatureMismatch: the feature service is not what the manifest asks for.
    :raises ManifestInvalid: the source cannot be imported, or an expectation does not exist.
    """
    data, quality, subject = data_of(manifest), manifest.quality, f"dataset {manifest.name}"
    window = load_window(manifest, as_of, features=features, load=load)
    _require_learnable(manifest, window)
    report = validator.validate(
        window.rows, quality.snapshot, subject=subject, key=quality.key, place=place_of(manifest, "snapshot")
    )
    require(
        report,
        tell=tell,
        thing=f"{subject}, {report.rows} rows from {window.start:%Y-%m-%d} to {as_of:%Y-%m-%d}",
        remedy="repair the data at its source and run the task again; the current release keeps serving",
    )
    snapshot = store.write(
        window.rows,
        name=manifest.name,
        time_column=data.time_column,
        window_start=window.start,
        split_at=window.split_at,
        window_end=as_of,
    )
    return snapshot.model_copy(update={"features": window.joined}), report


def data_of(manifest: Manifest) -> DataSpec:
    """:raises ManifestInvalid: the manifest does not say where rows come from: nothing is trained by it."""
    if manifest.data is None:
        raise ManifestInvalid(
            f"manifest {manifest.name}, field data",
            value="missing",
            limit="where rows come from",
            remedy="add a data block with source, time_column and window, or leave this stage out",
        )
    return manifest.data


def _require_learnable(manifest: Manifest, window: Window) -> None:
    """Features that can be served, and labels: known before the hours of a training, not after them."""
    subject, training = f"dataset {manifest.name}", manifest.training
    for name in manifest.features.columns:
        try:
            describe_column(window.rows[name])
        except Unservable as error:
            raise DataQualityFailed(
                f"{subject}, feature {error}",
                limit=SERVABLE,
                remedy="convert the column in the data source, or leave it out of features.columns",
            ) from None
    times = window.rows[data_of(manifest).time_column]
    # What is wrong with times and windows, the snapshot store says.
    if training is not None and getattr(times.dtype, "tz", None) is not None and times.notna().all():
        older = times < window.split_at
        labels = window.rows[training.target]
        if older.any() and not older.all():
            require_labels(training, labels[older], labels[~older], subject=subject)


#: Share of the training window that may be without rows at its beginning: a source may start on a Monday.
_MAX_EMPTY_START = 0.1


def _require_reach(data: DataSpec, frame: pd.DataFrame, *, start: datetime, split_at: datetime, subject: str) -> None:
    """:raises DataQualityFailed: the rows begin long after the training window does, so it says what is not so."""
    import pandas as pd

    first = pd.to_datetime(frame[data.time_column], errors="coerce", utc=True).min()
    window = split_at - start
    if pd.isna(first) or (first - start) / window <= _MAX_EMPTY_START:
        return
    reach = max(split_at - first.to_pydatetime(), timedelta(0))
    raise DataQualityFailed(
        f"{subject}, field data.window.train",
        value=f"{format_duration(window)}, and the first row is of {first:%Y-%m-%d}",
        limit=f"rows from about {start:%Y-%m-%d} on",
        remedy=f"write train: {format_duration(timedelta(days=reach.days))}, or give a later as_of"
        if reach.days
        else "give a later as_of: no row is old enough to train on",
    )


class Window(NamedTuple):
    """Rows of the training window, from ``start``, and of the evaluation window, from ``split_at``.

    ``joined``: what became of the rows in the feature store; ``None`` where the manifest names no feature service.
    """

    rows: pd.DataFrame
    joined: FeatureJoin | None
    start: datetime
    split_at: datetime


def load_window(
    manifest: Manifest,
    as_of: datetime,
    *,
    features: FeatureStore | None = None,
    load: Callable[..., pd.DataFrame] | None = None,
) -> Window:
    """The rows of ``manifest`` that are known at ``as_of``; parameters and errors as of :func:`snapshot_dataset`."""
    data, subject = data_of(manifest), f"dataset {manifest.name}"
    if as_of.tzinfo is None:
        raise DataQualityFailed(
            f"{subject}, as_of", value=as_of, limit="a moment with a time zone", remedy="give it in UTC"
        )
    split_at = as_of - data.window.evaluate
    start = split_at - data.window.train
    load = load or import_callable(data.source, field="data.source")
    remedy = "call it by itself to read its text; does it take the manifest's data.parameters?"
    frame = load_table(
        partial(load, start, as_of, **data.parameters), source=f"data source {data.source}", remedy=remedy
    )
    target = (manifest.training.target,) if manifest.training else ()
    if frame.empty:
        raise DataQualityFailed(
            f"{subject}, data source {data.source}",
            value=f"no rows from {start:%Y-%m-%d} to {as_of:%Y-%m-%d}",
            limit="rows of the windows that end at as_of, which is the logical date of a Dag run",
            remedy="give an as_of at which there is data, or look why the source has none",
        )
    needed = (data.time_column, *target, *feature_rows.needed_columns(manifest), *manifest.quality.key)
    require_columns(frame, needed, subject=subject)
    _require_reach(data, frame, start=start, split_at=split_at, subject=subject)
    rows, joined = feature_rows.join(manifest, frame, features, subject=subject)
    return Window(rows, joined, start, split_at)
