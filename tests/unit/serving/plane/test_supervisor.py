"""The supervisor's decisions, over an Envoy and model servers that do what a test tells them to.

With real ones: ``tests/contract/test_serving_plane.py`` and ``tests/system/test_plane_faults.py``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    LedgerRewritten,
    PlaneUnavailable,
    PlanRefused,
    ReleaseNotReady,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead
from airflow_provider_mlpipex.domain.rollout.plane_observation import ReleaseStatus
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving import cancelling
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.plane import desired_state, leases, ledger_heads, liveness, supervisor
from airflow_provider_mlpipex.serving.plane.ledger_heads import LedgerHeads
from airflow_provider_mlpipex.serving.plane.state import read_memory
from airflow_provider_mlpipex.serving.plane.supervisor import Supervisor
from airflow_provider_mlpipex.serving.plane_log import LEASE_ENDED, WORK_FAILED
from tests.support.factories import make_release
from tests.support.polling import until

FRAUD, CHURN = EndpointRef.parse("production/fraud-scorer"), EndpointRef.parse("production/churn")
OLD, NEW = make_release("1.0.0"), make_release("1.1.0")


class FakeIngress:
    """Takes what it is given, unless it is ``away`` or told to refuse."""

    envoys = ()

    def __init__(self, paths: Any, keeper: Any, *, reserve: Any, salt: str) -> None:
        self.paths = paths[0]
        self.away = False
        self.refuses: Callable[[str, list[dict[str, Any]]], bool] = lambda kind, resources: False
        self.files: dict[str, list[dict[str, Any]]] = {}
        self.versions: dict[str, str] = {}

    def start(self, *, port: int, tokens: Any) -> None:
        self._write("cds", [])

    def is_serving(self) -> bool:
        return not self.away

    def wait_until_serving(self, timeout_s: float) -> None:
        if self.away:
            raise PlaneUnavailable("Envoy")

    def version(self, kind: str) -> str:
        self.wait_until_serving(0)
        return self.versions.get(kind, "")

    def put(self, kind: str, version: str, resources: list[dict[str, Any]]) -> None:
        self.wait_until_serving(0)
        self._write(kind, resources)
        if self.refuses(kind, resources):
            raise PlanRefused(f"Envoy {kind}")
        self.files[kind], self.versions[kind] = resources, version

    def reopen_logs(self) -> None: ...

    def bound_logs(self) -> None: ...

    def restore(self) -> None: ...

    def drain(self) -> None: ...

    def _write(self, kind: str, resources: list[dict[str, Any]]) -> None:
        path = self.paths.resource(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"resources": resources}))

    @property
    def routed(self) -> dict[str, dict[str, int]]:
        """Endpoint -> cluster -> weight, as in force."""
        (config,) = self.files["rds"]
        return {
            route["name"].removesuffix("/split"): {
                cluster["name"]: cluster["weight"] for cluster in route["route"]["weighted_clusters"]["clusters"]
            }
            for route in config["virtual_hosts"][0]["routes"]
            if route["name"].endswith("/split")
        }

    @property
    def clusters(self) -> set[str]:
        return {cluster["name"] for cluster in self.files.get("cds", [])}


class FakeFleet:
    """Model servers that are ready as soon as they are launched; ``hold`` makes a verb on one of them wait."""

    def __init__(self, places: Any, keeper: Any, *, tracking_uri: str, feature_repository: Path | None) -> None:
        self.ready: set[tuple[str, str]] = set()
        self.standbys: set[tuple[str, str]] = set()
        self.broken: dict[str, Exception] = {}
        self.held: dict[tuple[str, str], threading.Event] = {}
        self.waiting: set[tuple[str, str]] = set()

    def hold(self, verb: str, endpoint: EndpointRef) -> threading.Event:
        return self.held.setdefault((verb, str(endpoint)), threading.Event())

    def _pass(self, verb: str, endpoint: EndpointRef) -> None:
        if (gate := self.held.get((verb, str(endpoint)))) is not None:
            self.waiting.add((verb, str(endpoint)))
            assert gate.wait(60)

    def launch(self, endpoint: EndpointRef, release: Release) -> None:
        self._pass("launch", endpoint)
        if release.id in self.broken:
            raise self.broken[release.id]
        self.ready.add((str(endpoint), release.id))

    def wait_until_ready(self, endpoint: EndpointRef, release: Release, **_: Any) -> ReleaseStatus:
        return self.status(endpoint, release.id)

    def status(self, endpoint: EndpointRef, release_id: str) -> ReleaseStatus:
        self._pass("status", endpoint)
        ready = (str(endpoint), release_id) in self.ready
        return ReleaseStatus(release=release_id, state="ready" if ready else "stopped")

    def answers(self, endpoint: EndpointRef, release_id: str) -> bool:
        return (str(endpoint), release_id) in self.ready

    def serving(self, endpoint: EndpointRef, release_id: str) -> str:
        return cluster_name(endpoint, release_id)

    def listens(self, endpoint: EndpointRef, release_id: str) -> bool:
        return self.answers(endpoint, release_id)

    def launch_standby(self, endpoint: EndpointRef, release_id: str) -> None:
        self.standbys.add((str(endpoint), release_id))

    def stop_standby(self, endpoint: EndpointRef, release_id: str) -> None:
        self.standbys.discard((str(endpoint), release_id))

    def stop(self, endpoint: EndpointRef, release_id: str) -> None:
        self._pass("stop", endpoint)
        self.ready.discard((str(endpoint), release_id))


class Plane:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.supervisor = Supervisor(folder, ingress_port=1, tracking_uri="http://127.0.0.1:1")

    @property
    def envoy(self) -> FakeIngress:
        found = self.supervisor._ingress
        assert isinstance(found, FakeIngress)
        return found

    @property
    def fleet(self) -> FakeFleet:
        found = self.supervisor._fleet
        assert isinstance(found, FakeFleet)
        return found

    def serve(self, endpoint: EndpointRef, *releases: Release) -> None:
        for release in releases:
            self.supervisor.ensure(endpoint, release, timeout_s=5)
        self.supervisor.apply(TrafficPlan(endpoint=endpoint, current=releases[0].id))

    def weight(self, endpoint: EndpointRef, release: Release) -> int:
        """Share of ``release`` in what is routed, of 10,000."""
        return sum(w for name, w in self.envoy.routed[str(endpoint)].items() if name.split("--")[2] == release.slug)

    def restart(self) -> None:
        """A supervisor that was killed and started again."""
        self.supervisor.detach()
        self.supervisor = Supervisor(self.folder, ingress_port=1, tracking_uri="http://127.0.0.1:1")


@pytest.fixture
def log_lines() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the plane logs, of whatever thread."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds since the machine started; move them by hand."""
    now = [1000.0]
    monkeypatch.setattr(leases, "uptime_s", lambda: now[0])
    yield now


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    monkeypatch.setattr(supervisor, "Ingress", FakeIngress)
    monkeypatch.setattr(supervisor, "Fleet", FakeFleet)
    monkeypatch.setattr(supervisor, "_WATCH_S", 0.01)
    plane = Plane(tmp_path / "plane")
    plane.supervisor.start()
    yield plane
    plane.supervisor.detach()


