"""The chi-square distribution, to the accuracy that p-values need, without scipy.

The regularised incomplete gamma function by its series below ``a + 1`` and by Lentz's continued fraction above, as in
Numerical Recipes §6.2.
"""

from __future__ import annotations

import math
from functools import lru_cache

from airflow_provider_mlpipex.domain.drift import quantiles

_PRECISION = 1e-15
_TINY = 1e-300


def survival(statistic: float, degrees: int) -> float:
    """``P(X >= statistic)`` for a chi-square variable: the p-value of a test.

    :raises ValueError: fewer than one degree of freedom, a negative statistic or NaN.
    """
    if degrees < 1 or not statistic >= 0:
        raise ValueError(f"chi-square needs degrees >= 1 and a statistic >= 0, got {degrees} and {statistic}")
    if statistic == 0:
        return 1.0
    if math.isinf(statistic):
        return 0.0
    a, x = degrees / 2.0, statistic / 2.0
    factor = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1.0 - factor * _series(a, x) if x < a + 1.0 else factor * _fraction(a, x)


@lru_cache(maxsize=1024)
def exceeded_with(probability: float, degrees: int) -> float:
    """The statistic that is exceeded with ``probability`` under the null hypothesis.

    :raises ValueError: a probability that is not strictly between 0 and 1.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must lie strictly between 0 and 1, got {probability}")
    return quantiles.exceeded_with(probability, lambda statistic: survival(statistic, degrees), above=float(degrees))


def _series(a: float, x: float) -> float:
    term = total = 1.0 / a
    n = a
    while term > total * _PRECISION:
        n += 1.0
        term *= x / n
        total += term
    return total


def _fraction(a: float, x: float) -> float:
    b = x + 1.0 - a
    c = 1.0 / _TINY
    d = 1.0 / b
    value = d
    # Converges within some multiples of sqrt(a); the bound only keeps a defect from looping for ever.
    for i in range(1, 1000 + 100 * math.isqrt(int(a))):
        numerator = -i * (i - a)
        b += 2.0
        d = numerator * d + b
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = b + numerator / c
        c = c if abs(c) > _TINY else _TINY
        change = d * c
        value *= change
        if abs(change - 1.0) < _PRECISION:
            return value
    raise ArithmeticError(f"incomplete gamma did not converge at a={a}, x={x}")
