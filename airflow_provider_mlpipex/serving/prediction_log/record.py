"""One record of the prediction log: its fields, how each is read, and what stands for a field that was left out.

A record is one line of JSON, one row that was asked for. The model server writes it; whoever reads takes the fields
that it needs from here, so that no two readers can hold different pictures of one log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Field(NamedTuple):
    """One field.

    :param sql: its type for DuckDB.
    :param by_client: it repeats what a client sent or a model answered, so it may be anything that JSON can say.
    """

    sql: str
    by_client: bool = False


#: ``t``: when it was answered, epoch seconds. ``rid``: request id, with ``#1`` for the second row of a request; that
#: row has ``row`` 1, and the first has none. ``client_rid``: what the client called its request, joined to nothing.
#: ``ms``: until the answer was there. ``shadow``: no client has seen it. ``columns`` and ``inputs``: names and values
#: of the row. ``output``, ``kind``, ``score``, ``label``, ``outputs``: the answer, see :mod:`outputs`. ``keys``: by
#: which entity features were looked up. ``dropped``: a line that has it is no row, but says how many rows are missing.
FIELDS: Mapping[str, Field] = {
    "t": Field("DOUBLE"),
    "rid": Field("VARCHAR"),
    "client_rid": Field("VARCHAR", by_client=True),
    "row": Field("INTEGER"),
    "release": Field("VARCHAR"),
    "status": Field("INTEGER"),
    "ms": Field("DOUBLE"),
    "batch": Field("VARCHAR"),
    "shadow": Field("BOOLEAN"),
    "columns": Field("JSON", by_client=True),
    "inputs": Field("JSON", by_client=True),
    "output": Field("JSON", by_client=True),
    "kind": Field("VARCHAR"),
    "score": Field("DOUBLE"),
    "label": Field("VARCHAR"),
    "outputs": Field("DOUBLE[]", by_client=True),
    "keys": Field("JSON", by_client=True),
    "looked_up_at": Field("DOUBLE"),
    "dropped": Field("BIGINT"),
}
#: Fields that the server itself fills: a record whose other fields cannot be written is kept with these.
SERVER_FIELDS = tuple(name for name, field in FIELDS.items() if not field.by_client)
#: Label and output of a record in DuckDB's SQL: a plain number leaves out both, for it is its own.
LABEL = "coalesce(label, score::VARCHAR)"
OUTPUT = "CASE WHEN label IS NULL THEN coalesce(output, to_json(score)) ELSE output END"


def records_in_sql(*fields: str, paths: str = "?", **other_types: str) -> str:
    """A table function of DuckDB: the records of the segments whose paths are the parameter ``paths``.

    A line that is no record, torn by a crash, has ``NULL`` in every field.

    :param fields: those that are needed, in this order.
    :param other_types: field -> a type to read it as instead of its own.
    """
    typed = {name: other_types.get(name, FIELDS[name].sql) for name in fields}
    columns = ", ".join(f"{name}: {kind!r}" for name, kind in typed.items())
    return f"read_json({paths}, format='newline_delimited', ignore_errors=true, columns={{{columns}}})"
