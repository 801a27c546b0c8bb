"""How many trials a confidence sequence of a proportion takes to see what, before the first of them is made.

Found by following the expected counts: the martingale grows by the relative entropy a trial, less the mixture's price.
Accurate to about a tenth, which is what a plan needs to say "30 minutes cannot decide".
"""

from __future__ import annotations

import math
from collections.abc import Callable

from airflow_provider_mlpipex.domain.statistics.confidence import log_evidence_against

_BISECTIONS = 32


def trials_to_detect(p0: float, p1: float, *, alpha: float) -> int:
    """Expected trials until ``p0`` is excluded when the truth is ``p1``."""
    for name, p in (("p0", p0), ("p1", p1)):
        if not 0.0 < p < 1.0:
            raise ValueError(f"{name} must lie strictly between 0 and 1, got {p}")
    if p0 == p1:
        raise ValueError("equal probabilities can never be told apart")
    return _first(lambda trials: _is_detected(p0, p1, trials, alpha))


def deviation_of_detection(p0: float, p1: float, trials: int) -> float:
    """Standard deviation of the number of trials until detection about its expectation ``trials``: each adds to the
    evidence by chance, and chance adds up until the limit is crossed."""
    if p1 >= 1.0:
        return 0.0
    gains = math.log(p1 / p0), math.log1p(-p1) - math.log1p(-p0)
    drift = p1 * gains[0] + (1.0 - p1) * gains[1]
    return math.sqrt(trials * p1 * (1.0 - p1)) * abs(gains[0] - gains[1]) / drift


def smallest_excess(allowed: float, trials: int, *, alpha: float) -> float | None:
    """The least that a probability must exceed ``allowed`` by for ``trials`` to be enough to see it; ``None`` where
    even certainty would not be seen."""
    if allowed <= 0.0:
        return 1.0 / trials  # a single event excludes a probability of nothing
    if allowed >= 1.0 or not _is_detected(allowed, 1.0, trials, alpha):
        return None
    undetected, detected = allowed, 1.0
    for _ in range(_BISECTIONS):
        middle = (undetected + detected) / 2.0
        undetected, detected = (
            (undetected, middle) if _is_detected(allowed, middle, trials, alpha) else (middle, detected)
        )
    return detected - allowed


def _is_detected(p0: float, p1: float, trials: int, alpha: float) -> bool:
    return log_evidence_against(p0, p1 * trials, trials) > math.log(1.0 / alpha)


def _first(holds: Callable[[int], bool]) -> int:
    """The least number for which ``holds``, which must stay true for larger ones."""
    low, high = 0, 1
    while not holds(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
