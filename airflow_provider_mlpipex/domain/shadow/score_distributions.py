"""Two sides' scores compared as distributions, whoever got which: PSI, Kolmogorov-Smirnov, Jensen-Shannon.

What this can see, pairs see better; what pairs see, this may miss entirely: swap the answers of two requests and
nothing here moves. The measures come from the drift core, over groups of about the same share of the current side.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field

from airflow_provider_mlpipex.domain.values import Value

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class ScoreDistributions(Value):
    """Scores of the same requests on both sides.

    :param psi: population stability index; about 0 for equal distributions, without upper limit.
    :param ks: largest distance between the cumulative shares, 0 to 1.
    :param js: Jensen-Shannon distance, base 2, 0 to 1.
    :param current: scores in each group, those that are no finite number in the last; ``shadow`` likewise.
    """

    psi: float = Field(ge=0)
    ks: float = Field(ge=0, le=1)
    js: float = Field(ge=0, le=1)
    current: tuple[int, ...]
    shadow: tuple[int, ...]


def compare_scores(current: ArrayLike, shadow: ArrayLike) -> ScoreDistributions | None:
    """Compare two sides of the same length; NaN stands for what is no finite number.

    :return: ``None`` where a side has no number at all, so that there is no distribution.
    """
    from airflow_provider_mlpipex.domain.drift.divergence import distance
    from airflow_provider_mlpipex.domain.drift.judging import compare
    from airflow_provider_mlpipex.domain.drift.references import make_reference

    if not _any_finite(current) or not _any_finite(shadow):
        return None
    reference = make_reference({"score": current})
    compared = compare(reference.columns["score"], reference.sketch({"score": shadow})["score"])
    return ScoreDistributions(
        psi=max(0.0, float(distance("psi", compared))),
        ks=float(distance("ks", compared)),
        js=float(distance("jensen_shannon", compared)),
        current=_whole(compared.reference_groups),
        shadow=_whole(compared.groups),
    )


def _any_finite(scores: Any) -> bool:
    import numpy as np

    return bool(np.isfinite(np.asarray(scores, dtype=np.float64)).any())


def _whole(counts: Any) -> tuple[int, ...]:
    return tuple(math.floor(count) for count in counts.tolist())
