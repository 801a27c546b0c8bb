"""Durations, ratios, rates, latencies and moments as people write them: ``30m``, ``0.5%``, ``30/s``, ``2026-03-01``.

Reading what was written gives back the very same number, so a manifest survives a round trip with its digest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from airflow_provider_mlpipex.domain.errors import InvalidQuantity
from airflow_provider_mlpipex.domain.fields.refusal import Refusal

_MICROSECONDS = {"ms": 1_000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86_400 * 10**6, "w": 604_800 * 10**6}
_DURATION_TERM = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d|w)")
_PERCENT = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*%")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|min|m|h)")
_PER_SECOND = {"s": 1, "min": 60, "m": 60, "h": 3600}
#: Longer than this is a slip of the pen; it also keeps every sum of durations within ``timedelta``.
MAX_DURATION = timedelta(days=3650)

DURATION_PATTERN = r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d|w)(\s*\d+(\.\d+)?\s*(ms|s|m|h|d|w))*\s*$"
RATIO_PATTERN = r"^\s*[+-]?\d+(\.\d+)?\s*%\s*$"
RATE_PATTERN = r"^\s*\d+(\.\d+)?\s*/\s*(s|min|m|h)\s*$"


def parse_duration(text: str | timedelta) -> timedelta:
    """Read ``30m``, ``1h30m``, ``120ms`` or ``2 d``, to the microsecond.

    :raises InvalidQuantity: on a bare number (30 of what?), an unknown unit, a negative value or more than ten years.
    """
    if isinstance(text, timedelta):
        return text
    compact = str(text).strip().lower()
    terms = _DURATION_TERM.findall(compact)
    if not terms or _DURATION_TERM.sub("", compact).strip():
        raise InvalidQuantity(
            "duration", value=text, limit="number with a unit: ms, s, m, h, d or w", remedy="write 30m or 120ms"
        )
    microseconds = sum((Decimal(amount) * _MICROSECONDS[unit] for amount, unit in terms), Decimal(0))
    if microseconds > MAX_DURATION / timedelta(microseconds=1):
        raise InvalidQuantity(
            "duration", value=text, limit=f"at most {format_duration(MAX_DURATION)}", remedy="write a shorter one"
        )
    return timedelta(microseconds=int(microseconds.to_integral_value()))


def format_duration(duration: timedelta) -> str:
    """The shortest exact reading of ``duration``: ``30m``, ``1h30m``, ``120ms``."""
    microseconds = duration // timedelta(microseconds=1)
    if microseconds == 0:
        return "0s"
    words = []
    for unit in ("d", "h", "m", "s"):
        amount, microseconds = divmod(microseconds, _MICROSECONDS[unit])
        if amount:
            words.append(f"{amount}{unit}")
    if microseconds:
        words.append(f"{_plain(Decimal(microseconds) / 1000)}ms")
    return "".join(words)


def parse_ratio(text: str | float | int) -> float:
    """Read ``5%`` or ``0.05`` as 0.05.

    :raises InvalidQuantity: on anything else. A bare number above 1 is refused: ``5`` may mean 5 or 500 %.
    """
    if isinstance(text, str):
        match = _PERCENT.fullmatch(text.strip())
        if match:
            return float(Decimal(match.group(1)).scaleb(-2))
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(text, bool) or not -1.0 <= number <= 1.0:
        meant = f"{_plain(Decimal(repr(number)))}%" if 1.0 < number <= 100.0 and not isinstance(text, bool) else "0.5%"
        raise InvalidQuantity(
            "ratio", value=text, limit="a percentage, or a number from 0 to 1", remedy=f"write {meant}"
        )
    return number


def format_ratio(ratio: float) -> str:
    """``0.005`` as ``0.5%``, exactly."""
    return f"{_plain(Decimal(repr(float(ratio))).scaleb(2))}%"


def parse_rate(text: str | float | int) -> float:
    """Read ``30/s``, ``1800/min`` or ``5/h`` as events a second; a number is events a second already.

    :raises InvalidQuantity: on anything else, and on a rate of nothing.
    """
    match = _RATE.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    number = float(match.group(1)) / _PER_SECOND[match.group(2)] if match else text
    if isinstance(number, (str, bool)) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
        raise InvalidQuantity(
            "rate", value=text, limit="a positive number a second, minute or hour", remedy="write 30/s"
        )
    return float(number)


def format_rate(rate: float) -> str:
    """``30.0`` as ``30/s``, exactly."""
    return f"{_plain(Decimal(repr(float(rate))))}/s"


def parse_moment(text: str, *, what: str) -> datetime:
    """Read ISO 8601: ``2026-03-01`` or ``2026-03-01T14:03:00+00:00``; UTC where it names no zone.

    :param what: the parameter or option that it was written for.
    :raises InvalidQuantity: on anything else.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidQuantity(
            what, value=text, limit="ISO 8601", remedy="write 2026-03-01 or 2026-03-01T14:03:00+00:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _plain(number: Decimal) -> str:
    """Every digit and no exponent."""
    text = format(number, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def _field(parse: Callable[[Any], Any]) -> BeforeValidator:
    def read(raw: Any) -> Any:
        try:
            return parse(raw)
        except InvalidQuantity as error:
            raise Refusal.of(error) from None

    return BeforeValidator(read)


_DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": DURATION_PATTERN,
    "examples": ["30m", "1h30m", "120ms"],
}
_RATIO_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": RATIO_PATTERN, "examples": ["0.5%"]},
        {"type": "number", "minimum": -1, "maximum": 1},
    ]
}
_RATE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": RATE_PATTERN, "examples": ["30/s", "1800/min"]},
        {"type": "number", "exclusiveMinimum": 0},
    ]
}

#: Pydantic field types; they serialise back to what people write.
Duration = Annotated[
    timedelta,
    _field(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]
Ratio = Annotated[
    float, _field(parse_ratio), PlainSerializer(format_ratio, return_type=str), WithJsonSchema(_RATIO_SCHEMA)
]
Rate = Annotated[float, _field(parse_rate), PlainSerializer(format_rate, return_type=str), WithJsonSchema(_RATE_SCHEMA)]