def canary(endpoint: EndpointRef = FRAUD, lease_s: float | None = 30) -> TrafficPlan:
    return TrafficPlan(endpoint=endpoint, current=OLD.id, candidate=NEW.id, candidate_weight=2500, lease_s=lease_s)


def in_background(verb: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=verb, daemon=True)
    thread.start()
    return thread


# Leases.


def test_a_lease_that_ran_out_returns_all_traffic_to_current(plane: Plane, uptime: list[float]) -> None:
    plane.serve(FRAUD, OLD, NEW)
    plane.supervisor.apply(canary())
    assert plane.weight(FRAUD, NEW) == 2500
    uptime[0] += 31
    until(lambda: plane.weight(FRAUD, OLD) == 10_000, within_s=10, what="traffic is back")
    until(lambda: plane.supervisor.observe(FRAUD).lease_expired_at is not None, within_s=10, what="it is said")


def test_a_lease_that_runs_out_while_envoy_is_away_ends_when_it_is_back(plane: Plane, uptime: list[float]) -> None:
    plane.serve(FRAUD, OLD, NEW)
    plane.supervisor.apply(canary())
    plane.envoy.away = True
    uptime[0] += 31
    until(lambda: plane.supervisor._desired.of(FRAUD).lease is None, within_s=10, what="the watch has seen it")
    assert plane.weight(FRAUD, NEW) == 2500, "it could not be put in force yet"
    plane.envoy.away = False
    until(lambda: plane.weight(FRAUD, OLD) == 10_000, within_s=10, what="traffic is back")
    assert plane.supervisor.observe(FRAUD).plan == canary().only_current()


