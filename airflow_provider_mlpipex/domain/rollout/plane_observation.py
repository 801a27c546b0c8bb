"""What a serving plane reports back: the plan in force and the health of the releases behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from airflow_provider_mlpipex.domain.gates.evidence import LatencyHistogram, ReleaseTelemetry, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value

ReleaseState = Literal["building", "starting", "ready", "failed", "stopped"]


class ReleaseStatus(Value):
    """One release on the plane. ``restarts`` counts deaths since it was first ready; ``detail`` says why it failed."""

    release: str
    state: ReleaseState
    restarts: int = 0
    detail: str = ""


class AppliedPlan(Value):
    """A plan seen in force. ``acknowledged_ms``: from the request to the data plane's own confirmation.

    ``ledger_disputed``: it came from a ledger that is not the one whose head the plane has noted, and was taken because
    it returns traffic to a release that the plane itself knows as good.
    """

    plan: TrafficPlan
    applied_at: datetime
    acknowledged_ms: float
    ledger_disputed: bool = False


class PlaneObservation(Value):
    """An endpoint as the plane sees it.

    ``address`` is where clients call it; ``lease_expired_at`` is set once the plane took traffic back by itself.
    """

    endpoint: EndpointRef
    address: str = ""
    plan: TrafficPlan | None = None
    releases: dict[str, ReleaseStatus] = {}
    known: dict[str, Release] = {}
    lease_expired_at: datetime | None = None
    dropped_predictions: int = 0


@dataclass(frozen=True)
class Surveyed:
    """What a survey asks of one endpoint.

    :param release: whose attempts to count. :param since: where each window begins; none where only the plan is asked.
    """

    endpoint: EndpointRef
    release: str = ""
    since: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class PlaneSurvey:
    """Many endpoints at one moment. A dataclass, because a fleet's answer is read every few seconds.

    :param plans: id of the plan in force; ``None`` where there is none.
    :param telemetry: of each endpoint that was asked for windows, one for each of them, in order. It is of one release
        and does not say how requests are split.
    :param warm: releases that are kept running, and whether each takes requests; ``None`` where nobody asked for it,
        and from a plane of before it said so.
    """

    plans: dict[EndpointRef, str | None]
    telemetry: dict[EndpointRef, tuple[Telemetry, ...]]
    warm: dict[EndpointRef, dict[str, bool]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Without the empty buckets of its histograms, whose bounds are written once: of a thousand endpoints that is a
        fiftieth."""
        bounds = next((side.latency.bounds_ms for window in self._windows() for side in window.releases.values()), ())
        return {
            "plans": {str(endpoint): plan for endpoint, plan in self.plans.items()},
            "warm": None if self.warm is None else {str(endpoint): each for endpoint, each in self.warm.items()},
            "bounds_ms": list(bounds),
            "telemetry": {
                str(endpoint): [_window_to_json(window) for window in windows]
                for endpoint, windows in self.telemetry.items()
            },
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> PlaneSurvey:
        """:raises ValueError: it is no survey."""
        try:
            bounds, warm = tuple(raw["bounds_ms"]), raw.get("warm")
            return cls(
                plans={EndpointRef.parse(endpoint): plan for endpoint, plan in raw["plans"].items()},
                telemetry={
                    EndpointRef.parse(endpoint): tuple(
                        _window_from_json(endpoint, window, bounds) for window in windows
                    )
                    for endpoint, windows in raw["telemetry"].items()
                },
                warm=None if warm is None else {EndpointRef.parse(each): dict(kept) for each, kept in warm.items()},
            )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"no survey: {error!r}") from None

    def _windows(self) -> Iterator[Telemetry]:
        for windows in self.telemetry.values():
            yield from windows


def _window_to_json(window: Telemetry) -> dict[str, Any]:
    sides = {
        release: [
            side.requests,
            side.errors,
            side.client_errors,
            side.unfinished,
            [[at, count] for at, count in enumerate(side.latency.counts) if count],
        ]
        for release, side in window.releases.items()
    }
    ends = [window.since.isoformat(), window.until.isoformat()]
    return {"window": ends, "releases": sides, "trouble": None if window.complete else window.detail}


def _window_from_json(endpoint: str, raw: dict[str, Any], bounds: tuple[float, ...]) -> Telemetry:
    since, until = (datetime.fromisoformat(end) for end in raw["window"])
    releases = {}
    for release, (requests, errors, client_errors, unfinished, latency) in raw["releases"].items():
        counts = [0] * (len(bounds) + 1)
        for at, count in latency:
            counts[at] = count
        releases[release] = ReleaseTelemetry(
            release=release,
            requests=requests,
            errors=errors,
            client_errors=client_errors,
            unfinished=unfinished,
            latency=LatencyHistogram(bounds_ms=bounds, counts=tuple(counts)),
        )
    trouble = raw["trouble"]
    return Telemetry(
        endpoint=endpoint,
        since=since,
        until=until,
        releases=releases,
        complete=trouble is None,
        detail=trouble or "",
    )
