from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.metrics import PAIRED
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning import synthetic_evidence
from airflow_provider_mlpipex.domain.planning.proof import MANY, Proof, prove, prove_environment
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from tests.support.manifests import make_manifest


def proofs(rate: float | None = 10.0, **environment: Any) -> dict[str, Proof]:
    spec = EnvironmentSpec.model_validate(environment)
    return {proof.gate: proof for proof in prove_environment("production", spec, rate)}


def of_canary(metric: str, *, rate: float | None = 10.0, **spec: Any) -> Proof:
    gates = [{"name": "it", "metric": metric, **spec}]
    return proofs(rate, canary={"steps": ["50%", "100%"], "step_duration": "10m", "gates": gates})["it"]


LIVE = [
    ("canary.error_rate", {"max": "1%"}),
    ("canary.error_rate", {"max": "0%"}),
    ("canary.error_rate", {"max": "1%", "detects": "2%"}),
    ("canary.error_rate", {"min": "1%"}),
    ("canary.error_rate", {"within": "10%", "window": "20m"}),
    ("canary.error_rate", {"improves": "10%", "window": "20m"}),
    ("canary.latency_p50", {"max": "120ms"}),
    ("canary.latency_p95", {"max": "120ms", "detects": "30ms"}),
    ("canary.latency_p99", {"within": "10%", "window": "20m"}),
    ("canary.critical_errors", {"max": 0}),
    ("canary.critical_errors", {"max": 3}),
]


@pytest.mark.parametrize(("metric", "spec"), LIVE, ids=[f"{metric} {spec}" for metric, spec in LIVE])
@pytest.mark.parametrize("rate", [10.0, None])
def test_a_live_gate_stops_what_is_beyond_it_and_passes_what_is_within(
    metric: str, spec: dict[str, Any], rate: float | None
) -> None:
    proof = of_canary(metric, rate=rate, **spec)
    assert proof.defects == ()
    assert proof.beyond is not None and proof.beyond.verdict == "fail"
    assert proof.within is not None and proof.within.verdict == "pass"
    assert proof.beyond.bad is not None and proof.within.bad is not None
    assert proof.within.bad < proof.beyond.bad
    assert proof.unknown.verdict in ("inconclusive", "error")


OF_PAIRS: dict[str, dict[str, Any]] = {
    "pairs": {"min": 500},
    "agreement": {"min": "95%"},
    "flip_rate": {"max": "5%"},
    "worst_slice_flip_rate": {"max": "10%"},
    "mean_difference": {"min": -0.02},
    "mean_absolute_difference": {"max": 0.05},
    "p95_difference": {"max": 0.2, "detects": 0.1},
    "latency_difference_p95": {"max": "20ms"},
    "one_sided_errors": {"max": 0},
    "missing_share": {"max": "1%"},
    "psi": {"max": 0.2},
    "ks": {"max": 0.1},
    "js": {"max": 0.1},
}


@pytest.mark.parametrize("metric", PAIRED)
def test_a_gate_on_any_paired_metric_can_stop_and_can_let_pass(metric: str) -> None:
    gates = [{"name": "it", "metric": f"shadow.{metric}", **OF_PAIRS[metric]}]
    proof = proofs(shadow={"fraction": "50%", "duration": "10m", "gates": gates})["it"]
    assert proof.defects == ()
    stopped = "inconclusive" if metric == "pairs" else "fail"
    assert proof.beyond is not None and proof.beyond.verdict == stopped
    assert proof.within is not None and proof.within.verdict == "pass"


def test_candidates_are_as_large_as_the_smallest_step_brings() -> None:
    assert of_canary("canary.error_rate", max="1%").samples == 3000
    assert of_canary("canary.error_rate", rate=None, max="1%").samples == MANY


def test_with_more_requests_what_is_just_beyond_comes_closer() -> None:
    def gap(rate: float) -> float:
        proof = of_canary("canary.error_rate", rate=rate, max="1%")
        assert proof.beyond is not None and proof.beyond.value is not None
        return proof.beyond.value - 0.01

    assert 0 < gap(100.0) < gap(10.0) < gap(1.0)


def test_what_is_detected_lies_within_what_passes() -> None:
    blunt, careful = of_canary("canary.error_rate", max="1%"), of_canary("canary.error_rate", max="1%", detects="0.6%")
    assert blunt.within is not None and careful.within is not None
    assert careful.within.bad < blunt.within.bad  # type: ignore[operator]
    assert careful.beyond == blunt.beyond


def test_a_count_that_only_has_to_grow_keeps_waiting_instead_of_failing() -> None:
    shadow = {"fraction": "50%", "duration": "10m", "gates": [{"name": "some", "metric": "shadow.pairs", "min": 500}]}
    proof = proofs(shadow=shadow)["some"]
    assert proof.defects == ()
    assert proof.beyond is not None and proof.beyond.verdict == "inconclusive"
    assert proof.within is not None and proof.within.verdict == "pass"


def test_a_gate_that_cannot_fail_in_its_stage_has_no_proof() -> None:
    proof = of_canary("canary.error_rate", rate=0.001, max="20%")
    assert proof.beyond is None
    assert any("stops a candidate" in defect for defect in proof.defects)


