"""Who is asking, and every endpoint, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from airflow.api_fastapi.core_api.security import get_user
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from airflow_provider_mlpipex.plugins.api import access, answers, responses, settings
from airflow_provider_mlpipex.plugins.api.access import Acting
from airflow_provider_mlpipex.services.fleet.overview import Overview, overview

#: Endpoints on one page at most.
MAX_ROWS = 500
router = APIRouter(tags=["fleet"])
Order = Literal["worst", "name", "age", "requests"]


@router.get("/me", response_model=responses.Me)
def get_me(request: Request, user: Annotated[Any, Depends(get_user)]) -> Response:
    """Who is logged in, and whether they may change anything here."""
    dag, may = settings.rollback_dag_id(), access.may_write(request, user)
    why_not = None if may else f"your role may not start runs of the Dag {dag}; ask an administrator of Airflow"
    me = responses.Me(
        user=access.name_of(user), may_write=may, why_not=why_not, rollback_dag=dag, version=settings.version()
    )
    return answers.answer(request, me)


@router.get("/fleet", response_model=responses.FleetPage)
def get_fleet(
    request: Request,
    platform: Acting,
    q: Annotated[str, Query(max_length=200)] = "",
    environment: Annotated[str, Query(max_length=63)] = "",
    attention: bool = False,
    sort: Order = "worst",
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """Endpoints whose name, release, model or team holds ``q``, a page of them."""
    fleet = overview(platform)
    chosen = [
        each
        for each in fleet.endpoints
        if (not environment or each.summary.endpoint.environment == environment)
        and (not attention or each.attention)
        and _matches(each, q)
    ]
    page = responses.FleetPage(
        items=[answers.row(each) for each in _sorted(chosen, sort)[offset : offset + limit]],
        total=len(chosen),
        offset=offset,
        limit=limit,
        as_of=fleet.at,
        plane=responses.PlaneReach(reachable=not fleet.trouble, why_not=fleet.trouble or None),
    )
    return answers.answer(request, page)


def _since(line: Overview) -> float:
    since = line.summary.current_since
    return since.timestamp() if since else 0.0


def _matches(line: Overview, q: str) -> bool:
    summary, words = line.summary, q.casefold().split()
    team = summary.current_manifest.owner.team if summary.current_manifest else ""
    releases = [each.id for each in (summary.current, summary.rollout and summary.rollout.candidate) if each]
    text = " ".join([str(summary.endpoint), team, *releases, summary.rollout.id if summary.rollout else ""]).casefold()
    return all(word in text for word in words)


def _sorted(line: Sequence[Overview], order: Order) -> list[Overview]:
    """Those that tie stay in the order of their names."""
    match order:
        case "name":
            return list(line)
        case "age":
            return sorted(line, key=_since)
        case "requests":
            return sorted(line, key=lambda each: -(each.served.requests if each.served else 0))
        case _:
            return sorted(line, key=lambda each: each.rank)
