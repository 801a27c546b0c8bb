"""What the API answers on the past: tenures, entries, decisions, drift, batches, alerts, and whether it is believed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.plugins.api.responses import Answer, OriginFacts, ReleaseFacts, Share
from airflow_provider_mlpipex.plugins.api.responses_rollouts import GateFacts
from airflow_provider_mlpipex.services.fleet.record import AlertState


class TenureFacts(Answer):
    seq: int
    release: str
    model: str
    runtime: str
    rollout: str
    since: datetime
    until: datetime | None
    ended_by: str


class TenurePage(Answer):
    items: list[TenureFacts]
    next: int | None


class EntryFacts(Answer):
    seq: int
    at: datetime
    type: str
    subject: str | None
    summary: str
    origin: OriginFacts
    hash: str
    event: dict[str, Any]


class EntryPage(Answer):
    items: list[EntryFacts]
    next: int | None


class RolloutThen(Answer):
    id: str
    candidate: str
    phase: str


class AsOf(Answer):
    """:param audit: what stands for it: the entry that was the last one then."""

    at: datetime
    seq: int
    current: ReleaseFacts | None
    previous: ReleaseFacts | None
    rollout: RolloutThen | None
    traffic: list[Share]
    approved_by: str | None
    audit: str


class DecisionFacts(Answer):
    seq: int
    at: datetime
    kind: Literal["promoted", "rolled-back", "rejected"]
    rollout: str
    release: str | None
    by: str
    cause: str
    approved_by: str | None
    evidence: list[GateFacts]
    hash: str
    manifest_digest: str | None
    artifact_digest: str | None
    runtime_digest: str | None
    code_version: str | None


class DecisionPage(Answer):
    items: list[DecisionFacts]
    next: int | None


class AuditFacts(Answer):
    entries: int
    head: str
    noted: str | None
    agrees: bool | None
    detail: str


class Verified(Answer):
    verified_until: int
    head: int
    next: int | None
    ok: Literal[True] = True


class DriftedFeature(Answer):
    column: str
    psi: float | None
    damage: float | None


class DriftLine(Answer):
    seq: int
    at: datetime
    release: str
    since: datetime
    until: datetime
    verdict: VerdictName
    reason: str
    features: list[DriftedFeature]


class DriftPage(Answer):
    items: list[DriftLine]
    next: int | None


class BatchLine(Answer):
    """:param share: the largest part of a column's drift that it carries. :param seq: ``null``: no task sent it."""

    id: str
    seq: int | None
    at: datetime | None
    rows: int
    answered: dict[str, int]
    share: float | None
    origin: OriginFacts | None
    digest: str | None


class BatchPage(Answer):
    items: list[BatchLine]
    next: int | None


class DriftEvent(Answer):
    summary: DriftLine
    facts: dict[str, Any]
    columns: list[dict[str, Any]]
    batches: list[BatchLine]


class Rows(Answer):
    """:param total: that were logged in the window; ``rows`` is an even sample of them."""

    release: str
    columns: list[str]
    rows: list[dict[str, Any]]
    sampled: int
    total: int
    dropped_share: float


class AlertFacts(Answer):
    seq: int
    at: datetime
    title: str
    body: str
    severity: str
    channel: str
    facts: dict[str, str]
    notified: list[str]
    failures: list[str]
    state: AlertState
    tries: int


class AlertPage(Answer):
    items: list[AlertFacts]
    next: int | None


class QualityLine(Answer):
    """:param seq: ``null``: it passed, and decides nothing."""

    seq: int | None
    at: datetime
    verdict: VerdictName
    reason: str
    facts: dict[str, Any]
    origin: OriginFacts


class QualityPage(Answer):
    items: list[QualityLine]
    next: int | None


class OutcomeLine(Answer):
    seq: int
    at: datetime
    release: str
    since: datetime
    until: datetime
    rows: int
    verdict: VerdictName
    gates: list[GateFacts]


class OutcomePage(Answer):
    items: list[OutcomeLine]
    next: int | None
