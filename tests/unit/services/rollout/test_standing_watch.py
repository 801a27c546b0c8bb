"""The standing watch: what a round finds, who is notified of it, and that any number of watchers notify once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from airflow_provider_mlpipex.domain.errors import LedgerTampered, PlaneUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    EndpointRecovered,
    EndpointUnhealthy,
    RollbackDecided,
    TrafficPlanned,
)
from airflow_provider_mlpipex.domain.rollout.incident import MIN_DURATION, NOTIFIED_WITHIN, REMIND_EVERY
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import standing_watch
from airflow_provider_mlpipex.services.rollout.health import UNMEASURED_FOR, check_health
from airflow_provider_mlpipex.services.rollout.standing_watch import StandingWatch
from airflow_provider_mlpipex.services.rollout.status import endpoint_status
from tests.support.faults import Killed
from tests.support.rollouts import ENDPOINT, WATCH_S, World

UNHEALTHY = ("risk-pager", "production/fraud-scorer unhealthy")
HEALTHY_AGAIN = ("risk-pager", "production/fraud-scorer healthy again")


@pytest.fixture
def world() -> World:
    """A release that nobody watches any more."""
    world = World()
    world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.clock.advance(3600)
    return world


def watcher(world: World) -> StandingWatch:
    return StandingWatch(world.platform)


def play(world: World, *watchers: StandingWatch, seconds: float, every: float = 5.0, errors: int = 0) -> set[str]:
    """Ten requests a second, ``errors`` of them failed, with a round of every watcher in between and the looks that it
    finds due; why they were."""
    current, whys = world.state.current, set()
    assert current is not None
    for _ in range(int(seconds / every)):
        world.memory.plane.serve(ENDPOINT, current.id, requests=round(10 * every), errors=round(errors * every))
        world.clock.advance(every)
        whys |= look_around(*watchers)
    return whys


def look_around(*watchers: StandingWatch) -> set[str]:
    """A round of every watcher before any of them acts on it."""
    rounds = [each.round() for each in watchers]
    for each, found in zip(watchers, rounds, strict=True):
        for endpoint in found.due:
            each.attend(endpoint)
    return {why for found in rounds for why in found.due.values()}


def test_while_nothing_happens_nothing_is_written_and_nobody_gets_a_look_of_his_own(world: World) -> None:
    before, watch = world.state.seq, watcher(world)
    records = len(world.memory.ledger.records(ENDPOINT))
    assert play(world, watch, seconds=600) == set()
    assert world.state.seq == before and world.alerts == []
    assert len(world.memory.ledger.records(ENDPOINT)) == records


def test_an_unhealthy_endpoint_is_noticed_by_the_next_look_and_told_once(world: World) -> None:
    current, watch = world.state.current, watcher(world)
    play(world, watch, seconds=60)
    assert play(world, watch, seconds=5, errors=9) == {"its gates say fail"}
    assert world.alerts == [UNHEALTHY]
    assert play(world, watch, seconds=1800, errors=9) == set()
    assert world.alerts == [UNHEALTHY]
    assert world.state.current == current, "a person decides"
    (unhealthy,) = world.events(EndpointUnhealthy)
    assert (unhealthy.gates, unhealthy.verdict) == (("failing",), "fail")
    assert unhealthy.cause in world.memory.alerter.sent[-1].body


@pytest.mark.parametrize("watchers", [2, 3])
def test_any_number_of_watchers_notify_once(world: World, watchers: int) -> None:
    watching = [watcher(world) for _ in range(watchers)]
    play(world, *watching, seconds=600, errors=9)
    assert world.alerts == [UNHEALTHY]
    assert len(world.events(EndpointUnhealthy)) == 1


def test_two_watchers_that_decide_at_the_same_moment_notify_once(world: World) -> None:
    """The second one's whole look happens between the first one's decision and its append."""
    first, second = watcher(world), watcher(world)
    current = world.state.current
    assert current is not None
    world.memory.plane.serve(ENDPOINT, current.id, requests=1000, errors=900)
    world.clock.advance(5)
    assert first.round().due.keys() == second.round().due.keys() == {ENDPOINT}
    world.ledger.once("before", "append", lambda: second.attend(ENDPOINT))
    first.attend(ENDPOINT)
    assert world.alerts == [UNHEALTHY]
    assert len(world.events(EndpointUnhealthy)) == 1


def test_a_watcher_that_was_killed_is_replaced_by_one_that_knows_only_the_ledger(world: World) -> None:
    play(world, watcher(world), seconds=300, errors=9)
    for _ in range(5):
        play(world, watcher(world), seconds=60, errors=9)
    assert world.alerts == [UNHEALTHY]


def test_whoever_died_before_notifying_is_stood_in_for(world: World) -> None:
    world.ledger.once("after", "append", Killed())
    with pytest.raises(Killed):
        play(world, watcher(world), seconds=60, errors=9)
    assert world.alerts == [] and len(world.events(EndpointUnhealthy)) == 1
    play(world, watcher(world), seconds=NOTIFIED_WITHIN.total_seconds() - 5, errors=9)
    assert world.alerts == []
    play(world, watcher(world), seconds=10, errors=9)
    assert world.alerts == [UNHEALTHY]


def test_on_call_is_reminded_of_an_incident_and_told_of_its_end(world: World) -> None:
    watch = watcher(world)
    play(world, watch, seconds=REMIND_EVERY.total_seconds() + 60, errors=9)
    assert world.alerts == [UNHEALTHY] * 2
    play(world, watch, seconds=300)
    assert world.alerts == [*[UNHEALTHY] * 2, HEALTHY_AGAIN]
    assert world.state.incident is None and len(world.events(EndpointRecovered)) == 1
    assert play(world, watch, seconds=600) == set()
    assert len(world.alerts) == 3


def test_an_incident_is_not_over_because_clients_stopped_asking(world: World) -> None:
    watch = watcher(world)
    play(world, watch, seconds=60, errors=9)
    for _ in range(400):
        world.clock.advance(5)
        look_around(watch)
    assert world.state.incident is not None and world.alerts == [UNHEALTHY]


def test_an_error_rate_that_crosses_its_limit_to_and_fro_is_one_incident(world: World) -> None:
    watch = watcher(world)
    for _ in range(3):
        play(world, watch, seconds=30, errors=9)
        play(world, watch, seconds=65)
    assert world.alerts == [UNHEALTHY]
    assert timedelta(seconds=3 * 95) < MIN_DURATION


def test_another_release_begins_with_a_clean_slate(world: World) -> None:
    play(world, watcher(world), seconds=60, errors=9)
    world.roll_back()
    assert world.state.incident is None
    alerts = len(world.alerts)
    play(world, watcher(world), seconds=60, errors=9)
    assert world.alerts[alerts:] == [UNHEALTHY]


# Rollouts.


@pytest.mark.parametrize("watchers", [1, 2])
def test_inside_a_rollback_window_it_reverts_once(watchers: int) -> None:
    world = World()
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    watching = [watcher(world) for _ in range(watchers)]
    assert play(world, *watching, seconds=120, errors=9) == {"it is inside its rollback window"}
    assert world.weights == {first.id: 10_000}
    assert len(world.events(RollbackDecided)) == 1
    assert world.alerts == [("risk-pager", "production/fraud-scorer rolled back")]


def test_the_watch_closes_a_window_whose_sensor_was_killed(world: World) -> None:
    world.bring("run-3", "1.2.0", to="watching")
    play(world, watcher(world), seconds=WATCH_S + 60, every=30)
    assert world.state.rollout is None and world.state.results["run-3"].ending == "promoted"


def test_a_decided_rollback_that_nobody_finished_is_finished(world: World) -> None:
    world.plane.once("before", "apply", Killed())
    with pytest.raises(Killed):
        world.roll_back()
    watch = watcher(world)
    assert look_around(watch) == set(), "whoever decided it may be about to"
    world.clock.advance(5)
    assert look_around(watch) == {"a shift of traffic was not finished"}
    assert world.state.rollback is None
    assert list(world.weights) == [world.state.current.id]


def test_whoever_shifts_traffic_is_not_disturbed_for_a_minute(world: World) -> None:
    """A release whose model takes long to load: the plan is written, and not yet in force."""
    planned = world.state.planned
    journal.note(world.memory, ENDPOINT, TrafficPlanned(plan=planned, reason="a test"))
    watch = watcher(world)
    for _ in range(12):
        assert look_around(watch) == set()
        world.clock.advance(5)
    assert look_around(watch) == {"a shift of traffic was not finished"}
    assert world.state.confirmed


def test_a_plan_that_is_not_the_confirmed_one_is_put_right(world: World) -> None:
    confirmed = world.state.planned
    world.memory.plane.apply(TrafficPlan(endpoint=ENDPOINT, current=world.state.previous.id))
    watch = watcher(world)
    assert look_around(watch) == {"the plane does not serve the confirmed plan"}
    assert world.memory.plane.plan_in_force(ENDPOINT) == confirmed
    assert look_around(watch) == set()


def test_an_alert_that_reached_nobody_is_sent_again(world: World) -> None:
    world.memory.alerter.trouble = "no network"
    watch = watcher(world)
    play(world, watch, seconds=60, errors=9)
    assert world.events(AlertRaised)[-1].notified == ()
    world.memory.alerter.trouble = ""
    play(world, watch, seconds=300, errors=9)
    assert world.alerts == [UNHEALTHY]


# What cannot be measured.


def test_a_plane_that_is_away_is_an_error_of_the_round(world: World) -> None:
    watch = watcher(world)
    watch.round()
    world.memory.plane.away = True
    with pytest.raises(PlaneUnavailable):
        watch.round()
    assert world.alerts == []


def test_an_endpoint_that_nobody_can_measure_is_told_after_a_while(world: World) -> None:
    watch = watcher(world)
    world.memory.plane.telemetry_trouble = "the log was cut"
    play(world, watch, seconds=UNMEASURED_FOR.total_seconds() - 10)
    assert world.alerts == []
    assert play(world, watch, seconds=30) == {"its gates say error"}
    assert world.alerts == [UNHEALTHY]
    assert "the log was cut" in world.memory.alerter.sent[-1].body
    world.memory.plane.telemetry_trouble = ""
    play(world, watch, seconds=600)
    assert world.alerts == [UNHEALTHY, HEALTHY_AGAIN]


# Many endpoints.


def test_a_round_asks_the_plane_once_however_many_endpoints_there_are(world: World) -> None:
    asked: list[str] = []
    for verb in ("telemetry", "observe", "survey"):
        count = asked.append
        for _ in range(50):
            world.plane.once("before", verb, lambda verb=verb, count=count: count(verb))  # type: ignore[misc]
    watch = watcher(world)
    for _ in range(3):
        watch.round()
    assert asked == ["survey"] * 3


def test_the_ledger_is_read_only_where_a_chain_has_grown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watcher(world)
    watch.round()
    read: list[EndpointRef] = []
    original: Callable[..., object] = world.memory.ledger.state
    monkeypatch.setattr(world.memory.ledger, "state", lambda of: (read.append(of), original(of))[1])
    watch.round()
    assert read == []
    journal.note(world.memory, ENDPOINT, AlertRaised(title="something"))
    read.clear()
    watch.round()
    assert read == [ENDPOINT]


def test_an_endpoint_whose_ledger_cannot_be_read_blinds_nobody_and_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = EndpointRef.parse("production/spoilt")
    journal.note(world.memory, spoilt, AlertRaised(title="something"))
    original: Callable[..., object] = world.memory.ledger.state

    def state(endpoint: EndpointRef) -> object:
        if endpoint == spoilt:
            raise LedgerTampered("ledger of production/spoilt", value="a row that is no entry")
        return original(endpoint)

    monkeypatch.setattr(world.memory.ledger, "state", state)
    watch = watcher(world)
    play(world, watch, seconds=180, errors=9)
    assert ("on-call", "production/spoilt cannot be watched") in world.alerts
    assert UNHEALTHY in world.alerts and len(world.alerts) == 2


@pytest.mark.parametrize(
    ("selection", "watched"), [((), 1), (("production/*",), 1), (("staging/*",), 0), (("staging/*", "*/fraud-*"), 1)]
)
def test_which_endpoints_are_watched(world: World, selection: tuple[str, ...], watched: int) -> None:
    assert StandingWatch(world.platform, selection=selection).round().watched == watched


def test_an_empty_ledger_is_watched_too() -> None:
    assert StandingWatch(World().platform).round() == standing_watch.Round(watched=0, due={})


def test_status_says_what_is_unhealthy_and_why(world: World) -> None:
    assert endpoint_status(world.platform, ENDPOINT)["incident"] is None
    play(world, watcher(world), seconds=60, errors=9)
    incident = endpoint_status(world.platform, ENDPOINT)["incident"]
    assert (incident["gates"], incident["notified"]) == (["failing"], True)
    assert "at most" in incident["cause"]


def test_a_single_look_and_the_standing_watch_notify_once_together(world: World) -> None:
    play(world, watcher(world), seconds=60, errors=9)
    assert check_health(world.platform, ENDPOINT).verdict == "fail"
    assert world.alerts == [UNHEALTHY]
