"""Alerts that reached nobody are owed, and delivered by whoever comes next."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, AlertRetried
from airflow_provider_mlpipex.services import alerts
from airflow_provider_mlpipex.services.rollout import rollback
from airflow_provider_mlpipex.services.rollout.traffic import converge
from tests.support.rollouts import ENDPOINT, World

ROLLED_BACK = ("risk-pager", "production/fraud-scorer rolled back")


@pytest.fixture
def undelivered() -> World:
    """A rollback of which nobody was notified."""
    world = World()
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.memory.alerter.trouble = "no receivers"
    report = rollback.answer_request(world.platform, ENDPOINT, cause="too slow")
    assert "NOBODY WAS NOTIFIED; not notified: channel risk-pager: no receivers" in report.sentence
    assert (report.notified, report.not_notified) == ((), ("channel risk-pager: no receivers",))
    return world


def test_the_next_caller_delivers_it_once(undelivered: World) -> None:
    undelivered.memory.alerter.trouble = ""
    for _ in range(3):
        converge(undelivered.platform, ENDPOINT)
    assert undelivered.alerts == [ROLLED_BACK]
    assert undelivered.memory.alerter.sent[0].severity == "critical"
    assert "too slow" in undelivered.memory.alerter.sent[0].body
    assert undelivered.state.owed_alerts == ()
    (retried,) = undelivered.events(AlertRetried)
    assert retried.notified


def test_a_rollback_that_finds_nothing_to_undo_says_whom_it_notified_of_the_one_before(undelivered: World) -> None:
    undelivered.memory.alerter.trouble = ""
    report = rollback.answer_request(undelivered.platform, ENDPOINT, cause="again")
    assert report.ended == {}
    assert report.notified == ("channel risk-pager, receiver 1 of 1 (memory)",)


def test_tries_in_vain_become_rare_and_end_after_a_week(undelivered: World) -> None:
    for _ in range(9 * 24 * 60 // 10):
        undelivered.clock.advance(600)
        converge(undelivered.platform, ENDPOINT)
    tries = len(undelivered.events(AlertRetried))
    assert 7 * 24 * 0.9 <= tries <= 7 * 24 + 10  # about one an hour, for a week


def test_who_died_before_the_alert_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    with monkeypatch.context() as dying:
        dying.setattr(alerts, "tell_endings", lambda *_: None)  # killed between confirmation and alert
        world.roll_back("too slow")
    assert world.events(AlertRaised) == []
    converge(world.platform, ENDPOINT)
    assert world.alerts == [], "who ended it may be about to say so"
    world.clock.advance(61)
    converge(world.platform, ENDPOINT)
    converge(world.platform, ENDPOINT)
    assert world.alerts == [ROLLED_BACK]


def test_an_ending_that_nobody_asked_to_hear_of_stays_silent() -> None:
    world = World()
    world.first_release()
    world.clock.advance(3600)
    converge(world.platform, ENDPOINT)
    assert world.alerts == []
    assert world.state.last_result is not None
    assert world.state.last_result.cause == "not watched: the first release here has none to return to"