def test_a_gate_that_cannot_pass_in_its_stage_has_no_proof() -> None:
    proof = of_canary("canary.latency_p95", rate=0.02, max="120ms", detects="1ms")
    assert proof.within is None
    assert any("lets a candidate pass" in defect for defect in proof.defects)
    assert of_canary("canary.latency_p95", max="0ms").within is None


OFFLINE = [
    {"metric": "evaluation.accuracy", "min": "80%"},
    {"metric": "evaluation.accuracy", "within": "0.5%"},
    {"metric": "evaluation.accuracy", "improves": "150%"},
    {"metric": "evaluation.log_loss", "max": 0.3},
    {"metric": "evaluation.rmse", "improves": "10%", "min_samples": 100},
    {"metric": "evaluation.bias", "within": "10%", "direction": "lower"},
    {"metric": "evaluation.r2", "min": "-50%"},
    {"metric": "baseline.accuracy", "min": "50%"},
]


@pytest.mark.parametrize("spec", OFFLINE, ids=str)
def test_an_offline_gate_is_proved_on_either_side_of_its_threshold(spec: dict[str, Any]) -> None:
    proof = proofs(serve=False, gates=[{"name": "it", **spec}])["it"]
    assert proof.defects == () and proof.alpha is None
    assert proof.beyond is not None and proof.within is not None and proof.beyond.value is not None
    assert proof.beyond.value == pytest.approx(proof.within.value, rel=1e-3)
    assert (proof.beyond.verdict, proof.within.verdict) == ("fail", "pass")


@pytest.mark.parametrize(
    ("spec", "defect"),
    [
        ({"metric": "evaluation.accuracy", "min": "0%"}, "stops a candidate"),
        ({"metric": "evaluation.accuracy", "within": "100%"}, "stops a candidate"),
        ({"metric": "evaluation.log_loss", "max": -1}, "lets a candidate pass"),
    ],
)
def test_an_offline_gate_that_decides_nothing_has_no_proof(spec: dict[str, Any], defect: str) -> None:
    (said,) = proofs(serve=False, gates=[{"name": "it", **spec}])["it"].defects
    assert defect in said


def test_every_gate_of_a_manifest_is_proved_once() -> None:
    manifest = make_manifest()
    found = [(proof.environment, proof.stage, proof.index) for proof in prove(manifest)]
    assert found == [
        ("staging", "gate", 0),
        ("production", "gate", 0),
        ("production", "shadow", 0),
        ("production", "canary", 0),
        ("production", "canary", 1),
        ("production", "watch", 0),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "dags/manifests/flight-delay.yaml",
        "airflow_provider_mlpipex/demo/flight-delay.yaml",
        "airflow_provider_mlpipex/demo/flight-delay-keyed.yaml",
    ],
)
def test_the_manifests_that_come_along_are_proved(path: str) -> None:
    assert all(proof.defects == () for proof in prove(load_manifest_file(path)))


def test_the_parity_of_features_is_proved_in_every_environment() -> None:
    manifest = load_manifest_file("airflow_provider_mlpipex/demo/flight-delay-keyed.yaml")
    parity = manifest.features.parity
    assert parity is not None
    found = {proof.environment: proof for proof in prove(manifest) if proof.stage == "parity"}
    assert found.keys() == manifest.environments.keys()
    for proof in found.values():
        assert proof.defects == () and proof.samples == parity.rows
        assert proof.beyond is not None and proof.beyond.verdict == "fail"
        assert proof.within is not None and proof.within.verdict == "pass"
        assert proof.unknown.verdict == "inconclusive"


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["error_rate", "latency_p95"]),
    st.floats(0.01, 0.5),
    st.floats(0.5, 200),
    st.integers(1, 240),
    st.floats(0.001, 0.2),
)
def test_a_gate_without_defects_agrees_with_its_proof_everywhere(
    metric: str, share: float, rate: float, minutes: int, alpha: float
) -> None:
    """Between the worst that passes and the best that is stopped, and only there, it cannot tell."""
    limit = round(share, 4) if metric == "error_rate" else "120ms"
    gates = [{"name": "it", "metric": f"canary.{metric}", "max": limit}]
    canary = {"steps": ["100%"], "step_duration": f"{minutes}m", "gates": gates}
    proof = proofs(rate, canary=canary, false_alarms=alpha)["it"]
    assume(not proof.defects)
    assert proof.samples == int(rate * 0.95 * timedelta(minutes=minutes).total_seconds() + 1e-6)
    assert proof.beyond is not None and proof.within is not None
    worst_passed, best_stopped = proof.within.bad, proof.beyond.bad
    assert worst_passed is not None and best_stopped is not None
    tried = {0, worst_passed, worst_passed + 1, best_stopped - 1, best_stopped, proof.samples}
    gate = Gate.model_validate(gates[0])
    for bad in tried:
        seen = synthetic_evidence.live_evidence(gate, bad=bad, samples=proof.samples)
        said = judge(gate, seen, now=synthetic_evidence.MOMENT, alpha=proof.alpha).verdict
        assert said == ("pass" if bad <= worst_passed else "fail" if bad >= best_stopped else "inconclusive")
