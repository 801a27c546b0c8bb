"""Whether two answers, as JSON has them, are the same."""

from __future__ import annotations

import math
from typing import Any

#: Between two runtimes, or one row and a table, the last digits may differ: sums are taken in another order.
TOLERANCE = 1e-9


def same(one: Any, other: Any, *, tolerance: float = TOLERANCE, scale: float = 1.0) -> bool:
    """:param tolerance: share of the greater of both numbers, and of ``scale``, by which they may differ."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            same(a, b, tolerance=tolerance, scale=scale) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k], tolerance=tolerance, scale=scale) for k in one)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other or abs(one - other) <= tolerance * max(scale, abs(one), abs(other))
    return bool(one == other)
