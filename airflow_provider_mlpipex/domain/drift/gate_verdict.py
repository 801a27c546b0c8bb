"""What a gate of a watch says of drift: ``drift.worst_psi``, ``drift.damage`` and their like, from sketches alone.

A gate looks at a whole window once it is over, not again and again while it grows, so its alpha is that of one look.
Its number is what is left once chance is taken off; whether that is beyond its limit is judged as a look at drift
judges it (:mod:`judging`), with the same care for few rows and for broken columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from airflow_provider_mlpipex.domain.drift import attribution, divergence, judging
from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference
from airflow_provider_mlpipex.domain.drift.report import MEASURES, Measure
from airflow_provider_mlpipex.domain.drift.sketches import Sketch
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName, worst_verdict
from airflow_provider_mlpipex.domain.statistics.confidence import share_alpha

DAMAGE = "damage"
#: Name of a metric -> the measure of which it is the worst column's.
MEASURE_OF: Mapping[str, Measure] = {f"worst_{measure}": measure for measure in MEASURES}


class DriftVerdict(NamedTuple):
    """What one gate says of one window.

    :param value: in the unit of the gate's metric, chance taken off; ``None`` where no column could be measured.
    :param column: that has it.
    """

    verdict: VerdictName
    reason: str
    value: float | None = None
    column: str | None = None


def judge_window(
    gate: Gate,
    reference: Reference,
    sketches: Mapping[str, Sketch],
    *,
    limits: Mapping[Measure, float],
    alpha: float,
) -> DriftVerdict:
    """Judge one window of what a release was asked and answered.

    :param gate: on a metric of source ``drift``, with ``max``.
    :param sketches: column -> the window's merged sketch.
    :param limits: what counts as drift where the gate asks for its damage: those of the environment's ``drift`` block.
    :param alpha: chance of a false ``fail``, all columns together.
    """
    name = gate.metric.partition(".")[2]
    if name == DAMAGE:
        return _damage(gate.bound, reference, sketches, limits=limits, alpha=alpha)
    return _worst_column(MEASURE_OF[name], gate.bound, reference, sketches, alpha=alpha)


def _worst_column(
    measure: Measure, limit: float, reference: Reference, sketches: Mapping[str, Sketch], *, alpha: float
) -> DriftVerdict:
    own_alpha = share_alpha(alpha, max(1, len(reference.columns)))
    judged = [
        judging.check_column(column, sketches.get(name), limits={measure: limit}, alpha=own_alpha)
        for name, column in reference.columns.items()
    ]
    # A text has no order, so no KS: that is nothing broken, and nothing to wait for.
    columns = tuple(column for column in judged if column.of(measure) or not column.measures)
    verdict = worst_verdict(column.verdict for column in columns)
    measured = [
        (divergence.without_chance(measure, each.value, each.by_chance), column.column)
        for column in columns
        if (each := column.of(measure))
    ]
    value, at = max(measured, default=(None, None))
    reason = f"none of {len(columns)} columns is beyond it" if verdict == "pass" else judging.why(columns, verdict)
    return DriftVerdict(verdict, reason, value, at)


def _damage(
    limit: float,
    reference: Reference,
    sketches: Mapping[str, Sketch],
    *,
    limits: Mapping[Measure, float],
    alpha: float,
) -> DriftVerdict:
    report = judging.check(reference, sketches, limits=limits, alpha=alpha)
    drifted = [each for each in attribution.rank(reference, sketches, report) if each.verdict == "fail"]
    unknown = [each.column for each in drifted if each.damage is None]
    known = [(each.damage, each.column) for each in drifted if each.damage is not None]
    value, column = max(known, default=(None if unknown else 0.0, None))
    if value is not None and value > limit:
        return DriftVerdict("fail", f"{column} has drifted and moves the score by {value:.2f} sd", value, column)
    if unknown:
        return DriftVerdict("error", f"nobody knows what the drift of {', '.join(unknown)} does", value, column)
    features = tuple(each for each in report.columns if each.column != SCORE and each.verdict != "fail")
    # Where every feature has drifted, and does no harm, there is nothing left that could say otherwise.
    verdict = worst_verdict(each.verdict for each in features) if features or not drifted else "pass"
    if verdict != "pass":
        return DriftVerdict(verdict, judging.why(features, verdict), value, column)
    reason = f"no more than {value:.2f} sd, by {column}" if column else "no feature has drifted"
    return DriftVerdict("pass", reason, value, column)