def test_a_lease_that_runs_out_while_the_supervisor_is_dead_ends_when_it_is_back(
    plane: Plane, uptime: list[float]
) -> None:
    plane.serve(FRAUD, OLD, NEW)
    plane.supervisor.apply(canary())
    plane.restart()
    uptime[0] += 31
    plane.supervisor.start()
    until(lambda: plane.weight(FRAUD, OLD) == 10_000, within_s=10, what="traffic is back")


def test_a_renewed_lease_goes_on(plane: Plane, uptime: list[float]) -> None:
    plane.serve(FRAUD, OLD, NEW)
    plan = plane.supervisor.apply(canary()).plan
    for _ in range(5):
        uptime[0] += 20
        plane.supervisor.renew(FRAUD, plan.id)
    assert plane.supervisor.observe(FRAUD).plan == plan


def test_a_lease_that_is_over_cannot_be_renewed_even_before_the_watch_has_seen_it(
    plane: Plane, uptime: list[float]
) -> None:
    plane.serve(FRAUD, OLD, NEW)
    plan = plane.supervisor.apply(canary()).plan
    plane.supervisor.detach()
    uptime[0] += 31
    with pytest.raises(PlanRefused, match="lease"):
        plane.supervisor.renew(FRAUD, plan.id)


# The watch.


def test_a_server_that_hangs_is_started_again(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "EVERY_S", 0.01)
    plane.restart()
    plane.supervisor.start()
    plane.serve(FRAUD, OLD)
    keeper, name = plane.supervisor._keeper, cluster_name(FRAUD, OLD.id)
    environment = {"PATH": os.environ["PATH"]}
    first = keeper.start(name, ["sleep", "300"], environment=environment, log=plane.folder / "server.log").pid
    try:
        until(lambda: (name, first) in plane.supervisor._liveness._silent, within_s=10, what="it was seen to answer")
        plane.fleet.ready.clear()
        until(lambda: keeper.children[name].pid != first, within_s=10, what="another process has its place")
    finally:
        keeper.stop(name, grace_s=0.0)


def test_the_watch_outlives_every_error_and_says_it_once(
    plane: Plane, uptime: list[float], monkeypatch: pytest.MonkeyPatch, log_lines: list[MutableMapping[str, Any]]
) -> None:
    calls = []

    def stumble() -> None:
        calls.append(1)
        raise ZeroDivisionError("nobody thought of this")

    plane.restart()
    monkeypatch.setattr(plane.supervisor, "_revive", stumble)
    monkeypatch.setattr(plane.supervisor._tail, "poll", stumble)
    monkeypatch.setattr(plane.supervisor._tail, "recover", lambda: None)
    plane.supervisor.start()
    plane.serve(FRAUD, OLD, NEW)
    plane.supervisor.apply(canary())
    uptime[0] += 31
    until(lambda: plane.weight(FRAUD, OLD) == 10_000, within_s=10, what="leases end whatever else is broken")
    seen = len(calls)
    until(lambda: len(calls) > seen + 4, within_s=10, what="it goes on trying")
    failed = [(line["work"], line["error"]) for line in log_lines if line["event"] == WORK_FAILED]
    for work in ("processes", "telemetry"):
        assert failed.count((work, "ZeroDivisionError: nobody thought of this")) == 1
    ended = [(line["endpoint"], line["current"]) for line in log_lines if line["event"] == LEASE_ENDED]
    assert ended == [(str(FRAUD), OLD.id)]


