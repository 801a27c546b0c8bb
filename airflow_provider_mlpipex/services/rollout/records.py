"""What a plane may take, by the ledger: releases that a rollout was opened for, and the plan that was decided last."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from airflow_provider_mlpipex.domain.errors import LedgerTampered, NotPermitted, NotRecorded
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import (
    Entry,
    FaultInjected,
    FaultRemoved,
    Origin,
    RolloutOpened,
    TrafficPlanned,
)
from airflow_provider_mlpipex.domain.rollout.hash_chain import entry_hash
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

#: Addresses in the plane's own registry. Anything else, a folder or another server, is somebody's own place.
REGISTRY_SCHEMES = ("runs", "models", "mlflow-artifacts")


class LedgerRecords:
    """:param platform: its ledger is asked, and nothing else of it.
    :param schemes: of the addresses that artifacts may be fetched from.
    """

    def __init__(self, platform: Platform, *, schemes: Collection[str] = REGISTRY_SCHEMES) -> None:
        self._platform = platform
        self._schemes = schemes

    def require_release(self, endpoint: EndpointRef, release: Release) -> None:
        """:raises NotRecorded: no rollout of ``endpoint`` is of exactly this release: model and digest, runtime,
            dataset, features and manifest; or its artifact is not in the registry.
        :raises LedgerTampered: the entry that says so is not what was written.
        :raises LedgerUnavailable: the ledger cannot be asked.
        """
        where = urlsplit(release.model.artifact_uri).scheme or "a folder"
        if where not in self._schemes:
            raise NotRecorded(
                f"artifact of release {release.id}",
                value=where,
                limit=f"an address in the plane's registry: {', '.join(self._schemes)}",
                remedy="register the model in the plane's MLflow, and release that version",
            )
        for entry in journal.walk_back(self._platform, endpoint, types=("rollout-opened",)):
            if isinstance(entry.event, RolloutOpened) and entry.event.release == release:
                _require_whole(entry)
                return
        raise NotRecorded(
            f"release {release.id} of {endpoint}",
            value=f"artifact {release.model.artifact_digest[:12]}",
            limit="a release that a rollout in the plane's ledger was opened for",
            remedy="release it by its Dag, or mlpipex release; and let plane and Airflow have one ledger "
            "(MLPIPEX_LEDGER_URL)",
        )

    def require_plan(self, plan: TrafficPlan) -> None:
        """:raises NotRecorded: the newest plan of its endpoint is another one, or there is none.
        :raises LedgerTampered: the entry that says so is not what was written.
        :raises LedgerUnavailable: the ledger cannot be asked.
        """
        newest = next(journal.walk_back(self._platform, plan.endpoint, types=("traffic-planned",)), None)
        if newest is not None and isinstance(newest.event, TrafficPlanned) and newest.event.plan == plan:
            _require_whole(newest)
            return
        raise NotRecorded(
            f"traffic plan {plan.id} of {plan.endpoint}",
            value=newest.event.plan.id if newest and isinstance(newest.event, TrafficPlanned) else "no plan at all",
            limit="the plan that the plane's ledger has as the newest one",
            remedy="run the task again: it goes on from the newer plan; and let plane and Airflow have one ledger "
            "(MLPIPEX_LEDGER_URL)",
        )

    def record_fault(
        self, endpoint: EndpointRef, release_id: str, fault: Mapping[str, float] | None, *, by: str
    ) -> None:
        """Write a drill down, before it begins, or its end (``None``). :param by: whose token was shown.

        :raises NotPermitted: the release's own manifest does not allow drills in this environment.
        :raises NotRecorded: no rollout of ``endpoint`` is of this release.
        :raises LedgerTampered: the entry that says so is not what was written.
        :raises LedgerUnavailable: the ledger cannot be asked, or not be written.
        """
        platform = self._platform.acting_as(Origin(kind="http", user=by))
        if fault is None:
            journal.note(platform, endpoint, FaultRemoved(release=release_id))
            return
        if not self._manifest_of(endpoint, release_id).drills_in(endpoint.environment):
            raise NotPermitted(
                f"drill on release {release_id} of {endpoint}",
                value="its manifest does not allow it",
                limit=f"environments.{endpoint.environment}.drills.allowed: true",
                remedy="try it in an environment before this one, or release with that line, which a review sees",
            )
        journal.note(platform, endpoint, FaultInjected(release=release_id, **fault))

    def _manifest_of(self, endpoint: EndpointRef, release_id: str) -> Manifest:
        for entry in journal.walk_back(self._platform, endpoint, types=("rollout-opened",)):
            if isinstance(entry.event, RolloutOpened) and entry.event.release.id == release_id:
                _require_whole(entry)
                return Manifest.model_validate(entry.event.manifest)
        raise NotRecorded(
            f"drill on release {release_id} of {endpoint}",
            value="no rollout",
            limit="a release that a rollout in the plane's ledger was opened for",
            remedy="break what was released by its Dag, or by mlpipex release",
        )


def _require_whole(entry: Entry) -> None:
    own = entry_hash(entry)
    if entry.hash != own:
        raise LedgerTampered(
            f"ledger of {entry.endpoint}, entry {entry.seq}",
            value=f"hash {entry.hash[:12]}",
            limit=f"hash of its content: {own[:12]}",
            remedy="restore the ledger from a backup and find who could write to its database",
        )
