"""A team's own code, named in a manifest as ``module:function``, and the tables that it gives."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, ManifestInvalid

if TYPE_CHECKING:
    import pandas as pd


def import_callable(path: str, *, field: str) -> Callable[..., Any]:
    """The function that ``path`` names.

    :param field: where the manifest names it, for the message.
    :raises ManifestInvalid: the module cannot be imported or has no such function.
    """
    module, colon, name = path.partition(":")
    cause: Exception | None = None
    found: Any = None
    if colon:
        try:
            found = getattr(import_module(module), name, None)
        except ImportError as error:
            cause = error
    if not callable(found):
        raise ManifestInvalid(
            f"manifest, field {field}",
            value=path,
            limit=f"module:function that can be imported here{f' ({cause})' if cause else ''}",
            remedy="install the module where tasks run, and check the spelling",
        ) from cause
    return found  # type: ignore[no-any-return]


def load_table(load: Callable[[], Any], *, source: str, remedy: str) -> pd.DataFrame:
    """The table that a team's code gives.

    :param source: what the code is, in the user's words, for the message.
    :param remedy: what to do when it raises.
    :raises DataQualityFailed: it raised, or gave something else.
    """
    import pandas as pd

    try:
        frame = load()
    except Exception as error:
        raise DataQualityFailed(
            source, value=f"{type(error).__name__}: {error}", limit="a table", remedy=remedy
        ) from error
    if not isinstance(frame, pd.DataFrame):
        raise DataQualityFailed(
            source,
            value=type(frame).__name__,
            limit="a pandas DataFrame",
            remedy="return a DataFrame with one row an example",
        )
    return frame
