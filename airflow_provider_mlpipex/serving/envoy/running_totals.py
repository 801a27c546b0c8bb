"""Attempts since this plane's supervisor started, by the role that a release had when it answered.

For Prometheus, whose counters only grow: a release that is promoted does not take along what it answered as a
candidate.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass, field

from airflow_provider_mlpipex.domain.release.release import slug_of
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.envoy.attempt_counts import Bucket

#: Upper bounds of the histogram, in seconds.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Of a release that the plan in force does not name: it answers what came before it was taken away.
RETIRED = "retired"


@dataclass(slots=True)
class Total(Bucket):
    """What one role of one endpoint has answered. ``latency``: index into :data:`BOUNDS_S` -> count, not cumulative.

    :param seconds: what all of these took together.
    """

    seconds: float = 0.0

    def time(self, elapsed_ms: float) -> None:
        at = bisect.bisect_left(BOUNDS_S, elapsed_ms / 1000.0)
        self.latency[at] = self.latency.get(at, 0) + 1
        self.seconds += elapsed_ms / 1000.0

    def blame(self) -> None:
        # A counter never falls: what was refused first stays counted as that.
        self.errors += 1


@dataclass(slots=True)
class RunningTotals:
    """Not safe among threads."""

    #: (endpoint, role) -> its total.
    of: dict[tuple[str, str], Total] = field(default_factory=lambda: defaultdict(Total))
    _roles: dict[str, dict[str, str]] = field(default_factory=dict)

    def follow(self, plan: TrafficPlan) -> None:
        """``plan`` is in force from now on."""
        self._roles[str(plan.endpoint)] = {slug_of(release): role for release, role in plan.roles.items()}

    def find(self, owner: tuple[str, str]) -> Total:
        """:param owner: endpoint, and the slug of the release that answered."""
        endpoint, slug = owner
        return self.of[endpoint, self._roles.get(endpoint, {}).get(slug, RETIRED)]
