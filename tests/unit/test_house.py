"""Where things are: modules of a length that one reads, and one noun in every layer (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import airflow_provider_mlpipex

PACKAGE = Path(airflow_provider_mlpipex.__file__).parent
ROOT = PACKAGE.parent
#: About 400 lines; a few more are no reason to split in a hurry.
MAX_LINES = 450
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
