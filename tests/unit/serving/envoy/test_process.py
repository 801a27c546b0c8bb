"""Configuration is acknowledged before anybody relies on it. Envoy's admin socket is played by hand here."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable, PlanRefused
from airflow_provider_mlpipex.serving.envoy import process as envoy_process
from airflow_provider_mlpipex.serving.envoy.config import Paths
from airflow_provider_mlpipex.serving.envoy.process import Envoy
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from airflow_provider_mlpipex.serving.reserve import Reserve

RDS = "http.ingress.rds.mlpipex"


class Admin:
    """Takes the file that stands at its path, ``after`` that many looks; or refuses it; or is away."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.after = 0
        self.refuses = False
        self.away = False
        self.looks = 0
        self.version, self.rejected = "before", 7
        self.reopened = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("no such socket")
        if request.url.path == "/reopen_logs":
            self.reopened += 1
            return httpx.Response(200)
        if request.url.path == "/ready":
            return httpx.Response(200)
        path = self.paths.resource("rds")
        wanted = json.loads(path.read_text())["version_info"] if path.exists() else self.version
        if wanted != self.version:
            self.looks += 1
            if self.looks > self.after:
                if self.refuses:
                    self.rejected += 1
                else:
                    self.version = wanted
        stats = {f"{RDS}.version_text": self.version, f"{RDS}.update_rejected": self.rejected}
        return httpx.Response(200, json={"stats": [{"name": name, "value": value} for name, value in stats.items()]})


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(folder=tmp_path / "envoy", admin_socket=tmp_path / "envoy.sock")
    paths.resource("rds").parent.mkdir(parents=True)
    return paths


@pytest.fixture
def admin(paths: Paths) -> Admin:
    return Admin(paths)


@pytest.fixture
def envoy(paths: Paths, admin: Admin, tmp_path: Path) -> Envoy:
    keeper = ProcessKeeper(tmp_path / "children", plane_id="plane")
    envoy = Envoy(paths, keeper, reserve=Reserve(tmp_path / "reserve"))
    envoy._admin = httpx.Client(transport=httpx.MockTransport(admin), base_url="http://envoy")
    return envoy


def test_put_returns_once_the_version_is_in_force(envoy: Envoy, admin: Admin, paths: Paths) -> None:
    admin.after = 5
    envoy.put("rds", "8", [{"name": "routes"}])
    assert envoy.version("rds") == "8"
    assert admin.looks > 5
    written = json.loads(paths.resource("rds").read_text())
    assert written == {"version_info": "8", "resources": [{"name": "routes"}]}
    assert paths.resource("rds").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in paths.resource("rds").parent.iterdir()] == ["rds.json"], "no half file beside it"


def test_a_refusal_is_raised_with_envoys_own_words(envoy: Envoy, admin: Admin, paths: Paths) -> None:
    admin.refuses = True
    paths.own_log.write_text("[warning] unknown cluster 'x'\n")
    with pytest.raises(PlanRefused, match="unknown cluster 'x'"):
        envoy.put("rds", "8", [])
    assert envoy.version("rds") == "before"


def test_silence_is_a_refusal_in_the_end(envoy: Envoy, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_process, "ACK_TIMEOUT_S", 0.05)
    admin.after = 10**9
    with pytest.raises(PlanRefused, match="version 8"):
        envoy.put("rds", "8", [])


def test_an_envoy_that_is_away_is_unavailable(envoy: Envoy, admin: Admin, paths: Paths) -> None:
    admin.away = True
    with pytest.raises(PlaneUnavailable, match="admin socket"):
        envoy.put("rds", "8", [])
    with pytest.raises(PlaneUnavailable, match="ready within 0 s"):
        envoy.wait_until_serving(0.0)
    with pytest.raises(PlaneUnavailable):
        envoy.reopen_logs()
    assert not paths.resource("rds").exists(), "nothing was written that an Envoy would read when it is back"
    envoy.drain()


def test_the_log_of_answers_is_put_aside_when_it_is_large(
    envoy: Envoy, admin: Admin, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy_process, "ACCESS_LOG_BYTES", 10)
    envoy.bound_logs()
    paths.access_log.write_text("small")
    envoy.bound_logs()
    assert paths.access_log.exists()
    assert admin.reopened == 0
    paths.access_log.write_text("larger than ten bytes")
    admin.away = True
    with pytest.raises(PlaneUnavailable):
        envoy.bound_logs()
    assert not paths.access_log.exists()
    assert paths.access_log.with_suffix(".1.jsonl").read_text() == "larger than ten bytes"
    admin.away = False
    # Envoy still writes into the file that was put aside: it is told as soon as it can be.
    envoy.bound_logs()
    envoy.bound_logs()
    assert admin.reopened == 1
