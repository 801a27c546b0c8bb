"""Requests that fail in clumps: how that is seen, and what may be said of their mean all the same.

Counting every request says how sure one is only if requests fail independently of one another. Where a minute is good
or bad as a whole, a hundred requests of it are one observation. So the *means of blocks* of time are bet on instead
(Waudby-Smith & Ramdas 2024, arXiv:2010.09686): a capital that is multiplied by ``1 + b (x - m)`` for each block's mean
``x`` grows beyond ``1 / alpha`` with probability at most ``alpha`` while the blocks' mean is at most ``m``, however
requests hang together inside a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Bets, as parts of the largest one that cannot lose everything; with equal weights.
_BETS = (0.99, *(0.5**step for step in range(1, 11)))
#: Standard deviations of the level at which dependence is called seen: 1 %.
_QUANTILE = 2.3263
_MIN_EVENTS, _MIN_BLOCKS = 5, 5


def are_clumped(blocks: Sequence[tuple[int, int]]) -> bool:
    """Whether (events, trials) of blocks differ by more than chance, at 1 %: the index of dispersion against its
    chi-squared distribution (Wilson and Hilferty's approximation)."""
    asked = [(events, trials) for events, trials in blocks if trials]
    events, trials = sum(e for e, _ in asked), sum(n for _, n in asked)
    if len(asked) < _MIN_BLOCKS or events < _MIN_EVENTS or events == trials:
        return False
    p, free = events / trials, len(asked) - 1
    dispersion = sum((e - n * p) ** 2 / (n * p * (1.0 - p)) for e, n in asked)
    part = 2.0 / (9.0 * free)
    return dispersion > free * (1.0 - part + _QUANTILE * math.sqrt(part)) ** 3


def mean_exceeds(values: Sequence[float], mean: float, *, alpha: float) -> bool:
    """Whether the mean of ``values`` in [0, 1] is shown to exceed ``mean``; wrongly at any look but for ``alpha``."""
    return log_capital(values, mean) > math.log(1.0 / alpha)


def log_capital(values: Sequence[float], mean: float) -> float:
    """Logarithm of what betting on more than ``mean`` has made of 1."""
    if not 0.0 < mean < 1.0:
        raise ValueError(f"mean must lie strictly between 0 and 1, got {mean}")
    logs = [math.fsum(math.log1p(bet / mean * (value - mean)) for value in values) for bet in _BETS]
    largest = max(logs)
    return largest + math.log(math.fsum(math.exp(log - largest) for log in logs) / len(_BETS))


def blocks_to_exceed(mean: float, *, alpha: float) -> int:
    """Blocks of nothing but bad requests until they are shown to exceed ``mean``: the price of counting no requests."""
    blocks = 1
    while not mean_exceeds([1.0] * blocks, mean, alpha=alpha):
        blocks += 1
    return blocks
