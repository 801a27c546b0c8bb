"""What a list of endpoints says of each: a part of its state, read without the rest.

A fleet of hundreds is read every few seconds. A whole state holds two manifests and three releases; what a line of the
list needs is a tenth of that, and is read ten times as fast.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ReleaseName
from airflow_provider_mlpipex.domain.rollout.state import (
    EndpointState,
    HeldBack,
    Hold,
    Incident,
    Phase,
    PromotionDoubt,
    RollbackIntent,
    RolloutResult,
    is_on_trial,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan


class _Part(BaseModel):
    """A part of a kept state: the fields that are not named are skipped, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class PolicySummary(_Part):
    """The steps of a rollout's canary, in shares of ``TOTAL_WEIGHT``."""

    canary_weights: tuple[int, ...] = ()


class RolloutSummary(_Part):
    """A rollout that is open."""

    id: str
    candidate: ReleaseName
    policy: PolicySummary
    phase: Phase
    step: int
    opened_at: datetime
    since: datetime
    hold: Hold | None = None


class OwnerSummary(_Part):
    """Who answers for the endpoint."""

    team: str = ""
    contact: str = ""


class ManifestSummary(_Part):
    """Of the manifest that *current* runs under."""

    owner: OwnerSummary = OwnerSummary()


class OwedSummary(_Part):
    """An alert that reached nobody yet."""

    title: str
    raised_at: datetime


class EndpointSummary(_Part):
    """The fields of :class:`EndpointState` by the same names."""

    endpoint: EndpointRef
    seq: int
    current: ReleaseName | None = None
    current_manifest: ManifestSummary | None = None
    current_since: datetime | None = None
    previous: ReleaseName | None = None
    rollout: RolloutSummary | None = None
    rollback: RollbackIntent | None = None
    planned: TrafficPlan | None = None
    confirmed: bool = True
    results: dict[str, RolloutResult] = {}
    doubt: PromotionDoubt | None = None
    incident: Incident | None = None
    held_back: HeldBack | None = None
    owed_alerts: tuple[OwedSummary, ...] = ()

    @property
    def on_trial(self) -> bool:
        """As :attr:`EndpointState.on_trial`."""
        if self.rollout is None:
            return False
        current = self.current.id if self.current else None
        return is_on_trial(self.rollout.candidate.id, self.rollout.phase, self.planned, current=current)

    @classmethod
    def of(cls, state: EndpointState) -> EndpointSummary:
        """The same from a whole state."""
        return cls.model_validate(state.to_json())
