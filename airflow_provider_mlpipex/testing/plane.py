"""The serving plane in memory: the port's fake, with the same refusals, and a world that a test plays by hand.

Over 400 lines, because it is one class: every verb of the widest port, and what a test plays the world with.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_mlpipex.domain.drift.references import Reference
from airflow_provider_mlpipex.domain.drift.report import BatchFaults
from airflow_provider_mlpipex.domain.drift.served import BatchSketches, ServedSketches
from airflow_provider_mlpipex.domain.errors import MlpipexError, PlaneUnavailable, PlanRefused
from airflow_provider_mlpipex.domain.gates.evidence import Groups, Split, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import ServedAnswers
from airflow_provider_mlpipex.domain.predictions import PredictionSample
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead, rewritten
from airflow_provider_mlpipex.domain.rollout.plane_observation import (
    AppliedPlan,
    PlaneObservation,
    PlaneSurvey,
    ReleaseStatus,
    Surveyed,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison
from airflow_provider_mlpipex.ports import Clock
from airflow_provider_mlpipex.testing import served_outcomes, served_rows
from airflow_provider_mlpipex.testing.paired_answers import compare_answers
from airflow_provider_mlpipex.testing.served_traffic import ServedAnswer, ServedRequests, counted


@dataclass
class _Endpoint:
    releases: dict[str, Release] = field(default_factory=dict)
    plan: TrafficPlan | None = None
    lease_ends: datetime | None = None
    lease_expired_at: datetime | None = None
    returns_to: str | None = None
    served: list[ServedRequests] = field(default_factory=list)
    #: Release id -> request id -> its first answer; what a release lost to a full queue is only counted.
    answers: dict[str, dict[str, list[ServedAnswer]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    dropped: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    #: Of the plan in force, who was sent where; ``None`` while nobody has counted.
    split: Split | None = None


class MemoryPlane:
    """One process only; safe among threads. Leases end by ``clock``.

    Beside the port it has what a test plays the world with: :meth:`serve`, :meth:`send_users`, :meth:`answer`,
    :meth:`answer_pairs`, :meth:`know_reference`, :meth:`drop_predictions`, :meth:`break_release`,
    :meth:`mend_release`, ``away`` and ``telemetry_trouble``.

    ``away``: every verb raises :class:`PlaneUnavailable`; leases end all the same, as the real plane's do.
    ``telemetry_trouble``: non-empty makes telemetry incomplete, for this reason. ``applied``: every plan that was put
    in force, in order. ``surveys``: how often many endpoints were asked about at once. ``noted``: endpoint -> head of
    its ledger, as it was noted last.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._endpoints: dict[EndpointRef, _Endpoint] = defaultdict(_Endpoint)
        self._broken: dict[str, MlpipexError] = {}
        self._references: dict[str, Reference] = {}
        self.away = False
        self.telemetry_trouble = ""
        self.applied: list[TrafficPlan] = []
        self.surveys = 0
        self.noted: dict[str, LedgerHead] = {}

    # The verbs of the ServingPlane port.

    def ensure(self, endpoint: EndpointRef, release: Release, *, timeout_s: float) -> ReleaseStatus:
        with self._lock:
            held = self._reach(endpoint)
            if release.id in self._broken:
                raise self._broken[release.id]
            held.releases[release.id] = release
            return ReleaseStatus(release=release.id, state="ready")

    def apply(self, plan: TrafficPlan, *, claim: HeadClaim | None = None) -> AppliedPlan:
        with self._lock:
            held = self._reach(plan.endpoint)
            for release in plan.releases:
                status = self._status(held, release)
                if status.state != "ready":
                    raise PlanRefused(
                        f"traffic plan {plan.id} of {plan.endpoint}",
                        value=f"release {release} is {status.state}",
                        limit="every release of a plan is ready",
                        remedy="ensure the release first; the plan before is still in force",
                    )
            disputed = self._is_disputed(held, plan, claim)
            if held.plan is not None and plan.current != held.plan.current:
                held.returns_to = None if plan.current == held.returns_to else held.plan.current
            if held.plan is None or plan.weights != held.plan.weights:
                held.split = None
            held.plan, held.lease_expired_at = plan, None
            self._prolong(held, plan)
            self.applied.append(plan)
            if claim is not None and claim.head is not None and not disputed:
                self.noted[str(plan.endpoint)] = claim.head
            return AppliedPlan(plan=plan, applied_at=self._clock.now(), acknowledged_ms=0.0, ledger_disputed=disputed)

    def _is_disputed(self, held: _Endpoint, plan: TrafficPlan, claim: HeadClaim | None) -> bool:
        noted, is_return = self.noted.get(str(plan.endpoint)), plan.releases == (plan.current,)
        if noted is None or (claim is None and is_return) or (claim is not None and claim.continues(noted)):
            return False
        if is_return and plan.current in (held.plan and held.plan.current, held.returns_to):
            return True
        raise rewritten(plan.endpoint, noted=noted, claim=claim or HeadClaim(head=None))

    def heads(self, endpoint: EndpointRef | None = None) -> dict[str, LedgerHead]:
        with self._lock:
            if self.away:
                raise _away()
            return {name: head for name, head in self.noted.items() if endpoint is None or name == str(endpoint)}

    def note_head(self, endpoint: EndpointRef, claim: HeadClaim) -> None:
        with self._lock:
            noted = self.heads(endpoint).get(str(endpoint))
            if noted is not None and not claim.continues(noted):
                raise rewritten(endpoint, noted=noted, claim=claim)
            if claim.head is not None:
                self.noted[str(endpoint)] = claim.head

    def accept_head(self, endpoint: EndpointRef, head: LedgerHead, *, instead_of: LedgerHead, reason: str) -> None:
        with self._lock:
            noted = self.heads(endpoint).get(str(endpoint))
            if noted != instead_of:
                raise PlanRefused(
                    f"head of the ledger of {endpoint}",
                    value=str(instead_of),
                    limit=f"what is noted: {noted or 'nothing'}",
                    remedy="look at both again: mlpipex audit verify",
                )
            self.noted[str(endpoint)] = head

    def renew(self, endpoint: EndpointRef, plan_id: str) -> None:
        with self._lock:
            held = self._reach(endpoint)
            if held.plan is None or held.plan.id != plan_id:
                raise PlanRefused(
                    f"lease of {endpoint}",
                    value=plan_id,
                    limit=f"plan in force: {held.plan.id if held.plan else 'none'}",
                    remedy="the lease ran out or another plan was applied; read the ledger",
                )
            self._prolong(held, held.plan)

    def observe(self, endpoint: EndpointRef) -> PlaneObservation:
        with self._lock:
            held = self._reach(endpoint)
            return PlaneObservation(
                endpoint=endpoint,
                address=f"memory://plane/endpoints/{endpoint}",
                plan=held.plan,
                releases={release: self._status(held, release) for release in held.releases},
                known=dict(held.releases),
                lease_expired_at=held.lease_expired_at,
                dropped_predictions=sum(held.dropped[release] for release in held.releases),
            )

    def telemetry(self, endpoint: EndpointRef, *, since: datetime, until: datetime) -> Telemetry:
        with self._lock:
            held = self._reach(endpoint)
            return self._telemetry(endpoint, held, held.releases, since, until)

    def survey(self, asked: Sequence[Surveyed], *, until: datetime, warm: bool = False) -> PlaneSurvey:
        with self._lock:
            self.surveys += 1
            plans: dict[EndpointRef, str | None] = {}
            telemetry: dict[EndpointRef, tuple[Telemetry, ...]] = {}
            takes: dict[EndpointRef, dict[str, bool]] | None = {} if warm else None
            for each in asked:
                held = self._reach(each.endpoint)
                plans[each.endpoint] = held.plan.id if held.plan else None
                if takes is not None:
                    takes[each.endpoint] = {name: self._status(held, name).state == "ready" for name in held.releases}
                if each.since:
                    telemetry[each.endpoint] = tuple(
                        self._telemetry(each.endpoint, held, [each.release], since, until).model_copy(
                            update={"split": None}
                        )
                        for since in each.since
                    )
            return PlaneSurvey(plans=plans, telemetry=telemetry, warm=takes)

    def compare(
        self,
        endpoint: EndpointRef,
        *,
        primary: str,
        shadow: str,
        since: datetime,
        until: datetime,
        slices: Sequence[str] = (),
    ) -> ShadowComparison:
        with self._lock:
            held = self._reach(endpoint)
            dropped = held.dropped[primary] + held.dropped[shadow]
            logged = sum(map(len, (*held.answers[primary].values(), *held.answers[shadow].values()))) if dropped else 0
            return compare_answers(
                *(
                    {rid: [each.logged for each in some] for rid, some in held.answers[release].items()}
                    for release in (primary, shadow)
                ),
                since=since,
                until=until,
                slices=slices,
                primary=primary,
                shadow=shadow,
                dropped_share=dropped / (dropped + logged) if dropped else 0.0,
            )

    def predictions(
        self,
        endpoint: EndpointRef,
        release_id: str,
        *,
        since: datetime,
        until: datetime,
        limit: int,
        batch: str | None = None,
    ) -> PredictionSample:
        with self._lock:
            held = self._reach(endpoint)
            answers, dropped = held.answers[release_id], held.dropped[release_id]
            return served_rows.sample(
                answers, release=release_id, since=since, until=until, limit=limit, dropped=dropped, batch=batch
            )

    def sketches(self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime) -> ServedSketches:
        with self._lock:
            held = self._reach(endpoint)
            return served_rows.sketches(
                held.answers[release_id],
                self._references.get(release_id),
                release=release_id,
                since=since,
                until=until,
                dropped=held.dropped[release_id],
            )

    def sketches_by_batch(
        self, endpoint: EndpointRef, release_id: str, *, column: str, since: datetime, until: datetime
    ) -> BatchSketches:
        with self._lock:
            answers, reference = self._reach(endpoint).answers[release_id], self._references.get(release_id)
            return served_rows.sketches_by_batch(
                answers, reference, release=release_id, column=column, since=since, until=until
            )

    def batch_faults(
        self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime, psi: float, alpha: float
    ) -> BatchFaults:
        with self._lock:
            answers, reference = self._reach(endpoint).answers[release_id], self._references.get(release_id)
            return served_rows.batch_faults(answers, reference, since=since, until=until, psi=psi, alpha=alpha)

    def served(self, endpoint: EndpointRef, request_ids: Sequence[str]) -> ServedAnswers:
        with self._lock:
            return served_outcomes.find(self._reach(endpoint).answers, request_ids)

    def retire(self, endpoint: EndpointRef, release_id: str) -> None:
        with self._lock:
            held = self._reach(endpoint)
            if held.plan is not None and release_id in held.plan.releases:
                raise PlanRefused(
                    f"release {release_id} of {endpoint}",
                    value="retire",
                    limit="the plan in force needs it",
                    remedy="shift traffic away first",
                )
            held.releases.pop(release_id, None)

    # The world, for tests.

    def serve(
        self,
        endpoint: EndpointRef,
        release_id: str,
        *,
        requests: int,
        errors: int = 0,
        client_errors: int = 0,
        latency_ms: float = 10.0,
    ) -> None:
        """``release_id`` has just had ``requests`` attempts, of which ``errors`` and ``client_errors`` failed.

        They lie in the current second, which is in every later window that reaches back to its beginning: move the
        clock on before you look.
        """
        if release_id not in self._endpoints[endpoint].releases:
            raise ValueError(f"{release_id} does not run for {endpoint}: ensure it first")
        if errors + client_errors > requests:
            raise ValueError(f"{errors} errors and {client_errors} client errors among {requests} requests")
        second = self._clock.now().replace(microsecond=0)
        with self._lock:
            self._endpoints[endpoint].served.append(
                ServedRequests(second, release_id, requests, errors, client_errors, latency_ms)
            )

    def send_users(self, endpoint: EndpointRef, users: Mapping[str, int]) -> None:
        """So many users, whom nobody has seen since the plan in force came, have just been sent to each release."""
        with self._lock:
            held = self._endpoints[endpoint]
            if held.plan is None or not set(users) <= set(held.plan.weights):
                raise ValueError(f"the plan in force of {endpoint} sends nobody to one of {', '.join(users)}")
            before = held.split or Split(since=self._clock.now(), weights=held.plan.weights, units={})
            units = {release: before.units.get(release, 0) + users.get(release, 0) for release in held.plan.weights}
            held.split = before.model_copy(update={"units": units, "users": before.users + sum(users.values())})

    def tell_groups(self, endpoint: EndpointRef, groups: Mapping[str, Groups]) -> None:
        """What became of the requests of users since the plan in force came, by release and group of users. The
        requests themselves are told of by :meth:`serve`."""
        with self._lock:
            held = self._endpoints[endpoint]
            if held.split is None:
                raise ValueError(f"no users were sent anywhere by the plan in force of {endpoint}: send_users first")
            held.split = held.split.model_copy(update={"groups": dict(groups)})

    def answer(
        self,
        endpoint: EndpointRef,
        request_id: str,
        scores: Mapping[str, float],
        *,
        labels: Mapping[str, str] | None = None,
        inputs: Mapping[str, Any] | None = None,
        batch: str = "",
    ) -> None:
        """Each release of ``scores`` (release id -> first output) has just answered ``request_id`` and logged it; one
        that the plan in force mirrors to has answered a copy.

        :param labels: release id -> label, where that is not the score itself.
        :param inputs: column -> value, as the client sent them. :param batch: what it said they belong to.
        """
        with self._lock:
            plan = self.plan_in_force(endpoint)
            mirror = plan.mirror.release if plan and plan.mirror else None
            for release, score in scores.items():
                label = (labels or {}).get(release, repr(float(score)))
                answer = ServedAnswer(
                    self._clock.now(), score, label, inputs or {}, batch=batch, mirrored=release == mirror
                )
                self._endpoints[endpoint].answers[release][request_id].append(answer)

    def answer_pairs(
        self,
        endpoint: EndpointRef,
        *,
        primary: str,
        shadow: str,
        pairs: int,
        differing: int = 0,
        inputs: Mapping[str, Any] | None = None,
        batch: str = "",
    ) -> None:
        """Both releases have just answered ``pairs`` new requests, ``differing`` of them with another label.

        :param inputs: column -> value, the same in all of them, as is ``batch``.
        """
        with self._lock:
            begin = sum(map(len, self._endpoints[endpoint].answers.values()))
            for number in range(pairs):
                scores = {primary: 0.25, shadow: 0.75 if number < differing else 0.25}
                labels = {release: str(int(score > 0.5)) for release, score in scores.items()}
                self.answer(endpoint, f"pair-{begin}-{number}", scores, labels=labels, inputs=inputs, batch=batch)

    def know_reference(self, release_id: str, reference: Reference) -> None:
        """The artifact of ``release_id`` holds ``reference``: what it answered, before and after, is counted by it."""
        self._references[release_id] = reference

    def drop_predictions(self, endpoint: EndpointRef, release_id: str, count: int) -> None:
        """A full queue cost ``release_id`` this many records of its prediction log."""
        with self._lock:
            self._endpoints[endpoint].dropped[release_id] += count

    def break_release(self, release_id: str, error: MlpipexError) -> None:
        """From now on ``ensure`` raises ``error`` for it; where it runs already, it has failed."""
        self._broken[release_id] = error

    def mend_release(self, release_id: str) -> None:
        """The inverse of :meth:`break_release`."""
        self._broken.pop(release_id, None)

    def plan_in_force(self, endpoint: EndpointRef) -> TrafficPlan | None:
        """What routes requests now, even while the plane is ``away`` for its callers."""
        with self._lock:
            held = self._endpoints[endpoint]
            self._end_expired_lease(held)
            return held.plan

    # Inside.

    def _reach(self, endpoint: EndpointRef) -> _Endpoint:
        held = self._endpoints[endpoint]
        self._end_expired_lease(held)
        if self.away:
            raise _away()
        return held

    def _end_expired_lease(self, held: _Endpoint) -> None:
        now = self._clock.now()
        if held.plan is not None and held.lease_ends is not None and now >= held.lease_ends:
            held.plan, held.lease_ends, held.lease_expired_at = held.plan.only_current(), None, now
            held.split = None

    def _prolong(self, held: _Endpoint, plan: TrafficPlan) -> None:
        held.lease_ends = None if plan.lease_s is None else self._clock.now() + timedelta(seconds=plan.lease_s)

    def _telemetry(
        self, endpoint: EndpointRef, held: _Endpoint, releases: Iterable[str], since: datetime, until: datetime
    ) -> Telemetry:
        return Telemetry(
            endpoint=str(endpoint),
            since=since,
            until=until,
            releases={release: counted(held.served, release, since, until) for release in releases},
            complete=not self.telemetry_trouble,
            detail=self.telemetry_trouble,
            split=held.split,
        )

    def _status(self, held: _Endpoint, release_id: str) -> ReleaseStatus:
        if release_id not in held.releases:
            return ReleaseStatus(release=release_id, state="stopped")
        if release_id in self._broken:
            return ReleaseStatus(release=release_id, state="failed", detail=str(self._broken[release_id]))
        return ReleaseStatus(release=release_id, state="ready")


def _away() -> PlaneUnavailable:
    return PlaneUnavailable(
        "serving plane in memory",
        value="away",
        limit="an answer",
        remedy="traffic goes on as last confirmed; run the task again",
    )
