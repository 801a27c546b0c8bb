"""The embedded plane while its parts are killed, hang, lie or are away. Real processes throughout.

What users see is counted by clients that never stop asking: promises 3, 5 and 6 are about them.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from airflow_provider_mlpipex.domain.errors import MlpipexError, PlaneUnavailable, ReleaseNotReady
from airflow_provider_mlpipex.domain.gates.evidence import ReleaseTelemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.traffic_plan import Mirror, TrafficPlan
from airflow_provider_mlpipex.serving.state_dir import Places
from tests.support.plane import (
    READY_TIMEOUT_S,
    RealPlane,
    Traffic,
    fresh_window,
    invocation,
    now,
    number_of,
    path_of,
    real_plane,
)
from tests.support.polling import until

pytestmark = pytest.mark.system
__all__ = ["real_plane"]

FAULTS = EndpointRef.parse("production/faults")


class Scene:
    """Release 1 serves :data:`FAULTS`, release 2 is ready beside it."""

    def __init__(self, plane: RealPlane) -> None:
        self.plane = plane
        self.current, self.candidate = plane.release(1), plane.release(2)

    def reset(self) -> None:
        """As it was: both up and sound, all traffic on current."""
        self.plane.ensure(FAULTS, 1, 2)
        for release in (self.current, self.candidate):
            self.plane.control("DELETE", f"/v1/endpoints/{FAULTS}/releases/{release.id}/fault").raise_for_status()
        self.plane.port.apply(self.only_current())

    def only_current(self) -> TrafficPlan:
        return TrafficPlan(endpoint=FAULTS, current=self.current.id)

    def canary(self, weight: int = 5000, lease_s: float = 120.0) -> TrafficPlan:
        return TrafficPlan(
            endpoint=FAULTS,
            current=self.current.id,
            candidate=self.candidate.id,
            candidate_weight=weight,
            lease_s=lease_s,
        )

    def shadow(self) -> TrafficPlan:
        mirror = Mirror(release=self.candidate.id, fraction=1.0)
        return TrafficPlan(endpoint=FAULTS, current=self.current.id, mirror=mirror, lease_s=120.0)

    def traffic(self) -> Traffic:
        return Traffic(self.plane, FAULTS)

    def server(self, release: Release) -> psutil.Process:
        return self.plane.server(FAULTS, release)

    def break_answers(self, release: Release, **fault: float) -> None:
        self.plane.control("PUT", f"/v1/endpoints/{FAULTS}/releases/{release.id}/fault", json=fault).raise_for_status()

    def seen(self, release: Release, since: Any) -> ReleaseTelemetry:
        found = self.plane.port.telemetry(FAULTS, since=since, until=now() + timedelta(seconds=5))
        assert found.complete, found.detail
        return found.releases[release.id]

    def pids(self) -> dict[str, int]:
        return {
            "envoy": self.plane.child("envoy").pid,
            "current": self.server(self.current).pid,
            "candidate": self.server(self.candidate).pid,
        }


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.getfixturevalue("real_plane"))


@pytest.fixture
def scene(stage: Scene) -> Scene:
    stage.reset()
    return stage


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """``process`` hangs: it keeps its connections and answers nothing."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def answers(scene: Scene) -> Callable[[], bool]:
    def asked() -> bool:
        with scene.plane.client() as client:
            try:
                return client.post(path_of(FAULTS), json=invocation()).status_code == 200
            except httpx.HTTPError:
                return False

    return asked


# Processes that die.


@pytest.mark.parametrize("name", ["envoy", "envoy-2"])
def test_of_one_killed_envoy_only_what_it_was_answering_is_lost(scene: Scene, name: str) -> None:
    before, failed = scene.plane.child(name).pid, Counter[int]()
    killed = threading.Event()

    def ask(number: int) -> None:
        # A connection a request: whoever comes after the kill finds the other one.
        came_after = killed.is_set()
        try:
            with scene.plane.client() as client:
                status = client.post(path_of(FAULTS), json=invocation()).status_code
        except httpx.HTTPError:
            status = 0
        failed[came_after] += status != 200

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, number) for number in range(40)]
        until(lambda: any(a.done() for a in asked), within_s=30, what="the first answers")
        scene.plane.child(name).kill()
        psutil.wait_procs([psutil.Process(before)] if psutil.pid_exists(before) else [], timeout=10)
        killed.set()
        asked += [pool.submit(ask, number) for number in range(200)]
        for done in asked:
            done.result()
    assert failed[True] == 0
    assert failed[False] <= 4, "no more than were under way"
    until(lambda: scene.plane.child(name).pid != before, within_s=20, what="it is started again")
    # And the one that was started again takes plans like the other.
    scene.plane.port.apply(scene.canary(10_000))
    with scene.traffic() as traffic:
        traffic.wait_for(40)
    assert (traffic.failures, traffic.answered_by) == ({}, {2})


