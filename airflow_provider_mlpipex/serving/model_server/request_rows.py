"""The rows of one ``/invocations`` request, in every form that MLflow takes: cells by column, as they were sent.

Whatever a client can send ends here as rows or as :class:`UnfitRequest`, which is the client's to mend. Its message
names columns and rows by number, never a value.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

JSON, CSV, PARQUET = "application/json", "text/csv", "application/x-parquet"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_SHOWN = 5
#: Rows of one request, and cells of all its rows: a body of 186 KB that names only empty rows cost 1.8 GB.
MAX_ROWS, MAX_CELLS = 100_000, 1_000_000
#: A smaller body is not counted before it is read: it cannot hold enough rows.
_COUNTED_BYTES = 2 * MAX_ROWS


class UnfitRequest(ValueError):
    """A request that cannot be answered, whatever the model is.

    :param status: HTTP status, 4xx. :param code: MLflow's name of it.
    """

    def __init__(self, message: str, *, status: int = 400, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class RequestRows:
    """``cells``: column of the model -> one value a row. Columns that the model does not know are left out.

    :param typed: whether the form says what is a number and what a text, as JSON does and CSV does not.
    """

    cells: Mapping[str, list[Any]]
    params: Mapping[str, Any] = field(default_factory=dict)
    typed: bool = True

    @property
    def count(self) -> int:
        return len(next(iter(self.cells.values())))

    def rows(self) -> list[list[Any]]:
        return [list(row) for row in zip(*self.cells.values(), strict=True)]


def read_request(body: bytes, content_type: str | None, columns: Sequence[str]) -> RequestRows:
    """The rows of ``body`` for a model of ``columns``.

    :raises UnfitRequest: another content type, no such form, a column that is missing or there twice, ragged rows.
    """
    kind = _mime_type(content_type)
    if kind == JSON:
        return _from_json(body, columns)
    if kind == CSV:
        require_few(body.count(b"\n"), len(columns))
        return RequestRows(_from_table(*_read_csv(body), columns), typed=False)
    if kind == PARQUET:
        return RequestRows(_from_cells(_read_parquet(body, len(columns)), columns), typed=False)
    raise UnfitRequest(
        f"the content type is one of {JSON}, {CSV}, {PARQUET}", status=415, code="INVALID_PARAMETER_VALUE"
    )


def read_json(body: bytes) -> Any:
    """``body`` as JSON; ``NaN`` and integers of any size as Python writes them.

    :raises UnfitRequest: it is none.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UnfitRequest("the body is not JSON in UTF-8") from None


def params_of(body: bytes, content_type: str | None) -> Mapping[str, Any]:
    """``params`` of a JSON request; empty where it has none, or is no such request."""
    if _mime_type(content_type, strict=False) != JSON or b"params" not in body:
        return {}
    try:
        payload = read_json(body)
    except UnfitRequest:
        return {}
    params = payload.get("params") if isinstance(payload, dict) else None
    return params if isinstance(params, dict) else {}


def require_params(model: Any, params: Mapping[str, Any]) -> None:
    """:raises UnfitRequest: ``params`` that nobody would hear."""
    schema = model.metadata.get_params_schema()
    known = {spec.name for spec in schema.params} if schema else set()
    if set(params) - known:
        named = f"only the params {', '.join(sorted(known))}" if known else "no params"
        raise UnfitRequest(f"the model takes {named}; nothing was predicted")


def require_few_rows(body: bytes, content_type: str | None, columns: int) -> None:
    """For whoever leaves the reading of ``body`` to MLflow, which reads any number of rows.

    :raises UnfitRequest: there are more than one request may have.
    """
    kind = _mime_type(content_type, strict=False)
    if kind == CSV:
        require_few(body.count(b"\n"), columns)
    if kind != JSON or len(body) * columns < _COUNTED_BYTES:
        return
    payload = read_json(body)
    for form in FORMS if isinstance(payload, dict) else ():
        sent = payload.get(form)
        rows = sent.get("data") if form == "dataframe_split" and isinstance(sent, dict) else sent
        if isinstance(rows, list):
            # A tensor's rows are as wide as they are; its cells are in the body, which has a limit of its own.
            require_few(len(rows), columns if rows and isinstance(rows[0], dict) else 1)


