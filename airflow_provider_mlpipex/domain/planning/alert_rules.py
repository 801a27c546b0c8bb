"""Prometheus alert rules that follow from a manifest's rollback gates: a second pair of eyes that is not our own.

They hold for as long as a release serves, and also when nobody watches: without a triggerer, a ledger or a scheduler.
They compare with the limits as written. What our gates weigh beside that (alpha, a control arm, clumps) a rule does not
know, so a rule pages a person and takes nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from airflow_provider_mlpipex.domain.errors import RUNBOOKS
from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest

#: Of a gate without a window of its own. Prometheus needs several scrapes in it.
_WINDOW = timedelta(minutes=5)
#: For how long something is away before a person is called: longer than a restart takes.
_AWAY = "1m"


def alert_rules(manifest: Manifest, *, runbooks: str = RUNBOOKS) -> tuple[dict[str, Any], dict[str, str]]:
    """Rule groups as Prometheus reads them, one for each environment that serves; and the gates that have no rule, by
    ``environment.gate``, with the reason."""
    groups, left_out = [], {}
    for environment, spec in manifest.environments.items():
        if not spec.serve:
            continue
        labels = {"environment": environment, "endpoint": manifest.name}
        rules = list(_of_the_endpoint(labels, runbooks))
        for gate in spec.rollback.gates if spec.rollback else ():
            why = _why_not(gate)
            if why:
                left_out[f"{environment}.{gate.name}"] = why
            else:
                rules.append(_of_gate(gate, labels, runbooks))
        groups.append({"name": f"mlpipex/{environment}/{manifest.name}", "rules": rules})
    return {"groups": groups}, left_out


def _why_not(gate: Gate) -> str:
    if not gate.metric.startswith("serving."):
        return f"{gate.metric} is measured by looks, not by Prometheus"
    if gate.relative:
        return "it is relative to the control arm, which is there only while a promotion is watched"
    if gate.max is None:
        return "it asks for enough evidence, which is nothing to be called for"
    return ""


def _of_gate(gate: Gate, labels: dict[str, str], runbooks: str) -> dict[str, Any]:
    window = format_duration(gate.window or _WINDOW)
    measured, limit, shown = _measured(gate, labels, window)
    requests = f"sum(increase(mlpipex_requests_total{_of_current(labels)}[{window}]))"
    return _rule(
        "MlpipexGateBroken",
        f"{measured} > {limit:g} and {requests} >= {gate.min_samples}",
        labels={**labels, "gate": gate.name, "severity": "warning" if gate.advisory else "critical"},
        summary=f"{gate.name} is broken",
        description=f"{gate.metric} over {window} is {shown}, limit {gate.in_unit(gate.bound)}. "
        f"Take it back with: mlpipex rollback {_name(labels)}",
        page=f"{runbooks.rstrip('/')}/rolled-back.md",
    )


def _measured(gate: Gate, labels: dict[str, str], window: str) -> tuple[str, float, str]:
    """An expression, the limit in its unit, and how a message shows the value."""
    assert gate.max is not None
    of = _of_current(labels)
    if gate.quantile is not None:
        buckets = f"sum by (le) (rate(mlpipex_request_duration_seconds_bucket{of}[{window}]))"
        return f"histogram_quantile({gate.quantile:g}, {buckets})", gate.max / 1000.0, "{{ $value | humanizeDuration }}"
    if gate.counts:
        return f"sum(increase(mlpipex_request_errors_total{of}[{window}]))", gate.max, "{{ $value }}"
    errors, requests = (
        f"sum(rate(mlpipex_{counter}_total{of}[{window}]))" for counter in ("request_errors", "requests")
    )
    return f"{errors} / {requests}", gate.max, "{{ $value | humanizePercentage }}"


def _of_the_endpoint(labels: dict[str, str], runbooks: str) -> Iterator[dict[str, Any]]:
    """What no gate of the manifest says: that there is nobody to measure."""
    current, critical = f"mlpipex_release_info{_of_current(labels)}", {**labels, "severity": "critical"}
    yield _rule(
        "MlpipexCurrentReleaseDown",
        # Joined by the release's id, which the processes are labelled with.
        f"(mlpipex_model_server_up{_of(labels)} == 0) and on (environment, endpoint, release) {current}",
        lasting=_AWAY,
        labels=critical,
        summary="its current release takes no requests",
        description="{{ $labels.release }} does not run. Previous answers what it cannot, where there is one.",
        page=f"{runbooks.rstrip('/')}/release-not-ready.md",
    )
    yield _rule(
        "MlpipexPlaneAway",
        f"absent({current}) or mlpipex_ingress_up == 0",
        lasting=_AWAY,
        labels=critical,
        summary="nobody says what serves",
        description="The serving plane is not scraped, has no plan for this endpoint, or its Envoy is down.",
        page=f"{runbooks.rstrip('/')}/plane-unavailable.md",
    )


def _rule(
    alert: str, expression: str, *, labels: dict[str, str], summary: str, description: str, page: str, lasting: str = ""
) -> dict[str, Any]:
    return {
        "alert": alert,
        "expr": expression,
        **({"for": lasting} if lasting else {}),
        "labels": dict(labels),
        "annotations": {
            "summary": f"{_name(labels)}: {summary}",
            "description": description,
            "runbook_url": page,
        },
    }


def _name(labels: dict[str, str]) -> str:
    return f"{labels['environment']}/{labels['endpoint']}"


def _of(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def _of_current(labels: dict[str, str]) -> str:
    return _of({**labels, "role": "current"})
