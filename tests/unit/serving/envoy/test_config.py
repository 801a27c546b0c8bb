"""Every rule of the rendering that cost requests when it was broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT, Mirror, TrafficPlan
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy import listener as envoy_listener
from airflow_provider_mlpipex.serving.envoy.config import Routing, cluster_name, read_cluster_name
from airflow_provider_mlpipex.serving.envoy.ingress_tokens import IngressTokens
from airflow_provider_mlpipex.serving.envoy.paths import Paths
from airflow_provider_mlpipex.serving.timeouts import KEEP_ALIVE_S
from tests.support.factories import make_release

FRAUD = EndpointRef.parse("production/fraud-scorer")
TOKENS = IngressTokens(clients=("s3cret", "retiring"), testers=("tester",), batch=("batch",))
OLD, NEW, OLDER = (make_release(version) for version in ("1.9.0", "1.10.0", "1.8.2"))
SOCKETS = {(FRAUD, release.id): Path(f"/s/{release.slug}.sock") for release in (OLD, NEW, OLDER)}


def plan(**changes: Any) -> TrafficPlan:
    return TrafficPlan.model_validate({"endpoint": FRAUD, "current": OLD.id, **changes})


def canary(weight: int, **changes: Any) -> TrafficPlan:
    return plan(candidate=NEW.id, candidate_weight=weight, lease_s=30, **changes)


def routing(of: TrafficPlan, **more: Any) -> Routing:
    """As the plane carries ``of`` out where every release of it runs."""
    return Routing(plan=of, fallback=of.fallback, **more)


def route_list(*plans: TrafficPlan) -> list[dict[str, Any]]:
    (host,) = envoy_config.routes(map(routing, plans), tokens=TOKENS)["virtual_hosts"]
    routes: list[dict[str, Any]] = host["routes"]
    return routes


def split(of: TrafficPlan) -> dict[str, Any]:
    (found,) = [route["route"] for route in route_list(of) if route["name"].endswith("/split")]
    return found


def weights(of: TrafficPlan) -> list[tuple[str, int]]:
    return [(cluster["name"], cluster["weight"]) for cluster in split(of)["weighted_clusters"]["clusters"]]


def forced(of: TrafficPlan) -> dict[str, str]:
    return {
        route["match"]["headers"][0]["string_match"]["exact"]: route["route"]["cluster"]
        for route in route_list(of)
        if route["name"].endswith("/forced")
    }


@given(candidate=st.integers(0, TOTAL_WEIGHT), control=st.integers(0, TOTAL_WEIGHT))
def test_the_split_keeps_its_order_and_its_total(candidate: int, control: int) -> None:
    # Sticky users stay on the candidate while its share grows only if neither order nor total ever changes.
    control = min(control, TOTAL_WEIGHT - candidate)
    found = weights(plan(candidate=NEW.id, candidate_weight=candidate, control=OLDER.id, control_weight=control))
    assert sum(weight for _, weight in found) == TOTAL_WEIGHT
    order = [cluster_name(FRAUD, release.id) for release in (OLD, NEW, OLDER)]
    positions = [order.index(name.partition("--over--")[0]) for name, _ in found]
    assert positions == sorted(positions)
    assert all(weight for _, weight in found), "Envoy refuses a weight of 0 beside 0"


def test_sticky_users_are_salted_by_their_endpoint() -> None:
    other = TrafficPlan(endpoint=EndpointRef.parse("production/other"), current=OLD.id)
    hashes = [split(of)["hash_policy"][0]["header"] for of in (canary(500), other)]
    assert [header["header_name"] for header in hashes] == ["x-user-id", "x-user-id"]
    salts = [header["regex_rewrite"]["substitution"] for header in hashes]
    assert salts == ["production/fraud-scorer:\\1", "production/other:\\1"]
    assert split(canary(500))["weighted_clusters"]["use_hash_policy"] is True
    assert split(canary(500, sticky_header="x-card"))["hash_policy"][0]["header"]["header_name"] == "x-card"


def test_testers_choose_by_name_or_by_release_and_get_it_as_it_is() -> None:
    old, new = cluster_name(FRAUD, OLD.id), cluster_name(FRAUD, NEW.id)
    assert forced(canary(500)) == {"current": old, "candidate": new, OLD.id: old, NEW.id: new}
    assert forced(plan()) == {"current": old, OLD.id: old}
    chosen = [route["route"] for route in route_list(canary(500)) if route["name"].endswith("/forced")]
    assert all("retry_policy" not in route and "request_mirror_policies" not in route for route in chosen)


def test_forced_variants_come_before_the_split_of_their_endpoint() -> None:
    names = [route["name"] for route in route_list(canary(500))]
    assert names[-3:] == ["production/fraud-scorer/by-chance", "production/fraud-scorer/split", "nowhere"]
    assert names[0] == "production/fraud-scorer/openapi"
    assert set(names[1:-3]) == {"production/fraud-scorer/forced"}


def test_an_empty_sticky_header_is_split_like_any_request_but_by_chance() -> None:
    of = canary(500, sticky_header="x-card", mirror=Mirror(release=OLDER.id, fraction=0.5))
    (by_chance,) = [route for route in route_list(of) if route["name"].endswith("/by-chance")]
    (header,) = by_chance["match"]["headers"]
    assert header["name"] == "x-card"
    assert "hash_policy" not in by_chance["route"]
    assert {**by_chance["route"], "hash_policy": split(of)["hash_policy"]} == split(of)


def test_nobody_can_ask_the_shadow() -> None:
    shadowed = plan(mirror=Mirror(release=NEW.id, fraction=0.25))
    assert NEW.id not in forced(shadowed)
    assert "candidate" not in forced(shadowed)
    assert weights(shadowed) == [(cluster_name(FRAUD, OLD.id), TOTAL_WEIGHT)]


@pytest.mark.parametrize(("fraction", "numerator"), [(1.0, 1_000_000), (0.25, 250_000), (0.000001, 1)])
def test_the_mirror_goes_to_a_cluster_of_its_own(fraction: float, numerator: int) -> None:
    (policy,) = split(plan(mirror=Mirror(release=NEW.id, fraction=fraction)))["request_mirror_policies"]
    assert policy["cluster"] == f"{cluster_name(FRAUD, NEW.id)}--shadow"
    assert policy["runtime_fraction"]["default_value"] == {"numerator": numerator, "denominator": "MILLION"}
    assert "request_mirror_policies" not in split(plan())


def test_a_candidate_is_backed_by_current() -> None:
    rendered = {cluster["name"]: cluster for cluster in envoy_config.clusters(SOCKETS, [routing(canary(500))])}
    (target,) = [name for name, weight in weights(canary(500)) if weight == 500]
    composite = rendered[target]
    members = [member["name"] for member in composite["cluster_type"]["typed_config"]["clusters"]]
    # Three, though current is named twice: a third attempt that finds no cluster would end the two before it.
    assert members == [cluster_name(FRAUD, release.id) for release in (NEW, OLD, OLD)]
    # The default of 3 parallel retries turned 92 of 900 rescued requests into errors.
    assert composite["circuit_breakers"]["thresholds"][0]["max_retries"] >= 1024
    retries = split(canary(500))["retry_policy"]
    assert retries["num_retries"] == 2
    assert {"5xx", "reset", "connect-failure", "retriable-headers"} <= set(retries["retry_on"].split(","))
    assert retries["retriable_headers"] == [
        {"name": "x-mlpipex-fault", "string_match": {"exact": fault}} for fault in ("model", "refused")
    ]


def marked(of: TrafficPlan) -> list[str]:
    clusters = split(of)["weighted_clusters"]["clusters"]
    return [cluster["name"] for cluster in clusters if "request_headers_to_add" in cluster]


def test_only_what_a_candidate_refuses_is_asked_of_another_release() -> None:
    backed = canary(500, fallback=OLDER.id)
    (target,) = marked(backed)
    assert target.startswith(cluster_name(FRAUD, NEW.id))
    # What current refuses is the client's to mend: the previous release is no second opinion, and nobody is notified.
    for of in (plan(fallback=OLDER.id), plan(fallback=OLDER.id, control=NEW.id, control_weight=500)):
        assert marked(of) == []
        assert split(of)["retry_policy"]["retriable_headers"] == [
            {"name": "x-mlpipex-fault", "string_match": {"exact": "model"}}
        ]
    # No client can mark a request as a candidate's, or say which attempt it is.
    listener = envoy_listener.listener(Paths(folder=Path("/state"), admin_socket=Path("/s")), port=1, tokens=TOKENS)
    (chain,) = listener["filter_chains"]
    mutations = chain["filters"][0]["typed_config"]["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    removed = {mutation["remove"] for mutation in mutations if "remove" in mutation}
    assert {"x-mlpipex-trial", "x-envoy-attempt-count"} <= removed


@given(timeout=st.floats(0.001, 3600.0), limit=st.floats(0.001, 3600.0))
def test_a_slow_candidate_takes_no_time_from_current(timeout: float, limit: float) -> None:
    alone, (tried,) = (
        split(plan(timeout_s=timeout)),
        [
            route["route"]
            for route in envoy_config.routes(
                [routing(canary(500, timeout_s=timeout), try_limit_s=limit)], tokens=TOKENS
            )["virtual_hosts"][0]["routes"]
            if route["name"].endswith("/split")
        ],
    )
    limits = [float(text.removesuffix("s")) for text in (alone["timeout"], tried["timeout"])]
    assert limits[0] >= max(10.0, timeout) - 0.001
    assert limits[1] >= limits[0] + limit - 0.002
    # At a try's limit another one begins beside it; nothing is ended.
    assert tried["hedge_policy"] == {"hedge_on_per_try_timeout": True}
    assert "per_try_timeout" not in alone["retry_policy"]


def members_of(of: TrafficPlan, share: str) -> list[str]:
    rendered = {cluster["name"]: cluster for cluster in envoy_config.clusters(SOCKETS, [routing(of)])}
    (target,) = [name for name, _ in weights(of) if name.startswith(cluster_name(FRAUD, share))]
    return [member["name"] for member in rendered[target]["cluster_type"]["typed_config"]["clusters"]]


def test_the_previous_release_stands_behind_current_and_behind_its_candidate() -> None:
    backed = canary(500, fallback=OLDER.id)
    assert members_of(backed, NEW.id) == [cluster_name(FRAUD, release.id) for release in (NEW, OLD, OLDER)]
    assert members_of(backed, OLD.id) == [cluster_name(FRAUD, release.id) for release in (OLD, OLDER, OLDER)]
    alone = split(plan(fallback=OLDER.id))["retry_policy"]
    assert {"5xx", "reset", "connect-failure", "retriable-headers"} <= set(alone["retry_on"].split(","))
    assert "per_try_timeout" not in alone


def test_a_fallback_that_does_not_run_is_not_asked() -> None:
    stopped = Routing(plan=plan(fallback=OLDER.id))
    assert stopped.target(OLD.id) == (OLD.id,)
    assert stopped.cluster(OLD.id) == cluster_name(FRAUD, OLD.id)


def test_without_a_candidate_an_answer_that_failed_is_not_asked_for_again() -> None:
    # A model is pure, but the next one may not be: only what was never asked is asked again.
    assert "5xx" not in split(plan())["retry_policy"]["retry_on"]
    assert "5xx" not in split(plan(mirror=Mirror(release=NEW.id, fraction=1.0)))["retry_policy"]["retry_on"]


@pytest.mark.parametrize(
    "of",
    [plan(), canary(500), canary(TOTAL_WEIGHT), plan(control=OLDER.id, control_weight=100),
     plan(mirror=Mirror(release=NEW.id, fraction=0.5)), plan(fallback=OLDER.id), canary(500, fallback=OLDER.id),
     plan(control=OLDER.id, control_weight=100, fallback=OLDER.id)],
    ids=["current", "canary", "all-canary", "control", "mirror", "fallback", "canary-fallback", "control-fallback"],
)  # fmt: skip
def test_routes_name_only_clusters_that_are_rendered(of: TrafficPlan) -> None:
    rendered = {cluster["name"] for cluster in envoy_config.clusters(SOCKETS, [routing(of)])}
    named = {name for name, _ in weights(of)} | set(forced(of).values())
    named |= {policy["cluster"] for policy in split(of).get("request_mirror_policies", [])}
    assert named <= rendered
    assert envoy_config.routes([routing(of)], tokens=TOKENS)["validate_clusters"] is True


def test_names_hold_no_dots_and_are_read_back() -> None:
    for cluster in envoy_config.clusters(SOCKETS, [routing(canary(500))]):
        assert "." not in cluster["name"]
        owner = read_cluster_name(cluster["name"])
        assert owner is not None
        assert owner[0] == "production/fraud-scorer"
    (target,) = [name for name, weight in weights(canary(500)) if weight == 500]
    assert read_cluster_name(target) == ("production/fraud-scorer", NEW.slug)
    assert read_cluster_name(f"{cluster_name(FRAUD, NEW.id)}--shadow") == ("production/fraud-scorer", NEW.slug)
    assert read_cluster_name("somebody-elses") is None


def test_another_fallback_is_another_cluster() -> None:
    # A cluster that changes in place drops its connections: 10 of 57,525 requests.
    other = TrafficPlan(endpoint=FRAUD, current=OLDER.id, candidate=NEW.id, candidate_weight=500, lease_s=30)
    assert {name for name, _ in weights(canary(500))}.isdisjoint(
        name for name, weight in weights(other) if weight == 500
    )


def test_every_release_has_a_serving_and_a_capped_shadow_cluster() -> None:
    rendered = {cluster["name"]: cluster for cluster in envoy_config.clusters(SOCKETS, [])}
    assert len(rendered) == 2 * len(SOCKETS)
    for (endpoint, release), socket in SOCKETS.items():
        name = cluster_name(endpoint, release)
        for cluster in (rendered[name], rendered[f"{name}--shadow"]):
            (lb_endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
            assert lb_endpoint["endpoint"]["address"]["pipe"]["path"] == str(socket)
        capped = rendered[f"{name}--shadow"]["circuit_breakers"]["thresholds"][0]
        assert capped["max_requests"] < rendered[name]["circuit_breakers"]["thresholds"][0]["max_requests"]


def test_envoy_gives_up_idle_connections_before_the_server_does() -> None:
    cluster = envoy_config.clusters(SOCKETS, [])[0]
    (options,) = cluster["typed_extension_protocol_options"].values()
    idle_s = float(options["common_http_protocol_options"]["idle_timeout"].removesuffix("s"))
    assert 0 < idle_s < KEEP_ALIVE_S


def test_endpoints_are_rendered_apart() -> None:
    staging = TrafficPlan(endpoint=EndpointRef.parse("staging/fraud-scorer"), current=NEW.id)
    paths = {route["match"]["path"] for route in route_list(plan(), staging) if route["name"] != "nowhere"}
    assert paths == {
        f"/endpoints/{environment}/fraud-scorer/{asked}"
        for environment in ("production", "staging")
        for asked in ("invocations", "openapi.json")
    }
    assert route_list(plan(), staging) == route_list(staging, plan()), "the same plans are the same text"


def test_the_client_token_goes_no_further_and_everything_is_local() -> None:
    paths = Paths(folder=Path("/state/envoy"), admin_socket=Path("/state/sock/envoy.sock"))
    listener = envoy_listener.listener(paths, port=8088, tokens=TOKENS)
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8088}
    (chain,) = listener["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    assert [http_filter["name"] for http_filter in manager["http_filters"]] == [
        "envoy.filters.http.rbac",
        "envoy.filters.http.buffer",
        "envoy.filters.http.lua",
        "envoy.filters.http.router",
    ]
    rules = manager["http_filters"][0]["typed_config"]["rules"]
    (host,) = envoy_config.routes([], tokens=TOKENS)["virtual_hosts"]
    (renewed,) = host["typed_per_filter_config"].values()
    assert renewed["rbac"]["rules"] == rules, "the same rules on every connection"
    taken = {
        name: {principal["header"]["string_match"]["exact"] for principal in policy["principals"]}
        for name, policy in rules["policies"].items()
    }
    assert taken == {
        "clients": {"Bearer s3cret", "Bearer retiring", "Bearer tester", "Bearer batch"},
        "testers": {"Bearer tester"},
        "batch": {"Bearer batch"},
    }
    assert envoy_config.routes([], tokens=TOKENS)["request_headers_to_remove"] == ["authorization"]
    admin = envoy_listener.bootstrap(paths, connections=100)["admin"]["address"]
    assert admin == {"pipe": {"path": "/state/sock/envoy.sock", "mode": 0o600}}