def test_killed_envoys_are_back_with_the_same_plan(scene: Scene) -> None:
    scene.plane.port.apply(scene.canary())
    before = scene.pids()
    both = [scene.plane.child("envoy"), scene.plane.child("envoy-2")]
    for envoy in both:
        envoy.kill()
    until(answers(scene), within_s=20, what="requests are answered again")
    until(lambda: scene.pids()["envoy"] != before["envoy"], within_s=5, what="a new Envoy is recorded")
    assert scene.plane.port.observe(FAULTS).plan == scene.canary()
    after = scene.pids()
    assert (after["current"], after["candidate"]) == (before["current"], before["candidate"])
    with scene.traffic() as traffic:
        traffic.wait_for(60)
    assert traffic.failures == {}
    assert traffic.answered_by == {1, 2}


def test_a_plan_applied_while_envoy_is_being_restarted_comes_into_force(scene: Scene) -> None:
    # A rollback must not fail because Envoy died a moment ago.
    scene.plane.port.apply(scene.canary(10_000))
    for name in ("envoy", "envoy-2"):
        scene.plane.child(name).kill()
    scene.plane.port.apply(scene.only_current())
    with scene.plane.client() as client:
        assert number_of(client.post(path_of(FAULTS), json=invocation())) == 1


def test_a_killed_supervisor_costs_no_request_and_the_next_one_adopts_all(scene: Scene) -> None:
    scene.plane.port.apply(scene.canary())
    before, began = scene.pids(), fresh_window()
    with scene.traffic() as traffic:
        traffic.wait_for(30)
        scene.plane.kill_supervisor()
        traffic.wait_for(100)
        scene.plane.start()
        traffic.wait_for(30)
        assert scene.pids() == before
        assert scene.plane.port.observe(FAULTS).plan == scene.canary()
        scene.plane.port.apply(scene.only_current())
        traffic.wait_for(30)
    assert traffic.failures == {}
    # What was served while nobody read the log is counted all the same.
    total = traffic.answers.total()
    until(
        lambda: sum(scene.seen(release, began).requests for release in (scene.current, scene.candidate)) == total,
        within_s=15,
        what=f"{total} attempts in telemetry",
    )


def test_after_a_supervisor_that_was_killed_at_work_the_next_one_tidies_up(scene: Scene) -> None:
    # It was starting a release, and nobody watches the trial any more.
    plane, third = scene.plane, scene.plane.release(3)
    plane.port.apply(scene.canary(10_000, lease_s=2.0))
    with pytest.raises(httpx.ReadTimeout):
        plane.control(
            "PUT",
            f"/v1/endpoints/{FAULTS}/releases/{third.id}",
            json={"release": third.to_json(), "timeout_s": 60},
            timeout=0.5,
        )
    record = plane.state_dir / "children" / f"production--faults--{third.slug}.json"
    until(record.exists, within_s=10, what="the release is being started")
    started = json.loads(record.read_text())["pid"]
    plane.kill_supervisor()
    plane.start()
    assert started not in plane.processes()
    assert not record.exists()
    until(lambda: plane.port.observe(FAULTS).plan == scene.only_current(), within_s=15, what="traffic on current")
    assert third.id not in plane.port.observe(FAULTS).known


