"""From cells of a request to the very frame that the model learned from, column by column: values, gaps and dtypes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.release.inputs import INPUTS_PATH, InputColumn, ModelInputs
from airflow_provider_mlpipex.serving.model_server.request_rows import CsvCell, UnfitRequest

if TYPE_CHECKING:
    import pandas as pd

_FLAG_TEXTS = {"true": True, "false": False, "1": True, "0": False}
#: A float that is farther from 0 does not hold every integer.
_EXACT_IN_DOUBLE = 2**53


def read_inputs(folder: Path) -> ModelInputs | None:
    """The inputs of a model directory; ``None`` for one that was registered without them."""
    try:
        return ModelInputs.model_validate_json((folder / INPUTS_PATH).read_bytes())
    except FileNotFoundError:
        return None


def frame_of(cells: Mapping[str, list[Any]], inputs: ModelInputs) -> pd.DataFrame:
    """The frame of ``cells``, as pandas held such rows when the model learned from them.

    :raises UnfitRequest: a value that its column cannot hold, named by column, kind and row.
    """
    import pandas as pd

    made = {column.name: _READERS[column.kind](cells[column.name], column) for column in inputs.columns}
    return pd.DataFrame(made, copy=False)


def cells_of(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """Cells that a client would send for ``rows``: missing as ``None``, moments as ISO 8601, plain Python values."""
    return {str(name): [_cell(value) for value in rows[name].tolist()] for name in rows.columns}


def request_of(cells: Mapping[str, list[Any]]) -> dict[str, Any]:
    """A request in the form that most clients use."""
    return {
        "dataframe_split": {"columns": list(cells), "data": [list(row) for row in zip(*cells.values(), strict=True)]}
    }


def beyond_training(frame: pd.DataFrame, inputs: ModelInputs) -> str:
    """What in ``frame`` the model was never shown, by column; empty where a failure on it is the model's own.

    New texts do not count: they come every day, and a model must bear them.
    """
    odd = []
    for column in inputs.columns:
        values = frame[column.name]
        if not column.gaps and values.isna().any():
            odd.append(f"{column.name} (missing)")
        elif (
            column.low is not None
            and column.high is not None
            and ((values < column.low) | (values > column.high)).any()
        ):
            odd.append(f"{column.name} (out of the range of training)")
    return ", ".join(odd)


def _cell(value: Any) -> Any:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _integers(values: list[Any], column: InputColumn) -> Any:
    import numpy as np

    if {*map(type, values)} != {int}:
        values = _each(values, column, _integer, gaps=column.nullable)
    limits = np.iinfo(column.dtype.lower())
    present = [value for value in values if value is not None] if column.nullable else values
    if present and (min(present) < limits.min or max(present) > limits.max):
        row = _first(values, lambda value: value is not None and not limits.min <= value <= limits.max)
        raise _unfit(column, f"a whole number from {limits.min} to {limits.max}", row)
    return _as(np.array(values, dtype=object if column.nullable else column.dtype), column)


def _integer(value: Any) -> int | None:
    if isinstance(value, CsvCell):
        return int(value) if value.strip().lstrip("+-").isdecimal() else _integer(float(value))
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not (value.is_integer() and abs(value) <= _EXACT_IN_DOUBLE):
        return None
    return int(value)


def _numbers(values: list[Any], column: InputColumn) -> Any:
    import numpy as np

    if not {*map(type, values)} <= {float, int, type(None)}:
        values = _each(values, column, _number, gaps=True)
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        array = np.array([math.inf])
    if np.isinf(array).any():
        raise _unfit(column, "a finite number", _first(values, lambda v: v is not None and not _finite(v)))
    narrow = array.astype(column.dtype.lower(), copy=False)
    if np.isinf(narrow).any():
        raise _unfit(column, f"a number of {column.dtype}", int(np.isinf(narrow).argmax()))
    return narrow if str(narrow.dtype) == column.dtype else _as(_none_for_nan(narrow), column)


def _none_for_nan(array: Any) -> Any:
    return (
        array.astype(object)
        if not math.isnan(array.sum())
        else [None if value != value else value for value in array.tolist()]
    )


def _number(value: Any) -> float | None:
    if isinstance(value, CsvCell):
        return float(value)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _flags(values: list[Any], column: InputColumn) -> Any:
    import numpy as np

    if not {*map(type, values)} <= {bool, type(None)} or (not column.takes_gaps and None in values):
        values = _each(values, column, _flag, gaps=column.takes_gaps)
    return _as(np.array(values, dtype=object if column.takes_gaps else bool), column)


def _flag(value: Any) -> bool | None:
    if isinstance(value, CsvCell):
        return _FLAG_TEXTS.get(value.strip().lower())
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def _texts(values: list[Any], column: InputColumn) -> Any:
    import numpy as np

    if not _whole_texts(values):
        values = _each(values, column, _text, gaps=True)
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _whole_texts(values: list[Any]) -> bool:
    """Whether nothing but texts and gaps is here, and no half of a character among them."""
    if not {*map(type, values)} <= {str, type(None)}:
        return False
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) and _whole_texts([str(value)]) else None


def _categories(values: list[Any], column: InputColumn) -> Any:
    import pandas as pd

    values = _each(values, column, _text, gaps=True)
    # A category that training did not have stays what it is: whether that is worth an answer, the model says.
    new = dict.fromkeys(value for value in values if value is not None)
    for known in column.categories:
        new.pop(known, None)
    return pd.Categorical(values, categories=[*column.categories, *new], ordered=column.ordered)


def _times(values: list[Any], column: InputColumn) -> Any:
    import pandas as pd

    values = _each(values, column, _moment, gaps=True)
    try:
        moments = pd.to_datetime(pd.Series(values, dtype=object), utc=True, format="ISO8601")
        zone = getattr(pd.api.types.pandas_dtype(column.dtype), "tz", None)
        placed = moments.dt.tz_convert(zone) if zone is not None else moments.dt.tz_localize(None)
        return placed.astype(column.dtype)
    except (ValueError, OverflowError):
        raise _unfit(column, "a moment as ISO 8601 text", None) from None


def _moment(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, str) and len(value) <= 64 else None


def _each(values: list[Any], column: InputColumn, read: Callable[[Any], Any], *, gaps: bool) -> list[Any]:
    """``values`` read one by one; a gap is ``None`` or NaN, and :class:`UnfitRequest` where the column takes none."""
    made: list[Any] = []
    for at, value in enumerate(values):
        if value is None or (isinstance(value, float) and value != value):
            if not gaps:
                why = "no value, and the model was trained without gaps here"
                raise UnfitRequest(f"column {column.name} in row {at}: {why}")
            made.append(None)
            continue
        try:
            cell = read(value)
        except (ValueError, OverflowError):
            cell = None
        if cell is None:
            raise _unfit(column, _WANTED[column.kind], at)
        made.append(cell)
    return made


def _as(array: Any, column: InputColumn) -> Any:
    """``array`` in a dtype of pandas' own (``Int64``, ``boolean``), where the column has one."""
    if str(getattr(array, "dtype", "")) == column.dtype:
        return array
    import pandas as pd

    return pd.array(array, dtype=column.dtype)


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _first(values: Sequence[Any], odd: Callable[[Any], bool]) -> int:
    return next(at for at, value in enumerate(values) if odd(value))


def _unfit(column: InputColumn, wanted: str, row: int | None) -> UnfitRequest:
    where = "" if row is None else f" in row {row}"
    return UnfitRequest(f"column {column.name}{where}: {wanted} is needed")


_WANTED = {
    "integer": "a whole number",
    "number": "a number",
    "flag": "true or false",
    "text": "a text",
    "category": "a text",
    "time": "a moment as ISO 8601 text",
}
_READERS: Mapping[str, Callable[[list[Any], InputColumn], Any]] = {
    "integer": _integers,
    "number": _numbers,
    "flag": _flags,
    "text": _texts,
    "category": _categories,
    "time": _times,
}


def dump(payload: Any) -> bytes:
    """``payload`` as a client writes it."""
    return json.dumps(payload, allow_nan=False).encode()
