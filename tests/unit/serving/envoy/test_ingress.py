"""Configuration is acknowledged before anybody relies on it. Envoy's admin socket is played by hand here."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable, PlanRefused
from airflow_provider_mlpipex.serving.envoy import access_log
from airflow_provider_mlpipex.serving.envoy import ingress as envoy_ingress
from airflow_provider_mlpipex.serving.envoy.ingress import Ingress
from airflow_provider_mlpipex.serving.envoy.paths import Paths
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
        self.hangs = False
        self.looks = 0
        self.version, self.rejected = "before", 7
        self.reopened = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("no such socket")
        if self.hangs:
            raise httpx.ReadTimeout("no answer")
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
def ingress(paths: Paths, admin: Admin, tmp_path: Path) -> Ingress:
    """One Envoy alone."""
    return ingress_of([(paths, admin)], tmp_path)


def ingress_of(envoys: list[tuple[Paths, Admin]], folder: Path) -> Ingress:
    keeper = ProcessKeeper(folder / "children", plane_id="plane")
    ingress = Ingress([paths for paths, _ in envoys], keeper, reserve=Reserve(folder / "reserve"))
    for envoy, (_, admin) in zip(ingress.envoys, envoys, strict=True):
        envoy._admin = httpx.Client(transport=httpx.MockTransport(admin), base_url="http://envoy")
    return ingress


def test_put_returns_once_the_version_is_in_force(ingress: Ingress, admin: Admin, paths: Paths) -> None:
    admin.after = 5
    ingress.put("rds", "8", [{"name": "routes"}])
    assert ingress.version("rds") == "8"
    assert admin.looks > 5
    written = json.loads(paths.resource("rds").read_text())
    assert written == {"version_info": "8", "resources": [{"name": "routes"}]}
    assert paths.resource("rds").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in paths.resource("rds").parent.iterdir()] == ["rds.json"], "no half file beside it"


def test_a_refusal_is_raised_with_envoys_own_words(ingress: Ingress, admin: Admin, paths: Paths) -> None:
    admin.refuses = True
    paths.own_log.write_text("[warning] unknown cluster 'x'\n")
    with pytest.raises(PlanRefused, match="unknown cluster 'x'"):
        ingress.put("rds", "8", [])
    assert ingress.version("rds") == "before"


def test_silence_is_a_refusal_in_the_end(ingress: Ingress, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_ingress, "ACK_TIMEOUT_S", 0.05)
    admin.after = 10**9
    with pytest.raises(PlanRefused, match="version 8"):
        ingress.put("rds", "8", [])


def test_an_envoy_that_is_away_is_unavailable(ingress: Ingress, admin: Admin, paths: Paths) -> None:
    admin.away = True
    with pytest.raises(PlaneUnavailable, match="admin socket"):
        ingress.put("rds", "8", [])
    with pytest.raises(PlaneUnavailable, match="ready within 0 s"):
        ingress.wait_until_serving(0.0)
    with pytest.raises(PlaneUnavailable):
        ingress.envoys[0].reopen_logs()
    assert not paths.resource("rds").exists(), "nothing was written that an Envoy would read when it is back"
    ingress.drain()


def test_the_log_of_answers_is_put_aside_when_it_is_large(
    ingress: Ingress, admin: Admin, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MAX_BYTES", 10)
    ingress.bound_logs()
    paths.access_log.write_text("small")
    ingress.bound_logs()
    assert paths.access_log.exists()
    assert admin.reopened == 0
    paths.access_log.write_text("larger than ten bytes")
    admin.away = True
    with pytest.raises(PlaneUnavailable):
        ingress.bound_logs()
    assert not paths.access_log.exists()
    assert paths.access_log.with_suffix(".1.jsonl").read_text() == "larger than ten bytes"
    admin.away = False
    # Envoy still writes into the file that was put aside: it is told as soon as it can be.
    ingress.bound_logs()
    ingress.bound_logs()
    assert admin.reopened == 1


# Two of them.


@pytest.fixture
def second(paths: Paths, tmp_path: Path) -> tuple[Paths, Admin]:
    paths = Paths(folder=paths.folder, admin_socket=tmp_path / "envoy-2.sock", number=2)
    return paths, Admin(paths)


def test_two_share_routes_and_clusters_and_nothing_that_they_write(paths: Paths, second: tuple[Paths, Admin]) -> None:
    other, _ = second
    for kind in ("cds", "rds"):
        assert other.resource(kind) == paths.resource(kind)
    of_its_own = ("bootstrap", "attempts_log", "access_log", "own_log", "name")
    assert all(getattr(other, what) != getattr(paths, what) for what in of_its_own)
    assert other.resource("lds") != paths.resource("lds")


def test_put_waits_for_both(paths: Paths, admin: Admin, second: tuple[Paths, Admin], tmp_path: Path) -> None:
    ingress = ingress_of([(paths, admin), second], tmp_path)
    second[1].after = 5
    ingress.put("rds", "8", [])
    assert (admin.version, second[1].version) == ("8", "8")
    assert ingress.version("rds") == "8"
    second[1].after, second[1].version = 10**9, "7"
    assert ingress.version("rds") == "7 and 8", "two plans in force are never taken for one"


@pytest.mark.parametrize("dead", [0, 1])
def test_one_that_is_dead_is_not_waited_for(
    paths: Paths, admin: Admin, second: tuple[Paths, Admin], tmp_path: Path, dead: int
) -> None:
    ingress = ingress_of([(paths, admin), second], tmp_path)
    admins = [admin, second[1]]
    admins[dead].away = True
    ingress.put("rds", "8", [])
    assert admins[1 - dead].version == "8"
    assert ingress.version("rds") == "8"
    # Started again, it reads the file that stands there before it listens.
    assert json.loads(paths.resource("rds").read_text())["version_info"] == "8"


def test_one_that_hangs_is_ended_and_holds_no_plan_up(
    paths: Paths, admin: Admin, second: tuple[Paths, Admin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy_ingress, "ACK_TIMEOUT_S", 0.05)
    ingress = ingress_of([(paths, admin), second], tmp_path)
    second[1].hangs = True
    killed: list[str] = []
    for envoy in ingress.envoys:
        monkeypatch.setattr(envoy, "kill", lambda envoy=envoy: killed.append(envoy.name))
    ingress.put("rds", "8", [])
    assert (admin.version, killed) == ("8", ["envoy-2"])


def test_a_refusal_by_one_is_a_refusal(paths: Paths, admin: Admin, second: tuple[Paths, Admin], tmp_path: Path) -> None:
    ingress = ingress_of([(paths, admin), second], tmp_path)
    second[1].refuses = True
    with pytest.raises(PlanRefused, match="version 8"):
        ingress.put("rds", "8", [])


def test_a_file_that_somebody_deleted_is_written_again(ingress: Ingress, paths: Paths) -> None:
    ingress.put("rds", "8", [{"name": "routes"}])
    before = paths.resource("rds").read_text()
    ingress.restore()
    paths.resource("rds").unlink()
    paths.resource("rds").parent.rmdir()
    ingress.restore()
    assert paths.resource("rds").read_text() == before