def require_few(rows: int, columns: int) -> None:
    """:raises UnfitRequest: more rows than one request may have, or more cells."""
    limit = min(MAX_ROWS, MAX_CELLS // max(1, columns))
    if rows > limit:
        raise UnfitRequest(
            f"{rows} rows are too many for one request: of {columns} columns it may have {limit}; send them in parts",
            status=413,
            code="REQUEST_TOO_LARGE",
        )


def _mime_type(content_type: str | None, *, strict: bool = True) -> str:
    kind, *parameters = [part.strip() for part in (content_type or "").split(";")]
    for parameter in filter(None, parameters) if strict else ():
        name, _, value = parameter.partition("=")
        if name != "charset" or value.strip('"').lower() != "utf-8":
            raise UnfitRequest("the content type has no parameter but charset=utf-8", status=415)
    return kind


def _from_json(body: bytes, columns: Sequence[str]) -> RequestRows:
    payload = read_json(body)
    forms = [form for form in FORMS if isinstance(payload, dict) and form in payload]
    if len(forms) != 1:
        raise UnfitRequest(f"the body is an object with exactly one of {', '.join(FORMS)}")
    (form,) = forms
    params = payload.get("params") or {}
    if not isinstance(params, dict):
        raise UnfitRequest("params is an object")
    sent = payload[form]
    if form == "dataframe_split":
        cells = _from_split(sent, columns)
    elif isinstance(sent, dict) and form == "inputs":
        cells = _from_cells(sent, columns)
    else:
        cells = _from_records(sent, form, columns)
    return RequestRows(cells, params)


def _from_split(sent: Any, columns: Sequence[str]) -> dict[str, list[Any]]:
    if not isinstance(sent, dict) or not isinstance(sent.get("data"), list):
        raise UnfitRequest("dataframe_split is an object with columns and data")
    return _from_table(sent.get("columns"), sent["data"], columns)


def _from_table(header: Any, data: list[Any], columns: Sequence[str]) -> dict[str, list[Any]]:
    if not isinstance(header, list) or not all(isinstance(name, str) for name in header):
        raise UnfitRequest(f"columns are texts, in the order of each row's values; the model takes {_named(columns)}")
    if len(set(header)) != len(header):
        raise UnfitRequest("a column is named twice")
    _require(header, columns)
    if not data:
        raise UnfitRequest("no rows")
    require_few(len(data), len(columns))
    for at, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(header):
            raise UnfitRequest(f"row {at} is not a list of {len(header)} values, one for each column")
    places = {name: header.index(name) for name in columns}
    return {name: [row[place] for row in data] for name, place in places.items()}


def _from_records(sent: Any, form: str, columns: Sequence[str]) -> dict[str, list[Any]]:
    if not isinstance(sent, list) or not sent or not all(isinstance(row, dict) for row in sent):
        raise UnfitRequest(f"{form} is a list of objects, one a row, and at least one")
    require_few(len(sent), len(columns))
    # A record may leave out what it has no value for, but not every one of them: that is a forgotten column.
    given: dict[str, None] = {name: None for row in sent for name in row}
    _require(given, columns)
    return {name: [row.get(name) for row in sent] for name in columns}


def _from_cells(sent: Mapping[str, Any], columns: Sequence[str]) -> dict[str, list[Any]]:
    _require(sent, columns)
    cells = {name: sent[name] if isinstance(sent[name], list) else [sent[name]] for name in columns}
    lengths = {len(values) for values in cells.values()}
    require_few(max(lengths, default=0), len(columns))
    if len(lengths) != 1 or lengths == {0}:
        raise UnfitRequest("columns are lists of one length, and at least one row")
    return cells


def _require(given: Any, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in given]
    if missing:
        raise UnfitRequest(f"missing columns: {_named(missing)}; the model takes {_named(columns)}")


def _read_csv(body: bytes) -> tuple[list[Any], list[list[Any]]]:
    """Header and rows; an empty cell is a missing value, any other is text that its column reads."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise UnfitRequest("the body is not CSV in UTF-8") from None
    if not lines:
        raise UnfitRequest("no header")
    header, *rows = lines
    return list(header), [[CsvCell(cell) if cell else None for cell in row] for row in rows if row]


class CsvCell(str):
    """A cell of a CSV body: text, where a JSON value would have said what it is."""

    __slots__ = ()


def _read_parquet(body: bytes, columns: int) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        # A few bytes can say a million rows.
        require_few(file.metadata.num_rows, max(columns, file.metadata.num_columns))
        return file.read().to_pydict()  # type: ignore[no-any-return]
    except UnfitRequest:
        raise
    except (pa.ArrowException, OSError, ValueError):
        raise UnfitRequest("the body is not Parquet") from None


def _named(columns: Sequence[str]) -> str:
    more = len(columns) - _SHOWN
    return ", ".join(columns[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
