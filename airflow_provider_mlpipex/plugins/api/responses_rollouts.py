"""What the API answers on rollouts, their gates, and what was measured."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.plugins.api.responses import Answer, ChangeFacts, OriginFacts, ReleaseFacts, RolloutLine
from airflow_provider_mlpipex.services.fleet.rollouts import StageState
from airflow_provider_mlpipex.services.fleet.series import Role


class RolloutPage(Answer):
    items: list[RolloutLine]
    next: int | None


class RolloutName(Answer):
    endpoint: str
    id: str


class RolloutNames(Answer):
    items: list[RolloutName]


class JudgedFacts(Answer):
    """What one judging of a gate saw. :param interval: of the margin."""

    verdict: VerdictName
    value: float | None
    baseline: float | None
    threshold: float | None
    margin: float | None
    interval: tuple[float | None, float | None] | None
    samples: int


class GateFacts(JudgedFacts):
    """:param alpha: of this gate's sequence of looks, all of them together.
    :param alpha_left: of the false alarms that the environment allows. :param why_not_yet: where it cannot tell yet.
    """

    gate: str
    advisory: bool
    rule: str
    reason: str
    source: str
    metric: str
    about: str | None
    baseline_samples: int
    since: datetime
    until: datetime
    alpha: float | None
    alpha_left: float | None
    decidable_in_s: float | None
    rows_that_decide: int | None
    why_not_yet: str | None
    broken: str | None
    excused: str | None


class StageFacts(Answer):
    stage: str
    step: int | None
    share: float | None
    state: StageState
    since: datetime | None
    until: datetime | None
    verdict: VerdictName | None
    task: OriginFacts | None
    gates: list[GateFacts]


class ReviewAnswer(Answer):
    approved: bool | None
    by: str
    note: str
    automatic: str
    at: datetime


class RolloutDetail(Answer):
    """:param trouble: why the stage under way is not measured right now."""

    summary: RolloutLine
    release: ReleaseFacts
    baseline: str | None
    changes: list[ChangeFacts]
    stages: list[StageFacts]
    review: ReviewAnswer | None
    trouble: str | None


class LookFacts(JudgedFacts):
    """:param seq: 0: judged again for this answer, by what was measured up to then."""

    seq: int
    at: datetime


class LookPage(Answer):
    items: list[LookFacts]
    next: int | None


class PointFacts(Answer):
    at: datetime
    requests: int
    errors: int
    error_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    complete: bool


class ReleasePoints(Answer):
    release: str
    role: Role
    points: list[PointFacts]


class Mark(Answer):
    at: datetime
    seq: int
    type: str
    summary: str


class SeriesFacts(Answer):
    since: datetime
    until: datetime
    step_s: float
    releases: list[ReleasePoints]
    events: list[Mark]
    complete: bool
    detail: str


class ShadowFacts(Answer):
    """:param report: the paired comparison with its worst slices, as the ledger keeps it."""

    rollout: str | None
    at: datetime | None
    report: dict[str, Any] | None
    gates: list[GateFacts]
