"""Whether two answers, as JSON has them, are the same."""

from __future__ import annotations

import math
from typing import Any

#: Between two runtimes, or one row and a table, the last digits may differ: sums are taken in another order.
TOLERANCE = 1e-9


def same(left: Any, right: Any, *, tolerance: float = TOLERANCE, scale: float = 1.0) -> bool:
    """:param tolerance: share of the greater of both numbers, and of ``scale``, by which they may differ."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            same(a, b, tolerance=tolerance, scale=scale) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            same(left[k], right[k], tolerance=tolerance, scale=scale) for k in left
        )
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right or abs(left - right) <= tolerance * max(scale, abs(left), abs(right))
    return bool(left == right)
