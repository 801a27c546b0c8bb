"""The binomial distribution: how likely so few, or so many, bad ones are."""

from __future__ import annotations

import math
from statistics import NormalDist

#: Expected bad ones from which the normal approximation is taken.
_MANY = 200.0


def at_most(bad: int, trials: int, share: float) -> float:
    """Chance that at most ``bad`` of ``trials`` are bad, when each is with probability ``share`` (0 < share < 1).

    Exact: the terms are added downwards from ``bad``, so it is for tails, where ``bad`` is fewer than expected and the
    terms fall.
    """
    if bad >= trials:
        return 1.0
    kept, odds = 1.0 - share, (1.0 - share) / share
    chosen = math.lgamma(trials + 1) - math.lgamma(bad + 1) - math.lgamma(trials - bad + 1)
    term = math.exp(chosen + bad * math.log(share) + (trials - bad) * math.log(kept))
    total = 0.0
    for k in range(bad, -1, -1):
        total += term
        if term < 1e-17 * total:
            break
        term *= k / (trials - k + 1) * odds
    return min(1.0, total)


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
