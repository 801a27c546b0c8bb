"""What each release was asked and how it answered over time, and what the rollout did meanwhile, on one axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from airflow_provider_mlpipex.domain.errors import MlpipexError, RequestInvalid
from airflow_provider_mlpipex.domain.gates.evidence import LatencyHistogram, ReleaseTelemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry
from airflow_provider_mlpipex.domain.rollout.plane_observation import Surveyed
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

#: Of one series: the plane answers so many windows at once.
MAX_POINTS = 96
#: That a series may reach back.
MAX_SPAN = timedelta(days=31)
#: Events that are marked on the axis, the newest of them.
MAX_EVENTS = 100
MARKED = (
    "rollout-opened",
    "shadow-started",
    "canary-stepped",
    "promoted",
    "rollback-decided",
    "rolled-back",
    "rollout-rejected",
    "rollout-held",
    "rollout-resumed",
    "watch-passed",
    "endpoint-unhealthy",
    "endpoint-recovered",
    "fault-injected",
    "fault-removed",
)
Role = Literal["current", "previous", "candidate", "other"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Of one step that begins ``at``. :param complete: whether everything was counted that came."""

    at: datetime
    served: ReleaseTelemetry
    complete: bool


@dataclass(frozen=True, kw_only=True)
class ReleaseSeries:
    release: str
    role: Role
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Series:
    """:param detail: why it is not ``complete``."""

    since: datetime
    until: datetime
    step: timedelta
    releases: tuple[ReleaseSeries, ...]
    events: tuple[Entry, ...]
    complete: bool
    detail: str


def series(
    platform: Platform, endpoint: EndpointRef, *, since: datetime | None, until: datetime | None, points: int
) -> Series:
    """Of every release that the endpoint knows, in ``points`` equal steps. A plane that is away leaves no points.

    :param since: an hour before ``until`` if not given; ``until``: now.
    :raises RequestInvalid: a window that is none, or longer than :data:`MAX_SPAN`.
    """
    state = journal.load_known(platform, endpoint)
    end = min(until or platform.clock.now(), platform.clock.now())
    begin = since or end - timedelta(hours=1)
    if not timedelta(seconds=points) <= end - begin <= MAX_SPAN:
        raise RequestInvalid(
            "window",
            value=f"{begin.isoformat()} to {end.isoformat()}",
            limit=f"a past window of at least {points} s and at most {MAX_SPAN.days} days",
            remedy="ask for another one",
        )
    step = (end - begin) / points
    begins = tuple(begin + step * number for number in range(points))
    releases, trouble = [], ""
    for release, role in _roles(state).items():
        try:
            windows = platform.plane.survey([Surveyed(endpoint, release, begins)], until=end).telemetry[endpoint]
        except MlpipexError as error:
            trouble = str(error)
            continue
        # Each window reaches to the end, so a step is the difference of two.
        ends = [*(window.of(release) for window in windows[1:]), None]
        taken = [_less(window.of(release), later, release) for window, later in zip(windows, ends, strict=True)]
        trouble = trouble or next((window.detail for window in windows if not window.complete), "")
        releases.append(
            ReleaseSeries(
                release=release,
                role=role,
                points=tuple(
                    Point(at=at, served=served, complete=window.complete)
                    for at, served, window in zip(begins, taken, windows, strict=True)
                ),
            )
        )
    # A few types at once, each with its index: all of them together would be sifted from everything else.
    events = [
        entry
        for some in batched(MARKED, 4)
        for entry in platform.ledger.read(
            endpoint, since=begin, until=end, types=some, newest_first=True, limit=MAX_EVENTS
        )
    ]
    events.sort(key=lambda entry: entry.seq)
    return Series(
        since=begin,
        until=end,
        step=step,
        releases=tuple(releases),
        events=tuple(events[-MAX_EVENTS:]),
        complete=not trouble,
        detail=trouble,
    )


def batched(types: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """``types`` in pieces of ``size``."""
    for first in range(0, len(types), size):
        yield types[first : first + size]


def _roles(state: EndpointState) -> dict[str, Role]:
    candidate = state.rollout.candidate if state.rollout else None
    named: Iterable[tuple[Role, object]] = (
        ("current", state.current),
        ("previous", state.previous),
        ("candidate", candidate),
    )
    roles: dict[str, Role] = {}
    for role, release in named:
        if release is not None:
            roles.setdefault(release.id, role)  # type: ignore[attr-defined]
    for release_id in state.planned.releases if state.planned else ():
        roles.setdefault(release_id, "other")
    return roles


def _less(window: ReleaseTelemetry | None, later: ReleaseTelemetry | None, release: str) -> ReleaseTelemetry:
    """What lies in ``window`` and not in ``later``, which begins after it and ends with it."""
    if window is None:
        return ReleaseTelemetry(release=release, latency=LatencyHistogram(bounds_ms=(), counts=(0,)))
    if later is None:
        return window
    counts = window.latency.counts
    if later.latency.bounds_ms == window.latency.bounds_ms:
        counts = tuple(max(0, a - b) for a, b in zip(counts, later.latency.counts, strict=True))
    return ReleaseTelemetry(
        release=release,
        requests=max(0, window.requests - later.requests),
        errors=max(0, window.errors - later.errors),
        client_errors=max(0, window.client_errors - later.client_errors),
        unfinished=max(0, window.unfinished - later.unfinished),
        latency=LatencyHistogram(bounds_ms=window.latency.bounds_ms, counts=counts),
    )
