"""What the plane asks before it takes something new: whether the ledger knows of it.

Whoever holds the deploy token could bring a model of his own otherwise, and give it to users, without a review and
without a trace; whoever holds the drill token could break what serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan


class Records(Protocol):
    """The ledger, as far as the plane asks it."""

    def require_release(self, endpoint: EndpointRef, release: Release) -> None:
        """:raises NotRecorded: no rollout of ``endpoint`` is of exactly this release.
        :raises LedgerUnavailable: the ledger cannot be asked.
        """
        ...

    def require_plan(self, plan: TrafficPlan) -> None:
        """:raises NotRecorded: the newest plan of its endpoint is another one.
        :raises LedgerUnavailable: the ledger cannot be asked.
        """
        ...

    def record_fault(
        self, endpoint: EndpointRef, release_id: str, fault: Mapping[str, float] | None, *, by: str
    ) -> None:
        """Write a drill down, before it begins, or its end (``None``). :param by: whose token was shown.

        :raises NotPermitted: the release's manifest does not allow drills here.
        :raises NotRecorded: no rollout of ``endpoint`` is of this release.
        :raises LedgerUnavailable: the ledger cannot be asked, or not be written.
        """
        ...


class TakesAnything:
    """For a plane that is tried by itself, without a ledger."""

    def require_release(self, endpoint: EndpointRef, release: Release) -> None:
        return None

    def require_plan(self, plan: TrafficPlan) -> None:
        return None

    def record_fault(
        self, endpoint: EndpointRef, release_id: str, fault: Mapping[str, float] | None, *, by: str
    ) -> None:
        return None
