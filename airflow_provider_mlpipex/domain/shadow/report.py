"""A paired comparison as a reviewer reads it: a small JSON for the ledger, the task's log and its XCom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_mlpipex.domain.shadow import slices
from airflow_provider_mlpipex.domain.shadow.comparison import (
    QUANTILES,
    TOLERANCE,
    Differences,
    Log,
    ShadowComparison,
)

#: Outputs that are told one by one: those that differ most.
MAX_OUTPUTS = 10


def report(comparison: ShadowComparison) -> dict[str, Any]:
    """A few kilobytes at most, whatever was served: numbers of four digits, ten slices, ten outputs.

    ``slices`` are those that are worse than the whole after so many have been looked at (:mod:`slices`), the worst
    first; ``sliced`` says how many those were, and how many pairs lie in values that are too rare to say anything of.
    """
    facts: dict[str, Any] = {
        "pairs": comparison.pairs,
        "missing": comparison.missing,
        "failed_shadow": comparison.failed_shadow,
        "failed_current": comparison.failed_current,
        "failed_both": comparison.failed_both,
        "flips": comparison.flips,
        "flip_rate": comparison.flip_rate,
        **({} if comparison.inputs in (None, comparison.pairs) else {"distinct_inputs": comparison.inputs}),
        "flip_margin": TOLERANCE,
        "difference": _differences(comparison.difference),
        "latency_ms": _differences(comparison.latency),
        "logs": {"current": _log(comparison.current_log), "shadow": _log(comparison.shadow_log)},
        "dropped_share": comparison.dropped_share,
        "slices": [worse.to_facts() for worse in worst_slices(comparison)],
        "sliced": [
            {"column": each.column, "values": each.values, "looked_at": len(each.slices), "other_pairs": each.others}
            for each in comparison.slices
        ],
    }
    if comparison.scores is not None:
        facts["distributions"] = {name: getattr(comparison.scores, name) for name in ("psi", "ks", "js")}
    if comparison.outputs:
        most = sorted(comparison.outputs, key=lambda each: each.mean_absolute, reverse=True)[:MAX_OUTPUTS]
        facts["outputs"] = {each.output[: slices.MAX_VALUE_LENGTH]: each.mean_absolute for each in most}
    rounded: dict[str, Any] = _rounded(facts)
    return rounded


def worst_slices(comparison: ShadowComparison) -> tuple[slices.WorseSlice, ...]:
    """The slices that are worse than all pairs together."""
    mean = comparison.difference.as_mean(bound=comparison.bound)
    return slices.worst(comparison.slices, flipped=comparison.flipped, mean=mean)


def tell_slice(worse: Mapping[str, Any]) -> str:
    """One of ``slices`` in a sentence: ``carrier = AA: flip rate 12% of 340 pairs, of all 3.1%``."""
    value = "(none)" if worse.get("value") is None else worse["value"]
    parts = []
    if "flip rate" in worse["because"]:
        parts.append(
            f"flip rate {100 * worse['flip_rate']:.3g}% of {worse['pairs']} pairs, of all "
            f"{100 * worse['overall_flip_rate']:.3g}%"
        )
    if "mean difference" in worse["because"]:
        parts.append(
            f"mean difference {worse['mean_difference']:.3g} over {worse['pairs']} pairs, of all "
            f"{worse['overall_mean_difference']:.3g}"
        )
    return f"{worse['column']} = {value}: {'; '.join(parts)}"


def _differences(differences: Differences) -> dict[str, Any]:
    if not differences.count:
        return {"count": 0}
    quantiles = {f"p{round(100 * q):02d}": value for q, value in zip(QUANTILES, differences.quantiles, strict=True)}
    return {
        "count": differences.count,
        "mean": differences.mean,
        "deviation": differences.deviation,
        "mean_absolute": differences.mean_absolute,
        **quantiles,
    }


def _log(log: Log) -> dict[str, int]:
    """What is not as it should be."""
    return {name: count for name, count in log.to_json().items() if count or name == "answers"}


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case list() | tuple():
            return [_rounded(each) for each in value]
    return value
