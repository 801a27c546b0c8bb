"""What the plane remembers, for how long a trial may run unwatched, and where things are."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, PlaneUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.plane import leases
from airflow_provider_mlpipex.serving.plane.leases import lease_for
from airflow_provider_mlpipex.serving.plane.state import (
    EndpointMemory,
    PlaneMemory,
    find_plane_id,
    keep_plane_id,
    read_memory,
    write_memory,
)
from airflow_provider_mlpipex.serving.state_dir import Places, read_or_make_token
from tests.support.factories import NOON, make_release

FRAUD = EndpointRef.parse("production/fraud-scorer")


def full_memory() -> PlaneMemory:
    old, new = make_release("1.0.0"), make_release("1.1.0")
    plan = TrafficPlan(endpoint=FRAUD, current=old.id, candidate=new.id, candidate_weight=500, lease_s=30)
    held = EndpointMemory(
        releases={old.id: old, new.id: new}, plan=plan, lease=lease_for(plan.lease_s), lease_expired_at=NOON
    )
    return PlaneMemory(version=7).with_endpoint(str(FRAUD), held)


# State.


def test_a_plane_remembers_all_of_it(tmp_path: Path) -> None:
    memory = full_memory()
    write_memory(tmp_path / "state.json", memory)
    assert read_memory(tmp_path / "state.json") == memory
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_fresh_plane_is_nobody_elses(tmp_path: Path) -> None:
    one, other = (read_memory(tmp_path / name) for name in ("one", "other"))
    assert one.endpoints == {}
    assert one.plane_id != other.plane_id


@pytest.mark.parametrize("spoilt", ["", "{", "[]", '{"version": "seven"}', '{"unknown": 1}', "\x80"])
def test_a_spoilt_state_is_not_taken_for_a_fresh_plane(tmp_path: Path, spoilt: str) -> None:
    # A fresh plane would end every model server that it does not remember.
    (tmp_path / "state.json").write_bytes(spoilt.encode("latin-1"))
    with pytest.raises(ConfigurationInvalid, match=r"state\.json"):
        read_memory(tmp_path / "state.json")


def test_a_state_that_cannot_be_read_is_said_with_steps_that_exist(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(ConfigurationInvalid, match=r"state\.json.*Is a directory") as refused:
        read_memory(tmp_path / "state.json")
    assert "mlpipex serve run" in refused.value.remedy
    assert "Dag watch" in refused.value.remedy


# Who it is.


def test_who_a_plane_is_outlives_what_it_remembers(tmp_path: Path) -> None:
    assert find_plane_id(tmp_path) is None
    plane_id = keep_plane_id(tmp_path)
    (tmp_path / "other").mkdir()
    assert keep_plane_id(tmp_path / "other") != plane_id
    assert keep_plane_id(tmp_path) == find_plane_id(tmp_path) == plane_id
    assert (tmp_path / "plane-id").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("torn_at", [None, 120])
@pytest.mark.parametrize("own", [None, "", "3f"])
def test_a_plane_from_before_there_was_a_file_for_it_keeps_its_id(
    tmp_path: Path, torn_at: int | None, own: str | None
) -> None:
    memory = full_memory()
    write_memory(tmp_path / "state.json", memory)
    (tmp_path / "state.json").write_text((tmp_path / "state.json").read_text()[:torn_at])
    if own is not None:
        (tmp_path / "plane-id").write_text(own)
    assert keep_plane_id(tmp_path) == memory.plane_id
    (tmp_path / "state.json").unlink()
    assert find_plane_id(tmp_path) == memory.plane_id


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    before = PlaneMemory(version=1)
    write_memory(tmp_path / "state.json", before)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(PlaneUnavailable, match="No space left"):
        write_memory(tmp_path / "state.json", full_memory())
    monkeypatch.undo()
    assert read_memory(tmp_path / "state.json") == before


# Leases.


class Uptime:
    """The machine's count of seconds, and the start that it counts from."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.boot = 1000.0, "first"
        monkeypatch.setattr(leases, "uptime_s", lambda: self.seconds)
        monkeypatch.setattr(leases, "boot_id", lambda: self.boot)


def test_a_lease_is_over_after_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    uptime = Uptime(monkeypatch)
    lease = lease_for(30.0)
    assert lease is not None
    assert not lease.is_over
    uptime.seconds += 29.9
    assert not lease.is_over
    uptime.seconds += 0.1
    assert lease.is_over


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_setting_the_wall_clock_neither_ends_nor_prolongs_a_lease(
    monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    long, short = lease_for(3600.0), lease_for(0.0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step_s)
    assert long is not None and not long.is_over
    assert short is not None and short.is_over


def test_a_restart_of_the_machine_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    uptime = Uptime(monkeypatch)
    lease = lease_for(30.0)
    # The count began again, so the lease would have almost 1,000 s to go.
    uptime.seconds, uptime.boot = 5.0, "second"
    assert lease is not None
    assert lease.is_over


def test_a_lease_outlives_the_supervisor_and_not_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uptime = Uptime(monkeypatch)
    write_memory(tmp_path / "state.json", full_memory())
    lease = read_memory(tmp_path / "state.json").endpoints[str(FRAUD)].lease
    assert lease is not None
    assert not lease.is_over
    uptime.seconds += 31
    assert lease.is_over


def test_a_plan_that_needs_no_watcher_has_no_lease() -> None:
    assert lease_for(None) is None


def test_the_count_goes_on_and_the_machine_knows_its_start() -> None:
    assert leases.uptime_s() <= leases.uptime_s()
    assert leases.boot_id() == leases.boot_id() != ""


# Places.


def test_sockets_are_short_and_told_apart(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    places = Places(deep)
    names = [EndpointRef.parse(f"production/{name}") for name in ("fraud-scorer", "f" * 63)]
    sockets = {places.socket(name, make_release(version).id) for name in names for version in ("1.0.0", "1.1.0")}
    assert len(sockets) == 4
    assert all(len(str(socket)) <= 107 for socket in (*sockets, places.envoy.admin_socket))
    folder = places.envoy.admin_socket.parent
    assert folder.stat().st_mode & 0o077 == 0
    assert Places(deep).envoy.admin_socket == places.envoy.admin_socket, "the next supervisor finds them"
    places.remove_sockets()
    assert not folder.exists()


def test_sockets_of_a_shallow_folder_stay_in_it(tmp_path: Path) -> None:
    places = Places(tmp_path / "p")
    if len(str(tmp_path)) < 60:
        assert places.envoy.admin_socket.is_relative_to(tmp_path)
    places.remove_sockets()
    assert (tmp_path / "p").is_dir()


def test_a_token_is_made_once_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "plane" / "token"
    token = read_or_make_token(path)
    assert len(token) >= 32
    assert read_or_make_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_or_make_token(tmp_path / "other") != token


def test_an_empty_token_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch()
    os.chmod(path, 0o644)
    assert len(read_or_make_token(path)) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
