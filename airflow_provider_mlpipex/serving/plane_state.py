"""What the supervisor remembers on disk: written before it acts, read when it starts."""

from __future__ import annotations

import json
import os
import uuid
from datetime import datetime
from pathlib import Path

from pydantic import Field, ValidationError

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, PlaneUnavailable
from airflow_provider_mlpipex.domain.release import Release
from airflow_provider_mlpipex.domain.traffic import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.serving.leases import Lease


class EndpointMemory(Value):
    """One endpoint: the releases kept for it, the plan in force, and its lease."""

    releases: dict[str, Release] = {}
    plan: TrafficPlan | None = None
    lease: Lease | None = None
    lease_expired_at: datetime | None = None


class PlaneMemory(Value):
    """The whole plane. ``version`` numbers every configuration that was ever pushed."""

    plane_id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    version: int = 0
    endpoints: dict[str, EndpointMemory] = {}

    def with_endpoint(self, endpoint: str, memory: EndpointMemory) -> PlaneMemory:
        return self.model_copy(update={"endpoints": {**self.endpoints, endpoint: memory}})


def read_memory(path: Path) -> PlaneMemory:
    """What was written last; a fresh plane where there is nothing yet.

    :raises ConfigurationInvalid: there is something, and it is not a plane's memory.
    """
    try:
        return PlaneMemory.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return PlaneMemory()
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors(include_input=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConfigurationInvalid(
            f"state of the plane, {path.name}",
            value=first,
            limit="what this version of the plane writes",
            remedy="stop the plane, move the file away, start it, and converge every endpoint from its ledger",
        ) from None


def write_memory(path: Path, memory: PlaneMemory) -> None:
    """Atomic and durable: a crash leaves the old or the new state, never half of one.

    :raises PlaneUnavailable: the disk does not take it; the old state is still there.
    """
    scratch = path.with_suffix(".new")
    try:
        with scratch.open("w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            json.dump(memory.to_json(), stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, path)
    except OSError as error:
        raise PlaneUnavailable(
            f"state of the plane, {path.name}",
            value=error.strerror or type(error).__name__,
            limit="a disk that can be written",
            remedy="make room in the plane's state folder; traffic goes on as last confirmed",
        ) from error
