"""The team's own modules that a model needs wherever it is loaded, found in its pickle and in what they import."""

from __future__ import annotations

import ast
import pickletools
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from airflow_provider_mlpipex.domain.errors import TrainingFailed

#: Code is text. Whoever puts data beside it would ship that with every model.
MAX_BYTES = 20_000_000
_OURS = "airflow_provider_mlpipex"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")


def own_modules(pickle: Path | None, named: Iterable[str]) -> dict[str, Path]:
    """Top-level module -> its file or folder, for every module of the team's own that the model needs.

    A module is the team's own if it is neither part of Python nor installed as a package: then no lock file brings it
    to the runtime.

    :param pickle: of the model: every module that it names is needed. :param named: modules that are needed anyway.
    """
    own = _own()
    modules: dict[str, Path] = {}
    waiting = [*named, *(_named_in(pickle) if pickle else ())]
    while waiting:
        top = waiting.pop().partition(".")[0]
        if top in own:
            modules[top] = own.pop(top)
            waiting += _imported_by(modules[top], wanted=own)
    return modules


def copy_modules(modules: dict[str, Path], folder: Path) -> list[str]:
    """Copies of ``modules`` under ``folder``, without caches: what MLflow takes as ``code_paths``.

    :raises TrainingFailed: they are larger than code should be.
    """
    copies = []
    for name, place in sorted(modules.items()):
        target = folder / place.name
        if place.is_dir():
            shutil.copytree(place, target, ignore=_LEFT_OUT)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, target)
        copies.append(str(target))
        if (size := sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())) > MAX_BYTES:
            raise TrainingFailed(
                f"code that is shipped with the model, module {name}",
                value=f"{size} bytes",
                limit=f"at most {MAX_BYTES} bytes",
                remedy="keep data out of the package that holds the training callable, or install it as a package",
            )
    return copies


def _own() -> dict[str, Path]:
    """Where each top-level module of the team's own lies, of all that this process has imported."""
    roots = installed_roots()
    tops = {name.partition(".")[0] for name in list(sys.modules)}
    places = {top: _place(top) for top in tops - {_OURS, "__main__", "__mp_main__"} - sys.stdlib_module_names}
    return {
        top: place for top, place in places.items() if place and not any(place.is_relative_to(root) for root in roots)
    }


def _place(top: str) -> Path | None:
    facts = getattr(sys.modules.get(top), "__dict__", {})  # asked for attributes, a lazy module would import something
    origin, folders = facts.get("__file__"), list(facts.get("__path__", ()))
    place = Path(folders[0]) if folders else Path(origin) if origin else None
    return place if place is not None and place.suffix in ("", ".py") and place.exists() else None


def installed_roots() -> set[Path]:
    """Folders of Python itself and of installed packages: what lies elsewhere is a team's own."""
    paths = sysconfig.get_paths()
    roots = {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return roots | {Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}


def _named_in(pickle: Path) -> Iterator[str]:
    """Every text in the pickle that is the name of a module: a class by reference, a module that a function uses."""
    with pickle.open("rb") as stream:
        for _, argument, _ in pickletools.genops(stream):
            if isinstance(argument, str):
                # The oldest protocols write "module name" as one argument.
                name = argument.partition(" ")[0]
                if name.partition(".")[0] in sys.modules:
                    yield name


def _imported_by(place: Path, *, wanted: Iterable[str]) -> Iterator[str]:
    """Modules that files under ``place`` import, those of ``wanted`` among them: a file that has none of these names
    in its text is not parsed, which takes seconds for a large package."""
    names = [name.encode() if name.isascii() else b"" for name in wanted]
    for path in place.rglob("*.py") if place.is_dir() else [place]:
        source = path.read_bytes()
        if not any(name in source for name in names):
            continue
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module
