"""Faulty batches: each batch of a window tested against all others, whether or not the window drifts.

One faulty batch of fifty moves a window by a fiftieth of what it moves itself, which no limit on the window sees. So
each is compared with the rest of the window, from counts alone:

- *values*: a chi-square test of homogeneity over the groups of the column, sparse ones together;
- *beyond*: rows outside what training had, and *unusable* rows: the hypergeometric tail (Fisher's exact test), which
  is exact for the few rows that these are.

All tests of a look, over batches, columns and kinds, share one alpha by Benjamini and Hochberg (1995), so that where
no batch is faulty one is named with a probability of alpha at most. A batch must also differ by something that
matters: a window of a million rows proves differences that nobody needs to know of. And where batches differ from
each other as a rule (each is of another hour), one must stand out among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from airflow_provider_mlpipex.domain.drift import chi_square
from airflow_provider_mlpipex.domain.drift.categorical_bins import CategoricalBins
from airflow_provider_mlpipex.domain.drift.divergence import chi_square_test
from airflow_provider_mlpipex.domain.drift.references import SCORE, ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.report import DEFAULT_ALPHA, DEFAULT_LIMITS, BatchFault, BatchFaults
from airflow_provider_mlpipex.domain.drift.served import REST
from airflow_provider_mlpipex.domain.drift.sketches import Floats, Sketch

#: Share of a batch's rows that must be astray.
MIN_ASTRAY = 0.005
#: Median absolute deviations, of a normal variable's size, that a batch must lie beyond the median of all.
_STANDS_OUT = 4.0
_NORMAL_MAD = 1.4826
#: Batches from which on it can be said what is usual among them.
_ENOUGH_BATCHES = 5
#: Faults that are told at most, the most certain first.
MAX_FAULTS = 50
_KINDS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchCounts:
    """One column of every batch of a window.

    :param groups: ``[batch, groups + 1]`` rows, unusable ones in the last.
    :param beyond: ``[batch]`` rows beyond what training had: see :func:`beyond_training`.
    """

    batches: tuple[str, ...]
    groups: Floats
    beyond: Floats


def beyond_training(reference: ColumnReference, sketch: Sketch) -> int:
    """Rows outside the training range, or in categories that training did not have; 0 where nobody can know."""
    bins = reference.bins
    if isinstance(bins, CategoricalBins):
        first = len(bins.categories) if bins.complete else bins.size
        return int(sketch.counts[sketch.filled >= first].sum())
    if bins.size < 2:
        return 0
    return int(sketch.counts[(sketch.filled == 0) | (sketch.filled == bins.size - 1)].sum())


def counts_of(reference: ColumnReference, batches: Mapping[str, Sketch]) -> BatchCounts:
    """:raises SketchUnusable: sketches over other bins than the reference's."""
    named = {batch: sketch for batch, sketch in batches.items() if sketch.rows}
    groups = [reference.counts(sketch)[1] for sketch in named.values()]
    return BatchCounts(
        batches=tuple(named),
        groups=np.array(groups).reshape(len(named), len(reference.bins.starts) + 1),
        beyond=np.array([beyond_training(reference, sketch) for sketch in named.values()], dtype=np.float64),
    )


def find_faults(
    reference: Reference,
    columns: Mapping[str, BatchCounts],
    *,
    psi: float = DEFAULT_LIMITS["psi"],
    alpha: float = DEFAULT_ALPHA,
) -> BatchFaults:
    """Batches that are not like the others.

    :param columns: column -> its counts; batches of :data:`REST` are compared with, and never named.
    :param psi: how far a batch may lie from the others.
    :param alpha: chance that any batch is named where all are alike.
    """
    tested = {name: counts for name, counts in columns.items() if len(counts.batches) > 1}
    candidates = [fault for name, counts in tested.items() for fault in _suspects(reference, name, counts, psi)]
    candidates.sort(key=lambda candidate: candidate.p_value)
    tests = _KINDS * sum(len(counts.batches) for counts in tested.values())
    kept = 0
    for place, fault in enumerate(candidates, 1):
        if fault.p_value <= alpha * place / tests:
            kept = place
    faults = sorted(candidates[:kept], key=_certainty)
    return BatchFaults(
        batches=max((len(counts.batches) for counts in tested.values()), default=0),
        columns=len(tested),
        faults=tuple(faults[:MAX_FAULTS]),
    )


def _certainty(fault: BatchFault) -> tuple[float, float, str, str]:
    """Many a p-value is 0 to a float's precision: of these the largest difference comes first."""
    return fault.p_value, -max(fault.psi or 0.0, fault.share or 0.0), fault.batch, fault.column


