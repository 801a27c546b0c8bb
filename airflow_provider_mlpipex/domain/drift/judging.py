"""Drift of served columns against the reference of their release, judged from sketches alone.

A measure fails where it is beyond its limit even with what chance adds taken off, beyond what chance alone would reach,
*and* beyond what the column does by itself: what stretches of the reference as long as the window, at its time of day,
reach beside the rest of it (:mod:`chunks`). Where chance alone could reach the limit, there are too few rows to say
``pass``: ``inconclusive``. A column with rows that training never had fails too, however few (:mod:`astray`). One that
is absent, retyped or full of infinities is an ``error``: broken, not drifted.

Rows are taken as independent draws where the reference does not know the times of its rows. Where they are not (one
customer sends a thousand alike), chance does more than is said here, and limits should be wider. What a drift does, and
where it came from: :mod:`attribution`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_provider_mlpipex.domain.drift import divergence
from airflow_provider_mlpipex.domain.drift.astray import find_astray
from airflow_provider_mlpipex.domain.drift.categorical_bins import CategoricalBins
from airflow_provider_mlpipex.domain.drift.chunks import Reach, Window, reach
from airflow_provider_mlpipex.domain.drift.divergence import Comparison
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins
from airflow_provider_mlpipex.domain.drift.references import ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.report import (
    DEFAULT_ALPHA,
    DEFAULT_LIMITS,
    ColumnDrift,
    DriftReport,
    GroupShift,
    Measure,
    Measured,
)
from airflow_provider_mlpipex.domain.drift.sketches import OUTSIDE_BINS, STEPS, Floats, Sketch
from airflow_provider_mlpipex.domain.errors import SketchUnusable
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName, worst_verdict
from airflow_provider_mlpipex.domain.statistics.confidence import share_alpha

#: Rows that are absent, of another type or infinite, beyond this share and that of training, are a broken column and
#: not a drifting one.
MAX_BROKEN = 0.01
_BROKEN = {
    "absent": "have no such column",
    "unreadable": "are of another type than in training",
    "infinite": "are infinite",
}
_NAMED = 3
#: Rows for each that was served, where it is asked what endless traffic would decide.
_ENDLESS = 1e9


def check(
    reference: Reference,
    sketches: Mapping[str, Sketch],
    *,
    limits: Mapping[Measure, float] = DEFAULT_LIMITS,
    alpha: float = DEFAULT_ALPHA,
    window: Window | None = None,
) -> DriftReport:
    """Judge every column of ``reference``.

    :param sketches: column -> the window's merged sketch; a column without one is an ``error``.
    :param limits: measure -> drift that is allowed; measures that are not named are taken, not judged.
    :param alpha: chance of a false ``fail`` in this look, shared among all columns and measures.
    :param window: of which time the rows are; without it nobody can say what a column does by itself in such a time.
    """
    own_alpha = share_alpha(alpha, max(1, len(reference.columns) * len(limits)))
    columns = tuple(
        check_column(column, sketches.get(name), limits=limits, alpha=own_alpha, window=window)
        for name, column in reference.columns.items()
    )
    verdict = worst_verdict(column.verdict for column in columns)
    reason = f"none of {len(columns)} columns is beyond its limits" if verdict == "pass" else why(columns, verdict)
    return DriftReport(verdict=verdict, reason=reason, columns=columns)


def check_column(
    reference: ColumnReference,
    sketch: Sketch | None,
    *,
    limits: Mapping[Measure, float],
    alpha: float,
    window: Window | None = None,
) -> ColumnDrift:
    """Judge one column; ``alpha`` is that of each measure."""

    def unmeasured(verdict: VerdictName, reason: str) -> ColumnDrift:
        return ColumnDrift(
            column=reference.name,
            kind=reference.bins.kind,
            verdict=verdict,
            reason=reason,
            rows=0 if sketch is None else sketch.rows,
            reference_rows=reference.sketch.rows,
        )

    if sketch is None:
        return unmeasured("error", "no sketch of this column in the window")
    try:
        compared = compare(reference, sketch)
    except SketchUnusable as error:
        return unmeasured("error", f"{error.thing}: {error.value}, not {error.limit}")
    if not sketch.rows:
        return unmeasured("inconclusive", "no rows in the window")
    measures = tuple(_measured(reference, sketch, compared, limits, alpha, window))
    verdict, reason = _verdict(reference, sketch, measures, limits)
    return ColumnDrift(
        column=reference.name,
        kind=reference.bins.kind,
        verdict=verdict,
        reason="; ".join((reason, *_remarks(reference, sketch))),
        rows=sketch.rows,
        reference_rows=reference.sketch.rows,
        measures=measures,
        unusable=sketch.unusable / sketch.rows,
        reference_unusable=reference.sketch.unusable / reference.sketch.rows,
        beyond_training=_beyond_training(reference, compared.fine),
        mean=_mean(reference, sketch),
        reference_mean=_mean(reference, reference.sketch),
        shifts=_shifts(reference, compared),
    )


def compare(reference: ColumnReference, sketch: Sketch) -> Comparison:
    """The counts of ``sketch`` beside those of training.

    :raises SketchUnusable: the sketch is not over this reference's bins.
    """
    return comparison(reference, *reference.counts(sketch), beyond=np.asarray(sketch.beyond))


def comparison(reference: ColumnReference, fine: Floats, groups: Floats, *, beyond: NDArray[Any]) -> Comparison:
    """Counts ``[..., bins]`` beside those of training; ``beyond`` ``[...]`` is fixed-point, as in a sketch."""
    own_fine, own_groups = reference.counts(reference.sketch)
    bins = reference.bins
    return Comparison(
        reference_groups=own_groups,
        groups=groups,
        reference_fine=own_fine,
        fine=fine,
        ordered=isinstance(bins, NumericBins),
        positions=bins.positions if isinstance(bins, NumericBins) and bins.deviation > 0 else None,
        beyond=beyond / STEPS,
    )


def why(columns: tuple[ColumnDrift, ...], verdict: VerdictName) -> str:
    """How many columns have ``verdict``, and the reasons of the first of them."""
    named = [column for column in columns if column.verdict == verdict]
    what = "; ".join(f"{column.column}: {column.reason}" for column in named[:_NAMED])
    return f"{len(named)} of {len(columns)} columns {verdict}: {what}" if named else "no columns to judge"


def _measured(
    reference: ColumnReference,
    sketch: Sketch,
    compared: Comparison,
    limits: Mapping[Measure, float],
    alpha: float,
    window: Window | None,
) -> Iterator[Measured]:
    for measure in compared.measures:
        value = float(divergence.distance(measure, compared))
        if math.isnan(value):  # no usable rows in the window: only shares of groups can be compared
            continue
        expected = float(divergence.by_chance(measure, compared))
        p_value = divergence.chi_square_test(*compared.cells).p_value if measure == "chi_square" else None
        limit = limits.get(measure)
        if limit is None:
            yield Measured(measure=measure, value=value, by_chance=expected, p_value=p_value)
            continue
        bound = divergence.chance_bound(measure, compared, alpha=alpha)
        threshold = max(divergence.with_chance(measure, limit, expected), bound)
        itself = None
        if reference.chunks is not None and window is not None and value > threshold:
            itself = reach(reference.bins, reference.chunks, measure, window, alpha=alpha)
        if itself is not None:
            # Chunks of as many rows hold what chance does to them; a window of fewer rows strays farther.
            chance = expected if sketch.rows >= itself.rows / 2 else bound
            reached = divergence.with_chance(measure, itself.value, chance)
            threshold = max(threshold, reached * _more_rows(measure, compared, value, sketch.rows, itself.rows))
        threshold += reference.bins.resolution(reference.sketch) if measure == "ks" else 0.0
        verdict: VerdictName = "fail" if value > threshold else "pass" if bound <= limit else "inconclusive"
        yield Measured(
            measure=measure,
            value=value,
            by_chance=expected,
            by_itself=None if itself is None else itself.value,
            limit=limit,
            threshold=threshold,
            p_value=p_value,
            verdict=verdict,
            reason=_explain(measure, value, limit, threshold, bound, verdict, sketch.rows, itself)
            + (_too_small(reference, measure, compared, limit, alpha) if verdict == "inconclusive" else ""),
        )


def _more_rows(measure: Measure, compared: Comparison, value: float, rows: int, rows_then: float) -> float:
    """How much larger the value of a window is than it would be of as few rows as a stretch of the reference has.

    A PSI counts an empty group as half a row: the more rows, the farther an empty group is from its share.
    """
    if measure != "psi" or rows <= rows_then or rows_then <= 0:
        return 1.0
    fewer = replace(compared, groups=compared.groups * (rows_then / rows))
    of_fewer = float(divergence.distance(measure, fewer))
    return max(1.0, value / of_fewer) if of_fewer > 0 else 1.0


def _too_small(reference: ColumnReference, measure: Measure, compared: Comparison, limit: float, alpha: float) -> str:
    """Says so where the reference is what has too few rows: then no traffic will ever decide."""
    endless = replace(compared, groups=compared.groups * _ENDLESS, fine=compared.fine * _ENDLESS)
    if divergence.chance_bound(measure, endless, alpha=alpha) <= limit:
        return ""
    rows = reference.sketch.rows
    return f", however many are served: the reference has {rows} rows; train with a longer evaluation window"


def _explain(
    measure: Measure,
    value: float,
    limit: float,
    threshold: float,
    bound: float,
    verdict: VerdictName,
    rows: int,
    itself: Reach | None,
) -> str:
    if verdict == "inconclusive":
        return f"{measure} {value:.3g} from {rows} rows: chance alone reaches {bound:.3g}, beyond the limit {limit:g}"
    side = "beyond" if verdict == "fail" else "within"
    if itself is None or itself.value <= limit:
        return f"{measure} {value:.3g} {side} {threshold:.3g} (limit {limit:g} and chance at {rows} rows)"
    return (
        f"{measure} {value:.3g} {side} {threshold:.3g} (limit {limit:g}; {itself.chunks} stretches of the reference of "
        f"{itself.length_s / 3600:g} h reach {itself.value:.3g} by themselves; chance at {rows} rows)"
    )


def _verdict(
    reference: ColumnReference, sketch: Sketch, measures: tuple[Measured, ...], limits: Mapping[Measure, float]
) -> tuple[VerdictName, str]:
    for kind, words in _BROKEN.items():
        rows = getattr(sketch, kind)
        if rows / sketch.rows > MAX_BROKEN + getattr(reference.sketch, kind) / reference.sketch.rows:
            return "error", f"{rows} of {sketch.rows} rows {words}"
    if astray := find_astray(reference, sketch):
        beyond = [measured.reason for measured in measures if measured.verdict == "fail"]
        return "fail", "; ".join([*(group.reason for group in astray), *beyond])
    judged = [measured for measured in measures if measured.verdict]
    verdict = worst_verdict(measured.verdict for measured in judged if measured.verdict)
    reasons = [measured.reason for measured in judged if measured.verdict == verdict]
    return verdict, "; ".join(reasons) or f"none of {', '.join(limits) or 'no measures'} can be taken of this column"


def _remarks(reference: ColumnReference, sketch: Sketch) -> Iterator[str]:
    """What must not pass in silence even where the verdict is ``pass``."""
    if not reference.sketch.usable:
        yield "training had no usable value"
    if sketch.unusable:
        kinds = ", ".join(f"{getattr(sketch, kind)} {kind}" for kind in OUTSIDE_BINS if getattr(sketch, kind))
        trained = reference.sketch.unusable / reference.sketch.rows
        yield f"rows without a usable value: {kinds} (training {trained:.2%})"
    if isinstance(reference.bins, NumericBins) and sketch.usable > 1 and sketch.minimum == sketch.maximum:
        yield f"all {sketch.usable} usable values are {reference.bins.shown(sketch.minimum)}"


def _beyond_training(reference: ColumnReference, fine: Floats) -> float | None:
    usable = fine.sum()
    bins = reference.bins
    if not usable or (isinstance(bins, CategoricalBins) and not bins.complete):
        return None
    outside = fine[len(bins.categories) :].sum() if isinstance(bins, CategoricalBins) else fine[0] + fine[-1]
    return float(outside / usable)


def _mean(reference: ColumnReference, sketch: Sketch) -> float | None:
    if not isinstance(reference.bins, NumericBins) or not sketch.usable:
        return None
    return reference.bins.unfixed(sketch.mean)


def _shifts(reference: ColumnReference, compared: Comparison) -> tuple[GroupShift, ...]:
    then = compared.reference_groups / compared.reference_groups.sum()
    now = compared.groups / compared.groups.sum()
    moved = np.argsort(-np.abs(now - then), kind="stable")[:_NAMED]
    return tuple(
        GroupShift(group=reference.bins.label(int(group)), reference_share=float(then[group]), share=float(now[group]))
        for group in moved
        if now[group] != then[group]
    )
