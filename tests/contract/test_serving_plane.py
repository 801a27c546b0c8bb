"""One suite for every serving plane: in memory, and the embedded one with its Envoy and its model servers."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_mlpipex.adapters.embedded.plane import EmbeddedPlane
from airflow_provider_mlpipex.domain.drift.references import make_reference
from airflow_provider_mlpipex.domain.drift.served import BatchSketches
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, merge
from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    ConfigurationInvalid,
    InvalidName,
    LedgerRewritten,
    MlpipexError,
    NotAuthorised,
    PlaneUnavailable,
    PlanRefused,
    ReleaseNotReady,
    RuntimeMismatch,
    SignatureMismatch,
)
from airflow_provider_mlpipex.domain.gates.evidence import Split, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import ServedAnswers
from airflow_provider_mlpipex.domain.predictions import Prediction, PredictionSample
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead
from airflow_provider_mlpipex.domain.rollout.plane_observation import Surveyed
from airflow_provider_mlpipex.domain.rollout.traffic_plan import BATCH_HEADER, Mirror, TrafficPlan
from airflow_provider_mlpipex.ports import ServingPlane
from airflow_provider_mlpipex.serving.envoy import attempts
from airflow_provider_mlpipex.serving.envoy.attempts import AttemptTail
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from tests.support.factories import make_release
from tests.support.mlflow_server import free_port
from tests.support.plane import (
    READY_TIMEOUT_S,
    RealPlane,
    examples,
    installed_runtime,
    invocation,
    number_of,
    path_of,
    real_plane,
    release_of,
    save_numbered_model,
)
from tests.support.polling import until

__all__ = ["real_plane"]

#: The real plane runs model servers for this endpoint only, once for the whole module.
SHARED = EndpointRef.parse("production/contract")


class SteppedClock:
    """Real time, and what a test adds to it: the fake's leases end by it."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)


@dataclass
class PlaneBench:
    """A plane and what happens around it.

    ``send(n)`` asks the endpoint ``n`` times as users do and ``fail()`` once with a request that no model accepts;
    ``ask(distances, batch)`` asks its current release once for each distance (``hour`` 12, ``carrier`` AA);
    ``pass_time`` lets that many seconds go by; ``spoil`` makes a release whose ``ensure`` raises the named error.
    ``began`` is where the window of :meth:`telemetry` begins.
    """

    plane: ServingPlane
    endpoint: EndpointRef
    current: Release
    candidate: Release
    third: Release
    now: Callable[[], datetime]
    pass_time: Callable[[float], None]
    spoil: Callable[[type[MlpipexError]], Release]
    send: Callable[[int], None]
    fail: Callable[[], None]
    ask: Callable[[Sequence[float], str], None]
    began: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    def plan(self, **changes: Any) -> TrafficPlan:
        return TrafficPlan.model_validate({"endpoint": self.endpoint, "current": self.current.id, **changes})

    def canary(self, weight: int = 5000, lease_s: float | None = 60.0) -> TrafficPlan:
        return self.plan(candidate=self.candidate.id, candidate_weight=weight, lease_s=lease_s)

    def shadow(self) -> TrafficPlan:
        return self.plan(mirror=Mirror(release=self.candidate.id, fraction=1.0), lease_s=60.0)

    def in_force(self) -> TrafficPlan | None:
        return self.plane.observe(self.endpoint).plan

    def telemetry(self) -> Telemetry:
        return self.plane.telemetry(self.endpoint, since=self.began, until=self.now() + timedelta(seconds=5))

    def begin(self) -> None:
        """A new window, in which nothing has happened yet."""
        # Seconds are counted whole, so the window begins with one.
        self.pass_time(1.1)
        self.began = self.now().replace(microsecond=0)


# The fake.


def memory_bench() -> PlaneBench:
    clock = SteppedClock()
    plane = MemoryPlane(clock)
    endpoint = EndpointRef.parse("production/contract")
    releases = [make_release(version) for version in ("1.1.0", "1.2.0", "1.3.0")]

    def spoil(kind: type[MlpipexError]) -> Release:
        spoilt = make_release("1.9.0", manifest=uuid.uuid4().hex)
        plane.break_release(spoilt.id, kind("a release", value=kind.__name__))
        return spoilt

    def send(count: int) -> None:
        plan = plane.plan_in_force(endpoint)
        assert plan is not None
        for release, weight in plan.weights.items():
            plane.serve(endpoint, release, requests=round(count * weight / 10_000))
        if plan.mirror is not None:
            plane.serve(endpoint, plan.mirror.release, requests=count)
            plane.answer_pairs(
                endpoint,
                primary=plan.current,
                shadow=plan.mirror.release,
                pairs=count,
                differing=count,
                inputs={"distance": 1.5, "hour": 12, "carrier": "AA"},
            )

    def fail() -> None:
        plan = plane.plan_in_force(endpoint)
        assert plan is not None
        plane.serve(endpoint, plan.current, requests=1, client_errors=1)

    def ask(distances: Sequence[float], batch: str) -> None:
        plan = plane.plan_in_force(endpoint)
        assert plan is not None
        for distance in distances:
            inputs = {"distance": distance, "hour": 12, "carrier": "AA"}
            plane.answer(endpoint, uuid.uuid4().hex, {plan.current: distance}, inputs=inputs, batch=batch)

    bench = PlaneBench(
        plane=plane,
        endpoint=endpoint,
        current=releases[0],
        candidate=releases[1],
        third=releases[2],
        now=clock.now,
        pass_time=clock.advance,
        spoil=spoil,
        send=send,
        fail=fail,
        ask=ask,
    )
    reference = make_reference(dict(examples().items()), scores=[0.1, 0.2, 0.3])
    for release in releases[:2]:
        plane.ensure(endpoint, release, timeout_s=1)
        plane.know_reference(release.id, reference)
    return bench


