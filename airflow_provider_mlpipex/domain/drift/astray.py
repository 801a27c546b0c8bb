"""Rows astray: values that training never had, however few they are, and evenly as they may lie over all batches.

Two percent of −999 move no measure of a distribution beyond its limit (a PSI of 0.02), and no batch stands out where
all have them. But training had none. So a column also drifts where the share of such rows is shown to have grown, by
Fisher's exact test of the window beside the training rows, to at least :data:`MIN_ASTRAY`, from next to nothing. Of
numbers they must lie a standard deviation beyond the range of training: a hotter day than any before is no −999.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from airflow_provider_mlpipex.domain.drift.batch_faults import (
    MIN_ASTRAY,
    beyond_groups,
    beyond_training,
    exact_tail,
)
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins
from airflow_provider_mlpipex.domain.drift.references import ColumnReference
from airflow_provider_mlpipex.domain.drift.sketches import STEPS, Sketch

#: Chance of a false alarm by one column; small enough to leave the alpha of a look to the measures.
ALPHA = 1e-6
#: Share of the training rows up to which a kind of rows was next to nothing.
_NEVER = 0.001
#: Standard deviations beyond the range of training, on average.
_FAR = 1.0
#: Rows that are astray below which nothing is said of a kind.
_MIN_ROWS = 10


class Astray(NamedTuple):
    """:param rows: of the window that are astray. :param p_value: chance of so many, had nothing changed.
    :param groups: that they are counted in.
    """

    groups: tuple[int, ...]
    rows: int
    share: float
    trained_share: float
    p_value: float
    words: str

    @property
    def reason(self) -> str:
        return f"{self.rows} rows {self.words} ({self.share:.2%}, in training {self.trained_share:.2%})"


def find_astray(reference: ColumnReference, sketch: Sketch) -> tuple[Astray, ...]:
    """The kinds of rows that training hardly had and the window has."""
    return tuple(group for group in _kinds(reference, sketch) if _is_shown(group))


def _is_shown(group: Astray) -> bool:
    enough = group.rows >= _MIN_ROWS and group.share >= group.trained_share + MIN_ASTRAY
    return enough and group.trained_share <= _NEVER and group.p_value <= ALPHA


def _kinds(reference: ColumnReference, sketch: Sketch) -> Iterator[Astray]:
    trained = reference.sketch
    if not sketch.rows or not trained.rows or not trained.usable:
        return
    beyond = beyond_training(reference, sketch)
    if beyond and _are_far(reference, sketch, beyond):
        yield Astray(
            groups=tuple(beyond_groups(reference)),
            words="beyond what training had",
            **_shares(beyond, beyond_training(reference, trained), sketch, trained),
        )
    if sketch.unusable:
        yield Astray(
            groups=(len(reference.bins.starts),),
            words="without a usable value",
            **_shares(sketch.unusable, trained.unusable, sketch, trained),
        )


def _are_far(reference: ColumnReference, sketch: Sketch, beyond: int) -> bool:
    bins = reference.bins
    return not isinstance(bins, NumericBins) or (bins.deviation > 0 and sketch.beyond / STEPS / beyond >= _FAR)


def _shares(rows: int, before: int, sketch: Sketch, trained: Sketch) -> dict[str, Any]:
    return {
        "rows": rows,
        "share": rows / sketch.rows,
        "trained_share": before / trained.rows,
        "p_value": exact_tail(rows, of=sketch.rows, total=rows + before, among=sketch.rows + trained.rows),
    }
