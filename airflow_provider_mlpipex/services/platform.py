"""The ports that a use case works with, and on whose behalf."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.ports import (
    Alerter,
    Clock,
    DataValidator,
    DriftReporter,
    FeatureStore,
    Ledger,
    ModelRegistry,
    OutcomeStore,
    Predictor,
    RuntimeResolver,
    ServingPlane,
    SnapshotStore,
)


@dataclass(frozen=True, kw_only=True)
class Platform:
    """Built by a composition root. Constructing an adapter does no I/O, so a rollback is not held up by a dead
    registry that it never calls. ``features``, ``drift_reporter``: ``None`` where no feature store, or no folder for
    pages on drift, is configured."""

    ledger: Ledger
    outcomes: OutcomeStore
    plane: ServingPlane
    predictor: Predictor
    registry: ModelRegistry
    snapshots: SnapshotStore
    validator: DataValidator
    runtimes: RuntimeResolver
    alerter: Alerter
    clock: Clock
    origin: Origin
    features: FeatureStore | None = None
    drift_reporter: DriftReporter | None = None

    def acting_as(self, origin: Origin) -> Platform:
        """The same ports, with ledger entries signed by ``origin``."""
        return replace(self, origin=origin)
