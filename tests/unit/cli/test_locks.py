"""A manifest whose lock is missing, or pins nothing, is refused where it is validated."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.rollout.fold import KEPT_LOCKS, fold
from tests.support.manifests import edited, make_manifest
from tests.support.rollouts import ENDPOINT, PAGER, World
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


def test_a_version_means_the_lock_that_it_ever_meant_not_only_the_last() -> None:
    lock = ("environment: provider", "lock: serving.txt")
    world = World(lock)
    for number, version in enumerate(("1.0.0", "1.1.0", "1.2.0"), 1):
        world.memory.runtimes.locks["serving.txt"] = f"numpy=={version}"
        manifest = make_manifest(PAGER, lock, ("version: 1.0.0", f"version: {version}"))
        world.bring(f"run-{number}", version, to="promoted", manifest=manifest)
    state = world.state
    assert state.current and state.previous
    assert "1.0.0" not in (state.current.runtime.version, state.previous.runtime.version)
    with pytest.raises(RuntimeMismatch, match=f"this version means on {ENDPOINT}"):
        world.release("2.0.0", manifest=make_manifest(PAGER, lock))
    # It is read from the chain, however old the ledger is that holds it.
    folded = fold(ENDPOINT, world.memory.ledger.read(ENDPOINT))
    assert folded.locks == state.locks and len(folded.locks) == 3 < KEPT_LOCKS
