"""Counts and variances of an evaluation, held against other ways to the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.domain.statistics.same_rows import Covaried, Discordant, Estimated
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
from airflow_provider_mlpipex.services.training.evaluation import evaluate
from airflow_provider_mlpipex.services.training.same_rows import Answers, sample

GENERATOR = np.random.default_rng(8)
ROWS = 400
TRUTH = (GENERATOR.random(ROWS) < 0.3).astype(int)
SCORE = 1 / (1 + np.exp(-(1.4 * TRUTH + GENERATOR.normal(0, 1, ROWS) - 1)))
#: Another model, that errs on much the same rows; with ties, as trees have them.
OTHER = np.clip(SCORE + GENERATOR.normal(0, 0.08, ROWS), 0.02, 0.98).round(2)
CLASSES = np.array(["a", "b", "c"])[GENERATOR.integers(0, 3, ROWS)]
CHANCES = GENERATOR.dirichlet([1, 1, 1], ROWS) + 0.8 * np.eye(3)[np.searchsorted(["a", "b", "c"], CLASSES)]
CHANCES = CHANCES / CHANCES.sum(axis=1, keepdims=True)
CHANCES_TOO = 0.7 * CHANCES + 0.3 * GENERATOR.dirichlet([1, 1, 1], ROWS)
VALUES = GENERATOR.gamma(2, 10, ROWS)
ERRORS = GENERATOR.normal(0, 3, ROWS)


def two_columns(probability: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - probability, probability])


def test_shares_keep_the_rows_that_tell_the_two_apart() -> None:
    own, base = Answers(TRUTH, two_columns(SCORE), [0, 1]), Answers(TRUTH, two_columns(OTHER), [0, 1])
    found = sample("binary", ["accuracy", "recall"], own, base)
    mine, theirs = (SCORE >= 0.5) == TRUTH, (OTHER >= 0.5) == TRUTH
    paired = found["accuracy"].paired
    assert isinstance(paired, Discordant) and paired.rows == ROWS
    assert (paired.only_candidate, paired.only_baseline) == (int((mine & ~theirs).sum()), int((~mine & theirs).sum()))
    assert found["accuracy"].own == Counted(events=int(mine.sum()), trials=ROWS)
    assert found["recall"].own == Counted(events=int(mine[TRUTH == 1].sum()), trials=int(TRUTH.sum()))


def test_flags_texts_and_labels_are_told_as_the_evaluation_tells_them() -> None:
    said = np.where(SCORE >= 0.5, "yes", "no").tolist()
    truth = np.where(TRUTH == 1, "yes", "no")
    wanted = evaluate("binary", truth, said)
    for labels, answers in ((truth, said), (truth == "yes", [word == "yes" for word in said])):
        found = sample("binary", ["accuracy", "recall", "precision", "auc"], Answers(labels, answers, None), None)
        accuracy, recall = found["accuracy"].own, found["recall"].own
        assert isinstance(accuracy, Counted) and accuracy.events / accuracy.trials == wanted["accuracy"]
        assert isinstance(recall, Counted) and recall.events / recall.trials == wanted["recall"]
        assert set(found) == {"accuracy", "recall", "precision"}  # labels alone rank nothing


def test_ranking_varies_as_delong_delong_and_clarke_pearson_say() -> None:
    """Their formula as it stands in the paper, over every pair of a positive and a negative row."""
    own, base = Answers(TRUTH, two_columns(SCORE), [0, 1]), Answers(TRUTH, two_columns(OTHER), [0, 1])
    found = sample("binary", ["auc"], own, base)["auc"].paired
    assert isinstance(found, Covaried) and found.by == "delong"
    assert found.rows == 2 * int(TRUTH.sum())

    def placements(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positive, negative = score[TRUTH == 1][:, None], score[TRUTH == 0][None, :]
        psi = (positive > negative) + 0.5 * (positive == negative)
        assert psi.mean() == pytest.approx(metrics.roc_auc_score(TRUTH, score))
        return psi.mean(axis=1), psi.mean(axis=0)

    mine, theirs = placements(SCORE), placements(OTHER)
    over_positive, over_negative = np.cov(mine[0], theirs[0]), np.cov(mine[1], theirs[1])
    wanted = over_positive / (TRUTH == 1).sum() + over_negative / (TRUTH == 0).sum()
    assert [found.variance, found.baseline_variance, found.covariance] == pytest.approx(
        [wanted[0, 0], wanted[1, 1], wanted[0, 1]]
    )


def test_too_few_of_a_class_rank_nothing() -> None:
    truth = np.array([1] * 5 + [0] * 395)
    found = sample("binary", ["auc"], Answers(truth, two_columns(SCORE), [0, 1]), None)["auc"].own
    assert isinstance(found, Estimated) and found.rows == 10


CASES: list[tuple[Task, str, Any, Any, Any, list[Any] | None, Callable[[Any, Any], float]]] = [
    ("binary", "precision", TRUTH, SCORE, OTHER, [0, 1], lambda y, p: metrics.precision_score(y, p >= 0.5)),
    ("binary", "f1", TRUTH, SCORE, OTHER, [0, 1], lambda y, p: metrics.f1_score(y, p >= 0.5)),
    ("binary", "log_loss", TRUTH, SCORE, OTHER, [0, 1], lambda y, p: metrics.log_loss(y, p, labels=[0, 1])),
    ("binary", "brier", TRUTH, SCORE, OTHER, [0, 1], metrics.brier_score_loss),
    ("multiclass", "f1_macro", CLASSES, CHANCES, CHANCES_TOO, ["a", "b", "c"],
     lambda y, p: metrics.f1_score(y, np.array(["a", "b", "c"])[p.argmax(axis=1)], average="macro")),
    ("multiclass", "log_loss", CLASSES, CHANCES, CHANCES_TOO, ["a", "b", "c"],
     lambda y, p: metrics.log_loss(y, p, labels=["a", "b", "c"])),
    ("multiclass", "auc", CLASSES, CHANCES, CHANCES_TOO, ["a", "b", "c"],
     lambda y, p: metrics.roc_auc_score(y, p, multi_class="ovr", labels=["a", "b", "c"])),
    ("regression", "mae", VALUES, VALUES + ERRORS, VALUES + ERRORS * 1.1 + 0.3, None, metrics.mean_absolute_error),
    ("regression", "rmse", VALUES, VALUES + ERRORS, VALUES + ERRORS * 1.1, None, metrics.root_mean_squared_error),
    ("regression", "bias", VALUES, VALUES + ERRORS, VALUES + ERRORS * 1.1, None, lambda y, p: float((p - y).mean())),
    ("regression", "r2", VALUES, VALUES + ERRORS, VALUES + ERRORS * 1.1, None, metrics.r2_score),
]  # fmt: skip


@pytest.mark.parametrize(("task", "name", "truth", "mine", "theirs", "classes", "measure"), CASES)
def test_variances_are_those_of_rows_drawn_anew(
    task: Task, name: str, truth: Any, mine: Any, theirs: Any, classes: list[Any] | None, measure: Callable[..., float]
) -> None:
    """scikit-learn on 800 samples of the rows, beside what is computed here; equal up to what 800 samples tell."""
    asked = [two_columns(each) if task == "binary" else each for each in (mine, theirs)]
    own, base = (Answers(truth, each, classes) for each in asked)
    found = sample(task, [name], own, base)[name].paired
    assert isinstance(found, Covaried)
    generator, drawn = np.random.default_rng(3), []
    for _ in range(800):
        rows = generator.integers(0, ROWS, ROWS)
        drawn.append([measure(truth[rows], mine[rows]), measure(truth[rows], theirs[rows])])
    wanted = np.cov(np.array(drawn), rowvar=False)
    deviations = np.sqrt([found.variance, found.baseline_variance, found.variance_of(1.0)])
    difference = wanted[0, 0] + wanted[1, 1] - 2 * wanted[0, 1]
    assert deviations == pytest.approx(np.sqrt([wanted[0, 0], wanted[1, 1], difference]), rel=0.12)


def test_the_same_rows_give_the_same_numbers() -> None:
    asked = Answers(TRUTH, two_columns(SCORE), [0, 1])
    assert sample("binary", ["f1"], asked, None) == sample("binary", ["f1"], asked, None)
