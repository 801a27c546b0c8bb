"""What the plane tells Prometheus: ``GET /metrics`` of the control API, with a token that may read.

Names, units and labels follow Prometheus' conventions; ``docs/metrics.md`` lists them. Labels are few: ``environment``
and ``endpoint``, the ``role`` that a release had, and its id where something is told of one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT
from airflow_provider_mlpipex.serving.envoy.attempts import AttemptTail
from airflow_provider_mlpipex.serving.envoy.ingress import Ingress
from airflow_provider_mlpipex.serving.envoy.running_totals import BOUNDS_S, Total
from airflow_provider_mlpipex.serving.plane.desired_state import DesiredState
from airflow_provider_mlpipex.serving.plane.fleet import Fleet
from airflow_provider_mlpipex.serving.plane.ledger_heads import LedgerHeads
from airflow_provider_mlpipex.serving.plane.state import EndpointMemory

if TYPE_CHECKING:
    from prometheus_client.core import Metric

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ENDPOINT = ("environment", "endpoint")
_ROLE = (*_ENDPOINT, "role")
_RELEASE = (*_ENDPOINT, "release")


class PlaneMetrics:
    """Reads at each scrape what the plane knows anyway; nothing is kept for it but the totals of the tail."""

    def __init__(
        self, tail: AttemptTail, desired: DesiredState, fleet: Fleet, heads: LedgerHeads, ingress: Ingress
    ) -> None:
        self._tail = tail
        self._desired = desired
        self._fleet = fleet
        self._heads = heads
        self._ingress = ingress

    def text(self) -> bytes:
        """In the text format, version 0.0.4."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> Iterable[Metric]:
        """So that registering collects nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        yield from _of_requests(self._tail.totals())
        yield from self._of_plans()
        yield from self._of_processes()
        yield from self._of_the_plane()

    def _of_plans(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        weights = GaugeMetricFamily("mlpipex_traffic_weight_ratio", "Share of the requests by plan.", labels=_ROLE)
        leases = GaugeMetricFamily(
            "mlpipex_lease_remaining_seconds", "Until an unwatched trial loses its traffic.", labels=_ENDPOINT
        )
        releases = InfoMetricFamily("mlpipex_release", "What each role is filled with.", labels=_ROLE)
        for endpoint, memory in self._endpoints():
            if memory.lease is not None:
                leases.add_metric(_named(endpoint), max(0.0, memory.lease.left_s))
            if memory.plan is None:
                continue
            shares = memory.plan.weights
            for release, role in memory.plan.roles.items():
                weights.add_metric([*_named(endpoint), role], shares.get(release, 0) / TOTAL_WEIGHT)
                said = {"release": release}
                if kept := memory.releases.get(release):
                    said |= {"model_version": str(kept.model.version), "runtime_version": str(kept.runtime.version)}
                releases.add_metric([*_named(endpoint), role], said)
        yield from (weights, leases, releases)

    def _of_processes(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        up = GaugeMetricFamily("mlpipex_model_server_up", "Whether a release takes requests.", labels=_RELEASE)
        held = GaugeMetricFamily(
            "mlpipex_model_server_resident_memory_bytes", "Of a release's processes, standby included.", labels=_RELEASE
        )
        restarts = CounterMetricFamily(
            "mlpipex_model_server_restarts", "Times that a release was started again.", labels=_RELEASE
        )
        dropped = CounterMetricFamily(
            "mlpipex_predictions_dropped", "Predictions that a full queue kept out of the log.", labels=_RELEASE
        )
        for endpoint, memory in self._endpoints():
            for release in memory.releases:
                labels = [*_named(endpoint), release]
                figures = self._fleet.figures(endpoint, release)
                up.add_metric(labels, float(figures.listens))
                held.add_metric(labels, figures.resident_bytes)
                restarts.add_metric(labels, figures.restarts)
                dropped.add_metric(labels, figures.dropped_predictions)
        yield from (up, held, restarts, dropped)

    def _of_the_plane(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        ledgers = GaugeMetricFamily("mlpipex_ledger_entries", "Of the chain, as last noted here.", labels=_ENDPOINT)
        for name, head in self._heads.all().items():
            ledgers.add_metric(_named(EndpointRef.parse(name)), head.seq)
        refused = CounterMetricFamily(
            "mlpipex_ingress_refused_requests", "Requests that reached no release, by reason.", labels=("reason",)
        )
        serving = 1.0
        try:
            for reason, count in self._ingress.refusals().items():
                refused.add_metric([reason], count)
        except PlaneUnavailable:
            serving = 0.0
        unreadable = CounterMetricFamily(
            "mlpipex_attempts_unreadable", "Lines of the attempts log that were torn.", value=self._tail.unreadable
        )
        envoy = GaugeMetricFamily("mlpipex_ingress_up", "Whether an Envoy answers.", value=serving)
        yield from (ledgers, refused, unreadable, envoy)

    def _endpoints(self) -> list[tuple[EndpointRef, EndpointMemory]]:
        return [(EndpointRef.parse(name), memory) for name, memory in self._desired.memory.endpoints.items()]


def _of_requests(totals: dict[tuple[str, str], Total]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    counted = {
        "requests": CounterMetricFamily("mlpipex_requests", "Attempts that a release answered.", labels=_ROLE),
        "errors": CounterMetricFamily("mlpipex_request_errors", "Of them, errors of the release.", labels=_ROLE),
        "client_errors": CounterMetricFamily(
            "mlpipex_request_client_errors", "Of them, errors of the client.", labels=_ROLE
        ),
        "unfinished": CounterMetricFamily(
            "mlpipex_requests_unfinished", "Attempts that the client, or a faster release, ended.", labels=_ROLE
        ),
    }
    took = HistogramMetricFamily("mlpipex_request_duration_seconds", "Of an attempt, at Envoy.", labels=_ROLE)
    for (endpoint, role), total in sorted(totals.items()):
        labels = [*_named(EndpointRef.parse(endpoint)), role]
        for field, family in counted.items():
            family.add_metric(labels, getattr(total, field))
        below = accumulate(total.latency.get(at, 0) for at in range(len(BOUNDS_S) + 1))
        bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
        took.add_metric(labels, list(zip(bounds, below, strict=True)), sum_value=total.seconds)
    yield from (*counted.values(), took)


def _named(endpoint: EndpointRef) -> list[str]:
    return [endpoint.environment, endpoint.name]