# Plans.


def test_a_plan_that_envoy_refuses_leaves_the_one_before(plane: Plane) -> None:
    plane.serve(FRAUD, OLD, NEW)
    before = plane.supervisor.observe(FRAUD).plan
    plane.envoy.refuses = lambda kind, resources: kind == "rds" and NEW.slug in json.dumps(resources)
    with pytest.raises(PlanRefused):
        plane.supervisor.apply(canary())
    assert plane.supervisor.observe(FRAUD).plan == before
    assert plane.weight(FRAUD, OLD) == 10_000
    assert read_memory(plane.folder / "state.json").endpoints[str(FRAUD)].plan == before
    # An Envoy that dies now reads this file when it comes back.
    assert NEW.slug not in plane.envoy.paths.resource("rds").read_text()


def test_a_plan_that_met_a_dead_envoy_does_not_come_into_force_later(plane: Plane) -> None:
    plane.serve(FRAUD, OLD, NEW)
    before = plane.supervisor.observe(FRAUD).plan
    plane.envoy.away = True
    with pytest.raises(PlaneUnavailable):
        plane.supervisor.apply(canary())
    plane.envoy.away = False
    until(lambda: plane.supervisor._desired.settled, within_s=10, what="the plane has settled")
    assert plane.supervisor.observe(FRAUD).plan == before
    assert plane.weight(FRAUD, OLD) == 10_000


