"""Model artifacts are the bytes that were registered, or they are not served."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import ArtifactMismatch, RegistryUnavailable
from airflow_provider_mlpipex.serving import artifacts
from airflow_provider_mlpipex.serving.artifacts import ArtifactCache, directory_digest, verify_directory

NOWHERE = "http://127.0.0.1:1"


def make_model(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "data" / "model.pkl").write_bytes(b"\x80\x04weights")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "a model, with spaces")


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache")


def test_the_digest_is_of_names_and_bytes_alone(model: Path, tmp_path: Path) -> None:
    copy = make_model(tmp_path / "copy")
    os.utime(copy / "MLmodel", (0, 0))
    (copy / "data" / "model.pkl").chmod(0o600)
    (copy / "registered_model_meta").write_text("written by a download")
    (copy / "empty").mkdir()
    assert directory_digest(copy) == directory_digest(model)


def change_a_byte(folder: Path) -> None:
    (folder / "data" / "model.pkl").write_bytes(b"\x80\x04weightS")


def add_a_file(folder: Path) -> None:
    (folder / "data" / "__init__.py").touch()


def rename_a_file(folder: Path) -> None:
    (folder / "data" / "model.pkl").rename(folder / "data" / "model2.pkl")


def move_a_byte_between_files(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors: {}")
    (folder / "data" / "model.pkl").write_bytes(b"\n\x80\x04weights")


def remove_a_file(folder: Path) -> None:
    (folder / "MLmodel").unlink()


@pytest.mark.parametrize("change", [change_a_byte, add_a_file, rename_a_file, move_a_byte_between_files, remove_a_file])
def test_every_change_is_another_digest(model: Path, change: Callable[[Path], None]) -> None:
    before = directory_digest(model)
    change(model)
    assert directory_digest(model) != before
    with pytest.raises(ArtifactMismatch, match=before):
        verify_directory(model, before)


@pytest.mark.parametrize("target", ["MLmodel", "/etc/hostname", "data", "nowhere"])
def test_a_symbolic_link_is_refused(model: Path, target: str) -> None:
    (model / "link").symlink_to(target)
    with pytest.raises(ArtifactMismatch, match="symbolic link link"):
        directory_digest(model)


@pytest.mark.parametrize("kind", ["missing", "empty", "only folders"])
def test_nothing_has_no_digest(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    if kind != "missing":
        folder.mkdir()
    if kind == "only folders":
        (folder / "data").mkdir()
    with pytest.raises(ArtifactMismatch, match="no files"):
        directory_digest(folder)


def test_what_was_fetched_once_needs_no_source(cache: ArtifactCache, model: Path) -> None:
    digest, uri = directory_digest(model), model.as_uri()
    first = cache.fetch(uri, digest, tracking_uri=NOWHERE)
    assert directory_digest(first) == digest
    change_a_byte(model)
    assert cache.fetch(uri, digest, tracking_uri=NOWHERE) == first


def test_a_plain_path_is_a_uri_too(cache: ArtifactCache, model: Path) -> None:
    assert cache.fetch(str(model), directory_digest(model), tracking_uri=NOWHERE).is_dir()


def test_other_bytes_than_registered_are_not_kept(cache: ArtifactCache, model: Path, tmp_path: Path) -> None:
    digest = directory_digest(model)
    change_a_byte(model)
    with pytest.raises(ArtifactMismatch, match=f"registered digest {digest}"):
        cache.fetch(model.as_uri(), digest, tracking_uri=NOWHERE)
    assert not (tmp_path / "cache" / digest).exists()
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")] == []


def test_a_cache_that_was_tampered_with_is_refused(cache: ArtifactCache, model: Path) -> None:
    digest = directory_digest(model)
    change_a_byte(cache.fetch(model.as_uri(), digest, tracking_uri=NOWHERE))
    with pytest.raises(ArtifactMismatch):
        cache.fetch(model.as_uri(), digest, tracking_uri=NOWHERE)


def test_a_link_in_the_artifact_is_not_followed_into_the_cache(cache: ArtifactCache, model: Path) -> None:
    digest = directory_digest(model)
    (model / "data" / "secret").symlink_to("/etc/hostname")
    with pytest.raises(ArtifactMismatch, match="symbolic link"):
        cache.fetch(model.as_uri(), digest, tracking_uri=NOWHERE)


def test_a_source_that_is_gone_is_said(cache: ArtifactCache, tmp_path: Path) -> None:
    with pytest.raises(RegistryUnavailable, match="no such directory"):
        cache.fetch((tmp_path / "gone").as_uri(), "0" * 64, tracking_uri=NOWHERE)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (lambda command: subprocess.CompletedProcess(command, 1, "", "Traceback\nConnection refused\n"), "refused"),
        (lambda command: subprocess.CompletedProcess(command, 1, "", ""), "no message"),
        (lambda command: (_ for _ in ()).throw(subprocess.TimeoutExpired(command, 300)), "no download within"),
    ],
    ids=["refused", "silent", "hangs"],
)
def test_a_registry_that_is_away_is_said(
    cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch, ends: Callable[[list[str]], Any], said: str
) -> None:
    def downloads(command: list[str], **_: object) -> Any:
        return ends(command)

    monkeypatch.setattr(artifacts.cancelling, "run", downloads)
    with pytest.raises(RegistryUnavailable, match=f"runs:/abc/model.*{said}"):
        cache.fetch("runs:/abc/model", "0" * 64, tracking_uri=NOWHERE)


@pytest.mark.parametrize("inside", [True, False], ids=["as-a-folder", "as-files"])
def test_a_download_is_found_however_it_is_laid_out(
    cache: ArtifactCache, model: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    def downloads(command: list[str], **_: object) -> Any:
        target = Path(command[command.index("-d") + 1])
        shutil.copytree(model, target / "model" if inside else target, dirs_exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(artifacts.cancelling, "run", downloads)
    digest = directory_digest(model)
    assert directory_digest(cache.fetch("runs:/abc/model", digest, tracking_uri=NOWHERE)) == digest


def test_of_many_at_once_one_fetches(cache: ArtifactCache, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    original = artifacts._obtain

    def counting(uri: str, scratch: Path, tracking_uri: str) -> Path:
        fetched.append(uri)
        return original(uri, scratch, tracking_uri)

    monkeypatch.setattr(artifacts, "_obtain", counting)
    digest = directory_digest(model)
    threads = [
        threading.Thread(target=cache.fetch, args=(model.as_uri(), digest), kwargs={"tracking_uri": NOWHERE})
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(fetched) == 1
