"""What the percentages and points of gates come to, and bare percentages that could be read both ways."""

from __future__ import annotations

from typing import NamedTuple

from airflow_provider_mlpipex.domain.fields.differences import Difference, format_points
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.gates.gate import Gate

#: What is taken for the baseline, to show what each reading comes to: of what is better higher, and of what is lower.
_HIGH, _LOW = 0.8, 0.02


class Misreading(NamedTuple):
    """A bare percentage.

    :param field: ``within``, ``improves`` or ``detects``.
    :param read: the words that say how it is read, ``other`` those that say how it could be.
    :param threshold: that comes of it, ``other_threshold`` that would come of the other reading, ``beside`` what.
    """

    field: str
    value: str
    read: str
    threshold: str
    other: str
    other_threshold: str
    beside: str


def resolved(gate: Gate) -> str:
    """What a difference comes to, in a sentence; empty where a gate states none, or one that needs no baseline."""
    if not gate.relative or not gate.in_ratio:
        return ""
    base = _HIGH if gate.better == "higher" else _LOW
    threshold, side = gate.threshold(base), "at least" if gate.better == "higher" else "at most"
    assert threshold is not None  # there is a baseline
    apart = gate.apart(gate.allowed_difference(base))
    return f"beside a baseline of {gate.in_unit(base)} that is {side} {gate.in_unit(threshold)}, {apart} apart"


def find_misreading(gate: Gate) -> Misreading | None:
    """The bare percentage of ``gate``; ``None`` where it has none, or one that says only one thing."""
    if not gate.in_ratio:
        return None
    stated = gate.within if gate.within is not None else gate.improves
    if stated is not None and stated.form == "bare":
        base = _HIGH if gate.better == "higher" else _LOW
        of_base, in_points = (gate.in_unit(base + gate.towards(by)) for by in (stated * base, float(stated)))
        share = format_ratio(stated)
        return Misreading(
            field=gate.criterion,
            value=share,
            read=f"{share} of the baseline",
            threshold=of_base,
            other=format_points(stated),
            other_threshold=in_points,
            beside=f"a baseline of {gate.in_unit(base)}",
        )
    if isinstance(gate.detects, Difference) and gate.detects.form == "bare" and not gate.relative:
        worse = -1.0 if gate.better == "higher" else 1.0
        points, part = (gate.in_unit(gate.bound + worse * by) for by in (gate.detects, gate.detects * gate.bound))
        share = format_ratio(gate.detects)
        return Misreading(
            field="detects",
            value=share,
            read=format_points(gate.detects),
            threshold=points,
            other=f"{share} of the threshold",
            other_threshold=part,
            beside=f"a threshold of {gate.in_unit(gate.bound)}",
        )
    return None
