"""The plane as a process, as far as it can be asked without starting one."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.serving.plane import daemon
from airflow_provider_mlpipex.serving.plane.state import PlaneMemory, keep_plane_id, write_memory
from airflow_provider_mlpipex.serving.processes import PLANE_ID, ProcessKeeper, carriers
from airflow_provider_mlpipex.serving.state_dir import write_token
from tests.support.mlflow_server import free_port
from tests.support.polling import until

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield int(holder.getsockname()[1])


def test_a_plane_that_was_never_started_is_not_running_and_can_be_stopped(tmp_path: Path) -> None:
    assert daemon.status(tmp_path / "nowhere") == {"running": False}
    daemon.stop(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_plane_that_was_killed_is_not_running(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "plane.json").write_text(json.dumps({"pid": gone.pid, "control_url": NOWHERE}))
    assert daemon.status(tmp_path) == {"running": False, "pid": gone.pid, "control_url": NOWHERE}


@pytest.mark.parametrize("torn", ["", '{"pid": 12', "[]", "7"])
def test_addresses_that_are_torn_are_those_of_nobody(tmp_path: Path, torn: str) -> None:
    (tmp_path / daemon.ADDRESS_FILE).write_text(torn)
    assert daemon.status(tmp_path) == {"running": False}
    daemon.stop(tmp_path)


def test_a_pid_that_was_given_to_somebody_else_is_neither_believed_nor_stopped(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "plane.json").write_text(json.dumps({"pid": stranger.pid}))
        assert daemon.status(tmp_path)["running"] is False
        daemon.stop(tmp_path)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def left_running(state_dir: Path, plane_id: str, command: Sequence[str]) -> None:
    """What a supervisor that was killed has left."""
    keeper = ProcessKeeper(state_dir / "children", plane_id=plane_id)
    keeper.start("envoy", command, environment={"PATH": os.environ["PATH"]}, log=state_dir / "envoy.log")
    until(lambda: carriers(PLANE_ID, plane_id) != [], within_s=10, what="it shows who it is")


@pytest.mark.parametrize("state", ["gone", "empty", "torn", "unreadable"])
@pytest.mark.parametrize(
    ("version", "record"),
    [
        ("this", "sound"),
        ("this", "torn"),
        # From before there was a file for the id; it is what its children carry.
        ("older", "sound"),
    ],
)
def test_a_plane_whose_state_is_lost_is_stopped_whole(tmp_path: Path, version: str, state: str, record: str) -> None:
    memory, path = PlaneMemory(), tmp_path / "state.json"
    write_memory(path, memory)
    if version == "this":
        keep_plane_id(tmp_path)
    left_running(tmp_path, memory.plane_id, ["sleep", "300"])
    if record == "torn":
        (tmp_path / "children" / "envoy.json").write_text('{"name": "en')
    if state == "torn":
        path.write_text(path.read_text()[:-3])
    else:
        path.unlink()
    if state == "empty":
        path.touch()
    elif state == "unreadable":
        path.mkdir()
    try:
        daemon.stop(tmp_path)
        assert carriers(PLANE_ID, memory.plane_id) == []
    finally:
        ProcessKeeper(tmp_path / "children", plane_id=memory.plane_id).stop_all(grace_s=1)


class NothingToStart:
    """Stands in for the supervisor."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def start(self) -> None:
        raise SystemExit(7)

    def detach(self) -> None: ...