def _suspects(reference: Reference, name: str, counts: BatchCounts, limit: float) -> Iterator[BatchFault]:
    """Batches that differ by what matters, each with its p-value; all others count as tests that found nothing."""
    column = reference.columns[name]
    groups, sizes = counts.groups, counts.groups.sum(axis=1)
    rest = groups.sum(axis=0) - groups
    trained = column.counts(column.sketch)[1]
    apart = _psi(rest, groups)
    farther = _psi(trained, groups) > _psi(trained, rest)
    usual = _usual(np.sqrt(apart)) ** 2
    away = reference.effects(name)
    others = len(counts.batches) - 1
    for at in np.flatnonzero((apart > limit) & farther & (apart > usual)).tolist():
        if counts.batches[at] == REST:
            continue
        yield BatchFault(
            batch=counts.batches[at],
            column=name,
            kind="values",
            rows=int(sizes[at]),
            p_value=_homogeneity(rest[at], groups[at]),
            psi=float(apart[at]),
            damage=None if name == SCORE else _moved(away, rest[at], groups[at]),
            reason=f"{name}: psi {apart[at]:.3g} against the other {others} batches",
        )
    outer = beyond_groups(column)
    for kind, astray, where, words in (
        ("beyond", counts.beyond, outer, "beyond what training had"),
        ("unusable", groups[:, -1], [groups.shape[1] - 1], "without a usable value"),
    ):
        total, all_rows = float(astray.sum()), float(sizes.sum())
        share = astray / sizes
        rest_share = (total - astray) / np.maximum(1.0, all_rows - sizes)
        for at in np.flatnonzero((share >= MIN_ASTRAY) & (share > rest_share + MIN_ASTRAY)).tolist():
            if counts.batches[at] == REST:
                continue
            yield BatchFault(
                batch=counts.batches[at],
                column=name,
                kind="beyond" if kind == "beyond" else "unusable",
                rows=int(sizes[at]),
                p_value=exact_tail(int(astray[at]), of=int(sizes[at]), total=int(total), among=int(all_rows)),
                share=float(share[at]),
                rest_share=float(rest_share[at]),
                damage=None if name == SCORE else _worst(away, where),
                reason=f"{name}: {int(astray[at])} of {int(sizes[at])} rows {words}, of the others "
                f"{rest_share[at]:.2%}",
            )


def _usual(distances: Floats) -> float:
    """How far batches lie from their others as a rule: what is no farther is no fault. Of few batches nobody can say
    so, and a faulty one is so much of the window that the window itself drifts."""
    if len(distances) < _ENOUGH_BATCHES:
        return math.inf
    middle = np.median(distances)
    return float(middle + _STANDS_OUT * _NORMAL_MAD * np.median(np.abs(distances - middle)))


def exact_tail(count: int, *, of: int, total: int, among: int) -> float:
    """``P(X >= count)`` where ``of`` rows are drawn from ``among``, of which ``total`` are astray."""
    most = min(of, total)
    if count <= max(0, of + total - among):
        return 1.0
    log = _log_choose(total, count) + _log_choose(among - total, of - count) - _log_choose(among, of)
    term, ratio = 1.0, 0.0
    for k in range(count, most + 1):
        ratio += term
        if term < 1e-17 * ratio:
            break
        term *= (total - k) * (of - k) / ((k + 1) * (among - total - of + k + 1)) if k < most else 0.0
    return min(1.0, math.exp(log + math.log(ratio)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _psi(reference: Floats, counts: Floats) -> Floats:
    """PSI of rows ``[batch, groups]`` on both sides (or one row of reference), what chance adds taken off."""
    either = (reference + counts) > 0
    m = np.maximum(1.0, reference.sum(axis=-1, keepdims=True))
    n = np.maximum(1.0, counts.sum(axis=-1, keepdims=True))
    p, q = np.maximum(reference, 0.5) / m, np.maximum(counts, 0.5) / n
    observed = np.where(either, (q - p) * np.log(q / p), 0.0).sum(axis=-1)
    u, filled = (1 / m + 1 / n)[..., 0], either.sum(axis=-1)
    excess: Floats = np.maximum(0.0, observed - (filled - 1) * u * (1 + filled * u / 2))
    return excess


def _homogeneity(rest: Floats, batch: Floats) -> float:
    """p-value of a chi-square test that both are of one distribution; groups with few rows are put together."""
    test = chi_square_test(rest, batch)
    return chi_square.survival(test.statistic, test.degrees) if test.degrees else 1.0


def _moved(away: Floats | None, rest: Floats, batch: Floats) -> float | None:
    """How far from the mean score the rows lie that moved, from and to; ``None`` where nobody knows."""
    if away is None:
        return None
    p, q = rest / max(1.0, rest.sum()), batch / batch.sum()
    u = 1 / max(1.0, rest.sum()) + 1 / batch.sum()
    moved = np.maximum(0.0, np.abs(q - p) - np.sqrt(2 / np.pi * p * (1 - p) * u))
    unknown = np.isnan(away)
    if moved[unknown].sum() > MIN_ASTRAY:
        return None
    total = moved[~unknown].sum()
    return float((moved * np.where(unknown, 0.0, away)).sum() / (total / 2)) if total > 0 else 0.0


def _worst(away: Floats | None, groups: list[int]) -> float | None:
    if away is None or not groups or np.isnan(away[groups]).any():
        return None
    return float(away[groups].max())


def beyond_groups(column: ColumnReference) -> list[int]:
    """The groups that rows beyond training are counted in; of numbers they hold the outer rows of training as well."""
    bins = column.bins
    if isinstance(bins, CategoricalBins):
        return [len(bins.starts) - 1]
    return [0, len(bins.starts) - 1]
