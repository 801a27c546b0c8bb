"""Training a model on a recorded snapshot, and doing it again to see whether the record can be trusted."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, ManifestInvalid, TrainingFailed
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest, TrainingSpec
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, Release
from airflow_provider_mlpipex.domain.release.training import TrainedModel, TrainingContext, TrainingRecord, ask
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services.quality.check import Tell, judge_features, unheard
from airflow_provider_mlpipex.services.training.code_failure import describe_failure
from airflow_provider_mlpipex.services.training.evaluation import evaluate
from airflow_provider_mlpipex.services.training.golden_rows import golden_rows
from airflow_provider_mlpipex.services.training.labels import labelled
from airflow_provider_mlpipex.services.training.rows import SplitRows, split_rows
from airflow_provider_mlpipex.services.training.user_code import import_callable, source_digest

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import DataValidator, ModelRegistry, SnapshotStore


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
) -> TrainingRecord:
    """Train on ``snapshot``, evaluate on the rows after its split, and log both; running it twice logs one run.

    :param code_version: git commit of the training code; empty where it is not known (registration refuses that).
    :param now: judges the manifest's ``data.max_age``; needed only where that is set.
    :param tell: gets the report of the features' quality, also where it stops the training.
    :raises TrainingFailed: the training callable is missing, raised, or returned something that cannot be served.
    :raises DataQualityFailed: the snapshot is older than the manifest allows, or its features break an expectation.
    :raises SnapshotCorrupt: the rows are not the recorded ones.
    """
    training = _training_of(manifest)
    _require_fresh(manifest, snapshot, now)
    rows = split_rows(snapshot, store)
    subject = f"features of snapshot {snapshot.name} {snapshot.digest[:12]}"
    judge_features(manifest, rows.training, validator=validator, tell=tell, subject=subject)
    trained, unlabelled = _fit(manifest, training, rows)
    record = TrainingRecord(
        model_name=manifest.model.name,
        endpoint_name=manifest.name,
        dataset=snapshot,
        architecture=architecture_of(trained.model),
        configuration_digest=configuration_digest(manifest),
        code_version=code_version,
        source_digest=source_digest(training.callable),
        task=training.task,
        metrics=dict(trained.metrics),
        evaluation_rows=trained.evaluation_rows,
        unlabelled=unlabelled,
    )
    return registry.log_training(trained, record)


def reproduce(release: Release, manifest: Manifest, *, store: SnapshotStore) -> dict[str, dict[str, float]]:
    """Train ``release`` again from its recorded snapshot; nothing is logged.

    :return: metric -> ``recorded``, ``retrained`` and their ``difference``, for the metrics that both have.
    :raises TrainingFailed: the configuration or the architecture is no longer the recorded one, or training failed.
    """
    model = release.model
    known = (configuration_digest(manifest), earlier_configuration_digest(manifest))
    now = model.configuration_digest if model.configuration_digest in known else known[0]
    trained, _ = _fit(manifest, _training_of(manifest), split_rows(model.dataset, store))
    changed = {
        "configuration": (model.configuration_digest, now),
        "architecture": (model.architecture, architecture_of(trained.model)),
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
            "retrained": trained.metrics[metric],
            "difference": trained.metrics[metric] - value,
        }
        for metric, value in model.metrics.items()
        if metric in trained.metrics
    }


def configuration_digest(manifest: Manifest) -> str:
    """Digest of what a person sets: the whole training block, and the feature columns in order."""
    return digest_of([_training_of(manifest).to_json(), list(manifest.features.columns)])


def earlier_configuration_digest(manifest: Manifest) -> str:
    """What stood in records before callable, task, target and method counted."""
    training = _training_of(manifest)
    return digest_of([dict(training.parameters), list(manifest.features.columns), training.seed])


def architecture_of(model: Any) -> str:
    """The types that a fitted estimator is made of: ``Pipeline[ColumnTransformer[OrdinalEncoder], Ridge]``.

    A model may say it itself in an attribute ``architecture_``. Hyper-parameters are left out: changing one of them is
    a patch, changing a type is a major version.
    """
    if stated := getattr(model, "architecture_", None):
        return str(stated)
    if isinstance(model, str):
        return model
    composed = [part[1] for parts in _COMPOSED for part in getattr(model, parts, None) or ()]
    wrapped = [part for single in _WRAPPED if (part := getattr(model, single, None)) is not None]
    parts = composed or wrapped[:1]
    inside = f"[{', '.join(architecture_of(part) for part in parts)}]" if parts else ""
    return f"{type(model).__name__}{inside}"


#: Attributes in which scikit-learn keeps ``(name, part, …)`` tuples, and those that hold one wrapped estimator.
_COMPOSED = ("steps", "transformers", "transformer_list", "estimators")
_WRAPPED = ("best_estimator_", "estimator")


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


def _fit(manifest: Manifest, training: TrainingSpec, rows: SplitRows) -> tuple[TrainedModel, int]:
    """The fitted model with its metrics, and how many rows had no label."""
    columns = list(manifest.features.columns)
    older, newer = (labelled(part, training.target) for part in rows)
    context = TrainingContext(
        features=older.rows[columns],
        target=older.labels,
        parameters=dict(training.parameters),
        seed=training.seed,
    )
    learned, evaluated = older.rows[columns].copy(), newer.rows[columns]
    model, predictions = _call(training, context, evaluated, rows)
    trained = TrainedModel(
        model=model,
        predict_method=training.predict_method,
        examples=golden_rows(evaluated, learned),
        metrics=evaluate(training.task, newer.labels, predictions, classes=getattr(model, "classes_", None)),
        evaluation_rows=len(evaluated),
        parameters=dict(training.parameters),
        evaluated=rows.evaluation[columns],
        learned=learned,
        code=(training.callable.partition(":")[0],),
    )
    return trained, older.unlabelled + newer.unlabelled


def _call(training: TrainingSpec, context: TrainingContext, features: pd.DataFrame, rows: SplitRows) -> tuple[Any, Any]:
    """The fitted model and its predictions for ``features``; an exception is told without values of ``rows``."""
    code = f"training callable {training.callable}"
    failed = partial(TrainingFailed, code, remedy="correct it at that line; the task log has the way to it")
    described = partial(describe_failure, code=code, rows=rows)
    try:
        train = import_callable(training.callable, field="training.callable")
    except ManifestInvalid as error:
        raise failed(value=error.value, limit=error.limit, remedy=error.remedy) from error
    try:
        model = train(context)
    except Exception as error:  # noqa: BLE001  whatever the code of a team raises
        # Nothing of the exception is chained: its text and those of its causes may quote rows.
        raise failed(value=described(error), limit="a fitted model") from None
    predict = getattr(model, training.predict_method, None)
    if not callable(predict):
        raise failed(
            value=type(model).__name__,
            limit=f"a fitted model with the method {training.predict_method}",
            remedy="return the fitted estimator, or name another training.predict_method",
        )
    try:
        return model, ask(model, training.predict_method, features.copy())
    except Exception as error:  # noqa: BLE001  whatever the code of a team raises
        limit = f"predictions for {len(features)} evaluation rows"
        raise failed(value=described(error), limit=limit) from None
