"""How far two sets of counts lie apart, and how far they would lie apart by chance alone.

Everything works along the last axis, so one call compares a reference with thousands of batches. Shares need both
sides to have rows; a side without rows gives NaN, which is for the caller to call ``inconclusive``.

What chance does, for ``n`` and ``m`` rows from one distribution over ``B`` bins, with ``u = 1/n + 1/m``:

- PSI is about ``u`` times a chi-square variable with ``B - 1`` degrees of freedom (Yurdakul & Naranjo 2020), so its
  mean is ``(B - 1) u``: 0.4 for 20 bins and 50 rows, twice what many call drift. Jensen-Shannon divergence in nats is
  an eighth of it, and Pearson's ``w^2`` is the same again. With fewer than five rows a bin the logarithms stray
  farther, by a factor of about ``1 + B u / 2``.
- KS times ``u^-1/2`` follows Kolmogorov's distribution: mean 0.8687, bound ``sqrt(log(2 / alpha) / 2)``.
- Wasserstein is the integral of ``|F - G|``; at each point a centred normal variable with variance
  ``F (1 - F) u``. Its mean is exact; for the bound all points are taken to move together, which is the worst case
  but for heavy tails: there the farthest few rows decide, and chance exceeds the bound a few times as often as told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_provider_mlpipex.domain.drift import chi_square
from airflow_provider_mlpipex.domain.drift.report import Measure
from airflow_provider_mlpipex.domain.drift.sketches import Floats

#: Mean of Kolmogorov's distribution: sqrt(pi / 2) * log(2).
_KOLMOGOROV_MEAN = math.sqrt(math.pi / 2) * math.log(2)
#: PSI over Jensen-Shannon divergence in bits, for shares that lie close together.
_PSI_OF_JENSEN_SHANNON = 8 * math.log(2)
#: Cells that a chi-square test expects fewer rows in are put together.
MIN_EXPECTED = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Counts of one column on both sides; the reference's are one row, the others ``[..., bins]``.

    :param groups: rows in each coarse group, unusable rows in the last.
    :param fine: rows in each fine bin.
    :param positions: upper end of each fine bin but the last, in standard deviations; ``None`` for categories, which
        have no order, and for a reference without spread.
    :param ordered: fine bins have an order.
    :param beyond: summed distance of values outside the reference's range, in standard deviations.
    """

    reference_groups: Floats
    groups: Floats
    reference_fine: Floats
    fine: Floats
    ordered: bool
    positions: Floats | None = None
    beyond: Floats | float = 0.0

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What can be measured on this column."""
        by_order: tuple[Measure, ...] = ("ks",) if self.ordered else ()
        by_distance: tuple[Measure, ...] = ("wasserstein",) if self.positions is not None else ()
        return ("psi", "jensen_shannon", "chi_square", *by_order, *by_distance)

    @property
    def cells(self) -> tuple[Floats, Floats]:
        """What a chi-square test counts: groups, or every listed category and the unusable rows."""
        if self.ordered:
            return self.reference_groups, self.groups
        unusable = self.reference_groups[-1:], self.groups[..., -1:]
        return np.append(self.reference_fine, unusable[0]), np.append(self.fine, unusable[1], axis=-1)

    def without(self, part: Comparison) -> Comparison:
        """The same window less the rows of ``part``, one or many at once."""
        return replace(
            self, groups=self.groups - part.groups, fine=self.fine - part.fine, beyond=self.beyond - part.beyond
        )


def distance(measure: Measure, compared: Comparison) -> Floats:
    """The measure, ``[...]``; NaN where a side has no rows to compare."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(_DISTANCES[measure](compared), dtype=np.float64)


