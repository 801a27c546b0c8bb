"""What a plane keeps of retired releases goes when it is old, and nothing that a kept release needs ever does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.serving.plane import collector
from airflow_provider_mlpipex.serving.plane.collector import DAY_S, Collector
from airflow_provider_mlpipex.serving.plane.state import EndpointMemory, PlaneMemory, write_memory
from airflow_provider_mlpipex.serving.state_dir import Places
from tests.support.factories import make_release

SHOP = EndpointRef.parse("production/shop")
KEPT, RETIRED = make_release("1.1.0", runtime="2.0.0"), make_release("1.0.0", runtime="1.0.0")


def written(path: Path, *, days_ago: float, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    moment = time.time() - days_ago * DAY_S
    for each in (path, path.parent):
        os.utime(each, (moment, moment))
    return path


def things(places: Places, release: Release, *, days_ago: float) -> dict[str, Path]:
    """All that a plane writes for ``release``."""
    files = {
        "model": places.artifacts / release.model.artifact_digest / "MLmodel",
        "environment": places.runtimes / release.runtime.digest / "complete.json",
        "server": places.server(SHOP, release.id) / "spec.json",
        "predictions": places.prediction_log(SHOP, release.id) / "00000001.jsonl",
        "sketches": places.sketches(SHOP, release.id),
    }
    for path in files.values():
        written(path, days_ago=days_ago)
    return {kind: path if kind == "sketches" else path.parent for kind, path in files.items()}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    write_memory(
        tmp_path / "state.json",
        PlaneMemory(endpoints={str(SHOP): EndpointMemory(releases={KEPT.id: KEPT})}),
    )
    return Places(tmp_path)


def test_only_what_is_old_and_of_no_kept_release_is_garbage(places: Places) -> None:
    things(places, KEPT, days_ago=1000)
    retired = things(places, RETIRED, days_ago=30)
    found = Collector(places.root).find()
    assert {garbage.path for garbage in found} == {retired[kind] for kind in ("model", "environment", "server")}
    assert all(garbage.size > 0 for garbage in found)
    assert {garbage.path for garbage in Collector(places.root, log_days=20).find()} == set(retired.values())
    assert Collector(places.root, days=40).find() == []
    assert all(path.exists() for path in retired.values()), "to look changes nothing"


def test_what_is_found_is_deleted_and_the_rest_stays(places: Places) -> None:
    kept = things(places, KEPT, days_ago=1000)
    retired = things(places, RETIRED, days_ago=100)
    gone = Collector(places.root).collect()
    assert {garbage.path for garbage in gone} == set(retired.values())
    assert not any(path.exists() for path in retired.values())
    assert all(path.exists() for path in kept.values())
    assert Collector(places.root).find() == [], "no trash is left"


def test_what_is_used_again_meanwhile_stays(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    retired = things(places, RETIRED, days_ago=100)
    collecting = Collector(places.root)
    found = collecting.find()

    def brought_back() -> list[collector.Garbage]:
        held = EndpointMemory(releases={KEPT.id: KEPT, RETIRED.id: RETIRED})
        write_memory(places.memory, PlaneMemory(endpoints={str(SHOP): held}))
        return found

    monkeypatch.setattr(collecting, "find", brought_back)
    assert collecting.collect() == []
    assert all(path.exists() for path in retired.values())


def test_a_running_server_and_a_fresh_use_are_no_garbage(places: Places) -> None:
    retired = things(places, RETIRED, days_ago=100)
    written(places.children / f"{retired['server'].name}--standby.json", days_ago=100)
    os.utime(retired["model"])
    assert {garbage.kind for garbage in Collector(places.root).find()} == {"environment", "predictions", "sketches"}


def test_pages_go_by_age_alone(places: Places, tmp_path: Path) -> None:
    old = written(tmp_path / "drift" / "production" / "1.html", days_ago=100)
    new = written(tmp_path / "drift" / "production" / "2.html", days_ago=1)
    collecting = Collector(places.root, pages=[tmp_path / "drift"])
    assert [garbage.path for garbage in collecting.collect()] == [old]
    assert new.exists()


def test_environments_of_workers_go_by_use_alone(places: Places, tmp_path: Path) -> None:
    workers = tmp_path / "workers"
    digests = {name: digit * 64 for name, digit in (("old", "a"), ("used", "b"))}
    paths = {name: written(workers / digest / "complete.json", days_ago=30) for name, digest in digests.items()}
    written(workers / f"{digests['old']}.lock.txt", days_ago=30)
    os.utime(paths["used"])
    assert Collector(places.root).find() == []
    collecting = Collector(places.root, workers=workers)
    gone = {garbage.path.name: garbage.kind for garbage in collecting.collect()}
    assert gone == {digests["old"]: "environment", f"{digests['old']}.lock.txt": "environment"}
    assert paths["used"].exists() and not paths["old"].exists()
    assert collecting.find() == []


@pytest.mark.parametrize("state", [None, "torn {"])
def test_without_a_memory_that_can_be_read_nothing_is_garbage(places: Places, state: str | None) -> None:
    retired = things(places, RETIRED, days_ago=1000)
    places.memory.unlink()
    if state is not None:
        places.memory.write_text(state)
    with pytest.raises(ConfigurationInvalid):
        Collector(places.root).collect()
    assert all(path.exists() for path in retired.values())
