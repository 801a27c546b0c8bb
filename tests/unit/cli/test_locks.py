"""A manifest whose lock is missing, or pins nothing, is refused where it is validated."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from tests.support.manifests import edited, make_manifest
from tests.support.rollouts import World
from tests.support.terminal import refusal, run


@pytest.mark.parametrize(
    ("lock", "says"), [(None, "No such file"), ("numpy>=2\n", "numpy>=2"), ("numpy==2.1.0\n", "")], ids=str
)
def test_a_lock_must_be_there_and_pin_something(tmp_path: Path, lock: str | None, says: str) -> None:
    manifest = tmp_path / "fraud.yaml"
    manifest.write_text(edited(("environment: provider", "lock: serving.txt")), encoding="utf-8")
    if lock is not None:
        (tmp_path / "serving.txt").write_text(lock, encoding="utf-8")
    if not says:
        assert run("manifest", "validate", manifest).exit_code == 0
        return
    refused = refusal("manifest", "validate", manifest)
    assert (refused["thing"], says in refused["value"]) == (f"manifest {manifest}, field runtime.lock", True)
    assert "uv pip compile" in refused["remedy"]


def test_one_runtime_version_means_one_lock() -> None:
    world = World(("environment: provider", "lock: serving.txt"))
    world.memory.runtimes.locks["serving.txt"] = "numpy==2.1.0"
    world.first_release()
    world.memory.runtimes.locks["serving.txt"] = "numpy==2.2.0"
    with pytest.raises(RuntimeMismatch, match=r"bump runtime\.version"):
        world.release("1.1.0")
    bumped = make_manifest(
        ("channel: on-call", "channel: risk-pager"),
        ("environment: provider", "lock: serving.txt"),
        ("version: 1.0.0", "version: 1.1.0"),
    )
    assert world.release("1.1.0", manifest=bumped).runtime.version == "1.1.0"
