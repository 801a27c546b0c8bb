"""Served predictions and their sketches without a log and a database: what the plane in memory answers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import orjson

from airflow_provider_mlpipex.domain.drift.batch_faults import counts_of, find_faults
from airflow_provider_mlpipex.domain.drift.references import Reference
from airflow_provider_mlpipex.domain.drift.report import BatchFaults
from airflow_provider_mlpipex.domain.drift.served import BatchSketches, ServedSketches, whole_minutes
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, merge
from airflow_provider_mlpipex.domain.predictions import Prediction, PredictionSample
from airflow_provider_mlpipex.domain.values import digest_of


class Answered(Protocol):
    """One record of a prediction log."""

    @property
    def at(self) -> datetime: ...
    @property
    def score(self) -> float | None: ...
    @property
    def label(self) -> str: ...
    @property
    def inputs(self) -> Mapping[str, Any]: ...
    @property
    def status(self) -> int: ...
    @property
    def batch(self) -> str: ...


Answers = Mapping[str, Sequence[Answered]]


def sample(
    answers: Answers,
    *,
    release: str,
    since: datetime,
    until: datetime,
    limit: int,
    dropped: int,
    batch: str | None = None,
) -> PredictionSample:
    """:param answers: request id -> its records. :param dropped: records that were lost."""
    rows = [
        Prediction(
            request_id=rid,
            at=answer.at,
            batch=answer.batch,
            inputs=dict(answer.inputs),
            output=answer.score,
            score=answer.score if answer.score is not None and math.isfinite(answer.score) else None,
            label=answer.label,
        )
        for rid, some in answers.items()
        for answer in some
        if since <= answer.at <= until and answer.status == 200 and batch in (None, answer.batch)
    ]
    return PredictionSample(
        release=release,
        since=since,
        until=until,
        rows=tuple(sorted(rows, key=lambda row: digest_of(row.request_id))[:limit]),
        total=len(rows),
        dropped_share=dropped / (dropped + len(rows)) if dropped else 0.0,
    )


def sketches(
    answers: Answers,
    reference: Reference | None,
    *,
    release: str,
    since: datetime,
    until: datetime,
    dropped: int,
) -> ServedSketches:
    """:param answers: request id -> its records. :param dropped: records that were lost."""
    since, until = whole_minutes(since, until)
    if reference is None:
        return ServedSketches(release=release, since=since, until=until)
    rows = list(_within(answers, since, until))
    return ServedSketches(
        release=release,
        since=since,
        until=until,
        reference=reference,
        columns=_count(reference, rows),
        dropped_share=dropped / (dropped + len(rows)) if dropped else 0.0,
    )


def sketches_by_batch(
    answers: Answers, reference: Reference | None, *, release: str, column: str, since: datetime, until: datetime
) -> BatchSketches:
    """:param answers: request id -> its records."""
    since, until = whole_minutes(since, until)
    if reference is None or column not in reference.columns:
        return BatchSketches(release=release, column=column, since=since, until=until)
    rows = list(_within(answers, since, until))
    return BatchSketches(
        release=release,
        column=column,
        since=since,
        until=until,
        reference=reference.columns[column],
        batches={
            batch: _count(reference, [row for row in rows if row.batch == batch])[column]
            for batch in {row.batch for row in rows}
        },
    )


def batch_faults(
    answers: Answers, reference: Reference | None, *, since: datetime, until: datetime, psi: float, alpha: float
) -> BatchFaults:
    """:param answers: request id -> its records."""
    if reference is None:
        return BatchFaults()
    rows_of: dict[str, list[Answered]] = {}
    for row in _within(answers, *whole_minutes(since, until)):
        rows_of.setdefault(row.batch, []).append(row)
    counted = {batch: _count(reference, rows) for batch, rows in rows_of.items()}
    counts = {
        name: counts_of(column, {batch: sketches[name] for batch, sketches in counted.items()})
        for name, column in reference.columns.items()
    }
    return find_faults(reference, counts, psi=psi, alpha=alpha)


def _within(answers: Answers, since: datetime, until: datetime) -> Iterator[Answered]:
    for some in answers.values():
        yield from (answer for answer in some if since <= answer.at < until and answer.status == 200)


def _count(reference: Reference, rows: Sequence[Answered]) -> dict[str, Sketch]:
    """Rows that have the same columns are counted together; a column that a row does not have is absent there."""
    alike: dict[Hashable, list[Answered]] = {}
    for row in rows:
        alike.setdefault(frozenset(row.inputs), []).append(row)
    counted = [reference.empty()]
    for group in alike.values():
        inputs = [_as_logged(row.inputs) for row in group]
        columns = {name: [given[name] for given in inputs] for name in inputs[0]}
        counted.append(reference.sketch(columns, scores=[row.score for row in group]))
    return {name: merge(part[name] for part in counted) for name in reference.columns}


def _as_logged(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has neither NaN nor infinity, and neither has the log."""
    logged: dict[str, Any] = orjson.loads(
        orjson.dumps(dict(inputs), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=str)
    )
    return logged
