"""Who the plane is, and what its supervisor remembers on disk: written before it acts, read when it starts."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime
from pathlib import Path

from pydantic import Field, ValidationError

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, PlaneUnavailable
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.serving.plane.leases import Lease
from airflow_provider_mlpipex.serving.plane.unrecorded import TakenBack
from airflow_provider_mlpipex.serving.processes import carried_id

MEMORY_FILE = "state.json"
PLANE_ID_FILE = "plane-id"
_ID = re.compile(r"[0-9a-f]{32}")
#: Looked for in the text, because a torn state is no JSON any more.
_ID_IN_MEMORY = re.compile(r'"plane_id":\s*"([0-9a-f]{32})"')


class EndpointMemory(Value):
    """One endpoint: the releases kept for it, the plan in force, and its lease.

    ``try_limit_s``: what the plan's candidate takes before current is asked beside it; measured when the plan came.
    ``returns_to``: the release that was current before this one, unless traffic came back from it: what a rollback may
    return to whatever a ledger says. ``taken_back``: what it has returned from, while no ledger says so.
    """

    releases: dict[str, Release] = {}
    plan: TrafficPlan | None = None
    lease: Lease | None = None
    lease_expired_at: datetime | None = None
    try_limit_s: float | None = None
    returns_to: str | None = None
    taken_back: TakenBack | None = None

    def returns_to_after(self, plan: TrafficPlan) -> str | None:
        """What ``plan`` makes of :attr:`returns_to`."""
        if self.plan is None or plan.current == self.plan.current:
            return self.returns_to
        return None if plan.current == self.returns_to else self.plan.current

    def knows_as_good(self, plan: TrafficPlan) -> bool:
        """Whether ``plan`` gives all traffic to a release that this plane itself has seen as current, and nobody has
        taken back."""
        known = {self.plan.current if self.plan else None, self.returns_to} - {None}
        return plan.releases == (plan.current,) and plan.current in known


class PlaneMemory(Value):
    """The whole plane. ``version`` numbers every configuration that was ever pushed.

    ``plane_id`` is a copy, for versions of the plane that look for it nowhere else.
    """

    plane_id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    version: int = 0
    endpoints: dict[str, EndpointMemory] = {}

    def with_endpoint(self, endpoint: str, memory: EndpointMemory) -> PlaneMemory:
        return self.model_copy(update={"endpoints": {**self.endpoints, endpoint: memory}})


def find_plane_id(state_dir: Path) -> str | None:
    """The id that the plane's processes carry; ``None`` for a folder in which no plane has run.

    It stands in a file of its own: whoever has lost what he remembered must still know which processes are his. Planes
    from before there was that file have it in their memory, and their children carry it.
    """
    own = _text(state_dir / PLANE_ID_FILE).strip()
    if _ID.fullmatch(own):
        return own
    remembered = _ID_IN_MEMORY.search(_text(state_dir / MEMORY_FILE))
    return remembered[1] if remembered else carried_id(state_dir / "children")


def keep_plane_id(state_dir: Path) -> str:
    """The id found, or a new one; from now on it stands in its own file.

    :raises PlaneUnavailable: the disk does not take it.
    """
    plane_id, path = find_plane_id(state_dir) or uuid.uuid4().hex, state_dir / PLANE_ID_FILE
    if _text(path).strip() != plane_id:
        _write(path, plane_id)
    return plane_id


def read_memory(path: Path) -> PlaneMemory:
    """What was written last; a fresh plane where there is nothing yet.

    :raises ConfigurationInvalid: there is something, and it cannot be read, or is not a plane's memory.
    """
    try:
        return PlaneMemory.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return PlaneMemory()
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        first = error.errors(include_input=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConfigurationInvalid(
            f"state of the plane, {path.name}",
            value=first,
            limit="what this version of the plane writes",
            remedy="if an older version was installed, install the newer one again; else move the file away, start the "
            "plane (mlpipex serve run: what serves goes on), and see that Dag watch is running: it puts the ledger's "
            "plan in force at every endpoint",
        ) from None


def write_memory(path: Path, memory: PlaneMemory) -> None:
    """Atomic and durable: a crash leaves the old or the new state, never half of one.

    :raises PlaneUnavailable: the disk does not take it; the old state is still there.
    """
    _write(path, json.dumps(memory.to_json()))


def _text(path: Path) -> str:
    """What of ``path`` can be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    try:
        atomic_write(path, text, fsync=True)
    except OSError as error:
        raise PlaneUnavailable(
            f"state of the plane, {path.name}",
            value=error.strerror or type(error).__name__,
            limit="a disk that can be written",
            remedy="make room in the plane's state folder; traffic goes on as last confirmed",
        ) from error
