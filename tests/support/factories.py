"""Small valid domain values, varied only where a test says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion, Release, RuntimeEnvironment
from airflow_provider_mlpipex.domain.rollout.events import Origin, RolloutPolicy
from airflow_provider_mlpipex.domain.values import digest_of

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ORIGIN = Origin(kind="test", user="pytest")
#: As a newer version of the provider tells an error whose class is not known here.
UNKNOWN_ERROR = {
    "error": "QuotaExceeded",
    "thing": "quota of the plane",
    "value": "9",
    "limit": "8",
    "remedy": "retire one",
    "runbook": "quota-exceeded",
}


def make_snapshot(seed: str = "march") -> DatasetSnapshot:
    return DatasetSnapshot(
        name="flight-delay",
        digest=digest_of(["snapshot", seed]),
        uri=f"memory://{seed}",
        rows=100,
        columns={"distance": "int64", "late": "bool"},
        window_start=NOON - timedelta(days=90),
        split_at=NOON - timedelta(days=30),
        window_end=NOON,
        time_column="time_hour",
    )


def make_model(version: str = "1.0.0", *, name: str = "flight-delay", **metrics: float) -> ModelVersion:
    return ModelVersion(
        name=name,
        version=version,
        artifact_uri=f"memory://{name}/{version}",
        artifact_digest=digest_of(["artifact", name, version]),
        signature={"inputs": "[]"},
        signature_digest=digest_of({"inputs": "[]"}),
        architecture="Pipeline[HistGradientBoostingClassifier]",
        configuration_digest=digest_of({}),
        dataset=make_snapshot(version),
        code_version="0123abc",
        metrics=metrics or {"accuracy": 0.8},
        evaluation_rows=1000,
        run_id=f"run-{version}",
    )


def make_release(version: str = "1.0.0", *, runtime: str = "1.0.0", manifest: str = "first") -> Release:
    return Release(
        model=make_model(version),
        runtime=RuntimeEnvironment(version=runtime, kind="provider", digest=digest_of(["runtime", runtime])),
        manifest_digest=digest_of(manifest),
    )


def make_gate_result(gate: str, verdict: VerdictName) -> GateResult:
    evidence = Evidence(source="evaluation", metric="recall", value=0.5, samples=40, since=NOON, until=NOON)
    rule = "evaluation.recall at least 80%"
    return GateResult(gate=gate, verdict=verdict, rule=rule, evidence=evidence, reason="observed 50%")


def make_policy(**changes: object) -> RolloutPolicy:
    demanding = {
        "review": True,
        "shadow_fraction": 0.5,
        "canary_weights": (500, 2500, 10_000),
        "rollback_window_s": 60.0,
        "lease_s": 30.0,
    }
    return RolloutPolicy.model_validate({**demanding, **changes})
