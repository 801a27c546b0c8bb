"""A whole platform in memory, for tests of your own Dags, gates and tools.

Nothing is started, or written outside a temporary folder; a rollout of days plays in milliseconds. Where a first
release is current, and the manifest demands a shadow without more than 1 % of errors::

    platform = memory_platform()
    opening.check_offline_gates(platform, endpoint=endpoint, rollout_id="run-2", release=release, manifest=manifest)
    trial.start_shadow(platform, endpoint=endpoint, rollout_id="run-2", timeout_s=1)
    platform.plane.serve(endpoint, release.id, requests=500, errors=100)
    platform.clock.advance(30)
    result = watch.look(platform, endpoint=endpoint, rollout_id="run-2", stage="shadow")
    assert result.status == "ended" and platform.alerter.sent[-1].title.endswith("rolled back")

In a test of a Dag, ``testing.use_platform`` lets the hook hand it out. One port of your own:
``dataclasses.replace(platform, ledger=SqlLedger(url))``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.testing.alerts import MemoryAlerter
from airflow_provider_mlpipex.testing.clock import ManualClock
from airflow_provider_mlpipex.testing.drift_reporter import MemoryDriftReporter
from airflow_provider_mlpipex.testing.features import MemoryFeatures
from airflow_provider_mlpipex.testing.ledger import MemoryLedger
from airflow_provider_mlpipex.testing.outcomes import MemoryOutcomes
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from airflow_provider_mlpipex.testing.predictor import MemoryPredictor
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from airflow_provider_mlpipex.testing.runtimes import MemoryRuntimes
from airflow_provider_mlpipex.testing.snapshots import MemorySnapshots
from airflow_provider_mlpipex.testing.validator import MemoryValidator


@dataclass(frozen=True, kw_only=True)
class MemoryPlatform(Platform):
    """The ports as the fakes that they are, with everything that a test plays the world with.

    - ``clock.advance(seconds)`` lets time pass, ``plane.serve(…)`` and ``plane.answer_pairs(…)`` let requests happen;
    - ``plane.away``, ``plane.telemetry_trouble``, ``plane.break_release(…)``, ``alerter.trouble``, ``validator.broken``
      and ``runtimes.provider`` break things;
    - ``predictor.answers`` is the model that everybody serves, ``predictor.trouble`` what it answers instead;
      ``registry.answers`` says what a version answers to evaluation rows that was never logged;
    - ``ledger.read(endpoint)``, ``plane.applied``, ``predictor.sent``, ``drift_reporter.drawn``, ``alerter.sent`` and
      ``registry.aliases`` say what was done.
    """

    ledger: MemoryLedger
    outcomes: MemoryOutcomes
    plane: MemoryPlane
    predictor: MemoryPredictor
    registry: MemoryRegistry
    snapshots: MemorySnapshots
    validator: MemoryValidator
    runtimes: MemoryRuntimes
    alerter: MemoryAlerter
    clock: ManualClock
    features: MemoryFeatures
    drift_reporter: MemoryDriftReporter


def memory_platform(
    *,
    clock: ManualClock | None = None,
    origin: Origin | None = None,
    locks: Mapping[str, str] | None = None,
) -> MemoryPlatform:
    """Fakes of every port, on one clock.

    :param clock: shared by ledger and plane; a new one, standing still, if not given.
    :param origin: signs the ledger entries; kind ``test`` if not given.
    :param locks: lock files that the runtime block of a manifest may name: path -> text.
    """
    clock = clock or ManualClock()
    plane = MemoryPlane(clock)
    return MemoryPlatform(
        ledger=MemoryLedger(clock),
        outcomes=MemoryOutcomes(),
        plane=plane,
        predictor=MemoryPredictor(plane),
        registry=MemoryRegistry(),
        snapshots=MemorySnapshots(),
        validator=MemoryValidator(),
        runtimes=MemoryRuntimes(locks),
        alerter=MemoryAlerter(),
        clock=clock,
        origin=origin or Origin(kind="test"),
        features=MemoryFeatures(),
        drift_reporter=MemoryDriftReporter(),
    )
