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
  those of a current release that is slow as well (60 of 60 requests failed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import slug_of
from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    BATCH_HEADER,
    CLIENT_REQUEST_ID_HEADER,
    FAULT_HEADER,
    MODEL_FAULT,
    REQUEST_ID_HEADER,
    TIMEOUT_S,
    TOTAL_WEIGHT,
    VARIANT_HEADER,
    StickyHeader,
    TrafficPlan,
)
from airflow_provider_mlpipex.serving.limits import (
    HEADERS_S,
    IDLE_S,
    MAX_BODY_BYTES,
    MAX_HEADERS_KB,
    MAX_REQUEST_ID,
    UPLOAD_S,
)
from airflow_provider_mlpipex.serving.timeouts import KEEP_ALIVE_S, request_limit_s

ROUTES = "mlpipex"
#: In the log of attempts, in place of a user: a request that was split by itself, because it says nobody's name.
BY_CHANCE = "by-chance"
#: Carries a user's pseudonym, or :data:`BY_CHANCE`, from the ingress to its log of attempts, which sees nothing else.
_UNIT_HEADER = "x-mlpipex-unit"
_TYPE = "type.googleapis.com/envoy."
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_SHADOW = "--shadow"
_OVER = "--over--"
#: Host of every request that a client has sent. Envoy ends the host of a mirrored copy with ``-shadow``, and so could
#: have a client.
_HOST = "mlpipex"
_RBAC = "envoy.filters.http.rbac"
_LUA = "envoy.filters.http.lua"
#: Any other path. Without a route, a request would be judged by the rules of the listener, which are not renewed.
_NOWHERE = {"name": "nowhere", "match": {"prefix": "/"}, "direct_response": {"status": 404}}
_ENVOYS_OWN_HEADERS = (
    "x-envoy-decorator-operation",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-path",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
)
#: One part in a million: mirror fractions down to 0.0001 %.
_MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True, repr=False)
class IngressTokens:
    """What the ingress takes, of each scope every token that is valid now.

    :param clients: ask for predictions. :param testers: also choose the release that answers.
    :param batch: also say which batch their rows are of.
    """

    clients: tuple[str, ...] = ()
    testers: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paths:
    """Where one Envoy of a plane reads and writes; every file in a folder of mode 0700.

    Routes and clusters are the same files for all of them. Listeners are not: they name logs, and Envoy does not write
    a line whole, so that two of them would tear each other's.
    """

    folder: Path
    admin_socket: Path
    number: int = 1

    @property
    def name(self) -> str:
        """``envoy``, ``envoy-2``"""
        return "envoy" if self.number == 1 else f"envoy-{self.number}"

    @property
    def bootstrap(self) -> Path:
        return self.folder / f"bootstrap{self._suffix}.json"

    def resource(self, kind: str) -> Path:
        return self.folder / "xds" / f"{kind}{self._suffix if kind == 'lds' else ''}.json"

    @property
    def attempts_log(self) -> Path:
        return self.folder / f"attempts{self._suffix}.jsonl"

    @property
    def access_log(self) -> Path:
        return self.folder / f"access{self._suffix}.jsonl"

    @property
    def own_log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def _suffix(self) -> str:
        return "" if self.number == 1 else f"-{self.number}"


def cluster_name(endpoint: EndpointRef, release_id: str) -> str:
    """``production--flight-delay--1-1-0-rt1-0-0-3fa9c2d1``"""
    return f"{endpoint.environment}--{endpoint.name}--{slug_of(release_id)}"


def read_cluster_name(cluster: str) -> tuple[str, str] | None:
    """(endpoint, release slug) of a cluster, of a composite its candidate; ``None`` for a foreign name."""
    parts = cluster.removesuffix(_SHADOW).partition(_OVER)[0].split("--")
    return (f"{parts[0]}/{parts[1]}", parts[2]) if len(parts) == 3 else None


