"""What the gates of a stage said last, from the ledger."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged, StageName
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform


def last_judgement(
    platform: Platform, endpoint: EndpointRef, *, rollout_id: str, stage: StageName
) -> GatesJudged | None:
    """The last judgement of ``stage`` of a rollout; ``None`` before there is one."""
    for entry in journal.walk_back(platform, endpoint, types=("gates-judged",), subject=rollout_id):
        if isinstance(entry.event, GatesJudged) and entry.event.stage == stage:
            return entry.event
    return None
