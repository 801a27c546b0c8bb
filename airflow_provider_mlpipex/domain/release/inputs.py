"""The inputs of a model as its training rows had them: what a model server rebuilds from a request, column by column.

MLflow's signature alone does not say enough. A flag with unknowns and a flag without are both ``boolean``, a category
and a text both ``string``: read by the signature, an unknown flag becomes ``False`` and a category loses its dtype, so
the model answers otherwise than when it was evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_mlpipex.domain.values import Value

if TYPE_CHECKING:
    import pandas as pd

#: ``integer``: whole numbers without gaps. ``number``: floating point, gaps as NaN. ``flag``: true or false.
#: ``time``: timestamps.
Kind = Literal["integer", "number", "flag", "text", "category", "time"]

#: Inside the model directory, and so under the artifact's digest.
INPUTS_PATH = Path("mlpipex/inputs.json")
SERVABLE = "numbers, flags, text, categories of text, or timestamps"


class Unservable(ValueError):
    """A column that no request can carry; the message says what it holds, without a value of it."""


class InputColumn(Value):
    """One input.

    :param dtype: the pandas dtype that the model learned from: ``int64``, ``object``, ``datetime64[us, UTC]``.
    :param gaps: whether training or evaluation rows lacked a value here.
    :param categories: of a category, in the order of their codes; ``ordered`` as pandas has it.
    :param low: least finite number in these rows, ``high`` the greatest; ``None`` for what is no number.
    """

    name: str
    kind: Kind
    dtype: str
    gaps: bool = False
    categories: tuple[str, ...] = ()
    ordered: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def takes_gaps(self) -> bool:
        """Whether the dtype can hold a missing value at all: ``int64`` and ``bool`` cannot, ``Int64`` can."""
        return self.kind in ("number", "text", "category", "time") or self.nullable

    @property
    def nullable(self) -> bool:
        """Whether the dtype is one in which pandas marks missing values of integers and flags."""
        return self.dtype in ("object", "boolean") or self.dtype[:1].isupper()


class ModelInputs(Value):
    """All inputs of one model, in its order. ``format`` grows with what a model server must know to read them."""

    format: Literal[1] = 1
    columns: tuple[InputColumn, ...]


def describe_inputs(rows: pd.DataFrame) -> ModelInputs:
    """The inputs that ``rows``, all of training and evaluation, are made of.

    :raises Unservable: naming the first column that no request can carry.
    """
    return ModelInputs(columns=tuple(describe_column(rows[name]) for name in rows.columns))


def describe_column(column: pd.Series) -> InputColumn:
    """:raises Unservable: it holds lists, bytes, decimals, mixed types, infinities or the like."""
    name, dtype = str(column.name), column.dtype
    kind = _kind(column)
    facts: dict[str, Any] = {}
    if kind == "category":
        facts = {"categories": tuple(dtype.categories), "ordered": bool(dtype.ordered)}
    elif kind in ("integer", "number"):
        facts = _bounds(column)
    return InputColumn(name=name, kind=kind, dtype=_dtype_name(column, kind), gaps=bool(column.isna().any()), **facts)


def _kind(column: pd.Series) -> Kind:
    dtype = column.dtype
    if hasattr(dtype, "categories"):
        odd = _type_names(category for category in dtype.categories if not isinstance(category, str))
        if odd:
            raise Unservable(f"column {column.name}: categories of {odd}")
        return "category"
    by_dtype: dict[str, Kind] = {"i": "integer", "u": "integer", "f": "number", "b": "flag", "M": "time"}
    letter = getattr(dtype, "kind", "O")
    if letter in by_dtype and str(dtype) not in ("uint64", "UInt64", "float128"):
        return by_dtype[letter]
    if letter != "O" or str(dtype).startswith(("period", "interval", "Sparse")):
        raise Unservable(f"column {column.name}: {dtype} values")
    present = column[column.notna()]
    types = {kind.__name__ for kind in {*map(type, present)}}
    if types <= {"bool", "bool_"} and types:
        return "flag"
    # A column without a single value is taken for text: there is nothing that says otherwise.
    if types <= {"str", "str_"}:
        return "text"
    raise Unservable(f"column {column.name}: {_type_names(present)} values")


def _dtype_name(column: pd.Series, kind: Kind) -> str:
    # Text is text, whichever of pandas' text types holds it.
    return {"text": "object", "category": "category"}.get(kind, str(column.dtype))


def _bounds(column: pd.Series) -> dict[str, Any]:
    import math

    present = column[column.notna()]
    if not len(present):
        return {}
    low, high = float(present.min()), float(present.max())
    if math.isinf(low) or math.isinf(high):
        infinite = int((present.abs() == math.inf).sum())
        raise Unservable(f"column {column.name}: {infinite} infinite values, which JSON has no number for")
    return {"low": low, "high": high}


def _type_names(values: Iterable[Any]) -> str:
    return " and ".join(sorted({type(value).__name__ for value in values}))
