"""Reading one column's values, whatever arrives: every row ends as usable, or as one of five kinds of unusable.

Nothing is converted that training did not hold: text that looks like a number is a retyped column, not a number.
"""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airflow_provider_mlpipex.domain.drift.sketches import Floats
from airflow_provider_mlpipex.domain.errors import SketchUnusable

#: A column as callers have it: an array, a masked array whose mask says null, a pandas or Arrow column, or a list.
Values = ArrayLike | Sequence[Any]
LabelKind = Literal["text", "number", "flag", "nested"]
#: Longer categories are cut and told apart by a hash, so that a column of documents stays bounded.
MAX_LABEL_LENGTH = 128
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Types that an object column may hold to be converted at once; None becomes NaN there, and is told apart before.
_PLAIN = frozenset({int, float, bool, np.float64, np.float32, np.int64, np.int32, np.bool_, type(None)})


class Column(NamedTuple):
    """One value a row, and where the table knows nulls beside values, ``mask``: true on nulls."""

    array: NDArray[Any]
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A column read as numbers.

    :param values: one a row; only those where ``usable`` mean anything.
    :param usable: finite numbers.
    """

    values: Floats
    usable: NDArray[np.bool_]
    missing: int = 0
    nan: int = 0
    infinite: int = 0
    unreadable: int = 0

    @property
    def finite(self) -> Floats:
        return self.values if self.usable.all() else self.values[self.usable]


class Label(NamedTuple):
    """A value read as a category; ``outside`` says why it is none. A tuple, because a column may hold a million."""

    text: str = ""
    kind: LabelKind = "text"
    outside: Literal["", "missing", "nan", "unreadable"] = ""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A column read as categories: each distinct value once, with the rows that hold it."""

    values: Sequence[Any]
    distinct: Mapping[Any, int]

    def numbered(self, number: Mapping[Any, int]) -> NDArray[np.int64]:
        """``number[value]`` of every row."""
        return np.fromiter(map(number.__getitem__, self.values), dtype=np.int64, count=len(self.values))


def as_column(raw: Values, *, name: str) -> Column:
    """``raw`` as a column; a masked array brings its mask.

    Lists keep the types of their elements. Rows of a two-dimensional array become lists, which nothing can read.

    :raises SketchUnusable: it has no rows to count (a scalar).
    """
    mask: NDArray[np.bool_] | None = None
    if isinstance(raw, np.ma.MaskedArray):
        mask = np.array(np.ma.getmaskarray(raw), dtype=np.bool_)
        raw = np.ma.getdata(raw)
    if hasattr(raw, "__array__"):
        array = np.asarray(raw)
    elif isinstance(raw, Iterable) and not isinstance(raw, str | bytes):
        rows = list(raw)
        array = np.fromiter(rows, dtype=object, count=len(rows))
    else:
        array = np.asarray(None)
    if array.ndim == 0:
        raise SketchUnusable(
            f"column {name}", value=type(raw).__name__, limit="one value a row", remedy="give an array or a list"
        )
    if array.ndim > 1:
        mask = None if mask is None else np.asarray(mask.all(axis=tuple(range(1, array.ndim))))
        array = np.fromiter(array.tolist(), dtype=object, count=len(array))
    return Column(array, mask)


def is_numeric(column: Column) -> bool:
    """Whether a training column is numeric: by its type, or because every value that is there is a number."""
    array, mask = column
    if array.dtype.kind != "O":
        return array.dtype.kind in "biufmM"
    values = array if mask is None else array[~mask]
    if str in set(map(type, values.tolist())):
        return False
    read = _read_objects(values)
    return read.unreadable == 0 and (bool(read.usable.any()) or read.nan + read.infinite > 0)


