"""Batches of rows on their way through an endpoint: their names, their requests, and what was answered."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_mlpipex.domain.errors import InvalidName
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.values import Value

MAX_BATCH_LENGTH = 200
#: It travels in a header: printable ASCII, and no space at either end, which a proxy may take away.
_BATCH_PATTERN = re.compile(r"[!-~](?:[ -~]*[!-~])?")


def check_batch(batch: str) -> str:
    """Return ``batch`` if it can name a batch.

    :raises InvalidName: empty, longer than :data:`MAX_BATCH_LENGTH` characters, or not printable ASCII.
    """
    if len(batch) > MAX_BATCH_LENGTH or not _BATCH_PATTERN.fullmatch(batch):
        shown = batch if len(batch) <= 80 else f"{batch[:80]}… ({len(batch)} characters)"
        raise InvalidName(
            "batch",
            value=shown,
            limit=f"1 to {MAX_BATCH_LENGTH} printable ASCII characters",
            remedy="name it after the Dag run, as '{{ dag.dag_id }}/{{ run_id }}' does",
        )
    return batch


def inputs_of(model: ModelVersion) -> dict[str, bool]:
    """Columns that ``model`` takes, in order, and whether each is required; empty where its inputs have no names."""
    columns = json.loads(str(model.signature.get("inputs") or "[]"))
    return {str(column["name"]): bool(column.get("required", True)) for column in columns if "name" in column}


@dataclass(frozen=True, kw_only=True)
class PredictionRequest:
    """Rows for one request.

    :param address: of the endpoint, as the serving plane gives it.
    :param request_id: its sender's own; the plane gives it another.
    :param rows: one list a row, in the order of ``columns``; JSON values.
    """

    endpoint: EndpointRef
    address: str
    batch: str
    request_id: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class PredictionAnswer:
    """What came back, good or bad.

    :param status: of HTTP; 0 where nobody answered.
    :param release: that answered; empty where no release did.
    :param request_id: what the plane calls the request: labels are joined by it. Empty where no release answered.
    :param predictions: one a row; ``None`` where there are none.
    :param detail: what was said instead of predictions.
    """

    status: int
    release: str = ""
    request_id: str = ""
    predictions: list[Any] | None = None
    detail: str = ""


class AnsweredChunk(Value):
    """Rows of a batch that were answered by one request; ``number`` counts chunks from 0, the id is the plane's."""

    number: int
    request_id: str
    release: str
    predictions: list[Any]