def test_a_killed_candidate_costs_no_request_and_its_failures_are_counted(scene: Scene) -> None:
    scene.plane.port.apply(scene.canary(9000))
    restarts = scene.plane.port.observe(FAULTS).releases[scene.candidate.id].restarts
    began = fresh_window()
    with scene.traffic() as traffic:
        traffic.wait_for(50)
        scene.server(scene.candidate).kill()
        traffic.wait_for(100)
    assert traffic.failures == {}
    assert traffic.answered_by == {1, 2}
    until(lambda: scene.seen(scene.candidate, began).errors > 0, within_s=10, what="the candidate's failures show")
    assert scene.seen(scene.current, began).errors == 0
    until(
        lambda: scene.plane.port.observe(FAULTS).releases[scene.candidate.id].state == "ready",
        within_s=READY_TIMEOUT_S,
        what="it was started again",
    )
    assert scene.plane.port.observe(FAULTS).releases[scene.candidate.id].restarts == restarts + 1


# Candidates and shadows that fail otherwise.


def test_a_candidate_that_answers_errors_is_rescued_by_current(scene: Scene) -> None:
    scene.break_answers(scene.candidate, error_rate=1.0)
    scene.plane.port.apply(scene.canary(9000))
    until(lambda: _forced_status(scene) == 500, within_s=10, what="the fault is in force")
    began = fresh_window()
    with scene.traffic() as traffic:
        traffic.wait_for(100)
    assert traffic.failures == {}
    assert traffic.answered_by == {1}
    until(lambda: scene.seen(scene.candidate, began).errors > 50, within_s=10, what="its errors show")
    assert scene.seen(scene.current, began).errors == 0


def _forced_status(scene: Scene) -> int:
    with scene.plane.client(**{"x-mlpipex-variant": "candidate"}) as client:
        return client.post(path_of(FAULTS), json=invocation()).status_code


def test_a_candidate_that_hangs_is_given_up_and_current_answers(scene: Scene) -> None:
    scene.plane.port.apply(scene.canary(10_000))
    began = fresh_window()
    with stopped(scene.server(scene.candidate)), scene.traffic() as traffic:
        traffic.wait_for(2)
    assert traffic.failures == {}
    assert traffic.answered_by == {1}
    until(lambda: scene.seen(scene.candidate, began).errors >= 2, within_s=10, what="its timeouts show")


@pytest.mark.parametrize("fault", ["hangs", "errors", "dead"])
def test_a_shadow_costs_users_nothing(scene: Scene, fault: str) -> None:
    scene.plane.port.apply(scene.shadow())
    began = fresh_window()
    server = scene.server(scene.candidate)
    with scene.traffic() as traffic:
        traffic.wait_for(20)
        if fault == "dead":
            server.kill()
            traffic.wait_for(150)
        elif fault == "hangs":
            with stopped(server):
                # More than the copies that may be waiting for it.
                traffic.wait_for(150)
        else:
            scene.break_answers(scene.candidate, error_rate=1.0)
            traffic.wait_for(150)
    assert traffic.failures == {}
    assert traffic.answered_by == {1}, "an answer of the shadow never reaches a client"
    until(lambda: scene.seen(scene.candidate, began).requests > 0, within_s=10, what="the shadow was asked")
    if fault != "hangs":
        until(lambda: scene.seen(scene.candidate, began).errors > 0, within_s=10, what="its errors show")
    assert scene.seen(scene.current, began).errors == 0


def test_a_release_that_does_not_get_ready_gets_no_request(scene: Scene) -> None:
    third = scene.plane.release(3)
    with scene.traffic() as traffic:
        with pytest.raises(ReleaseNotReady, match=r"not ready after 0\.5 s"):
            scene.plane.port.ensure(FAULTS, third, timeout_s=0.5)
        traffic.wait_for(20)
    assert traffic.failures == {}
    assert traffic.answered_by == {1}
    assert third.id not in scene.plane.port.observe(FAULTS).known
    assert not (scene.plane.state_dir / "children" / f"production--faults--{third.slug}.json").exists()


def test_a_trial_whose_watcher_is_gone_ends_under_load(scene: Scene) -> None:
    scene.plane.port.apply(scene.canary(10_000, lease_s=1.0))
    with scene.traffic() as traffic:
        until(
            lambda: scene.plane.port.observe(FAULTS).plan == scene.only_current(),
            within_s=15,
            what="all traffic on current",
        )
        before = dict(traffic.answers)
        traffic.wait_for(60)
    assert traffic.failures == {}
    # One request of each client may have been on its way.
    assert traffic.answers[200, 2] - before.get((200, 2), 0) <= 2
    assert traffic.answers[200, 1] > before.get((200, 1), 0)


