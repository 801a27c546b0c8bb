"""A team's own code, named in a manifest as ``module:function``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from airflow_provider_mlpipex.domain.errors import ManifestInvalid


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
