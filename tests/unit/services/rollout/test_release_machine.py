"""Every verb in any order, by several processes, with every fault in between: the promises hold all the same.

Traffic is only ever on what is current, previous or on trial. Whoever converges makes the plane serve what the ledger
says. Nothing is promoted without passing verdicts and a due approval, nor goes a step against a gate of its Dag. A
rollback ends on a release that was good. One rollout at a time. The ledger's chain verifies. Late labels move no
traffic: they put a promotion in doubt, only a person or a newer promotion ends that, and meanwhile the same model is
not rolled out again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pandas as pd
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_mlpipex.domain.errors import LedgerConflict, LedgerUnavailable, MlpipexError, ReleaseNotReady
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import (
    CanaryStepped,
    Entry,
    GatesJudged,
    OutcomesJudged,
    Promoted,
    PromotionConfirmed,
    PromotionReopened,
    RolledBack,
    RolloutOpened,
    ShadowStarted,
    TaskGateJudged,
    TrafficPlanned,
)
from airflow_provider_mlpipex.domain.rollout.fold import evolve
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout
from airflow_provider_mlpipex.services.outcomes import ingest as outcome_ingest
from airflow_provider_mlpipex.services.outcomes import promotion_doubt
from airflow_provider_mlpipex.services.rollout import traffic
from airflow_provider_mlpipex.services.rollout.health import check_health
from tests.support.faults import Killed
from tests.support.manifests import MANIFEST, make_manifest
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, PAGER, World

#: A path short enough to be walked often: two or three looks a stage.
SHORT = (
    PAGER,
    ("duration: 10m", "duration: 100s"),
    ("min_pairs: 500", "min_pairs: 100"),
    ("step_duration: 15m", "step_duration: 100s"),
    ("30-minute canary window", "250-second canary window"),
    ("min_samples: 100", "min_samples: 20"),
    ("rollback:\n      window: 30m", "rollback:\n      window: 100s"),
)
STAGE_S = 100
#: So many labels are enough to judge by.
LABELS = 20
ALERTS = "    alerts: {on"
LABELLED = (
    ALERTS,
    "    outcomes:\n      window: 30d\n      gates:\n"
    f"        - accuracy within 5% of the baseline from at least {LABELS} labels\n"
    f"        - {{name: floor, metric: outcomes.recall, min: 10%, min_samples: {LABELS}}}\n{ALERTS}",
)
REVIEW = (MANIFEST[MANIFEST.index("    review:") : MANIFEST.index("    shadow:")], "")
STRICT = make_manifest(*SHORT, LABELLED)
UNREVIEWED = make_manifest(REVIEW, *SHORT)
CONTROLLED = make_manifest(REVIEW, *SHORT, LABELLED, ("window: 100s", "window: 100s\n      control: 10%"))


def unwatched() -> Manifest:
    """Neither shadow, canary nor rollback window: straight to all users."""
    live = MANIFEST[MANIFEST.index("    shadow:") : MANIFEST.index("    alerts:")]
    return make_manifest(PAGER, (live, ""))


MANIFESTS = {"strict": STRICT, "unreviewed": UNREVIEWED, "controlled": CONTROLLED, "unwatched": unwatched()}
FAULTS = [
    ("before", "apply", Killed),
    ("after", "apply", Killed),
    ("before", "append", Killed),
    ("after", "append", Killed),
    ("before", "ensure", Killed),
    ("after", "observe", Killed),
    ("before", "append", lambda: LedgerConflict("ledger", limit="a limit", remedy="a remedy")),
    ("before", "append", lambda: LedgerUnavailable("ledger", limit="a limit", remedy="a remedy")),
    ("before", "read", lambda: LedgerUnavailable("ledger", limit="a limit", remedy="a remedy")),
]


class ReleaseMachine(RuleBasedStateMachine):
    """Each rule is one process that does one thing, and may not get to its end."""

    @initialize(released=st.sampled_from([True, True, False]))
    def start(self, released: bool) -> None:
        self.world = World()
        self.count = 0
        self.labelled = 0
        #: A process was killed after it had put an outdated plan in force: the next one that converges puts it right.
        self.unsettled = False
        self.interleaved = False
        if released:
            self.go_on("strict", 4)

    @property
    def rollout(self) -> Rollout | None:
        return self.world.state.rollout

    @property
    def run(self) -> str:
        return self.rollout.id if self.rollout else f"run-{self.count}"

    def attempt(self, act: Callable[[], object]) -> None:
        self.interleaved = False
        try:
            act()
        except Killed:
            self.unsettled |= self.interleaved
        except MlpipexError as error:
            self.unsettled |= self.interleaved and error.transient

    # The way of a release, so that deep states are reached.

    @rule(
        manifest=st.sampled_from(list(MANIFESTS)),
        good=st.booleans(),
        version=st.integers(0, 3),
        declared=st.sampled_from([(), ("recall",), ("recall", "fairness")]),
    )
    def open(self, manifest: str, good: bool, version: int, declared: tuple[str, ...]) -> None:
        self.count += 1
        accuracy = 0.8 if good or self.count < 3 else 0.7
        self.attempt(
            lambda: self.world.open(
                f"run-{self.count}",
                f"1.{version}.0",
                manifest=MANIFESTS[manifest],
                declared_gates=declared,
                accuracy=accuracy,
            )
        )

    @rule(
        gate=st.sampled_from(["recall", "fairness"]),
        verdict=st.sampled_from(["pass", "pass", "fail", "inconclusive"]),
        ahead=st.booleans(),
    )
    def a_gate_of_the_dag(self, gate: str, verdict: VerdictName, ahead: bool) -> None:
        """It judges the rollout in progress, or the next one before it is opened."""
        run = f"run-{self.count + 1}" if ahead else self.run
        self.attempt(lambda: self.world.gate(run, gate, verdict))

    @rule(manifest=st.sampled_from(list(MANIFESTS)), steps=st.integers(1, 5))
    def start_a_run(self, manifest: str, steps: int) -> None:
        """Everything works for a while."""
        self.mend()
        self.go_on(manifest, steps)

    @rule(manifest=st.sampled_from(list(MANIFESTS)), steps=st.integers(1, 8))
    def go_on(self, manifest: str, steps: int) -> None:
        """What a Dag run would do next, as far as it gets."""
        for _ in range(steps):
            if self.rollout is None:
                self.count += 1
                version = f"1.{self.count % 5}.0"
                self.attempt(lambda: self.world.gate(f"run-{self.count}", "recall", "pass"))
                self.attempt(
                    lambda v=version: self.world.open(
                        f"run-{self.count}", v, manifest=MANIFESTS[manifest], declared_gates=("recall",)
                    )
                )
            else:
                self.attempt(lambda: self.next_step(self.rollout))

    def next_step(self, rollout: Rollout | None) -> None:
        assert rollout is not None
        world, policy, passed = self.world, rollout.policy, rollout.verdicts.get
        alone = self.world.state.is_first
        if rollout.phase == "watching":
            world.watch(rollout.id, "watch", seconds=STAGE_S)
        elif policy.review and rollout.approved is None:
            world.review(rollout.id) if rollout.phase == "opened" else world.decide(rollout.id)
        elif policy.shadow_fraction is not None and passed("shadow") != "pass" and not alone:
            world.shadow(rollout.id)
            world.watch(rollout.id, "shadow", seconds=STAGE_S)
        elif not alone and (step := self.undecided_step(rollout)) < len(policy.canary_weights):
            world.canary(rollout.id, step)
            world.watch(rollout.id, "canary", step, seconds=STAGE_S)
        else:
            world.promote(rollout.id)

    @staticmethod
    def undecided_step(rollout: Rollout) -> int:
        steps = range(len(rollout.policy.canary_weights))
        return next((step for step in steps if rollout.verdicts.get(f"canary-{step}") != "pass"), len(steps))

    # Any verb at any time.

    @rule(
        verb=st.sampled_from(
            ["review", "approve", "reject", "shadow", "canary", "promote", "end", "back", "back this", "accept"]
        ),
        step=st.integers(0, 2),
        late=st.booleans(),
    )
    def act(self, verb: str, step: int, late: bool) -> None:
        run = f"run-{max(self.count - 1, 1)}" if late else self.run
        verbs: dict[str, Callable[[], object]] = {
            "review": lambda: self.world.review(run),
            "approve": lambda: self.world.decide(run),
            "reject": lambda: self.world.decide(run, approved=False),
            "shadow": lambda: self.world.shadow(run),
            "canary": lambda: self.world.canary(run, step),
            "promote": lambda: self.world.promote(run),
            "end": lambda: self.world.end_trial(run),
            "back": lambda: self.world.roll_back(),
            "back this": lambda: self.world.roll_back(rollout_id=run),
            "accept": lambda: promotion_doubt.confirm(self.world.platform, ENDPOINT, reviewer="ada", note="seen"),
        }
        self.attempt(verbs[verb])

    @rule(stage=st.sampled_from(["shadow", "canary", "watch", "health"]), step=st.integers(0, 2))
    def look(self, stage: str, step: int) -> None:
        if stage == "health":
            self.attempt(lambda: check_health(self.world.platform, ENDPOINT))
        else:
            self.attempt(lambda: self.world.look(self.run, stage, step))  # type: ignore[arg-type]

    @rule(
        failing=st.sampled_from([0.0, 0.0, 0.02, 1.0]),
        outage=st.sampled_from([0.0, 0.0, 1.0]),
        latency_ms=st.sampled_from([10.0, 400.0]),
        seconds=st.sampled_from([1, LOOK_EVERY, 300]),
    )
    def requests(self, failing: float, outage: float, latency_ms: float, seconds: int) -> None:
        self.world.serve(seconds, failing=failing, latency_ms=latency_ms, outage=outage)
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.world.state.current is not None)
    @rule(
        said=st.sampled_from(["1", "0"]), truth=st.sampled_from([0, 1]), whose=st.sampled_from(["current", "previous"])
    )
    def labels(self, said: str, truth: int, whose: str) -> None:
        """Some come for what a release has just served."""
        state, plane = self.world.state, self.world.memory.plane
        release = state.current if whose == "current" or state.previous is None else state.previous
        assert release is not None
        ids = [f"request-{self.labelled + number}" for number in range(LABELS)]
        self.labelled += LABELS
        for rid in ids:
            plane.answer(ENDPOINT, rid, {release.id: 0.9 if said == "1" else 0.1}, labels={release.id: said})
        table = pd.DataFrame({"request_id": ids, "label": [truth] * LABELS})
        applied = len(plane.applied)
        self.attempt(lambda: outcome_ingest.ingest(self.world.platform, ENDPOINT, table, subject="labels.csv"))
        assert self.interleaved or len(plane.applied) == applied, "labels move no traffic"

    # What goes wrong.

    @rule(fault=st.sampled_from(FAULTS))
    def fault(self, fault: tuple[str, str, Callable[[], BaseException]]) -> None:
        when, verb, error = fault
        port = self.world.ledger if verb in ("append", "read") else self.world.plane
        port.once(when, verb, error())

    @rule(verb=st.sampled_from(["apply", "observe", "append"]), what=st.sampled_from(["back", "promote", "converge"]))
    def meanwhile(self, verb: str, what: str) -> None:
        """Another process gets its turn in the middle of the next one."""
        port = self.world.ledger if verb == "append" else self.world.plane

        def other() -> None:
            self.interleaved = True
            run = self.run
            acts: dict[str, Callable[[], object]] = {
                "back": lambda: self.world.roll_back("meanwhile"),
                "promote": lambda: self.world.promote(run),
                "converge": lambda: traffic.converge(self.world.platform, ENDPOINT),
            }
            try:
                acts[what]()
            except MlpipexError:
                return

        port.once("before", verb, other)

    @rule()
    def plane_goes_or_comes(self) -> None:
        self.world.memory.plane.away = not self.world.memory.plane.away

    @rule()
    def telemetry_breaks_or_mends(self) -> None:
        plane = self.world.memory.plane
        plane.telemetry_trouble = "" if plane.telemetry_trouble else "the log was cut"

    @rule()
    def alerter_breaks_or_mends(self) -> None:
        alerter = self.world.memory.alerter
        alerter.trouble = "" if alerter.trouble else "not delivered"

    @precondition(lambda self: self.world.state.current is not None or self.world.state.rollout is not None)
    @rule(whose=st.sampled_from(["candidate", "current", "previous"]))
    def a_release_dies(self, whose: str) -> None:
        state = self.world.state
        releases = {
            "candidate": state.rollout.candidate if state.rollout else None,
            "current": state.current,
            "previous": state.previous,
        }
        if release := releases[whose]:
            self.world.memory.plane.break_release(release.id, ReleaseNotReady("release", limit="a limit", remedy="x"))

    @rule(seconds=st.integers(-4000, 4000))
    def the_clock_jumps(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    # And is mended.

    @rule()
    def mend(self) -> None:
        world = self.world
        for port in (world.ledger, world.plane, world.registry):
            port.clear()
        world.memory.plane.away = False
        world.memory.plane.telemetry_trouble = world.memory.alerter.trouble = ""
        for opened in world.events(RolloutOpened):
            world.memory.plane.mend_release(opened.release.id)

    @rule()
    def converge(self) -> None:
        self.mend()
        world = self.world
        state = traffic.converge(world.platform, ENDPOINT)
        self.unsettled = False
        plan = world.memory.plane.plan_in_force(ENDPOINT)
        assert state.confirmed and state.rollback is None
        if state.planned is not None:
            assert plan is not None and plan.id == state.planned.id
        assert state.current is None or plan is None or state.planned is not None

    # The promises.

    @invariant()
    def traffic_is_on_current_previous_or_a_trial(self) -> None:
        state, plan = self.world.state, self.world.memory.plane.plan_in_force(ENDPOINT)
        if plan is None or state.current is None or self.unsettled:
            return  # before the first promotion nothing could be better than what serves
        # A rollback that was decided and not yet carried out is a trial still, as users see it.
        trial = state.on_trial or state.rollback is not None
        candidate = state.rollout.candidate if state.rollout and trial else None
        allowed = {release.id for release in (state.current, state.previous, candidate) if release}
        assert set(plan.releases) <= allowed
        if plan.mirror is not None or plan.candidate is not None:
            assert trial and plan.lease_s is not None
            assert state.rollout is not None and not (plan.mirror and state.rollout.phase == "watching")
        if plan.control is not None:
            assert plan.lease_s is not None, "a control arm is of no use to anybody but a watcher"
            assert state.rollout is not None and plan.current == state.rollout.candidate.id

    @invariant()
    def the_ledger_tells_a_story_that_keeps_the_promises(self) -> None:
        entries = self.world.ledger.port.read(ENDPOINT)
        hash_chain.verify(entries)
        state = EndpointState(endpoint=ENDPOINT)
        due: dict[str, bool] = {}
        gates: dict[str, dict[str, str]] = {}
        good: set[str] = set()
        for entry in entries:
            before, state = state, evolve(state, entry)
            event = entry.event
            if before.doubt is not None and state.doubt is None:
                newer = isinstance(event, Promoted) and state.current != before.current
                assert newer or isinstance(event, (PromotionConfirmed, RolledBack)), "labels do not take it back"
            assert state.doubt is None or (state.current is not None and state.doubt.release == state.current.id)
            if isinstance(event, TaskGateJudged):
                gates.setdefault(event.rollout_id, {})[event.gate] = event.verdict
            if isinstance(event, (RolloutOpened, ShadowStarted, CanaryStepped)) or is_promotion(event):
                assert state.rollout is not None
                judged_here = gates.get(state.rollout.id, {})
                assert {*judged_here.values()} <= {"pass"}, "against a gate of its Dag"
                assert {*(state.rollout.policy.declared_gates or ())} <= {*judged_here}
            if isinstance(event, RolloutOpened):
                assert before.rollout is None and before.rollback is None, "one rollout at a time"
                assert before.doubt is None or not is_same_model(before, event), "in doubt, and rolled out again"
                due[event.rollout_id] = any(asks_for_review(m) for m in (event.manifest, before.current_manifest))
            elif isinstance(event, GatesJudged) and event.verdict == "pass":
                assert not {r.verdict for r in event.results if not r.advisory} & {"fail", "error"}
            elif isinstance(event, Promoted):
                promotable(before, due[event.rollout_id])
                assert state.current is not None
                good.add(state.current.id)
            elif isinstance(event, PromotionReopened):
                judged = before.outcomes_judged
                assert judged is not None and judged.release == event.release and before.rollback is None
                failed = {result.gate for result in judged.results if result.verdict == "fail"}
                assert failed == {*event.gates} and not failed <= {*before.confirmed_gates}
            elif isinstance(event, OutcomesJudged):
                assert state.outcomes_judged == event != before.outcomes_judged
            elif isinstance(event, TrafficPlanned):
                planned_for(state, good)
            elif isinstance(event, RolledBack):
                assert event.to_release in good
                assert state.current is not None and state.current.id == event.to_release
                assert state.rollout is None and state.rollback is None
        assert state == self.world.state

    @invariant()
    def time_never_runs_backwards_in_the_ledger(self) -> None:
        """But after an entry from the future, which dates nothing that comes after it."""
        entries: list[Entry] = self.world.ledger.port.read(ENDPOINT)
        back = [one.recorded_at - other.recorded_at for one, other in pairwise(entries)]
        assert all(step <= timedelta(0) or step > hash_chain.CLOCK_SLACK for step in back)

    def teardown(self) -> None:
        self.converge()
        self.traffic_is_on_current_previous_or_a_trial()
        self.the_ledger_tells_a_story_that_keeps_the_promises()


def is_promotion(event: object) -> bool:
    return isinstance(event, TrafficPlanned) and event.reason == "promotion"


def is_same_model(state: EndpointState, opened: RolloutOpened) -> bool:
    assert state.current is not None
    return state.current.model.version == opened.release.model.version


def asks_for_review(manifest: dict[str, object] | None) -> bool:
    if manifest is None:
        return False
    return Manifest.model_validate(manifest).environments[ENDPOINT.environment].review is not None


def promotable(before: EndpointState, review_due: bool) -> None:
    rollout = before.rollout
    assert rollout is not None and before.rollback is None
    assert rollout.verdicts.get("gate") == "pass"
    assert rollout.approved or not review_due
    tried = before.current is not None and before.current.digest != rollout.candidate.digest
    if tried and rollout.policy.shadow_fraction is not None:
        assert rollout.verdicts.get("shadow") == "pass"
    if tried:
        for step in range(len(rollout.policy.canary_weights)):
            assert rollout.verdicts.get(f"canary-{step}") == "pass"


def planned_for(state: EndpointState, good: set[str]) -> None:
    """No plan gives requests to what is neither good nor on its way."""
    assert state.planned is not None
    candidate = {state.rollout.candidate.id} if state.rollout else set()
    assert set(state.planned.releases) <= good | candidate
    if state.rollout and state.planned.candidate_weight:
        assert state.rollout.verdicts.get("gate") == "pass"


ReleaseMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestReleaseMachine = ReleaseMachine.TestCase
