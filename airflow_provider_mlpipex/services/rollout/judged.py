"""What the gates of a stage said last, from the ledger."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged, StageName
from airflow_provider_mlpipex.services.platform import Platform


def last_judged(platform: Platform, endpoint: EndpointRef, *, rollout_id: str, stage: StageName) -> GatesJudged | None:
    """The last judgement of ``stage`` of a rollout; ``None`` before there is one."""
    for entry in reversed(platform.ledger.read(endpoint)):
        event = entry.event
        if isinstance(event, GatesJudged) and (event.rollout_id, event.stage) == (rollout_id, stage):
            return event
    return None
