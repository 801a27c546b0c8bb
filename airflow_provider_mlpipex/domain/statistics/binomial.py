"""The binomial distribution, for plans."""

from __future__ import annotations

import math
from statistics import NormalDist

#: Expected bad ones from which the normal approximation is taken.
_MANY = 200.0


def more_than(bad: int, trials: int, share: float) -> float:
    """Chance that more than ``bad`` of ``trials`` are bad, when each is with probability ``share``."""
    expected = trials * share
    if expected > _MANY:
        return 1.0 - NormalDist(expected, math.sqrt(expected * (1.0 - share))).cdf(bad + 0.5)
    log = trials * math.log1p(-share)
    total = 0.0
    for k in range(bad + 1):
        total += math.exp(log)
        log += math.log((trials - k) / (k + 1)) + math.log(share) - math.log1p(-share) if k < trials else 0.0
    return max(0.0, 1.0 - total)
