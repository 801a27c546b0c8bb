"""The retroactive gate: labels reopen a promotion, a person decides, and meanwhile the release goes no further."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from airflow_provider_mlpipex.domain.errors import IllegalTransition, LedgerUnavailable, PromotionInDoubt
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    OutcomesJudged,
    PromotionConfirmed,
    PromotionReopened,
    RollbackDecided,
    RolloutOpened,
)
from airflow_provider_mlpipex.domain.rollout.state import PromotionDoubt
from airflow_provider_mlpipex.services.evidence.replay import replay
from airflow_provider_mlpipex.services.outcomes import gates as outcome_gates
from airflow_provider_mlpipex.services.outcomes import ingest as outcome_ingest
from airflow_provider_mlpipex.services.outcomes import promotion_doubt
from airflow_provider_mlpipex.services.outcomes.ingest import Ingested
from airflow_provider_mlpipex.services.rollout import opening
from airflow_provider_mlpipex.services.rollout.promote import promote
from airflow_provider_mlpipex.services.rollout.status import endpoint_status
from tests.support.faults import Killed
from tests.support.rollouts import ENDPOINT, World

STAGING = EndpointRef.parse("staging/fraud-scorer")
ALERTS = "    alerts: {on"
BLOCK = (
    ALERTS,
    "    outcomes:\n      window: 30d\n      gates:\n"
    "        - accuracy within 5% of the baseline from at least 20 labels\n"
    "        - {name: floor, metric: outcomes.recall, min: 30%, min_samples: 20}\n"
    "        - {name: brier, metric: outcomes.brier, max: 0.01, advisory: true}\n"
    f"{ALERTS}",
)
TITLE = PromotionDoubt.title(ENDPOINT)


@pytest.fixture
def world() -> World:
    """1.0.0, registered with an accuracy of 80 %, was replaced by 1.1.0."""
    world = World(BLOCK)
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    return world


def current(world: World) -> str:
    assert world.state.current is not None
    return world.state.current.id


def label(world: World, right: int, wrong: int, *, release: str = "", missed: int = 0, tag: str = "") -> Ingested:
    """The current release said 1 of so many requests and was ``right`` or ``wrong``, and has ``missed`` so many."""
    rows = []
    said = {"right": (right, 0.9, 1), "wrong": (wrong, 0.9, 0), "missed": (missed, 0.1, 1)}
    for kind, (count, score, truth) in said.items():
        for number in range(count):
            rid = f"{tag}{kind}-{number}"
            served_by = release or current(world)
            world.memory.plane.answer(ENDPOINT, rid, {served_by: score}, labels={served_by: str(round(score))})
            rows.append({"request_id": rid, "label": truth})
    return outcome_ingest.ingest(world.platform, ENDPOINT, pd.DataFrame(rows), subject="labels.csv")


def reopen(world: World) -> Ingested:
    return label(world, right=50, wrong=50)


# Judging.


def test_labels_that_keep_the_promise_are_judged_and_reopen_nothing(world: World) -> None:
    found = label(world, right=78, wrong=22)
    assert found.judged is not None and found.reopened == ""
    (judged,) = world.events(OutcomesJudged)
    assert (judged.release, judged.rows, judged.verdict) == (current(world), 100, "pass")
    accuracy, floor, brier = judged.results
    assert (accuracy.verdict, accuracy.evidence.value, accuracy.evidence.baseline) == ("pass", 0.78, 0.8)
    assert accuracy.threshold == pytest.approx(0.76)
    assert (floor.verdict, brier.verdict, brier.advisory) == ("pass", "fail", True)
    assert world.state.doubt is None and not world.events(PromotionReopened)


def test_labels_that_break_it_reopen_the_promotion_and_tell_on_call(world: World) -> None:
    serving = world.weights
    found = reopen(world)
    doubt = world.state.doubt
    assert doubt is not None and doubt.notified and doubt.release == current(world)
    assert doubt.gates == ("accuracy-within",)
    assert found.reopened == doubt.cause and "observed 50% from 100 samples (baseline 80%)" in doubt.cause
    assert world.alerts[-1] == ("risk-pager", TITLE)
    assert "mlpipex rollback production/fraud-scorer" in world.memory.alerter.sent[-1].body
    assert endpoint_status(world.platform, ENDPOINT)["doubt"]["cause"] == doubt.cause
    assert world.weights == serving and world.state.rollback is None, "nothing goes by itself"


def test_too_few_labels_decide_nothing(world: World) -> None:
    label(world, right=2, wrong=17)
    (judged,) = world.events(OutcomesJudged)
    assert judged.verdict == "inconclusive" and "19 samples, at least 20 needed" in judged.results[0].reason
    assert world.state.doubt is None


def test_the_same_labels_are_judged_once(world: World) -> None:
    first = reopen(world)
    entries = len(world.events())
    again = reopen(world)
    assert (first.added, again.added) == (100, 0)
    assert (again.judged, again.reopened) == (first.judged, first.reopened)
    assert len(world.events()) == entries
    assert [title for _, title in world.alerts].count(TITLE) == 1


def test_labels_of_a_release_that_is_no_longer_current_judge_nobody(world: World) -> None:
    previous = world.state.previous
    assert previous is not None
    found = label(world, right=0, wrong=50, release=previous.id)
    assert (found.releases, found.judged) == ({previous.id: 50}, None)
    assert world.events(OutcomesJudged) == []


def test_an_environment_without_the_block_keeps_labels_and_judges_nothing() -> None:
    world = World()
    world.first_release()
    found = reopen(world)
    assert (found.added, found.judged) == (100, None)
    assert outcome_gates.judge(world.platform, EndpointRef.parse("production/nobody")) is None


def test_the_window_looks_back_from_the_newest_labelled_row(world: World) -> None:
    label(world, right=0, wrong=60, tag="old-")
    promotion_doubt.confirm(world.platform, ENDPOINT, reviewer="ada", note="a known outage")
    world.clock.advance(31 * 24 * 3600)
    label(world, right=60, wrong=0, tag="new-")
    judged = world.events(OutcomesJudged)
    assert [(one.rows, one.verdict) for one in judged] == [(60, "fail"), (60, "pass")]
    world.clock.advance(90 * 24 * 3600)
    assert outcome_gates.judge(world.platform, ENDPOINT) == (judged[1], None), "labels that are late are no less true"


def test_a_gate_with_an_age_says_nothing_of_old_rows() -> None:
    world = World((BLOCK[0], BLOCK[1].replace("max: 0.01, advisory: true", "max: 0.01, max_age: 7d")))
    world.first_release()
    world.clock.advance(1)
    label(world, right=15, wrong=0)
    world.clock.advance(8 * 24 * 3600)
    judgement = outcome_gates.judge(world.platform, ENDPOINT)
    assert judgement is not None and judgement.judged.results[2].reason.startswith("stale: measured 8d")


def test_answers_that_cannot_be_measured_are_an_error_and_no_doubt(world: World) -> None:
    for number in range(30):
        said = "1" if number % 2 else "seven"
        world.memory.plane.answer(ENDPOINT, f"r{number}", {current(world): 0.9}, labels={current(world): said})
    table = pd.DataFrame({"request_id": [f"r{n}" for n in range(30)], "label": [1] * 30})
    found = outcome_ingest.ingest(world.platform, ENDPOINT, table, subject="labels.csv")
    assert found.judged is not None and found.judged.verdict == "error"
    assert "answers of several kinds: number, probability" in found.judged.results[0].reason
    assert world.state.doubt is None


# Deciding.


def test_a_person_who_accepts_ends_it_and_is_not_asked_again(world: World) -> None:
    reopen(world)
    assert promotion_doubt.confirm(
        world.platform, ENDPOINT, reviewer="ada", note="a strike at the airport", release=current(world)
    )
    (confirmed,) = world.events(PromotionConfirmed)
    assert (confirmed.reviewer, confirmed.note) == ("ada", "a strike at the airport")
    assert world.state.doubt is None
    label(world, right=0, wrong=20, tag="more-")
    assert world.state.doubt is None and len(world.events(OutcomesJudged)) == 2
    assert not promotion_doubt.confirm(world.platform, ENDPOINT, reviewer="ada"), "twice is once"


def test_a_gate_that_was_not_confirmed_reopens_it_again(world: World) -> None:
    reopen(world)
    promotion_doubt.confirm(world.platform, ENDPOINT, reviewer="ada", note="seen")
    label(world, right=0, wrong=0, missed=300, tag="more-")
    doubt = world.state.doubt
    assert doubt is not None and doubt.gates == ("accuracy-within", "floor")
    assert [title for _, title in world.alerts].count(TITLE) == 2


def test_another_gate_that_fails_meanwhile_is_told_as_well(world: World) -> None:
    reopen(world)
    label(world, right=0, wrong=0, missed=300, tag="more-")
    assert len(world.events(PromotionReopened)) == 2
    assert [title for _, title in world.alerts].count(TITLE) == 2
    promotion_doubt.confirm(world.platform, ENDPOINT, reviewer="ada", note="seen")
    assert set(world.state.confirmed_gates) == {"accuracy-within", "floor"}


def test_who_looked_at_another_release_cannot_accept(world: World) -> None:
    reopen(world)
    with pytest.raises(IllegalTransition, match="is in doubt"):
        promotion_doubt.confirm(world.platform, ENDPOINT, reviewer="ada", release="1.0.0-rt1.0.0-00000000")
    assert world.state.doubt is not None


def test_a_rollback_ends_it(world: World) -> None:
    reopen(world)
    state = world.roll_back("late labels")
    assert state.doubt is None and state.outcomes_judged is None
    assert state.current is not None and state.current.model.version == "1.0.0"
    assert not promotion_doubt.confirm(world.platform, ENDPOINT, reviewer="ada")


def test_a_release_that_is_being_rolled_back_is_not_confirmed(world: World) -> None:
    reopen(world)
    world.plane.once("before", "apply", Killed())
    with pytest.raises(Killed):
        world.roll_back("late labels")
    with pytest.raises(IllegalTransition, match="being rolled back"):
        promotion_doubt.confirm(world.platform, ENDPOINT, reviewer="ada")
    label(world, right=0, wrong=10, tag="more-")
    assert len(world.events(OutcomesJudged)) == 1


def test_a_newer_promotion_ends_it(world: World) -> None:
    reopen(world)
    world.bring("run-3", "1.2.0", to="promoted")
    assert world.state.doubt is None and world.state.confirmed_gates == ()
    assert outcome_gates.judge(world.platform, ENDPOINT) is None, "the newer one has no labels yet"


def test_a_release_that_comes_back_is_judged_anew(world: World) -> None:
    reopen(world)
    world.roll_back("late labels")
    world.bring("run-3", "1.1.0", to="promoted")
    again = outcome_gates.judge(world.platform, ENDPOINT)
    assert again is not None and again.doubt is not None
    assert len(world.events(PromotionReopened)) == 2


# Meanwhile.


def test_its_model_is_promoted_nowhere_else(world: World) -> None:
    reopen(world)
    release = world.release("1.1.0")
    with pytest.raises(PromotionInDoubt, match="on production/fraud-scorer") as refused:
        opening.check_offline_gates(
            world.platform, endpoint=STAGING, rollout_id="run-9", release=release, manifest=world.manifest
        )
    assert "mlpipex labels confirm production/fraud-scorer" in refused.value.remedy
    assert world.ledger.port.read(STAGING) == []
    promotion_doubt.confirm(world.platform, ENDPOINT, reviewer="ada", note="seen")
    check = opening.check_offline_gates(
        world.platform, endpoint=STAGING, rollout_id="run-9", release=release, manifest=world.manifest
    )
    assert check.verdict == "pass"


def test_a_doubted_model_is_not_opened_under_a_looser_manifest(world: World) -> None:
    reopen(world)
    looser = World((BLOCK[0], BLOCK[1].replace("within 5%", "within 50%"))).manifest
    with pytest.raises(PromotionInDoubt):
        world.open("run-3", "1.1.0", manifest=looser)
    assert world.open("run-3", "1.1.0").already_current, "a run that changes nothing is no promotion"


def test_what_was_on_its_way_elsewhere_is_not_promoted(world: World) -> None:
    release = world.release("1.1.0")
    opening.check_offline_gates(
        world.platform, endpoint=STAGING, rollout_id="run-9", release=release, manifest=world.manifest
    )
    reopen(world)
    with pytest.raises(PromotionInDoubt):
        promote(world.platform, endpoint=STAGING, rollout_id="run-9", timeout_s=1)


def test_another_model_may_come(world: World) -> None:
    reopen(world)
    assert world.open("run-3", "1.2.0").verdict == "pass"
    assert len(world.events(RolloutOpened)) == 3


def test_nobody_decides_for_a_person(world: World) -> None:
    reopen(world)
    world.clock.advance(365 * 24 * 3600)
    outcome_gates.judge(world.platform, ENDPOINT)
    assert world.state.doubt is not None and not world.events(RollbackDecided)


# What goes wrong.


def test_a_ledger_that_was_away_is_made_up_for_by_the_same_file(world: World) -> None:
    world.ledger.once("before", "append", LedgerUnavailable("ledger"))
    with pytest.raises(LedgerUnavailable):
        reopen(world)
    assert world.events(OutcomesJudged) == []
    found = reopen(world)
    assert (found.unchanged, found.reopened != "") == (100, True)


def test_an_alert_that_was_not_sent_is_sent_by_whoever_comes_next(world: World) -> None:
    alerter = world.memory.alerter
    broken = dataclasses.replace(world.platform, alerter=Dying())
    with pytest.raises(Killed):
        rows = [{"request_id": f"r{n}", "label": 0} for n in range(30)]
        for row in rows:
            world.memory.plane.answer(
                ENDPOINT, str(row["request_id"]), {current(world): 0.9}, labels={current(world): "1"}
            )
        outcome_ingest.ingest(broken, ENDPOINT, pd.DataFrame(rows), subject="labels.csv")
    assert world.state.doubt is not None and not world.state.doubt.notified
    outcome_gates.judge(world.platform, ENDPOINT)
    assert world.state.doubt.notified and alerter.sent[-1].title == TITLE
    assert len(world.events(PromotionReopened)) == 1


def test_an_alert_that_could_not_be_delivered_stands_in_the_ledger(world: World) -> None:
    world.memory.alerter.trouble = "not delivered"
    reopen(world)
    alert = world.events(AlertRaised)[-1]
    assert alert.title == TITLE and "not delivered" in alert.failures[0]
    assert world.state.doubt is not None and world.state.doubt.notified, "the ledger tells who asks"


def test_past_rollouts_are_replayed_as_before(world: World) -> None:
    before = replay(world.platform, world.manifest, last=5)
    reopen(world)
    assert replay(world.platform, world.manifest, last=5) == before


class Dying:
    """Somebody kills the process while it tells."""

    def alert(self, **_: object) -> list[str]:
        raise Killed
