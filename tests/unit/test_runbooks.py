"""Runbooks: every error has a page, every page an error, and every command on a page is one that ``mlpipex`` takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import airflow_provider_mlpipex
from airflow_provider_mlpipex.cli.main import app
from airflow_provider_mlpipex.domain import errors
from airflow_provider_mlpipex.domain.errors import MlpipexError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "runbooks"
INDEX = FOLDER / "README.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
MAIN: Any = typer.main.get_command(app)

_FENCED = re.compile(r"^```[a-z]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)#]+)\)")
#: What stands before a command, as in ``MLPIPEX_PLANE_TOKEN_FILE=STATE/token mlpipex rollback …``.
_SETTING = re.compile(r"[A-Z_]+=\S*")
#: In the order in which they must come; the last one is left out where there is nothing true to say.
_HEADINGS = ["What it means", "Look", "Do", "Prevent / when to escalate"]


def error_classes(root: type[MlpipexError] = MlpipexError) -> Iterator[type[MlpipexError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__.startswith("airflow_provider_mlpipex."):
            yield from error_classes(child)


def code_of(text: str) -> Iterator[tuple[list[str], bool]]:
    """Words of every ``mlpipex …`` on a page, and whether it is a whole command, which could be pasted."""
    for block in _FENCED.findall(text):
        for line in block.splitlines():
            if words := command_in(line, comments=True):
                yield words, True
    for inline in _INLINE.findall(_FENCED.sub("", text)):
        if words := command_in(inline, comments=False):
            yield words, False


def command_in(text: str, *, comments: bool) -> list[str]:
    """What follows ``mlpipex``; empty where ``text`` is something else, such as a message or another command."""
    if not re.match(r"(?:[A-Z_]+=\S+ )*mlpipex(?: |$)", text.strip()):
        return []
    words = [word for word in shlex.split(text, comments=comments) if not _SETTING.fullmatch(word)]
    return words[1:]


def resolve(words: list[str]) -> tuple[Any, list[str], str]:
    """The command that ``words`` name, what follows its name, and the name; a group where no command of it is named."""
    command, path = MAIN, ["mlpipex"]
    while words and hasattr(command, "commands") and words[0] != "…":
        assert words[0] in command.commands, f"{' '.join(path)} has no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
        path.append(str(command.name))
    return command, words, " ".join(path)


def options_of(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_every_error_has_a_page_that_names_it() -> None:
    named = {kind: FOLDER / f"{kind.runbook}.md" for kind in error_classes()}
    assert len(named) > 30
    for kind, page in named.items():
        assert page.is_file(), f"{kind.__name__} names the runbook {kind.runbook}, and there is no such page"
        title = page.read_text(encoding="utf-8").splitlines()[0]
        assert f"`{kind.__name__}`" in title, f"{page.name} does not say in its title that it is of {kind.__name__}"


def test_only_the_module_of_errors_names_runbooks() -> None:
    """So that the classes that are known here are all that there are."""
    package = Path(str(airflow_provider_mlpipex.__file__)).parent
    naming = [
        path
        for path in package.rglob("*.py")
        if re.search(r"^\s+runbook(: [\w\[\]]+)? = ", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert naming == [Path(str(errors.__file__))]


def test_every_page_is_named_by_an_error() -> None:
    assert {page.stem for page in PAGES} <= {kind.runbook for kind in error_classes()}


def test_the_index_lists_every_page_once() -> None:
    listed = re.findall(r"^\| \[([a-z-]+)\]\(([a-z-]+)\.md\)", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _ in listed] == sorted(page.stem for page in PAGES)
    assert all(name == target for name, target in listed)


def test_the_index_marks_what_passes_by_itself() -> None:
    """Airflow retries those, and only those."""
    marked = set(re.findall(r"^\| \[([a-z-]+)\]\([a-z-]+\.md\) ↻", INDEX.read_text(encoding="utf-8"), re.MULTILINE))
    assert marked == {kind.runbook for kind in error_classes() if kind.transient}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_shape(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert any(line.startswith("**Traffic:** ") for line in lines[:8])
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert headings in (_HEADINGS, _HEADINGS[:-1])
    assert any(line.startswith("1. ") for line in lines[lines.index("## Do") :])
    assert 20 <= len(lines) <= 45


@pytest.mark.parametrize("page", [*PAGES, INDEX], ids=lambda page: page.stem)
def test_commands_of_a_page_are_those_of_the_terminal(page: Path) -> None:
    found = list(code_of(page.read_text(encoding="utf-8")))
    assert found, "a page tells at least one command"
    for words, whole in found:
        command, rest, name = resolve(words)
        flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert flags <= options_of(command), f"{name} has no {flags - options_of(command)}"
        if whole:
            # The parser itself: all that is needed is there, and nothing else. Nothing is run.
            command.make_context(name, list(rest))


@pytest.mark.parametrize("page", [*PAGES, INDEX], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), f"{page.name} links to {target}"


@pytest.mark.parametrize("wrong", ["mlpipex rolback x/y", "mlpipex history x/y --eventz", "mlpipex audit check"])
def test_a_command_that_does_not_exist_is_found(wrong: str) -> None:
    words = command_in(wrong, comments=True)
    with pytest.raises(AssertionError):
        command, rest, _ = resolve(words)
        assert {word for word in rest if word.startswith("--")} <= options_of(command)
