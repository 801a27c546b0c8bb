"""How a source of drift is said."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.drift.served import REST
from airflow_provider_mlpipex.services.drift.attribution import BatchSource


def test_what_the_plane_left_together_is_not_said_to_be_a_batch() -> None:
    assert "batch monday" in BatchSource(batch="monday", rows=3, shares={}).told
    told = BatchSource(batch=REST, rows=3, shares={}).told
    assert "3 rows of batches" in told
    assert "sent" not in told
