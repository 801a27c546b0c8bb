from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from airflow_provider_mlpipex.adapters.git.code_version import CODE_VERSION_VARIABLE, code_version


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(CODE_VERSION_VARIABLE, raising=False)
    # Neither the user's configuration nor a repository around the temporary folder may decide these tests.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "train.py").write_text("one\n")
    (tmp_path / ".gitignore").write_text("*.log\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def git(cwd: Path, *arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *who, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    (checkout / "ignored.log").write_text("noise")
    assert code_version(checkout) == git(checkout, "rev-parse", "HEAD")


def test_changes_that_are_not_committed_are_told_apart(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    seen = set()
    for text in ("two\n", "three\n"):
        (checkout / "train.py").write_text(text)
        seen.add(code_version(checkout))
    assert code_version(checkout) in seen
    (checkout / "train.py").write_text("one\n")
    (checkout / "new.py").write_text("new\n")
    seen.add(code_version(checkout))
    assert len(seen) == 3
    assert all(version.startswith(f"{head}-dirty-") for version in seen)


def test_without_a_checkout_there_is_no_code_version(tmp_path: Path, checkout: Path) -> None:
    assert code_version(tmp_path / "missing") == ""
    (checkout / ".git").rename(checkout / "gone")
    assert code_version(checkout) == ""


def test_the_environment_can_say_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CODE_VERSION_VARIABLE, "image-build-42")
    assert code_version(checkout) == "image-build-42"
