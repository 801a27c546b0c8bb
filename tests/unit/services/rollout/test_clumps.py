"""A trial beside a current release that fails in clumps: minutes are counted, not requests."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from tests.support.rollouts import ENDPOINT, World

MINUTE = 60
#: Without the count, which is exact however requests fail.
ERRORS_ONLY = ("        - zero critical errors in a 30-minute canary window\n", "")


def after_a_minute(world: World, step: int) -> WatchResult:
    """With a look in between, which keeps the lease."""
    for _ in range(2):
        world.clock.advance(MINUTE / 2)
        seen = world.look("run-2", "canary", step)
    return seen


def minute(world: World, *, failing: int, current_failing: int, requests: int = 100) -> WatchResult:
    first = world.state.current
    assert first is not None
    world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=requests, errors=failing)
    world.memory.plane.serve(ENDPOINT, first.id, requests=400, errors=current_failing)
    return after_a_minute(world, 1)


def trial(*, clumped: bool) -> World:
    """In the canary's second step; before it the current release had bad minutes, or failed evenly."""
    world = World(ERRORS_ONLY)
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    for number in range(15):
        world.memory.plane.serve(ENDPOINT, world.release("1.1.0").id, requests=30)
        bad = (60 if number % 5 == 0 else 0) if clumped else 12
        world.memory.plane.serve(ENDPOINT, first.id, requests=3000, errors=bad)
        after_a_minute(world, 0)
    world.canary("run-2", 1)
    return world


def test_one_bad_minute_takes_nothing_back_where_minutes_are_bad_as_a_whole() -> None:
    world = trial(clumped=True)
    for _ in range(3):
        assert minute(world, failing=0, current_failing=0).status == "watching"
    seen = minute(world, failing=30, current_failing=0)
    assert (seen.status, seen.verdict) == ("watching", "inconclusive")
    assert "failures come in clumps" in seen.results[-1].reason
    for _ in range(8):
        seen = minute(world, failing=60, current_failing=0)
        if seen.status == "ended":
            break
    assert seen.status == "ended", "what goes on being bad is bad in blocks as well"


def test_where_requests_fail_by_themselves_the_first_bad_minute_is_enough() -> None:
    world = trial(clumped=False)
    for _ in range(3):
        assert minute(world, failing=0, current_failing=1).status == "watching"
    assert minute(world, failing=30, current_failing=1).status == "ended"


def test_a_plane_that_answers_no_blocks_makes_nothing_clumped() -> None:
    world = trial(clumped=True)
    for _ in range(3):
        minute(world, failing=0, current_failing=0)
    telemetry = world.memory.plane.telemetry

    def only_whole(endpoint: object, *, since: object, until: object) -> object:
        if (until - since).total_seconds() <= MINUTE:  # type: ignore[operator]
            raise PlaneUnavailable("plane", limit="an answer", remedy="wait")
        return telemetry(endpoint, since=since, until=until)  # type: ignore[arg-type]

    world.memory.plane.telemetry = only_whole  # type: ignore[method-assign,assignment]
    assert minute(world, failing=30, current_failing=0).status == "ended", "fail closed"


# Users who fail, whoever answers them.


def with_users(*, failing: list[int], current_failing: list[int]) -> WatchResult:
    """One look at a canary of which 1,000 requests are of users in ten groups: 100 of each, so many of which fail."""
    world = World(ERRORS_ONLY)
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    candidate, plane = world.release("1.1.0"), world.memory.plane
    sides = {candidate.id: failing, first.id: current_failing}
    plane.send_users(ENDPOINT, dict.fromkeys(sides, 500))
    plane.tell_groups(ENDPOINT, {release: tuple((bad, 100) for bad in groups) for release, groups in sides.items()})
    for release, groups in sides.items():
        plane.serve(ENDPOINT, release, requests=1000, errors=sum(groups))
    return after_a_minute(world, 1)


def test_a_user_who_fails_all_day_takes_nothing_back() -> None:
    seen = with_users(failing=[60, *[0] * 9], current_failing=[0] * 10)
    assert (seen.status, seen.verdict) == ("watching", "inconclusive")
    assert "failures come from few users, so 10 groups of users are counted" in seen.results[-1].reason


def test_a_release_that_fails_its_users_goes_back() -> None:
    assert with_users(failing=[60] * 10, current_failing=[0] * 10).status == "ended"
    assert with_users(failing=[6] * 10, current_failing=[0] * 10).status == "ended", "6 %, of everybody alike"
