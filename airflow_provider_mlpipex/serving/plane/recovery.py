"""What a plane goes on with when it starts: what it remembers, or, where that is lost, what the folder still says."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.plane.state import EndpointMemory, PlaneMemory, keep_plane_id, read_memory
from airflow_provider_mlpipex.serving.plane_log import MEMORY_REBUILT, plane_log
from airflow_provider_mlpipex.serving.state_dir import Places


def take_up(places: Places) -> PlaneMemory:
    """The plane's id is written down first: after that, its memory may be lost and its processes are still its own.

    :raises ConfigurationInvalid: there is a memory, and it cannot be read. It is not for the plane to throw it away.
    :raises PlaneUnavailable: the disk cannot be written.
    """
    plane_id = keep_plane_id(places.root)
    memory = read_memory(places.memory) if places.memory.exists() else recalled(places)
    # On a full disk the routes are newer than the memory: a version that was in force once must not come again.
    version = max(memory.version, _version(_routes(places)))
    return memory.model_copy(update={"plane_id": plane_id, "version": version})


def recalled(places: Places) -> PlaneMemory:
    """A memory made from the records of model servers and from the routes that Envoy was given last.

    Everything that ran goes on, the warm previous release too, and users are answered by what is current. A trial is
    not taken up: its lease is lost, so nobody could end it. The ledger knows better; converging an endpoint asks it.
    """
    routes = _routes(places)
    memory = PlaneMemory(version=_version(routes))
    try:
        currents = envoy_config.read_currents(routes["resources"][0])
    except (LookupError, TypeError, AttributeError):
        currents = {}
    for record in sorted(places.children.glob("*.json")):
        try:
            text = (places.servers / record.stem / "spec.json").read_text(encoding="utf-8")
            spec = ModelServerSpec.model_validate_json(text)
        except (OSError, ValueError):
            continue  # Envoy, or a server of which nobody could say what it serves: it is ended as a stray
        held = memory.endpoints.get(str(spec.endpoint), EndpointMemory())
        held = held.model_copy(update={"releases": {**held.releases, spec.release.id: spec.release}})
        if record.stem in currents:
            sticky = currents[record.stem]
            plan = TrafficPlan(endpoint=spec.endpoint, current=spec.release.id, sticky_header=sticky)
            held = held.model_copy(update={"plan": plan})
        memory = memory.with_endpoint(str(spec.endpoint), held)
    for name, held in memory.endpoints.items():
        # Of an endpoint without a plan nobody knows who should answer.
        current = held.plan.current if held.plan else None
        plane_log.warning(MEMORY_REBUILT, endpoint=name, current=current, lost=places.memory.name)
    return memory


def _version(routes: dict[str, Any]) -> int:
    version = str(routes.get("version_info"))
    return int(version) if version.isdecimal() else 0


def _routes(places: Places) -> dict[str, Any]:
    try:
        routes = json.loads(places.envoy.resource("rds").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return routes if isinstance(routes, dict) else {}
