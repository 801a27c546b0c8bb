"""Measured facts. A bare float never reaches a gate: it comes with count, window and source."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from airflow_provider_mlpipex.domain.statistics.same_rows import Paired
from airflow_provider_mlpipex.domain.statistics.summaries import Summary, Timed
from airflow_provider_mlpipex.domain.values import Recorded, Value

Source = Literal[
    "evaluation",
    "baseline",
    "shadow",
    "canary",
    "serving",
    "drift",
    "quality",
    "parity",
    "provenance",
    "outcomes",
    "prometheus",
]


class Evidence(Recorded):
    """One measured number.

    :param source: who measured it (first part of a gate's ``metric``).
    :param metric: what was measured (``accuracy``, ``latency_p95``), in the unit of :data:`UNITS`.
    :param value: the candidate's value; ``None`` where nothing was measured.
    :param baseline: the current release's value of the same metric over the same rows or the same minutes.
    :param samples: observations behind ``value``; ``baseline_samples`` those behind ``baseline``.
    :param since: start of the window, with ``until`` its end, both UTC.
    :param broken: why the measurement could not be made; a broken measurement is a verdict ``error``.
    :param baseline_broken: why that of the current release could not; a gate that compares with it is an ``error``.
    :param about: what the value is of, where that is only a part: ``carrier = AA``.
    :param summary: what ``value`` was computed from, ``baseline_summary`` what ``baseline`` was. Without it evidence
        cannot be judged at an alpha, nor again under another gate.
    :param paired: of two models that answered the same rows: what their difference is known to.
    """

    added_later = frozenset({"summary", "baseline_summary", "about", "baseline_broken", "paired"})

    source: Source
    metric: str
    value: float | None = None
    baseline: float | None = None
    samples: int = Field(default=0, ge=0)
    baseline_samples: int = Field(default=0, ge=0)
    since: datetime
    until: datetime
    broken: str | None = None
    baseline_broken: str | None = None
    about: str | None = None
    summary: Summary | None = None
    baseline_summary: Summary | None = None
    paired: Paired | None = None

    @property
    def key(self) -> str:
        return f"{self.source}.{self.metric}"


class LatencyHistogram(Value):
    """Counts in buckets of upper bound ``bounds_ms[i]`` (milliseconds, rising); the last bucket is unbounded."""

    bounds_ms: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """The ``q``-quantile in milliseconds, interpolated inside its bucket; ``None`` without observations."""
        total = self.total
        if total == 0:
            return None
        rank, below, lower = q * total, 0, 0.0
        for bound, count in zip((*self.bounds_ms, self.bounds_ms[-1]), self.counts, strict=True):
            if count and below + count >= rank:
                return lower + (bound - lower) * max(0.0, rank - below) / count
            below, lower = below + count, bound
        return lower

    @property
    def filled(self) -> Timed:
        """The same without empty buckets, as evidence keeps it."""
        ends = (0.0, *self.bounds_ms, None)
        filled = [(ends[at] or 0.0, ends[at + 1], count) for at, count in enumerate(self.counts) if count]
        return Timed(buckets=tuple(filled))


class ReleaseTelemetry(Value):
    """What the data plane saw one release do in a window. Mirrored attempts count for the shadow release only."""

    release: str
    requests: int = 0
    errors: int = Field(default=0, description="attempts ended by 5xx, reset, timeout, refusal, or a model that raised")
    client_errors: int = Field(default=0, description="any other 4xx: the caller's fault, never the release's")
    unfinished: int = Field(
        default=0,
        description="attempts that nobody waited for to the end: the client hung up, or another release was faster. "
        "They are no requests and no errors",
    )
    latency: LatencyHistogram

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.requests if self.requests else None


#: (failed, answered) requests of each group of users.
Groups = tuple[tuple[int, int], ...]


class Split(Recorded):
    """Who was sent to which release since the plan in force split the requests as it does.

    :param weights: planned, by release; of their sum each has its share.
    :param units: by release: users where requests say whose they are, which stay where they were sent, and every
        request that does not. Each is counted once, by its first request.
    :param users: how many of the units are users.
    :param groups: by release: what became of the requests of users, by groups that users are put into by a hash.
        ``None`` where no request says whose it is, or nobody counts.
    """

    added_later = frozenset({"groups"})

    since: datetime
    weights: dict[str, int]
    units: dict[str, int]
    users: int = 0
    groups: dict[str, Groups] | None = None


class Telemetry(Recorded):
    """One endpoint over one window. ``complete`` is false where the log was cut, dropped or not yet read.

    :param split: of the plan in force, whatever the window is; ``None`` where it does not split, or nobody counts.
    """

    added_later = frozenset({"split"})

    endpoint: str
    since: datetime
    until: datetime
    releases: dict[str, ReleaseTelemetry]
    complete: bool = True
    detail: str = ""
    split: Split | None = None

    def of(self, release: str) -> ReleaseTelemetry | None:
        return self.releases.get(release)
