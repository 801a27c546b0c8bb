"""Durations, ratios and latencies as people write them: ``30m``, ``120ms``, ``0.5%``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from airflow_provider_mlpipex.domain.errors import InvalidQuantity

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION_TERM = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_PERCENT = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*%")


def parse_duration(text: str | timedelta) -> timedelta:
    """Read ``30m``, ``1h30m``, ``120ms`` or ``2 d``.

    :raises InvalidQuantity: on a bare number (30 of what?), an unknown unit or a negative value.
    """
    if isinstance(text, timedelta):
        return text
    compact = str(text).strip().lower()
    terms = _DURATION_TERM.findall(compact)
    if not terms or _DURATION_TERM.sub("", compact).strip():
        raise InvalidQuantity(
            "duration", value=text, limit="number with a unit: ms, s, m, h, d or w", remedy="write 30m or 120ms"
        )
    return timedelta(seconds=sum(float(amount) * _SECONDS[unit] for amount, unit in terms))


def format_duration(duration: timedelta) -> str:
    """The shortest exact reading of ``duration``: ``30m``, ``1h30m``, ``120ms``."""
    milliseconds = round(duration.total_seconds() * 1000)
    if milliseconds == 0:
        return "0s"
    words = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        amount, milliseconds = divmod(milliseconds, size)
        if amount:
            words.append(f"{amount}{unit}")
    return "".join(words)


def parse_ratio(text: str | float | int) -> float:
    """Read ``5%`` or ``0.05`` as 0.05.

    :raises InvalidQuantity: on anything else. A bare number above 1 is refused: ``5`` may mean 5 or 500 %.
    """
    if isinstance(text, str):
        match = _PERCENT.fullmatch(text.strip())
        if match:
            return float(match.group(1)) / 100.0
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(text, bool) or not -1.0 <= number <= 1.0:
        raise InvalidQuantity("ratio", value=text, limit="a percentage, or a number from 0 to 1", remedy="write 0.5%")
    return number


def format_ratio(ratio: float) -> str:
    """``0.005`` as ``0.5%``."""
    return f"{ratio * 100:.6g}%"


def _duration_field(raw: Any) -> timedelta:
    try:
        return parse_duration(raw)
    except InvalidQuantity as error:
        raise ValueError(str(error)) from None


def _ratio_field(raw: Any) -> float:
    try:
        return parse_ratio(raw)
    except InvalidQuantity as error:
        raise ValueError(str(error)) from None


#: Pydantic field types; both serialise back to what people write, so a manifest survives a round trip.
Duration = Annotated[timedelta, BeforeValidator(_duration_field), PlainSerializer(format_duration, return_type=str)]
Ratio = Annotated[float, BeforeValidator(_ratio_field), PlainSerializer(format_ratio, return_type=str)]
