"""Rendering traffic plans as Envoy configuration. Pure: dicts in, dicts out.

Measured rules that this module keeps (each one lost requests when broken):

- names hold no dots, or metrics split at them; ``--`` separates parts, which names cannot contain;
- a cluster is immutable: another release, or another fallback, is another name;
- weighted clusters stand in the fixed order current, candidate, control and add up to 10,000, so that a user who is on
  the candidate stays on it while its share grows;
- the sticky hash is salted with the endpoint's name, so that not the same users are canaries everywhere;
- Envoy hashes an empty header like any other value, so requests whose sticky header is empty have a route without hash;
- a candidate is a *composite* cluster: a request that it fails is answered by current, and what current fails by the
  fallback. A composite names three clusters, because a third attempt without a cluster would end the first two;
- a candidate that takes too long is not given up: current is asked beside it (``hedge_on_per_try_timeout``), and the
  first good answer is the client's. A try's limit holds for every try of a route, so to end a try at it would end
  those of a current release that is slow as well (60 of 60 requests failed);
- what a candidate refuses, current is asked as well, and only once: each attempt's number reaches the model server, and
  the share of the candidate is marked, so that current's own refusals are nobody's to rescue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import slug_of
from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    FAULT_HEADER,
    MODEL_FAULT,
    REFUSED_ROWS,
    TIMEOUT_S,
    TOTAL_WEIGHT,
    TRIAL_HEADER,
    VARIANT_HEADER,
    StickyHeader,
    TrafficPlan,
)
from airflow_provider_mlpipex.serving.envoy.extensions import HTTP, LUA, RBAC, TYPE
from airflow_provider_mlpipex.serving.envoy.ingress_tokens import IngressTokens, rules_for
from airflow_provider_mlpipex.serving.limits import (
    MAX_BODY_BYTES,
)
from airflow_provider_mlpipex.serving.timeouts import KEEP_ALIVE_S, request_limit_s

ROUTES = "mlpipex"
#: In the log of attempts, in place of a user: a request that was split by itself, because it says nobody's name.
BY_CHANCE = "by-chance"
_SHADOW = "--shadow"
_OVER = "--over--"
#: Host of every request that a client has sent. Envoy ends the host of a mirrored copy with ``-shadow``, and so could
#: have a client.
_HOST = "mlpipex"
#: Any other path. Without a route, a request would be judged by the rules of the listener, which are not renewed.
_NOWHERE = {"name": "nowhere", "match": {"prefix": "/"}, "direct_response": {"status": 404}}
_MARK_OF_TRIAL = {"header": {"key": TRIAL_HEADER, "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
#: One part in a million: mirror fractions down to 0.0001 %.
_MILLION = 1_000_000


def cluster_name(endpoint: EndpointRef, release_id: str) -> str:
    """``production--flight-delay--1-1-0-rt1-0-0-3fa9c2d1``"""
    return f"{endpoint.environment}--{endpoint.name}--{slug_of(release_id)}"


def read_cluster_name(cluster: str) -> tuple[str, str] | None:
    """(endpoint, release slug) of a cluster, of a composite its candidate; ``None`` for a foreign name."""
    parts = cluster.removesuffix(_SHADOW).partition(_OVER)[0].split("--")
    return (f"{parts[0]}/{parts[1]}", parts[2]) if len(parts) == 3 else None


@dataclass(frozen=True)
class Routing:
    """How a plan is carried out here.

    :param try_limit_s: what its candidate takes before current is asked beside it.
    :param fallback: the release that answers what current cannot; ``None`` where none of that id runs.
    """

    plan: TrafficPlan
    try_limit_s: float = TIMEOUT_S
    fallback: str | None = None

    def target(self, release: str) -> tuple[str, ...]:
        """Who is asked for the share of ``release``, in order; one alone where nobody stands behind it."""
        behind = [self.plan.current, *([self.fallback] if self.fallback else [])]
        asked = [release, *(other for other in behind if other != release)]
        return tuple((asked + asked[-1:] * 2)[:3]) if len(asked) > 1 else (release,)

    def cluster(self, release: str) -> str:
        """Name of the cluster that the share of ``release`` goes to."""
        name = cluster_name(self.plan.endpoint, release)
        behind = dict.fromkeys(self.target(release)[1:])
        return name + "".join(f"{_OVER}{slug_of(other)}" for other in behind)


def clusters(sockets: Mapping[tuple[EndpointRef, str], Path], routings: Iterable[Routing]) -> list[dict[str, Any]]:
    """One cluster a running release, one to mirror to it, and a composite for every share that has somebody behind."""
    rendered = []
    for (endpoint, release), socket in sorted(sockets.items(), key=lambda item: (str(item[0][0]), item[0][1])):
        name = cluster_name(endpoint, release)
        rendered.append(_cluster(name, socket, _serving_limits()))
        # A shadow that hangs may hold this many requests and no more; beyond, copies are dropped and counted.
        rendered.append(_cluster(f"{name}{_SHADOW}", socket, _limits(connections=64, pending=64, requests=64)))
    for routing in routings:
        for release in routing.plan.weights:
            if len(routing.target(release)) > 1:
                rendered.append(_composite(routing, release))
    return rendered


def routes(routings: Iterable[Routing], *, tokens: IngressTokens) -> dict[str, Any]:
    """All endpoints in one route configuration: forced variants first, then the split.

    :param tokens: what is taken from now on, on connections that are open already too; a listener's own rules would
        hold for them until they are closed.
    """
    ordered = sorted(routings, key=lambda routing: str(routing.plan.endpoint))
    return {
        "@type": f"{TYPE}config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "validate_clusters": True,
        "request_headers_to_remove": ["authorization"],
        "virtual_hosts": [
            {
                "name": "endpoints",
                "domains": ["*"],
                # Overwrites what a client says.
                "include_request_attempt_count": True,
                "typed_per_filter_config": {
                    RBAC: {
                        "@type": f"{TYPE}extensions.filters.http.rbac.v3.RBACPerRoute",
                        "rbac": {"rules": rules_for(tokens)["rules"]},
                    }
                },
                "routes": [
                    *(
                        route
                        for routing in ordered
                        for route in (
                            _document(routing.plan),
                            *_forced(routing.plan),
                            _by_chance(routing),
                            _split(routing),
                        )
                    ),
                    _NOWHERE,
                ],
            }
        ],
    }


def read_currents(config: Mapping[str, Any]) -> dict[str, StickyHeader]:
    """Cluster of each endpoint's current release -> its sticky header, of what :func:`routes` has rendered.

    :raises LookupError, TypeError, AttributeError: something else has rendered it.
    """
    currents, cluster = {}, ""
    for route in config["virtual_hosts"][0]["routes"]:
        if route["name"].endswith("/split"):
            currents[cluster] = StickyHeader(route["route"]["hash_policy"][0]["header"]["header_name"])
        elif route["name"].endswith("/forced") and _exact(route) == "current":
            cluster = route["route"]["cluster"]
    return currents


def _exact(route: Mapping[str, Any]) -> object:
    return route["match"]["headers"][0]["string_match"].get("exact")


def resource_file(version: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {"version_info": version, "resources": resources}


def _forced(plan: TrafficPlan) -> list[dict[str, Any]]:
    """Testers choose by header; they see the release as it is, without fallback and without mirror."""
    choices = {release: release for release in plan.releases if plan.mirror is None or release != plan.mirror.release}
    choices |= {"current": plan.current} | ({"candidate": plan.candidate} if plan.candidate else {})
    return [
        {
            "name": f"{plan.endpoint}/forced",
            "match": {
                **_path(plan.endpoint),
                "headers": [{"name": VARIANT_HEADER, "string_match": {"exact": choice}}],
            },
            "route": {
                "cluster": cluster_name(plan.endpoint, release),
                "prefix_rewrite": "/invocations",
                "host_rewrite_literal": _HOST,
                "timeout": _seconds(_request_limit_s(plan)),
            },
        }
        for choice, release in choices.items()
    ]


def _by_chance(routing: Routing) -> dict[str, Any]:
    """The split for requests whose sticky header says nothing, however often they carry it."""
    split = _split(routing)
    nothing = {"name": routing.plan.sticky_header.name, "string_match": {"safe_regex": {"regex": r"[\s,]*"}}}
    return {
        **split,
        "name": f"{routing.plan.endpoint}/by-chance",
        "match": {**split["match"], "headers": [nothing]},
        "route": {key: value for key, value in split["route"].items() if key != "hash_policy"},
    }


def _split(routing: Routing) -> dict[str, Any]:
    plan, shares = routing.plan, routing.plan.weights
    weighted: list[dict[str, Any]] = [
        {
            "name": routing.cluster(release),
            "weight": shares[release],
            **({"request_headers_to_add": [_MARK_OF_TRIAL]} if release == plan.candidate else {}),
        }
        for release in (plan.current, plan.candidate, plan.control)
        if release is not None and release in shares
    ]
    assert sum(cluster["weight"] for cluster in weighted) == TOTAL_WEIGHT
    action: dict[str, Any] = {
        "prefix_rewrite": "/invocations",
        "host_rewrite_literal": _HOST,
        # Current has as long as it always has, after a candidate that answers nothing has had its time.
        "timeout": _seconds(_request_limit_s(plan) + (routing.try_limit_s if plan.candidate_weight else 0.0)),
        "hash_policy": [_salted_hash(plan)],
        "weighted_clusters": {"use_hash_policy": True, "clusters": weighted},
        **_retries(routing),
    }
    if plan.mirror is not None:
        fraction = {"numerator": round(plan.mirror.fraction * _MILLION), "denominator": "MILLION"}
        action["request_mirror_policies"] = [
            {
                "cluster": cluster_name(plan.endpoint, plan.mirror.release) + _SHADOW,
                "runtime_fraction": {"default_value": fraction},
            }
        ]
    return {
        "name": f"{plan.endpoint}/split",
        "match": _path(plan.endpoint),
        "route": action,
        # What an attempt needs to be made again; beyond its limit Envoy gives a candidate's failure to the client.
        "request_body_buffer_limit": MAX_BODY_BYTES,
        **({"metadata": {"filter_metadata": {LUA: {"sticky": plan.sticky_header.name}}}} if len(shares) > 1 else {}),
    }


def _document(plan: TrafficPlan) -> dict[str, Any]:
    """The OpenAPI document of the endpoint: that of its current release."""
    return {
        "name": f"{plan.endpoint}/openapi",
        "match": {
            "path": f"/endpoints/{plan.endpoint}/openapi.json",
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        },
        "route": {
            "cluster": cluster_name(plan.endpoint, plan.current),
            "prefix_rewrite": "/openapi.json",
            "host_rewrite_literal": _HOST,
            "timeout": _seconds(_request_limit_s(plan)),
        },
    }


def _retries(routing: Routing) -> dict[str, Any]:
    policy: dict[str, Any] = {
        # A model server that is being restarted refuses connections: nothing has been asked of it yet. One that was
        # killed resets them, and to ask for a prediction again does no harm.
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.005s"},
    }
    if not routing.plan.candidate_weight and routing.fallback is None:
        # Nobody stands behind current but its own standby, which takes a moment to take over: ask for a second or two.
        patient = {"base_interval": "0.01s", "max_interval": "0.25s"}
        return {"retry_policy": {**policy, "num_retries": 16, "retry_back_off": patient}}
    # A model that raises is a 400 in MLflow's words. Another release may know better.
    policy["retry_on"] = "5xx,reset,connect-failure,refused-stream,retriable-headers"
    policy["retriable_headers"] = [_fault(MODEL_FAULT)]
    if not routing.plan.candidate_weight:
        return {"retry_policy": policy}
    policy["retriable_headers"].append(_fault(REFUSED_ROWS))
    policy["per_try_timeout"] = _seconds(routing.try_limit_s)
    return {"retry_policy": policy, "hedge_policy": {"hedge_on_per_try_timeout": True}}


def _fault(value: str) -> dict[str, Any]:
    return {"name": FAULT_HEADER, "string_match": {"exact": value}}


def _request_limit_s(plan: TrafficPlan) -> float:
    return request_limit_s(plan.timeout_s or TIMEOUT_S)


def _seconds(seconds: float) -> str:
    """As protobuf writes a duration."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def _salted_hash(plan: TrafficPlan) -> dict[str, Any]:
    rewrite = {"pattern": {"regex": "^(.*)$"}, "substitution": f"{plan.endpoint}:\\1"}
    return {"header": {"header_name": plan.sticky_header.name, "regex_rewrite": rewrite}}


