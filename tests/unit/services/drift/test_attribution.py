"""How a source of drift is said."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_mlpipex.domain.drift.served import REST
from airflow_provider_mlpipex.services.batches.origin import BatchFacts
from airflow_provider_mlpipex.services.drift.attribution import BatchSource


def test_what_the_plane_left_together_is_not_said_to_be_a_batch() -> None:
    assert "batch monday" in BatchSource(batch="monday", rows=3, shares={}).message
    told = BatchSource(batch=REST, rows=3, shares={}).message
    assert "3 rows of batches" in told
    assert "sent" not in told


def test_rows_that_no_dag_run_wrote_down_are_not_laid_at_its_door() -> None:
    facts = BatchFacts(
        batch="nightly",
        dag_id="score",
        run_id="2026-03-01",
        task_id="ask",
        try_number=1,
        digest="d" * 64,
        rows=10,
        sent=12,
        answered={"1.0.0": 10},
        recorded_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    own = BatchSource(batch="nightly", rows=12, shares={}, sent=facts)
    assert own.message == "batch nightly: sent by task ask of Dag run 2026-03-01 of score, rows dddddddddddd"
    claimed = own.model_copy(update={"rows": 2012})
    assert (
        "2012 rows came under this name, but task ask of Dag run 2026-03-01 of score wrote down 12" in claimed.message
    )
    assert "at least 2000 are somebody else's" in claimed.message
    assert "sent by" not in claimed.message
