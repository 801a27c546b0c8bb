"""The state of one endpoint: what :mod:`.fold` makes of its ledger, and nothing else.

What it holds has a bound, however old the endpoint is: of rollouts that ended, and of alerts, the latest. Older ones
are looked up in the ledger.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Protocol

from pydantic import Field

from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.ending import Ending
from airflow_provider_mlpipex.domain.rollout.events import (
    OutcomesJudged,
    RolloutPolicy,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.values import Value

Phase = Literal["opened", "review", "shadow", "canary", "watching"]


class Hold(Value):
    """A rollout that waits for a person. ``by``: who stopped it; empty where its gates could not decide."""

    cause: str
    by: str = ""
    since: datetime


class Rollout(Value):
    """A candidate on its way. ``verdicts`` holds the last verdict of each judged step (see :func:`verdict_key`),
    ``alerts`` the titles of what on-call has been told since it opened, the latest of them, ``resumed_at`` when a
    person last ended a hold: the patience with a stage begins anew there. ``broken_since`` holds gates of a watch that
    a grown control arm is to tell from an outage, ``excused_at`` when an outage was last written down to have broken
    one. ``undecided_for_review``: offline gates could not tell, and the review asks a person."""

    id: str
    candidate: Release
    policy: RolloutPolicy
    manifest: dict[str, Any]
    phase: Phase = "opened"
    opened_at: datetime
    since: datetime
    canary_since: datetime | None = None
    step: int = -1
    approved: bool | None = None
    undecided_for_review: bool = False
    verdicts: dict[str, VerdictName] = {}
    watch_until: datetime | None = None
    alerts: tuple[str, ...] = ()
    broken_since: dict[str, datetime] = {}
    excused_at: dict[str, datetime] = {}
    hold: Hold | None = None
    resumed_at: datetime | None = None


class HeldBack(Value):
    """What automation may not release here until a person resumes: all of the lineage of ``release``, or anything where
    that is empty (see :class:`EndpointHeld`)."""

    release: str
    version: str
    code_version: str
    cause: str
    by: str
    since: datetime


class RollbackIntent(Value):
    """A rollback that was decided and is not yet confirmed. Whoever finds it carries it out."""

    rollout_id: str
    from_release: str
    to_release: str
    cause: str


class RolloutResult(Value):
    """How a rollout ended."""

    rollout_id: str
    ending: Ending
    cause: str = ""
    at: datetime

    def title(self, endpoint: EndpointRef) -> str:
        """The title of the alert that notifies on-call of it."""
        return f"{endpoint} {self.ending.replace('-', ' ')}"


class PromotionDoubt(Value):
    """A promotion that late labels have reopened, until a person or a newer promotion ends it.

    :param gates: that failed. :param notified: whether on-call has been notified of it.
    """

    release: str
    cause: str
    gates: tuple[str, ...]
    since: datetime
    notified: bool = False

    @staticmethod
    def title(endpoint: EndpointRef) -> str:
        """The title of the alert that notifies on-call of it."""
        return f"{endpoint} promotion reopened by late labels"


class Incident(Value):
    """*Current* is unhealthy outside every rollback window, until it recovers or another release takes its place.

    :param claimed_at: when a watcher last undertook to notify on-call. :param notified: whether it raised the alert.
    """

    release: str
    verdict: VerdictName
    gates: tuple[str, ...]
    cause: str
    since: datetime
    claimed_at: datetime
    notified: bool = False

    @staticmethod
    def title(endpoint: EndpointRef) -> str:
        """The title of the alert that notifies on-call of it."""
        return f"{endpoint} unhealthy"


class OwedAlert(Value):
    """An alert that reached nobody. Whoever comes next sends it again; ``tries`` counts how often that was in vain.

    :param seq: of the ledger entry that holds it.
    """

    seq: int
    raised_at: datetime
    tried_at: datetime
    tries: int = 1
    channel: str
    title: str
    body: str
    severity: str
    facts: dict[str, str]


class UnannouncedEnding(Value):
    """A rollout ended, and no alert says so yet: whoever ended it is about to raise one, or has died.

    :param alerts: the alert policy of the environment in the manifest that it ran under.
    """

    rollout_id: str
    alerts: dict[str, Any]
    since: datetime


class Drill(Value):
    """A rollback that is being tried. ``before``: the plan to return to."""

    release: str
    to_release: str
    plan_id: str
    before: TrafficPlan
    since: datetime


class DrillResult(Value):
    """How the last one went."""

    at: datetime
    ok: bool
    to_release: str
    detail: str = ""


class EndpointState(Value):
    """``previous`` stays warm and is what a rollback returns to; it is ``None`` after one.

    ``task_gates`` holds the last verdict of each gate of a Dag's own, by rollout: of the one in progress, and of those
    that may still be opened (the newest :data:`KEPT_UNOPENED`). ``current_gates`` are those that the Dag declared which
    released *current*, ``previous_gates`` those of *previous*.

    ``confirmed_at`` is when the plan in force was: since then every release has had its present share.
    ``outcomes_judged``, ``doubt``, ``confirmed_gates`` (gates that a person has seen fail) and ``incident`` are of
    ``current``.
    ``locks`` is what each version of a locked runtime means here: ``runtime.version`` -> digest of its lock.
    ``held_back`` is what a person has taken away, or stopped.
    ``results`` holds the rollouts that ended last, by id; ``looked_up`` an older one that a verb asked the ledger for.
    """

    endpoint: EndpointRef
    seq: int = 0
    current: Release | None = None
    current_manifest: dict[str, Any] | None = None
    current_since: datetime | None = None
    previous: Release | None = None
    previous_manifest: dict[str, Any] | None = None
    current_gates: tuple[str, ...] = ()
    previous_gates: tuple[str, ...] = ()
    rollout: Rollout | None = None
    rollback: RollbackIntent | None = None
    planned: TrafficPlan | None = None
    confirmed: bool = True
    confirmed_at: datetime | None = None
    results: dict[str, RolloutResult] = {}
    task_gates: dict[str, dict[str, VerdictName]] = {}
    locks: dict[str, str] = {}
    outcomes_judged: OutcomesJudged | None = None
    doubt: PromotionDoubt | None = None
    confirmed_gates: tuple[str, ...] = ()
    looked_up: RolloutResult | None = Field(default=None, exclude=True)
    owed_alerts: tuple[OwedAlert, ...] = ()
    unannounced: UnannouncedEnding | None = None
    incident: Incident | None = None
    held_back: HeldBack | None = None
    drill: Drill | None = None
    last_drill: DrillResult | None = None

    @property
    def is_first(self) -> bool:
        """No release has ever been promoted here: there is nothing to compare with or to return to."""
        return self.current is None

    @property
    def serving_now(self) -> str:
        """Id of the current release, in the words of messages."""
        return self.current.id if self.current else "nothing"

    @property
    def on_trial(self) -> bool:
        """Whether the candidate answers or mirrors requests, or may: a plan for it has been written."""
        return is_on_trial(self.rollout, self.planned, self.current)

    @property
    def last_result(self) -> RolloutResult | None:
        """How the rollout ended that ended last; by order, because times are equal while a clock catches up."""
        return next(reversed(self.results.values()), None)

    def result_of(self, rollout_id: str) -> RolloutResult | None:
        """How this rollout ended; ``None`` if it did not, or so long ago that it has to be looked up."""
        older = self.looked_up if self.looked_up and self.looked_up.rollout_id == rollout_id else None
        return self.results.get(rollout_id, older)

    def release(self, release_id: str) -> Release | None:
        """The release with this id among current, previous and candidate."""
        candidate = self.rollout.candidate if self.rollout else None
        return next((r for r in (self.current, self.previous, candidate) if r and r.id == release_id), None)


class _Named(Protocol):
    @property
    def id(self) -> str: ...


class _Open(Protocol):
    @property
    def candidate(self) -> _Named: ...
    @property
    def phase(self) -> Phase: ...


def is_on_trial(rollout: _Open | None, planned: TrafficPlan | None, current: _Named | None) -> bool:
    """Whether a plan for the candidate of a rollout has been written, and it is not promoted yet. Of a whole state, and
    of the summary of one."""
    if rollout is None or planned is None or rollout.phase == "watching":
        return False
    candidate = rollout.candidate.id
    return candidate in planned.releases and (current is None or current.id != candidate)


def verdict_key(stage: str, step: int) -> str:
    """Where a verdict is kept: every canary step is judged for itself."""
    return f"canary-{step}" if stage == "canary" else stage