def test_a_rollback_needs_no_registry_and_no_artifact(scene: Scene) -> None:
    # The plane was given a registry at which nobody listens, and here even the artifact's source is gone.
    scene.plane.port.apply(scene.canary(10_000))
    source = scene.plane.model_folder(1)
    hidden = source.rename(source.with_name("hidden"))
    try:
        scene.server(scene.current).kill()
        scene.plane.port.ensure(FAULTS, scene.current, timeout_s=READY_TIMEOUT_S)
        scene.plane.port.apply(scene.only_current())
        with scene.plane.client() as client:
            assert number_of(client.post(path_of(FAULTS), json=invocation())) == 1
    finally:
        hidden.rename(source)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_plane_ends_with_all_that_it_runs(tmp_path: Path, how: signal.Signals) -> None:
    plane = RealPlane(tmp_path)
    plane.start()
    assert len(plane.processes()) == 2, "two Envoys"
    try:
        assert plane.end_supervisor(how) == 0
        assert plane.processes() == set()
        assert not (plane.state_dir / "plane.json").exists()
    finally:
        plane.stop()


def test_a_supervisor_that_cannot_start_leaves_those_serving_that_serve(scene: Scene) -> None:
    before = scene.pids()
    scene.plane.kill_supervisor()
    memory = scene.plane.state_dir / "state.json"
    sound = memory.read_text()
    try:
        memory.write_text("{")
        with pytest.raises(AssertionError, match="the plane died"):
            scene.plane.start()
    finally:
        memory.write_text(sound)
    with scene.traffic() as traffic:
        traffic.wait_for(20)
    assert traffic.failures == {}
    scene.plane.start()
    assert scene.pids() == before


def test_a_plane_whose_state_is_lost_goes_on_with_what_runs_and_costs_no_request(scene: Scene) -> None:
    scene.plane.port.apply(scene.canary())
    before = scene.pids()
    scene.plane.kill_supervisor()
    memory = scene.plane.state_dir / "state.json"
    memory.unlink()
    with scene.traffic() as traffic:
        traffic.wait_for(30)
        scene.plane.start()
        seen = scene.plane.port.observe(FAULTS)
        traffic.wait_for(60)
        # What converging the endpoint comes to.
        scene.plane.port.apply(scene.canary(10_000))
        traffic.wait_for(30)
    assert traffic.failures == {}
    # The trial's lease is lost, and nobody could end it.
    assert seen.plan == scene.only_current()
    assert seen.known == {release.id: release for release in (scene.current, scene.candidate)}
    assert scene.pids() == before


def test_a_plane_stops_at_once_though_a_verb_still_waits(tmp_path: Path) -> None:
    plane = RealPlane(tmp_path)
    plane.start()
    try:
        release, record = plane.release(1), plane.state_dir / "children"
        given_up: list[BaseException] = []

        def ensure() -> None:
            try:
                # It cannot get ready: a folder stands where its socket should be.
                plane.port.ensure(FAULTS, release, timeout_s=600)
            except MlpipexError as error:
                given_up.append(error)

        occupied = Places(plane.state_dir).socket(FAULTS, release.id)
        (occupied / "taken").mkdir(parents=True)
        waiting = threading.Thread(target=ensure, daemon=True)
        waiting.start()
        until(lambda: any(record.glob("production--faults*")), within_s=30, what="the release is being started")
    finally:
        plane.stop()
    waiting.join(30)
    assert not waiting.is_alive()
    assert isinstance(given_up[0], (PlaneUnavailable, ReleaseNotReady))


# Requests that are wrong.


WRONG_REQUESTS = {
    "empty": b"",
    "torn": b"{",
    "not UTF-8": b"\xff\xfe\xfa",
    "too deep": b"[" * 50_000,
    "columns missing": b'{"dataframe_split": {"columns": ["distance"], "data": [[1.5]]}}',
    "types": b'{"dataframe_split": {"columns": ["distance", "hour", "carrier"], "data": [["far", 12, "AA"]]}}',
    "a list as column": b'{"dataframe_split": {"columns": [["distance"], "hour", "carrier"], "data": [[1, 12, "AA"]]}}',
    "form": b'{"instances": 7}',
}


