"""Rows of labels as somebody else's table holds them, checked before anything is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import MAX_ID_LENGTH, MAX_LABEL_LENGTH, Label
from airflow_provider_mlpipex.domain.predictions import REQUEST_ID
from airflow_provider_mlpipex.domain.values import MAX_EXACT_INTEGER

if TYPE_CHECKING:
    import pandas as pd

LABEL, OBSERVED_AT = "label", "observed_at"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class LabelledId:
    """One request and what became true of it. :param observed_at: when that was known, UTC."""

    request_id: str
    label: Label
    observed_at: datetime | None


@dataclass(frozen=True, slots=True)
class LabelRows:
    """A table of labels, each request once.

    :param rows: of the table. :param unlabelled: without a label, because nobody knows it yet.
    :param repeated: that say once more what another one has said.
    """

    labels: tuple[LabelledId, ...]
    rows: int
    unlabelled: int
    repeated: int


def read_labels(table: pd.DataFrame, *, subject: str) -> LabelRows:
    """:param table: columns ``request_id``, ``label`` and, where known, ``observed_at`` (UTC, if it names no zone).
    :param subject: the table in the user's words.
    :raises DataQualityFailed: a missing column, no rows, an id that is missing, too long or labelled twice
        differently, a label that is neither number nor text, a moment that is none. Every row is looked at first.
    """
    missing = [column for column in (REQUEST_ID, LABEL) if column not in table.columns]
    if missing:
        raise _refused(
            f"{subject}, columns {', '.join(missing)}",
            value=f"the table has {', '.join(map(str, table.columns)) or 'no columns'}",
            limit=f"{REQUEST_ID}, {LABEL} and perhaps {OBSERVED_AT}",
            remedy=f"rename its columns; {REQUEST_ID} is what the endpoint answers in the header x-request-id",
        )
    if table.empty:
        raise _refused(subject, value="0 rows", limit="at least one label", remedy="see why the export is empty")
    ids = _ids(table[REQUEST_ID].tolist(), subject=subject)
    labels = _labels(table[LABEL].tolist(), subject=subject)
    moments = _moments(table[OBSERVED_AT], subject=subject) if OBSERVED_AT in table.columns else [None] * len(ids)
    by_id: dict[str, LabelledId] = {}
    contradicted: dict[str, None] = {}
    repeated = 0
    for request_id, label, moment in zip(ids, labels, moments, strict=True):
        if label is None:
            continue
        known = by_id.setdefault(request_id, row := LabelledId(request_id, label, moment))
        if known is not row:
            repeated += 1
            if known.label != label:
                contradicted[request_id] = None
    if contradicted:
        raise _refused(
            f"{subject}, column {LABEL}",
            value=f"{len(contradicted)} ids with several labels: {_some(list(contradicted))}",
            limit="one label for each id",
            remedy="decide which one is true, and write only that",
        )
    return LabelRows(labels=tuple(by_id.values()), rows=len(ids), unlabelled=labels.count(None), repeated=repeated)


def _ids(raw: Sequence[Any], *, subject: str) -> list[str]:
    ids = ["" if _is_missing(value) else _id_text(value) for value in raw]
    bad = [row for row, rid in enumerate(ids, start=1) if not rid or len(rid) > MAX_ID_LENGTH]
    if bad:
        raise _refused(
            f"{subject}, column {REQUEST_ID}",
            value=f"{len(bad)} unusable ids, in rows {_some(list(map(str, bad)))}",
            limit=f"text of 1 to {MAX_ID_LENGTH} characters in every row",
            remedy="keep the header x-request-id of each answer with what your system stores of it",
        )
    return ids


def _id_text(value: Any) -> str:
    # A reader of CSV makes numbers of ids that look like numbers.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _labels(raw: Sequence[Any], *, subject: str) -> list[Label | None]:
    labels = [None if _is_missing(value) or value == "" else _label(value) for value in raw]
    bad = [row for row, label in enumerate(labels, start=1) if isinstance(label, _Unusable)]
    if bad:
        first = labels[bad[0] - 1]
        raise _refused(
            f"{subject}, column {LABEL}",
            value=f"{len(bad)} unusable labels, in rows {_some(list(map(str, bad)))}: {first}",
            limit=f"finite numbers, integers up to 2^53, flags, or text of at most {MAX_LABEL_LENGTH} characters",
            remedy="write the value that the model was trained to predict",
        )
    usable = [label for label in labels if not isinstance(label, _Unusable)]
    return _numbers_in_text(usable)


class _Unusable(str):
    """A label that is none, as it is shown."""


def _label(value: Any) -> Label | _Unusable:
    import numpy as np

    if isinstance(value, (bool, int, float, Decimal, np.bool_, np.number)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        # A label is kept as a float: beyond 2^53 two whole numbers could become one class.
        is_rounded = isinstance(value, int | np.integer) and abs(int(value)) > MAX_EXACT_INTEGER
        return number if math.isfinite(number) and not is_rounded else _Unusable(value)
    if isinstance(value, str) and len(value) <= MAX_LABEL_LENGTH:
        return value
    return _Unusable(f"{type(value).__name__} {str(value)[:40]}")


def _numbers_in_text(labels: list[Label | None]) -> list[Label | None]:
    """Where every label is a number in text, as databases hand them out, they are numbers."""
    known = [label for label in labels if label is not None]
    try:
        numbers = {label: float(label) for label in known if isinstance(label, str)}
    except ValueError:
        return labels
    if not all(map(math.isfinite, numbers.values())):
        return labels
    if any(label.isdecimal() and int(label) > MAX_EXACT_INTEGER for label in numbers):
        return labels
    return [numbers[label] if isinstance(label, str) else label for label in labels]


def _moments(column: pd.Series, *, subject: str) -> list[datetime | None]:
    import pandas as pd

    try:
        if pd.api.types.is_numeric_dtype(column) and column.notna().any():
            raise ValueError(f"numbers, for example {column.dropna().iloc[0]}")
        is_text = not pd.api.types.is_datetime64_any_dtype(column)
        read = pd.to_datetime(column, utc=True, **({"format": "ISO8601"} if is_text else {}))
    except (ValueError, TypeError, OverflowError) as error:
        raise _refused(
            f"{subject}, column {OBSERVED_AT}",
            value=str(error)[:200],
            limit="moments, in ISO 8601",
            remedy="write 2026-03-01T14:03:00+00:00, or leave the column out",
        ) from None
    return [None if moment is pd.NaT else moment.to_pydatetime().astimezone(UTC) for moment in read]


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _some(shown: Sequence[str]) -> str:
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _refused(thing: str, *, value: str, limit: str, remedy: str) -> DataQualityFailed:
    return DataQualityFailed(thing, value=value, limit=limit, remedy=f"{remedy}; nothing was kept of this table")