@pytest.mark.parametrize("record", ["sound", "torn"])
def test_the_port_of_an_envoy_that_was_left_is_not_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    monkeypatch.setattr(daemon, "Supervisor", NothingToStart)
    monkeypatch.setattr(daemon, "create_app", lambda *_, **__: None)
    write_token(tmp_path / "client-token", "secret")
    port, plane_id = free_port(), keep_plane_id(tmp_path)
    listen = f"import socket,time; s=socket.create_server(('127.0.0.1',{port})); print(1,flush=True); time.sleep(300)"
    left_running(tmp_path, plane_id, [sys.executable, "-c", listen])
    until(lambda: (tmp_path / "envoy.log").read_text() != "", within_s=20, what="it listens")
    if record == "torn":
        (tmp_path / "children" / "envoy.json").write_text('{"name": "en')
    try:
        with pytest.raises(SystemExit, match="7"):
            daemon.run(tmp_path, ingress_port=port, control_port=free_port(), tracking_uri=NOWHERE)
        # One that no record names cannot be adopted.
        assert len(carriers(PLANE_ID, plane_id)) == (1 if record == "sound" else 0)
    finally:
        ProcessKeeper(tmp_path / "children", plane_id=plane_id).stop_all(grace_s=1)


@pytest.mark.parametrize("which", ["control", "ingress"])
def test_a_busy_port_is_named_with_its_variable_and_nothing_is_started(
    tmp_path: Path, busy_port: int, which: str
) -> None:
    ports = {"control_port": free_port(), "ingress_port": free_port(), f"{which}_port": busy_port}
    with pytest.raises(ConfigurationInvalid, match=f"{busy_port}.*MLPIPEX_{which.upper()}_PORT"):
        daemon.run(tmp_path / "plane", tracking_uri=NOWHERE, **ports)
    assert list((tmp_path / "plane" / "children").glob("*")) == []


def test_routes_that_cannot_be_made_start_nothing(tmp_path: Path) -> None:
    def badly_configured(_: object) -> list[object]:
        raise ConfigurationInvalid("environment variables MLPIPEX_*")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigurationInvalid, match="MLPIPEX_"):
        daemon.run(
            tmp_path,
            ingress_port=free_port(),
            control_port=free_port(),
            tracking_uri=NOWHERE,
            extra_routes=badly_configured,
        )
    assert list((tmp_path / "children").glob("*")) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_one_supervisor_a_state_folder(tmp_path: Path) -> None:
    with (tmp_path / "supervisor.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationInvalid, match="one supervisor a state folder"):
            daemon.run(tmp_path, ingress_port=free_port(), control_port=free_port(), tracking_uri=NOWHERE)


def test_the_state_folder_is_the_owners_alone(tmp_path: Path, busy_port: int) -> None:
    before = os.umask(0)
    try:
        with pytest.raises(ConfigurationInvalid):
            daemon.run(tmp_path / "plane", ingress_port=free_port(), control_port=busy_port, tracking_uri=NOWHERE)
    finally:
        os.umask(before)
    assert (tmp_path / "plane").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_state_folder_that_others_can_write_to_is_not_believed(tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(ConfigurationInvalid, match=f"mode {mode:04o}") as refused:
        daemon.run(state, ingress_port=free_port(), control_port=free_port(), tracking_uri="http://127.0.0.1:1")
    assert "chmod" in refused.value.remedy
    assert list(state.iterdir()) == []


def test_a_state_folder_that_others_can_read_is_closed_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "Supervisor", NothingToStart)
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    (state / "client-token").write_text("secret")
    (state / "client-token").chmod(0o644)
    with pytest.raises(ConfigurationInvalid, match="client-token of the plane") as refused:
        daemon.run(state, ingress_port=free_port(), control_port=free_port(), tracking_uri="http://127.0.0.1:1")
    assert "mlpipex tokens rotate clients" in refused.value.remedy
    assert state.stat().st_mode & 0o777 == 0o700


def test_two_planes_never_share_an_ingress_port(tmp_path: Path) -> None:
    # Envoy would let another one listen beside it: to its own pair, that is what the port is for.
    port = free_port()
    with daemon._claimed(port), pytest.raises(ConfigurationInvalid, match="port of the ingress") as refused:
        daemon.run(tmp_path, ingress_port=port, control_port=free_port(), tracking_uri="http://127.0.0.1:1")
    assert "MLPIPEX_INGRESS_PORT" in refused.value.remedy
    with daemon._claimed(port):
        pass
