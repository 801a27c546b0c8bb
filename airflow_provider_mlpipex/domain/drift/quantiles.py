"""Quantiles of distributions of which only the upper tail is known."""

from __future__ import annotations

from collections.abc import Callable


def exceeded_with(probability: float, upper_tail: Callable[[float], float], *, above: float) -> float:
    """The statistic that is exceeded with ``probability``, by doubling and bisection.

    :param upper_tail: ``P(X > statistic)``, which falls to 0 and is greater than ``probability`` at 0.
    :param above: where the search begins; greater than 0.
    """
    low, high = 0.0, above
    while upper_tail(high) > probability:
        low, high = high, 2.0 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2.0
        if upper_tail(middle) > probability:
            low = middle
        else:
            high = middle
    return high
