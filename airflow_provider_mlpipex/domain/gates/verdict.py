"""What a gate says: one of four verdicts, with the evidence that it was read from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.values import Recorded

VerdictName = Literal["pass", "fail", "inconclusive", "error"]
_WORST_FIRST: tuple[VerdictName, ...] = ("fail", "error", "inconclusive", "pass")


def worst_verdict(verdicts: Iterable[VerdictName]) -> VerdictName:
    """The verdict of all together; of none it is ``inconclusive``."""
    given = set(verdicts)
    return next((verdict for verdict in _WORST_FIRST if verdict in given), "inconclusive")


class GateResult(Recorded):
    """One gate judged once: the evidence, the threshold as written and as computed, and how far from it.

    :param alpha: chance of a false alarm over all looks of this gate's sequence; ``None`` for one look at a fixed
        sample.
    :param interval: where the true margin lies at every look, but with probability ``alpha``; of one look at a fixed
        sample, each end but with probability 5 %.
    :param rows_that_decide: of a sample that cannot tell: how many rows would, if what was observed is the truth.
    :param excused: why a broken limit is not held against the release: a control arm breaks it too.
    """

    added_later = frozenset({"alpha", "interval", "excused", "rows_that_decide"})

    gate: str
    verdict: VerdictName
    advisory: bool = False
    rule: str = Field(description="the gate as people read it: 'evaluation.accuracy within 0.5% of the baseline'")
    evidence: Evidence
    threshold: float | None = None
    margin: float | None = Field(default=None, description="signed distance to the threshold; negative: beyond it")
    reason: str = ""
    alpha: float | None = None
    interval: tuple[float, float] | None = None
    excused: str | None = None
    rows_that_decide: int | None = None
