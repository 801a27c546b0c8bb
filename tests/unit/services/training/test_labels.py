"""Labels: what is not known yet is left out and counted, what is no label is refused with counts, before training."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.domain.manifest.training_block import TrainingSpec
from airflow_provider_mlpipex.services.training.labels import labelled, require_labels


def spec(task: str, **more: Any) -> TrainingSpec:
    return TrainingSpec.model_validate({"callable": "a:b", "task": task, "target": "y", **more})


def judge(task: str, older: Any, newer: Any = None, **more: Any) -> None:
    newer = older if newer is None else newer
    require_labels(spec(task, **more), pd.Series(older), pd.Series(newer), subject="dataset shop")


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("binary", [0, 1]),
        ("binary", [0.0, 1.0, None, 1.0, 0.0, 1.0]),
        ("binary", pd.array([True, False], dtype="boolean")),
        ("binary", ["yes", "no"]),
        ("multiclass", ["a", "b", "c"]),
        ("multiclass", pd.Categorical(["a", "b", "c"])),
        ("multiclass", pd.array([1, 2, 3, 1, 2, None], dtype="Int64")),
        ("regression", [0.5, 1, -3]),
        ("regression", pd.array([1, 2, 3, 4, 5, None], dtype="Int64")),
    ],
)
def test_labels_of_the_task_are_taken(task: str, labels: Any) -> None:
    judge(task, labels)


@pytest.mark.parametrize(
    ("task", "labels", "found"),
    [
        ("regression", [1.0, np.inf, -np.inf], "4 infinite labels"),
        ("regression", ["1", "2"], "4 labels of type str"),
        ("regression", [True, False], "4 labels of type bool"),
        ("regression", [Decimal("1.5"), Decimal(2)], "4 labels of type Decimal"),
        ("binary", [0, 1, 2], "3 classes"),
        ("binary", [1, 1], "a single class"),
        ("binary", [0.25, 0.75], "4 labels that are no whole numbers"),
        ("multiclass", [np.inf, 1.0], "2 labels that are no whole numbers"),
        ("multiclass", ["a", 1], "labels of type int and str"),
        ("multiclass", [Decimal(1), Decimal(2)], "labels of type Decimal"),
        ("multiclass", ["a", "a"], "a single class"),
    ],
)
def test_what_is_no_label_of_the_task_is_refused_with_counts(task: str, labels: Any, found: str) -> None:
    with pytest.raises(DataQualityFailed, match="dataset shop, target y") as refused:
        judge(task, labels)
    assert found in str(refused.value)


def test_unknown_labels_are_ordinary_up_to_a_stated_share() -> None:
    known, late = [0, 1] * 8, [0, 1, None, None]
    judge("binary", known, late)
    with pytest.raises(DataQualityFailed, match="2 of 20 rows have no label"):
        judge("binary", known, late, max_unlabelled="5%")
    with pytest.raises(DataQualityFailed, match=r"evaluation rows.*no label in 4 rows"):
        judge("binary", known, [None] * 4)


def test_a_rare_class_may_be_absent_from_the_evaluation_rows() -> None:
    judge("binary", [0, 1, 0, 0], [0, 0])


@pytest.mark.parametrize(
    ("labels", "settled", "dtype"),
    [
        ([1.0, np.nan, 0.0], [1, 0], "int64"),
        ([0.5, np.nan, 2.0], [0.5, 2.0], "float64"),
        (np.array([True, None, False], dtype=object), [True, False], "bool"),
        (["up", None, "down"], ["up", "down"], "object"),
    ],
)
def test_rows_without_a_label_are_left_out_and_counted(labels: Any, settled: list[Any], dtype: str) -> None:
    known = labelled(pd.DataFrame({"x": [1, 2, 3], "y": labels}), "y")
    assert (known.rows["x"].tolist(), known.labels.tolist(), known.unlabelled) == ([1, 3], settled, 1)
    assert str(known.labels.dtype) == dtype


def test_a_manifest_of_before_unlabelled_rows_were_counted_keeps_its_digest() -> None:
    assert "max_unlabelled" not in spec("binary").to_json()
