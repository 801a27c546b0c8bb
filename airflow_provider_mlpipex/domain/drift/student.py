"""Student's t distribution, to the accuracy that thresholds need, without scipy."""

from __future__ import annotations

import math
from functools import lru_cache

from airflow_provider_mlpipex.domain.drift import quantiles


def upper_tail(statistic: float, degrees: int) -> float:
    """``P(T > statistic)`` by the finite series for whole degrees of freedom (Abramowitz and Stegun 26.7.3).

    :raises ValueError: fewer than one degree of freedom.
    """
    if degrees < 1:
        raise ValueError(f"Student's t needs degrees >= 1, got {degrees}")
    if statistic < 0:
        return 1.0 - upper_tail(-statistic, degrees)
    angle = math.atan2(statistic, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (cosine, 0.0) if degrees % 2 else (1.0, 0.0)
    for k in range(1 if degrees % 2 else 0, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    inside = 2 / math.pi * (angle + sine * total) if degrees % 2 else sine * total
    return max(0.0, (1.0 - inside) / 2)


@lru_cache(maxsize=1024)
def exceeded_with(probability: float, degrees: int) -> float:
    """The statistic that is exceeded with ``probability``.

    :raises ValueError: a probability that is not above 0 and below a half.
    """
    if not 0.0 < probability < 0.5:
        raise ValueError(f"probability must be above 0 and below 0.5, got {probability}")
    return quantiles.exceeded_with(probability, lambda statistic: upper_tail(statistic, degrees), above=1.0)
