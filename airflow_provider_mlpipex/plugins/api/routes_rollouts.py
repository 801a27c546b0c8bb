"""Rollouts: their stages, what each gate says, and what was served meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from airflow_provider_mlpipex.domain.errors import RequestInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Entry, GatesJudged, ReviewDecided
from airflow_provider_mlpipex.plugins.api import answers, ledger_answers, responses
from airflow_provider_mlpipex.plugins.api import responses_rollouts as shapes
from airflow_provider_mlpipex.plugins.api.access import Acting
from airflow_provider_mlpipex.plugins.api.recent import Recent
from airflow_provider_mlpipex.plugins.api.routes_endpoint import Endpoint
from airflow_provider_mlpipex.plugins.api.settings import connection_id
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet import rollouts, series
from airflow_provider_mlpipex.services.platform import Platform

router = APIRouter(tags=["rollouts"])
#: The stage under way is judged anew every few seconds; a series of looks judges a dozen moments of it.
views: Recent[rollouts.RolloutView] = Recent(5.0)
series_of_looks: Recent[tuple[rollouts.GateLook, ...]] = Recent(30.0)
_HERE = "/endpoints/{environment}/{name}"
#: Run ids hold "+", ":" and "/": they travel in the query, never in the path.
Id = Annotated[str, Query(min_length=1, max_length=500)]
Limit = Annotated[int, Query(ge=1, le=100)]
Before = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


def moment(text: str, field: str) -> datetime:
    """:raises RequestInvalid: no ISO 8601 time. One without a zone is UTC."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise RequestInvalid(
            f"address, field {field}", value=text[:80], limit="an ISO 8601 time", remedy="2026-03-01T12:00:00Z"
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def window(
    since: Annotated[str, Query(max_length=40)] = "", until: Annotated[str, Query(max_length=40)] = ""
) -> tuple[datetime | None, datetime | None]:
    """A window; ``None`` where nothing is said of an end."""
    return (moment(since, "since") if since else None, moment(until, "until") if until else None)


Window = Annotated[tuple[datetime | None, datetime | None], Depends(window)]


@router.get("/rollouts", response_model=shapes.RolloutNames)
def get_rollouts_of_run(
    request: Request,
    platform: Acting,
    dag: Annotated[str, Query(max_length=250)],
    run: Annotated[str, Query(min_length=1, max_length=250)],
) -> Response:
    """What one Dag run has released, and where."""
    opened = rollouts.of_run(platform, dag_id=dag, run_id=run)
    names = [shapes.RolloutName(endpoint=str(endpoint), id=rollout_id) for endpoint, rollout_id in opened]
    return answers.answer(request, shapes.RolloutNames(items=names))


@router.get(f"{_HERE}/rollouts", response_model=shapes.RolloutPage)
def get_rollouts(
    request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 20, before: Before = None
) -> Response:
    """Rollouts, the newest first."""
    items = [
        ledger_answers.rollout_line(each) for each in rollouts.lines(platform, endpoint, limit=limit, before=before)
    ]
    page = shapes.RolloutPage(items=items, next=ledger_answers.following(items, limit))
    return answers.answer(request, page)


@router.get(f"{_HERE}/rollout", response_model=shapes.RolloutDetail)
def get_rollout(request: Request, platform: Acting, endpoint: Endpoint, id: Id) -> Response:
    """One rollout: stages, gates, and what changes by it. The stage under way is judged by what is measured now."""
    view = views.get(_key(platform, endpoint, id), lambda: rollouts.view(platform, endpoint, id))
    release = answers.release(view.line.event.release, None)
    assert release is not None
    detail = shapes.RolloutDetail(
        summary=ledger_answers.rollout_line(view.line),
        release=release,
        baseline=view.baseline.id if view.baseline else None,
        changes=[responses.ChangeFacts.model_validate(change.to_json()) for change in view.changes],
        stages=[ledger_answers.stage(each) for each in view.stages],
        review=_review(view.review),
        trouble=view.trouble or None,
    )
    return answers.answer(request, detail)


