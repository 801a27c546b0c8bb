"""A team's own code, named in a manifest as ``module:function``, and the tables that it gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import distributions, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, ManifestInvalid
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services.training.code_failure import describe_failure

if TYPE_CHECKING:
    import pandas as pd


def import_callable(path: str, *, field: str) -> Callable[..., Any]:
    """The function that ``path`` names.

    :param field: where the manifest names it, for the message.
    :raises ManifestInvalid: the module cannot be imported or has no such function.
    """
    module, colon, name = path.partition(":")
    cause: Exception | None = None
    target: Any = None
    if colon:
        try:
            target = getattr(import_module(module), name, None)
        except ImportError as error:
            cause = error
    if not callable(target):
        raise ManifestInvalid(
            f"manifest, field {field}",
            value=path,
            limit=f"module:function that can be imported here{f' ({cause})' if cause else ''}",
            remedy="install the module where tasks run, and check the spelling",
        ) from cause
    return target  # type: ignore[no-any-return]


def source_digest(path: str) -> str:
    """Digest of the files of the package that ``path`` lies in, and of the installed distributions.

    Two trainings under one commit may differ in both: by an edit that was not committed, by a package that was
    upgraded.
    """
    return digest_of([_files_of(path), _installed()])


def rows_code_digest(path: str) -> str:
    """Digest of the files of the package that a callable of rows lies in: an edit of it gives other rows.

    :raises ManifestInvalid: it cannot be imported.
    """
    import_callable(path, field="evaluation.callable")
    return digest_of(_files_of(path))


def _files_of(path: str) -> list[tuple[str, str]]:
    module = path.partition(":")[0]
    top = sys.modules.get(module.partition(".")[0])
    files = sorted(_sources(top, sys.modules.get(module)))
    return [(file.name, sha256(file.read_bytes()).hexdigest()) for file in files]


@cache
def _installed() -> list[str]:
    named = (distribution.metadata["Name"] for distribution in distributions())
    return sorted({f"{name}=={version(name)}" for name in named if name})


def _sources(*modules: ModuleType | None) -> Iterator[Path]:
    for module in filter(None, modules):
        for folder in getattr(module, "__path__", ()):
            yield from Path(folder).rglob("*.py")
        origin = getattr(module, "__file__", None)
        if origin and origin.endswith(".py"):
            yield Path(origin)


def load_table(load: Callable[[], Any], *, source: str, remedy: str) -> pd.DataFrame:
    """The table that a team's code gives.

    :param source: what the code is, in the user's words, for the message.
    :param remedy: what to do when it raises.
    :raises DataQualityFailed: it raised, or gave something else.
    """
    import pandas as pd

    try:
        frame = load()
    except Exception as error:  # noqa: BLE001  whatever the code of a team raises
        # Nothing of the exception is chained: its text and those of its causes may quote rows.
        raise DataQualityFailed(
            source, value=describe_failure(error, code=source), limit="a table", remedy=remedy
        ) from None
    if not isinstance(frame, pd.DataFrame):
        raise DataQualityFailed(
            source,
            value=type(frame).__name__,
            limit="a pandas DataFrame",
            remedy="return a DataFrame with one row an example",
        )
    return frame
