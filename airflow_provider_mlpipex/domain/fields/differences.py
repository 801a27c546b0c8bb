"""Differences as people write them: ``0.5% of the baseline`` and ``0.5 points``, which a bare ``0.5%`` may mean both.

Half a percent of an accuracy of 80 % is 0.4 points; half a percent of an error rate of 0 is nothing. So each has a form
of its own, and a bare percentage keeps the meaning that it has always had: of a difference to a baseline the fraction
of that, of what a gate detects points.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from airflow_provider_mlpipex.domain.errors import InvalidQuantity
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio, parse_ratio
from airflow_provider_mlpipex.domain.fields.refusal import Refusal

#: ``bare``: without a word of what it is of. ``spelled-out``: with words that say what the bare one means as well.
Form = Literal["bare", "spelled-out", "points"]
_POINTS = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*points?(?:\s+of\s+the\s+baseline)?")
_OF_BASELINE = re.compile(r"(.+%)\s+of\s+the\s+baseline")
DIFFERENCE_PATTERN = r"^\s*[+-]?\d+(\.\d+)?\s*(%(\s+of\s+the\s+baseline)?|points?)\s*$"


class Difference(float):
    """A fraction, and how it was written. Two that were written otherwise are equal where they mean the same."""

    form: Form

    def __new__(cls, value: float, form: Form = "bare") -> Difference:
        difference = super().__new__(cls, value)
        difference.form = form
        return difference

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (int, float)):
            return False
        return float(self) == float(other) and self.in_points == (isinstance(other, Difference) and other.in_points)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((float(self), self.in_points))

    def __getnewargs__(self) -> tuple[float, Form]:  # type: ignore[override]  # as ``__new__`` takes them
        return float(self), self.form

    @property
    def in_points(self) -> bool:
        return self.form == "points"


def parse_difference(text: Any) -> Difference:
    """Read ``0.5%``, ``0.5% of the baseline``, ``0.5 points`` or ``0.005``.

    :raises InvalidQuantity: on anything else.
    """
    if isinstance(text, Difference):
        return text
    words = " ".join(text.lower().split()) if isinstance(text, str) else ""
    if points := _POINTS.fullmatch(words):
        return Difference(float(Decimal(points[1]).scaleb(-2)), "points")
    if of_baseline := _OF_BASELINE.fullmatch(words):
        return Difference(parse_ratio(of_baseline[1]), "spelled-out")
    return Difference(parse_ratio(text))


def read_excess(raw: Any) -> Difference:
    """What a gate on a share detects beyond its threshold: ``0.5 points``, or a bare ``0.5%`` that means the same.

    :raises Refusal: on anything else.
    """
    try:
        excess = parse_difference(raw)
    except InvalidQuantity as error:
        raise Refusal.of(error) from None
    if excess.form == "spelled-out" and not isinstance(raw, Difference):
        raise Refusal(
            "points beyond the threshold, which is known beforehand",
            value=f"{format_ratio(excess)} of the baseline",
            remedy="write for example 0.5 points",
        )
    return Difference(excess, "spelled-out") if excess.in_points else excess


def format_points(fraction: float) -> str:
    """``0.005`` as ``0.5 points``, exactly."""
    shown = format_ratio(fraction)[:-1]
    return f"{shown} {'point' if shown == '1' else 'points'}"


def _read(raw: Any) -> Difference | None:
    if raw is None:
        return None
    try:
        return parse_difference(raw)
    except InvalidQuantity as error:
        raise Refusal.of(error) from None


def _write(difference: float | None) -> str | None:
    if difference is None:
        return None
    in_points = isinstance(difference, Difference) and difference.in_points
    return format_points(difference) if in_points else format_ratio(difference)


_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {
            "type": "string",
            "pattern": DIFFERENCE_PATTERN,
            "examples": ["0.5% of the baseline", "0.5 points", "0.5%"],
        },
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "null"},
    ]
}
#: Pydantic field type of a difference to a baseline. What means the same is written the same, as it has always been.
ToBaseline = Annotated[
    Difference | None, PlainValidator(_read), PlainSerializer(_write, return_type=str | None), WithJsonSchema(_SCHEMA)
]
