"""The rollout machine: the whole path by hand, then every path by Hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_mlpipex.domain.errors import (
    GateUndecided,
    IllegalTransition,
    MlpipexError,
    RolloutEnded,
    RolloutInProgress,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout import rollback as rollback_decisions
from airflow_provider_mlpipex.domain.rollout.control_arm import end_control
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, Entry, Event, GatesJudged, TrafficConfirmed
from airflow_provider_mlpipex.domain.rollout.fold import fold
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from tests.support.factories import NOON, ORIGIN, make_policy, make_release

ENDPOINT = EndpointRef.parse("production/flight-delay")


class Journal:
    """A ledger without storage: appends what a verb decided and folds it."""

    def __init__(self) -> None:
        self.state = EndpointState(endpoint=ENDPOINT)
        self.entries: list[Entry] = []
        self.now = NOON

    def add(self, events: Sequence[Event]) -> EndpointState:
        self.now += timedelta(seconds=1)
        entries = [
            Entry(
                endpoint=ENDPOINT,
                seq=self.state.seq + position,
                recorded_at=self.now,
                origin=ORIGIN,
                event=event,
                previous_hash="",
                hash="",
            )
            for position, event in enumerate(events, start=1)
        ]
        self.entries += entries
        self.state = fold(ENDPOINT, entries, self.state)
        return self.state

    def confirm(self) -> None:
        assert self.state.planned is not None
        self.add([TrafficConfirmed(plan_id=self.state.planned.id, acknowledged_ms=3.0)])

    def judge(self, stage: str, verdict: str = "pass") -> None:
        assert self.state.rollout is not None
        self.add(
            [
                GatesJudged.model_validate(
                    {"rollout_id": self.state.rollout.id, "stage": stage, "verdict": verdict, "results": ()}
                )
            ]
        )

    def open(self, rollout_id: str, version: str, **policy: object) -> None:
        self.add(
            decisions.open_rollout(
                self.state,
                rollout_id=rollout_id,
                release=make_release(version),
                policy=make_policy(**policy),
                manifest={},
            )
        )

    def promote(self, rollout_id: str) -> None:
        self.add(decisions.plan_promotion(self.state, rollout_id=rollout_id))
        if not self.state.confirmed:
            self.confirm()
        self.add(decisions.confirm_promotion(self.state, rollout_id=rollout_id, now=self.now))

    def release(self, rollout_id: str, version: str) -> None:
        """The whole path of one release, nothing going wrong, up to its watch."""
        self.open(rollout_id, version)
        self.judge("gate")
        self.add(decisions.open_review(self.state, rollout_id=rollout_id, changes=[]))
        self.add(decisions.decide_review(self.state, rollout_id=rollout_id, approved=True, reviewer="ada"))
        if decisions.needs_live_trial(self.state):
            self.add(decisions.start_shadow(self.state, rollout_id=rollout_id))
            self.confirm()
            self.judge("shadow")
            for step in range(3):
                self.add(decisions.step_canary(self.state, rollout_id=rollout_id, step=step))
                self.confirm()
                self.judge("canary")
        self.promote(rollout_id)


@pytest.fixture
def journal() -> Journal:
    return Journal()


def test_first_release_needs_no_trial_and_ends_at_once(journal: Journal) -> None:
    journal.release("run-1", "1.0.0")
    assert journal.state.current and journal.state.current.model.version == "1.0.0"
    assert journal.state.previous is None and journal.state.rollout is None
    assert journal.state.results["run-1"].ending == "promoted"


def test_second_release_walks_every_step_and_keeps_the_first_as_previous(journal: Journal) -> None:
    journal.release("run-1", "1.0.0")
    journal.release("run-2", "1.1.0")
    state = journal.state
    assert state.rollout and state.rollout.phase == "watching"
    assert state.current and state.current.model.version == "1.1.0"
    assert state.previous and state.previous.model.version == "1.0.0"
    journal.add(decisions.pass_watch(state, rollout_id="run-2", verdict="pass"))
    assert journal.state.rollout is None


def test_rollback_in_watch_returns_to_previous_and_a_second_call_does_nothing(journal: Journal) -> None:
    journal.release("run-1", "1.0.0")
    journal.release("run-2", "1.1.0")
    journal.add(rollback_decisions.roll_back(journal.state, cause="errors", detected_at=NOON, rollout_id="run-2"))
    assert journal.state.planned and journal.state.planned.current == make_release("1.0.0").id
    journal.confirm()
    journal.add(rollback_decisions.confirm_rollback(journal.state))
    assert journal.state.current and journal.state.current.model.version == "1.0.0"
    assert journal.state.previous is None, "the bad release must not be what the next rollback returns to"
    assert rollback_decisions.roll_back(journal.state, cause="double click", detected_at=NOON) == []
    assert rollback_decisions.roll_back(journal.state, cause="again", detected_at=NOON, rollout_id="run-2") == []


def controlled(journal: Journal) -> Journal:
    """A second release, promoted and watched beside the first."""
    journal.release("run-1", "1.0.0")
    journal.open("run-2", "1.1.0", review=False, shadow_fraction=None, canary_weights=(), control_weight=100)
    journal.judge("gate")
    journal.promote("run-2")
    return journal


def test_a_control_arm_is_the_previous_release_and_has_a_lease(journal: Journal) -> None:
    planned = controlled(journal).state.planned
    assert planned is not None
    assert planned.weights == {make_release("1.1.0").id: 9900, make_release("1.0.0").id: 100}
    assert planned.lease_s == 30.0
    assert planned.only_current().id != planned.id


def test_a_first_release_and_a_change_of_policy_have_no_control_arm(journal: Journal) -> None:
    journal.open("run-1", "1.0.0", review=False, control_weight=100)
    journal.judge("gate")
    journal.promote("run-1")
    assert journal.state.planned and journal.state.planned.control is None
    journal.open("run-2", "1.0.0", review=False, control_weight=100, rollback_window_s=61.0)


def test_a_watch_ends_only_when_the_control_arm_has(journal: Journal) -> None:
    controlled(journal)
    with pytest.raises(IllegalTransition, match="all traffic"):
        decisions.pass_watch(journal.state, rollout_id="run-2", verdict="pass")
    journal.add(end_control(journal.state, reason="over"))
    with pytest.raises(IllegalTransition, match="confirmed"):
        decisions.pass_watch(journal.state, rollout_id="run-2", verdict="pass")
    journal.confirm()
    assert end_control(journal.state, reason="over") == []
    journal.add(decisions.pass_watch(journal.state, rollout_id="run-2", verdict="pass"))
    assert journal.state.rollout is None
    assert journal.state.planned and journal.state.planned.weights == {make_release("1.1.0").id: 10_000}


def test_a_rollback_of_a_watch_leaves_no_control_arm(journal: Journal) -> None:
    controlled(journal)
    journal.add(rollback_decisions.roll_back(journal.state, cause="errors", detected_at=NOON))
    assert end_control(journal.state, reason="over") == []
    journal.confirm()
    journal.add(rollback_decisions.confirm_rollback(journal.state))
    assert journal.state.planned and journal.state.planned.weights == {make_release("1.0.0").id: 10_000}


def test_what_on_call_was_told_in_a_rollout_is_remembered_until_it_ends(journal: Journal) -> None:
    journal.add([AlertRaised(title="before")])
    controlled(journal)
    journal.add([AlertRaised(title="an outage"), AlertRaised(title="an outage")])
    assert journal.state.rollout is not None and journal.state.rollout.alerts == ("an outage",)


def test_rollback_in_canary_keeps_current(journal: Journal) -> None:
    journal.release("run-1", "1.0.0")
    journal.open("run-2", "1.1.0", review=False, shadow_fraction=None)
    journal.judge("gate")
    journal.add(decisions.step_canary(journal.state, rollout_id="run-2", step=0))
    journal.confirm()
    journal.add(rollback_decisions.roll_back(journal.state, cause="slow", detected_at=NOON))
    journal.confirm()
    journal.add(rollback_decisions.confirm_rollback(journal.state))
    assert journal.state.current and journal.state.current.model.version == "1.0.0"
    with pytest.raises(RolloutEnded, match="slow"):
        decisions.step_canary(journal.state, rollout_id="run-2", step=1)


def test_second_promoter_is_told_who_holds_the_endpoint(journal: Journal) -> None:
    journal.open("run-1", "1.0.0")
    with pytest.raises(RolloutInProgress, match="run-1 holds it"):
        journal.open("run-2", "1.1.0")


def test_no_step_without_the_verdict_before_it(journal: Journal) -> None:
    journal.release("run-1", "1.0.0")
    journal.open("run-2", "1.1.0", review=False)
    with pytest.raises(GateUndecided, match="never judged"):
        decisions.start_shadow(journal.state, rollout_id="run-2")
    journal.judge("gate")
    with pytest.raises(GateUndecided, match="shadow"):
        decisions.step_canary(journal.state, rollout_id="run-2", step=0)
    with pytest.raises(GateUndecided):
        decisions.plan_promotion(journal.state, rollout_id="run-2")


def test_rejected_review_ends_the_rollout(journal: Journal) -> None:
    journal.open("run-1", "1.0.0")
    journal.judge("gate")
    journal.add(decisions.open_review(journal.state, rollout_id="run-1", changes=[]))
    journal.add(decisions.decide_review(journal.state, rollout_id="run-1", approved=False, reviewer="ada", note="no"))
    assert journal.state.rollout is None
    with pytest.raises(RolloutEnded, match="ada"):
        decisions.plan_promotion(journal.state, rollout_id="run-1")


def test_first_release_cannot_be_rolled_back(journal: Journal) -> None:
    journal.release("run-1", "1.0.0")
    with pytest.raises(IllegalTransition, match="no previous release"):
        rollback_decisions.roll_back(journal.state, cause="regret", detected_at=NOON)


class AnyOrder(RuleBasedStateMachine):
    """Verbs in any order, each as a caller would run it, confirmations sometimes lost to a crash."""

    @initialize()
    def start(self) -> None:
        self.journal = Journal()
        self.count = 0
        self.promoted: list[str] = []

    @property
    def state(self) -> EndpointState:
        return self.journal.state

    def attempt(self, events: Sequence[Event]) -> None:
        self.journal.add(events)

    def run(self) -> str:
        return self.state.rollout.id if self.state.rollout else f"run-{self.count}"

    @rule(review=st.booleans(), shadow=st.booleans(), canary=st.booleans(), control=st.booleans())
    def open(self, review: bool, shadow: bool, canary: bool, control: bool) -> None:
        self.count += 1
        try:
            self.journal.open(
                f"run-{self.count}",
                f"1.{self.count}.0",
                review=review,
                shadow_fraction=0.5 if shadow else None,
                canary_weights=(500, 10_000) if canary else (),
                control_weight=100 if control else None,
            )
        except RolloutInProgress:
            assert self.state.rollout or self.state.rollback

    @precondition(lambda self: self.state.rollout is not None)
    @rule(stage=st.sampled_from(["gate", "shadow", "canary", "watch"]), verdict=st.sampled_from(["pass", "fail"]))
    def judge(self, stage: str, verdict: str) -> None:
        self.journal.judge(stage, verdict)

    @rule(
        verb=st.sampled_from(
            ["review", "approve", "reject", "shadow", "canary", "plan", "promote", "no control", "watch"]
        ),
        step=st.integers(0, 1),
    )
    def act(self, verb: str, step: int) -> None:
        rollout_id = self.run()
        before = self.state
        verbs = {
            "review": lambda: decisions.open_review(before, rollout_id=rollout_id, changes=[]),
            "approve": lambda: decisions.decide_review(before, rollout_id=rollout_id, approved=True, reviewer="a"),
            "reject": lambda: decisions.decide_review(before, rollout_id=rollout_id, approved=False, reviewer="a"),
            "shadow": lambda: decisions.start_shadow(before, rollout_id=rollout_id),
            "canary": lambda: decisions.step_canary(before, rollout_id=rollout_id, step=step),
            "plan": lambda: decisions.plan_promotion(before, rollout_id=rollout_id),
            "promote": lambda: self.promotion(rollout_id),
            "no control": lambda: end_control(before, reason="drill"),
            "watch": lambda: decisions.pass_watch(before, rollout_id=rollout_id, verdict="pass"),
        }
        try:
            events = verbs[verb]()
        except MlpipexError:
            assert self.state == before
            return
        self.attempt(events)

    def promotion(self, rollout_id: str) -> list[Event]:
        """As the service runs it: intent, effect, and only then the conclusion."""
        self.attempt(decisions.plan_promotion(self.state, rollout_id=rollout_id))
        if not self.state.confirmed:
            self.journal.confirm()
        return decisions.confirm_promotion(self.state, rollout_id=rollout_id, now=self.journal.now)

    @rule(confirmed=st.booleans())
    def roll_back(self, confirmed: bool) -> None:
        serving = self.state.current
        try:
            self.attempt(rollback_decisions.roll_back(self.state, cause="drill", detected_at=NOON))
        except IllegalTransition:
            assert self.state.current == serving
            return
        if confirmed:
            self.converge()

    @precondition(lambda self: not self.state.confirmed)
    @rule()
    def converge(self) -> None:
        if not self.state.confirmed:
            self.journal.confirm()
        self.attempt(rollback_decisions.confirm_rollback(self.state))

    @invariant()
    def fold_is_a_fold(self) -> None:
        assert fold(ENDPOINT, self.journal.entries) == self.state

    @invariant()
    def current_is_never_on_trial_beside_itself(self) -> None:
        if self.state.planned:
            assert sum(self.state.planned.weights.values()) == 10_000

    @invariant()
    def no_candidate_takes_traffic_unjudged(self) -> None:
        rollout, planned = self.state.rollout, self.state.planned
        if rollout and planned and planned.candidate == rollout.candidate.id and planned.candidate_weight:
            assert rollout.policy.review is False or rollout.approved

    @invariant()
    def a_control_arm_stands_beside_a_watch_or_a_promotion(self) -> None:
        rollout, planned = self.state.rollout, self.state.planned
        if planned is None or planned.control is None:
            return
        assert rollout is not None and planned.current == rollout.candidate.id
        assert planned.control_weight == rollout.policy.control_weight
        assert planned.lease_s is not None
        beside = self.state.previous if rollout.phase == "watching" else self.state.current
        assert beside is not None and planned.control == beside.id

    @invariant()
    def previous_differs_from_current(self) -> None:
        if self.state.current and self.state.previous:
            assert self.state.current.digest != self.state.previous.digest


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