def _path(endpoint: EndpointRef) -> dict[str, Any]:
    return {"path": f"/endpoints/{endpoint.environment}/{endpoint.name}/invocations"}


def _cluster(name: str, socket: Path, limits: dict[str, Any]) -> dict[str, Any]:
    address = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "@type": f"{TYPE}config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [address]}]},
        "circuit_breakers": {"thresholds": [limits]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            HTTP: {
                "@type": f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": f"{KEEP_ALIVE_S / 2:g}s"},
            }
        },
    }


def _composite(routing: Routing, release: str) -> dict[str, Any]:
    asked = [{"name": cluster_name(routing.plan.endpoint, other)} for other in routing.target(release)]
    return {
        "@type": f"{TYPE}config.cluster.v3.Cluster",
        "name": routing.cluster(release),
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        # The default of 3 parallel retries turned 92 of 900 rescued requests into errors.
        "circuit_breakers": {"thresholds": [_serving_limits()]},
        "cluster_type": {
            "name": "envoy.clusters.composite",
            "typed_config": {
                "@type": f"{TYPE}extensions.clusters.composite.v3.ClusterConfig",
                "clusters": asked,
            },
        },
    }


def _serving_limits() -> dict[str, Any]:
    return _limits(connections=4096, pending=4096, requests=4096)


def _limits(*, connections: int, pending: int, requests: int) -> dict[str, Any]:
    return {
        "max_connections": connections,
        "max_pending_requests": pending,
        "max_requests": requests,
        "max_retries": 1024,
    }
