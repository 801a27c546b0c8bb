"""What nobody knows of an adopted model, judged by what its environment asks: a gate like any other, in the ledger."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.services.platform import Platform


def judge(
    platform: Platform, manifest: Manifest, *, endpoint: EndpointRef, model: ModelVersion
) -> tuple[GateResult, ...]:
    """Nothing of a model that was trained here: it is not registered unless everything is known of it.

    Where the environment is content with ``recorded-as-missing``, the gate is advisory: it says the same, and stops
    nothing.
    """
    if model.adopted is None:
        return ()
    missing = model.adopted.missing
    asked = manifest.environments[endpoint.environment].provenance or "required"
    gate = Gate(name="provenance", metric="provenance.missing", max=0, advisory=asked != "required")
    now = platform.clock.now()
    evidence = Evidence(
        source="provenance",
        metric="missing",
        value=float(len(missing)),
        samples=1,
        since=now,
        until=now,
        about=", ".join(missing) or None,
    )
    result = judging.judge(gate, evidence, now=now)
    if not missing:
        return (result,)
    remedy = "" if gate.advisory else "; log it with the model, or write provenance: recorded-as-missing"
    reason = f"nobody knows its {', '.join(missing)} (provenance: {asked}){remedy}"
    return (result.model_copy(update={"reason": reason}),)
