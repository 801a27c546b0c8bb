"""What the supervisor remembers on disk: written before it acts, read when it starts."""

from __future__ import annotations

import json
import os
import uuid
from datetime import datetime
from pathlib import Path

from pydantic import Field

from airflow_provider_mlpipex.domain.release import Release
from airflow_provider_mlpipex.domain.traffic import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value


class EndpointMemory(Value):
    """One endpoint: the releases kept for it, the plan in force, and until when (epoch seconds) its lease runs."""

    releases: dict[str, Release] = {}
    plan: TrafficPlan | None = None
    lease_until: float | None = None
    lease_expired_at: datetime | None = None


class PlaneMemory(Value):
    """The whole plane. ``version`` numbers every configuration that was ever pushed."""

    plane_id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    version: int = 0
    endpoints: dict[str, EndpointMemory] = {}

    def with_endpoint(self, endpoint: str, memory: EndpointMemory) -> PlaneMemory:
        return self.model_copy(update={"endpoints": {**self.endpoints, endpoint: memory}})


def read_memory(path: Path) -> PlaneMemory:
    """What was written last; a fresh plane where there is nothing yet."""
    try:
        return PlaneMemory.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return PlaneMemory()


def write_memory(path: Path, memory: PlaneMemory) -> None:
    """Atomic and durable: a crash leaves the old or the new state, never half of one."""
    scratch = path.with_suffix(".new")
    with scratch.open("w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
        json.dump(memory.to_json(), stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(scratch, path)
