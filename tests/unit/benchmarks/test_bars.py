"""Every benchmark holds what it measures to a bar, or says why nothing is promised; and its bar is a :class:`Bar`."""

from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import _NO_BENCHMARKS

FOLDER = Path(benchmarks.__file__).parent
NAMES = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]) if module.name not in _NO_BENCHMARKS)
#: What they compare is not promised to be within a number: docs quote the ratio of the day.
WITHOUT_BAR = {
    "drift": "one verdict beside another library's",
    "gateway": "Envoy beside the bare socket",
    "model_server": "this server beside mlflow models serve",
}


def calls(name: str) -> list[str]:
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    return [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]


def sentences(name: str) -> list[str]:
    """What a benchmark adds to ``ratios``, which nobody holds to anything."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        is_ratios = isinstance(node, ast.Attribute) and node.attr == "ratios"
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(each, ast.Attribute) and each.attr == "ratios" for each in targets):
                found.append(ast.unparse(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not is_ratios:
            of = node.func.value
            if isinstance(of, ast.Attribute) and of.attr == "ratios":
                found += [ast.unparse(each) for each in node.args]
    return found


def test_all_of_them_are_walked() -> None:
    assert len(NAMES) > 15 and set(WITHOUT_BAR) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_a_bar_or_promises_nothing(name: str) -> None:
    assert ("Bar" in calls(name)) is (name not in WITHOUT_BAR)


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_is_no_mere_sentence(name: str) -> None:
    """Such a sentence would be printed, and fail no run."""
    told = [each for each in sentences(name) if re.search(r"\b(bar|limit|promised|at most|at least)\b", each)]
    assert told == []
