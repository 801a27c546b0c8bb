"""``mlpipex serve collect`` and what ``serve status`` says of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from airflow_provider_mlpipex.serving.plane.state import PlaneMemory, write_memory
from tests.support.terminal import answer, refusal, run


@pytest.fixture
def old_model(tmp_path: Path) -> Path:
    """Of no release that the plane in ``tmp_path`` keeps."""
    write_memory(tmp_path / "state.json", PlaneMemory())
    folder = tmp_path / "artifacts" / ("a" * 64)
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_bytes(b"x" * 10_000)
    moment = time.time() - 20 * 86_400
    for path in (folder / "MLmodel", folder):
        os.utime(path, (moment, moment))
    return folder


def test_collect_lists_first_and_deletes_when_it_is_told_to(tmp_path: Path, old_model: Path) -> None:
    listed = answer("serve", "collect", "--state-dir", tmp_path)
    assert [(found["kind"], found["path"]) for found in listed["found"]] == [("model", str(old_model))]
    assert (listed["deleted"], listed["bytes"] >= 10_000) == (False, True)
    text = run("serve", "collect", "--state-dir", tmp_path).output
    assert str(old_model) in text and "nothing was deleted; add --delete" in text
    assert "1 things" in run("serve", "status", "--state-dir", tmp_path).output
    assert old_model.exists()
    assert answer("serve", "collect", "--state-dir", tmp_path, "--days", "30")["found"] == []
    assert "deleted 1 things" in run("serve", "collect", "--state-dir", tmp_path, "--delete").output
    assert not old_model.exists()
    assert "nothing to collect" in run("serve", "collect", "--state-dir", tmp_path).output


def test_collect_looks_at_environments_of_workers_where_it_is_told_of_them(tmp_path: Path, old_model: Path) -> None:
    old_model.rename(tmp_path / "workers")
    told = ("serve", "collect", "--state-dir", tmp_path)
    assert answer(*told)["found"] == []
    (tmp_path / "root").mkdir()
    (tmp_path / "workers").rename(tmp_path / "root" / ("c" * 64))
    found = answer(*told, "--runtime-root", tmp_path / "root")["found"]
    assert [(each["kind"], Path(each["path"]).name) for each in found] == [("environment", "c" * 64)]


def test_a_folder_in_which_no_plane_has_run_is_refused(tmp_path: Path) -> None:
    assert "MLPIPEX_STATE_DIR" in refusal("serve", "collect", "--state-dir", tmp_path)["remedy"]
    assert list(tmp_path.iterdir()) == []
