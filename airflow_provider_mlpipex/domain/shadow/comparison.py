"""Current and shadow answers to the same requests: what was counted of them, joined on request id.

Differences are always *shadow minus current*, of the score: of two classes the probability of the second, of more
classes the highest one, of several outputs the first, of anything else the number itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime

from pydantic import Field

from airflow_provider_mlpipex.domain.shadow.score_distributions import ScoreDistributions
from airflow_provider_mlpipex.domain.shadow.slices import SlicedColumn
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summed, Timed
from airflow_provider_mlpipex.domain.values import Value

#: The flip margin: two numbers closer than this, relative to the larger, are the same answer. A sum of a thousand
#: float32 products is known to some millionths; a margin of one in a million called that another answer each time.
TOLERANCE = 1e-5
#: Quantiles that a comparison tells.
QUANTILES = (0.05, 0.5, 0.95, 0.99)
_PER_DECADE = 16
_STEPS = {decade: tuple(10.0 ** (step / _PER_DECADE) for step in range(*decade)) for decade in ((-144, 145), (-32, 81))}
#: Upper ends of the buckets that absolute differences are counted in: 0, then 1e-9 to 1e9 in steps of 15 %.
ABSOLUTE_EDGES = (0.0, *_STEPS[-144, 145])
#: Of differences of latency: 0.01 ms to 100 s in steps of 15 %, either way, and 0 between them.
LATENCY_EDGES = (*(-edge for edge in reversed(_STEPS[-32, 81])), 0.0, *_STEPS[-32, 81])


class Differences(Value):
    """Paired differences of one number.

    :param count: pairs in which both sides gave a finite number.
    :param total: sum of the differences; ``absolute`` of their sizes, ``squares`` of their squares.
    :param quantiles: at :data:`QUANTILES`; empty without pairs. Of scores: of the size of the difference. Of latencies:
        of the difference itself, which is negative where the shadow was faster.
    :param histogram: of the same as ``quantiles``.
    """

    count: int = Field(default=0, ge=0)
    total: float = 0.0
    absolute: float = Field(default=0.0, ge=0)
    squares: float = Field(default=0.0, ge=0)
    quantiles: tuple[float, ...] = ()
    histogram: Timed = Timed()

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    @property
    def mean_absolute(self) -> float | None:
        return self.absolute / self.count if self.count else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the differences."""
        return math.sqrt(self.as_mean().moments.variance) if self.count else None

    def quantile(self, q: float) -> float | None:
        """One of :data:`QUANTILES`."""
        return self.quantiles[QUANTILES.index(q)] if self.quantiles else None

    def as_mean(self, *, bound: float | None = None, absolute: bool = False) -> Summed:
        """What the interval of the mean is computed from.

        :param bound: what no difference can exceed in size: 1 for probabilities.
        :param absolute: of the size of the differences.
        """
        return Summed(
            count=self.count,
            total=self.absolute if absolute else self.total,
            squares=self.squares,
            lower=None if bound is None else 0.0 if absolute else -bound,
            upper=bound,
        )


class OutputDifference(Value):
    """One output of a model that gives several: its name or place, and by how much the two sides differ."""

    output: str
    count: int = Field(ge=0)
    mean_absolute: float


class Log(Value):
    """What one side's prediction log holds of the window.

    :param answers: requests that the release answered.
    :param requests: requests of which it logged anything, errors included.
    :param repeated: records beyond the first of an id. The first answer counts.
    :param unnamed: records without a request id, which pair with nothing.
    :param torn: lines that are no record: cut off by a crash, or being written at this moment.
    :param not_finite: pairs in which this side's score is no finite number while the other side's is one.
    """

    answers: int = 0
    requests: int = 0
    repeated: int = 0
    unnamed: int = 0
    torn: int = 0
    not_finite: int = 0


class ShadowComparison(Value):
    """Both releases' answers of one window.

    :param primary: the current release's id; ``since`` and ``until`` bound *its* records. A shadow's record belongs to
        the request that it answers, whatever its server's clock says.
    :param pairs: answered by both: one for each row of a request.
    :param missing: requests that the shadow answered and of which the current release logged nothing. Whether the
        shadow lacks any, only the data plane knows: it has a share of the requests.
    :param failed_shadow: requests that the current release answered and the shadow failed; ``failed_current`` the
        other way round, ``failed_both`` in both.
    :param flips: pairs with another answer. Of two classes: on the other side of one half; of more: another arg max; of
        numbers: farther apart than :data:`TOLERANCE`; of several outputs: any of them.
    :param inputs: distinct rows among those that make the pairs, ``flipped_inputs`` those of them whose first pair
        flipped. A user who repeats himself is one of them, however often he asks; a row of which nobody knows what was
        asked is another each time. ``None``: nobody has counted them.
    :param first_difference: ``difference`` of the first pair of each distinct input, ``first_scores`` their
        distributions; ``None`` where each pair is of an input of its own, or nobody has told them apart.
    :param probabilities: all scores are probabilities, so no difference exceeds 1.
    :param dropped_share: predictions lost by full log queues over all predictions; above a limit gates say
        ``inconclusive``.
    """

    primary: str
    shadow: str
    since: datetime
    until: datetime
    pairs: int = 0
    missing: int = 0
    failed_current: int = 0
    failed_shadow: int = 0
    failed_both: int = 0
    flips: int = 0
    inputs: int | None = None
    flipped_inputs: int = 0
    probabilities: bool = False
    difference: Differences = Differences()
    first_difference: Differences | None = None
    latency: Differences = Differences()
    outputs: tuple[OutputDifference, ...] = ()
    scores: ScoreDistributions | None = None
    first_scores: ScoreDistributions | None = None
    slices: tuple[SlicedColumn, ...] = ()
    current_log: Log = Log()
    shadow_log: Log = Log()
    dropped_share: float = 0.0

    @property
    def flip_rate(self) -> float | None:
        return self.flips / self.pairs if self.pairs else None

    @property
    def agreement(self) -> float | None:
        """Share of pairs with the same answer."""
        return 1.0 - self.flips / self.pairs if self.pairs else None

    @property
    def mean_absolute_difference(self) -> float | None:
        return self.difference.mean_absolute

    @property
    def flipped(self) -> Counted:
        """What the interval of the flip rate is computed from: distinct inputs, which flip independently."""
        if self.inputs is None:
            return Counted(events=self.flips, trials=self.pairs)
        return Counted(events=self.flipped_inputs, trials=self.inputs)

    @property
    def bound(self) -> float | None:
        """What no difference of scores can exceed."""
        return 1.0 if self.probabilities else None


def histogram(edges: tuple[float, ...], counts: Iterable[tuple[float, int]]) -> Timed:
    """Counts by upper edge as buckets; what lies beyond the last edge is counted under infinity."""
    floor = 2.0 * edges[0] if edges[0] < 0 else math.nextafter(edges[0], -math.inf)
    below = (floor, *edges)
    ordered = sorted((edge, count) for edge, count in counts if count)
    return Timed(buckets=tuple((below[bisect_left(edges, edge)], edge, count) for edge, count in ordered))
