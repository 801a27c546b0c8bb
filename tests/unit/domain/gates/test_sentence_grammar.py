from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.fields.refusal import Refusal
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.sentence_grammar import FORMS, read_sentence


@pytest.mark.parametrize(
    ("sentence", "source", "rule"),
    [
        (
            "accuracy within 0.5% of the baseline",
            "evaluation",
            "evaluation.accuracy within 0.5% of the baseline",
        ),
        ("p95 latency under 120 ms", "canary", "canary.latency_p95 at most 120ms"),
        ("p95 latency under 120 ms", "shadow", "shadow.latency_p95 at most 120ms"),
        ("p95 latency under 120 ms", "serving", "serving.latency_p95 at most 120ms"),
        (
            "zero critical errors in a 30-minute canary window",
            "canary",
            "canary.critical_errors at most 0 over 30m",
        ),
    ],
)
def test_the_three_gates_of_the_mission_statement(sentence: str, source: Any, rule: str) -> None:
    assert Gate.model_validate(read_sentence(sentence, source=source)).rule == rule


@pytest.mark.parametrize(
    ("sentence", "mapping"),
    [
        ("Accuracy at least 80%.", {"metric": "evaluation.accuracy", "min": "80%"}),
        ("AUC above 70 %", {"metric": "evaluation.auc", "min": "70%"}),
        ("log loss below 0.5", {"metric": "evaluation.log_loss", "max": 0.5}),
        ("brier score at most 0.2", {"metric": "evaluation.brier", "max": 0.2}),
        ("macro F1 over 60%", {"metric": "evaluation.f1_macro", "min": "60%"}),
        ("accuracy improves by 1%", {"metric": "evaluation.accuracy", "improves": "1%"}),
        ("auc improves on the baseline by at least 1%", {"metric": "evaluation.auc", "improves": "1%"}),
        ("accuracy within 1% of the current release", {"metric": "evaluation.accuracy", "within": "1%"}),
        ("accuracy within 0.5 points of the baseline", {"metric": "evaluation.accuracy", "within": "0.5 points"}),
        (
            "recall improves on the baseline by at least 1 point",
            {"metric": "evaluation.recall", "improves": "1 points"},
        ),
        ("auc improves by at least 1% of the baseline", {"metric": "evaluation.auc", "improves": "1% of the baseline"}),
        ("median latency at most 1.5 seconds", None),
        ("canary error rate <= 1%", {"metric": "canary.error_rate", "max": "1%"}),
        ("canary.latency_p99 < 300ms", {"metric": "canary.latency_p99", "max": "300ms"}),
        ("error rate at most 1% over 10 minutes", None),
        (
            "canary error rate no more than 1% over any 10m from at least 500 requests",
            {"metric": "canary.error_rate", "max": "1%", "window": "10m", "min_samples": 500},
        ),
        ("at least 500 shadow pairs", {"metric": "shadow.pairs", "min": 500}),
        (
            "shadow flip rate at most 5% from at least 500 pairs",
            {"metric": "shadow.flip_rate", "max": "5%", "min_samples": 500},
        ),
        ("shadow worst slice flip rate under 10%", {"metric": "shadow.worst_slice_flip_rate", "max": "10%"}),
        ("zero shadow one-sided errors", {"metric": "shadow.one_sided_errors", "max": 0}),
        ("shadow missing share at most 1%", {"metric": "shadow.missing_share", "max": "1%"}),
        ("shadow p95 difference at most 0.2", {"metric": "shadow.p95_difference", "max": 0.2}),
        ("shadow p95 latency difference under 50 ms", {"metric": "shadow.latency_difference_p95", "max": "50ms"}),
        ("shadow mean absolute difference at most 0.02", {"metric": "shadow.mean_absolute_difference", "max": 0.02}),
        ("shadow psi under 0.2", {"metric": "shadow.psi", "max": 0.2}),
        (
            "at most 3 critical errors in a 1 hour serving window",
            {"metric": "serving.critical_errors", "max": 3, "window": "1h"},
        ),
        ("no critical errors during 90 seconds of", None),
    ],
)
def test_siblings_are_the_mapping_form(sentence: str, mapping: dict[str, Any] | None) -> None:
    if mapping is None:
        # What evaluation does not measure is refused, not guessed.
        with pytest.raises(ValueError):
            Gate.model_validate(read_sentence(sentence, source="evaluation"))
        return
    read = Gate.model_validate(read_sentence(sentence, source="evaluation"))
    assert read == Gate.model_validate({"name": read.name, **mapping})


@pytest.mark.parametrize(
    "sentence", ["", "make it good", "accuracy", "latency under the bridge", "accuracy within 5 of it"]
)
def test_an_unreadable_sentence_is_told_every_form(sentence: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_sentence(sentence, source="evaluation")
    assert all(form in refused.value.limit for form in FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_is_told_can_be_read(form: str) -> None:
    of_pairs: Any = "shadow" if "pairs" in form else "canary"
    source: Any = "evaluation" if form.startswith("accuracy") else of_pairs
    assert Gate.model_validate(read_sentence(form, source=source))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Gate.model_validate(read_sentence(text, source="canary"))
    except ValueError:
        return
