"""Where things are: modules of a length that one reads, and one noun in every layer (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_mlpipex
from airflow_provider_mlpipex.cli.main import app
from airflow_provider_mlpipex.serving import plane_log

PACKAGE = Path(airflow_provider_mlpipex.__file__).parent
ROOT = PACKAGE.parent
#: About 400 lines; a few more are no reason to split in a hurry.
MAX_LINES = 420
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_long_says_why(name: str) -> None:
    text = MODULES[name].read_text(encoding="utf-8")
    lines = text.count("\n")
    says = "Over 400 lines, because" in (ast.get_docstring(ast.parse(text)) or "")
    assert says or lines <= MAX_LINES, f"{lines} lines: split it along a concern, or say in its docstring why not"
    assert not says or lines > 400, "it is short by now, and says otherwise"


def test_every_module_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:domain|services|adapters|serving|operators|testing)/[\w/]+(?:\.py|/))`", text)
    assert len(named) >= 5
    assert [name for name in named if not (PACKAGE / name).exists()] == []


@pytest.mark.parametrize("layer", ["adapters", "domain", "services", "serving"])
def test_the_folders_that_the_architecture_draws_are_those_of_the_tree(layer: str) -> None:
    """Each line of the drawing that begins with a layer lists its folders, and what it goes on with."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (drawing,) = re.findall(r"```\n(dags/.*?)```", text, re.DOTALL)
    (drawn,) = re.findall(rf"^  {layer}/(.*?)(?=^  \w)", drawing, re.MULTILINE | re.DOTALL)
    folders = {path.name for path in (PACKAGE / layer).iterdir() if (path / "__init__.py").exists()}
    missing = {name for name in folders if not re.search(rf"\b{name}\b", drawn)}
    assert missing == set()


def test_the_architecture_draws_everything_at_the_root() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (drawing,) = re.findall(r"```\n(dags/.*?)```", text, re.DOTALL)
    folders = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py", "get_provider_info.py"}
    assert {name for name in folders | modules if name not in drawing} == set()


def test_every_command_of_the_terminal_has_the_module_of_its_name() -> None:
    """Who looks for ``mlpipex history`` opens ``cli/history.py``; five verbs share a module with their like."""
    shared = {"pause": "hold", "resume": "hold", "skip": "hold", "abort": "hold", "promote": "release"}
    commands = [
        *app.registered_commands,
        *(c for group in app.registered_groups if not group.name for c in group.typer_instance.registered_commands),
    ]
    named = {c.name or c.callback.__name__: c.callback.__module__.rpartition(".")[2] for c in commands}
    groups = {group.name: group.typer_instance for group in app.registered_groups if group.name}
    named |= {
        name: group.registered_commands[0].callback.__module__.rpartition(".")[2] for name, group in groups.items()
    }
    named.pop("reproduce")  # of trainings
    assert {name: module for name, module in named.items() if module != name} == shared


#: Words that once named everything and so nothing, and what is said instead.
RETIRED = {
    "told": "the noun (message, sentence, payload), or notified",
    "untold": "unreported",
    "seen": "the noun: check, result, observation",
    "found": "the noun: matches, digest, rows",
    "one": "the noun",
    "js": "jensen_shannon",
    "overall": "verdict_of, or the mean that it is",
    "looker": "monitor, trigger, thread",
    "lookers": "monitors, triggers, threads",
    "looking": "watching, polling",
    "doubts": "promotion_doubt",
    "reopening": "promotion_doubt",
}
#: Retired within longer names as well: ``told_at``, ``unseen``.
RETIRED_PARTS = {"told", "untold", "looker", "lookers", "reopening"}
RETIRED_CLASSES = {"Look", "Looker", "Looking", "DriftLook", "Judged", "Seen", "Found", "Told", "World", "Outcome"}
#: A limit is MAX_<what> or MIN_<what>.
RETIRED_LIMITS = re.compile(r"_?(MOST|LARGEST|LONGEST|BIGGEST|LEAST|SMALLEST|SHORTEST|FEWEST)(_|$)")
#: Module and name -> why it stays: these are stored, and what is stored is frozen.
FROZEN = {
    ("domain/shadow/score_distributions.py", "js"): "field of a comparison in entries of the ledger",
}


def _identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module gives: variables, parameters, attributes, fields, functions, classes, aliases."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((alias.asname, node.lineno) for alias in names if alias.asname)


def retired(name: str) -> str | None:
    """Why ``name`` is not said any more; ``None`` where it is."""
    bare = name.strip("_")
    if bare in RETIRED:
        return f"say {RETIRED[bare]}"
    if bare in RETIRED_CLASSES:
        return "a class says what it is"
    if parts := RETIRED_PARTS.intersection(bare.lower().split("_")):
        return f"{', '.join(sorted(parts))}: say the noun"
    return "a limit is MAX_<what> or MIN_<what>" if RETIRED_LIMITS.match(name) else None


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_no_retired_word(name: str) -> None:
    identifiers = _identifiers(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    said = [f"line {line}, {each}: {why}" for each, line in identifiers if (why := retired(each))]
    assert [line for line in said if not any(name == at and f" {each}:" in line for at, each in FROZEN)] == []


def test_what_is_frozen_is_still_there() -> None:
    """An exception whose name is gone is one that the next retired word could hide behind."""
    for module, frozen in FROZEN:
        assert frozen in {each for each, _ in _identifiers(ast.parse(MODULES[module].read_text(encoding="utf-8")))}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("told = 1", ["told"]),
        ("def look(seen, *, found): ...", ["seen", "found"]),
        ("[one.x for one in rows]", ["one"]),
        ("class Look:\n    told_at: float = 0.0", ["Look", "told_at"]),
        ("_MOST_IGNORED = LARGEST = 4", ["_MOST_IGNORED", "LARGEST"]),
        ("self._seen = {}", ["_seen"]),
        ("try: ...\nexcept Exception as found: ...", ["found"]),
        ("import json as js", ["js"]),
        ("class NotFound(Exception): ...\nMAX_ROWS = 3\nnot_found = none_seen_at = row.told = 1", ["told"]),
    ],
)
def test_the_test_of_words_finds_them(code: str, names: list[str]) -> None:
    given = list(dict.fromkeys(each for each, _ in _identifiers(ast.parse(code)) if retired(each)))
    assert sorted(given) == sorted(names)


def test_every_line_of_a_plane_has_a_name_that_its_log_lists() -> None:
    """One place names the events, as ``observability`` does for stages: who searches a log finds them all there."""
    listed = {name: value for name, value in vars(plane_log).items() if name.isupper()}
    assert len(set(listed.values())) == len(listed)
    used: set[str] = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "plane_log":
                event = node.args[0]
                assert isinstance(event, ast.Name) and event.id in listed, f"{name}, line {node.lineno}"
                used.add(event.id)
    assert used == set(listed)
