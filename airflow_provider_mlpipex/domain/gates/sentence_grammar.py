"""Gates written as a sentence: ``accuracy within 0.5% of the baseline``.

A sentence is a metric, a criterion and, if wanted, a window. It becomes the very same :class:`Gate` as the mapping
form; what a sentence cannot say (direction, detects, age, advisory) is for the mapping.
"""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_mlpipex.domain.fields.refusal import Refusal
from airflow_provider_mlpipex.domain.gates.evidence import Source
from airflow_provider_mlpipex.domain.gates.metrics import METRICS

FORMS = (
    "accuracy within 0.5% of the baseline",
    "accuracy within 0.5 points of the baseline",
    "accuracy improves on the baseline by at least 1%",
    "p95 latency under 120 ms",
    "accuracy at least 80%",
    "error rate at most 1% over 10 minutes",
    "zero critical errors in a 30-minute canary window",
    "p95 latency under 120 ms from at least 500 requests",
    "flip rate at most 5% from at least 500 pairs",
)

_MAX_LENGTH = 200
_NUMBER = r"\d+(?:\.\d+)?"
#: Of a share points, of anything a part of the baseline.
_DIFFERENCE = rf"{_NUMBER}\s*(?:%|points?)"
_QUANTITY = rf"{_NUMBER}\s*(?:%|milliseconds?|ms|seconds?|s)?"
_UNIT = r"milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d|weeks?|w"
_SOURCE = "|".join(METRICS)
_WINDOW = re.compile(
    rf"\s+(?:in|over|during|for)\s+(?:an?\s+|the\s+|any\s+|every\s+)?(?P<amount>{_NUMBER})[\s-]*(?P<unit>{_UNIT})"
    rf"(?:\s+(?P<source>{_SOURCE}))?(?:\s+window)?$"
)
_SAMPLES = re.compile(r"\s+from\s+at\s+least\s+(?P<count>\d+)\s+(?:samples|requests|pairs|rows|labels)$")
_BASELINE = r"(?:the\s+)?(?:baseline|current(?:\s+release)?)"
_AT_MOST = r"at\s+most|no\s+more\s+than|under|below|up\s+to|<=?|≤"
_AT_LEAST = r"at\s+least|no\s+less\s+than|over|above|>=?|≥"
_CRITERIA = (
    ("within", re.compile(rf"(?P<metric>.+?)\s+within\s+(?P<value>{_DIFFERENCE})\s+of\s+{_BASELINE}")),
    (
        "improves",
        re.compile(
            rf"(?P<metric>.+?)\s+improves(?:\s+(?:on|over)\s+{_BASELINE})?\s+by(?:\s+at\s+least)?"
            rf"\s+(?P<value>{_DIFFERENCE}(?:\s+of\s+{_BASELINE})?)"
        ),
    ),
    ("max", re.compile(rf"(?P<metric>.+?)\s+(?:is\s+)?(?:{_AT_MOST})\s*(?P<value>{_QUANTITY})")),
    ("min", re.compile(rf"(?P<metric>.+?)\s+(?:is\s+)?(?:{_AT_LEAST})\s*(?P<value>{_QUANTITY})")),
    ("max", re.compile(rf"(?:at\s+most|no\s+more\s+than)\s+(?P<value>{_NUMBER})\s+(?P<metric>.+)")),
    ("min", re.compile(rf"(?:at\s+least|no\s+less\s+than)\s+(?P<value>{_NUMBER})\s+(?P<metric>.+)")),
    ("max", re.compile(r"(?P<value>zero|no)\s+(?P<metric>.+)")),
)
_QUANTILES = {"median": "p50", "p50": "p50", "p95": "p95", "p99": "p99"}
_OTHER_WORDS = {
    "macro_f1": "f1_macro",
    "mean_absolute_error": "mae",
    "root_mean_squared_error": "rmse",
    "brier_score": "brier",
    "errors": "critical_errors",
    "critical_error": "critical_errors",
    "p95_latency_difference": "latency_difference_p95",
    "one_sided_error": "one_sided_errors",
    "missing": "missing_share",
    "population_stability_index": "psi",
}


def read_sentence(sentence: str, *, source: Source) -> dict[str, Any]:
    """The mapping form of ``sentence``.

    :param source: who measures, where the sentence does not say: that of the block it stands in.
    :raises Refusal: a sentence of no known form; the refusal lists the forms.
    """
    words = " ".join(sentence.lower().rstrip(". ").split())
    gate: dict[str, Any] = {}
    if samples := _SAMPLES.search(words):
        gate["min_samples"] = int(samples["count"])
        words = words[: samples.start()]
    if window := _WINDOW.search(words):
        gate["window"] = window["amount"] + _short(window["unit"])
        source = _source(window["source"]) or source
        words = words[: window.start()]
    for criterion, form in _CRITERIA:
        if match := form.fullmatch(words[:_MAX_LENGTH]):
            source, metric = _metric(match["metric"], source)
            name = "-".join([*metric.split("_"), criterion, *([gate["window"].replace(".", "-")] if window else [])])
            return {"name": name, "metric": f"{source}.{metric}", criterion: _value(match["value"], criterion), **gate}
    raise Refusal(
        "a sentence of a known form: " + ", ".join(f"'{form}'" for form in FORMS),
        value=sentence[:120],
        remedy="write it in one of these forms, or as a mapping with name, metric and one criterion",
    )


def _metric(words: str, source: Source) -> tuple[Source, str]:
    """``p95 latency`` as ``latency_p95``; a source may stand before it: ``canary error rate``."""
    terms = re.split(r"[\s._-]+", words.strip())
    named = _source(terms[0]) if len(terms) > 1 else None
    if named:
        terms = terms[1:]
    quantile = next((_QUANTILES[term] for term in terms if term in _QUANTILES), None)
    if "latency" in terms and quantile and len(terms) == 2:
        return named or source, f"latency_{quantile}"
    metric = "_".join(terms)
    return named or source, _OTHER_WORDS.get(metric, metric)


def _source(word: str | None) -> Source | None:
    return next((known for known in METRICS if known == word), None)


def _value(text: str, criterion: str) -> str | float:
    if text in ("zero", "no"):
        return 0
    if criterion in ("within", "improves"):
        # A sentence says what it is of; only "improves by at least 1%" leaves that open.
        number, is_share, of = re.fullmatch(rf"({_NUMBER})\s*(?:(%)|points?)(.*)", text).groups()  # type: ignore[union-attr]
        said = " of the baseline" if criterion == "within" or of else ""
        return f"{number}%{said}" if is_share else f"{number} points"
    number, unit = re.fullmatch(rf"({_NUMBER})\s*(\D*)", text).groups()  # type: ignore[union-attr]  # it matched before
    if unit:
        return number + ("%" if unit == "%" else _short(unit))
    return float(number)


def _short(unit: str) -> str:
    """``minutes`` as ``m``, ``milliseconds`` as ``ms``."""
    return "ms" if unit.startswith(("ms", "milli")) else unit[0]
