"""What a list of endpoints says of each, and in which order."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.rollout.events import EndpointUnhealthy, Event, PromotionReopened
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet.overview import Overview, overview
from airflow_provider_mlpipex.services.rollout.hold import hold, hold_endpoint
from tests.support.rollouts import ENDPOINT, World


def line(world: World) -> Overview:
    (found,) = overview(world.memory).endpoints
    return found


def tell(world: World, event: Event) -> None:
    journal.note(world.memory, ENDPOINT, event)


def promoted() -> World:
    world = World()
    world.bring("run-1", "1.0.0", to="promoted")
    world.bring("run-2", "1.1.0", to="promoted")
    world.clock.advance(3600)
    return world


def test_no_requests_are_quiet_and_no_telemetry_is_unmeasured() -> None:
    world = promoted()
    assert (line(world).health, line(world).health_cause) == ("quiet", None)
    world.serve(30)
    world.clock.advance(1)
    assert line(world).health == "ok"
    world.memory.plane.telemetry_trouble = "the log was cut"
    assert (line(world).health, line(world).health_cause) == ("unmeasured", "the log was cut")


def test_nothing_released_is_nothing() -> None:
    world = World()
    world.open("run-1", "1.0.0")
    found = line(world)
    assert (found.health, found.readiness.lamp, found.is_diverged) == ("nothing", "none", False)


def test_what_a_person_has_to_look_at_comes_first() -> None:
    """Each of these is worse than all before it."""
    calm = promoted()
    moving = promoted()
    moving.bring("run-3", "1.2.0", to="canary-0")
    held = promoted()
    hold_endpoint(held.memory, endpoint=ENDPOINT, cause="freeze", by="ada")
    on_hold = promoted()
    on_hold.bring("run-3", "1.2.0", to="canary-0")
    hold(on_hold.memory, endpoint=ENDPOINT, rollout_id="run-3", cause="look", by="ada")
    doubtful = promoted()
    assert doubtful.state.current
    tell(doubtful, PromotionReopened(release=doubtful.state.current.id, cause="labels", gates=("auc",)))
    unhealthy = promoted()
    assert unhealthy.state.current
    gone_bad = {"verdict": "fail", "gates": ("errors",), "cause": "errors 9 %"}
    tell(unhealthy, EndpointUnhealthy.model_validate({"release": unhealthy.state.current.id, **gone_bad}))
    lines = [line(world) for world in (calm, moving, held, on_hold, unhealthy)]
    assert [each.rank for each in lines] == sorted((each.rank for each in lines), reverse=True)
    assert len({each.rank for each in lines}) == len(lines)
    assert line(doubtful).rank[0] == line(on_hold).rank[0]
    for each, said in zip(lines[2:], ("ada holds back", "on hold, a person decides", "unhealthy since"), strict=True):
        assert said in each.attention[0]


def test_one_question_to_the_plane_however_many_endpoints() -> None:
    world = promoted()
    surveys = world.memory.plane.surveys
    overview(world.memory)
    assert world.memory.plane.surveys == surveys + 1
