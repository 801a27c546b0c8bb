"""What the stage envelope wrote: into the chain where a stage failed, else beside it."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry, RoutineRecord, StageEnded
from airflow_provider_mlpipex.ports import Ledger


def stage_records(ledger: Ledger, endpoint: EndpointRef) -> list[Entry | RoutineRecord]:
    """Of every run of every stage, oldest first."""
    both = [*ledger.read(endpoint, types=("stage-ended",)), *reversed(ledger.records(endpoint, types=("stage-ended",)))]
    return sorted(both, key=lambda each: each.recorded_at)


def stage_ends(ledger: Ledger, endpoint: EndpointRef) -> list[StageEnded]:
    """The same without who wrote it."""
    return [each.event for each in stage_records(ledger, endpoint) if isinstance(each.event, StageEnded)]


def failed_stages(ledger: Ledger, endpoint: EndpointRef) -> list[StageEnded]:
    """Those that stand in the chain."""
    return [
        entry.event for entry in ledger.read(endpoint, types=("stage-ended",)) if isinstance(entry.event, StageEnded)
    ]
