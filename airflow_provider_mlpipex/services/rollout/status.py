"""What an endpoint serves right now: the ledger's view beside the plane's own."""

from __future__ import annotations

from typing import Any

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.plane_observation import PlaneObservation
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform


def endpoint_status(platform: Platform, endpoint: EndpointRef) -> dict[str, Any]:
    """JSON-ready summary; ``plane`` is ``None`` with ``plane_error`` where the plane cannot be asked."""
    state = journal.load(platform, endpoint)
    observation: PlaneObservation | None = None
    trouble = ""
    try:
        observation = platform.plane.observe(endpoint)
    except MlpipexError as error:
        trouble = str(error)
    rollout = state.rollout
    last = state.last_result
    return {
        "endpoint": str(endpoint),
        "current": state.current.id if state.current else None,
        "current_since": state.current_since.isoformat() if state.current_since else None,
        "previous": state.previous.id if state.previous else None,
        "rollout": None
        if rollout is None
        else {
            "id": rollout.id,
            "phase": rollout.phase,
            "candidate": rollout.candidate.id,
            "step": rollout.step,
            "verdicts": dict(rollout.verdicts),
            "hold": rollout.hold.to_json() if rollout.hold else None,
        },
        "doubt": state.doubt.to_json() if state.doubt else None,
        "incident": state.incident.to_json() if state.incident else None,
        "held_back": state.held_back.to_json() if state.held_back else None,
        "rollback_under_way": state.rollback.to_json() if state.rollback else None,
        "last_result": last.to_json() if last else None,
        "plane": None
        if observation is None
        else {
            "weights": observation.plan.weights if observation.plan else {},
            "mirror": observation.plan.mirror.to_json() if observation.plan and observation.plan.mirror else None,
            "releases": {name: status.to_json() for name, status in observation.releases.items()},
            "as_confirmed": bool(observation.plan and state.planned and observation.plan.id == state.planned.id),
        },
        "plane_error": trouble,
        "seq": state.seq,
    }
