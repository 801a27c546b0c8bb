"""How many rows an offline gate needs, said before anything is evaluated.

What decides it is not known beforehand: on how many rows the two models differ, how good the current one is, how rare a
class. So the plan names the numbers that it takes for them; a verdict names those that were measured
(``GateResult.rows_that_decide``). *Enough* is: a candidate as good as the baseline passes four times of five, or, of a
gate with a limit of its own, one that keeps it with :data:`_SPARE` to spare.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import SURE
from airflow_provider_mlpipex.domain.statistics.same_rows import MIN_ROWS
from airflow_provider_mlpipex.domain.values import Value

#: How often a candidate that deserves it passes.
_PASSES = 0.8
_DEVIATIONS = NormalDist().inv_cdf(SURE) + NormalDist().inv_cdf(_PASSES)
#: What is taken for the baseline's share, and of the rows for those that the two models differ on.
_BASE, _DIFFERING = 0.8, 0.05
#: Share of the rarer class, and how much alike the two rank.
_RARE, _ALIKE = 0.1, 0.9
#: Standard deviation of the difference of two losses of a row, as a part of the mean loss.
_SPREAD = 0.3
_SPARE = 0.02


class NeededRows(Value):
    """:param rows: that are enough. :param says: of whom, in a sentence."""

    rows: int
    says: str


def needed_rows(gate: Gate) -> NeededRows | None:
    """``None`` where no number of rows is what decides: another source, or a number whose spread nobody knows."""
    if gate.source != "evaluation":
        return None
    metric = gate.metric.partition(".")[2]
    needed = _beside(gate, metric) if gate.relative else _alone(gate, metric)
    if needed is None or math.isinf(needed[0]):
        return None
    rows, taken = max(MIN_ROWS, gate.min_samples, math.ceil(needed[0])), needed[1]
    digits = max(0, len(str(rows)) - 2)
    rows = math.ceil(rows / 10**digits) * 10**digits
    better = "better by twice as much" if gate.criterion == "improves" else "as good as the baseline"
    who = better if gate.relative else f"{gate.apart(_SPARE)} better than its limit"
    sentence = f"about {rows:,} rows for a model that is {who} to pass four times of five ({taken})"
    return NeededRows(rows=rows, says=sentence)


def _beside(gate: Gate, metric: str) -> tuple[float, str] | None:
    if not gate.bound:
        return None
    if metric == "auc":
        variance = 2.0 * (1.0 - _ALIKE) * _of_ranking(_BASE)
        taken = f"if one in {1 / _RARE:g} rows is of the rarer class and the baseline is {100 * _BASE:g}%"
        return variance * (_DEVIATIONS / gate.allowed_difference(_BASE)) ** 2, taken
    if gate.in_ratio and metric != "r2":
        taken = f"if the two differ on {100 * _DIFFERING:g}% of them and the baseline is {100 * _BASE:g}%"
        return _DIFFERING * (_DEVIATIONS / gate.allowed_difference(_BASE)) ** 2, taken
    if metric in ("r2", "bias"):
        return None
    taken = f"if the two differ by {100 * _SPREAD:g}% of the mean from row to row"
    return (_SPREAD * _DEVIATIONS / gate.bound) ** 2, taken


def _alone(gate: Gate, metric: str) -> tuple[float, str] | None:
    if not gate.in_ratio or metric == "r2":
        return None
    share = min(max(gate.bound + (_SPARE if gate.better == "higher" else -_SPARE), 0.01), 0.99)
    if metric == "auc":
        taken = f"if one in {1 / _RARE:g} rows is of the rarer class"
        return _of_ranking(share) * (_DEVIATIONS / _SPARE) ** 2, taken
    whose = "rows of the class that is looked for" if metric == "recall" else "rows"
    return share * (1.0 - share) * (_DEVIATIONS / _SPARE) ** 2, f"counted in {whose}"


def _of_ranking(area: float) -> float:
    """Variance of an area under the curve, times the rows (Hanley & McNeil 1982)."""
    first, second = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    return (second - area**2) / (1.0 - _RARE) + (first - area**2) / _RARE
