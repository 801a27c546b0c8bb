"""Names of Envoy's extensions, as its configuration spells them."""

from __future__ import annotations

TYPE = "type.googleapis.com/envoy."
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
RBAC = "envoy.filters.http.rbac"
LUA = "envoy.filters.http.lua"