def _key(platform: Platform, endpoint: EndpointRef, rollout_id: str) -> tuple[str, str, str, int]:
    """Of what is shared: nothing that was written since is missing in it."""
    return connection_id(), str(endpoint), rollout_id, journal.load_known(platform, endpoint).seq


def _review(entry: Entry | None) -> shapes.ReviewAnswer | None:
    if entry is None or not isinstance(entry.event, ReviewDecided):
        return None
    decided = entry.event
    return shapes.ReviewAnswer(
        approved=decided.approved,
        by=decided.reviewer,
        note=decided.note,
        automatic=decided.automatic,
        at=entry.recorded_at,
    )


@router.get(f"{_HERE}/looks", response_model=shapes.LookPage)
def get_looks(
    request: Request,
    platform: Acting,
    endpoint: Endpoint,
    rollout: Id,
    gate: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Annotated[int, Query(ge=1, le=200)] = 200,
) -> Response:
    """Looks at one gate in order, the latest of them."""
    key = (*_key(platform, endpoint, rollout), gate)
    looks = series_of_looks.get(key, lambda: rollouts.looks(platform, endpoint, rollout, gate))[-limit:]
    return answers.answer(request, shapes.LookPage(items=[ledger_answers.look(each) for each in looks], next=None))


@router.get(f"{_HERE}/telemetry", response_model=shapes.SeriesFacts)
def get_telemetry(
    request: Request,
    platform: Acting,
    endpoint: Endpoint,
    window: Window,
    points: Annotated[int, Query(ge=1, le=series.MAX_POINTS)] = 60,
) -> Response:
    """Requests, errors and latency of every release, and the rollout's events, on one axis."""
    served = series.series(platform, endpoint, since=window[0], until=window[1], points=points)
    return answers.answer(request, _series(served))


def _series(served: series.Series) -> shapes.SeriesFacts:
    return shapes.SeriesFacts(
        since=served.since,
        until=served.until,
        step_s=served.step.total_seconds(),
        releases=[
            shapes.ReleasePoints(
                release=each.release,
                role=each.role,
                points=[
                    shapes.PointFacts(
                        at=point.at,
                        requests=point.served.requests,
                        errors=point.served.errors,
                        error_rate=point.served.error_rate,
                        p50_ms=point.served.latency.quantile(0.50),
                        p95_ms=point.served.latency.quantile(0.95),
                        p99_ms=point.served.latency.quantile(0.99),
                        complete=point.complete,
                    )
                    for point in each.points
                ],
            )
            for each in served.releases
        ],
        events=[
            shapes.Mark(
                at=entry.recorded_at,
                seq=entry.seq,
                type=entry.event.type,
                summary=ledger_answers.summary_of(entry.event),
            )
            for entry in served.events
        ],
        complete=served.complete,
        detail=served.detail,
    )


@router.get(f"{_HERE}/shadow", response_model=shapes.ShadowFacts)
def get_shadow(
    request: Request,
    platform: Acting,
    endpoint: Endpoint,
    rollout: Annotated[str, Query(max_length=500)] = "",
) -> Response:
    """The last paired comparison of a rollout, or of any where none is named, with its worst slices."""
    journal.load_known(platform, endpoint)
    judged = platform.ledger.read(
        endpoint, types=("gates-judged",), subject=rollout or None, newest_first=True, limit=50
    )
    for entry in judged:
        if isinstance(entry.event, GatesJudged) and entry.event.stage == "shadow":
            gates = [ledger_answers.gate(result) for result in entry.event.results]
            report = shapes.ShadowFacts(
                rollout=entry.event.rollout_id, at=entry.recorded_at, report=entry.event.facts, gates=gates
            )
            return answers.answer(request, report)
    return answers.answer(request, shapes.ShadowFacts(rollout=rollout or None, at=None, report=None, gates=[]))
