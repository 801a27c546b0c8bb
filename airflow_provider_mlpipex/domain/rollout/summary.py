"""What a list of endpoints says of each: a part of its state, read without the rest.

A fleet of hundreds is read every few seconds. A whole state holds two manifests and three releases; what a line of the
list needs is a tenth of that, and is read ten times as fast.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from airflow_provider_mlpipex.domain.fields.quantities import Duration
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ReleaseName
from airflow_provider_mlpipex.domain.rollout.state import (
    DrillResult,
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
    since: datetime
    hold: Hold | None = None


class OwnerSummary(_Part):
    """Who answers for the endpoint."""

    team: str = ""


class DrillsSummary(_Part):
    """How often a rollback has to be shown to work."""

    every: Duration | None = None


class EnvironmentSummary(_Part):
    """Of one environment of a manifest."""

    drills: DrillsSummary | None = None


class ManifestSummary(_Part):
    """Of the manifest that *current* runs under."""

    owner: OwnerSummary = OwnerSummary()
    environments: dict[str, EnvironmentSummary] = {}


class OwedSummary(_Part):
    """An alert that reached nobody yet."""

    title: str


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
    last_drill: DrillResult | None = None
    doubt: PromotionDoubt | None = None
    incident: Incident | None = None
    held_back: HeldBack | None = None
    owed_alerts: tuple[OwedSummary, ...] = ()

    @property
    def drill_every(self) -> timedelta | None:
        """How often a rollback has to be shown to work here; ``None`` where nobody asks."""
        manifest = self.current_manifest
        here = manifest.environments.get(self.endpoint.environment) if manifest else None
        return here.drills.every if here and here.drills else None

    @property
    def proven_at(self) -> datetime | None:
        """When a drill or a rollback last worked."""
        moments = [result.at for result in self.results.values() if result.ending == "rolled-back"]
        moments += [self.last_drill.at] if self.last_drill and self.last_drill.ok else []
        return max(moments, default=None)

    @property
    def on_trial(self) -> bool:
        """As :attr:`EndpointState.on_trial`."""
        return is_on_trial(self.rollout, self.planned, self.current)

    @classmethod
    def of(cls, state: EndpointState) -> EndpointSummary:
        """The same from a whole state."""
        return cls.model_validate(state.to_json())
