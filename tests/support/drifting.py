"""An endpoint that a test lets drift: a reference of training rows, and batches of requests like them, or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np

from airflow_provider_mlpipex.domain.drift.references import Reference, make_reference
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import BatchServed, Origin
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.testing.plane import MemoryPlane

COUNTRIES = ("NL", "BE", "DE", "FR")
TRAINING_ROWS = 20_000


def training_rows(rows: int = TRAINING_ROWS, *, seed: int = 0) -> dict[str, list[Any]]:
    """``amount`` moves the score and ``hour`` does not; ``country`` is a text."""
    chance = np.random.default_rng(seed)
    return {
        "amount": chance.normal(50.0, 10.0, rows).tolist(),
        "hour": chance.uniform(0.0, 24.0, rows).tolist(),
        "country": chance.choice(COUNTRIES, rows).tolist(),
    }


def score_of(row: Mapping[str, Any]) -> float:
    amount = row.get("amount")
    return 1.0 / (1.0 + np.exp(-(amount - 50.0) / 10.0)) if isinstance(amount, float) else 0.5


def reference() -> Reference:
    rows = training_rows()
    scores = [float(score_of({"amount": amount})) for amount in rows["amount"]]
    return make_reference(rows, scores=scores)


def send_batch(
    platform: Platform,
    endpoint: EndpointRef,
    release: str,
    batch: str,
    *,
    rows: int = 2000,
    shifted: Mapping[str, float] | None = None,
    without: str = "",
    announced: bool = True,
) -> str:
    """``rows`` requests of ``batch``, answered by ``release``; return the digest of what was sent.

    :param shifted: column -> what is added to its values. :param without: a column that the requests leave out.
    :param announced: whether a task says in the ledger that it sent them: Dag ``score__<name>``, run ``run-<batch>``.
    """
    plane = platform.plane
    assert isinstance(plane, MemoryPlane)
    columns = training_rows(rows, seed=crc32(batch.encode()))
    for column, by in (shifted or {}).items():
        columns[column] = [value + by for value in columns[column]]
    columns.pop(without, None)
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        inputs = dict(zip(columns, values, strict=True))
        plane.answer(endpoint, f"{batch}-{number}", {release: float(score_of(inputs))}, inputs=inputs, batch=batch)
    digest = digest_of([batch, rows, dict(shifted or {})])
    if announced:
        origin = Origin(
            kind="task", dag_id=f"score__{endpoint.name}", run_id=f"run-{batch}", task_id="score", try_number=1
        )
        told = BatchServed(batch=batch, rows=rows, digest=digest, answered={release: rows})
        journal.note(platform.acting_as(origin), endpoint, told)
    return digest