# The real one.


class Spoiler:
    """Releases that a plane must not serve, each for a reason of its own."""

    def __init__(self, plane: RealPlane, folder: Path) -> None:
        self._plane, self._folder = plane, folder

    def make(self, kind: type[MlpipexError]) -> Release:
        if kind is ArtifactMismatch:
            return release_of(self._plane.model_folder(1), "1.9.0", digest="0" * 64)
        if kind is RuntimeMismatch:
            other = installed_runtime().model_copy(update={"digest": "0" * 64})
            return release_of(self._plane.model_folder(1), "1.9.0", runtime=other)
        if kind is SignatureMismatch:
            return release_of(self._with_other_golden_rows(), "1.9.1")
        return release_of(self._without_its_model(), "1.9.2")

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self._plane.model_folder(1), self._folder / name))

    def _with_other_golden_rows(self) -> Path:
        folder = self._copy("other-golden")
        golden = folder / "mlpipex" / "golden.json"
        recorded = json.loads(golden.read_text())
        recorded["predictions"][0] += 1e-3
        golden.write_text(json.dumps(recorded))
        return folder

    def _without_its_model(self) -> Path:
        folder = self._copy("no-model")
        (folder / "model.pkl").unlink()
        return folder


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> RealPlane:
    """The real plane with two releases of :data:`SHARED` running."""
    plane: RealPlane = request.getfixturevalue("real_plane")
    plane.ensure(SHARED, 1, 2)
    return plane


def embedded_bench(plane: RealPlane, folder: Path, endpoint: EndpointRef = SHARED) -> PlaneBench:
    def send(count: int) -> None:
        with plane.client() as client:
            for number in range(count):
                answer = client.post(path_of(endpoint), json=invocation(), headers={"x-user-id": f"user-{number}"})
                assert answer.status_code == 200, answer.text

    def fail() -> None:
        with plane.client() as client:
            assert client.post(path_of(endpoint), json={"dataframe_split": {"columns": ["x"]}}).status_code == 400

    def ask(distances: Sequence[float], batch: str) -> None:
        with plane.client(**({BATCH_HEADER: batch} if batch else {})) as client:
            for distance in distances:
                answer = client.post(path_of(endpoint), json=invocation(distance))
                assert answer.status_code == 200, answer.text

    bench = PlaneBench(
        plane=plane.port,
        endpoint=endpoint,
        current=plane.release(1),
        candidate=plane.release(2),
        third=plane.release(3),
        now=lambda: datetime.now(UTC),
        pass_time=time.sleep,
        spoil=Spoiler(plane, folder).make,
        send=send,
        fail=fail,
        ask=ask,
    )
    bench.plane.apply(bench.plan())
    return bench