def by_chance(measure: Measure, compared: Comparison) -> Floats:
    """What :func:`distance` is on average where nothing has drifted, ``[...]``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(_EXPECTED[measure](compared), dtype=np.float64)


def excess(measure: Measure, compared: Comparison) -> Floats:
    """What is left of the distance once chance is taken off, ``[...]``; never negative."""
    observed, expected = distance(measure, compared), by_chance(measure, compared)
    with np.errstate(invalid="ignore"):  # without rows there is no distance, and chance could do anything
        if measure in _ROOTS:
            return np.sqrt(np.maximum(0.0, observed**2 - expected**2))
        return np.maximum(0.0, observed - expected)


def without_chance(measure: Measure, observed: float, expected: float) -> float:
    """What is left of ``observed`` once the ``expected`` work of chance is taken off: :func:`excess` of one value."""
    if measure in _ROOTS:
        return math.sqrt(max(0.0, observed**2 - expected**2))
    return max(0.0, observed - expected)


def with_chance(measure: Measure, limit: float, expected: float) -> float:
    """The value whose :func:`excess` is ``limit`` where chance adds ``expected``."""
    return math.hypot(limit, expected) if measure in _ROOTS else limit + expected


def chance_bound(measure: Measure, compared: Comparison, *, alpha: float) -> float:
    """What chance exceeds with a probability of about ``alpha`` or less. For one comparison, not for many at once."""
    if measure in ("ks", "wasserstein"):
        u = float(_u(compared.reference_fine, compared.fine))
        if measure == "ks":
            return math.sqrt(math.log(2 / alpha) / 2 * u)
        return float(by_chance(measure, compared)) * NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(math.pi / 2)
    cells = compared.cells if measure == "chi_square" else (compared.reference_groups, compared.groups)
    degrees = int(_filled(*cells)) - 1
    if degrees < 1:
        return 0.0
    statistic = chi_square.exceeded_with(alpha, degrees)
    if measure == "chi_square":
        return math.sqrt(statistic * float(_u(*cells)))
    psi = statistic * float(_sparse_u(compared))
    return psi if measure == "psi" else math.sqrt(psi / _PSI_OF_JENSEN_SHANNON)


def population_stability(reference: Floats, counts: Floats) -> Floats:
    """PSI. A bin without rows on one side counts as half a row there, or one empty bin would make it infinite."""
    either = reference + counts > 0
    p = np.maximum(reference, 0.5) / reference.sum()
    q = np.maximum(counts, 0.5) / counts.sum(axis=-1, keepdims=True)
    return _summed(np.where(either, (q - p) * np.log(q / p), 0.0))


def jensen_shannon(reference: Floats, counts: Floats) -> Floats:
    """Jensen-Shannon distance, base 2: 0 for equal shares, 1 for shares that have nothing in common."""
    p, q = _shares(reference, counts)
    middle = (p + q) / 2
    divergence = _summed(_relative(p, middle) + _relative(q, middle)) / 2 / math.log(2)
    return np.sqrt(np.clip(divergence, 0.0, 1.0))


def kolmogorov_smirnov(reference: Floats, counts: Floats) -> Floats:
    """Largest distance between the two cumulative shares."""
    p, q = _shares(reference, counts)
    return np.asarray(np.abs(np.cumsum(q - p, axis=-1)).max(axis=-1))


def effect_size(reference: Floats, counts: Floats) -> Floats:
    """Cohen's w of a two-sample chi-square test: the statistic without the number of rows."""
    p, q = _shares(reference, counts)
    pooled = (reference + counts) / (reference.sum() + counts.sum(axis=-1, keepdims=True))
    return np.sqrt(_summed(np.where(pooled > 0, (q - p) ** 2 / np.where(pooled > 0, pooled, 1.0), 0.0)))


def wasserstein(reference: Floats, counts: Floats, positions: Floats, beyond: Floats | float) -> Floats:
    """Area between the two cumulative shares, in the unit of ``positions``.

    Inside a bin both sides are taken as evenly spread; outside the reference's range the area is exact.
    """
    p, q = _shares(reference, counts)
    gaps = np.cumsum(q - p, axis=-1)[..., :-1]
    left, right = gaps[..., :-1], gaps[..., 1:]
    same_side = left * right >= 0
    area = np.abs(left + right) / 2
    crossing = np.divide(left**2 + right**2, 2 * np.abs(left - right), where=~same_side, out=np.zeros_like(area))
    inside = _summed(np.where(same_side, area, crossing) * np.diff(positions))
    return np.asarray(inside + beyond / counts.sum(axis=-1))


@dataclass(frozen=True)
class ChiSquareTest:
    """:param p_value: probability of a statistic at least this large if both sides were one population."""

    statistic: float
    degrees: int
    p_value: float