def bootstrap(paths: Paths, *, connections: int) -> dict[str, Any]:
    """Static part: admin on a unix socket, everything else from files.

    :param connections: of clients, at once. The admin socket is not among them: whoever takes traffic back needs it.
    """
    monitor = {
        "@type": f"{_TYPE}extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": connections,
    }
    return {
        "node": {"id": f"mlpipex-{paths.number}", "cluster": "mlpipex"},
        "admin": {
            "address": {"pipe": {"path": str(paths.admin_socket), "mode": 0o600}},
            "ignore_global_conn_limit": True,
        },
        "overload_manager": {
            "resource_monitors": [
                {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": monitor}
            ]
        },
        "dynamic_resources": {"cds_config": _source(paths, "cds"), "lds_config": _source(paths, "lds")},
        "stats_flush_interval": "1s",
    }


def listener(paths: Paths, *, port: int, tokens: IngressTokens, salt: str = "") -> dict[str, Any]:
    """The ingress on loopback. Clients show a bearer token, which goes no further than here.

    :param tokens: for routes that an older version of the plane has rendered; those of today bring their own.
    :param salt: hexadecimal; of the pseudonyms that users have in the log of attempts.

    A request reaches a model server when all of it is here, so that no upload is ever unfinished there and every failed
    attempt can be made again. What is refused is counted and not logged: it needs no token to be refused.
    """
    buffer = {
        "@type": f"{_TYPE}extensions.filters.http.buffer.v3.Buffer",
        "max_request_bytes": MAX_BODY_BYTES,
    }
    router = {
        "@type": f"{_TYPE}extensions.filters.http.router.v3.Router",
        "upstream_log": [{**_file_log(paths.attempts_log), "filter": _PREDICTIONS}],
    }
    manager = {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "early_header_mutation_extensions": [{"name": "clients-headers", "typed_config": _early_mutations()}],
        "max_request_headers_kb": MAX_HEADERS_KB,
        "request_headers_timeout": f"{HEADERS_S}s",
        "request_timeout": f"{UPLOAD_S}s",
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_S}s"},
        "rds": {"route_config_name": ROUTES, "config_source": _source(paths, "rds")},
        "http_filters": [
            {"name": _RBAC, "typed_config": _rules_for(tokens)},
            {"name": "envoy.filters.http.buffer", "typed_config": buffer},
            {"name": _LUA, "typed_config": _pseudonyms(salt)},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
        "local_reply_config": _own_answers(),
        "access_log": [{**_file_log(paths.access_log), "filter": _only_answered()}],
    }
    return {
        "@type": f"{_TYPE}config.listener.v3.Listener",
        "name": "ingress",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        "per_connection_buffer_limit_bytes": MAX_BODY_BYTES,
        # Two Envoys of this plane share the port: while one is dead, the kernel gives every connection to the other.
        # That no other plane joins them is for the daemon to see to.
        "enable_reuse_port": True,
    }


def _early_mutations() -> dict[str, Any]:
    """What a client says in headers that are not its own to say. Every client of loopback counts as a trusted proxy to
    Envoy, so its ``x-envoy-*`` headers would set timeouts and ask for three hundred retries."""
    clients_own = {"key": CLIENT_REQUEST_ID_HEADER, "value": f"%REQ({REQUEST_ID_HEADER}):{MAX_REQUEST_ID}%"}
    return {
        "@type": f"{_TYPE}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [
            # Two requests of one id would be a pair of answers, or somebody else's label: Envoy makes the id.
            {"append": {"header": clients_own, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
            {"remove": REQUEST_ID_HEADER},
            {"remove": _UNIT_HEADER},
            *({"remove": header} for header in _ENVOYS_OWN_HEADERS),
        ],
    }


def _pseudonyms(salt: str) -> dict[str, Any]:
    """Names each user of a split route by a salted hash (Jenkins, one at a time, twice), for the log of attempts: how
    many users each release got can be counted from it, and who they are cannot be read."""
    code = f"""
        local function hash(text, seed)
          local value = seed
          for at = 1, #text do
            value = bit.tobit(value + string.byte(text, at))
            value = bit.tobit(value + bit.lshift(value, 10))
            value = bit.bxor(value, bit.rshift(value, 6))
          end
          value = bit.tobit(value + bit.lshift(value, 3))
          value = bit.bxor(value, bit.rshift(value, 11))
          return bit.tohex(bit.tobit(value + bit.lshift(value, 15)))
        end
        function envoy_on_request(handle)
          local header = handle:metadata():get("sticky")
          if header == nil then return end
          local user = handle:headers():get(header)
          local unit = "{BY_CHANCE}"
          if user ~= nil and string.find(user, "[^%s,]") then
            local text = "{salt}:" .. user
            unit = hash(text, 0) .. hash(text, 1)
          end
          handle:headers():replace("{_UNIT_HEADER}", unit)
        end
    """
    return {
        "@type": f"{_TYPE}extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": code},
    }


def _rules_for(tokens: IngressTokens) -> dict[str, Any]:
    """Who may ask for what. A header that is not for its sender to set is refused, not overlooked: who believes to have
    asked the candidate, or to have named a batch, must not be told otherwise by nobody."""
    chooses, names = _has(VARIANT_HEADER), _has(BATCH_HEADER)
    everybody = (*tokens.clients, *tokens.testers, *tokens.batch)
    policies = {
        "clients": _policy(everybody, {"not_rule": {"or_rules": {"rules": [chooses, names]}}}),
        "testers": _policy(tokens.testers, {"not_rule": names}),
        "batch": _policy(tokens.batch, {"not_rule": chooses}),
    }
    return {
        "@type": f"{_TYPE}extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {name: policy for name, policy in policies.items() if policy}},
    }


def _has(header: str) -> dict[str, Any]:
    return {"header": {"name": header, "present_match": True}}


def _policy(tokens: Iterable[str], permission: dict[str, Any]) -> dict[str, Any] | None:
    """``None`` where nobody holds a token: a policy without principals is no policy to Envoy."""
    exact = [
        {"header": {"name": "authorization", "string_match": {"exact": f"Bearer {token}"}}} for token in tokens if token
    ]
    return {"permissions": [permission], "principals": exact} if exact else None


#: What the ingress says where it answers by itself, in the shape of a model server's errors: status -> (code, message,
#: runbook). Nothing of the request is repeated, and a percent sign would be read as a command of Envoy's.
_OWN_ANSWERS: dict[int, tuple[str, str, str | None]] = {
    403: (
        "PERMISSION_DENIED",
        "the client token is missing or wrong: send it as authorization: Bearer TOKEN",
        "not-authorised",
    ),
    404: (
        "ENDPOINT_NOT_FOUND",
        "nothing is released at this path: ask /endpoints/ENVIRONMENT/NAME/invocations, as mlpipex status names it",
        "not-found",
    ),
    413: ("REQUEST_TOO_LARGE", f"the body is larger than {MAX_BODY_BYTES} bytes: send fewer rows at once", None),
    503: ("TEMPORARILY_UNAVAILABLE", "no model server took the request: ask again", "plane-unavailable"),
    504: ("DEADLINE_EXCEEDED", "no model server answered in time: ask again, or with fewer rows", "plane-unavailable"),
}


#: What the 403 says to who has sent a header that its token does not grant.
_REFUSED_HEADERS: dict[str, tuple[str, str, str | None]] = {
    VARIANT_HEADER: (
        "PERMISSION_DENIED",
        f"{VARIANT_HEADER} chooses a release: show the tester token, or leave the header out",
        "not-authorised",
    ),
    BATCH_HEADER: (
        "PERMISSION_DENIED",
        f"{BATCH_HEADER} says whose rows these are: show the batch token, or leave the header out",
        "not-authorised",
    ),
}


def _own_answers() -> dict[str, Any]:
    """Answers of models and model servers are left as they are; these are Envoy's own alone."""
    mappers = [_own_answer(403, *said, only_with=header) for header, said in _REFUSED_HEADERS.items()]
    return {"mappers": [*mappers, *(_own_answer(status, *said) for status, said in _OWN_ANSWERS.items())]}


def _own_answer(
    status: int, code: str, message: str, runbook: str | None, *, only_with: str | None = None
) -> dict[str, Any]:
    body = {"error_code": code, "message": message, **({"runbook": runbook} if runbook else {})}
    # A runtime key is asked for, and without a runtime layer the default holds.
    only = {"op": "EQ", "value": {"default_value": status, "runtime_key": f"mlpipex.answer_{status}"}}
    matching: dict[str, Any] = {"status_code_filter": {"comparison": only}}
    if only_with:
        matching = {"and_filter": {"filters": [matching, {"header_filter": _has(only_with)}]}}
    return {"filter": matching, "body_format_override": {"json_format": body}}


#: Requests for predictions: who reads an endpoint's document says nothing about its release.
_PREDICTIONS = {"header_filter": {"header": {"name": ":path", "string_match": {"prefix": "/invocations"}}}}


def _only_answered() -> dict[str, Any]:
    """Requests for predictions that a model server was asked for."""
    expression = {
        "@type": f"{_TYPE}extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        "expression": "has(upstream.address)",
    }
    name = "envoy.access_loggers.extension_filters.cel"
    asked = {"extension_filter": {"name": name, "typed_config": expression}}
    return {"and_filter": {"filters": [_PREDICTIONS, asked]}}


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
        "@type": f"{_TYPE}config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "validate_clusters": True,
        "request_headers_to_remove": ["authorization"],
        "virtual_hosts": [
            {
                "name": "endpoints",
                "domains": ["*"],
                "typed_per_filter_config": {
                    _RBAC: {
                        "@type": f"{_TYPE}extensions.filters.http.rbac.v3.RBACPerRoute",
                        "rbac": {"rules": _rules_for(tokens)["rules"]},
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
    found, cluster = {}, ""
    for route in config["virtual_hosts"][0]["routes"]:
        if route["name"].endswith("/split"):
            found[cluster] = StickyHeader(route["route"]["hash_policy"][0]["header"]["header_name"])
        elif route["name"].endswith("/forced") and _exact(route) == "current":
            cluster = route["route"]["cluster"]
    return found


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
        {"name": routing.cluster(release), "weight": shares[release]}
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
        **({"metadata": {"filter_metadata": {_LUA: {"sticky": plan.sticky_header.name}}}} if len(shares) > 1 else {}),
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
    policy["retriable_headers"] = [{"name": FAULT_HEADER, "string_match": {"exact": MODEL_FAULT}}]
    if not routing.plan.candidate_weight:
        return {"retry_policy": policy}
    policy["per_try_timeout"] = _seconds(routing.try_limit_s)
    return {"retry_policy": policy, "hedge_policy": {"hedge_on_per_try_timeout": True}}


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
        "@type": f"{_TYPE}config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [address]}]},
        "circuit_breakers": {"thresholds": [limits]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            _HTTP: {
                "@type": f"{_TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": f"{KEEP_ALIVE_S / 2:g}s"},
            }
        },
    }


def _composite(routing: Routing, release: str) -> dict[str, Any]:
    asked = [{"name": cluster_name(routing.plan.endpoint, other)} for other in routing.target(release)]
    return {
        "@type": f"{_TYPE}config.cluster.v3.Cluster",
        "name": routing.cluster(release),
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        # The default of 3 parallel retries turned 92 of 900 rescued requests into errors.
        "circuit_breakers": {"thresholds": [_serving_limits()]},
        "cluster_type": {
            "name": "envoy.clusters.composite",
            "typed_config": {
                "@type": f"{_TYPE}extensions.clusters.composite.v3.ClusterConfig",
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


def _source(paths: Paths, kind: str) -> dict[str, Any]:
    # No watched_directory: then a rename of one file makes Envoy read that file and no other.
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "5s",
        "path_config_source": {"path": str(paths.resource(kind))},
    }


def _file_log(path: Path) -> dict[str, Any]:
    fields = {
        "ts": "%START_TIME(%s.%6f)%",
        "rid": f"%REQ({REQUEST_ID_HEADER})%",
        "client_rid": f"%REQ({CLIENT_REQUEST_ID_HEADER})%",
        "code": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "fault": f"%RESP({FAULT_HEADER})%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "host": "%UPSTREAM_HOST%",
        "unit": f"%REQ({_UNIT_HEADER})%",
        "us": "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
        "ms": "%DURATION%",
    }
    return {
        "name": "file",
        "typed_config": {
            "@type": f"{_TYPE}extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": fields},
        },
    }
