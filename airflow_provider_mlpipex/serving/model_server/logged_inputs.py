"""What the prediction log keeps of a request: its rows, as the client sent them wherever they were sent as rows."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

#: Columns, and for each row one value a column.
Rows = tuple[list[str], list[list[Any]]]


def logged_inputs(body: bytes, decoded: Any) -> Rows:
    """Inputs of a request that was answered.

    ``dataframe_split`` and ``dataframe_records`` are kept as they were sent, so that a column which a client sends as
    another type shows as that type. Of all other forms (``inputs``, ``instances``, CSV) the table that MLflow has read
    from them is kept: they have no rows of their own.

    :param decoded: what the model was given; nothing is kept of a request whose columns have no names.
    """
    return _sent_rows(body) or _table_rows(decoded) or ([], [])


def _sent_rows(body: bytes) -> Rows | None:
    try:
        payload = json.loads(body)
    except ValueError:
        return None
    if not isinstance(payload, dict):
        return None
    split, records = payload.get("dataframe_split"), payload.get("dataframe_records")
    if isinstance(split, dict) and isinstance(split.get("data"), list) and isinstance(split.get("columns"), list):
        return [str(column) for column in split["columns"]], split["data"]
    if isinstance(records, list):
        return _records(records)
    return None


def _records(records: list[Any]) -> Rows | None:
    if not records or not all(isinstance(row, dict) for row in records):
        return None
    # A client may leave out what is missing, and need not do so in its first row.
    columns = list(dict.fromkeys(str(column) for row in records for column in row))
    return columns, [[_plain(row.get(column)) for column in columns] for row in records]


def _table_rows(decoded: Any) -> Rows | None:
    """Of a table, of columns by their names, of one row by its names, or of a list of such rows."""
    if isinstance(decoded, list):
        return _records(decoded)
    if isinstance(decoded, dict):
        columns = {str(name): _values(column) for name, column in decoded.items()}
    elif hasattr(decoded, "columns") and all(isinstance(name, str) for name in decoded.columns):
        columns = {name: decoded[name].tolist() for name in decoded.columns}
    else:
        return None
    if not columns or len({*map(len, columns.values())}) > 1:
        return None
    return list(columns), [[_plain(value) for value in row] for row in zip(*columns.values(), strict=True)]


def _values(column: Any) -> list[Any]:
    values = column.tolist() if hasattr(column, "tolist") else column
    return values if isinstance(values, list) else [values]


def _plain(value: Any) -> Any:
    """A value as JSON would say it. ``NaT``, ``NA`` and NaN do not equal themselves, or refuse to say."""
    if isinstance(value, (str, bool, int, list, dict)) or value is None:
        return value
    if type(value).__name__ == "NAType" or value != value:
        return None
    return value.isoformat() if isinstance(value, datetime) else value
