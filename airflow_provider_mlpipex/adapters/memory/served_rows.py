"""The sample of served predictions without a database: what the plane in memory answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

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


def sample(
    answers: Mapping[str, Sequence[Answered]],
    *,
    release: str,
    since: datetime,
    until: datetime,
    limit: int,
    dropped: int,
) -> PredictionSample:
    """:param answers: request id -> its records. :param dropped: records that were lost."""
    rows = [
        Prediction(
            request_id=rid,
            at=answer.at,
            inputs=dict(answer.inputs),
            output=answer.score,
            score=answer.score if answer.score is not None and math.isfinite(answer.score) else None,
            label=answer.label,
        )
        for rid, some in answers.items()
        for answer in some
        if since <= answer.at <= until and answer.status == 200
    ]
    return PredictionSample(
        release=release,
        since=since,
        until=until,
        rows=tuple(sorted(rows, key=lambda row: digest_of(row.request_id))[:limit]),
        total=len(rows),
        dropped_share=dropped / (dropped + len(rows)) if dropped else 0.0,
    )
