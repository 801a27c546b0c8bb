"""Evidence from answers to the same requests: what a shadow's gates judge beside its errors and latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.metrics import PAIRED
from airflow_provider_mlpipex.domain.shadow.comparison import Differences, ShadowComparison
from airflow_provider_mlpipex.domain.shadow.slices import worst_flip_rate
from airflow_provider_mlpipex.domain.statistics.paired_summaries import Apart, DistanceName, Worst
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summary, Summed


class _Measured(NamedTuple):
    value: float | None
    samples: int
    summary: Summary | None = None
    about: str | None = None


def from_comparison(comparison: ShadowComparison, *, mirrored: int, lossy: bool) -> Iterator[Evidence]:
    """Every paired metric.

    :param mirrored: requests that the data plane has sent to the shadow in the window, whatever became of them.
    :param lossy: too many predictions were lost for the others to say anything.
    """
    measured = {**_of_pairs(comparison), **_of_sides(comparison, mirrored), **_of_distributions(comparison)}
    for metric in PAIRED:
        # Too lossy to judge is *inconclusive*: no value, rather than a value from what happened to survive.
        known = _Measured(None, 0) if lossy else measured[metric]
        yield Evidence(
            source="shadow",
            metric=metric,
            **known._asdict(),
            since=comparison.since,
            until=comparison.until,
        )


def _of_pairs(comparison: ShadowComparison) -> Mapping[str, _Measured]:
    pairs, difference = comparison.pairs, comparison.difference
    bound, scored = comparison.bound, difference.count
    flipped = comparison.flipped
    agreeing = Counted(events=flipped.trials - flipped.events, trials=flipped.trials)
    # Of what users got every pair counts; how well that is known, distinct inputs say.
    about = _distinct(comparison)
    # What their differences are is known from distinct inputs as well.
    first = comparison.first_difference or difference
    signed, absolute = first.as_mean(bound=bound), first.as_mean(bound=bound, absolute=True)
    return {
        "pairs": _Measured(float(pairs), pairs),
        "agreement": _Measured(comparison.agreement, pairs, agreeing, about),
        "flip_rate": _Measured(comparison.flip_rate, pairs, flipped, about),
        "worst_slice_flip_rate": _worst_slice(comparison),
        "mean_difference": _mean(difference.mean, scored, signed, about),
        "mean_absolute_difference": _mean(difference.mean_absolute, scored, absolute, about),
        "p95_difference": _p95(difference, first, about),
        "latency_difference_p95": _p95(comparison.latency, comparison.latency),
    }


def _distinct(comparison: ShadowComparison) -> str | None:
    """How many distinct inputs there were, where that is not how many pairs."""
    trials = comparison.flipped.trials
    return None if trials == comparison.pairs else f"{trials} distinct inputs"


def _mean(value: float | None, scored: int, known_by: Summed, about: str | None) -> _Measured:
    return _Measured(value, scored, known_by, about) if known_by.count else _Measured(None, 0)


def _p95(differences: Differences, known_by: Differences, about: str | None = None) -> _Measured:
    """:param known_by: those that say how well it is known."""
    if not known_by.count:
        return _Measured(None, 0)
    return _Measured(differences.quantile(0.95), differences.count, known_by.histogram, about)


def _worst_slice(comparison: ShadowComparison) -> _Measured:
    """The flip rate of the slice of which the highest is certain. The highest that was seen would be chance at work."""
    worst = worst_flip_rate(comparison.slices)
    if worst is None:
        return _Measured(None, 0)
    name, part = worst
    columns = comparison.slices
    counted = [(each.flipped, column.share(len(columns))) for column in columns for each in column.slices]
    parts = [(flipped.events, flipped.trials, share) for flipped, share in counted]
    distinct = "" if part.flipped.trials == part.pairs else f" of {part.flipped.trials} distinct inputs"
    about = f"{name} = {'(none)' if part.value is None else part.value}, {part.pairs} pairs{distinct},"
    return _Measured(part.flips / part.pairs, comparison.pairs, Worst(parts=tuple(parts)), about)


def _of_sides(comparison: ShadowComparison, mirrored: int) -> Mapping[str, _Measured]:
    """What only one side has. A request that the current release failed and the shadow answered is not held against
    the shadow; it makes no pair either."""
    log = comparison.shadow_log
    judged = comparison.pairs + comparison.failed_shadow
    # Telemetry knows attempts, the log requests: an id that was used twice, or none, is an attempt of its own.
    logged = log.requests + log.repeated + log.unnamed
    missing = comparison.missing + max(0, mirrored - logged)
    sent = max(mirrored, logged, missing)
    return {
        "one_sided_errors": _Measured(float(comparison.failed_shadow), judged),
        "missing_share": _Measured(
            missing / sent if sent else None, sent, Counted(events=missing, trials=sent) if sent else None
        ),
    }


def _of_distributions(comparison: ShadowComparison) -> Mapping[str, _Measured]:
    scores, names = comparison.scores, ("psi", "ks", "js")
    if scores is None:
        return dict.fromkeys(names, _Measured(None, 0))
    first, about = comparison.first_scores or scores, _distinct(comparison)
    distances: dict[DistanceName, float] = {"psi": scores.psi, "ks": scores.ks, "js": scores.js}
    return {
        name: _Measured(
            value,
            comparison.pairs,
            # Cumulative shares are of numbers alone: what is none stands last, in a group of its own.
            Apart(distance=name, first=first.current[:-1], second=first.shadow[:-1])
            if name == "ks"
            else Apart(distance=name, first=first.current, second=first.shadow),
            about,
        )
        for name, value in distances.items()
    }
