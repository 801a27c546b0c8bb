"""From what the services know to what the API answers, and the answer itself: one body, one tag for its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.endpoint_hold import held_sentence
from airflow_provider_mlpipex.domain.rollout.events import Entry, RollbackDrillEnded
from airflow_provider_mlpipex.domain.rollout.plane_observation import PlaneObservation, ReleaseStatus
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT, TrafficPlan
from airflow_provider_mlpipex.plugins.api import ledger_answers, responses
from airflow_provider_mlpipex.services.fleet.endpoint import EndpointView
from airflow_provider_mlpipex.services.fleet.overview import WINDOW, Overview

#: What differs from one moment to the next without anything being new.
_MOMENTS = {"as_of"}


def answer(request: Request, model: BaseModel) -> Response:
    """``model`` as JSON; nothing but its tag where the caller has it already."""
    body = model.model_dump_json()
    tag = f'W/"{hashlib.sha256(model.model_dump_json(exclude=_MOMENTS).encode()).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def row(source: Overview) -> responses.FleetRow:
    """One line of the fleet."""
    summary, rollout, manifest = source.summary, source.summary.rollout, source.summary.current_manifest
    return responses.FleetRow(
        endpoint=str(summary.endpoint),
        environment=summary.endpoint.environment,
        name=summary.endpoint.name,
        team=manifest.owner.team or None if manifest else None,
        release=summary.current.id if summary.current else None,
        model=f"{summary.current.model.name} {summary.current.model.version}" if summary.current else None,
        since=summary.current_since,
        traffic=shares(summary.planned),
        mirror=_mirror(summary.planned),
        health=_health(source),
        rollout=None
        if rollout is None
        else responses.OpenRollout(
            id=rollout.id,
            candidate=rollout.candidate.id,
            phase=rollout.phase,
            step=rollout.step if rollout.step >= 0 else None,
            steps=len(rollout.policy.canary_weights),
            since=rollout.since,
            on_hold=rollout.hold is not None,
            hold_cause=rollout.hold.cause if rollout.hold else None,
        ),
        readiness=responses.ReadinessLamp(lamp=source.readiness.lamp, reason=source.readiness.reason),
        doubt=None
        if summary.doubt is None
        else responses.Doubt(
            since=summary.doubt.since,
            cause=summary.doubt.cause,
            release=summary.doubt.release,
            gates=list(summary.doubt.gates),
        ),
        held_back=None
        if summary.held_back is None
        else responses.Held(
            sentence=held_sentence(summary.held_back),
            by=summary.held_back.by,
            since=summary.held_back.since,
            cause=summary.held_back.cause,
            release=summary.held_back.release or None,
        ),
        rollback_under_way=summary.rollback is not None,
        diverged=source.is_diverged,
        attention=list(source.attention),
        seq=summary.seq,
    )


def shares(plan: TrafficPlan | None) -> list[responses.Share]:
    """Who answers how many of the requests, current first."""
    if plan is None:
        return []
    roles = plan.roles
    return [
        responses.Share.model_validate({"release": name, "share": weight / TOTAL_WEIGHT, "role": roles[name]})
        for name, weight in plan.weights.items()
    ]


def _mirror(plan: TrafficPlan | None) -> responses.MirrorShare | None:
    if plan is None or plan.mirror is None:
        return None
    return responses.MirrorShare(release=plan.mirror.release, fraction=plan.mirror.fraction)


def _health(source: Overview) -> responses.Health:
    served, incident = source.served, source.summary.incident
    return responses.Health(
        state=source.health,
        cause=source.health_cause,
        since=incident.since if incident else None,
        requests=served.requests if served else None,
        error_rate=served.error_rate if served else None,
        p95_ms=served.latency.quantile(0.95) if served else None,
        window_s=WINDOW.total_seconds(),
    )


def release(source: Release | None, on_plane: PlaneObservation | None) -> responses.ReleaseFacts | None:
    """A release, and how it does on the plane."""
    if source is None:
        return None
    statuses: Mapping[str, ReleaseStatus] = on_plane.releases if on_plane else {}
    status, model = statuses.get(source.id), source.model
    return responses.ReleaseFacts(
        id=source.id,
        model=model.name,
        version=model.version,
        runtime=source.runtime.version,
        runtime_kind=source.runtime.kind,
        runtime_digest=source.runtime.digest,
        artifact_digest=model.artifact_digest,
        dataset=model.dataset.name,
        dataset_digest=model.dataset.digest,
        dataset_rows=model.dataset.rows,
        features=source.feature_service,
        code_version=model.code_version,
        metrics=dict(model.metrics),
        run_id=model.run_id,
        on_plane=None
        if status is None
        else responses.OnPlaneStatus(state=status.state, restarts=status.restarts, detail=status.detail),
    )


def drill(source: Entry) -> responses.DrillFacts:
    """How one drill went."""
    ended, by = source.event, source.origin
    assert isinstance(ended, RollbackDrillEnded)
    return responses.DrillFacts(
        seq=source.seq,
        at=source.recorded_at,
        by=by.user or (f"{by.dag_id}/{by.run_id}" if by.dag_id else by.kind),
        ok=ended.ok,
        from_release=ended.release,
        to_release=ended.to_release,
        back_ms=ended.back_ms,
        forth_ms=ended.forth_ms,
        requests=ended.requests,
        failed_requests=ended.failed_requests,
        detail=ended.detail,
    )


def endpoint(source: EndpointView) -> responses.EndpointFacts:
    """One endpoint whole."""
    state, offer, line = source.state, source.offer, row(source.overview)
    manifest = state.current_manifest or (state.rollout.manifest if state.rollout else {})
    owner = manifest.get("owner") or {}
    last, incident = state.last_result, state.incident
    return responses.EndpointFacts(
        row=line,
        seq=state.seq,
        address=(source.on_plane.address if source.on_plane else "") or None,
        owner=str(owner.get("team", "")),
        contact=str(owner.get("contact", "")),
        current=release(state.current, source.on_plane),
        previous=release(state.previous, source.on_plane),
        candidate=release(state.rollout.candidate if state.rollout else None, source.on_plane),
        rollback=responses.RollbackFacts(
            takes=offer.takes if offer else None,
            returns_to=offer.returns_to if offer else None,
            rejects=offer.rejects if offer else None,
            sentences=list(offer.sentences) if offer else [],
            possible=offer is not None and offer.takes is not None,
            why_not=source.why_not or (None if offer and offer.takes else "nothing is left to undo"),
            changes=[
                responses.ChangeFacts(kind=each.kind, what=each.what, before=each.before, after=each.after)
                for each in source.changes
            ],
        ),
        rollout=ledger_answers.rollout_line(source.rollout) if source.rollout else None,
        last_result=None
        if last is None
        else responses.LastResult(rollout=last.rollout_id, ending=last.ending, cause=last.cause, at=last.at),
        incident=None
        if incident is None
        else responses.IncidentFacts(
            release=incident.release,
            verdict=incident.verdict,
            gates=list(incident.gates),
            cause=incident.cause,
            since=incident.since,
        ),
        doubt=line.doubt,
        held_back=line.held_back,
        readiness=responses.ReadinessFacts(
            lamp=source.overview.readiness.lamp,
            reason=source.overview.readiness.reason,
            checks=list(source.overview.readiness.checks),
            last_drill=drill(source.last_drill) if source.last_drill else None,
        ),
        plane_error=source.overview.plane.trouble or None,
        may=responses.May(drill=source.why_not_drill is None, why_not_drill=source.why_not_drill),
    )
