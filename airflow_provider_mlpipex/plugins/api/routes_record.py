"""The record: what served when, every entry, decisions, alerts, and whether the chain is believed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from airflow_provider_mlpipex.plugins.api import answers, ledger_answers
from airflow_provider_mlpipex.plugins.api import responses_record as shapes
from airflow_provider_mlpipex.plugins.api.access import Acting
from airflow_provider_mlpipex.plugins.api.routes_endpoint import Endpoint
from airflow_provider_mlpipex.plugins.api.routes_rollouts import Before, Limit, moment
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet import record
from airflow_provider_mlpipex.services.rollout.history import as_of
from airflow_provider_mlpipex.services.rollout.tenures import tenures

router = APIRouter(prefix="/endpoints/{environment}/{name}", tags=["record"])


@router.get("/history", response_model=shapes.TenurePage)
def get_history(
    request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 50, before: Before = None
) -> Response:
    """Which release was current when, the newest first."""
    journal.load_known(platform, endpoint)
    items = [
        shapes.TenureFacts(
            seq=each.seq,
            release=each.release,
            model=each.model,
            runtime=each.runtime,
            rollout=each.rollout_id,
            since=each.since,
            until=each.until,
            ended_by=each.ended_by,
        )
        for each in reversed(tenures(platform, endpoint, last=limit, before=before))
    ]
    return answers.answer(request, shapes.TenurePage(items=items, next=ledger_answers.following(items, limit)))


@router.get("/entries", response_model=shapes.EntryPage)
def get_entries(
    request: Request,
    platform: Acting,
    endpoint: Endpoint,
    limit: Limit = 100,
    before: Before = None,
    types: Annotated[str, Query(max_length=200, description="At most four, with commas between.")] = "",
    rollout: Annotated[str, Query(max_length=500)] = "",
) -> Response:
    """Entries of the ledger, the newest first."""
    journal.load_known(platform, endpoint)
    entries = platform.ledger.read(
        endpoint,
        before_seq=before,
        types=tuple(filter(None, types.split(",")))[:4],
        subject=rollout or None,
        newest_first=True,
        limit=limit,
    )
    items = [ledger_answers.entry(each) for each in entries]
    return answers.answer(request, shapes.EntryPage(items=items, next=ledger_answers.following(items, limit)))


@router.get("/as-of", response_model=shapes.AsOf)
def get_as_of(
    request: Request, platform: Acting, endpoint: Endpoint, at: Annotated[str, Query(min_length=10, max_length=40)]
) -> Response:
    """What served at a moment, why, and who had approved it."""
    journal.load_known(platform, endpoint)
    then = moment(at, "at")
    state = as_of(platform, endpoint, then)
    last = platform.ledger.read(endpoint, after_seq=state.seq - 1, before_seq=state.seq + 1) if state.seq else []
    facts = shapes.AsOf(
        at=then,
        seq=state.seq,
        current=answers.release(state.current, None),
        previous=answers.release(state.previous, None),
        rollout=None
        if state.rollout is None
        else shapes.RolloutThen(id=state.rollout.id, candidate=state.rollout.candidate.id, phase=state.rollout.phase),
        traffic=answers.shares(state.planned if state.confirmed else None),
        approved_by=record.approved_by(platform, endpoint, then),
        audit=f"entry {state.seq}, hash {last[0].hash[:12]}" if last else "no entry yet",
    )
    return answers.answer(request, facts)


@router.get("/decisions", response_model=shapes.DecisionPage)
def get_decisions(
    request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 20, before: Before = None
) -> Response:
    """Promotions, rollbacks and rejections, with the evidence that each stood on, the newest first."""
    items = [_decision(each) for each in record.decisions(platform, endpoint, limit=limit, before=before)]
    return answers.answer(request, shapes.DecisionPage(items=items, next=ledger_answers.following(items, limit)))


def _decision(decision: record.Decision) -> shapes.DecisionFacts:
    release = decision.opened.release if decision.opened else None
    return shapes.DecisionFacts(
        seq=decision.entry.seq,
        at=decision.entry.recorded_at,
        kind=decision.kind,
        rollout=getattr(decision.entry.event, "rollout_id", ""),
        release=release.id if release else None,
        by=decision.by,
        cause=decision.cause,
        approved_by=decision.approved_by,
        evidence=[ledger_answers.gate(each) for each in decision.evidence],
        hash=decision.entry.hash,
        manifest_digest=release.manifest_digest if release else None,
        artifact_digest=release.model.artifact_digest if release else None,
        runtime_digest=release.runtime.digest if release else None,
        code_version=release.model.code_version if release else None,
    )


@router.get("/alerts", response_model=shapes.AlertPage)
def get_alerts(
    request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 50, before: Before = None
) -> Response:
    """What on-call was to be told, and whether it reached anybody, the newest first."""
    items = [
        shapes.AlertFacts(
            seq=each.entry.seq,
            at=each.entry.recorded_at,
            title=each.alert.title,
            body=each.alert.body or "",
            severity=each.alert.severity or "",
            channel=each.alert.channel or "",
            facts=each.alert.facts or {},
            notified=list(each.notified),
            failures=list(each.failures),
            state=each.state,
            tries=each.tries,
        )
        for each in record.alerts(platform, endpoint, limit=limit, before=before)
    ]
    return answers.answer(request, shapes.AlertPage(items=items, next=ledger_answers.following(items, limit)))


@router.get("/audit", response_model=shapes.AuditFacts)
def get_audit(request: Request, platform: Acting, endpoint: Endpoint) -> Response:
    """Whether the chain holds the head that was noted outside its database."""
    checked = record.audit(platform, endpoint)
    facts = shapes.AuditFacts(
        entries=checked.entries, head=checked.head, noted=checked.noted, agrees=checked.agrees, detail=checked.detail
    )
    return answers.answer(request, facts)


@router.get("/audit/verify", response_model=shapes.Verified)
def get_verified(
    request: Request,
    platform: Acting,
    endpoint: Endpoint,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Response:
    """Verify a page of the chain: every link, and every hash of its content."""
    until, head = record.verify(platform, endpoint, after=after, limit=limit)
    facts = shapes.Verified(verified_until=until, head=head, next=until if until < head else None)
    return answers.answer(request, facts)
