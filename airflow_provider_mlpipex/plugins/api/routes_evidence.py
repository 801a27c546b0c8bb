"""What was measured of rows: drift and the batches behind it, checks of tables, late labels, and rows themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from airflow_provider_mlpipex.domain.errors import NotFound
from airflow_provider_mlpipex.domain.release.release import ReleaseId
from airflow_provider_mlpipex.domain.rollout.events import (
    BatchServed,
    DriftJudged,
    Entry,
    OutcomesJudged,
    RoutineRecord,
    StageEnded,
)
from airflow_provider_mlpipex.domain.values import finite
from airflow_provider_mlpipex.plugins.api import access, answers, ledger_answers
from airflow_provider_mlpipex.plugins.api import responses_record as shapes
from airflow_provider_mlpipex.plugins.api.access import Acting
from airflow_provider_mlpipex.plugins.api.routes_endpoint import Endpoint
from airflow_provider_mlpipex.plugins.api.routes_rollouts import Before, Limit, Window
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet import record
from airflow_provider_mlpipex.services.platform import Platform

router = APIRouter(prefix="/endpoints/{environment}/{name}", tags=["evidence"])
Batch = Annotated[str, Query(min_length=1, max_length=200)]
_VERDICTS = {"succeeded": "pass", "failed": "fail"}


@router.get("/drift", response_model=shapes.DriftPage)
def get_drift(
    request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 20, before: Before = None
) -> Response:
    """Looks at drift that brought news, the newest first."""
    journal.load_known(platform, endpoint)
    entries = platform.ledger.read(endpoint, types=("drift-judged",), before_seq=before, newest_first=True, limit=limit)
    items = [_drift(entry) for entry in entries]
    return answers.answer(request, shapes.DriftPage(items=items, next=ledger_answers.following(items, limit)))


def _drift(entry: Entry) -> shapes.DriftLine:
    judged = entry.event
    assert isinstance(judged, DriftJudged)
    return shapes.DriftLine(
        seq=entry.seq,
        at=entry.recorded_at,
        release=judged.release,
        since=judged.since,
        until=judged.until,
        verdict=judged.verdict,
        reason=judged.reason,
        features=[
            shapes.DriftedFeature(
                column=str(each.get("column")), psi=_number(each.get("psi")), damage=_number(each.get("damage"))
            )
            for each in judged.facts.get("ranking", ())
        ],
    )


def _number(stored: Any) -> float | None:
    """Of facts that a ledger keeps; infinities are words there."""
    return float(stored) if isinstance(stored, (int, float)) and not isinstance(stored, bool) else None


@router.get("/drift-event", response_model=shapes.DriftEvent)
def get_drift_event(
    request: Request, platform: Acting, endpoint: Endpoint, seq: Annotated[int, Query(ge=1, le=2**31 - 1)]
) -> Response:
    """One look at drift: columns, and the batches that carry it or are faulty."""
    entry = record.entry_of(platform, endpoint, seq, "drift-judged")
    judged = entry.event
    assert isinstance(judged, DriftJudged)
    batches = []
    for each in judged.facts.get("batches", ()):
        name, shares = str(each.get("batch", "")), each.get("shares") or {}
        known = _batch(platform, endpoint, name) if name else None
        batches.append(
            (known or _nobody_sent(name)).model_copy(
                update={"share": max(shares.values(), default=None), "rows": int(each.get("rows", 0))}
            )
        )
    facts = shapes.DriftEvent(
        summary=_drift(entry), facts=judged.facts, columns=list(judged.facts.get("columns", ())), batches=batches
    )
    return answers.answer(request, facts)


@router.get("/batches", response_model=shapes.BatchPage)
def get_batches(
    request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 50, before: Before = None
) -> Response:
    """Batches that tasks have sent, the newest first."""
    journal.load_known(platform, endpoint)
    entries = platform.ledger.read(endpoint, types=("batch-served",), before_seq=before, newest_first=True, limit=limit)
    items = [_served(entry) for entry in entries]
    return answers.answer(request, shapes.BatchPage(items=items, next=ledger_answers.following(items, limit)))


@router.get("/batch", response_model=shapes.BatchLine)
def get_batch(request: Request, platform: Acting, endpoint: Endpoint, id: Batch) -> Response:
    """One batch: who sent it, and what part of a drift it carries."""
    journal.load_known(platform, endpoint)
    known, share = _batch(platform, endpoint, id), record.drift_share(platform, endpoint, id)
    if known is None and share is None:
        raise NotFound(
            f"batch {id} of {endpoint}", value="no such batch", limit="one that was sent there", remedy="see batches"
        )
    return answers.answer(request, (known or _nobody_sent(id)).model_copy(update={"share": share}))


def _batch(platform: Platform, endpoint: Endpoint, name: str) -> shapes.BatchLine | None:
    entry = journal.newest(platform, endpoint, "batch-served", subject=name)
    return _served(entry) if entry else None


def _served(entry: Entry) -> shapes.BatchLine:
    served = entry.event
    assert isinstance(served, BatchServed)
    return shapes.BatchLine(
        id=served.batch,
        seq=entry.seq,
        at=entry.recorded_at,
        rows=served.rows,
        answered=served.answered,
        share=None,
        origin=ledger_answers.origin(entry.origin),
        digest=served.digest,
    )


def _nobody_sent(name: str) -> shapes.BatchLine:
    return shapes.BatchLine(id=name, seq=None, at=None, rows=0, answered={}, share=None, origin=None, digest=None)


@router.get("/rows", response_model=shapes.Rows, dependencies=[Depends(access.requires_writer)])
def get_rows(
    request: Request,
    platform: Acting,
    endpoint: Endpoint,
    release: ReleaseId,
    window: Window,
    batch: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Rows as they were served. They are customers' rows: who may only read Airflow does not get them."""
    journal.load_known(platform, endpoint)
    until = window[1] or platform.clock.now()
    sample = platform.plane.predictions(
        endpoint, release, since=window[0] or until - timedelta(days=1), until=until, limit=limit, batch=batch
    )
    rows = [
        {
            "request_id": row.request_id,
            "at": row.at.isoformat(),
            "batch": row.batch,
            **row.inputs,
            "score": row.score,
            "label": row.label,
        }
        for row in sample.rows
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    facts = shapes.Rows(
        release=release,
        columns=columns,
        rows=[finite(row) for row in rows],
        sampled=len(rows),
        total=sample.total,
        dropped_share=sample.dropped_share,
    )
    return answers.answer(request, facts)


@router.get("/quality", response_model=shapes.QualityPage)
def get_quality(request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 20) -> Response:
    """Checks of tables, the newest first."""
    items = [_quality(each) for each in record.quality(platform, endpoint, limit=limit)]
    return answers.answer(request, shapes.QualityPage(items=items, next=None))


def _quality(entry: Entry | RoutineRecord) -> shapes.QualityLine:
    ended = entry.event
    assert isinstance(ended, StageEnded)
    verdict = ended.facts.get("verdict") or _VERDICTS.get(ended.outcome, "inconclusive")
    reason = (ended.error or {}).get("value") or ended.facts.get("reason") or ended.outcome
    return shapes.QualityLine.model_validate(
        {
            "seq": entry.seq if isinstance(entry, Entry) else None,
            "at": entry.recorded_at,
            "verdict": verdict,
            "reason": str(reason),
            "facts": ended.facts,
            "origin": ledger_answers.origin(entry.origin),
        }
    )


@router.get("/outcomes", response_model=shapes.OutcomePage)
def get_outcomes(
    request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 20, before: Before = None
) -> Response:
    """What late labels said of releases, the newest first."""
    journal.load_known(platform, endpoint)
    entries = platform.ledger.read(
        endpoint, types=("outcomes-judged",), before_seq=before, newest_first=True, limit=limit
    )
    items = [
        shapes.OutcomeLine(
            seq=entry.seq,
            at=entry.recorded_at,
            release=judged.release,
            since=judged.since,
            until=judged.until,
            rows=judged.rows,
            verdict=judged.verdict,
            gates=[ledger_answers.gate(result) for result in judged.results],
        )
        for entry in entries
        if isinstance(judged := entry.event, OutcomesJudged)
    ]
    return answers.answer(request, shapes.OutcomePage(items=items, next=ledger_answers.following(items, limit)))
