from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from airflow_provider_mlpipex.domain.errors import TrainingFailed
from airflow_provider_mlpipex.domain.gates.metrics import TASK_METRICS
from airflow_provider_mlpipex.services.training.evaluation import evaluate

TRUTH = np.array([0, 0, 1, 1, 1, 0])
PROBABILITY = np.array([0.1, 0.6, 0.7, 0.4, 0.9, 0.2])


def test_binary_probabilities() -> None:
    found = evaluate("binary", TRUTH, np.column_stack([1 - PROBABILITY, PROBABILITY]))
    assert found == pytest.approx(
        {
            "accuracy": 4 / 6,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "f1": 2 / 3,
            "auc": metrics.roc_auc_score(TRUTH, PROBABILITY),
            "log_loss": metrics.log_loss(TRUTH, PROBABILITY),
            "brier": np.mean((TRUTH - PROBABILITY) ** 2),
        }
    )


@pytest.mark.parametrize(
    ("truth", "answers"),
    [
        (TRUTH, PROBABILITY),
        (TRUTH, PROBABILITY.reshape(-1, 1)),
        (TRUTH.astype(bool), PROBABILITY),
        (np.where(TRUTH == 1, "late", "early"), np.column_stack([1 - PROBABILITY, PROBABILITY])),
    ],
    ids=["positive-only", "one-column", "bool", "text"],
)
def test_binary_forms_agree(truth: Any, answers: Any) -> None:
    expected = evaluate("binary", TRUTH, np.column_stack([1 - PROBABILITY, PROBABILITY]))
    assert evaluate("binary", truth, answers) == pytest.approx(expected)


@pytest.mark.parametrize("as_type", [int, float, bool])
def test_labels_have_no_auc(as_type: type) -> None:
    found = evaluate("binary", TRUTH, (PROBABILITY >= 0.5).astype(as_type))
    assert found == pytest.approx({"accuracy": 4 / 6, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3})


def test_one_class_only_has_no_auc_but_all_else() -> None:
    found = evaluate("binary", np.ones(6, dtype=int), PROBABILITY)
    assert "auc" not in found
    assert found["accuracy"] == 0.5
    assert found["log_loss"] == pytest.approx(-np.log(PROBABILITY).mean())


def test_multiclass() -> None:
    truth = np.array(["a", "b", "c", "a"])
    answers = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.5, 0.2, 0.3], [0.6, 0.2, 0.2]])
    found = evaluate("multiclass", truth, answers)
    assert set(found) == {"accuracy", "f1_macro", "log_loss", "auc"}
    assert found["accuracy"] == 0.75
    labels = evaluate("multiclass", truth, np.array(["a", "b", "a", "a"]))
    assert labels == pytest.approx({"accuracy": 0.75, "f1_macro": found["f1_macro"]})


def test_a_multiclass_task_may_have_two_classes() -> None:
    answers = np.column_stack([1 - PROBABILITY, PROBABILITY])
    found = evaluate("multiclass", np.where(TRUTH == 1, "late", "early"), answers)
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(TRUTH, PROBABILITY))


def test_classes_that_the_rows_lack_keep_their_columns() -> None:
    answers = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    found = evaluate("multiclass", np.array(["a", "c"]), answers, classes=["a", "b", "c"])
    assert found["accuracy"] == 1.0
    assert "auc" not in found


def test_regression() -> None:
    found = evaluate("regression", [1.0, 2.0, 3.0], [2.0, 2.0, 5.0])
    assert found == pytest.approx({"mae": 1.0, "rmse": np.sqrt(5 / 3), "bias": 1.0, "r2": -1.5})
    assert "r2" not in evaluate("regression", [1.0, 1.0], [1.0, 2.0])


def test_every_metric_that_a_gate_may_name_is_yielded() -> None:
    three = np.array([0, 1, 2])
    yielded = {
        "binary": evaluate("binary", TRUTH, PROBABILITY),
        "multiclass": evaluate("multiclass", three, np.eye(3)),
        "regression": evaluate("regression", three, three + 0.5),
    }
    assert {task: set(found) for task, found in yielded.items()} == {
        task: set(names) for task, names in TASK_METRICS.items()
    }


@pytest.mark.parametrize(
    ("truth", "answers"),
    [([], []), ([1, 0], [1]), ([1, 0], np.zeros((2, 2, 2))), ([1, 0], np.zeros((2, 3)))],
    ids=["no-rows", "too-few", "too-deep", "too-many-columns"],
)
def test_refuses_predictions_that_do_not_fit(truth: Any, answers: Any) -> None:
    with pytest.raises(TrainingFailed, match="predictions of a binary model"):
        evaluate("binary", truth, answers)
