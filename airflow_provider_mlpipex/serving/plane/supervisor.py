"""The supervisor of the embedded plane: runs releases, routes requests, and takes traffic back when nobody watches.

It implements the ``ServingPlane`` port on this machine. What should run and which plan is in force stand in its state
file before it acts, so it converges from there whenever it starts; Envoy and the model servers are detached and go on
while it is away.

Over 400 lines, because it holds the one lock: whatever changes state and routes together is read in one place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from airflow_provider_mlpipex.domain.drift.report import BatchFaults
from airflow_provider_mlpipex.domain.drift.served import BatchSketches, ServedSketches
from airflow_provider_mlpipex.domain.errors import MlpipexError, PlaneUnavailable, PlanRefused, ReleaseNotReady
from airflow_provider_mlpipex.domain.gates.evidence import Telemetry
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
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TIMEOUT_S, TrafficPlan
from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.serving import cancelling
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy.attempts import AttemptTail
from airflow_provider_mlpipex.serving.envoy.ingress import Ingress
from airflow_provider_mlpipex.serving.envoy.waiting_room import WaitingRoom
from airflow_provider_mlpipex.serving.plane.desired_state import DesiredState
from airflow_provider_mlpipex.serving.plane.fallbacks import Fallbacks, FallbackUse
from airflow_provider_mlpipex.serving.plane.fleet import Fleet, standby_name
from airflow_provider_mlpipex.serving.plane.head_witness import HeadWitness
from airflow_provider_mlpipex.serving.plane.leases import lease_for
from airflow_provider_mlpipex.serving.plane.ledger_heads import LedgerHeads
from airflow_provider_mlpipex.serving.plane.liveness import Liveness
from airflow_provider_mlpipex.serving.plane.memory import MemoryWatch, usual_limit
from airflow_provider_mlpipex.serving.plane.metrics import PlaneMetrics
from airflow_provider_mlpipex.serving.plane.recovery import take_up
from airflow_provider_mlpipex.serving.plane.revival import Revival
from airflow_provider_mlpipex.serving.plane.standbys import Standbys
from airflow_provider_mlpipex.serving.plane.tokens import TokenFiles
from airflow_provider_mlpipex.serving.plane.unrecorded import (
    TakenBack,
    Unrecorded,
    plan_without,
    require_not_taken_back,
)
from airflow_provider_mlpipex.serving.plane_log import LEASE_ENDED, PROCESS_RESTARTED, WORK_FAILED, plane_log
from airflow_provider_mlpipex.serving.prediction_log import comparison, lookup, sample
from airflow_provider_mlpipex.serving.prediction_log.reader import read_stats
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from airflow_provider_mlpipex.serving.reserve import Reserve
from airflow_provider_mlpipex.serving.sketches.service import SketchedLogs
from airflow_provider_mlpipex.serving.state_dir import Places
from airflow_provider_mlpipex.serving.timeouts import request_limit_s

_WATCH_S = 0.1
#: A candidate gets this many times what all but one of a hundred requests take of current, over the last hour; fewer
#: requests than these say nothing of it.
_TIMES_USUAL, _USUAL, _LATENCY_WINDOW_S, _LATENCY_REQUESTS = 2.0, 0.99, 3600.0, 20
#: The same trouble is said again only after this long.
_REPEAT_S = 10.0


class Supervisor:
    """:param state_dir: everything it writes. :param tracking_uri: where artifacts are fetched from, once.
    :param feature_repository: Feast repository of releases with a feature service.
    :param standbys: whether each current release has a second process that is ready to take over.
    :param model_memory: bytes that one model server may hold; ``None``: half of what there is, 0: no limit.
    :param witness: of the ledger's heads, outside this machine.
    :param on_fallback: is called when a previous release begins to answer what current cannot.
    :param on_taken_back: writes down what was taken back without a ledger; raises while that cannot be.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        ingress_port: int,
        tracking_uri: str,
        feature_repository: Path | None = None,
        standbys: bool = True,
        model_memory: int | None = None,
        witness: HeadWitness | None = None,
        on_fallback: Callable[[FallbackUse], None] = lambda _: None,
        on_taken_back: Callable[[Supervisor, EndpointRef, TakenBack], None] = lambda *_: None,
    ) -> None:
        self._places = Places(state_dir)
        self._port = ingress_port
        memory = take_up(self._places)
        # Guards memory and what is pushed from it. Nobody fetches, builds, pings or drains while holding it: one
        # endpoint's trouble must not hold up another's rollback.
        self._lock = threading.RLock()
        self._release_locks: dict[tuple[EndpointRef, str], threading.Lock] = {}
        #: Of each release that somebody is making ready, what calls that off.
        self._ensuring: dict[tuple[EndpointRef, str], list[threading.Event]] = {}
        self._keeper = ProcessKeeper(self._places.children, plane_id=memory.plane_id)
        self._fleet = Fleet(
            self._places, self._keeper, tracking_uri=tracking_uri, feature_repository=feature_repository
        )
        self.reserve = Reserve(self._places.reserve)
        salt = digest_of(f"users of {memory.plane_id}")[:32]
        self._ingress = Ingress(self._places.envoys, self._keeper, reserve=self.reserve, salt=salt)
        self._tail = AttemptTail({envoy.paths.attempts_log: envoy.reopen_logs for envoy in self._ingress.envoys})
        self._stopping = threading.Event()
        self._said: dict[str, tuple[str, float]] = {}
        self._heads = LedgerHeads(self._places.ledger_heads, say=self._say, witness=witness)
        self._tokens = TokenFiles(self._places.root)
        self._desired = DesiredState(
            memory, self._places, self._ingress, reserve=self.reserve, say=self._say, tokens=self._tokens.ingress
        )
        self._sketched = SketchedLogs(self._places, say=self._say)
        self._liveness = Liveness(
            self._desired.kept, self._fleet.answers, self._keeper, self._say, serving=self._fleet.serving
        )
        self._waiting_room = WaitingRoom(ingress_port, is_open=self._ingress.is_serving, say=self._say)
        self._revival = Revival(
            self._keeper,
            self._desired.currents,
            self._fleet.listens,
            envoys=[envoy.name for envoy in self._ingress.envoys],
            behind=self._desired.fallbacks,
            may_hold=lambda: self._waiting_room.is_there,
        )
        self._standbys = Standbys(self._desired.currents if standbys else tuple, self._fleet, self._say)
        self._memory_watch = MemoryWatch(
            self._keeper,
            limit_bytes=usual_limit() if model_memory is None else model_memory,
            but=[envoy.name for envoy in self._ingress.envoys],
            say=self._say,
        )
        self._metrics = PlaneMetrics(self._tail, self._desired, self._fleet, self._heads, self._ingress)
        self._fallbacks = Fallbacks(self._desired.plans, self.telemetry, on_fallback, self._say)
        self._unrecorded = Unrecorded(self._desired.taken_back, partial(on_taken_back, self), self._say)
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    # Life of the plane.

    def start(self) -> None:
        """Converge on what the state file says, then watch."""
        kept = self._desired.kept()
        with self._lock:
            self._desired.remember(self._desired.memory, surely=False)
            self._keeper.end_strays(
                needed={
                    *(envoy.name for envoy in self._ingress.envoys),
                    *(envoy_config.cluster_name(endpoint, release.id) for endpoint, release in kept),
                    *(standby_name(endpoint, release) for endpoint, release in self._desired.currents()),
                }
            )
            self._ingress.start(port=self._port, tokens=self._tokens.ingress())
            for endpoint, release in kept:
                self._own(endpoint, release)
            self._desired.push()
            self._tail.recover()
            for plan in self._desired.plans():
                self._tail.split(plan)
        self._waiting_room.start()
        # From here on leases end, whatever the launching of releases takes.
        self._watcher.start()
        self._sketched.start()
        self._liveness.start()
        self._memory_watch.start()
        self._unrecorded.start()
        self._standbys.start()
        self._fallbacks.start()
        currents, behind = set(self._desired.currents()), set(self._desired.fallbacks())
        for endpoint, release in sorted(
            kept, key=lambda kept: ((kept[0], kept[1].id) not in currents, (kept[0], kept[1].id) not in behind)
        ):
            try:
                self._fleet.launch(endpoint, release)
            except (MlpipexError, OSError) as error:
                # One release that cannot come back must not keep the others from serving; its status says why.
                self._say(f"release {release.id} of {endpoint}", error)

    def interrupt(self) -> None:
        """Let verbs that wait for a model server give up, because the plane is about to stop."""
        self._stopping.set()

    def detach(self) -> None:
        """Stop watching; Envoy and model servers go on serving."""
        self._stopping.set()
        self._waiting_room.stop()
        if self._watcher.is_alive():
            self._watcher.join(timeout=5)
        self._standbys.stop()
        self._fallbacks.stop()
        self._sketched.stop()
        self._liveness.stop()
        self._memory_watch.stop()
        self._unrecorded.stop()

    def shut_down(self) -> None:
        """Stop everything that this plane runs."""
        self.detach()
        self._ingress.drain()
        self._keeper.stop_all()
        self._places.remove_sockets()

    # The verbs of the ServingPlane port.

    def ensure(self, endpoint: EndpointRef, release: Release, *, timeout_s: float) -> ReleaseStatus:
        with self._may_be_called_off(endpoint, release.id):
            try:
                return self._ensure(endpoint, release, timeout_s=timeout_s)
            except cancelling.Cancelled:
                raise _called_off(release) from None

    def _ensure(self, endpoint: EndpointRef, release: Release, *, timeout_s: float) -> ReleaseStatus:
        with self._only_me(endpoint, release.id):
            known = release.id in self._desired.of(endpoint).releases
            status = self._fleet.status(endpoint, release.id)
            if known and status.state == "ready":
                return status
            self._own(endpoint, release)
            self._fleet.launch(endpoint, release)
            try:
                status = self._fleet.wait_until_ready(
                    endpoint, release, timeout_s=timeout_s, first=not known, stopping=self._stopping
                )
                cancelling.check()
            except (MlpipexError, cancelling.Cancelled):
                if release.id not in self._desired.in_use(endpoint):
                    self._fleet.stop(endpoint, release.id)
                raise
            with self._lock:
                memory = self._desired.of(endpoint)
                self._desired.update(endpoint, releases={**memory.releases, release.id: release})
                self._desired.push()
            return status

    def apply(self, plan: TrafficPlan, *, claim: HeadClaim | None = None) -> AppliedPlan:
        started = time.monotonic()
        for release in plan.releases:
            status = self._fleet.status(plan.endpoint, release)
            if status.state != "ready":
                raise _refused(plan, f"release {release} is {status.state}")
        with self._lock:
            before = self._desired.of(plan.endpoint)
            require_not_taken_back(plan, before.taken_back)
            is_return = plan.releases == (plan.current,)
            disputed = self._is_disputed(plan, claim)
            for release in plan.releases:
                if release not in before.releases:
                    raise _refused(plan, f"release {release} is not kept for this endpoint")
            self._desired.update(
                plan.endpoint,
                plan=plan,
                lease=lease_for(plan.lease_s),
                lease_expired_at=None,
                try_limit_s=self._try_limit_s(plan),
                returns_to=before.returns_to_after(plan),
                # A ledger that can be read goes without the release by now.
                taken_back=before.taken_back if claim is None else None,
                # To take traffic back needs no disk. A trial that no restart would know of does not begin.
                surely=not is_return,
            )
            try:
                self._desired.push(surely=not is_return)
            except (MlpipexError, OSError):
                # In memory at once, on disk with the push: not even a full disk keeps a plan that was refused.
                self._desired.memory = self._desired.memory.with_endpoint(str(plan.endpoint), before)
                self._desired.settle()
                raise
            self._tail.split(plan)
            if claim is not None and claim.head is not None and not disputed:
                self._heads.note(str(plan.endpoint), claim.head)
        elapsed_ms = (time.monotonic() - started) * 1000.0
        return AppliedPlan(
            plan=plan,
            applied_at=datetime.now(UTC),
            acknowledged_ms=round(elapsed_ms, 3),
            ledger_disputed=disputed,
        )

    def take_back(
        self, endpoint: EndpointRef, *, instead_of: TrafficPlan | None, release_id: str | None, cause: str, user: str
    ) -> TakenBack:
        """Return traffic to the last release that this plane knows as good, because no ledger can be asked which one
        that is. It is recorded as soon as one can be.

        :param instead_of: the plan that was in force when somebody asked for it.
        :param release_id: take this one away and no other.
        :raises PlanRefused: there is nothing to return to; another one serves, or another plan is in force by now.
        """
        memory = self._desired.of(endpoint)
        plan, known = memory.plan, memory.returns_to
        if plan is None or plan != instead_of:
            raise PlanRefused(
                f"rollback of {endpoint} without its ledger",
                value=f"plan {plan.id if plan else 'none'}",
                limit="the plan that was in force when it was asked for",
                remedy="look at what serves now: mlpipex status",
            )
        returns_to = known if known in memory.releases else None
        taken, back = plan_without(plan, returns_to=returns_to, release_id=release_id)
        applied = self.apply(back)
        done = TakenBack(release=taken, returned_to=back.current, cause=cause, user=user, at=applied.applied_at)
        with self._lock:
            self._desired.update(endpoint, taken_back=done, surely=False)
        return done

    def plan_in_force(self, endpoint: EndpointRef) -> TrafficPlan | None:
        """As this plane remembers it; Envoy is not asked."""
        return self._desired.of(endpoint).plan

    def _is_disputed(self, plan: TrafficPlan, claim: HeadClaim | None) -> bool:
        """Whether ``plan`` comes from another chain than the one whose head was noted, and is taken all the same.

        :raises LedgerRewritten: it is not.
        """
        noted = self._heads.of(str(plan.endpoint))
        is_return = plan.releases == (plan.current,)
        if noted is None or (claim is None and is_return) or (claim is not None and claim.continues(noted)):
            return False
        if self._desired.of(plan.endpoint).knows_as_good(plan):
            return True
        raise rewritten(plan.endpoint, noted=noted, claim=claim or HeadClaim(head=None))

    def heads(self, endpoint: EndpointRef | None = None) -> dict[str, LedgerHead]:
        heads = self._heads.all()
        return heads if endpoint is None else {name: head for name, head in heads.items() if name == str(endpoint)}

    def note_head(self, endpoint: EndpointRef, claim: HeadClaim) -> None:
        with self._lock:
            noted = self._heads.of(str(endpoint))
            if noted is not None and not claim.continues(noted):
                raise rewritten(endpoint, noted=noted, claim=claim)
            if claim.head is not None:
                self._heads.note(str(endpoint), claim.head)

    def accept_head(self, endpoint: EndpointRef, head: LedgerHead, *, instead_of: LedgerHead, reason: str) -> None:
        with self._lock:
            noted = self._heads.of(str(endpoint))
            if noted != instead_of:
                raise PlanRefused(
                    f"head of the ledger of {endpoint}",
                    value=str(instead_of),
                    limit=f"what is noted: {noted or 'nothing'}",
                    remedy="look at both again: mlpipex audit verify",
                )
            self._heads.note(str(endpoint), head, accepted=reason, instead_of=instead_of.hash)

    def renew(self, endpoint: EndpointRef, plan_id: str) -> None:
        with self._lock:
            memory = self._desired.of(endpoint)
            plan = memory.plan
            # A lease that ran out a moment ago is over, though the watch may not have come to it yet.
            if plan is None or plan.id != plan_id or (memory.lease and memory.lease.is_over):
                raise PlanRefused(
                    f"lease of {endpoint}",
                    value=plan_id,
                    limit=f"plan in force: {plan.id if plan else 'none'}",
                    remedy="the lease ran out or another plan was applied; read the ledger",
                )
            if plan.lease_s is not None:
                self._desired.update(endpoint, lease=lease_for(plan.lease_s))

    def observe(self, endpoint: EndpointRef) -> PlaneObservation:
        with self._lock:
            memory = self._desired.of(endpoint)
            self._require_settled()
        logs = [self._places.prediction_log(endpoint, release) for release in memory.releases]
        return PlaneObservation(
            endpoint=endpoint,
            address=f"http://127.0.0.1:{self._port}/endpoints/{endpoint}",
            plan=memory.plan,
            releases={release: self._fleet.status(endpoint, release) for release in memory.releases},
            known=memory.releases,
            lease_expired_at=memory.lease_expired_at,
            dropped_predictions=sum(read_stats(folder).dropped for folder in logs),
        )

    def kept_releases(self, endpoint: EndpointRef) -> dict[str, Release]:
        """Releases that run here for ``endpoint``, by id. Answers while Envoy is away: a rollback asks it."""
        return self._desired.of(endpoint).releases

    def knows_as_good(self, plan: TrafficPlan) -> bool:
        """Whether ``plan`` gives all traffic to a release that this plane itself has had as current."""
        return self._desired.of(plan.endpoint).knows_as_good(plan)

    def make_room(self) -> bool:
        """Give back the room that is kept for the worst moment, where the disk is full; whether there was any."""
        return self.reserve.disk_is_full and self.reserve.free()

    def refusals(self) -> dict[str, int]:
        """Requests that never reached a model server, by why, since Envoy's start."""
        return self._ingress.refusals()

    def metrics(self) -> bytes:
        """In Prometheus' text format, see :mod:`.metrics`."""
        return self._metrics.text()

    def telemetry(self, endpoint: EndpointRef, *, since: datetime, until: datetime) -> Telemetry:
        return self._tail.telemetry(endpoint, list(self._desired.of(endpoint).releases), since=since, until=until)

    def survey(self, asked: Sequence[Surveyed], *, until: datetime, warm: bool = False) -> PlaneSurvey:
        with self._lock:
            plans = {each.endpoint: self._desired.of(each.endpoint).plan for each in asked}
            kept = {each.endpoint: list(self._desired.of(each.endpoint).releases) for each in asked}
            self._require_settled()
        windows = [(each.endpoint, each.release, each.since) for each in asked if each.since]
        return PlaneSurvey(
            plans={endpoint: plan.id if plan else None for endpoint, plan in plans.items()},
            telemetry=self._tail.survey(windows, until=until),
            warm={
                endpoint: {release: self._fleet.listens(endpoint, release) for release in releases}
                for endpoint, releases in kept.items()
            }
            if warm
            else None,
        )

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
        return comparison.compare(
            self._places.predictions, endpoint, primary=primary, shadow=shadow, since=since, until=until, slices=slices
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
        folder = self._places.prediction_log(endpoint, release_id)
        return sample.sample(folder, release=release_id, since=since, until=until, limit=limit, batch=batch)

    def sketches(self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime) -> ServedSketches:
        return self._sketched.sketches(endpoint, release_id, since=since, until=until)

    def sketches_by_batch(
        self, endpoint: EndpointRef, release_id: str, *, column: str, since: datetime, until: datetime
    ) -> BatchSketches:
        return self._sketched.sketches_by_batch(endpoint, release_id, column=column, since=since, until=until)

    def batch_faults(
        self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime, psi: float, alpha: float
    ) -> BatchFaults:
        return self._sketched.batch_faults(endpoint, release_id, since=since, until=until, psi=psi, alpha=alpha)

    def served(self, endpoint: EndpointRef, request_ids: Sequence[str]) -> ServedAnswers:
        return lookup.find(self._places.predictions, endpoint, request_ids)

    def retire(self, endpoint: EndpointRef, release_id: str) -> None:
        if release_id not in self._desired.in_use(endpoint):
            # Whoever still waits for it, or for the registry to give it, need not.
            with self._lock:
                for event in self._ensuring.get((endpoint, release_id), ()):
                    event.set()
        with self._only_me(endpoint, release_id):
            with self._lock:
                if release_id in self._desired.in_use(endpoint):
                    raise PlanRefused(
                        f"release {release_id} of {endpoint}",
                        value="retire",
                        limit="the plan in force needs it",
                        remedy="shift traffic away first",
                    )
                memory = self._desired.of(endpoint)
                if release_id in memory.releases:
                    kept = {key: release for key, release in memory.releases.items() if key != release_id}
                    self._desired.update(endpoint, releases=kept)
                    self._desired.push()
            self._fleet.stop(endpoint, release_id)

    def inject_fault(
        self,
        endpoint: EndpointRef,
        release_id: str,
        fault: dict[str, float] | None,
        *,
        record: Callable[[], None] = lambda: None,
    ) -> None:
        """The drill port: break a release on purpose, or mend it (``None``).

        :param record: writes it down first; nothing is done where it raises.
        :raises PlanRefused: no such release here.
        """
        if release_id not in self._desired.of(endpoint).releases:
            raise PlanRefused(
                f"release {release_id} of {endpoint}", value="drill", limit="a release kept here", remedy="see status"
            )
        record()
        self._fleet.set_fault(endpoint, release_id, fault)

    # Watching.

    def _watch(self) -> None:
        duties = {
            "telemetry": self._tail.poll,
            "processes": self._revive,
            "leases": self._return_unwatched,
            "tokens": self._take_rotated,
            "logs": self._keeper.bound_logs,
            "log of answers": self._ingress.bound_logs,
            "files of Envoy": self._restore_files,
            "reserve": self._keep_reserve,
        }
        while not self._stopping.wait(_WATCH_S):
            for name, duty in duties.items():
                try:
                    duty()
                except Exception as error:  # noqa: BLE001 - who takes traffic back must outlive every error; it is said
                    self._say(name, error)

    def _revive(self) -> None:
        for name in self._revival.revive():
            plane_log.warning(PROCESS_RESTARTED, process=name)

    def _return_unwatched(self) -> None:
        """End leases that ran out, and put in force what could not be before."""
        # A verb may hold the lock until Envoy is back: this thread must not wait for it, for it restarts Envoy.
        if not self._lock.acquire(timeout=_WATCH_S):
            return
        try:
            for name, memory in list(self._desired.memory.endpoints.items()):
                if memory.plan is None or memory.lease is None or not memory.lease.is_over:
                    continue
                self._desired.settled = False
                plan, now = memory.plan.only_current(), datetime.now(UTC)
                self._desired.update(plan.endpoint, plan=plan, lease=None, lease_expired_at=now, surely=False)
                self._tail.split(plan)
                plane_log.warning(LEASE_ENDED, endpoint=name, current=memory.plan.current)
            if not self._desired.settled:
                self._desired.settle()
        finally:
            self._lock.release()

    def _restore_files(self) -> None:
        # A verb that holds the lock writes them itself.
        if self._lock.acquire(blocking=False):
            try:
                self._ingress.restore()
            finally:
                self._lock.release()

    def _take_rotated(self) -> None:
        """Put the tokens of the ingress in force that hold now."""
        if self._desired.tokens_changed and self._lock.acquire(timeout=_WATCH_S):
            try:
                self._desired.settle()
            finally:
                self._lock.release()

    def _keep_reserve(self) -> None:
        if self._desired.unwritten:
            with self._lock:
                self._desired.remember(self._desired.memory)
        self.reserve.refill()

    def _say(self, what: str, error: Exception) -> None:
        text, now = f"{type(error).__name__}: {error}", time.monotonic()
        before, at = self._said.get(what, ("", 0.0))
        if text != before or now - at >= _REPEAT_S:
            self._said[what] = (text, now)
            plane_log.error(WORK_FAILED, work=what, error=text)

    def _try_limit_s(self, plan: TrafficPlan) -> float:
        """What the manifest allows, but never less than twice what nearly every request takes of current itself: a
        candidate as slow as the release that it replaces is not broken."""
        stated = plan.timeout_s or TIMEOUT_S
        until = datetime.now(UTC)
        measured = self._tail.telemetry(
            plan.endpoint, [plan.current], since=until - timedelta(seconds=_LATENCY_WINDOW_S), until=until
        ).releases[plan.current]
        usual_ms = measured.latency.quantile(_USUAL) if measured.requests >= _LATENCY_REQUESTS else None
        return round(min(max(stated, _TIMES_USUAL * (usual_ms or 0.0) / 1000.0), request_limit_s(stated)), 3)

    def _require_settled(self) -> None:
        """:raises PlaneUnavailable: Envoy does not route as the state says."""
        version, in_force = str(self._desired.memory.version), self._ingress.version("rds")
        if in_force != version or not self._desired.settled:
            raise PlaneUnavailable(
                "Envoy's routes",
                value=f"version {in_force}",
                limit=f"version {version}",
                remedy="the supervisor is converging; run the task again",
            )

    def _own(self, endpoint: EndpointRef, release: Release) -> None:
        """Attempts on its socket are this release's."""
        self._tail.owners[self._places.socket(endpoint, release.id).name] = (str(endpoint), release.slug)

    @contextmanager
    def _only_me(self, endpoint: EndpointRef, release_id: str) -> Iterator[None]:
        """One verb at a time may start or end one release."""
        with self._lock:
            lock = self._release_locks.setdefault((endpoint, release_id), threading.Lock())
        cancelling.acquire(lock)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _may_be_called_off(self, endpoint: EndpointRef, release_id: str) -> Iterator[None]:
        event = threading.Event()
        with self._lock:
            self._ensuring.setdefault((endpoint, release_id), []).append(event)
        try:
            with cancelling.until(event):
                yield
        finally:
            with self._lock:
                self._ensuring[endpoint, release_id].remove(event)


def _called_off(release: Release) -> ReleaseNotReady:
    return ReleaseNotReady(
        f"release {release.id}",
        value="called off while it was being made ready",
        limit="nobody retires it meanwhile",
        remedy="run the task again if the release is still wanted",
    )


def _refused(plan: TrafficPlan, why: str) -> PlanRefused:
    return PlanRefused(
        f"traffic plan {plan.id} of {plan.endpoint}",
        value=why,
        limit="every release of a plan is ready",
        remedy="ensure the release first; the plan before is still in force",
    )
