"""The paired comparison without a database: what the SQL over the prediction logs counts, in plain Python.

The fake plane compares with it, and tests hold the SQL against it.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_mlpipex.domain.shadow.comparison import (
    ABSOLUTE_EDGES,
    LATENCY_EDGES,
    QUANTILES,
    TOLERANCE,
    Differences,
    Log,
    OutputDifference,
    ShadowComparison,
    histogram,
)
from airflow_provider_mlpipex.domain.shadow.score_distributions import ScoreDistributions, compare_scores
from airflow_provider_mlpipex.domain.shadow.slices import MAX_VALUE_LENGTH, MAX_VALUES, MIN_PAIRS, Slice, SlicedColumn
from airflow_provider_mlpipex.serving.prediction_log.comparison import SETTLE_S, SLACK_S
from airflow_provider_mlpipex.serving.prediction_log.outputs import Described, describe


@dataclass(frozen=True)
class Answer:
    """One record of a prediction log.

    :param row: of a request with several: only the first, 0, counts as the request itself.
    """

    at: datetime
    output: Described
    status: int = 200
    row: int = 0
    latency_ms: float = 10.0
    inputs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def to(cls, at: datetime, output: Any, **said: Any) -> Answer:
        return cls(at, describe(output), **said)


#: Request id (``id#1`` for a second row) -> its records, in the order that they were logged in.
Answers = Mapping[str, Sequence[Answer]]


def compare_answers(
    ours: Answers, theirs: Answers, /, *, since: datetime, until: datetime, slices: Sequence[str] = (), **known: Any
) -> ShadowComparison:
    """:param ours: of the current release, ``theirs`` of the shadow.
    :param known: the fields of the comparison that answers do not tell: whose they are, what was lost.
    """
    slack, settle = timedelta(seconds=SLACK_S), timedelta(seconds=SETTLE_S)
    current, shadow = (_first(side, since - slack, until + slack) for side in (ours, theirs))
    joined = [(current.get(rid), answer) for rid, answer in shadow.items()]
    known_to_both = [(left, right) for left, right in joined if left is not None and since <= left.at <= until]
    alone = [right for left, right in joined if left is None and since <= right.at <= until - settle]
    both = [(left, right) for left, right in known_to_both if left.status == right.status == 200]
    scores = [(left.output.score, right.output.score) for left, right in both]
    firsts = _firsts(both)
    first_scores = [(left.output.score, right.output.score) for left, right in firsts]
    whole = Counter((left.status == 200, right.status == 200) for left, right in known_to_both if not right.row)
    logs = []
    for records, kept, missing in ((ours, current, 0), (theirs, shadow, 1)):
        inside = [answer for answer in kept.values() if not answer.row and since <= answer.at <= until]
        read = [answer for some in records.values() for answer in some if since - slack <= answer.at <= until + slack]
        logs.append(
            Log(
                answers=sum(answer.status == 200 for answer in inside),
                requests=len(inside),
                repeated=len(read) - len(kept) - _unnamed(records, since - slack, until + slack),
                unnamed=_unnamed(records, since - slack, until + slack),
                not_finite=sum(pair[missing] is None and pair[1 - missing] is not None for pair in scores),
            )
        )
    return ShadowComparison(
        since=since,
        until=until,
        pairs=len(both),
        missing=sum(right.status == 200 and not right.row for right in alone),
        failed_current=whole[False, True],
        failed_shadow=whole[True, False],
        failed_both=whole[False, False],
        flips=sum(_flipped(left.output, right.output) for left, right in both),
        inputs=len(firsts),
        flipped_inputs=sum(_flipped(left.output, right.output) for left, right in firsts),
        probabilities=bool(both) and all(side.output.kind == "probability" for pair in both for side in pair),
        difference=_of_scores(scores),
        first_difference=_of_scores(first_scores) if len(firsts) < len(both) else None,
        latency=_differences([right.latency_ms - left.latency_ms for left, right in both], LATENCY_EDGES, float),
        outputs=_outputs(both),
        scores=_distributions(scores),
        first_scores=_distributions(first_scores) if len(firsts) < len(both) and firsts else None,
        slices=tuple(_sliced(column, both) for column in slices),
        current_log=logs[0],
        shadow_log=logs[1],
        **known,
    )


def _first(records: Answers, first: datetime, last: datetime) -> dict[str, Answer]:
    """The first answer to each id; where there is none, the first error."""
    read = {rid: [answer for answer in some if first <= answer.at <= last] for rid, some in records.items() if rid}
    return {rid: min(some, key=lambda answer: (answer.status != 200, answer.at)) for rid, some in read.items() if some}


_Scores = Sequence[tuple[float | None, float | None]]


def _of_scores(scores: _Scores) -> Differences:
    return _differences([b - a for a, b in scores if a is not None and b is not None], ABSOLUTE_EDGES, abs)


def _distributions(scores: _Scores) -> ScoreDistributions | None:
    return compare_scores(*(_numbers(pair[side] for pair in scores) for side in (0, 1)))


def _firsts(both: Iterable[tuple[Answer, Answer]]) -> list[tuple[Answer, Answer]]:
    """The first pair of each distinct row. A row of which nobody knows what was asked is one alone."""
    rows: dict[Any, list[tuple[Answer, Answer]]] = defaultdict(list)
    for place, (left, right) in enumerate(both):
        rows[tuple((name, repr(value)) for name, value in left.inputs.items()) or place].append((left, right))
    return [min(pairs, key=_asked) for pairs in rows.values()]


def _asked(pair: tuple[Answer, Answer]) -> tuple[datetime, bool, float, float]:
    """Of pairs that were asked at one moment any would do, and it is the same one each time."""
    left, right = pair
    old, new = left.output.score, right.output.score
    apart = math.inf if old is None or new is None else new - old
    return left.at, _flipped(left.output, right.output), apart, old or 0.0


def _unnamed(records: Answers, first: datetime, last: datetime) -> int:
    return sum(first <= answer.at <= last for answer in records.get("", ()))


def _flipped(left: Described, right: Described) -> bool:
    if left.label == right.label:
        return False
    if left.kind == right.kind == "number":
        return not _close(left.score, right.score)
    if left.kind == right.kind == "numbers" and len(left.outputs or ()) == len(right.outputs or ()):
        return not all(map(_close, left.outputs or (), right.outputs or ()))
    return True


def _close(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return False
    return abs(left - right) <= TOLERANCE * max(abs(left), abs(right), 1e-12)


def _differences(values: list[float], edges: tuple[float, ...], counted: Callable[[float], float]) -> Differences:
    if not values:
        return Differences()
    ordered = sorted(map(counted, values))
    beyond = (*edges, math.inf)
    return Differences(
        count=len(values),
        total=math.fsum(values),
        absolute=math.fsum(map(abs, values)),
        squares=math.fsum(value**2 for value in values),
        quantiles=tuple(_quantile(ordered, q) for q in QUANTILES),
        histogram=histogram(edges, Counter(beyond[bisect_left(edges, value)] for value in ordered).items()),
    )


def _numbers(scores: Iterable[float | None]) -> list[float]:
    return [math.nan if score is None else score for score in scores]


def _quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    below = ordered[math.floor(place)]
    return below + (ordered[math.ceil(place)] - below) * (place - math.floor(place))


def _outputs(both: Iterable[tuple[Answer, Answer]]) -> tuple[OutputDifference, ...]:
    apart: dict[int, list[float]] = defaultdict(list)
    names: Sequence[str] = ()
    for left, right in both:
        ours, theirs = left.output.outputs or [], right.output.outputs or []
        labels = json.loads(left.output.label) if ours and not names else []
        names = list(labels) if isinstance(labels, dict) else names
        for place, (a, b) in enumerate(zip(ours, theirs, strict=False)):
            if a is not None and b is not None:
                apart[place].append(abs(b - a))
    return tuple(
        OutputDifference(
            output=names[place] if names else str(place),
            count=len(values),
            mean_absolute=math.fsum(values) / len(values),
        )
        for place, values in sorted(apart.items())
    )


def _sliced(column: str, both: Iterable[tuple[Answer, Answer]]) -> SlicedColumn:
    parts: dict[str | None, list[tuple[Answer, Answer]]] = defaultdict(list)
    for left, right in both:
        parts[_text(left.inputs.get(column))].append((left, right))
    large = [_slice(value, pairs) for value, pairs in parts.items() if len(pairs) >= MIN_PAIRS]
    large.sort(key=lambda part: (-part.pairs, part.value is None, part.value or ""))
    shown = tuple(large[:MAX_VALUES])
    return SlicedColumn(
        column=column,
        slices=shown,
        large_enough=len(large),
        values=len(parts),
        others=sum(map(len, parts.values())) - sum(part.pairs for part in shown),
    )


def _slice(value: str | None, pairs: list[tuple[Answer, Answer]]) -> Slice:
    scores = [(left.output.score, right.output.score) for left, right in pairs]
    apart = [b - a for a, b in scores if a is not None and b is not None]
    return Slice(
        value=value,
        pairs=len(pairs),
        flips=sum(_flipped(left.output, right.output) for left, right in pairs),
        inputs=len(firsts := _firsts(pairs)),
        flipped_inputs=sum(_flipped(left.output, right.output) for left, right in firsts),
        count=len(apart),
        total=math.fsum(apart),
        squares=math.fsum(value**2 for value in apart),
    )


def _text(value: Any) -> str | None:
    """As DuckDB reads a JSON value as text."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)[:MAX_VALUE_LENGTH]
