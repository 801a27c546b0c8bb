"""What the API answers on endpoints: the fields of version 1, which stay once they are there.

Moments are UTC, shares 0 to 1, latencies milliseconds; ``null`` is what nobody knows or what there is none of. A number
that JSON has no word for (NaN, an interval without an end) is ``null`` too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from airflow_provider_mlpipex.domain.rollout.readiness import Check, Lamp
from airflow_provider_mlpipex.domain.rollout.state import Phase
from airflow_provider_mlpipex.services.fleet.overview import HealthState


class Answer(BaseModel):
    """The base of every answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Me(Answer):
    """:param why_not: may not write, and why."""

    user: str
    may_write: bool
    why_not: str | None
    rollback_dag: str
    version: str


class Share(Answer):
    release: str
    share: float
    role: Literal["current", "candidate", "control"]


class MirrorShare(Answer):
    release: str
    fraction: float


class Health(Answer):
    """:param state: ``quiet``: no requests; ``nothing``: nothing is released; ``unmeasured``: nobody could count.
    Numbers are of *current* in the last ``window_s`` seconds."""

    state: HealthState
    cause: str | None
    since: datetime | None
    requests: int | None
    error_rate: float | None
    p95_ms: float | None
    window_s: float


class OpenRollout(Answer):
    """:param steps: of its canary; ``step`` counts from 0."""

    id: str
    candidate: str
    phase: Phase
    step: int | None
    steps: int
    since: datetime
    on_hold: bool
    hold_cause: str | None


class ReadinessLamp(Answer):
    lamp: Lamp
    reason: str | None


class Doubt(Answer):
    since: datetime
    cause: str
    release: str
    gates: list[str]


class Held(Answer):
    """:param release: that was taken back; ``null``: nothing at all is released by itself."""

    sentence: str
    by: str
    since: datetime
    cause: str
    release: str | None


class FleetRow(Answer):
    """:param attention: sentences, the worst first. :param diverged: the plane serves another plan than it should."""

    endpoint: str
    environment: str
    name: str
    team: str | None
    release: str | None
    model: str | None
    since: datetime | None
    traffic: list[Share]
    mirror: MirrorShare | None
    health: Health
    rollout: OpenRollout | None
    readiness: ReadinessLamp
    doubt: Doubt | None
    held_back: Held | None
    rollback_under_way: bool
    diverged: bool
    attention: list[str]
    seq: int


class PlaneReach(Answer):
    reachable: bool
    why_not: str | None


class FleetPage(Answer):
    items: list[FleetRow]
    total: int
    offset: int
    limit: int
    as_of: datetime
    plane: PlaneReach


class OnPlaneStatus(Answer):
    state: str
    restarts: int
    detail: str


class ReleaseFacts(Answer):
    """:param on_plane: ``null``: not there, or the plane could not be asked."""

    id: str
    model: str
    version: str
    runtime: str
    runtime_kind: str
    runtime_digest: str
    artifact_digest: str
    dataset: str
    dataset_digest: str
    dataset_rows: int
    features: str | None
    code_version: str
    metrics: dict[str, float | None]
    run_id: str
    on_plane: OnPlaneStatus | None


class ChangeFacts(Answer):
    kind: str
    what: str
    before: str
    after: str


class RollbackFacts(Answer):
    """What a rollback would do now. :param takes: ``null``: nothing is left to undo."""

    takes: str | None
    returns_to: str | None
    rejects: str | None
    sentences: list[str]
    possible: bool
    why_not: str | None
    changes: list[ChangeFacts]


class LastResult(Answer):
    rollout: str
    ending: str
    cause: str
    at: datetime


class IncidentFacts(Answer):
    release: str
    verdict: str
    gates: list[str]
    cause: str
    since: datetime


class OriginFacts(Answer):
    """:param href: of the task, a path in Airflow's own UI."""

    kind: str
    user: str
    dag_id: str
    run_id: str
    task_id: str
    try_number: int
    href: str | None


class OnHold(Answer):
    cause: str
    by: str
    since: datetime


class RolloutLine(Answer):
    """:param phase: ``ended``, or where it is. :param steps: shares of the canary."""

    id: str
    candidate: str
    model: str
    opened_at: datetime
    seq: int
    phase: str
    step: int | None
    steps: list[float]
    ending: str | None
    ended_at: datetime | None
    cause: str | None
    on_hold: OnHold | None
    origin: OriginFacts


class DrillFacts(Answer):
    """:param back_ms: until ``to_release`` had all requests; ``forth_ms``: until ``from_release`` had them again."""

    seq: int
    at: datetime
    by: str
    ok: bool
    from_release: str
    to_release: str
    back_ms: float | None
    forth_ms: float | None
    requests: int | None
    failed_requests: int | None
    detail: str


class DrillPage(Answer):
    items: list[DrillFacts]
    next: int | None


class May(Answer):
    """What the manifest allows; whether the user may write at all is said by ``me``."""

    drill: bool
    why_not_drill: str | None


class ReadinessFacts(Answer):
    lamp: Lamp
    reason: str | None
    checks: list[Check]
    last_drill: DrillFacts | None


class EndpointFacts(Answer):
    row: FleetRow
    seq: int
    address: str | None
    owner: str
    contact: str
    current: ReleaseFacts | None
    previous: ReleaseFacts | None
    candidate: ReleaseFacts | None
    rollback: RollbackFacts
    rollout: RolloutLine | None
    last_result: LastResult | None
    incident: IncidentFacts | None
    doubt: Doubt | None
    held_back: Held | None
    readiness: ReadinessFacts
    plane_error: str | None
    may: May


class RollbackAnswer(Answer):
    """:param took_ms: until traffic was seen where it belongs, as this server measured it; ``acknowledged_ms``: as the
    plane did. :param traffic: that the plane has confirmed. :param repeated: this very request was carried out before.
    """

    endpoint: str
    current: str | None
    previous: str | None
    returned_from: str | None
    done: str
    confirmed: bool
    traffic: list[Share]
    took_ms: float
    acknowledged_ms: float | None
    ended: dict[str, str]
    held_back: str | None
    notified: list[str]
    not_notified: list[str]
    seq: int
    repeated: bool
