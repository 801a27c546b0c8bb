"""Late labels beside answers of every type: the metrics are those that scikit-learn gives for what was meant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import Label, LabelledPrediction
from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.services.outcomes.label_rows import read_labels
from airflow_provider_mlpipex.services.outcomes.metrics import Performance, measure
from airflow_provider_mlpipex.serving.prediction_log.outputs import describe

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TRUTH = np.random.default_rng(1).random(200) < 0.5
ANSWERED = np.where(np.random.default_rng(2).random(200) < 0.9, TRUTH, ~TRUTH)
WAYS: dict[str, tuple[Any, Any]] = {
    "flag": (False, True),
    "number": (0.0, 1.0),
    "digits": ("0", "1"),
    "words": ("no", "yes"),
}


def rows(answers: Sequence[Any], labels: Sequence[Label]) -> list[LabelledPrediction]:
    described = [describe(answer) for answer in answers]
    return [
        LabelledPrediction(f"r{at}", "release", NOW, one.kind, one.score, one.label, None, label)
        for at, (one, label) in enumerate(zip(described, labels, strict=True))
    ]


def performance(outcomes: list[LabelledPrediction], task: Task = "binary") -> Performance:
    labels = sorted({row.label for row in outcomes}, key=str)
    return measure(task, outcomes, labels, release="release", since=NOW, until=NOW + timedelta(days=1))


def said(which: np.ndarray, words: tuple[Any, Any]) -> list[Any]:
    return [words[int(value)] for value in which]


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        # As label_rows keeps them: a flag is a number, and so are digits in text where all labels are.
        ("flag", (0.0, 1.0)),
        ("flag", ("false", "true")),
        ("flag", ("False", "True")),
        ("number", (0.0, 1.0)),
        ("digits", (0.0, 1.0)),
        ("words", ("no", "yes")),
    ],
)
def test_answers_and_labels_meet_whatever_they_are_written_as(model: str, labels: tuple[Label, Label]) -> None:
    outcomes = rows(said(ANSWERED, WAYS[model]), said(TRUTH, labels))
    found = performance(outcomes)
    assert found.why == ""
    assert found.metrics["accuracy"] == pytest.approx(accuracy_score(TRUTH, ANSWERED))
    assert found.samples == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([1e300, 0.5], [1e300, 0.5]),
        (["1e300", "2"], [1e300, 2.0]),
        (["9007199254740993", "9007199254740992"], ["9007199254740993", "9007199254740992"]),
        ([True, False], [1.0, 0.0]),
    ],
)
def test_a_label_is_kept_with_all_its_digits(given: list[Any], kept: list[Label]) -> None:
    table = pd.DataFrame({"request_id": ["a", "b"], "label": pd.Series(given, dtype=object)})
    assert [row.label for row in read_labels(table, subject="labels").labels] == kept


def test_flags_that_were_logged_before_they_had_a_score_count_too() -> None:
    older = [
        LabelledPrediction(f"r{at}", "release", NOW, "text", None, str(bool(answer)), None, float(label))
        for at, (answer, label) in enumerate(zip(ANSWERED, TRUTH, strict=True))
    ]
    newer = rows([bool(answer) for answer in ANSWERED], [float(label) for label in TRUTH])
    assert performance(older[:100] + newer[100:]).metrics == performance(newer).metrics


def test_words_beside_numbers_still_give_no_metrics() -> None:
    found = performance(rows(said(ANSWERED, WAYS["words"]), said(TRUTH, (0.0, 1.0))))
    assert (found.metrics, found.why) == ({}, "labels are numbers, and the model answers text")


def test_a_class_named_true_among_others_stays_a_word() -> None:
    outcomes = rows(["true", "false", "maybe"] * 10, ["true", "false", "maybe"] * 10)
    assert performance(outcomes, "multiclass").metrics["accuracy"] == 1.0
    assert performance(rows(["true", "false"] * 10, ["true", "false"] * 10)).metrics["accuracy"] == 1.0
