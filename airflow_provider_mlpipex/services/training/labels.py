"""Labels to learn from and to measure by: which rows have one, and which labels are none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.manifest.training_block import TrainingSpec

if TYPE_CHECKING:
    import pandas as pd


class LabelledRows(NamedTuple):
    """``rows`` that have a label, numbered from 0; ``labels`` of them; how many rows are ``unlabelled``."""

    rows: pd.DataFrame
    labels: pd.Series
    unlabelled: int


def require_labels(training: TrainingSpec, older: pd.Series, newer: pd.Series, *, subject: str) -> None:
    """Judge the labels of a snapshot's training rows (``older``) and evaluation rows (``newer``).

    :raises DataQualityFailed: they are infinite, of a type or number of classes that the task does not know, or too
        many are missing; with counts, and no value of a row.
    """
    import pandas as pd

    both = pd.concat([older, newer], ignore_index=True)
    missing = both.isna()
    present = both[~missing]
    share = float(missing.mean()) if len(both) else 0.0
    thing = f"{subject}, target {training.target}"
    if share > training.unlabelled_limit:
        raise DataQualityFailed(
            thing,
            value=f"{int(missing.sum())} of {len(both)} rows have no label ({format_ratio(round(share, 4))})",
            limit=f"at most {format_ratio(training.unlabelled_limit)} (training.max_unlabelled)",
            remedy="end the window where labels are known, or raise training.max_unlabelled, which a review will show",
        )
    for part, labels in (("training", older), ("evaluation", newer)):
        if not labels.notna().any():
            raise DataQualityFailed(
                f"{thing}, {part} rows",
                value=f"no label in {len(labels)} rows",
                limit="at least one row with a label",
                remedy="end the window where labels are known",
            )
    (_require_numbers if training.task == "regression" else _require_classes)(training, present, older, thing)


def labelled(rows: pd.DataFrame, target: str) -> LabelledRows:
    """``rows`` without those whose label is not known yet."""
    known = rows[rows[target].notna()].reset_index(drop=True)
    return LabelledRows(known, settled(known[target]), len(rows) - len(known))


def settled(labels: pd.Series) -> pd.Series:
    """``labels`` without gaps in the type that they had before a gap made floats or objects of them."""
    if labels.dtype.kind == "f" and len(labels) and (labels % 1 == 0).all() and labels.abs().max() < 2**53:
        return labels.astype("int64")
    if labels.dtype.kind == "O" and {*map(type, labels)} == {bool}:
        return labels.astype(bool)
    return labels


def class_labels(truth: Any) -> list[Any]:
    """The classes of labels, in order; 0 and 1 although only one of them occurs."""
    import numpy as np

    classes: list[Any] = np.unique(np.asarray(truth)).tolist()
    return [0, 1] if set(classes) <= {0, 1} else classes


def _require_numbers(training: TrainingSpec, labels: pd.Series, older: pd.Series, thing: str) -> None:
    import numpy as np

    odd = sum(1 for value in labels if isinstance(value, (bool, str)) or not isinstance(value, (int, float)))
    if labels.dtype.kind not in "iuf" and odd:
        raise _unfit(thing, f"{odd} labels of type {_types(labels)}", "numbers, for task regression")
    if infinite := int(np.isinf(labels.astype(float)).sum()):
        raise _unfit(thing, f"{infinite} infinite labels", "finite numbers, for task regression")


def _require_classes(training: TrainingSpec, labels: pd.Series, older: pd.Series, thing: str) -> None:
    if labels.dtype.kind == "f" and not (labels % 1 == 0).all():
        broken = int((labels % 1 != 0).sum())
        raise _unfit(thing, f"{broken} labels that are no whole numbers", f"classes, for task {training.task}")
    kinds = {kind for kind in map(type, labels) if kind not in (bool, str, int, float)}
    if labels.dtype.kind == "O" and (kinds or len({*map(type, labels)}) > 1):
        raise _unfit(thing, f"labels of type {_types(labels)}", "whole numbers, texts or flags, of one type")
    classes = int(labels.nunique())
    if training.task == "binary" and classes > 2:
        raise _unfit(thing, f"{classes} classes", "2 classes, for task binary")
    if older.nunique() < 2:
        raise _unfit(f"{thing}, training rows", "a single class", "at least 2 classes to tell apart")


def _types(values: Iterable[Any]) -> str:
    return " and ".join(sorted({type(value).__name__ for value in values}))


def _unfit(thing: str, value: str, limit: str) -> DataQualityFailed:
    return DataQualityFailed(
        thing, value=value, limit=limit, remedy="correct the label in the data source, or the task in the manifest"
    )
