"""The page in Airflow's UI as it is installed: one file, built from ``ui/``, that asks nobody outside the machine."""

from __future__ import annotations

import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.page import REPOSITORY, UI, require_npm

DIST = REPOSITORY / "airflow_provider_mlpipex" / "plugins" / "www" / "dist"
BUNDLE = DIST / "main.js"
#: Names of things, which no browser opens: XML's.
NAMESPACES = ("http://www.w3.org/",)


@pytest.fixture(scope="module")
def npm() -> str:
    return require_npm()


def _run(npm: str, *arguments: str) -> None:
    done = subprocess.run([npm, *arguments], cwd=UI, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr


def test_airflow_finds_the_component_where_it_looks() -> None:
    """Airflow imports the file and takes ``globalThis.AirflowPlugin``; React and its router are the host's own."""
    begin = BUNDLE.read_text(encoding="utf-8")[:2000]
    assert ".AirflowPlugin=" in begin
    for name in ("React", "ReactJSXRuntime", "ReactRouterDOM", "ChakraUI"):
        assert re.search(rf"\.{name}\b", begin), f"{name} is not the host's"


def test_the_page_names_no_address_outside() -> None:
    for file in DIST.iterdir():
        named = re.findall(r"(?:https?|wss?):(?:\\?/){2}[\w.-]+[\w/.-]*", file.read_text(encoding="utf-8"))
        assert [address for address in named if not address.startswith(NAMESPACES)] == []


def test_the_page_is_committed_and_part_of_the_wheel() -> None:
    """Hatch leaves out what git ignores."""
    ignored = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").split()
    parts = BUNDLE.relative_to(REPOSITORY).parts
    assert [rule for rule in ignored for part in parts if fnmatch(part, rule.rstrip("/"))] == []
    if (REPOSITORY / ".git").exists():
        known = subprocess.run(
            ["git", "ls-files", "--", str(DIST)], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout.split()
        assert str(BUNDLE.relative_to(REPOSITORY)) in known


def test_the_lock_file_names_no_registry_and_no_other_address() -> None:
    text = (UI / "package-lock.json").read_text(encoding="utf-8")
    lock = json.loads(text)
    assert re.findall(r"\w+://[^\"]+", text) == [], "take out funding, and deprecated where it has an address"
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    unpinned = [name for name, package in lock["packages"].items() if name and "integrity" not in package]
    assert unpinned == [], "every package has its checksum"


@pytest.mark.timeout(1800)
def test_the_page_is_what_its_source_makes(npm: str, tmp_path: Path) -> None:
    _run(npm, "run", "--silent", "build", "--", "--outDir", str(tmp_path), "--logLevel", "error")
    built = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert sorted(built) == sorted(file.name for file in DIST.iterdir())
    changed = [name for name, content in built.items() if content != (DIST / name).read_bytes()]
    assert changed == [], "run: make ui, and commit what it built"


@pytest.mark.timeout(1800)
def test_the_logic_of_the_page(npm: str) -> None:
    """Types, and the tests beside the source."""
    _run(npm, "run", "--silent", "check")
    _run(npm, "run", "--silent", "test")
