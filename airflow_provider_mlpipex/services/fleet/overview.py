"""Every endpoint in one look: two questions to the ledger and the plane, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.gates.evidence import ReleaseTelemetry, Telemetry
from airflow_provider_mlpipex.domain.rollout.endpoint_hold import held_sentence
from airflow_provider_mlpipex.domain.rollout.plane_observation import PlaneObservation, PlaneSurvey, Surveyed
from airflow_provider_mlpipex.domain.rollout.readiness import OnPlane, Readiness, readiness
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.rollout.summary import EndpointSummary
from airflow_provider_mlpipex.services.platform import Platform

#: Over which what serves is counted.
WINDOW = timedelta(minutes=5)
HealthState = Literal["ok", "unhealthy", "unmeasured", "quiet", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One endpoint, by ledger and plane.

    :param served: of *current* in the last :data:`WINDOW`; ``None`` where nobody could count.
    :param attention: what a person should look at, the worst first.
    """

    summary: EndpointSummary
    plane: OnPlane
    served: ReleaseTelemetry | None
    health: HealthState
    health_cause: str | None
    readiness: Readiness
    attention: tuple[str, ...]

    @property
    def is_diverged(self) -> bool:
        """Whether the plane serves another plan than the one that the ledger has as confirmed."""
        planned = self.summary.planned
        return (
            not self.plane.trouble and self.summary.confirmed and planned is not None and planned.id != self.plane.plan
        )

    @property
    def rank(self) -> tuple[int, ...]:
        """The smaller, the worse."""
        lamps = {"red": 0, "amber": 1, "green": 2, "none": 2}
        health = {"unhealthy": 0, "unmeasured": 1, "ok": 2, "quiet": 2, "nothing": 3}
        return (_URGENCY[self._worst], health[self.health], lamps[self.readiness.lamp], -len(self.attention))

    @property
    def _worst(self) -> str:
        summary = self.summary
        if summary.rollback is not None or self.is_diverged:
            return "traffic"
        if summary.incident is not None:
            return "unhealthy"
        if summary.doubt is not None or (summary.rollout is not None and summary.rollout.hold is not None):
            return "decision"
        if summary.owed_alerts:
            return "unheard"
        return "held" if summary.held_back else "moving" if summary.rollout else "calm"


_URGENCY = {"traffic": 0, "unhealthy": 1, "decision": 2, "unheard": 3, "held": 4, "moving": 5, "calm": 6}


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """:param trouble: why the plane could not be asked; empty where it could."""

    endpoints: tuple[Overview, ...]
    at: datetime
    trouble: str


def overview(platform: Platform) -> Fleet:
    """All endpoints, sorted by name.

    :raises LedgerUnavailable: nothing is known then. A plane that is away is an ordinary state.
    """
    now = platform.clock.now()
    summaries = platform.ledger.summaries()
    survey, trouble = _survey(platform, summaries, now)
    return Fleet(
        endpoints=tuple(_overview(summary, survey, trouble, now) for summary in summaries), at=now, trouble=trouble
    )


def _survey(platform: Platform, summaries: Sequence[EndpointSummary], now: datetime) -> tuple[PlaneSurvey, str]:
    asked = [
        Surveyed(each.endpoint, each.current.id if each.current else "", (now - WINDOW,) if each.current else ())
        for each in summaries
        if each.planned is not None
    ]
    try:
        if not asked:
            platform.plane.heads()  # of nothing a plane is not asked, and nobody knows whether it answers
        return platform.plane.survey(asked, until=now, warm=True), ""
    except MlpipexError as error:
        return PlaneSurvey(plans={}, telemetry={}), _shortly(error)


def _shortly(error: MlpipexError) -> str:
    return ": ".join(str(part) for part in (error.thing, error.value) if part)


def _overview(
    summary: EndpointSummary,
    survey: PlaneSurvey,
    trouble: str,
    now: datetime,
    on_plane: PlaneObservation | None = None,
) -> Overview:
    endpoint = summary.endpoint
    plane = OnPlane(
        trouble=trouble,
        plan=survey.plans.get(endpoint),
        warm=None if survey.warm is None else survey.warm.get(endpoint, {}),
        details={name: each.detail for name, each in on_plane.releases.items() if each.detail} if on_plane else {},
    )
    window = next(iter(survey.telemetry.get(endpoint, ())), None)
    served = window.of(summary.current.id) if window and summary.current else None
    health, cause = _health(summary, window, served, trouble)
    ready = readiness(summary, plane, now=now)
    line = Overview(
        summary=summary,
        plane=plane,
        served=served,
        health=health,
        health_cause=cause,
        readiness=ready,
        attention=(),
    )
    return replace(line, attention=attention(line))


def _health(
    summary: EndpointSummary, window: Telemetry | None, served: ReleaseTelemetry | None, trouble: str
) -> tuple[HealthState, str | None]:
    if summary.current is None:
        return "nothing", None
    if summary.incident is not None:
        return "unhealthy", summary.incident.cause
    if trouble:
        return "unmeasured", trouble
    if window is None or not window.complete:
        return "unmeasured", window.detail if window else "the plane counted nothing"
    if served is None or not served.requests:
        return "quiet", None
    return "ok", None


def attention(line: Overview) -> tuple[str, ...]:
    """Sentences for a person, the worst first."""
    summary, said = line.summary, []
    if summary.rollback is not None:
        said.append(f"rollback to {summary.rollback.to_release} is decided and not in force")
    if line.is_diverged:
        said.append("the plane serves another plan than the ledger's")
    if summary.incident is not None:
        said.append(f"unhealthy since {summary.incident.since:%Y-%m-%d %H:%M} UTC: {summary.incident.cause}")
    if summary.doubt is not None:
        said.append(f"promotion reopened by late labels: {summary.doubt.cause}")
    if summary.rollout is not None and summary.rollout.hold is not None:
        said.append(f"rollout on hold, a person decides: {summary.rollout.hold.cause}")
    if summary.owed_alerts:
        said.append(f"an alert has reached nobody yet: {summary.owed_alerts[-1].title}")
    if summary.held_back is not None:
        said.append(held_sentence(summary.held_back))
    if line.readiness.lamp == "red" and line.readiness.reason:
        said.append(f"a rollback would not work now: {line.readiness.reason}")
    return tuple(said)


def endpoint_overview(
    platform: Platform, state: EndpointState, *, on_plane: PlaneObservation | None = None
) -> Overview:
    """One endpoint, as :func:`overview` has it.

    :param on_plane: what the plane says of its releases; then readiness is judged by it.
    """
    now, summary = platform.clock.now(), EndpointSummary.of(state)
    survey, trouble = _survey(platform, [summary], now)
    if on_plane is not None:
        warm = {name: status.state == "ready" for name, status in on_plane.releases.items()}
        survey = replace(survey, warm={state.endpoint: warm})
    return _overview(summary, survey, trouble, now, on_plane)
