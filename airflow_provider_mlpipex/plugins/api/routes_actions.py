"""What a person changes: rollback, hold, resume, abort, and a promotion in doubt that is kept.

Each calls the service that terminal, operators and the plane's own API call. None of them needs a scheduler, a worker,
a triggerer or a registry. Who acts is whoever is logged in; nothing in a body says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_mlpipex.domain.errors import IllegalTransition, NotFound, RequestInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.plugins.api import access, answers, responses
from airflow_provider_mlpipex.plugins.api.access import Acting
from airflow_provider_mlpipex.plugins.api.routes_endpoint import Endpoint
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet.endpoint import view
from airflow_provider_mlpipex.services.outcomes import promotion_doubt
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import hold as holds
from airflow_provider_mlpipex.services.rollout import rollback as rollbacks

#: Rollbacks that one worker carries out at once, in threads that nothing else can take.
ROLLBACK_THREADS = 8
_rollbacks = ThreadPoolExecutor(ROLLBACK_THREADS, thread_name_prefix="mlpipex-rollback")

# In this order: who it is, then where it comes from, then how often.
writes = APIRouter(
    prefix="/endpoints/{environment}/{name}",
    tags=["actions"],
    dependencies=[
        Depends(access.requires_writer),
        Depends(access.requires_same_site),
        Depends(access.requires_json),
        Depends(access.WriteLimit()),
    ],
)


class ReasonBody(BaseModel):
    """Unknown fields are refused: a slip of the pen in ``release`` must not take another one away."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    reason: str = Field(min_length=3, max_length=500, description="Why. Stands in ledger and alert.")


class RollbackBody(ReasonBody):
    release: str | None = Field(None, max_length=200, description="Take only this release away: the one that was seen.")
    rollout: str | None = Field(None, max_length=500, description="Undo this rollout and nothing else.")
    hold: bool = Field(True, description="Keep automation from releasing its lineage again until somebody resumes.")


class HoldBody(ReasonBody):
    rollout: str | None = Field(None, max_length=500, description="Hold this rollout; none: the endpoint.")


class ResumeBody(HoldBody):
    accept: bool = Field(False, description="The stage that was held counts as passed, by this person's word.")


class AbortBody(ReasonBody):
    rollout: str = Field(max_length=500)


class ConfirmBody(ReasonBody):
    release: str = Field(max_length=200, description="The one whose numbers were seen.")


Key = Annotated[str, Header(alias="Idempotency-Key", min_length=8, max_length=200, pattern=r"^[\x21-\x7e]+$")]


@writes.post("/rollback", response_model=responses.RollbackAnswer)
async def post_rollback(platform: Acting, endpoint: Endpoint, body: RollbackBody, key: Key) -> Response:
    """Return all traffic to the last good release, now. The same key again does nothing more, whatever became of the
    answer to the first request."""

    def carried_out(acting: Platform) -> rollbacks.RollbackReport:
        return rollbacks.answer_request(
            acting,
            endpoint,
            cause=body.reason,
            rollout_id=body.rollout,
            release_id=body.release,
            hold=body.hold,
        )

    return await _undone(platform, endpoint, key, carried_out)


@writes.post("/abort", response_model=responses.RollbackAnswer)
async def post_abort(platform: Acting, endpoint: Endpoint, body: AbortBody, key: Key) -> Response:
    """End a rollout that is not promoted yet; what serves goes on serving."""

    def carried_out(acting: Platform) -> rollbacks.RollbackReport:
        rollout = journal.load(acting, endpoint).rollout
        if rollout is not None and rollout.id == body.rollout and rollout.phase == "watching":
            raise IllegalTransition(
                f"rollout {rollout.id} of {endpoint}",
                value="promoted, and watched",
                limit="a rollout that is not promoted yet",
                remedy="roll back instead",
            )
        report = rollbacks.end_trial(acting, endpoint, cause=body.reason, rollout_id=body.rollout)
        if report is None:
            raise NotFound(
                f"rollout {body.rollout} of {endpoint}",
                value="not under way",
                limit="the rollout that is under way",
                remedy="look at the page again: it has ended, or another one has begun",
            )
        return report

    return await _undone(platform, endpoint, key, carried_out)


async def _undone(
    platform: Platform, endpoint: EndpointRef, key: str, verb: Callable[[Platform], rollbacks.RollbackReport]
) -> Response:
    acting = platform.acting_as(platform.origin.model_copy(update={"request": key}))

    def carried_out() -> responses.RollbackAnswer:
        journal.load_known(acting, endpoint)
        began = time.monotonic()
        report = verb(acting)
        return _answer_of(report, took_ms=(time.monotonic() - began) * 1000.0)

    done = await asyncio.get_running_loop().run_in_executor(_rollbacks, carried_out)
    return fresh(done)


def _answer_of(report: rollbacks.RollbackReport, *, took_ms: float) -> responses.RollbackAnswer:
    return responses.RollbackAnswer(
        endpoint=str(report.endpoint),
        current=report.current,
        previous=report.previous,
        returned_from=report.returned_from,
        done=report.sentence,
        confirmed=report.plan is not None,
        traffic=answers.shares(report.plan),
        took_ms=round(took_ms, 1),
        acknowledged_ms=report.acknowledged_ms,
        ended=report.ended,
        held_back=report.held_back,
        notified=list(report.notified),
        not_notified=list(report.not_notified),
        seq=report.seq,
        repeated=report.repeated,
    )


@writes.post("/hold", response_model=responses.EndpointFacts)
def post_hold(platform: Acting, endpoint: Endpoint, body: HoldBody) -> Response:
    """Keep automation from releasing here, or stop one rollout where it is."""
    journal.load_known(platform, endpoint)
    by = platform.origin.user
    if body.rollout:
        holds.hold(platform, endpoint=endpoint, rollout_id=body.rollout, cause=body.reason, by=by)
    else:
        holds.hold_endpoint(platform, endpoint=endpoint, cause=body.reason, by=by)
    return fresh(answers.endpoint(view(platform, endpoint)))


@writes.post("/resume", response_model=responses.EndpointFacts)
def post_resume(platform: Acting, endpoint: Endpoint, body: ResumeBody) -> Response:
    """Let automation release here again, or a held rollout go on."""
    journal.load_known(platform, endpoint)
    by = platform.origin.user
    if body.rollout:
        holds.resume(
            platform, endpoint=endpoint, rollout_id=body.rollout, reviewer=by, note=body.reason, accept=body.accept
        )
    elif body.accept:
        raise RequestInvalid(
            "request body, field accept", value=True, limit="a rollout that it is about", remedy="name the rollout"
        )
    else:
        holds.resume_endpoint(platform, endpoint=endpoint, reviewer=by, note=body.reason)
    return fresh(answers.endpoint(view(platform, endpoint)))


@writes.post("/confirm", response_model=responses.EndpointFacts)
def post_confirm(platform: Acting, endpoint: Endpoint, body: ConfirmBody) -> Response:
    """Keep a release whose promotion late labels have put in doubt."""
    journal.load_known(platform, endpoint)
    promotion_doubt.confirm(platform, endpoint, reviewer=platform.origin.user, note=body.reason, release=body.release)
    return fresh(answers.endpoint(view(platform, endpoint)))


def fresh(body: BaseModel) -> Response:
    """What was just done: nobody keeps it."""
    headers: dict[str, Any] = {"cache-control": "no-store"}
    return Response(body.model_dump_json(), media_type="application/json", headers=headers)