def read_numbers(column: Column) -> Numbers:
    """Every row as a number; moments in time as seconds since 1970."""
    array, mask = column
    if mask is not None and mask.any():
        rest = read_numbers(Column(array[~mask]))
        values, usable = np.zeros(len(array)), np.zeros(len(array), dtype=bool)
        values[~mask], usable[~mask] = rest.values, rest.usable
        return Numbers(
            values=values,
            usable=usable,
            missing=rest.missing + int(mask.sum()),
            nan=rest.nan,
            infinite=rest.infinite,
            unreadable=rest.unreadable,
        )
    match array.dtype.kind:
        case "b" | "i" | "u":
            return Numbers(values=array.astype(np.float64), usable=np.ones(len(array), dtype=bool))
        case "f":
            with np.errstate(over="ignore"):  # a long double beyond every float is infinite
                return _read_floats(array.astype(np.float64, copy=False), missing=None)
        case "m" | "M":
            missing = np.isnat(array)
            unit = "datetime64[us]" if array.dtype.kind == "M" else "timedelta64[us]"
            return _read_floats(array.astype(unit).astype(np.int64) / 1e6, missing=missing)
        case "O":
            return _read_objects(array)
        case _:
            return Numbers(values=np.zeros(len(array)), usable=np.zeros(len(array), dtype=bool), unreadable=len(array))


def holds_moments(column: Column) -> bool:
    """Whether a training column is of moments: by its type, or because every value that is there is a date or time."""
    array, mask = column
    if array.dtype.kind != "O":
        return array.dtype.kind == "M"
    values = array if mask is None else array[~mask]
    given = [value for value in values.tolist() if value is not None and not _not_itself(value)]
    return bool(given) and all(isinstance(value, date) for value in given)


def read_moments(column: Column) -> Numbers:
    """Every row of a column of moments as seconds since 1970; without a zone they are taken as UTC.

    JSON has no moments, so clients send them as ISO 8601, and text of that form is one. A number is none: nobody could
    say whether it counts seconds or nanoseconds.
    """
    array, mask = column
    if array.dtype.kind == "M":
        return read_numbers(column)
    values = array.tolist()
    hidden = [False] * len(values) if mask is None else mask.tolist()
    moments = [None if gone else _moment(value) for value, gone in zip(values, hidden, strict=True)]
    seconds = np.array([moment if isinstance(moment, float) else 0.0 for moment in moments], dtype=np.float64)
    usable = np.fromiter((isinstance(moment, float) for moment in moments), dtype=bool, count=len(moments))
    missing = sum(moment is None for moment in moments)
    return Numbers(
        values=seconds, usable=usable, missing=missing, unreadable=len(moments) - missing - int(usable.sum())
    )


def moment_text(seconds: float) -> str:
    """A moment as people read it, to the second; where no calendar reaches, the number of seconds."""
    try:
        moment = datetime.fromtimestamp(seconds, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.6g} s"
    return f"{moment:%Y-%m-%d}" if moment.time() == time() else f"{moment:%Y-%m-%d %H:%M:%S}"


def _moment(value: Any) -> float | Literal["unreadable"] | None:
    """Seconds since 1970; ``None`` where nothing is."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return "unreadable"
    if value is None or _not_itself(value):
        return None
    if isinstance(value, np.datetime64):
        return float(value.astype("datetime64[us]").astype(np.int64)) / 1e6
    if isinstance(value, datetime):
        # By its parts: pandas' own moments would come out a hair off those of the same text.
        clock = (value.hour, value.minute, value.second, value.microsecond)
        local = datetime(value.year, value.month, value.day, *clock, tzinfo=UTC)
        return (local - _EPOCH - (value.utcoffset() or timedelta())).total_seconds()
    if isinstance(value, date):
        return (datetime(value.year, value.month, value.day, tzinfo=UTC) - _EPOCH).total_seconds()
    return "unreadable"


def read_labels(column: Column) -> Labels:
    """Every distinct value with its rows; :func:`label_of` says what a value is."""
    array, mask = column
    values: list[Any]
    if array.dtype.kind in "mM":
        values = array.astype(str).tolist()
        values = [None if value == "NaT" else value for value in values]
    else:
        values = array.tolist()
    if mask is not None:
        values = [None if hidden else value for value, hidden in zip(values, mask.tolist(), strict=True)]
    try:
        return Labels(values=values, distinct=Counter(values))
    except TypeError:  # a list or a dict among them
        values = [value if _hashable(value) else _Nested(_nested_text(value)) for value in values]
        return Labels(values=values, distinct=Counter(values))


def label_of(value: Any) -> Label:
    """``value`` as a category. Whole floats are written like integers: a column with nulls changes its type."""
    match value:
        case str():
            return Label(text=_bounded(value))
        case _Nested():
            return Label(text=_bounded(value.text), kind="nested")
        case tuple():
            return Label(text=_bounded(_nested_text(value)), kind="nested")
        case bool() | np.bool_():
            return Label(text="true" if value else "false", kind="flag")
        case date() | time() | UUID() if not _not_itself(value):
            return Label(text=str(value))
        case int() | np.integer():
            return Label(text=_bounded(_digits(int(value))), kind="number")
        case numbers.Real() | Decimal():
            return _number_label(value)
    return Label(outside="missing" if value is None or _not_itself(value) else "unreadable")


def _number_label(value: numbers.Real | Decimal) -> Label:
    number = _number(value)
    if not isinstance(number, float) or math.isnan(number):
        return Label(outside="nan")
    if math.isinf(number):
        return Label(text=repr(number), kind="number")
    return Label(text=_bounded(_digits(int(number))) if number.is_integer() else repr(number), kind="number")


def _digits(number: int) -> str:
    # Python refuses to write decimals of thousands of digits, and nobody would read them.
    return str(number) if number.bit_length() < 8192 else hex(number)


class _Nested(NamedTuple):
    """A list or a dict of a column: no dictionary takes it as a key, but the text that says the same."""

    text: str


def _nested_text(value: Any) -> str:
    """The same for the same values, whether they come as arrays, tuples or lists, as floats or as integers."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        items = sorted((str(name), _nested_text(inner)) for name, inner in value.items())
        return f"{{{', '.join(f'{name}: {text}' for name, text in items)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(map(_nested_text, value))}]"
    return label_of(value).text or "null"