def test_wrong_requests_are_the_callers_fault(scene: Scene) -> None:
    scene.plane.port.apply(scene.canary(10_000))
    began = fresh_window()
    with scene.plane.client(**{"content-type": "application/json"}) as client:
        for what, body in WRONG_REQUESTS.items():
            answer = client.post(path_of(FAULTS), content=body)
            assert answer.status_code == 400, what
            assert answer.json().keys() >= {"error_code", "message"}, what
            assert answer.headers["x-mlpipex-release"] == scene.current.id, f"{what}: current was asked as well"
    wrong = len(WRONG_REQUESTS)
    # What both refuse is nobody's error but the client's.
    asked = (scene.candidate, scene.current)
    until(
        lambda: [scene.seen(each, began).client_errors for each in asked] == [wrong, wrong],
        within_s=30,
        what="all are counted, for both",
    )
    assert [scene.seen(each, began).errors for each in asked] == [0, 0]


def test_what_a_client_sends_does_not_silence_the_prediction_log(scene: Scene) -> None:
    # Half a surrogate pair is JSON, and nothing that can be written as UTF-8: no column has held it, so it is refused.
    rows = '{"dataframe_split": {"columns": ["distance", "hour", "carrier"], "data": [[1.5, 12, "\\ud800"]]}}'
    log = scene.plane.state_dir / "predictions" / "production" / "faults" / scene.current.slug

    def logged(rid: str) -> bool:
        return any(rid in path.read_text(errors="replace") for path in log.glob("*.jsonl*"))

    with scene.plane.client(**{"content-type": "application/json"}) as client:
        odd = client.post(path_of(FAULTS), content=rows.encode(), headers={"x-request-id": "odd-request"})
        assert odd.status_code == 400, odd.text
        client.post(path_of(FAULTS), json=invocation(), headers={"x-request-id": "next-request"})
    until(lambda: logged("next-request"), within_s=10, what="the next one is in the log")


# Who may do what.


def test_the_control_api_wants_its_token(scene: Scene) -> None:
    plane = scene.plane
    paths = [("GET", "/v1/health"), ("GET", f"/v1/endpoints/{FAULTS}"), ("PUT", f"/v1/endpoints/{FAULTS}/plan")]
    paths += [("DELETE", f"/v1/endpoints/{FAULTS}/releases/{scene.current.id}"), ("GET", "/nowhere")]
    for shown in (
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {plane.token}",
        f"Bearer {plane.client_token}",
    ):
        headers = {} if shown is None else {"authorization": shown}
        for method, path in paths:
            answer = httpx.request(method, plane.control_url + path, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "NotAuthorised")
            assert plane.token not in answer.text
    assert plane.port.observe(FAULTS).plan == scene.only_current()


def test_the_ingress_wants_the_clients_token(scene: Scene) -> None:
    plane = scene.plane
    for shown in (None, "Bearer wrong", f"Bearer {plane.token}"):
        headers = {} if shown is None else {"authorization": shown}
        answer = httpx.post(plane.ingress_url + path_of(FAULTS), json=invocation(), headers=headers)
        assert answer.status_code == 403


def test_what_is_secret_is_the_owners_alone(scene: Scene) -> None:
    state = scene.plane.state_dir
    for secret in (
        "token",
        "read-token",
        "rollback-token",
        "drill-token",
        "client-token",
        "tester-token",
        "batch-token",
        "state.json",
    ):
        assert stat.S_IMODE((state / secret).stat().st_mode) == 0o600
    listeners = {connection.laddr.ip for connection in scene.plane.child("envoy").net_connections("tcp")}
    assert listeners == {"127.0.0.1"}
    (admin,) = {Path(c.laddr) for c in scene.plane.child("envoy").net_connections("unix") if "envoy.sock" in c.laddr}
    assert stat.S_IMODE(admin.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for word in (scene.plane.token, scene.plane.client_token):
        processes = [*scene.pids().values()]
        assert not any(word in " ".join(psutil.Process(pid).cmdline()) for pid in processes)
    assert scene.plane.token not in scene.plane.log()


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ("..", "faults"),
        ("production", ".."),
        ("production", "a.b"),
        ("production", "a b"),
        ("production", "a--b"),
        ("production", "Faults"),
        ("production", "n" * 300),
        ("production", "ä"),
        ("production", "a\nb"),
    ],
    ids=["dots-environment", "dots", "dot", "space", "hyphens", "upper", "long", "umlaut", "newline"],
)
def test_a_name_that_must_not_reach_a_path_is_refused(scene: Scene, environment: str, name: str) -> None:
    answer = _raw(scene.plane, "GET", f"/v1/endpoints/{_quoted(environment)}/{_quoted(name)}")
    assert (answer.status_code, answer.json()["error"]) == (422, "InvalidName")
    assert answer.json()["limit"].startswith("lower-case letters")
    assert len(answer.text) < 1000


