"""What an Envoy starts with: its bootstrap, and the listener that clients reach. Pure: dicts in, dicts out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    BATCH_HEADER,
    CLIENT_REQUEST_ID_HEADER,
    FAULT_HEADER,
    REQUEST_ID_HEADER,
    TRIAL_HEADER,
    VARIANT_HEADER,
)
from airflow_provider_mlpipex.serving.envoy.config import BY_CHANCE, ROUTES
from airflow_provider_mlpipex.serving.envoy.extensions import LUA, RBAC, TYPE
from airflow_provider_mlpipex.serving.envoy.ingress_tokens import IngressTokens, has, rules_for
from airflow_provider_mlpipex.serving.envoy.paths import Paths
from airflow_provider_mlpipex.serving.limits import (
    HEADERS_S,
    IDLE_S,
    MAX_BODY_BYTES,
    MAX_HEADERS_KB,
    MAX_REQUEST_ID,
    UPLOAD_S,
)

#: Carries a user's pseudonym, or :data:`BY_CHANCE`, from the ingress to its log of attempts, which sees nothing else.
_UNIT_HEADER = "x-mlpipex-unit"
_ENVOYS_OWN_HEADERS = (
    "x-envoy-attempt-count",
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


def bootstrap(paths: Paths, *, connections: int) -> dict[str, Any]:
    """Static part: admin on a unix socket, everything else from files.

    :param connections: of clients, at once. The admin socket is not among them: whoever takes traffic back needs it.
    """
    monitor = {
        "@type": f"{TYPE}extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
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
        "@type": f"{TYPE}extensions.filters.http.buffer.v3.Buffer",
        "max_request_bytes": MAX_BODY_BYTES,
    }
    router = {
        "@type": f"{TYPE}extensions.filters.http.router.v3.Router",
        "upstream_log": [{**_file_log(paths.attempts_log), "filter": _PREDICTIONS}],
    }
    manager = {
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
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
            {"name": RBAC, "typed_config": rules_for(tokens)},
            {"name": "envoy.filters.http.buffer", "typed_config": buffer},
            {"name": LUA, "typed_config": _pseudonyms(salt)},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
        "local_reply_config": _own_answers(),
        "access_log": [{**_file_log(paths.access_log), "filter": _only_answered()}],
    }
    return {
        "@type": f"{TYPE}config.listener.v3.Listener",
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
        "@type": f"{TYPE}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [
            # Two requests of one id would be a pair of answers, or somebody else's label: Envoy makes the id.
            {"append": {"header": clients_own, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
            {"remove": REQUEST_ID_HEADER},
            {"remove": _UNIT_HEADER},
            {"remove": TRIAL_HEADER},
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
        "@type": f"{TYPE}extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": code},
    }


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
        matching = {"and_filter": {"filters": [matching, {"header_filter": has(only_with)}]}}
    return {"filter": matching, "body_format_override": {"json_format": body}}


#: Requests for predictions: who reads an endpoint's document says nothing about its release.
_PREDICTIONS = {"header_filter": {"header": {"name": ":path", "string_match": {"prefix": "/invocations"}}}}


def _only_answered() -> dict[str, Any]:
    """Requests for predictions that a model server was asked for."""
    expression = {
        "@type": f"{TYPE}extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        "expression": "has(upstream.address)",
    }
    name = "envoy.access_loggers.extension_filters.cel"
    asked = {"extension_filter": {"name": name, "typed_config": expression}}
    return {"and_filter": {"filters": [_PREDICTIONS, asked]}}


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
            "@type": f"{TYPE}extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": fields},
        },
    }
