"""What a serving plane reports back: the plan in force and the health of the releases behind it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value

ReleaseState = Literal["building", "starting", "ready", "failed", "stopped"]


class ReleaseStatus(Value):
    """One release on the plane. ``restarts`` counts deaths since it was first ready; ``detail`` says why it failed."""

    release: str
    state: ReleaseState
    restarts: int = 0
    detail: str = ""


class AppliedPlan(Value):
    """A plan seen in force. ``acknowledged_ms``: from the request to the data plane's own confirmation."""

    plan: TrafficPlan
    applied_at: datetime
    acknowledged_ms: float


class PlaneObservation(Value):
    """An endpoint as the plane sees it.

    ``address`` is where clients call it; ``lease_expired_at`` is set once the plane took traffic back by itself.
    """

    endpoint: EndpointRef
    address: str = ""
    plan: TrafficPlan | None = None
    releases: dict[str, ReleaseStatus] = {}
    known: dict[str, Release] = {}
    lease_expired_at: datetime | None = None
    dropped_predictions: int = 0
