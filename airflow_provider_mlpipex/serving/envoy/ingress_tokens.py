"""Who may ask the ingress for what, as rules of Envoy's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_provider_mlpipex.domain.rollout.traffic_plan import (
    BATCH_HEADER,
    VARIANT_HEADER,
)
from airflow_provider_mlpipex.serving.envoy.extensions import TYPE


@dataclass(frozen=True, kw_only=True, repr=False)
class IngressTokens:
    """What the ingress takes, of each scope every token that is valid now.

    :param clients: ask for predictions. :param testers: also choose the release that answers.
    :param batch: also say which batch their rows are of.
    """

    clients: tuple[str, ...] = ()
    testers: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()


def rules_for(tokens: IngressTokens) -> dict[str, Any]:
    """Who may ask for what. A header that is not for its sender to set is refused, not overlooked: who believes to have
    asked the candidate, or to have named a batch, must not be told otherwise by nobody."""
    chooses, names = has(VARIANT_HEADER), has(BATCH_HEADER)
    everybody = (*tokens.clients, *tokens.testers, *tokens.batch)
    policies = {
        "clients": _policy(everybody, {"not_rule": {"or_rules": {"rules": [chooses, names]}}}),
        "testers": _policy(tokens.testers, {"not_rule": names}),
        "batch": _policy(tokens.batch, {"not_rule": chooses}),
    }
    return {
        "@type": f"{TYPE}extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {name: policy for name, policy in policies.items() if policy}},
    }


def has(header: str) -> dict[str, Any]:
    return {"header": {"name": header, "present_match": True}}


def _policy(tokens: Iterable[str], permission: dict[str, Any]) -> dict[str, Any] | None:
    """``None`` where nobody holds a token: a policy without principals is no policy to Envoy."""
    exact = [
        {"header": {"name": "authorization", "string_match": {"exact": f"Bearer {token}"}}} for token in tokens if token
    ]
    return {"permissions": [permission], "principals": exact} if exact else None