def _hashable(value: Any) -> bool:
    if not isinstance(value, Hashable):
        return False
    try:
        hash(value)
    except TypeError:  # a tuple that holds a list
        return False
    return True


def _not_itself(value: Any) -> bool:
    """Whether ``value`` is a null of some library: one that does not equal itself, or refuses to say."""
    try:
        return bool(value != value)
    except TypeError:
        return True
    except ValueError:  # an array: several answers
        return False


def _bounded(text: str) -> str:
    if not text.isascii():  # half of a surrogate pair would fit no JSON
        text = text.encode("utf-8", "replace").decode()
    if len(text) <= MAX_LABEL_LENGTH:
        return text
    return f"{text[: MAX_LABEL_LENGTH - 18]}… {blake2b(text.encode(), digest_size=8).hexdigest()}"


def _read_floats(values: Floats, *, missing: NDArray[np.bool_] | None) -> Numbers:
    usable = np.isfinite(values)
    if missing is not None:
        usable &= ~missing
    gone = 0 if missing is None else int(missing.sum())
    if usable.all():
        return Numbers(values=values, usable=usable)
    nan = np.isnan(values) if missing is None else np.isnan(values) & ~missing
    nans = int(nan.sum())
    return Numbers(
        values=values,
        usable=usable,
        missing=gone,
        nan=nans,
        infinite=len(values) - int(usable.sum()) - nans - gone,
    )


def _read_objects(array: NDArray[Any]) -> Numbers:
    values = array.tolist()
    types = set(map(type, values))
    if types <= _PLAIN:
        missing = np.fromiter((value is None for value in values), dtype=bool, count=len(values))
        try:
            return _read_floats(array.astype(np.float64), missing=missing)
        except OverflowError:  # an integer beyond every float: told apart one by one
            pass
    codes = [_number(value) for value in values]
    missing, unreadable = (
        np.fromiter((code == kind for code in codes), dtype=bool, count=len(codes))
        for kind in ("missing", "unreadable")
    )
    floats = np.array([code if isinstance(code, float) else 0.0 for code in codes], dtype=np.float64)
    read = _read_floats(floats, missing=missing | unreadable)
    return replace(read, missing=int(missing.sum()), unreadable=int(unreadable.sum()))


def _number(value: Any) -> float | Literal["missing", "unreadable"]:
    if not isinstance(value, numbers.Real | Decimal | np.bool_):
        return "missing" if value is None or _not_itself(value) else "unreadable"
    try:
        return float(value)
    except OverflowError:  # an integer or a fraction beyond every float
        return math.inf if bool(np.greater(value, 0)) else -math.inf  # type: ignore[arg-type]
    except ValueError:  # a signalling NaN
        return math.nan
