"""How good a model is on evaluation rows: the built-in metrics, and the current release on the candidate's rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import SignatureMismatch, TrainingFailed
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion
from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.services.training.labels import class_labels, labelled
from airflow_provider_mlpipex.services.training.rows import split_rows
from airflow_provider_mlpipex.services.training.same_rows import Answers

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from airflow_provider_mlpipex.domain.manifest.evaluation_block import Labels
    from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
    from airflow_provider_mlpipex.ports import ModelRegistry, SnapshotStore


def evaluate(task: Task, target: Any, predictions: Any, *, classes: Sequence[Any] | None = None) -> dict[str, float]:
    """The metrics of ``task`` for ``predictions`` of ``target``, one row each.

    Binary: ``accuracy``, ``precision``, ``recall``, ``f1`` of the last class; with probabilities also ``auc``,
    ``log_loss``, ``brier``. Multiclass: ``accuracy``, ``f1_macro``; with probabilities also ``auc`` (one against the
    rest), ``log_loss``. Regression, in the target's unit: ``mae``, ``rmse``, ``bias`` (mean of prediction minus
    target), and ``r2``. A metric that these rows do not define (AUC of one class only) is left out: a gate on it
    finds no evidence.

    :param predictions: labels or values, one a row; or probabilities, one column a class, or of the last class alone.
    :param classes: labels in the order of the probability columns; those of ``target``, sorted, where not given.
    :raises TrainingFailed: predictions whose number of rows or columns does not fit, or that are no numbers.
    """
    import numpy as np

    truth, answers = np.asarray(target), np.asarray(predictions)
    if len(truth) == 0 or len(truth) != len(answers) or answers.ndim > 2:
        raise TrainingFailed(
            f"predictions of a {task} model",
            value=f"shape {answers.shape}",
            limit=f"one prediction for each of {len(truth)} rows, and at least one row",
            remedy="check what the model's predict method returns",
        )
    if answers.ndim == 2 and answers.shape[1] == 1:
        answers = answers[:, 0]
    silent = np.isnan(answers).reshape(len(answers), -1).any(axis=1) if answers.dtype.kind == "f" else np.array([False])
    if silent.any():
        raise TrainingFailed(
            f"predictions of a {task} model",
            value=f"{int(silent.sum())} of {len(answers)} answers are NaN, the first to row {int(silent.argmax())}",
            limit="a number for each row",
            remedy="let the model answer every row, or leave such rows out in the data source",
        )
    if task == "regression":
        measured = _regression(truth, answers)
    else:
        labels = np.asarray(class_labels(truth) if classes is None else classes)
        if answers.ndim == 2 and answers.shape[1] != len(labels):
            raise TrainingFailed(
                f"predictions of a {task} model",
                value=f"{answers.shape[1]} columns",
                limit=f"one for each class: {labels.tolist()}",
                remedy="train on rows that hold every class",
            )
        measured = (_binary if task == "binary" else _multiclass)(truth, answers, labels)
    return {name: value for name, value in measured.items() if math.isfinite(value)}


def metrics_on(
    model: ModelVersion,
    manifest: Manifest,
    snapshot: DatasetSnapshot,
    *,
    store: SnapshotStore,
    registry: ModelRegistry,
    python: Path | None = None,
) -> tuple[dict[str, float], int]:
    """The metrics of ``model`` on the evaluation rows of ``snapshot``, and how many rows they are.

    The model answers as it is served, for its own feature columns, which need not be those of ``manifest``, and with
    its own classes, of which these rows may lack some. Rows without a label are left out. A manifest without labels
    names no target, so nothing can be measured: no metrics, and relative gates find no evidence.

    :param python: interpreter of the environment that the model was proven in; this one's if not given.
    :raises SignatureMismatch: the snapshot lacks a column that the model needs, or holds what its server refuses.
    :raises ReleaseNotReady: the model does not load here.
    """
    if manifest.labels is None:
        return {}, 0
    asked = answers_on(model, manifest.labels, snapshot, store=store, registry=registry, python=python)
    return evaluate(manifest.labels.task, asked.truth, asked.answers, classes=asked.classes), len(asked.answers)


def answers_on(
    model: ModelVersion,
    labels: Labels,
    snapshot: DatasetSnapshot,
    *,
    store: SnapshotStore,
    registry: ModelRegistry,
    python: Path | None = None,
) -> Answers:
    """What ``model`` answers, as it is served, to the evaluation rows of ``snapshot`` that have a label.

    :raises SignatureMismatch: :raises ReleaseNotReady: as :func:`metrics_on`.
    """
    rows = split_rows(snapshot, store).evaluation
    needed = [column["name"] for column in json.loads(str(model.signature["inputs"])) if "name" in column]
    missing = [column for column in needed if column not in rows.columns]
    if missing:
        raise SignatureMismatch(
            f"model {model.name} {model.version} on snapshot {snapshot.name} {snapshot.digest[:12]}",
            value=f"missing columns: {', '.join(missing)}",
            limit="every input of the model's signature",
            remedy="keep the columns that the current release needs in the data source until it is replaced",
        )
    known = labelled(rows, labels.target)
    served = registry.answer(model, known.rows[needed], python=python)
    answers = [[*row.values()] if isinstance(row, dict) else row for row in served.predictions]
    return Answers(known.labels, answers, served.classes)


def _binary(truth: np.ndarray, answers: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    from sklearn import metrics

    positive = truth == classes[-1]
    probability = answers[:, 1] if answers.ndim == 2 else answers
    are_probabilities = answers.ndim == 2 or (answers.dtype.kind == "f" and not set(answers.tolist()) <= {0.0, 1.0})
    said = probability >= 0.5 if are_probabilities else answers == classes[-1]
    measured = {
        "accuracy": metrics.accuracy_score(positive, said),
        "precision": metrics.precision_score(positive, said, zero_division=0.0),
        "recall": metrics.recall_score(positive, said, zero_division=0.0),
        "f1": metrics.f1_score(positive, said, zero_division=0.0),
    }
    if are_probabilities:
        measured["log_loss"] = metrics.log_loss(positive, probability, labels=[False, True])
        measured["brier"] = metrics.brier_score_loss(positive, probability)
        if positive.any() and not positive.all():
            measured["auc"] = metrics.roc_auc_score(positive, probability)
    return _floats(measured)


def _multiclass(truth: np.ndarray, answers: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    import numpy as np
    from sklearn import metrics

    said = classes[answers.argmax(axis=1)] if answers.ndim == 2 else answers
    measured = {
        "accuracy": metrics.accuracy_score(truth, said),
        "f1_macro": metrics.f1_score(truth, said, average="macro", zero_division=0.0),
    }
    # A class that the model does not know has no probability: no log loss, and no curve.
    present = np.unique(truth)
    if answers.ndim == 2 and np.isin(present, classes).all():
        measured["log_loss"] = metrics.log_loss(truth, answers, labels=classes)
        if len(present) == len(classes) == 2:
            # The curve of each of two classes against the rest is one and the same.
            measured["auc"] = metrics.roc_auc_score(truth == classes[1], answers[:, 1])
        elif len(present) == len(classes):
            measured["auc"] = metrics.roc_auc_score(truth, answers, multi_class="ovr", labels=classes)
    return _floats(measured)


def _regression(truth: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    from sklearn import metrics

    measured = {
        "mae": metrics.mean_absolute_error(truth, answers),
        "rmse": metrics.root_mean_squared_error(truth, answers),
        "bias": (answers - truth).mean(),
    }
    if len(truth) > 1 and truth.min() < truth.max():
        measured["r2"] = metrics.r2_score(truth, answers)
    return _floats(measured)


def _floats(measured: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in measured.items()}
