"""What a drift does and where it came from: drift ranked by its damage to the score, and attributed to batches.

Most features that drift move no score: temperature drifts every spring, and a model that hardly uses it does not
care. And a drift that one batch brought is a fault to repair, where a drift that all batches share is the world
changing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from airflow_provider_mlpipex.domain.drift import divergence
from airflow_provider_mlpipex.domain.drift.astray import find_astray
from airflow_provider_mlpipex.domain.drift.damage import ENOUGH as _ENOUGH
from airflow_provider_mlpipex.domain.drift.damage import Effects
from airflow_provider_mlpipex.domain.drift.divergence import Comparison
from airflow_provider_mlpipex.domain.drift.judging import compare, comparison, why
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins
from airflow_provider_mlpipex.domain.drift.references import SCORE, ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.report import (
    WORTH_AN_ALARM,
    Attribution,
    BatchShare,
    DriftReport,
    Measure,
    RankedDrift,
)
from airflow_provider_mlpipex.domain.drift.sketches import STEPS, Floats, Sketch, merge, require_same_bins
from airflow_provider_mlpipex.domain.errors import SketchUnusable
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName

#: Share of rows of which the damage may stay unknown.
MAX_UNKNOWN = 0.01
#: Counts that are held at once while batches are left out one by one; 64 MB.
_AT_ONCE = 8_000_000


def rank(reference: Reference, sketches: Mapping[str, Sketch], report: DriftReport) -> tuple[RankedDrift, ...]:
    """Features by the damage that their drift does to the score, largest first; unknown damage last, by PSI.

    :param sketches: those that ``report`` judged.
    """
    ranked = [
        _ranked(reference, drift.column, drift.verdict, sketches.get(drift.column))
        for drift in report.columns
        if drift.column != SCORE
    ]
    return tuple(
        sorted(
            ranked,
            key=lambda measured: (
                measured.damage is None,
                -(measured.damage or 0.0),
                -(measured.psi or 0.0),
                measured.column,
            ),
        )
    )


def alarm(
    report: DriftReport, ranking: tuple[RankedDrift, ...], *, damage: float = WORTH_AN_ALARM
) -> tuple[VerdictName, str]:
    """Whether a report is worth an alarm, and why: the score drifts, or a feature that moves it.

    A drifted feature whose damage is known to be less than ``damage`` is named and raises none. Where the damage is
    not known the feature counts as harmful: fail closed.
    """
    score = report.of(SCORE)
    failed = [measured for measured in ranking if measured.verdict == "fail"]
    doing_harm = harmful(ranking, damage=damage)
    if score and score.verdict == "fail":
        return "fail", f"the score itself drifts: {score.reason}"
    if doing_harm:
        named = ", ".join(
            f"{harm.column} ({'damage unknown' if harm.damage is None else f'{harm.damage:.2f} sd of the score'})"
            for harm in doing_harm
        )
        return "fail", f"drifted features that move the score: {named}"
    verdicts = [drift.verdict for drift in report.columns if drift.verdict in ("error", "inconclusive")]
    if verdicts or not report.columns:
        verdict: VerdictName = "error" if "error" in verdicts else "inconclusive"
        return verdict, why(report.columns, verdict)
    harmless = f"; drifted without harm: {', '.join(measured.column for measured in failed)}" if failed else ""
    return "pass", f"nothing drifts that moves the score{harmless}"


def harmful(ranking: tuple[RankedDrift, ...], *, damage: float = WORTH_AN_ALARM) -> tuple[RankedDrift, ...]:
    """The drifted features that move the score by ``damage`` or more, or by nobody knows how much."""
    return tuple(
        measured
        for measured in ranking
        if measured.verdict == "fail" and (measured.damage is None or measured.damage >= damage)
    )


def attribute(
    reference: ColumnReference,
    batches: Mapping[str, Sketch],
    *,
    measure: Measure = "psi",
    alpha: float = 0.01,
) -> Attribution:
    """How much of a window's drift each batch carries, by leaving one batch out at a time.

    Counts are subtracted, so the cost grows with the number of batches and no row is read. What chance adds is taken
    off before and after, or leaving out any batch would look like a change.

    :param batches: batch -> its merged sketch over the window.
    :param alpha: a window's drift that chance reaches with this probability is not attributed.
    :raises SketchUnusable: sketches over other bins than the reference's.
    """
    named = {batch: sketch for batch, sketch in batches.items() if sketch.rows}
    if not named or not reference.sketch.usable:
        return _nothing(reference, measure, "no rows in the window" if reference.sketch.usable else "no training rows")
    whole = compare(reference, merge(named.values()))
    if measure not in whole.measures:
        return _nothing(reference, measure, f"{measure} cannot be taken of a {reference.bins.kind} column like this")
    observed = float(divergence.distance(measure, whole))
    bound = divergence.chance_bound(measure, whole, alpha=alpha)
    drift = float(divergence.excess(measure, whole))
    if not drift > 0 or not observed > bound:
        return _nothing(reference, measure, f"{measure} {observed:.3g} is no more than chance reaches ({bound:.3g})")
    left = np.concatenate(
        [divergence.excess(measure, whole.without(part)) for part in _parts(reference, list(named.values()))]
    )
    # Without the only batch that has rows nothing is left to measure, and so no drift.
    carried = np.clip(1.0 - np.nan_to_num(left, nan=0.0) / drift, 0.0, 1.0)
    shares = carried / max(1.0, float(carried.sum()))
    batch_shares = [
        BatchShare(batch=batch, rows=sketch.rows, carried=float(own), share=float(share))
        for (batch, sketch), own, share in zip(named.items(), carried, shares, strict=True)
    ]
    batch_shares.sort(key=lambda batch_share: (-batch_share.share, batch_share.batch))
    return Attribution(
        column=reference.name,
        measure=measure,
        conclusive=True,
        reason=_sentence(reference.name, measure, drift, batch_shares),
        drift=drift,
        batches=tuple(batch_shares),
        spread=max(0.0, 1.0 - float(shares.sum())),
    )


def _ranked(reference: Reference, name: str, verdict: VerdictName, sketch: Sketch | None) -> RankedDrift:
    column = reference.columns[name]

    def unknown(reason: str, psi: float | None = None) -> RankedDrift:
        return RankedDrift(column=name, verdict=verdict, psi=psi, reason=reason)

    if sketch is None or not sketch.rows:
        return unknown("no rows in the window")
    try:
        compared = compare(column, sketch)
    except SketchUnusable as error:
        return unknown(str(error.value))
    psi = float(divergence.excess("psi", compared))
    scored = reference.columns.get(SCORE)
    if scored is None or reference.score is None or not column.sketch.group_rows.any():
        return unknown("training rows were not scored", psi)
    variance = scored.sketch.variance
    if not variance > 0:
        return unknown("the score is the same for all training rows", psi)
    if column.effects is not None:
        ranked = _permuted(reference.score, column.effects, compared, variance, name=name, verdict=verdict, psi=psi)
        astray = find_astray(column, sketch) if column.effects.used else ()
        if not astray:
            return ranked
        # What the model says of a value that training never had, nobody has measured.
        reason = "; ".join(filter(None, [ranked.reason, *(group.reason for group in astray)]))
        return ranked.model_copy(update={"damage": None, "reason": reason})
    deviation = float(np.sqrt(variance))
    moved, chance, means = _moves(compared, column.sketch, sketch)
    away = np.abs(means - means @ (compared.reference_groups / compared.reference_groups.sum())) / deviation
    # What a few rows do to the score of all is little; of rows that should not be there what it does to theirs counts.
    theirs = [float(away[list(group.groups)].max()) for group in find_astray(column, sketch)]
    return RankedDrift(
        column=name,
        verdict=verdict,
        psi=psi,
        influence=_correlation_ratio(column.sketch, variance),
        damage=max(0.0, float((np.abs(moved) - chance) @ away), *theirs),
        score_shift=float(moved @ means) * reference.score.scale,
        reason="; ".join(
            filter(
                None,
                (
                    _unseen(column.sketch, compared),
                    "by association: the reference does not know what the model does with it",
                ),
            )
        ),
    )


def _permuted(
    score: NumericBins,
    effects: Effects,
    compared: Comparison,
    variance: float,
    *,
    name: str,
    verdict: VerdictName,
    psi: float,
) -> RankedDrift:
    """Damage by what the model answered when the column was permuted. Nobody knows it of a group that training did not
    have, unless the model does not use the column at all."""
    p = compared.reference_groups / compared.reference_groups.sum()
    q = compared.groups / compared.groups.sum()
    u = 1.0 / compared.reference_groups.sum() + 1.0 / compared.groups.sum()
    moved = np.maximum(0.0, np.abs(q - p) - np.sqrt(2 / np.pi * p * (1 - p) * u))
    known = ~np.isnan(effects.away)
    unknown = effects.used and float(moved[~known].sum()) > MAX_UNKNOWN
    deviation = float(np.sqrt(variance)) * score.scale
    return RankedDrift(
        column=name,
        verdict=verdict,
        psi=psi,
        influence=effects.influence,
        damage=None if unknown else float(moved[known] @ effects.away[known]),
        score_shift=float((q - p)[known] @ effects.mean[known]) * deviation,
        reason=f"{q[~known].sum():.0%} of rows have values that training did not have" if unknown else "",
    )


def _moves(compared: Comparison, trained: Sketch, served: Sketch) -> tuple[Floats, Floats, Floats]:
    """For each group the share of rows moved into it, what chance moves, and the mean score (in reference deviations).

    A group that training hardly had (a new category) is known from served rows only, whose scores also carry what
    other features did: that may say too much damage, never too little. A group in which nobody was
    scored is given the mean of all: it cannot be known to do harm or none, and has next to no rows.
    """
    p = compared.reference_groups / compared.reference_groups.sum()
    q = compared.groups / compared.groups.sum()
    u = 1.0 / compared.reference_groups.sum() + 1.0 / compared.groups.sum()
    chance = np.sqrt(2 / np.pi * p * (1 - p) * u)
    known = trained.group_rows >= _ENOUGH
    rows = np.where(known, trained.group_rows, trained.group_rows + served.group_rows)
    sums = np.where(known, trained.group_scores, trained.group_scores + served.group_scores)
    mean_score = trained.group_scores.sum() / trained.group_rows.sum()
    return q - p, chance, np.where(rows > 0, sums / np.maximum(rows, 1), mean_score) / STEPS


def _unseen(trained: Sketch, compared: Comparison) -> str:
    """A word of care where rows moved to values for which training has no scores."""
    share = float(compared.groups[trained.group_rows < _ENOUGH].sum() / compared.groups.sum())
    if share < 0.01:
        return ""
    return f"{share:.0%} of rows have values that training hardly had: their damage includes that of other features"


def _correlation_ratio(trained: Sketch, variance: float) -> float:
    """Share of the score's variance between groups, without what chance puts there (epsilon squared)."""
    filled = trained.group_rows > 0
    rows, sums = trained.group_rows[filled], trained.group_scores[filled] / STEPS
    n, groups = int(rows.sum()), int(filled.sum())
    if n <= groups:
        return 0.0
    between = float((rows * (sums / rows - sums.sum() / n) ** 2).sum())
    within = max(0.0, n * variance - between)
    return min(1.0, max(0.0, between - (groups - 1) * within / (n - groups)) / (n * variance))


