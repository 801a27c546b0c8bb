"""Everything that can be written into a ledger. An event states a fact; its time and origin stand on the entry.

Over 400 lines, because it is one list: what may stand in a chain is frozen, and is read in one place.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Digest, Release
from airflow_provider_mlpipex.domain.rollout.traffic_plan import StickyHeader, TrafficPlan
from airflow_provider_mlpipex.domain.values import Recorded, Value

StageName = Literal[
    "snapshot",
    "quality",
    "train",
    "register",
    "gate",
    "review",
    "shadow",
    "canary",
    "promote",
    "watch",
    "rollback",
    "drift",
    "score",
    "outcomes",
    "drill",
]


class Origin(Recorded):
    """Who wrote an entry: a task, a trigger, a person at a terminal, an HTTP caller.

    :param request: the key that an HTTP caller gave his request, so that he may send it again.
    """

    added_later = frozenset({"request"})

    kind: Literal["task", "trigger", "cli", "http", "plane", "test"]
    user: str = ""
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    try_number: int = 0
    trace_id: str = ""
    request: str | None = None


class RolloutPolicy(Recorded):
    """What the manifest demands of one rollout, resolved once when it opens.

    :param serve: whether this environment runs releases at all (development may only judge them).
    :param offline_gates: gates on evaluation evidence must pass first.
    :param review: somebody, or a named policy, must approve.
    :param shadow_fraction: share of live requests mirrored, or ``None`` for no shadow.
    :param canary_weights: rising shares of ``TOTAL_WEIGHT``; empty for no canary.
    :param rollback_window_s: seconds after promotion in which the watch may revert by itself.
    :param control_weight: of ``TOTAL_WEIGHT``, what the previous release keeps in that time; ``None`` for nothing.
    :param lease_s: seconds a shadow or canary plan lives without its watcher.
    :param timeout_s: seconds that the candidate may take over a request before current is asked as well.
    :param fallback: ``none`` where the previous release must not answer what current cannot.
    :param declared_gates: task ids of the gates that the Dag itself declares (``@task.gate``); each must have passed.
    """

    added_later = frozenset({"control_weight", "timeout_s", "fallback", "declared_gates"})

    serve: bool = True
    offline_gates: bool = True
    review: bool = False
    shadow_fraction: float | None = None
    canary_weights: tuple[int, ...] = ()
    rollback_window_s: float = 0.0
    control_weight: int | None = None
    lease_s: float | None = None
    sticky_header: StickyHeader = StickyHeader()
    timeout_s: float | None = None
    fallback: Literal["none"] | None = None
    declared_gates: tuple[str, ...] | None = None

    def fallback_to(self, previous: Release | None, *, beside: Release) -> str | None:
        """Id of the release that answers what current cannot: ``previous``, unless the manifest forbids it, or it is
        itself what is on trial (``beside``)."""
        return previous.id if previous is not None and self.fallback is None and previous.id != beside.id else None


class RolloutOpened(Value):
    """A rollout takes the endpoint. ``manifest`` is the whole manifest it runs under, whatever the file says later."""

    type: Literal["rollout-opened"] = "rollout-opened"
    rollout_id: str
    release: Release
    policy: RolloutPolicy
    manifest: dict[str, Any]


class GatesJudged(Recorded):
    """Gates of one stage judged together; ``verdict`` is what they say as one, advisory gates left out.

    :param facts: what a reviewer wants to see beside the verdict, a few kilobytes: of a shadow the paired comparison
        with its worst slices (``shadow_report``).
    :param for_review: the evaluation has too few rows for some gates to tell, and a review asks a person instead.
    """

    added_later = frozenset({"facts", "for_review"})

    type: Literal["gates-judged"] = "gates-judged"
    rollout_id: str
    stage: StageName
    verdict: VerdictName
    results: tuple[GateResult, ...]
    facts: dict[str, Any] | None = None
    for_review: bool | None = None


class TaskGateJudged(Value):
    """A gate of the Dag's own (``@task.gate``) has judged what its task measured, for a rollout open or yet to open.

    :param gate: id of the task.
    :param verdict: what its criteria say as one, advisory ones left out.
    """

    type: Literal["task-gate-judged"] = "task-gate-judged"
    rollout_id: str
    gate: str
    verdict: VerdictName
    results: tuple[GateResult, ...]


class ReviewOpened(Value):
    type: Literal["review-opened"] = "review-opened"
    rollout_id: str
    changes: tuple[Change, ...]


class ReviewDecided(Value):
    """``automatic`` names the policy that approved without a person; empty where a person decided."""

    type: Literal["review-decided"] = "review-decided"
    rollout_id: str
    approved: bool
    reviewer: str
    note: str = ""
    automatic: str = ""


class ShadowStarted(Value):
    type: Literal["shadow-started"] = "shadow-started"
    rollout_id: str
    fraction: float


class CanaryStepped(Value):
    """Step ``step`` (from 0) of the canary, at ``weight`` of ``TOTAL_WEIGHT``."""

    type: Literal["canary-stepped"] = "canary-stepped"
    rollout_id: str
    step: int
    weight: int


class TrafficPlanned(Value):
    """Intent: written before the plane is touched."""

    type: Literal["traffic-planned"] = "traffic-planned"
    plan: TrafficPlan
    reason: str


class TrafficConfirmed(Value):
    """Effect: written after the plane has been read back."""

    type: Literal["traffic-confirmed"] = "traffic-confirmed"
    plan_id: str
    acknowledged_ms: float


class Promoted(Value):
    """The candidate became *current*; what was current became *previous* and stays warm."""

    type: Literal["promoted"] = "promoted"
    rollout_id: str
    watch_until: datetime


class WatchPassed(Recorded):
    """The rollback window ended without cause; the rollout is over.

    ``verdict`` says on what ground: ``inconclusive`` where too little traffic came to judge, which is no reason to
    take a promoted release away, but is not a pass either. ``unwatched`` says why there was nothing to watch for.
    """

    added_later = frozenset({"unwatched"})

    type: Literal["watch-passed"] = "watch-passed"
    rollout_id: str
    verdict: VerdictName
    unwatched: str | None = None

    @property
    def cause(self) -> str:
        """How the rollout came to be promoted, in words."""
        return f"not watched: {self.unwatched}" if self.unwatched else f"watch ended {self.verdict}"


class RollbackDecided(Value):
    """Traffic is to return to ``to_release``. ``detected_at``: when the evidence behind ``cause`` was complete."""

    type: Literal["rollback-decided"] = "rollback-decided"
    rollout_id: str
    cause: str
    from_release: str
    to_release: str
    detected_at: datetime


class RolledBack(Value):
    """Traffic has returned; ends the rollout. The bad release does not become *previous*."""

    type: Literal["rolled-back"] = "rolled-back"
    rollout_id: str
    from_release: str
    to_release: str


class RolloutRejected(Value):
    """The rollout ended before the candidate received a single live request that could reach a client."""

    type: Literal["rollout-rejected"] = "rollout-rejected"
    rollout_id: str
    cause: str


class RolloutHeld(Value):
    """The rollout waits for a person: traffic stays as it is, and nothing goes on by itself.

    :param by: who stopped it; empty where its gates could not decide.
    """

    type: Literal["rollout-held"] = "rollout-held"
    rollout_id: str
    cause: str
    by: str = ""


class ControlGrown(Value):
    """The control arm of a watch gets half of the requests, to tell a bad release from an outage.

    :param gates: whose limit is broken. :param broken_since: when the window began in which it is.
    """

    type: Literal["control-grown"] = "control-grown"
    rollout_id: str
    gates: tuple[str, ...]
    broken_since: datetime


class RolloutResumed(Value):
    """A person lets a held rollout go on.

    :param accepted: the stage that was held counts as passed, by this person's word; otherwise its gates go on, with as
        much patience as in the beginning.
    """

    type: Literal["rollout-resumed"] = "rollout-resumed"
    rollout_id: str
    reviewer: str
    note: str = ""
    accepted: bool = False


class EndpointHeld(Value):
    """A person has taken a release back, or stopped the endpoint: no automation releases it again until one resumes.

    :param release: that was taken back; empty where nothing at all is to be released.
    :param version: of its model. :param code_version: git commit that it was trained with; may be empty.
    :param by: the person. The entry's origin says how that is known.
    """

    type: Literal["endpoint-held"] = "endpoint-held"
    release: str = ""
    version: str = ""
    code_version: str = ""
    cause: str
    by: str = ""


class EndpointResumed(Value):
    """A person lets automation release to the endpoint again."""

    type: Literal["endpoint-resumed"] = "endpoint-resumed"
    reviewer: str
    note: str = ""


class AlertDelivery(Value):
    """Who was notified, and who was not and why; receivers are named by channel, position and service, never by url."""

    notified: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


class AlertRaised(Recorded):
    """On-call was to be notified. Where nobody was (``notified`` is empty), whoever comes next sends it again: for that
    the entry holds the whole alert. Entries from before it did are not sent again."""

    added_later = frozenset({"notified", "channel", "body", "severity", "facts"})

    type: Literal["alert-raised"] = "alert-raised"
    title: str
    failures: tuple[str, ...] = ()
    notified: tuple[str, ...] | None = None
    channel: str | None = None
    body: str | None = None
    severity: str | None = None
    facts: dict[str, str] | None = None


class AlertRetried(Value):
    """The alert of ledger entry ``alert`` was sent again; without ``notified`` it is still owed."""

    type: Literal["alert-retried"] = "alert-retried"
    alert: int
    notified: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


class BatchServed(Recorded):
    """A task sent a batch of rows to the endpoint; the entry's origin is the Dag run behind it.

    :param batch: what its requests carried as batch id.
    :param digest: of the rows' content, as of a dataset snapshot.
    :param answered: release id -> rows that it answered.
    :param sent: rows that the task sent, those among them that it sent again, or that an earlier try of it had sent.
        More than these were not its own.
    """

    added_later = frozenset({"sent"})

    type: Literal["batch-served"] = "batch-served"
    batch: str = Field(min_length=1, max_length=200)
    rows: int = Field(ge=0)
    digest: Digest
    answered: dict[str, int] = {}
    sent: int | None = Field(default=None, ge=0)


class HeadAccepted(Value):
    """Somebody has declared this chain to be the true one, though the plane had noted another head: a backup was
    restored. The entry's origin says who.

    :param noted: sequence number of the head that was noted. :param noted_hash: its hash.
    """

    type: Literal["head-accepted"] = "head-accepted"
    noted: int
    noted_hash: str
    reason: str = Field(min_length=1, max_length=2000)


class FaultInjected(Value):
    """A drill: the release is broken on purpose from now on, until it is mended or starts anew. The entry's origin says
    whose token that was.

    :param error_rate: share of its answers that fail. :param latency_ms: by which each is held up.
    """

    type: Literal["fault-injected"] = "fault-injected"
    release: str
    error_rate: float = 0.0
    latency_ms: float = 0.0


class FaultRemoved(Value):
    """The drill is over."""

    type: Literal["fault-removed"] = "fault-removed"
    release: str


class RollbackDrillBegan(Value):
    """A rollback is tried: all requests go to ``to_release`` for a moment, and back.

    :param release: that is current, before, meanwhile and after. :param before: the plan that is in force until now.
    :param plan_id: of the plan that follows.
    """

    type: Literal["rollback-drill-began"] = "rollback-drill-began"
    release: str
    to_release: str
    plan_id: str
    before: TrafficPlan
    reason: str = ""


class RollbackDrillEnded(Value):
    """All requests are with ``release`` again.

    :param ok: whether every request meanwhile was answered, and both moves were seen in force.
    :param back_ms: until ``to_release`` was seen to have all requests; ``forth_ms`` until ``release`` had them again.
    :param requests: that came meanwhile, and ``failed_requests`` of them; ``None`` where nobody could count.
    """

    type: Literal["rollback-drill-ended"] = "rollback-drill-ended"
    release: str
    to_release: str
    ok: bool
    back_ms: float | None = None
    forth_ms: float | None = None
    requests: int | None = None
    failed_requests: int | None = None
    detail: str = ""


class ModelRegistered(Value):
    """A model version as it was registered: what a registry says of it later is compared with this.

    :param dataset: digest of the snapshot that it was trained on. :param metrics: of its evaluation.
    :param fingerprint: digest of everything that the registry said of it.
    """

    type: Literal["model-registered"] = "model-registered"
    model: str
    version: str
    artifact_uri: str
    artifact_digest: str
    dataset: str
    metrics: dict[str, float] = {}
    evaluation_rows: int = 0
    fingerprint: Digest


class DriftJudged(Value):
    """A window of what a release was asked and answered, beside what it was trained on.

    :param facts: features ranked by damage, batches that carry the drift, links; JSON.
    """

    type: Literal["drift-judged"] = "drift-judged"
    release: str
    since: datetime
    until: datetime
    verdict: VerdictName
    reason: str
    facts: dict[str, Any] = {}


class OutcomesJudged(Value):
    """What late labels say of a release, by the ``outcomes`` gates of its manifest.

    :param since: with ``until`` when the labelled rows were served.
    :param rows: labelled rows of that time.
    """

    type: Literal["outcomes-judged"] = "outcomes-judged"
    release: str
    since: datetime
    until: datetime
    rows: int = Field(ge=0)
    verdict: VerdictName
    results: tuple[GateResult, ...]


class PromotionReopened(Value):
    """Late labels put the promotion of the current release in doubt: a person has to decide. Traffic stays as it is.

    :param gates: that failed.
    """

    type: Literal["promotion-reopened"] = "promotion-reopened"
    release: str
    cause: str
    gates: tuple[str, ...]


class PromotionConfirmed(Value):
    """A person keeps the release; the gates that were in doubt do not reopen its promotion again."""

    type: Literal["promotion-confirmed"] = "promotion-confirmed"
    release: str
    reviewer: str
    note: str = ""


class EndpointUnhealthy(Value):
    """What serves breaks its gates, or cannot be measured, outside every rollback window: a person has to decide.

    Whoever appends it is the one who notifies on-call: of two watchers, the ledger lets one.

    :param verdict: ``fail``, or ``error`` where nobody could measure for a while.
    :param gates: that failed, or could not be judged.
    """

    type: Literal["endpoint-unhealthy"] = "endpoint-unhealthy"
    release: str
    verdict: VerdictName
    gates: tuple[str, ...]
    cause: str


class EndpointRecovered(Value):
    """Every gate that was broken passes again."""

    type: Literal["endpoint-recovered"] = "endpoint-recovered"
    release: str


class StageEnded(Value):
    """Written by the stage envelope for every run of every stage: into the chain where it failed, else beside it."""

    type: Literal["stage-ended"] = "stage-ended"
    stage: StageName
    outcome: Literal["succeeded", "failed", "deferred", "skipped"]
    seconds: float
    facts: dict[str, Any] = {}
    error: dict[str, Any] | None = None


Event = Annotated[
    RolloutOpened
    | GatesJudged
    | TaskGateJudged
    | ReviewOpened
    | ReviewDecided
    | ShadowStarted
    | CanaryStepped
    | TrafficPlanned
    | TrafficConfirmed
    | Promoted
    | WatchPassed
    | RollbackDecided
    | RolledBack
    | RolloutRejected
    | RolloutHeld
    | ControlGrown
    | RolloutResumed
    | EndpointHeld
    | EndpointResumed
    | AlertRaised
    | AlertRetried
    | BatchServed
    | HeadAccepted
    | FaultInjected
    | FaultRemoved
    | RollbackDrillBegan
    | RollbackDrillEnded
    | ModelRegistered
    | DriftJudged
    | OutcomesJudged
    | PromotionReopened
    | PromotionConfirmed
    | EndpointUnhealthy
    | EndpointRecovered
    | StageEnded,
    Field(discriminator="type"),
]
EVENT = TypeAdapter[Event](Event, config=ConfigDict(defer_build=True))


class Entry(Value):
    """One event in its place in the chain. ``hash`` covers every other field, ``previous_hash`` the entry before."""

    endpoint: EndpointRef
    seq: int = Field(ge=1)
    recorded_at: datetime
    origin: Origin
    event: Event
    previous_hash: str
    hash: str


class RoutineRecord(Value):
    """A fact that decides nothing: a stage that ended well, a look at drift without news. It stands beside the chain,
    in no order that anybody could forge to his advantage, and is forgotten after a while."""

    endpoint: EndpointRef
    recorded_at: datetime
    origin: Origin
    event: Event


def subject_of(event: Event) -> str | None:
    """What an event is about, by which it is looked up: a rollout, else a batch, else a release."""
    subject: str | None = None
    match event:
        case BatchServed():
            subject = event.batch
        case DriftJudged() | OutcomesJudged() | PromotionReopened() | PromotionConfirmed():
            subject = event.release
        case EndpointUnhealthy() | EndpointRecovered() | FaultInjected() | FaultRemoved():
            subject = event.release
        case RollbackDrillBegan() | RollbackDrillEnded():
            subject = event.release
        case TrafficPlanned() | TrafficConfirmed() | AlertRaised() | AlertRetried():
            subject = None
        case EndpointHeld():
            subject = event.release or None
        case HeadAccepted() | ModelRegistered() | StageEnded() | EndpointResumed():
            subject = None
        case _:
            subject = event.rollout_id
    return subject