@pytest.fixture(params=["memory", pytest.param("embedded", marks=pytest.mark.system)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlaneBench]:
    if request.param == "memory":
        yield memory_bench()
        return
    bench = embedded_bench(request.getfixturevalue("shared"), tmp_path)
    yield bench
    bench.plane.apply(bench.plan())


@pytest.fixture(params=["memory", pytest.param("embedded", marks=pytest.mark.system)])
def chained(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlaneBench]:
    """A bench whose endpoint no other test has: a head that was noted is never forgotten, and binds all who come later.

    All three releases are ready.
    """
    if request.param == "memory":
        bench = memory_bench()
        bench.plane.ensure(bench.endpoint, bench.third, timeout_s=1)
        yield bench
        return
    plane: RealPlane = request.getfixturevalue("real_plane")
    endpoint = EndpointRef.parse(f"production/chained-{uuid.uuid4().hex[:8]}")
    plane.ensure(endpoint, 1, 2, 3)
    bench = embedded_bench(plane, tmp_path, endpoint)
    yield bench
    bench.plane.apply(bench.plan())
    for release in (bench.candidate, bench.third):
        bench.plane.retire(endpoint, release.id)


# Heads of ledgers.


def head(seq: int, letter: str = "a") -> LedgerHead:
    return LedgerHead(seq=seq, hash=letter * 64)


def test_a_plan_comes_from_a_chain_that_goes_on_from_the_noted_head(chained: PlaneBench) -> None:
    bench = chained
    first = head(10)
    bench.plane.apply(bench.plan(), claim=HeadClaim(head=first))
    assert bench.plane.heads(bench.endpoint) == {str(bench.endpoint): first}
    assert bench.plane.heads()[str(bench.endpoint)] == first

    for claim in (
        HeadClaim(head=head(9, "b")),
        HeadClaim(head=head(10, "b")),
        HeadClaim(head=head(20), follows=None),
        HeadClaim(head=head(20), follows=head(10, "b")),
        HeadClaim(head=None),
        None,
    ):
        with pytest.raises(LedgerRewritten):
            bench.plane.apply(bench.canary(), claim=claim)
        assert bench.in_force() == bench.plan()
        if claim is not None:
            with pytest.raises(LedgerRewritten):
                bench.plane.note_head(bench.endpoint, claim)
            # All of this returns traffic to who has it already, which no ledger is needed for.
            assert bench.plane.apply(bench.plan(), claim=claim).ledger_disputed

    later = head(20)
    assert not bench.plane.apply(bench.canary(), claim=HeadClaim(head=later, follows=first)).ledger_disputed
    bench.plane.note_head(bench.endpoint, HeadClaim(head=head(21), follows=later))
    bench.plane.apply(bench.plan())
    with pytest.raises(PlanRefused):
        bench.plane.accept_head(bench.endpoint, head(1, "c"), instead_of=later, reason="a backup")
    bench.plane.accept_head(bench.endpoint, head(1, "c"), instead_of=head(21), reason="a backup")
    assert bench.plane.heads(bench.endpoint) == {str(bench.endpoint): head(1, "c")}


def test_a_chain_that_was_rewritten_brings_back_only_what_the_plane_knows_as_good(chained: PlaneBench) -> None:
    bench = chained
    chain = head(1)
    bench.plane.apply(bench.plan(), claim=HeadClaim(head=chain))
    bench.plane.apply(bench.plan(current=bench.candidate.id), claim=HeadClaim(head=chain))  # promoted
    other = HeadClaim(head=None)
    with pytest.raises(LedgerRewritten):
        bench.plane.apply(bench.plan(current=bench.third.id), claim=other)
    assert bench.plane.apply(bench.plan(), claim=other).ledger_disputed, "back to who was current before"
    with pytest.raises(LedgerRewritten):
        bench.plane.apply(bench.plan(current=bench.candidate.id), claim=other)
    assert bench.in_force() == bench.plan(), "what was taken back does not come again"


def test_both_are_the_port(bench: PlaneBench) -> None:
    assert isinstance(bench.plane, ServingPlane)


# ensure


def test_ensuring_twice_is_ensuring_once(bench: PlaneBench) -> None:
    for _ in range(2):
        status = bench.plane.ensure(bench.endpoint, bench.current, timeout_s=5)
        assert (status.release, status.state) == (bench.current.id, "ready")
    seen = bench.plane.observe(bench.endpoint)
    assert seen.releases.keys() == {bench.current.id, bench.candidate.id}
    assert seen.known[bench.current.id] == bench.current
    assert {status.restarts for status in seen.releases.values()} == {0}


@pytest.mark.parametrize("kind", [ArtifactMismatch, RuntimeMismatch, SignatureMismatch, ReleaseNotReady])
def test_what_must_not_be_served_is_refused_as_what_it_is(bench: PlaneBench, kind: type[MlpipexError]) -> None:
    bench.plane.apply(bench.plan())
    spoilt = bench.spoil(kind)
    with pytest.raises(MlpipexError) as refused:
        bench.plane.ensure(bench.endpoint, spoilt, timeout_s=READY_TIMEOUT_S)
    assert type(refused.value) is kind
    assert spoilt.id not in bench.plane.observe(bench.endpoint).known
    with pytest.raises(PlanRefused, match=spoilt.id):
        bench.plane.apply(bench.plan(candidate=spoilt.id, candidate_weight=100, lease_s=60.0))
    assert bench.in_force() == bench.plan()


# apply and observe


def test_an_endpoint_that_was_never_served_has_no_plan(bench: PlaneBench) -> None:
    nobody = EndpointRef.parse("production/nobody")
    seen = bench.plane.observe(nobody)
    assert (seen.endpoint, seen.plan, seen.releases, seen.lease_expired_at) == (nobody, None, {}, None)


def test_what_was_applied_is_observed(bench: PlaneBench) -> None:
    for plan in (bench.canary(), bench.shadow(), bench.canary(10_000), bench.plan()):
        applied = bench.plane.apply(plan)
        assert applied.plan == plan
        assert applied.acknowledged_ms >= 0
        assert bench.in_force() == plan


def test_applying_twice_is_applying_once(bench: PlaneBench) -> None:
    for _ in range(2):
        bench.plane.apply(bench.canary())
        assert bench.in_force() == bench.canary()


@pytest.mark.parametrize("role", ["current", "candidate", "mirror"])
def test_a_plan_with_a_release_that_is_not_ready_leaves_the_one_before(bench: PlaneBench, role: str) -> None:
    bench.plane.apply(bench.canary(2500))
    missing = make_release("9.9.9").id
    refused = {
        "current": bench.plan(current=missing),
        "candidate": bench.plan(candidate=missing, candidate_weight=100, lease_s=60),
        "mirror": bench.plan(mirror=Mirror(release=missing, fraction=0.5), lease_s=60),
    }[role]
    with pytest.raises(PlanRefused, match=r"9\.9\.9"):
        bench.plane.apply(refused)
    assert bench.in_force() == bench.canary(2500)


# leases


def test_a_trial_that_nobody_watches_goes_back_to_current(bench: PlaneBench) -> None:
    bench.plane.apply(bench.canary(lease_s=1.0))
    bench.pass_time(1.0)
    until(lambda: bench.in_force() == bench.plan(), within_s=10, what="all traffic on current")
    seen = bench.plane.observe(bench.endpoint)
    assert seen.lease_expired_at is not None
    assert seen.lease_expired_at <= bench.now()
    with pytest.raises(PlanRefused, match="lease"):
        bench.plane.renew(bench.endpoint, bench.canary().id)
    bench.plane.apply(bench.canary())
    assert bench.plane.observe(bench.endpoint).lease_expired_at is None


def test_a_trial_that_is_watched_goes_on(bench: PlaneBench) -> None:
    bench.plane.apply(bench.canary(lease_s=5.0))
    for _ in range(4):
        bench.pass_time(1.5)
        bench.plane.renew(bench.endpoint, bench.canary().id)
    assert bench.in_force() == bench.canary(lease_s=5.0)


def test_a_control_arm_answers_its_share_until_nobody_watches(bench: PlaneBench) -> None:
    arms = {"control": bench.candidate.id, "control_weight": 4000}
    bench.plane.apply(bench.plan(**arms, lease_s=60.0))
    assert bench.in_force() == bench.plan(**arms, lease_s=60.0)
    bench.begin()
    bench.send(40)
    bench.pass_time(1.0)

    def answered() -> list[int]:
        found = bench.telemetry()
        return [side.requests if (side := found.of(release.id)) else 0 for release in (bench.current, bench.candidate)]

    until(lambda: sum(answered()) == 40, within_s=10, what="40 attempts")
    assert min(answered()) > 5
    bench.plane.apply(bench.plan(**arms, lease_s=1.0))
    bench.pass_time(1.0)
    until(lambda: bench.in_force() == bench.plan(), within_s=10, what="all traffic on current")


def test_only_the_plan_in_force_is_renewed(bench: PlaneBench) -> None:
    bench.plane.apply(bench.canary())
    with pytest.raises(PlanRefused, match=bench.canary().id):
        bench.plane.renew(bench.endpoint, bench.shadow().id)
    with pytest.raises(PlanRefused):
        bench.plane.renew(EndpointRef.parse("production/nobody"), bench.canary().id)
    bench.plane.renew(bench.endpoint, bench.canary().id)


def test_a_plan_without_a_lease_needs_no_watcher(bench: PlaneBench) -> None:
    bench.plane.apply(bench.plan())
    bench.plane.renew(bench.endpoint, bench.plan().id)
    assert bench.in_force() == bench.plan()


# telemetry


def test_every_answer_is_counted_for_who_gave_it(bench: PlaneBench) -> None:
    bench.plane.apply(bench.canary(5000))
    bench.begin()
    bench.send(40)
    bench.fail()
    bench.pass_time(1.0)

    def seen() -> tuple[int, int]:
        found = bench.telemetry()
        assert found.complete, found.detail
        sides = [found.releases[release.id] for release in (bench.current, bench.candidate)]
        return sum(side.requests for side in sides), sum(side.client_errors for side in sides)

    until(lambda: seen() == (41, 1), within_s=10, what="41 attempts, 1 of them the caller's fault")
    found = bench.telemetry()
    for release in (bench.current, bench.candidate):
        side = found.of(release.id)
        assert side is not None
        assert side.requests > 5
        assert side.errors == 0
        assert side.latency.total == side.requests
        assert (side.latency.quantile(0.5) or 0) > 0


def test_a_window_without_requests_is_complete_and_empty(bench: PlaneBench) -> None:
    bench.begin()
    found = bench.telemetry()
    assert found.complete, found.detail
    assert {side.requests for side in found.releases.values()} == {0}
    assert found.releases.keys() == {bench.current.id, bench.candidate.id}


def test_a_plan_that_splits_says_who_was_sent_where_and_another_does_not(bench: PlaneBench) -> None:
    assert bench.telemetry().split is None
    bench.plane.apply(bench.canary(2500))
    if isinstance(bench.plane, MemoryPlane):
        bench.plane.send_users(bench.endpoint, {bench.candidate.id: 1, bench.current.id: 3})
    split = bench.telemetry().split
    assert split is not None
    assert split.weights == {bench.current.id: 7500, bench.candidate.id: 2500}
    assert split.units.keys() == split.weights.keys()
    bench.plane.apply(bench.plan())
    assert bench.telemetry().split is None


def test_a_survey_says_of_many_endpoints_what_each_would_say(bench: PlaneBench) -> None:
    bench.plane.apply(bench.canary(5000))
    if isinstance(bench.plane, MemoryPlane):
        bench.plane.send_users(bench.endpoint, {bench.candidate.id: 1, bench.current.id: 1})
    bench.begin()
    bench.send(20)
    bench.pass_time(1.0)

    def requests() -> list[int]:
        found = bench.telemetry()
        return [side.requests for side in found.releases.values()]

    until(lambda: sum(requests()) == 20, within_s=10, what="20 attempts")
    ends, nobody = bench.now() + timedelta(seconds=5), EndpointRef.parse("production/nobody")
    begins = (bench.began, ends - timedelta(seconds=1))
    both = [Surveyed(bench.endpoint, bench.candidate.id, begins), Surveyed(nobody)]
    survey = bench.plane.survey(both, until=ends, warm=True)
    assert survey.plans == {bench.endpoint: bench.canary(5000).id, nobody: None}
    assert survey.telemetry.keys() == {bench.endpoint}
    assert survey.warm == {bench.endpoint: {bench.current.id: True, bench.candidate.id: True}, nobody: {}}
    assert bench.plane.survey(both, until=ends).warm is None, "nobody asked"
    for window, begin in zip(survey.telemetry[bench.endpoint], begins, strict=True):
        asked = bench.plane.telemetry(bench.endpoint, since=begin, until=ends)
        of_one = {bench.candidate.id: asked.releases[bench.candidate.id]}
        assert window == asked.model_copy(update={"releases": of_one, "split": None})
    assert survey.telemetry[bench.endpoint][0].releases[bench.candidate.id].requests > 2


# compare


def test_shadow_answers_are_paired_with_those_that_clients_got(bench: PlaneBench) -> None:
    bench.plane.apply(bench.shadow())
    bench.begin()
    bench.send(15)

    def pairs() -> int:
        return bench.plane.compare(
            bench.endpoint,
            primary=bench.current.id,
            shadow=bench.candidate.id,
            since=bench.began,
            until=bench.now() + timedelta(seconds=5),
        ).pairs

    until(lambda: pairs() == 15, within_s=15, what="15 pairs")
    found = bench.plane.compare(
        bench.endpoint,
        primary=bench.current.id,
        shadow=bench.candidate.id,
        since=bench.began,
        until=bench.now() + timedelta(seconds=5),
        slices=["carrier", "runway"],
    )
    assert (found.missing, found.flips, found.agreement, found.dropped_share) == (0, 15, 0.0, 0.0)
    assert found.mean_absolute_difference is not None
    assert found.mean_absolute_difference > 0
    assert (found.failed_shadow, found.failed_current, found.latency.count) == (0, 0, 15)
    assert (found.current_log.answers, found.shadow_log.answers) == (15, 15)
    # So few pairs make no slice, but are counted by the values that were sent; nobody sent a runway.
    assert [(each.column, each.values, each.others) for each in found.slices] == [("carrier", 1, 15), ("runway", 1, 15)]
    # Mirrored attempts are the shadow's, and all of them are counted.
    bench.pass_time(1.0)
    until(
        lambda: {side.requests for side in bench.telemetry().releases.values()} == {15},
        within_s=10,
        what="15 attempts each",
    )


def test_releases_that_answered_nothing_make_no_pairs(bench: PlaneBench) -> None:
    bench.begin()
    found = bench.plane.compare(
        bench.endpoint,
        primary=bench.current.id,
        shadow=bench.candidate.id,
        since=bench.began,
        until=bench.now() + timedelta(seconds=5),
    )
    assert (found.pairs, found.missing, found.agreement) == (0, 0, None)


# predictions


def test_predictions_are_those_that_each_release_served(bench: PlaneBench) -> None:
    bench.plane.apply(bench.shadow())
    bench.begin()
    bench.send(15)

    def predictions(release_id: str, limit: int = 100) -> PredictionSample:
        until = bench.now() + timedelta(seconds=5)
        return bench.plane.predictions(bench.endpoint, release_id, since=bench.began, until=until, limit=limit)

    both = (bench.current.id, bench.candidate.id)
    until(lambda: {predictions(release).total for release in both} == {15}, within_s=15, what="15 answers of each")
    current, candidate = (predictions(release) for release in both)
    assert {row.request_id for row in current.rows} == {row.request_id for row in candidate.rows}
    assert {row.score for row in current.rows} != {row.score for row in candidate.rows}
    assert all(row.label and row.at.tzinfo for row in current.rows)
    assert (current.release, current.dropped_share) == (bench.current.id, 0.0)
    some = predictions(bench.current.id, limit=4)
    assert (len(some.rows), some.total) == (4, 15)
    assert {row.request_id for row in some.rows} <= {row.request_id for row in current.rows}
    assert predictions(bench.current.id, limit=4).rows == some.rows


def test_a_release_that_was_not_asked_served_nothing(bench: PlaneBench) -> None:
    bench.begin()
    later = bench.now() + timedelta(seconds=5)
    found = bench.plane.predictions(bench.endpoint, bench.third.id, since=bench.began, until=later, limit=10)
    assert (found.rows, found.total) == ((), 0)


# served


def test_a_client_was_served_by_who_answered_it_and_not_by_who_got_a_copy(bench: PlaneBench) -> None:
    bench.plane.apply(bench.shadow())
    bench.begin()
    bench.send(15)

    def rows(release_id: str) -> dict[str, Prediction]:
        until = bench.now() + timedelta(seconds=5)
        found = bench.plane.predictions(bench.endpoint, release_id, since=bench.began, until=until, limit=100)
        return {row.request_id: row for row in found.rows}

    both = (bench.current.id, bench.candidate.id)
    until(lambda: [len(rows(release)) for release in both] == [15, 15], within_s=15, what="15 answers of each")
    logged = rows(bench.current.id)
    found = bench.plane.served(bench.endpoint, [*logged, "nobody", *logged])
    assert [row.request_id for row in found.rows] == list(logged)
    assert {row.release for row in found.rows} == {bench.current.id}
    said = {rid: (row.at, row.score, row.label) for rid, row in logged.items()}
    assert {row.request_id: (row.at, row.score, row.predicted) for row in found.rows} == said
    assert (found.ambiguous, found.log_since.keys() >= set(both)) == ((), True)
    assert found.log_since[bench.current.id] <= min(row.at for row in logged.values())


def test_nobody_was_served_where_nobody_asked(bench: PlaneBench) -> None:
    nobody = EndpointRef.parse("production/nobody")
    assert bench.plane.served(nobody, ["a"]) == bench.plane.served(nobody, []) == ServedAnswers()


def test_predictions_of_one_batch(bench: PlaneBench) -> None:
    bench.plane.apply(bench.plan())
    bench.begin()
    bench.ask([1.5, 2.5], "monday")
    bench.ask([3.5], "")

    def totals() -> list[int]:
        asked = {"since": bench.began, "until": bench.now() + timedelta(seconds=5), "limit": 100}
        return [
            bench.plane.predictions(bench.endpoint, bench.current.id, batch=batch, **asked).total
            for batch in (None, "monday", "", "tuesday")
        ]

    until(lambda: totals() == [3, 2, 1, 0], within_s=15, what="three answers, two of them of a batch")
    asked = {"since": bench.began, "until": bench.now() + timedelta(seconds=5), "limit": 100}
    rows = bench.plane.predictions(bench.endpoint, bench.current.id, batch="monday", **asked).rows
    assert sorted((row.batch, row.inputs["distance"]) for row in rows) == [("monday", 1.5), ("monday", 2.5)]


# sketches


def _window(bench: PlaneBench) -> dict[str, datetime]:
    return {"since": bench.began, "until": bench.now() + timedelta(seconds=5)}


def test_sketches_count_what_was_asked_and_answered(bench: PlaneBench) -> None:
    bench.plane.apply(bench.plan())
    bench.began = bench.now()
    # Of batches that only this test knows: sketches know no shorter time than the minute that tests may share.
    sent = {
        f"{day}-{uuid.uuid4().hex}": values for day, values in (("monday", [1.5, 100.5, 2000.25]), ("sunday", [7.0]))
    }
    for batch, distances in sent.items():
        bench.ask(distances, batch)
    bench.ask([9000.0], "")

    def batches() -> BatchSketches:
        return bench.plane.sketches_by_batch(bench.endpoint, bench.current.id, column="distance", **_window(bench))

    def all_there() -> bool:
        seen = batches().batches
        # Rows without a batch may be another test's of the same minute: ours is the largest.
        last = "" in seen and (seen[""].maximum or 0.0) >= 9000.0
        return last and [seen[batch].rows for batch in sent if batch in seen] == [3, 1]

    # What was logged is counted when somebody asks, up to the log's next flush.
    until(all_there, within_s=15, what="five rows")
    found, window = batches(), bench.plane.sketches(bench.endpoint, bench.current.id, **_window(bench))
    assert window.reference is not None
    assert window.reference.columns.keys() == window.columns.keys() == {"distance", "hour", "carrier", "@score"}
    assert (window.release, window.dropped_share) == (bench.current.id, 0.0)
    assert window.since == bench.began.replace(second=0, microsecond=0) <= bench.began < window.until
    assert merge(found.batches.values()) == window.columns["distance"]
    assert {sketch.rows for sketch in window.columns.values()} == {window.columns["distance"].rows}
    assert window.columns["@score"].usable == window.columns["@score"].rows
    assert found.reference is not None
    assert found.reference.bins.identity == window.reference.columns["distance"].bins.identity
    # As the reference itself counts the same rows.
    assert {batch: _counts(found.batches[batch]) for batch in sent} == {
        batch: _counts(window.reference.sketch({"distance": values})["distance"]) for batch, values in sent.items()
    }
    assert (found.column, found.release, found.rest) == ("distance", bench.current.id, 0)
    assert (found.since, found.until) == (window.since, window.until)


def _counts(sketch: Sketch) -> dict[str, Any]:
    """Without what depends on scores."""
    return {name: value for name, value in sketch.to_json().items() if not name.startswith("group_")}


def test_nobody_asked_is_sketches_of_no_rows(bench: PlaneBench) -> None:
    later = {"since": bench.now() + timedelta(days=1), "until": bench.now() + timedelta(days=2)}
    found = bench.plane.sketches(bench.endpoint, bench.current.id, **later)
    assert found.reference is not None
    assert {sketch.rows for sketch in found.columns.values()} == {0}
    assert found.columns.keys() == found.reference.columns.keys()
    by_batch = bench.plane.sketches_by_batch(bench.endpoint, bench.current.id, column="hour", **later)
    assert by_batch.batches == {}
    assert by_batch.reference is not None
    nothing = bench.plane.sketches_by_batch(bench.endpoint, bench.current.id, column="no such column", **later)
    assert (nothing.reference, nothing.batches) == (None, {})


def test_a_batch_that_is_unlike_the_others_is_named(bench: PlaneBench) -> None:
    bench.plane.apply(bench.plan())
    bench.began = bench.now()
    faulty, alike = uuid.uuid4().hex, [uuid.uuid4().hex for _ in range(4)]
    for batch in alike:
        bench.ask([100.5, 2000.25, 7.0] * 20, batch)
    bench.ask([900_000.0] * 60, faulty)

    def named() -> list[str]:
        found = bench.plane.batch_faults(bench.endpoint, bench.current.id, **_window(bench), psi=0.2, alpha=0.01)
        return [fault.batch for fault in found.faults if fault.column == "distance"]

    until(lambda: faulty in named(), within_s=15, what="the batch that is unlike the others")
    assert not set(named()) & set(alike)
    later = {"since": bench.now() + timedelta(days=1), "until": bench.now() + timedelta(days=2)}
    nothing = bench.plane.batch_faults(bench.endpoint, bench.current.id, **later, psi=0.2, alpha=0.01)
    assert (nothing.batches, nothing.faults) == (0, ())


def test_a_release_without_a_reference_is_not_counted(bench: PlaneBench) -> None:
    bench.plane.ensure(bench.endpoint, bench.third, timeout_s=READY_TIMEOUT_S)
    bench.plane.apply(bench.plan(current=bench.third.id))
    bench.begin()
    bench.ask([1.5], "monday")
    found = bench.plane.sketches(bench.endpoint, bench.third.id, **_window(bench))
    assert (found.reference, found.columns) == (None, {})
    by_batch = bench.plane.sketches_by_batch(bench.endpoint, bench.third.id, column="distance", **_window(bench))
    assert (by_batch.reference, by_batch.batches) == (None, {})
    bench.plane.apply(bench.plan())
    bench.plane.retire(bench.endpoint, bench.third.id)


def test_what_a_retired_release_was_asked_can_still_be_read(bench: PlaneBench) -> None:
    bench.plane.apply(bench.plan(current=bench.candidate.id))
    bench.began, batch = bench.now(), uuid.uuid4().hex
    bench.ask([1.5, 2.5], batch)
    bench.plane.apply(bench.plan())
    bench.plane.retire(bench.endpoint, bench.candidate.id)
    window = _window(bench)
    found = bench.plane.sketches_by_batch(bench.endpoint, bench.candidate.id, column="distance", **window)
    assert found.batches[batch].rows == 2
    assert bench.plane.sketches(bench.endpoint, bench.candidate.id, **window).columns["distance"].rows >= 2
    bench.plane.ensure(bench.endpoint, bench.candidate, timeout_s=READY_TIMEOUT_S)


# retire


def test_who_is_needed_is_not_retired(bench: PlaneBench) -> None:
    for plan, needed in (
        (bench.canary(), (bench.current, bench.candidate)),
        (bench.shadow(), (bench.current, bench.candidate)),
        (bench.plan(), (bench.current,)),
    ):
        bench.plane.apply(plan)
        for release in needed:
            with pytest.raises(PlanRefused, match="retire"):
                bench.plane.retire(bench.endpoint, release.id)
    assert bench.plane.observe(bench.endpoint).releases.keys() == {bench.current.id, bench.candidate.id}


def test_retiring_twice_is_retiring_once(bench: PlaneBench) -> None:
    bench.plane.ensure(bench.endpoint, bench.third, timeout_s=READY_TIMEOUT_S)
    assert bench.third.id in bench.plane.observe(bench.endpoint).known
    for _ in range(2):
        bench.plane.retire(bench.endpoint, bench.third.id)
        assert bench.third.id not in bench.plane.observe(bench.endpoint).known
    with pytest.raises(PlanRefused, match=bench.third.id):
        bench.plane.apply(bench.plan(candidate=bench.third.id, candidate_weight=100, lease_s=60))


def test_a_release_that_never_ran_here_can_be_retired(bench: PlaneBench) -> None:
    bench.plane.retire(bench.endpoint, make_release("7.7.7").id)
    bench.plane.retire(EndpointRef.parse("production/nobody"), make_release("7.7.7").id)


# Only the fake: what a test can make it do.


def test_the_fake_is_away_when_told_to_be() -> None:
    bench = memory_bench()
    assert isinstance(bench.plane, MemoryPlane)
    bench.plane.apply(bench.canary(lease_s=30.0))
    bench.plane.away = True
    verbs: list[Callable[[], object]] = [
        lambda: bench.plane.ensure(bench.endpoint, bench.current, timeout_s=1),
        lambda: bench.plane.apply(bench.plan()),
        lambda: bench.plane.renew(bench.endpoint, bench.canary().id),
        lambda: bench.plane.observe(bench.endpoint),
        lambda: bench.telemetry(),
        lambda: bench.plane.compare(
            bench.endpoint, primary=bench.current.id, shadow=bench.candidate.id, since=bench.began, until=bench.now()
        ),
        lambda: bench.plane.predictions(
            bench.endpoint, bench.current.id, since=bench.began, until=bench.now(), limit=1
        ),
        lambda: bench.plane.sketches(bench.endpoint, bench.current.id, since=bench.began, until=bench.now()),
        lambda: bench.plane.sketches_by_batch(
            bench.endpoint, bench.current.id, column="distance", since=bench.began, until=bench.now()
        ),
        lambda: bench.plane.batch_faults(
            bench.endpoint, bench.current.id, since=bench.began, until=bench.now(), psi=0.2, alpha=0.01
        ),
        lambda: bench.plane.retire(bench.endpoint, bench.third.id),
    ]
    for verb in verbs:
        with pytest.raises(PlaneUnavailable):
            verb()
    assert bench.plane.plan_in_force(bench.endpoint) == bench.canary(lease_s=30.0)
    bench.pass_time(31)
    assert bench.plane.plan_in_force(bench.endpoint) == bench.plan(), "leases end all the same"


def test_a_release_of_the_fake_that_breaks_later_has_failed() -> None:
    bench = memory_bench()
    assert isinstance(bench.plane, MemoryPlane)
    bench.plane.break_release(bench.candidate.id, ReleaseNotReady("it died"))
    assert bench.plane.observe(bench.endpoint).releases[bench.candidate.id].state == "failed"
    with pytest.raises(PlanRefused, match="failed"):
        bench.plane.apply(bench.canary())
    bench.plane.mend_release(bench.candidate.id)
    bench.plane.apply(bench.canary())


# Only the embedded plane: what its client and its clients see.


@pytest.mark.system
class TestEmbedded:
    def test_the_next_request_after_apply_is_answered_by_the_new_release(self, shared: RealPlane) -> None:
        with shared.client() as client:
            for turn in range(20):
                number = turn % 2 + 1
                shared.port.apply(TrafficPlan(endpoint=SHARED, current=shared.release(number).id))
                answer = client.post(path_of(SHARED), json=invocation())
                assert number_of(answer) == number
                assert answer.headers["x-mlpipex-release"] == shared.release(number).id

    def test_a_user_on_the_candidate_stays_on_it_while_its_share_grows(self, shared: RealPlane) -> None:
        users = [f"user-{number}" for number in range(200)]
        seen: dict[int, set[str]] = {}
        with shared.client() as client:
            for weight in (1000, 5000):
                plan = TrafficPlan(
                    endpoint=SHARED,
                    current=shared.release(1).id,
                    candidate=shared.release(2).id,
                    candidate_weight=weight,
                    lease_s=60,
                )
                shared.port.apply(plan)
                answers = {
                    user: client.post(path_of(SHARED), json=invocation(), headers={"x-user-id": user}) for user in users
                }
                seen[weight] = {user for user, answer in answers.items() if number_of(answer) == 2}
        assert 0 < len(seen[1000]) < len(seen[5000]) < len(users)
        assert seen[1000] <= seen[5000]

    @pytest.mark.parametrize(("variant", "number"), [("current", 1), ("candidate", 2)])
    def test_a_tester_chooses_by_header(self, shared: RealPlane, variant: str, number: int) -> None:
        shared.port.apply(
            TrafficPlan(
                endpoint=SHARED,
                current=shared.release(1).id,
                candidate=shared.release(2).id,
                candidate_weight=100,
                lease_s=60,
            )
        )
        with shared.client(**{"x-mlpipex-variant": variant}) as client:
            assert {number_of(client.post(path_of(SHARED), json=invocation())) for _ in range(10)} == {number}

    def test_a_plane_that_does_not_answer_is_unavailable(self) -> None:
        nobody = EmbeddedPlane(f"http://127.0.0.1:{free_port()}", "token")
        with pytest.raises(PlaneUnavailable, match="ConnectError"):
            nobody.observe(SHARED)

    @pytest.mark.parametrize("sent", [[], [""], ["", ""]], ids=["none", "empty", "empty twice"])
    def test_users_without_a_name_are_spread_one_by_one(self, shared: RealPlane, sent: list[str]) -> None:
        current, candidate = shared.release(1).id, shared.release(2).id
        shared.port.apply(
            TrafficPlan(endpoint=SHARED, current=current, candidate=candidate, candidate_weight=5000, lease_s=60)
        )
        headers = [("x-user-id", value) for value in sent]
        with shared.client() as client:
            answers = [client.post(path_of(SHARED), json=invocation(), headers=headers) for _ in range(100)]
        # By a hash all hundred go one way together; by chance once in 10^29.
        assert {number_of(answer) for answer in answers} == {1, 2}

    def test_the_log_names_users_of_a_split_by_a_hash_and_counts_who_was_sent_where(
        self, shared: RealPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        current, candidate = shared.release(1), shared.release(2)
        plan = TrafficPlan(
            endpoint=SHARED, current=current.id, candidate=candidate.id, candidate_weight=5000, lease_s=60
        )
        shared.port.apply(plan)
        log = shared.state_dir / "envoy" / "attempts.jsonl"
        monkeypatch.setattr(attempts, "request_limit_s", lambda _: -1.0)
        # Both Envoys answer on the port.
        tail = AttemptTail({each: lambda: None for each in sorted(log.parent.glob("attempts*.jsonl"))})
        tail.split(plan)
        answered: dict[str, set[int]] = {}
        with shared.client() as client:
            for user in [f"somebody-{number}" for number in range(40)] * 2:
                answer = client.post(path_of(SHARED), json=invocation(), headers={"x-user-id": user})
                answered.setdefault(user, set()).add(number_of(answer))
            nameless = [
                client.post(path_of(SHARED), json=invocation(), headers=each) for each in [{}, {"x-user-id": ""}] * 10
            ]
        with shared.client(**{"x-mlpipex-variant": "candidate", "x-mlpipex-unit": "forged"}) as tester:
            for number in range(10):
                tester.post(path_of(SHARED), json=invocation(), headers={"x-user-id": f"tester-{number}"})

        def counted() -> Split | None:
            tail.poll()
            now = datetime.now(UTC)
            releases = [current.id, candidate.id]
            return tail.telemetry(SHARED, releases, since=now, until=now + timedelta(seconds=5)).split

        def is_whole() -> bool:
            split = counted()
            return split is not None and sum(split.units.values()) >= 60

        until(is_whole, within_s=20.0, what="all are in the log")
        split, expected = counted(), {current.id: 0, candidate.id: 0}
        for numbers in (*answered.values(), *({number_of(answer)} for answer in nameless)):
            (number,) = numbers
            expected[shared.release(number).id] += 1
        assert split is not None and (split.units, split.users) == (expected, 40)
        assert b"somebody-1" not in b"".join(each.read_bytes() for each in log.parent.glob("attempts*.jsonl"))

    def test_a_wrong_token_is_not_authorised_and_not_repeated(self, shared: RealPlane) -> None:
        with pytest.raises(NotAuthorised) as refused:
            EmbeddedPlane(shared.control_url, "wrong-token").observe(SHARED)
        assert "wrong-token" not in str(refused.value)

    def test_a_proxy_of_the_environment_sees_nothing(self, shared: RealPlane, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert shared.port.observe(SHARED).endpoint == SHARED

    def test_an_error_comes_back_as_the_class_that_it_was(self, shared: RealPlane) -> None:
        with pytest.raises(InvalidName) as refused:
            shared.port.retire(SHARED, "not-a-release")
        assert refused.value.value == "not-a-release"
        assert refused.value.remedy
        wrong = TrafficPlan(endpoint=SHARED, current=shared.release(1).id).to_json() | {"endpoint": "production/other"}
        answer = shared.control("PUT", f"/v1/endpoints/{SHARED}/plan", json=wrong)
        assert (answer.status_code, answer.json()["error"]) == (422, ConfigurationInvalid.__name__)

    def test_a_release_that_takes_too_long_never_takes_part(self, shared: RealPlane, tmp_path: Path) -> None:
        slow = release_of(save_numbered_model(4, tmp_path / "model"), "1.4.0")
        with pytest.raises(ReleaseNotReady, match=r"not ready after 0\.2 s"):
            shared.port.ensure(SHARED, slow, timeout_s=0.2)
        assert slow.id not in shared.port.observe(SHARED).known

    def test_the_address_that_is_observed_is_the_one_to_call(self, shared: RealPlane) -> None:
        shared.port.apply(TrafficPlan(endpoint=SHARED, current=shared.release(1).id))
        address = shared.port.observe(SHARED).address
        answer = httpx.post(
            f"{address}/invocations",
            json=invocation(),
            headers={"authorization": f"Bearer {shared.client_token}"},
        )
        assert number_of(answer) == 1
