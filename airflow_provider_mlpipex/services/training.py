"""Training a model on a recorded snapshot, and doing it again to see whether the record can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import ManifestInvalid, TrainingFailed
from airflow_provider_mlpipex.domain.manifest import Manifest
from airflow_provider_mlpipex.domain.release import DatasetSnapshot, Release
from airflow_provider_mlpipex.domain.training import TrainedModel, TrainingContext, TrainingRecord
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services.callables import import_callable
from airflow_provider_mlpipex.services.evaluation import evaluate
from airflow_provider_mlpipex.services.rows import SplitRows, split_rows

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import ModelRegistry, SnapshotStore

#: Rows that the model answers before registration and every model server answers before it takes traffic.
GOLDEN_ROWS = 20


def train_model(
    manifest: Manifest, snapshot: DatasetSnapshot, *, store: SnapshotStore, registry: ModelRegistry, code_version: str
) -> TrainingRecord:
    """Train on ``snapshot``, evaluate on the rows after its split, and log both; running it twice logs one run.

    :param code_version: git commit of the training code; empty where it is not known (registration refuses that).
    :raises TrainingFailed: the training callable is missing, raised, or returned something that cannot be served.
    :raises SnapshotCorrupt: the rows are not the recorded ones.
    """
    trained = _fit(manifest, split_rows(snapshot, store))
    record = TrainingRecord(
        model_name=manifest.name,
        endpoint_name=manifest.name,
        dataset=snapshot,
        architecture=architecture_of(trained.model),
        configuration_digest=configuration_digest(manifest),
        code_version=code_version,
        task=manifest.training.task,
        metrics=dict(trained.metrics),
        evaluation_rows=trained.evaluation_rows,
    )
    return registry.log_training(trained, record)


def reproduce(release: Release, manifest: Manifest, *, store: SnapshotStore) -> dict[str, dict[str, float]]:
    """Train ``release`` again from its recorded snapshot; nothing is logged.

    :return: metric -> ``recorded``, ``retrained`` and their ``difference``, for the metrics that both have.
    :raises TrainingFailed: the configuration or the architecture is no longer the recorded one, or training failed.
    """
    model = release.model
    now = configuration_digest(manifest)
    trained = _fit(manifest, split_rows(model.dataset, store))
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
    """Digest of what a person sets: hyper-parameters, feature columns in order, and seed."""
    training = manifest.training
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


def _fit(manifest: Manifest, rows: SplitRows) -> TrainedModel:
    training, columns, target = manifest.training, list(manifest.features.columns), manifest.data.target
    try:
        train = import_callable(training.callable, field="training.callable")
    except ManifestInvalid as error:
        raise _failed(manifest, error.value, "a function that can be imported", error.remedy) from error
    context = TrainingContext(
        features=rows.training[columns],
        target=rows.training[target],
        parameters=dict(training.parameters),
        seed=training.seed,
    )
    examples = _golden_rows(rows.evaluation[columns])
    try:
        model = train(context)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise _failed(manifest, cause, "a fitted model", "see the chained error") from error
    predict = getattr(model, training.predict_method, None)
    if not callable(predict):
        raise _failed(
            manifest,
            type(model).__name__,
            f"a fitted model with the method {training.predict_method}",
            "return the fitted estimator, or name another training.predict_method",
        )
    try:
        predictions = predict(rows.evaluation[columns])
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise _failed(
            manifest, cause, f"predictions for {len(rows.evaluation)} evaluation rows", "see the chained error"
        ) from error
    metrics = evaluate(training.task, rows.evaluation[target], predictions, classes=getattr(model, "classes_", None))
    return TrainedModel(
        model=model,
        predict_method=training.predict_method,
        examples=examples,
        metrics=metrics,
        evaluation_rows=len(rows.evaluation),
        parameters=dict(training.parameters),
    )


def _golden_rows(features: pd.DataFrame) -> pd.DataFrame:
    """Rows spread evenly over the evaluation window, so that a quiet first hour does not stand for all of it."""
    step = max(1, len(features) // GOLDEN_ROWS)
    return features.iloc[::step].head(GOLDEN_ROWS).reset_index(drop=True)


def _failed(manifest: Manifest, value: object, limit: str, remedy: str) -> TrainingFailed:
    return TrainingFailed(
        f"training callable {manifest.training.callable} of {manifest.name}", value=value, limit=limit, remedy=remedy
    )