@pytest.mark.parametrize(
    "release",
    ["..", "1.0.0", "a b", "1.0.0-rt1.0.0-0000000", "9" * 300, "1.0.0-rt1.0.0-%2e%2e", "\u0661.0.0-rt1.0.0-00000000"],
    ids=["dots", "version", "space", "short", "long", "escaped", "other-digits"],
)
def test_a_release_id_that_is_none_is_refused(scene: Scene, release: str) -> None:
    for method, path in (
        ("DELETE", f"/v1/endpoints/{FAULTS}/releases/{_quoted(release)}"),
        ("PUT", f"/v1/endpoints/{FAULTS}/releases/{_quoted(release)}/fault"),
        ("GET", f"/v1/endpoints/{FAULTS}/comparison?primary={_quoted(release)}&shadow={scene.current.id}"),
    ):
        answer = _raw(scene.plane, method, path)
        assert (answer.status_code, answer.json()["error"]) == (422, "InvalidName"), path


def test_a_slash_inside_a_name_finds_nothing(scene: Scene) -> None:
    before = sorted(os.listdir(scene.plane.state_dir))
    for path in (
        "/v1/endpoints/production/..%2F..%2Fetc",
        "/v1/endpoints/..%2F../x",
        "/v1/endpoints/production/a/../../b",
    ):
        assert _raw(scene.plane, "GET", path).status_code in (404, 422)
    assert sorted(os.listdir(scene.plane.state_dir)) == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"endpoint": "production/faults"}',
        b'{"endpoint": "../etc", "current": "1.0.0-rt1.0.0-00000000"}',
        b'{"endpoint": "production/faults", "current": "1.0.0-rt1.0.0-00000000", "lease_s": -1}',
        b"[" * 100_000,
        b"{}" + b" " * 2_000_000,
    ],
    ids=["empty", "list", "torn", "null", "incomplete", "name", "lease", "deep", "large"],
)
def test_a_plan_that_is_none_is_refused_in_words(scene: Scene, body: bytes) -> None:
    answer = _raw(scene.plane, "PUT", f"/v1/endpoints/{FAULTS}/plan", content=body)
    assert answer.status_code in (413, 422)
    assert answer.json()["error"]
    assert scene.plane.port.observe(FAULTS).plan == scene.only_current()


@pytest.mark.parametrize("timeout_s", ["soon", None, -1, 0, True, 1e9, [1]])
def test_a_timeout_that_is_none_is_refused(scene: Scene, timeout_s: object) -> None:
    body = {"release": scene.current.to_json(), "timeout_s": timeout_s}
    answer = scene.plane.control("PUT", f"/v1/endpoints/{FAULTS}/releases/{scene.current.id}", json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "ConfigurationInvalid")
    assert "timeout_s" in answer.json()["thing"]


def test_a_release_under_another_ones_id_is_refused(scene: Scene) -> None:
    body = {"release": scene.candidate.to_json(), "timeout_s": 5}
    answer = scene.plane.control("PUT", f"/v1/endpoints/{FAULTS}/releases/{scene.current.id}", json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "ConfigurationInvalid")


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _raw(plane: RealPlane, method: str, path: str, **sent: Any) -> httpx.Response:
    """The path as it is: a client library that tidies ``..`` away would hide what the server does with it."""
    target = httpx.URL(plane.control_url).copy_with(raw_path=path.encode())
    token = plane.drill_token if path.endswith("/fault") else plane.token
    return httpx.request(method, target, headers={"authorization": f"Bearer {token}"}, **sent)