def chi_square_test(reference: Floats, counts: Floats) -> ChiSquareTest:
    """Are two rows of counts one population? Cells in which fewer than 5 rows are expected are put together.

    ``degrees`` is 0 and ``p_value`` 1 where no two cells are left: then the test knows nothing.
    """
    m, n = float(reference.sum()), float(counts.sum())
    if not m or not n:
        return ChiSquareTest(0.0, 0, 1.0)
    observed = np.stack([reference, counts]).astype(np.float64)
    expected_less = observed.sum(axis=0) * min(m, n) / (m + n)
    order = np.argsort(-expected_less, kind="stable")
    observed, expected_less = observed[:, order], expected_less[order]
    enough = int((expected_less >= MIN_EXPECTED).sum())
    # The smallest cells together; if that is still too little, the smallest of the others joins them.
    while enough and 0 < expected_less[enough:].sum() < MIN_EXPECTED:
        enough -= 1
    table = np.column_stack([observed[:, :enough], observed[:, enough:].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    degrees = table.shape[1] - 1
    if degrees < 1:
        return ChiSquareTest(0.0, 0, 1.0)
    expected = np.outer([m, n], table.sum(axis=0)) / (m + n)
    statistic = float(((table - expected) ** 2 / expected).sum())
    return ChiSquareTest(statistic, degrees, chi_square.survival(statistic, degrees))


def _summed(terms: NDArray[Any]) -> Floats:
    return np.asarray(terms.sum(axis=-1))


def _shares(reference: Floats, counts: Floats) -> tuple[Floats, Floats]:
    return reference / reference.sum(), counts / counts.sum(axis=-1, keepdims=True)


def _relative(p: Floats, middle: Floats) -> Floats:
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.where(middle > 0, middle, 1.0)), 0.0)


def _filled(reference: Floats, counts: Floats) -> NDArray[np.int64]:
    return np.asarray((reference + counts > 0).sum(axis=-1))


def _u(reference: Floats, counts: Floats) -> Floats:
    return 1.0 / np.asarray(reference.sum()) + 1.0 / np.asarray(counts.sum(axis=-1))


def _sparse_u(compared: Comparison) -> Floats:
    """``u`` with its second-order term: logarithms of few rows stray farther than the chi-square limit says."""
    u = _u(compared.reference_groups, compared.groups)
    return u * (1 + _filled(compared.reference_groups, compared.groups) * u / 2)


def _expected_psi(compared: Comparison) -> Floats:
    return (_filled(compared.reference_groups, compared.groups) - 1) * _sparse_u(compared)


def _expected_effect(compared: Comparison) -> Floats:
    return np.sqrt((_filled(*compared.cells) - 1) * _u(*compared.cells))


def _expected_ks(compared: Comparison) -> Floats:
    return _KOLMOGOROV_MEAN * np.sqrt(_u(compared.reference_fine, compared.fine))


def _distance_wasserstein(compared: Comparison) -> Floats:
    assert compared.positions is not None  # not among the measures otherwise
    return wasserstein(compared.reference_fine, compared.fine, compared.positions, compared.beyond)


def _expected_wasserstein(compared: Comparison) -> Floats:
    assert compared.positions is not None  # not among the measures otherwise
    cumulative = np.cumsum(compared.reference_fine)[:-1] / compared.reference_fine.sum()
    spread = np.sqrt(np.clip(cumulative * (1 - cumulative), 0.0, None))
    integral = float(((spread[:-1] + spread[1:]) / 2 * np.diff(compared.positions)).sum())
    return integral * math.sqrt(2 / math.pi) * np.sqrt(_u(compared.reference_fine, compared.fine))


#: Measures that are square roots: chance adds to their squares.
_ROOTS = ("jensen_shannon", "chi_square")
_DISTANCES: Mapping[Measure, Callable[[Comparison], Floats]] = {
    "psi": lambda compared: population_stability(compared.reference_groups, compared.groups),
    "ks": lambda compared: kolmogorov_smirnov(compared.reference_fine, compared.fine),
    "jensen_shannon": lambda compared: jensen_shannon(compared.reference_groups, compared.groups),
    "chi_square": lambda compared: effect_size(*compared.cells),
    "wasserstein": _distance_wasserstein,
}
_EXPECTED: Mapping[Measure, Callable[[Comparison], Floats]] = {
    "psi": _expected_psi,
    "ks": _expected_ks,
    "jensen_shannon": lambda compared: np.sqrt(_expected_psi(compared) / _PSI_OF_JENSEN_SHANNON),
    "chi_square": _expected_effect,
    "wasserstein": _expected_wasserstein,
}
