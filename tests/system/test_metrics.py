"""What Prometheus sees of a real plane: the real one scrapes it, and is asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from tests.support.plane import RealPlane, invocation, path_of, real_plane
from tests.support.polling import until
from tests.support.prometheus import Prometheus, promtool, scraping

__all__ = ["real_plane"]

pytestmark = pytest.mark.system

FLIGHTS = EndpointRef.parse("production/flights")
CURRENT, CANDIDATE = 1, 2


@pytest.fixture(scope="module")
def plane(real_plane: RealPlane) -> RealPlane:
    real_plane.ensure(FLIGHTS, CURRENT, CANDIDATE)
    return real_plane


@pytest.fixture(scope="module")
def prometheus(plane: RealPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    token = plane.state_dir / "read-token"
    with scraping(f"127.0.0.1:{plane.control_port}", token=token, folder=folder) as server:
        yield server


def plan_of(plane: RealPlane, *, current: int, candidate: int | None = None, weight: int = 0) -> TrafficPlan:
    return TrafficPlan(
        endpoint=FLIGHTS,
        current=plane.release(current).id,
        candidate=plane.release(candidate).id if candidate is not None else None,
        candidate_weight=weight,
        lease_s=600 if weight else None,
    )


def ask(plane: RealPlane, count: int) -> None:
    with plane.client() as client:
        for number in range(count):
            client.post(path_of(FLIGHTS), json=invocation(), headers={"x-user-id": f"user-{number}"}).raise_for_status()


def by_role(prometheus: Prometheus, metric: str) -> dict[str, float]:
    return prometheus.query(metric, by="role")


def test_the_format_is_what_promtool_takes(plane: RealPlane) -> None:
    assert promtool("check", "metrics", said=plane.control("GET", "/metrics").content) == ""


def test_the_table_in_docs_is_what_there_is(plane: RealPlane) -> None:
    table = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = [row.split("|")[1:4] for row in table.splitlines() if row.startswith("| `mlpipex_")]
    listed = {name.strip(" `"): (kind.split(",")[0].strip(), labels.strip()) for name, kind, labels in rows}
    plane.port.apply(plan_of(plane, current=CURRENT, candidate=CANDIDATE, weight=500))
    ask(plane, 1)
    until(lambda: b"mlpipex_requests_total{" in plane.control("GET", "/metrics").content, within_s=30, what="a request")
    families = list(text_string_to_metric_families(plane.control("GET", "/metrics").text))
    there = {}
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        there[family.name + suffix] = (family.type, labels)
    # No ledger is noted by a plane that takes what no ledger knows.
    there["mlpipex_ledger_entries"] = ("gauge", {"environment", "endpoint"})
    assert there == {name: (kind, set(labels.replace(",", " ").split())) for name, (kind, labels) in listed.items()}


def test_nobody_reads_them_without_a_token(plane: RealPlane) -> None:
    assert httpx.get(f"{plane.control_url}/metrics").status_code == 401
    assert plane.control("POST", "/metrics").status_code == 405


def test_requests_are_counted_by_the_role_that_a_release_had(plane: RealPlane, prometheus: Prometheus) -> None:
    plane.port.apply(plan_of(plane, current=CURRENT))
    time.sleep(1.5)  # whatever was asked before is scraped
    before = by_role(prometheus, "mlpipex_requests_total")
    ask(plane, 7)
    until(lambda: asked_since(prometheus, before) == {"current": 7}, within_s=60, what="current's seven")
    plane.port.apply(plan_of(plane, current=CURRENT, candidate=CANDIDATE, weight=5000))
    ask(plane, 40)
    until(lambda: sum(asked_since(prometheus, before).values()) == 47, within_s=60, what="forty more")
    of_candidate = asked_since(prometheus, before)["candidate"]
    assert 0 < of_candidate < 40
    assert by_role(prometheus, "mlpipex_traffic_weight_ratio") == {"current": 0.5, "candidate": 0.5}
    # Promoted: what it answered as a candidate stays the candidate's.
    plane.port.apply(plan_of(plane, current=CANDIDATE))
    ask(plane, 5)
    until(lambda: sum(asked_since(prometheus, before).values()) == 52, within_s=60, what="five more")
    assert asked_since(prometheus, before) == {"current": 52 - of_candidate, "candidate": of_candidate}
    assert set(by_role(prometheus, "mlpipex_request_errors_total").values()) == {0.0}


def asked_since(prometheus: Prometheus, before: dict[str, float]) -> dict[str, float]:
    """Role -> requests more than ``before``, where there are any."""
    now = by_role(prometheus, "mlpipex_requests_total")
    more = {role: count - before.get(role, 0.0) for role, count in now.items()}
    return {role: count for role, count in more.items() if count}


def test_slow_answers_are_counted_as_slow(plane: RealPlane, prometheus: Prometheus) -> None:
    release = plane.release(CANDIDATE)
    plane.port.apply(plan_of(plane, current=CANDIDATE))
    path = f"/v1/endpoints/{FLIGHTS}/releases/{release.id}/fault"
    quick, count = 'mlpipex_request_duration_seconds_bucket{le="0.25"}', "mlpipex_request_duration_seconds_count"
    time.sleep(1.5)  # whatever was asked before is scraped
    before = {metric: by_role(prometheus, metric).get("current", 0.0) for metric in (quick, count)}
    assert plane.control("PUT", path, json={"latency_ms": 300}).is_success
    time.sleep(0.5)  # the drill port is read five times a second
    try:
        ask(plane, 10)
    finally:
        plane.control("DELETE", path)
    until(lambda: by_role(prometheus, count).get("current") == before[count] + 10, within_s=60, what="ten more")
    assert by_role(prometheus, quick).get("current", 0.0) == before[quick], "300 ms are slower than 250"


def panels() -> list[tuple[str, str]]:
    """Title and query of every panel of the dashboard, with what Grafana would put in for its variables."""
    dashboard = json.loads((Path(__file__).parents[2] / "docs" / "grafana-dashboard.json").read_text())
    variables = {
        "$environment": FLIGHTS.environment,
        "$endpoint": FLIGHTS.name,
        "$__rate_interval": "1m",
        "$__range": "5m",
    }
    queries = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]
    for name, value in variables.items():
        queries = [(title, query.replace(name, value)) for title, query in queries]
    return queries


@pytest.mark.parametrize(("title", "query"), panels(), ids=[title for title, _ in panels()])
def test_every_panel_of_the_dashboard_has_something_to_show(
    plane: RealPlane, prometheus: Prometheus, title: str, query: str
) -> None:
    assert "$" not in query
    if not prometheus.query("mlpipex_requests_total"):
        plane.port.apply(plan_of(plane, current=CURRENT))
        ask(plane, 1)
    until(lambda: bool(prometheus.query(query)), within_s=60, what=title)


def test_a_release_that_was_killed_shows(plane: RealPlane, prometheus: Prometheus) -> None:
    release = plane.release(CANDIDATE)
    plane.port.apply(plan_of(plane, current=CANDIDATE))
    held = f'mlpipex_model_server_resident_memory_bytes{{release="{release.id}"}}'
    until(lambda: any(value > 10e6 for value in prometheus.query(held).values()), within_s=60, what="its memory")
    plane.server(FLIGHTS, release).kill()
    restarts = f'mlpipex_model_server_restarts_total{{release="{release.id}"}}'
    until(lambda: any(value >= 1 for value in prometheus.query(restarts).values()), within_s=120, what="its restart")


def test_torn_lines_and_refusals_are_numbers_too(plane: RealPlane, prometheus: Prometheus) -> None:
    refused = prometheus.query("mlpipex_ingress_refused_requests_total", by="reason")
    assert len(refused) > 1 and all(value >= 0 for value in refused.values())
    assert prometheus.query("mlpipex_ingress_up") == {"": 1.0}
    assert prometheus.query("mlpipex_attempts_unreadable_total") == {"": 0.0}