def _parts(reference: ColumnReference, sketches: list[Sketch]) -> Iterator[Comparison]:
    """Sketches as rows of matrices, as many at once as memory likes."""
    require_same_bins(sketches, reference.bins.identity)
    size = reference.bins.size
    at_once = max(1, _AT_ONCE // size)
    for first in range(0, len(sketches), at_once):
        chunk = sketches[first : first + at_once]
        fine = np.zeros((len(chunk), size))
        lengths = [len(sketch.filled) for sketch in chunk]
        fine[np.repeat(np.arange(len(chunk)), lengths), np.concatenate([sketch.filled for sketch in chunk])] = (
            np.concatenate([sketch.counts for sketch in chunk])
        )
        unusable = np.array([[sketch.unusable] for sketch in chunk])
        groups = np.hstack([np.add.reduceat(fine, reference.bins.starts, axis=1), unusable])
        beyond = np.array([sketch.beyond for sketch in chunk], dtype=np.float64)
        yield comparison(reference, fine, groups, beyond=beyond)


def _nothing(reference: ColumnReference, measure: Measure, reason: str) -> Attribution:
    return Attribution(column=reference.name, measure=measure, conclusive=False, reason=reason)


def _sentence(column: str, measure: Measure, drift: float, shares: list[BatchShare]) -> str:
    largest = shares[0]
    if sum(share.share for share in shares) < 0.5:
        return f"{measure} {drift:.3g} of {column} is shared by {len(shares)} batches: none of them carries it"
    return f"batch {largest.batch} carries {largest.share:.0%} of {measure} {drift:.3g} of {column}"
