"""What releases in memory have served: requests by the second, and answers as a prediction log holds them."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from airflow_provider_mlpipex.domain.gates.evidence import LatencyHistogram, ReleaseTelemetry
from airflow_provider_mlpipex.serving.envoy.attempts import BOUNDS_MS
from airflow_provider_mlpipex.serving.prediction_log.outputs import Described
from airflow_provider_mlpipex.testing.paired_answers import Answer


@dataclass(frozen=True)
class ServedRequests:
    """Some attempts of one release, all in one second and of one latency (milliseconds)."""

    at: datetime
    release: str
    requests: int
    errors: int
    client_errors: int
    latency_ms: float


@dataclass(frozen=True)
class ServedAnswer:
    """One answer of one release, as its prediction log holds it."""

    at: datetime
    score: float | None
    label: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    batch: str = ""
    mirrored: bool = False

    @cached_property
    def logged(self) -> Answer:
        """As the comparison of two releases reads it."""
        is_class = self.label.isdigit() and self.score is not None and 0.0 <= self.score <= 1.0
        output = Described("probability" if is_class else "number", self.score, self.label)
        return Answer(self.at, output, status=self.status, inputs=self.inputs)


def counted(served: list[ServedRequests], release: str, since: datetime, until: datetime) -> ReleaseTelemetry:
    """What telemetry says of ``release`` in a window."""
    mine = [some for some in served if some.release == release and since <= some.at < until]
    counts = [0] * (len(BOUNDS_MS) + 1)
    for some in mine:
        counts[bisect.bisect_left(BOUNDS_MS, some.latency_ms)] += some.requests
    return ReleaseTelemetry(
        release=release,
        requests=sum(some.requests for some in mine),
        errors=sum(some.errors for some in mine),
        client_errors=sum(some.client_errors for some in mine),
        latency=LatencyHistogram(bounds_ms=BOUNDS_MS, counts=tuple(counts)),
    )
