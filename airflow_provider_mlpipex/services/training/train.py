"""Training a model on a recorded snapshot, and doing it again to see whether the record can be trusted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, TrainingFailed
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.training_block import TrainingSpec
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, Release
from airflow_provider_mlpipex.domain.release.training import Fitted, LockedRuntime, TrainingRecord
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services.quality.check import Tell, judge_features, unheard
from airflow_provider_mlpipex.services.training.fit import fit
from airflow_provider_mlpipex.services.training.rows import SplitRows, split_rows
from airflow_provider_mlpipex.services.training.snapshots import data_of

if TYPE_CHECKING:
    from airflow_provider_mlpipex.ports import DataValidator, ModelRegistry, RuntimeResolver, SnapshotStore


def train_model(
    manifest: Manifest,
    snapshot: DatasetSnapshot,
    *,
    store: SnapshotStore,
    registry: ModelRegistry,
    validator: DataValidator,
    code_version: str,
    now: datetime | None = None,
    tell: Tell = unheard,
    runtime: LockedRuntime | None = None,
    runtimes: RuntimeResolver | None = None,
) -> TrainingRecord:
    """Train on ``snapshot``, evaluate on the rows after its split, and log both; running it twice logs one run.

    :param code_version: git commit of the training code; empty where it is not known (registration refuses that).
    :param now: judges the manifest's ``data.max_age``; needed only where that is set.
    :param tell: gets the report of the features' quality, also where it stops the training.
    :param runtime: the locked environment that will serve the model, and that it is proven in.
    :param runtimes: trains in it, where the manifest says so.
    :raises TrainingFailed: the training callable is missing, raised, or returned something that cannot be served.
    :raises DataQualityFailed: the snapshot is older than the manifest allows, or its features break an expectation.
    :raises RuntimeMismatch: the lock lacks what training in its environment needs.
    :raises SnapshotCorrupt: the rows are not the recorded ones.
    """
    training = _training_of(manifest)
    _require_fresh(manifest, snapshot, now)
    rows = split_rows(snapshot, store)
    subject = f"features of snapshot {snapshot.name} {snapshot.digest[:12]}"
    judge_features(manifest, rows.training, validator=validator, tell=tell, subject=subject)
    with _fitted(manifest, rows, registry=registry, runtime=runtime, runtimes=runtimes) as fitted:
        record = TrainingRecord(
            model_name=manifest.model.name,
            endpoint_name=manifest.name,
            dataset=snapshot,
            architecture=fitted.architecture,
            configuration_digest=configuration_digest(manifest),
            code_version=code_version,
            source_digest=fitted.source_digest,
            task=training.task,
            metrics=dict(fitted.trained.metrics),
            evaluation_rows=fitted.trained.evaluation_rows,
            unlabelled=fitted.unlabelled,
            runtime=runtime.environment if runtime else None,
        )
        trained = replace(fitted.trained, runtime=runtime)
        return registry.log_training(trained, record)


def reproduce(
    release: Release, manifest: Manifest, *, store: SnapshotStore, registry: ModelRegistry, runtimes: RuntimeResolver
) -> dict[str, dict[str, float]]:
    """Train ``release`` again from its recorded snapshot, where it was trained; nothing is logged but what the
    callable itself logs.

    :return: metric -> ``recorded``, ``retrained`` and their ``difference``, for the metrics that both have.
    :raises TrainingFailed: the configuration or the architecture is no longer the recorded one, or training failed.
    """
    model = release.model
    known = (configuration_digest(manifest), earlier_configuration_digest(manifest))
    now = model.configuration_digest if model.configuration_digest in known else known[0]
    runtime = None
    if _training_of(manifest).runtime == "serving" and model.runtime is not None:
        python = runtimes.python_for(model.runtime)
        runtime = LockedRuntime(environment=model.runtime, lock=runtimes.lock_text(model.runtime), python=python)
    rows = split_rows(model.dataset, store)
    with _fitted(manifest, rows, registry=registry, runtime=runtime, runtimes=runtimes) as fitted:
        metrics = fitted.trained.metrics
    changed = {
        "configuration": (model.configuration_digest, now),
        "architecture": (model.architecture, fitted.architecture),
    }
    for what, (recorded, retrained) in changed.items():
        if recorded != retrained:
            raise TrainingFailed(
                f"release {release.id}, {what}",
                value=retrained,
                limit=f"as recorded: {recorded}",
                remedy=f"check out commit {model.code_version} and its manifest, then reproduce again",
            )
    return {
        metric: {
            "recorded": value,
            "retrained": metrics[metric],
            "difference": metrics[metric] - value,
        }
        for metric, value in model.metrics.items()
        if metric in metrics
    }


@contextmanager
def _fitted(
    manifest: Manifest,
    rows: SplitRows,
    *,
    registry: ModelRegistry,
    runtime: LockedRuntime | None,
    runtimes: RuntimeResolver | None,
) -> Iterator[Fitted]:
    """The fitted model; files of one that was trained elsewhere are gone at the end."""
    training = _training_of(manifest)
    if training.runtime != "serving":
        with registry.team_code():
            fitted = fit(training, list(manifest.features.columns), rows, time_column=data_of(manifest).time_column)
        yield fitted
        return
    if runtime is None or runtimes is None:
        raise TrainingFailed(
            f"manifest {manifest.name}, training.runtime: serving",
            value="no locked environment",
            limit="the environment of runtime.lock, which serves the model",
            remedy="train with TrainModelOperator or mlpipex release, which build it",
        )
    with tempfile.TemporaryDirectory(prefix="mlpipex-train-") as scratch:
        yield runtimes.fit(runtime, manifest, training=rows.training, evaluation=rows.evaluation, folder=Path(scratch))


def configuration_digest(manifest: Manifest) -> str:
    """Digest of what a person sets: the whole training block, and the feature columns in order."""
    return digest_of([_training_of(manifest).to_json(), list(manifest.features.columns)])


def earlier_configuration_digest(manifest: Manifest) -> str:
    """What stood in records before callable, task, target and method counted."""
    training = _training_of(manifest)
    return digest_of([dict(training.parameters), list(manifest.features.columns), training.seed])


def _training_of(manifest: Manifest) -> TrainingSpec:
    if manifest.training is None:
        raise TrainingFailed(
            f"manifest {manifest.name}",
            value=f"model.version: {manifest.model.version}",
            limit="a training block",
            remedy="deploy the pinned version without the training stage, or say how a model is trained",
        )
    return manifest.training


def _require_fresh(manifest: Manifest, snapshot: DatasetSnapshot, now: datetime | None) -> None:
    limit = manifest.data.max_age if manifest.data else None
    if limit is None or (now is not None and now - snapshot.window_end <= limit):
        return
    raise DataQualityFailed(
        f"snapshot {snapshot.name} {snapshot.digest[:12]}, age",
        value="not known" if now is None else str(now - snapshot.window_end),
        limit=f"data.max_age {limit}",
        remedy="take a new snapshot and train on that",
    )
