"""Batches in the ledger: which Dag run sent the rows that an endpoint answered."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, BatchServed, Origin
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.batches.origin import BatchFacts, batches_of
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform

ENDPOINT = EndpointRef.parse("production/flight-delay")
OTHER = EndpointRef.parse("production/fraud-scorer")


@pytest.fixture
def platform() -> MemoryPlatform:
    return memory_platform()


def _record(platform: MemoryPlatform, batch: str, *, endpoint: EndpointRef = ENDPOINT, **origin: Any) -> str:
    """Write down that a task served ``batch``; return the digest of its rows."""
    dag_id, _, run_id = batch.partition("/")
    origin = {"kind": "task", "dag_id": dag_id, "run_id": run_id, "task_id": "score", "try_number": 1} | origin
    digest = digest_of([batch, origin])
    journal.note(
        platform.acting_as(Origin.model_validate(origin)),
        endpoint,
        BatchServed(batch=batch, rows=3, digest=digest, answered={"flight-delay-1": 3}),
    )
    return digest


def test_a_batch_is_traced_to_the_task_that_sent_it(platform: MemoryPlatform) -> None:
    digest = _record(platform, "nightly/2026-03-01", try_number=2)
    _record(platform, "nightly/2026-03-02")
    found = batches_of(platform, ENDPOINT, ["nightly/2026-03-01"])
    assert found == {
        "nightly/2026-03-01": BatchFacts(
            batch="nightly/2026-03-01",
            dag_id="nightly",
            run_id="2026-03-01",
            task_id="score",
            try_number=2,
            digest=digest,
            rows=3,
            sent=3,
            answered={"flight-delay-1": 3},
            recorded_at=platform.clock.now(),
        )
    }


def test_of_a_batch_that_was_served_again_the_newest_entry_wins(platform: MemoryPlatform) -> None:
    _record(platform, "nightly/2026-03-01", task_id="score")
    platform.clock.advance(60)
    digest = _record(platform, "nightly/2026-03-01", task_id="score_again")
    journal.note(platform, ENDPOINT, AlertRaised(title="something else"))
    (facts,) = batches_of(platform, ENDPOINT, {"nightly/2026-03-01"}).values()
    assert (facts.task_id, facts.digest, facts.recorded_at) == ("score_again", digest, platform.clock.now())


def test_batches_that_no_task_sent_and_those_of_other_endpoints_are_not_found(platform: MemoryPlatform) -> None:
    _record(platform, "nightly/2026-03-01", endpoint=OTHER)
    assert batches_of(platform, ENDPOINT, ["nightly/2026-03-01", "web", ""]) == {}
    assert batches_of(platform, OTHER, []) == {}
