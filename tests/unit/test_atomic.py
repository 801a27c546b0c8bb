"""Whole or not at all, whatever happens in between."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from airflow_provider_mlpipex.atomic import atomic_file, atomic_write


def test_the_file_has_its_mode_from_its_first_byte_on(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        atomic_write(tmp_path / "token", "secret")
        atomic_write(tmp_path / "page", b"page", mode=0o644, fsync=True)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("token", "page")]
    assert modes == [0o600, 0o644]
    assert (tmp_path / "token").read_text() == "secret"


@pytest.mark.parametrize("step", ["open", "replace", "fsync"])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "state.json"
    atomic_write(path, "before")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, "after", fsync=True)
    monkeypatch.undo()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_scratch_folder_keeps_the_other_one_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xds").mkdir()
    (tmp_path / "scratch").mkdir()
    moved = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append((Path(a).parent.name, b)), replace(a, b)))
    atomic_write(tmp_path / "xds" / "rds.json", "{}", scratch=tmp_path / "scratch")
    assert moved == [("scratch", tmp_path / "xds" / "rds.json")]


def test_a_library_that_fails_half_way_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_text("before")

    def fill(part: Path) -> None:
        part.write_text("half of i")
        raise ValueError("no such column")

    with pytest.raises(ValueError, match="no such column"), atomic_file(path, fsync=True) as part:
        fill(part)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("table.parquet", "before")]
    with atomic_file(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("table.parquet", "after")]
