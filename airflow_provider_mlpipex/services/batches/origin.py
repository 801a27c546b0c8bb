"""Batches of rows that tasks sent to an endpoint: what the ledger knows of each, and which Dag run was behind it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import BatchServed, Entry
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

#: Entries of one batch that are read: its newest, and those of the tries and runs before.
MAX_SENDINGS = 100


class BatchFacts(Value):
    """One batch, as the last task that served it wrote it down.

    :param sent: rows that every task has sent under this name, as they wrote it down, resendings among them.
    :param digest: of the rows' content, as of a dataset snapshot.
    :param answered: release id -> rows that it answered.
    """

    batch: str
    dag_id: str
    run_id: str
    task_id: str
    try_number: int
    digest: str
    rows: int
    sent: int
    answered: dict[str, int]
    recorded_at: datetime


def batches_of(platform: Platform, endpoint: EndpointRef, names: Collection[str]) -> dict[str, BatchFacts]:
    """Batch -> its newest entry in the ledger, for those of ``names`` that have one.

    A batch that no task of this provider sent has none: its name is whatever its client chose.
    """
    facts = {}
    for name in set(names):
        entries = platform.ledger.read(
            endpoint, types=("batch-served",), subject=name, newest_first=True, limit=MAX_SENDINGS
        )
        served = [(entry, entry.event) for entry in entries if isinstance(entry.event, BatchServed)]
        if served:
            sent = sum(event.rows if event.sent is None else event.sent for _, event in served)
            facts[name] = _facts(*served[0], sent=sent)
    return facts


def _facts(entry: Entry, served: BatchServed, *, sent: int) -> BatchFacts:
    origin = entry.origin
    return BatchFacts(
        batch=served.batch,
        dag_id=origin.dag_id,
        run_id=origin.run_id,
        task_id=origin.task_id,
        try_number=origin.try_number,
        digest=served.digest,
        rows=served.rows,
        sent=sent,
        answered=served.answered,
        recorded_at=entry.recorded_at,
    )


def record_batch(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    batch: str,
    rows: int,
    digest: str,
    answered: Mapping[str, int],
    sent: int,
) -> None:
    """Write down who sent ``batch``, what was in it, which release answered how many of its rows, and how many rows
    were sent for that, resendings among them."""
    served = BatchServed(batch=batch, rows=rows, digest=digest, answered=dict(answered), sent=sent)
    journal.note(platform, endpoint, served)