def test_whom_users_depend_on_has_a_standby_and_nobody_else(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane.serve(FRAUD, OLD, NEW)
    standby_of = {(str(FRAUD), OLD.id)}
    until(lambda: plane.fleet.standbys == standby_of, within_s=30, what="current has a standby")
    plane.supervisor.apply(TrafficPlan(endpoint=FRAUD, current=NEW.id))
    until(lambda: plane.fleet.standbys == {(str(FRAUD), NEW.id)}, within_s=30, what="it is the new current's")


def test_a_full_disk_refuses_the_plan_and_keeps_the_one_before(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane.serve(FRAUD, OLD, NEW)
    before = plane.supervisor.observe(FRAUD).plan
    writes = []
    original = desired_state.write_memory

    def full_after_one(path: Path, memory: Any) -> None:
        writes.append(memory)
        if 1 < len(writes) < 5:
            raise PlaneUnavailable("state of the plane", value="No space left on device")
        original(path, memory)

    monkeypatch.setattr(desired_state, "write_memory", full_after_one)
    with pytest.raises(PlaneUnavailable, match="No space left"):
        plane.supervisor.apply(canary())
    until(
        lambda: plane.supervisor._desired.settled and not plane.supervisor._desired.unwritten,
        within_s=10,
        what="the plane has settled, and written it down",
    )
    assert read_memory(plane.folder / "state.json").endpoints[str(FRAUD)].plan == before
    assert plane.weight(FRAUD, OLD) == 10_000


def test_a_full_disk_does_not_keep_traffic_from_being_taken_back(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane.serve(FRAUD, OLD, NEW)
    plane.supervisor.apply(canary())
    assert plane.weight(FRAUD, OLD) < 10_000
    original = desired_state.write_memory

    def full(path: Path, memory: Any) -> None:
        raise PlaneUnavailable("state of the plane", value="No space left on device")

    monkeypatch.setattr(desired_state, "write_memory", full)
    plane.supervisor.apply(canary().only_current())
    assert plane.weight(FRAUD, OLD) == 10_000
    monkeypatch.setattr(desired_state, "write_memory", original)
    # It is written down as soon as it can be.
    until(
        lambda: read_memory(plane.folder / "state.json").endpoints[str(FRAUD)].plan == canary().only_current(),
        within_s=10,
        what="the disk holds what is in force",
    )


def test_a_plan_over_releases_that_are_not_kept_is_refused(plane: Plane) -> None:
    plane.serve(FRAUD, OLD)
    with pytest.raises(PlanRefused, match="stopped"):
        plane.supervisor.apply(canary())
    # It runs, but nobody has ensured it: Envoy has no cluster for it.
    plane.fleet.ready.add((str(FRAUD), NEW.id))
    with pytest.raises(PlanRefused, match="not kept"):
        plane.supervisor.apply(canary())
    assert plane.weight(FRAUD, OLD) == 10_000


def test_a_server_that_runs_without_being_remembered_is_remembered_by_ensure(plane: Plane) -> None:
    plane.serve(FRAUD, OLD)
    plane.fleet.ready.add((str(FRAUD), NEW.id))
    plane.supervisor.ensure(FRAUD, NEW, timeout_s=5)
    plane.supervisor.apply(canary())
    assert plane.weight(FRAUD, NEW) == 2500


def test_clusters_come_before_their_routes_and_go_after_them(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, set[str], str]] = []
    original = FakeIngress.put

    def recording(envoy: FakeIngress, kind: str, version: str, resources: list[dict[str, Any]]) -> None:
        original(envoy, kind, version, resources)
        routed = json.dumps(envoy.files.get("rds", []))
        order.append((kind, envoy.clusters, routed))

    plane.serve(FRAUD, OLD)
    monkeypatch.setattr(FakeIngress, "put", recording)
    plane.supervisor.ensure(FRAUD, NEW, timeout_s=5)
    plane.supervisor.apply(canary())
    plane.supervisor.apply(canary().only_current())
    plane.supervisor.retire(FRAUD, NEW.id)
    assert {kind for kind, _, _ in order} == {"cds", "rds"}
    ever = {name for _, clusters, _ in order for name in clusters}
    for _, clusters, routed in order:
        named = {name for name in clusters if f'"{name}"' in routed}
        wanted = {name for name in ever if f'"{name}"' in routed}
        assert named == wanted, "at no moment does a route name a cluster that is not there"
    assert not any(NEW.slug in name for name in plane.envoy.clusters)


@pytest.mark.parametrize("left", [None, "", '{"resources": 7}'])
def test_a_deleted_or_torn_file_of_clusters_stops_no_plan(plane: Plane, left: str | None) -> None:
    plane.serve(FRAUD, OLD, NEW)
    plane.supervisor.apply(canary())
    path = plane.envoy.paths.resource("cds")
    path.unlink()
    if left is not None:
        path.write_text(left)
    plane.supervisor.apply(canary().only_current())
    assert plane.envoy.routed[str(FRAUD)] == {cluster_name(FRAUD, OLD.id): 10_000}
    assert {cluster_name(FRAUD, release.id) for release in (OLD, NEW)} <= plane.envoy.clusters


def test_clusters_that_would_be_rendered_otherwise_today_are_pushed_again(plane: Plane) -> None:
    # As after a restart of the machine: sockets outside the state folder are in a new place.
    plane.serve(FRAUD, OLD)
    path = plane.envoy.paths.resource("cds")
    path.write_text(path.read_text().replace(".sock", ".elsewhere"))
    plane.restart()
    # The fake starts without clusters; a real Envoy reads the file that is there.
    plane.envoy._write = lambda kind, resources: None  # type: ignore[method-assign]
    plane.supervisor.start()
    assert ".elsewhere" not in json.dumps(plane.envoy.files["cds"])
    assert any(OLD.slug in name for name in plane.envoy.clusters)


# Endpoints do not wait for each other.


@pytest.mark.parametrize("stuck_in", ["launch", "status", "stop"])
def test_a_verb_that_takes_long_on_one_endpoint_holds_up_no_other(plane: Plane, stuck_in: str) -> None:
    plane.serve(CHURN, OLD, NEW)
    plane.serve(FRAUD, OLD, NEW)
    gate = plane.fleet.hold(stuck_in, FRAUD)
    verbs: dict[str, Callable[[], object]] = {
        "launch": lambda: plane.supervisor.ensure(FRAUD, make_release("1.2.0"), timeout_s=5),
        "status": lambda: plane.supervisor.apply(canary()),
        "stop": lambda: plane.supervisor.retire(FRAUD, NEW.id),
    }
    stuck = in_background(verbs[stuck_in])
    until(lambda: (stuck_in, str(FRAUD)) in plane.fleet.waiting, within_s=10, what="the verb waits")
    rollback = in_background(
        lambda: (
            plane.supervisor.apply(canary(CHURN)),
            plane.supervisor.renew(CHURN, canary(CHURN).id),
            plane.supervisor.observe(CHURN),
            plane.supervisor.apply(canary(CHURN).only_current()),
        )
    )
    rollback.join(20)
    assert not rollback.is_alive()
    assert plane.weight(CHURN, OLD) == 10_000
    assert stuck.is_alive()
    gate.set()
    stuck.join(20)
    assert not stuck.is_alive()


def test_one_endpoint_is_rolled_back_while_its_own_next_release_is_being_built(plane: Plane) -> None:
    plane.serve(FRAUD, OLD, NEW)
    plane.supervisor.apply(canary())
    gate = plane.fleet.hold("launch", FRAUD)
    building = in_background(lambda: plane.supervisor.ensure(FRAUD, make_release("1.2.0"), timeout_s=5))
    until(lambda: ("launch", str(FRAUD)) in plane.fleet.waiting, within_s=10, what="it is being built")
    plane.supervisor.apply(canary().only_current())
    assert plane.weight(FRAUD, OLD) == 10_000
    assert building.is_alive()
    gate.set()
    building.join(20)


def test_the_plane_starts_though_one_release_cannot_come_back(
    plane: Plane, log_lines: list[MutableMapping[str, Any]]
) -> None:
    plane.serve(FRAUD, OLD)
    plane.serve(CHURN, OLD)
    plane.restart()
    plane.fleet.broken[OLD.id] = ArtifactMismatch("model artifact")
    plane.supervisor.start()
    assert sum("ArtifactMismatch" in line["error"] for line in log_lines if line["event"] == WORK_FAILED) == 2
    plane.fleet.broken.clear()
    plane.supervisor.ensure(CHURN, OLD, timeout_s=5)
    assert plane.supervisor.observe(CHURN).releases[OLD.id].state == "ready"
    assert plane.supervisor.observe(FRAUD).releases[OLD.id].state == "stopped"


def test_a_release_that_fails_is_stopped_unless_it_is_needed(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane.serve(FRAUD, OLD)

    def never(self: FakeFleet, endpoint: EndpointRef, release: Release, **_: Any) -> ReleaseStatus:
        raise ReleaseNotReady(f"release {release.id}")

    monkeypatch.setattr(FakeFleet, "wait_until_ready", never)
    with pytest.raises(ReleaseNotReady):
        plane.supervisor.ensure(FRAUD, NEW, timeout_s=5)
    assert (str(FRAUD), NEW.id) not in plane.fleet.ready
    assert NEW.id not in plane.supervisor.observe(FRAUD).known
    stopped: list[str] = []
    monkeypatch.setattr(FakeFleet, "stop", lambda self, endpoint, release_id: stopped.append(release_id))
    plane.fleet.ready.clear()
    with pytest.raises(ReleaseNotReady):
        plane.supervisor.ensure(FRAUD, OLD, timeout_s=5)
    assert stopped == [], "who answers users is not ended because it is slow to come back"


# Heads of ledgers.


def test_heads_outlive_the_supervisor_and_a_torn_line(plane: Plane) -> None:
    plane.serve(FRAUD, OLD)
    heads = [LedgerHead(seq=seq, hash=letter * 64) for seq, letter in ((1, "a"), (2, "b"))]
    plane.supervisor.note_head(FRAUD, HeadClaim(head=heads[0]))
    plane.supervisor.note_head(FRAUD, HeadClaim(head=heads[1], follows=heads[0]))
    path = plane.folder / "ledger-heads.jsonl"
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [1, 2], "it only grows"
    assert path.stat().st_mode & 0o077 == 0
    with path.open("a") as file:
        file.write('{"endpoint": "production/fraud-sc')
    plane.restart()
    assert plane.supervisor.heads(FRAUD) == {str(FRAUD): heads[1]}
    with pytest.raises(LedgerRewritten):
        plane.supervisor.note_head(FRAUD, HeadClaim(head=heads[0]))


def test_the_file_of_heads_has_a_bound_and_forgets_no_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_heads, "MAX_BYTES", 2_000)
    path = tmp_path / "heads.jsonl"
    heads = LedgerHeads(path, say=lambda *_: None)
    quiet = LedgerHead(seq=7, hash="c" * 64)
    heads.note("production/quiet", quiet)
    for seq in range(1, 200):
        heads.note("production/busy", LedgerHead(seq=seq, hash="d" * 64))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * 2_000
    again = LedgerHeads(path, say=lambda *_: None)
    assert again.all() == {"production/quiet": quiet, "production/busy": LedgerHead(seq=199, hash="d" * 64)}


def test_a_full_disk_keeps_no_head_from_being_known(tmp_path: Path) -> None:
    said: list[Exception] = []
    folder = tmp_path / "gone"
    heads = LedgerHeads(folder / "heads.jsonl", say=lambda _, error: said.append(error))
    head = LedgerHead(seq=1, hash="a" * 64)
    heads.note("production/x", head)
    assert (heads.of("production/x"), len(said)) == (head, 1)
    folder.mkdir()
    heads.note("production/y", head)
    assert LedgerHeads(folder / "heads.jsonl", say=lambda *_: None).all() == {
        "production/x": head,
        "production/y": head,
    }


def test_who_retires_a_release_calls_off_what_is_being_made_ready(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model is with a registry that hangs: neither the one who fetches nor the one behind him waits any longer."""
    begun = threading.Event()

    def hangs(endpoint: EndpointRef, release: Release) -> None:
        begun.set()
        while True:
            cancelling.check()
            time.sleep(0.01)

    monkeypatch.setattr(plane.fleet, "launch", hangs)
    refused: list[ReleaseNotReady] = []

    def ensure() -> None:
        try:
            plane.supervisor.ensure(FRAUD, NEW, timeout_s=300)
        except ReleaseNotReady as error:
            refused.append(error)

    waiting = [in_background(ensure) for _ in range(3)]
    assert begun.wait(timeout=30)
    until(lambda: len(plane.supervisor._ensuring[FRAUD, NEW.id]) == 3, within_s=30, what="all three have asked")
    plane.supervisor.retire(FRAUD, NEW.id)
    for thread in waiting:
        thread.join(timeout=30)
    assert ["called off" in str(error) for error in refused] == [True] * 3
    assert NEW.id not in plane.supervisor.kept_releases(FRAUD)


def test_a_release_that_the_plan_needs_is_not_called_off(plane: Plane) -> None:
    plane.serve(FRAUD, OLD)
    event = threading.Event()
    plane.supervisor._ensuring[FRAUD, OLD.id] = [event]
    with pytest.raises(PlanRefused):
        plane.supervisor.retire(FRAUD, OLD.id)
    assert not event.is_set()
