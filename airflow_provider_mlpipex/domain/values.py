"""The base of every immutable value that crosses a process: XCom, ledger, HTTP, trigger."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

#: Integers beyond this do not survive a double: 2^53 + 1 becomes 2^53.
MAX_EXACT_INTEGER = 2**53


class Value(BaseModel):
    """A frozen, strict-shaped value. Unknown fields are refused, so a typo can never be silently dropped."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", allow_inf_nan=True, defer_build=True
    )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready dict (datetimes as ISO 8601), the form used in XCom, ledger entries and HTTP bodies."""
        plain: dict[str, Any] = finite(self.model_dump(mode="json"))
        return plain


class Recorded(Value):
    """A value that stands in ledger entries, and has grown since the first of them were written.

    A field of ``added_later`` is left out while it says nothing (``None``). So an entry from before the field existed
    is read back to the very text that its hash was taken of.
    """

    added_later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_it_was_written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if value is not None or name not in self.added_later}


def finite(payload: Any) -> Any:
    """``payload`` with infinities and NaN as text (``"Infinity"``), which JSON has no numbers for.

    Pydantic reads the text back into the number. An interval without an end is an ordinary fact, not an error.
    """
    match payload:
        case float() if not math.isfinite(payload):
            return "NaN" if math.isnan(payload) else "Infinity" if payload > 0 else "-Infinity"
        case dict():
            return {key: finite(value) for key, value in payload.items()}
        case list() | tuple():
            return [finite(value) for value in payload]
        case _:
            return payload


def canonical_json(payload: Any) -> bytes:
    """One byte string for one meaning: sorted keys, no spaces, UTF-8. The input of every digest."""
    return json.dumps(
        finite(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(payload: Any) -> str:
    """SHA-256 over :func:`canonical_json`, as 64 hex digits."""
    return hashlib.sha256(canonical_json(payload)).hexdigest()
