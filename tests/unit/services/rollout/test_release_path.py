"""The way of a release from its gate check to the end of its watch, and everything that may stop it."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    GateUndecided,
    IllegalTransition,
    ManifestChanged,
    MlpipexError,
    PlaneUnavailable,
    PlanRefused,
    RegistryUnavailable,
    ReleaseNotReady,
    RolloutEnded,
    RolloutInProgress,
)
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    CanaryStepped,
    GatesJudged,
    Promoted,
    ReviewDecided,
    ReviewOpened,
    RolloutOpened,
    RolloutRejected,
    ShadowStarted,
    TrafficConfirmed,
    TrafficPlanned,
    WatchPassed,
)
from airflow_provider_mlpipex.services.rollout import promote, status
from tests.support.manifests import make_manifest
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, PAGER, SHADOW_S, STEP_S, WATCH_S, World

NO_REVIEW = ("    review:\n      auto_approve: [data]\n      timeout: 24h\n", "")
NO_SHADOW = (
    "    shadow:\n      fraction: 50%\n      duration: 10m\n      min_pairs: 500\n"
    "      gates:\n        - p95 latency under 120 ms\n",
    "",
)
RUNTIME_BUMP = ("version: 1.0.0\n  environment: provider", "version: 1.1.0\n  environment: provider")
LOOSENED = ("max: 1%, min_samples: 100", "max: 2%, min_samples: 100")


@pytest.fixture
def world() -> World:
    return World()


def bad(thing: str) -> dict[str, str]:
    return {"thing": thing, "limit": "a limit", "remedy": "a remedy"}


# The path.


def test_a_first_release_has_nothing_to_be_tried_against(world: World) -> None:
    first = world.first_release()
    assert world.weights == {first.id: 10_000}
    assert [event.type for event in world.events()] == [
        "rollout-opened",
        "gates-judged",
        "review-opened",
        "review-decided",
        "traffic-planned",
        "traffic-confirmed",
        "promoted",
        "watch-passed",
    ]
    state = world.state
    assert (state.current, state.previous, state.rollout) == (first, None, None)
    assert state.results["run-1"].ending == "promoted"


def test_shadow_canary_and_watch_of_a_first_release_have_nothing_to_do(world: World) -> None:
    world.bring("run-1", "1.0.0", to="review")
    world.decide("run-1")
    before = world.state
    world.shadow("run-1")
    for step in range(3):
        world.canary("run-1", step)
        assert world.look("run-1", "canary", step).status == "passed"
    assert world.look("run-1", "shadow").status == "passed"
    assert world.state == before
    world.promote("run-1")
    assert world.look("run-1", "watch").status == "passed"


def test_a_second_release_walks_through_every_stage(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    second = world.release("1.1.0")
    plan = world.memory.plane.plan_in_force(ENDPOINT)
    assert plan is not None and plan.mirror is not None
    assert (plan.mirror.release, plan.mirror.fraction, world.weights) == (second.id, 0.5, {first.id: 10_000})
    assert plan.lease_s == 60.0
    assert world.watch("run-2", "shadow", seconds=SHADOW_S).status == "passed"
    for step, weight in enumerate((500, 5000, 9_500)):
        world.canary("run-2", step)
        shares = {first.id: 10_000 - weight, second.id: weight}
        assert world.weights == {release: share for release, share in shares.items() if share}
        assert world.watch("run-2", "canary", step, seconds=STEP_S).status == "passed"
    world.promote("run-2")
    assert world.weights == {second.id: 10_000}
    state = world.state
    assert state.rollout is not None and state.rollout.phase == "watching"
    assert (state.current, state.previous) == (second, first)
    assert world.watch("run-2", "watch", seconds=WATCH_S).status == "passed"
    assert world.state.results["run-2"].ending == "promoted"
    assert [event.verdict for event in world.events(WatchPassed)] == ["inconclusive", "pass"]
    assert world.alerts == [], "this manifest tells rollbacks only"
    live = [event.stage for event in world.events(GatesJudged) if event.rollout_id == "run-2"]
    assert live == ["gate", "shadow", "canary", "canary", "canary", "watch"]


def test_a_trial_lives_without_its_watcher_as_long_as_the_manifest_says() -> None:
    world = World(("expected_rate: 10/s", "expected_rate: 10/s\n  lease: 5m"))
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.clock.advance(299)
    assert set(world.weights) == {first.id, world.release("1.1.0").id}
    world.clock.advance(1)
    assert world.weights == {first.id: 10_000}


def test_every_stage_waits_for_its_duration(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    assert world.watch("run-2", "shadow", seconds=SHADOW_S - LOOK_EVERY).status == "watching"
    assert world.watch("run-2", "shadow", seconds=LOOK_EVERY).status == "passed"
    world.canary("run-2", 0)
    assert world.watch("run-2", "canary", 0, seconds=STEP_S - LOOK_EVERY).status == "watching"


def test_the_previous_release_stays_warm_and_the_one_before_is_retired(world: World) -> None:
    first = world.first_release()
    for number, version in enumerate(("1.1.0", "1.2.0"), start=2):
        world.bring(f"run-{number}", version, to="promoted")
        promote.retire_superseded(world.platform, ENDPOINT)
    running = world.memory.plane.observe(ENDPOINT).releases
    assert set(running) == {world.release("1.1.0").id, world.release("1.2.0").id}
    assert first.id not in running
    assert promote.retire_superseded(world.platform, ENDPOINT) == []


def test_the_candidate_of_a_rollout_that_begins_meanwhile_is_not_retired(world: World) -> None:
    world.first_release()

    def another_begins() -> None:
        world.bring("run-2", "1.1.0", to="opened")
        world.memory.plane.ensure(ENDPOINT, world.release("1.1.0"), timeout_s=1)

    world.plane.once("before", "observe", another_begins)
    assert promote.retire_superseded(world.platform, ENDPOINT) == []


@pytest.mark.parametrize("verb", ["open", "review", "decide", "shadow", "look", "canary", "promote", "end"])
def test_every_verb_twice_is_every_verb_once(verb: str) -> None:
    world, once = World(), World()
    for played, times in ((world, 2), (once, 1)):
        played.first_release()

        def run(name: str, *args: object, played: World = played, times: int = times) -> None:
            for _ in range(times if name == verb else 1):
                getattr(played, name)("run-2", *args)

        run("open", "1.1.0")
        run("review")
        run("decide")
        run("shadow")
        played.watch("run-2", "shadow", seconds=SHADOW_S - LOOK_EVERY)
        played.serve(LOOK_EVERY)
        played.clock.advance(LOOK_EVERY)
        run("look", "shadow")
        for step in range(3):
            run("canary", step)
            assert played.watch("run-2", "canary", step, seconds=STEP_S).status == "passed"
        run("promote")
        if verb == "end":
            played.end_trial("run-2")
            played.end_trial("run-2")
        assert played.watch("run-2", "watch", seconds=WATCH_S).status == "passed"
        run("promote")
    assert world.state.model_dump(exclude={"seq"}) == once.state.model_dump(exclude={"seq"})
    assert world.weights == once.weights
    only_facts = {RolloutOpened, ReviewOpened, ReviewDecided, ShadowStarted, CanaryStepped, TrafficPlanned, Promoted}
    for kind in only_facts | {TrafficConfirmed, WatchPassed}:
        assert world.events(kind) == once.events(kind), kind


def test_a_look_at_a_stage_that_has_passed_says_so(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    for stage, step in (("shadow", -1), ("canary", 0)):
        assert world.look("run-2", stage, step).status == "passed"


def test_a_look_at_a_stage_that_has_not_begun_is_refused(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="opened")
    with pytest.raises(IllegalTransition, match="shadow of rollout run-2"):
        world.look("run-2", "shadow")
    world.review("run-2")
    world.decide("run-2")
    world.shadow("run-2")
    with pytest.raises(IllegalTransition, match="in shadow"):
        world.look("run-2", "canary", 0)
    assert world.watch("run-2", "shadow", seconds=SHADOW_S).status == "passed"
    world.canary("run-2", 0)
    world.watch("run-2", "canary", 0, seconds=STEP_S)
    with pytest.raises(IllegalTransition, match="step 2.*in canary, step 1"):
        world.look("run-2", "canary", 1)
    with pytest.raises(IllegalTransition, match="watch of rollout run-2"):
        world.look("run-2", "watch")


def test_a_release_that_is_current_already_changes_nothing(world: World) -> None:
    world.first_release()
    before = world.state
    check = world.open("run-2", "1.0.0")
    assert (check.verdict, check.already_current) == ("pass", True)
    assert world.review("run-2").needs_person is False
    world.shadow("run-2")
    world.canary("run-2", 0)
    assert world.look("run-2", "canary", 0).status == "passed"
    world.promote("run-2")
    assert world.look("run-2", "watch").status == "passed"
    assert world.end_trial("run-2") is None
    assert world.state == before


def test_the_same_release_under_another_manifest_needs_no_trial(world: World) -> None:
    first = world.first_release()
    longer = make_manifest(PAGER, ("window: 30m", "window: 1h"))
    world.bring("run-2", "1.0.0", to="promoted", manifest=longer)
    state = world.state
    assert state.current is not None and state.current.id == first.id
    assert state.current_manifest == longer.to_json()
    assert world.events(ShadowStarted) == [] and world.events(CanaryStepped) == []
    (change,) = world.events(ReviewOpened)[-1].changes
    assert (change.kind, change.before, change.after) == ("gate-tightened", "30m", "1h")


def test_an_environment_that_serves_nobody_is_only_recorded() -> None:
    world = World(
        ("  production:\n", "  other:\n"), ("  staging:\n    serve: false", "  production:\n    serve: false")
    )
    world.open("run-1", "1.0.0")
    world.promote("run-1")
    assert world.state.current == world.release("1.0.0")
    assert world.memory.plane.applied == []


# Refusals.


def test_a_failed_gate_ends_the_rollout_and_says_by_how_much(world: World) -> None:
    first = world.first_release()
    check = world.open("run-2", "1.1.0", accuracy=0.7)
    (result,) = check.results
    assert (check.verdict, result.verdict, result.evidence.value, result.evidence.baseline) == (
        "fail",
        "fail",
        0.7,
        0.8,
    )
    assert result.threshold == pytest.approx(0.796) and result.margin == pytest.approx(-0.096)
    outcome = world.state.results["run-2"]
    assert outcome.ending == "rejected" and "accuracy" in outcome.cause and "79.6%" in outcome.cause
    assert world.weights == {first.id: 10_000}
    with pytest.raises(RolloutEnded):
        world.promote("run-2")
    # The endpoint is free for the next one.
    assert world.open("run-3", "1.2.0").verdict == "pass"


def test_an_undecided_gate_is_no_pass() -> None:
    world = World(("- accuracy within 0.5% of the baseline", "- auc at least 70%"))
    check = world.open("run-1", "1.0.0")
    assert check.verdict == "inconclusive"
    assert world.state.results["run-1"].ending == "rejected"
    assert "no evidence of evaluation.auc" in world.state.results["run-1"].cause


#: Two in a hundred rows of difference are not told from none by 1,000 rows that have to show half a percent.
UNCLEAR = 0.797


def test_what_too_few_rows_cannot_tell_is_put_before_a_person() -> None:
    world = World()
    first = world.first_release()
    check = world.open("run-2", "1.1.0", accuracy=UNCLEAR)
    assert (check.verdict, check.for_review) == ("inconclusive", True)
    check.require(first, ENDPOINT)
    assert world.state.rollout is not None
    with pytest.raises(IllegalTransition):
        world.shadow("run-2")
    request = world.review("run-2")
    assert request.needs_person and request.why.startswith("1 gate could not tell from the rows")
    (unclear,) = (change for change in request.changes if change.kind == "gate-undecided")
    assert "accuracy-within" in unclear.what and " would, if what they show is the truth" in unclear.after
    world.decide("run-2")
    world.shadow("run-2")
    assert world.state.rollout is not None and world.state.rollout.phase == "shadow"


def test_a_person_may_refuse_what_too_few_rows_cannot_tell() -> None:
    world = World()
    world.first_release()
    world.open("run-2", "1.1.0", accuracy=UNCLEAR)
    world.review("run-2")
    world.decide("run-2", approved=False)
    assert world.state.results["run-2"].ending == "rejected"


def test_a_policy_may_approve_what_too_few_rows_cannot_tell() -> None:
    world = World(
        ("auto_approve: [data]", "required_for: [runtime]\n      auto_approve: [data, model, gate-undecided]")
    )
    world.first_release()
    assert world.open("run-2", "1.1.0", accuracy=UNCLEAR).for_review
    request = world.review("run-2")
    assert not request.needs_person and "gate-undecided" in request.why


def test_without_a_review_too_few_rows_stop_the_release() -> None:
    world = World(("    review:\n      auto_approve: [data]\n      timeout: 24h\n", ""))
    first = world.first_release()
    check = world.open("run-2", "1.1.0", accuracy=UNCLEAR)
    assert (check.verdict, check.for_review) == ("inconclusive", False)
    assert world.state.results["run-2"].ending == "rejected"
    with pytest.raises(GateUndecided, match="add a review block: then a person decides"):
        check.require(first, ENDPOINT)


def test_no_review_stands_in_for_evidence_that_is_missing() -> None:
    """Beside a gate that a person could decide, one of which nothing is known stops the release."""
    auc = "- accuracy within 0.5% of the baseline\n      - auc at least 70%"
    world = World()
    world.first_release()
    check = world.open("run-2", "1.1.0", accuracy=UNCLEAR, manifest=make_manifest((auc.split("\n")[0], auc)))
    assert (check.verdict, check.for_review) == ("inconclusive", False)


def test_on_call_is_told_of_a_rejection_where_the_manifest_asks_for_it() -> None:
    world = World(("on: [rolled-back]", "on: [rejected]"))
    world.first_release()
    world.open("run-2", "1.1.0", accuracy=0.1)
    assert world.alerts == [("risk-pager", "production/fraud-scorer rejected")]


def test_on_call_is_told_of_a_promotion_where_the_manifest_asks_for_it() -> None:
    world = World(("on: [rolled-back]", "on: [promoted]"))
    world.first_release()
    assert world.alerts == [("risk-pager", "production/fraud-scorer promoted")]
    world.promote("run-1")
    assert len(world.alerts) == 1


@pytest.mark.parametrize(
    ("phase", "act"),
    [
        ("opened", lambda w: w.shadow("run-2")),
        ("opened", lambda w: w.canary("run-2", 0)),
        ("opened", lambda w: w.promote("run-2")),
        ("review", lambda w: w.shadow("run-2")),
        ("review", lambda w: w.promote("run-2")),
        ("shadow", lambda w: w.canary("run-2", 0)),
        ("shadow", lambda w: w.promote("run-2")),
        ("canary-0", lambda w: w.canary("run-2", 1)),
        ("canary-0", lambda w: w.canary("run-2", 2)),
        ("canary-0", lambda w: w.promote("run-2")),
        ("canary-2", lambda w: w.promote("run-2")),
    ],
)
def test_no_stage_before_the_one_before_it(world: World, phase: str, act: object) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to=phase)  # type: ignore[arg-type]
    before, plan = world.state, world.memory.plane.plan_in_force(ENDPOINT)
    with pytest.raises((IllegalTransition, GateUndecided)):
        act(world)  # type: ignore[operator]
    assert world.state == before
    assert world.memory.plane.plan_in_force(ENDPOINT) == plan


def test_nothing_is_started_for_what_may_not_happen(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="review")
    with pytest.raises(IllegalTransition, match="not approved"):
        world.shadow("run-2")
    assert world.release("1.1.0").id not in world.memory.plane.observe(ENDPOINT).releases


def test_two_releases_at_once_are_not_possible(world: World) -> None:
    world.bring("run-1", "1.0.0", to="review")
    with pytest.raises(RolloutInProgress, match="run-1 holds it"):
        world.open("run-2", "1.1.0")
    with pytest.raises(IllegalTransition, match="run-1 is in progress"):
        world.review("run-2")


def test_a_rollout_keeps_to_the_manifest_it_was_opened_under(world: World) -> None:
    world.first_release()
    world.open("run-2", "1.1.0")
    loose = make_manifest(PAGER, LOOSENED)
    with pytest.raises(ManifestChanged, match=loose.digest[:12]):
        world.open("run-2", "1.1.0", manifest=loose)
    with pytest.raises(IllegalTransition, match="opened for"):
        world.open("run-2", "1.2.0")


@pytest.mark.parametrize(
    "error", [ReleaseNotReady(**bad("release")), ArtifactMismatch(**bad("artifact"))], ids=lambda e: type(e).__name__
)
def test_a_candidate_that_will_not_run_never_gets_traffic(world: World, error: MlpipexError) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="review")
    world.decide("run-2")
    world.memory.plane.break_release(world.release("1.1.0").id, error)
    with pytest.raises(type(error)):
        world.shadow("run-2")
    assert world.state.results["run-2"].ending == "rejected"
    assert world.weights == {first.id: 10_000}
    assert all(plan.releases == (first.id,) for plan in world.memory.plane.applied)


def test_a_plane_that_is_away_for_a_moment_rejects_nothing(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="review")
    world.decide("run-2")
    world.plane.once("before", "ensure", PlaneUnavailable(**bad("plane")))
    with pytest.raises(PlaneUnavailable):
        world.shadow("run-2")
    world.shadow("run-2")
    assert world.state.rollout is not None and world.state.rollout.phase == "shadow"


def test_offline_gates_need_no_plane(world: World) -> None:
    world.first_release()
    world.memory.plane.away = True
    assert world.open("run-2", "1.1.0").verdict == "pass"


@pytest.mark.parametrize("phase", ["shadow", "canary-0", "canary-1"])
def test_a_trial_that_the_plane_refuses_is_rolled_back(world: World, phase: str) -> None:
    first = world.first_release()
    before = {"shadow": "review", "canary-0": "shadow", "canary-1": "canary-0"}[phase]
    world.bring("run-2", "1.1.0", to=before)  # type: ignore[arg-type]
    if phase == "shadow":
        world.decide("run-2")
    elif phase == "canary-0":
        world.watch("run-2", "shadow", seconds=SHADOW_S)
    else:
        world.watch("run-2", "canary", 0, seconds=STEP_S)
    # Refused, and once more after its releases were found to be running.
    world.plane.once("before", "apply", PlanRefused(**bad("plan")))
    world.plane.once("before", "apply", PlanRefused(**bad("plan")))
    with pytest.raises(PlanRefused):
        world.shadow("run-2") if phase == "shadow" else world.canary("run-2", int(phase[-1]))
    assert world.state.results["run-2"].ending == "rolled-back"
    assert world.weights == {first.id: 10_000}
    assert world.state.confirmed and world.state.rollback is None
    assert world.alerts == [("risk-pager", "production/fraud-scorer rolled back")]
    assert world.open("run-3", "1.2.0").verdict == "pass"


def test_a_first_release_that_the_plane_refuses_leaves_the_endpoint_free(world: World) -> None:
    world.bring("run-1", "1.0.0", to="review")
    world.decide("run-1")
    world.plane.once("before", "apply", PlanRefused(**bad("plan")))
    world.plane.once("before", "apply", PlanRefused(**bad("plan")))
    with pytest.raises(PlanRefused):
        world.promote("run-1")
    state = world.state
    assert (state.results["run-1"].ending, state.planned, state.current) == ("rejected", None, None)
    world.bring("run-2", "1.0.1", to="promoted")
    assert world.weights == {world.release("1.0.1").id: 10_000}


@pytest.mark.parametrize("away", [True, False], ids=["away", "has lost the model"])
def test_a_registry_that_fails_does_not_undo_a_promotion(world: World, away: bool) -> None:
    world.first_release()
    if away:
        world.registry.once("before", "mirror_alias", RegistryUnavailable(**bad("registry")))
    assert promote.mirror_alias(world.platform, ENDPOINT) is False
    assert world.state.results["run-1"].ending == "promoted"


# Review.


def test_a_rejected_review_changes_nothing_that_serves(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="review")
    world.decide("run-2", approved=False, note="not on a Friday")
    assert world.state.results["run-2"].cause == "review rejected by ada: not on a Friday"
    assert world.weights == {first.id: 10_000}
    for verb in (world.shadow, world.promote, world.review):
        with pytest.raises(RolloutEnded, match="not on a Friday"):
            verb("run-2")


def test_a_review_is_answered_once(world: World) -> None:
    world.bring("run-1", "1.0.0", to="review")
    world.decide("run-1")
    with pytest.raises(IllegalTransition, match="answered otherwise"):
        world.decide("run-1", approved=False)
    assert world.review("run-1").why == "answered before"


def test_a_review_cannot_be_answered_when_users_have_the_candidate() -> None:
    world = World(NO_REVIEW)
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    plan = world.memory.plane.plan_in_force(ENDPOINT)
    with pytest.raises(IllegalTransition, match="traffic has been planned"):
        world.decide("run-2", approved=False)
    world.review("run-2")
    assert world.state.rollout is not None and world.state.rollout.phase == "canary"
    assert world.memory.plane.plan_in_force(ENDPOINT) == plan


def test_a_review_shows_what_changes_and_what_the_gates_said(world: World) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="opened")
    request = world.review("run-2")
    assert [(c.kind, c.before[:5], c.after[:5]) for c in request.changes] == [("model", "1.0.0", "1.1.0")]
    assert [result.gate for result in request.results] == ["accuracy-within"]
    assert request.needs_person and "model" in request.why
    assert world.review("run-2") == request


def test_policy_approves_what_the_manifest_lets_it(world: World) -> None:
    lenient = ("review:\n      auto_approve: [data]", "review:\n      required_for: []\n      auto_approve: [model]")
    world = World(lenient)
    world.bring("run-1", "1.0.0", to="promoted")
    world.open("run-2", "1.1.0")
    request = world.review("run-2")
    assert request.needs_person is False
    decided = world.events(ReviewDecided)[-1]
    assert (decided.reviewer, decided.automatic) == ("policy", "review.auto_approve: model")
    world.shadow("run-2")


def test_a_runtime_bump_alone_opens_a_review(world: World) -> None:
    world.first_release()
    bumped = make_manifest(PAGER, RUNTIME_BUMP)
    world.open("run-2", "1.0.0", manifest=bumped)
    request = world.review("run-2")
    assert request.needs_person
    assert {change.kind for change in request.changes} == {"runtime"}
    with pytest.raises(IllegalTransition, match="not approved"):
        world.shadow("run-2")


def test_an_upgraded_package_under_the_same_version_is_another_runtime(world: World) -> None:
    world.first_release()
    world.memory.runtimes.provider = "numpy was upgraded"
    world.open("run-2", "1.0.0")
    assert {change.kind for change in world.review("run-2").changes} == {"runtime"}


def test_a_loosened_gate_is_itself_a_reviewed_change(world: World) -> None:
    world.first_release()
    world.open("run-2", "1.0.0", manifest=make_manifest(PAGER, LOOSENED))
    request = world.review("run-2")
    assert request.needs_person and "gate-loosened" in request.why
    assert [change.kind for change in request.changes] == ["gate-loosened"]


@pytest.mark.parametrize(
    "excuse",
    [
        NO_REVIEW,
        ("auto_approve: [data]", "auto_approve: [model, data, gate-loosened]\n      required_for: []"),
    ],
    ids=["no review block", "approves everything"],
)
def test_a_manifest_cannot_excuse_itself_from_review(world: World, excuse: tuple[str, str]) -> None:
    world.first_release()
    excused = make_manifest(PAGER, excuse)
    world.open("run-2", "1.1.0", manifest=excused)
    with pytest.raises(IllegalTransition, match="demands a review"):
        world.shadow("run-2")
    request = world.review("run-2")
    assert request.needs_person
    assert {"model", "gate-loosened"} <= {change.kind for change in request.changes}
    with pytest.raises(IllegalTransition, match="not approved"):
        world.promote("run-2")
    world.decide("run-2")
    world.shadow("run-2")
    assert world.state.rollout is not None and world.state.rollout.phase == "shadow"


def test_what_was_reviewed_away_needs_no_review_the_next_time(world: World) -> None:
    world.first_release()
    excused = make_manifest(PAGER, NO_REVIEW)
    world.bring("run-2", "1.0.0", to="promoted", manifest=excused)
    world.open("run-3", "1.1.0", manifest=excused)
    assert world.review("run-3").needs_person is False
    world.shadow("run-3")


# What people see of it.


def test_status_tells_the_ledgers_view_beside_the_planes(world: World) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    seen = status.endpoint_status(world.platform, ENDPOINT)
    second = world.release("1.1.0")
    assert (seen["current"], seen["previous"]) == (first.id, None)
    assert seen["rollout"]["phase"] == "canary" and seen["rollout"]["candidate"] == second.id
    assert seen["plane"]["weights"] == {first.id: 9500, second.id: 500} and seen["plane"]["as_confirmed"]
    world.memory.plane.away = True
    blind = status.endpoint_status(world.platform, ENDPOINT)
    assert blind["plane"] is None and "away" in blind["plane_error"] and blind["current"] == first.id


def test_the_last_outcome_is_the_last_even_while_the_clock_stands_still(world: World) -> None:
    world.first_release()
    world.open("run-2", "1.1.0", accuracy=0.1)
    world.open("run-3", "1.1.1", accuracy=0.1)
    assert status.endpoint_status(world.platform, ENDPOINT)["last_result"]["rollout_id"] == "run-3"


def test_an_alert_that_nobody_gets_is_recorded() -> None:
    world = World(("on: [rolled-back]", "on: [rejected]"))
    world.memory.alerter.trouble = "not delivered"
    world.open("run-1", "1.0.0", accuracy=0.9)
    world.review("run-1")
    world.decide("run-1", approved=False)
    (raised,) = world.events(AlertRaised)
    assert raised.failures == ("channel risk-pager: not delivered",)
    assert [event.cause for event in world.events(RolloutRejected)] == ["review rejected by ada"]


def test_without_a_shadow_the_canary_begins_at_once() -> None:
    world = World(NO_SHADOW)
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="review")
    world.decide("run-2")
    world.shadow("run-2")
    assert world.weights == {first.id: 10_000}
    world.canary("run-2", 0)
    assert world.weights == {first.id: 9500, world.release("1.1.0").id: 500}
