"""What a look at drift found, as values that cross processes. Free of numpy, so that any module may name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.values import Value

Measure = Literal["psi", "ks", "jensen_shannon", "chi_square", "wasserstein"]
MEASURES: tuple[Measure, ...] = ("psi", "ks", "jensen_shannon", "chi_square", "wasserstein")
#: Stretches as long as a window that its reference must hold, to know how far they lie apart by themselves.
MIN_CHUNKS = 4
#: With whom a window is compared beside the whole reference: its rows of the same hours of the day, or of the same
#: weekday and hours.
Season = Literal["day", "week"]
#: What is judged if nothing else is asked for: shares in groups, and the whole distribution where values have an order.
DEFAULT_LIMITS: Mapping[Measure, float] = {"psi": 0.2, "ks": 0.1}
#: Chance of a false ``fail`` in one look at all columns together.
DEFAULT_ALPHA = 0.01
#: Damage, in standard deviations of the score, from which on a drifted feature is worth waking somebody.
WORTH_AN_ALARM = 0.1


class Measured(Value):
    """One measure of one column.

    :param value: PSI in nats; KS and Jensen-Shannon distance from 0 to 1; chi-square as Cohen's w; Wasserstein in
        standard deviations of the reference.
    :param by_chance: what the value would be on average had nothing drifted, at these numbers of rows.
    :param limit: the drift that is allowed; ``None`` for a measure that was taken but not judged.
    :param by_itself: how far stretches of the reference as long as the window, at its time of day, lie from the rest
        of it; ``None`` where nobody knows.
    :param threshold: the larger of limit and ``by_itself``, corrected for chance: what the value is compared with.
    :param p_value: of the chi-square test: probability of such counts had nothing drifted.
    """

    measure: Measure
    value: float
    by_chance: float
    by_itself: float | None = None
    limit: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    verdict: VerdictName | None = None
    reason: str = ""


class GroupShift(Value):
    """One group of values (``(3.2, 7.1]``, ``EWR``, ``new``) and its share of the rows, then and now."""

    group: str
    reference_share: float
    share: float


class ColumnDrift(Value):
    """One column against its reference.

    :param unusable: share of rows without a usable value; ``reference_unusable`` that of the training rows.
    :param beyond_training: share of usable rows outside the training range, or in categories that training did not
        have; ``None`` where the reference lists too few categories to know.
    :param mean: of the finite values, in the column's unit.
    :param shifts: the groups that moved most, largest first.
    """

    column: str
    kind: Literal["numeric", "categorical"]
    verdict: VerdictName
    reason: str
    rows: int = 0
    reference_rows: int = 0
    measures: tuple[Measured, ...] = ()
    unusable: float | None = None
    reference_unusable: float | None = None
    beyond_training: float | None = None
    mean: float | None = None
    reference_mean: float | None = None
    shifts: tuple[GroupShift, ...] = ()

    def of(self, measure: Measure) -> Measured | None:
        return next((measured for measured in self.measures if measured.measure == measure), None)


class DriftReport(Value):
    """All columns of a reference, in its order. ``verdict`` is the worst of theirs; no column is ``inconclusive``."""

    verdict: VerdictName
    reason: str
    columns: tuple[ColumnDrift, ...] = ()

    def of(self, column: str) -> ColumnDrift | None:
        return next((drift for drift in self.columns if drift.column == column), None)


class RankedDrift(Value):
    """A feature's drift by what it does to the score.

    :param influence: share of the score's variance that the model moves with this feature, 0 to 1, measured by
        permuting it; of old references the correlation ratio.
    :param damage: how far the drift moved rows to where the model scores differently, in standard deviations of the
        score, chance taken off; ``None`` where it cannot be known, and ``reason`` says why.
    :param score_shift: the move of the mean score that this drift alone explains, in the score's unit.
    """

    column: str
    verdict: VerdictName
    psi: float | None = None
    influence: float | None = None
    damage: float | None = None
    score_shift: float | None = None
    reason: str = ""


class BatchShare(Value):
    """One batch's part in a drift.

    :param carried: part of the window's drift that goes away with this batch, 0 to 1.
    :param share: ``carried``, scaled down where batches together carry more than all of it.
    """

    batch: str
    rows: int
    carried: float
    share: float


class Attribution(Value):
    """Whose rows a window's drift comes from, largest share first.

    :param drift: of the whole window, chance taken off.
    :param conclusive: whether there is a drift above chance to attribute; no batches are named otherwise.
    :param spread: part that no single batch carries: a drift that all batches share has ``spread`` near 1.
    """

    column: str
    measure: Measure
    conclusive: bool
    reason: str
    drift: float | None = None
    batches: tuple[BatchShare, ...] = ()
    spread: float | None = None


class DriftPage(Value):
    """A page on a drift for people: where it is, or why there is none."""

    address: str = ""
    trouble: str = ""


#: ``values``: its values are distributed otherwise. ``beyond``: outside what training had, or of categories that it
#: did not have. ``unusable``: null, NaN, infinite, of another type, or not there.
FaultKind = Literal["values", "beyond", "unusable"]


class BatchFault(Value):
    """One column of one batch that is not as in all other batches of its window.

    :param rows: of the batch.
    :param p_value: chance of such a batch, were it like the others.
    :param psi: of the batch against the others, chance taken off.
    :param share: part of its rows that is astray (``beyond``, ``unusable``); ``rest_share`` that of the others.
    :param damage: how far the rows that moved lie from where the model scores otherwise, in standard deviations of the
        score; ``None`` where nobody knows.
    """

    batch: str
    column: str
    kind: FaultKind
    rows: int
    p_value: float
    psi: float | None = None
    share: float | None = None
    rest_share: float | None = None
    damage: float | None = None
    reason: str


class BatchFaults(Value):
    """Every batch of a window tested against all others, the most certain fault first.

    :param batches: that were tested; 0 where there were no others to test against.
    :param columns: of each.
    """

    batches: int = 0
    columns: int = 0
    faults: tuple[BatchFault, ...] = ()
