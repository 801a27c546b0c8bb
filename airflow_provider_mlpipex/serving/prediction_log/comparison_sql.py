"""The SQL of a paired comparison: both prediction logs read once, joined on request id, counted in DuckDB.

``current`` and ``shadow`` hold one row an id: the first answer, or the error where there was none. Ids are kept as MD5,
which is 16 bytes whatever a client has sent. ``paired`` holds one row for each record of the shadow, with what the
current release said to the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_mlpipex.domain.shadow.comparison import QUANTILES, TOLERANCE
from airflow_provider_mlpipex.domain.shadow.slices import MAX_VALUE_LENGTH, MAX_VALUES, MIN_PAIRS
from airflow_provider_mlpipex.serving.prediction_log.outputs import MAX_SCORE
from airflow_provider_mlpipex.serving.prediction_log.record import LABEL, records_in_sql

#: Fields of a record that are compared. ``row`` is missing in the first row of a request.
_FIELDS = ("t", "rid", "status", "ms", "row", "kind", "score", "label", "outputs", "dropped")
#: Where pairs are grouped by inputs: each value as text. Otherwise only whether two rows are the same is asked.
_INPUTS = {"columns": "VARCHAR[]", "inputs": "VARCHAR[]"}
_COLUMNS = (
    "id UHUGEINT, t DOUBLE, status INTEGER, ms FLOAT, whole BOOLEAN, record BOOLEAN, probability BOOLEAN, "
    "number BOOLEAN, numbers BOOLEAN, score DOUBLE, answer UBIGINT, outputs DOUBLE[], dropped BIGINT, input UBIGINT"
)


def make_log(name: str, slices: Sequence[str]) -> str:
    """An empty table for the records of one side."""
    return f"CREATE OR REPLACE TABLE {name} ({', '.join([_COLUMNS, *(f's{n} VARCHAR' for n in range(len(slices)))])})"


def read_log(name: str, slices: Sequence[str], *, inputs: bool) -> str:
    """Parameters: paths, the names of ``slices``, first and last moment. Lines that are no record have no ``t``.

    :param inputs: whether rows are told apart by what was asked; ``input`` is NULL of a row of which nobody knows it.
    """
    types = _INPUTS if slices else {}
    records = records_in_sql(*_FIELDS, *(_INPUTS if inputs else ()), **types)
    empty = "len(inputs) = 0" if slices else "json_array_length(inputs) = 0"
    row = f"CASE WHEN inputs IS NOT NULL AND NOT {empty} THEN hash(columns, inputs) END" if inputs else "NULL"
    sliced = "".join(f", left(inputs[list_position(columns, ?)], {MAX_VALUE_LENGTH})" for _ in slices)
    return f"""
        INSERT INTO {name}
        SELECT CASE WHEN rid <> '' THEN md5_number(rid) END, t, status, ms, row IS NULL, rid IS NOT NULL,
            coalesce(kind = 'probability', false), coalesce(kind = 'number', false), coalesce(kind = 'numbers', false),
            CASE WHEN abs(score) <= {MAX_SCORE} THEN score END, hash({LABEL}), outputs, dropped,
            {row} {sliced}
        FROM {records}
        WHERE t IS NULL OR t BETWEEN ? AND ?"""


#: Parameters: the window, twice. Torn lines, records without an id, records kept and lost in the window.
COUNT_LOG = """
    SELECT count(*) FILTER (t IS NULL), count(*) FILTER (record AND id IS NULL),
        count(*) FILTER (record AND t BETWEEN ? AND ?), coalesce(sum(dropped) FILTER (t BETWEEN ? AND ?), 0),
        count(id) - count(DISTINCT id)
    FROM {name}"""

#: What pairs with nothing: torn lines, loss markers, records without an id.
DROP_UNNAMED = "DELETE FROM {name} WHERE id IS NULL"

#: Keeps of every id the first answer; where there is none, the first error.
FIRST_OF_ID = """
    CREATE OR REPLACE TABLE {name} AS
    WITH repeated AS (SELECT id FROM {name} GROUP BY id HAVING count(*) > 1),
    numbered AS (
        SELECT {name}.*, row_number() OVER (PARTITION BY id ORDER BY status <> 200, t) AS place
        FROM {name} SEMI JOIN repeated USING (id)
    )
    SELECT {name}.* FROM {name} ANTI JOIN repeated USING (id)
    UNION ALL SELECT * EXCLUDE place FROM numbered WHERE place = 1"""


def _close(left: str, right: str) -> str:
    """Whether two numbers are the same answer; false where one of them is not finite."""
    apart = f"abs({left} - {right}) <= {TOLERANCE} * greatest(abs({left}), abs({right}), 1e-12)"
    return f"coalesce(isfinite({left}) AND isfinite({right}) AND {apart}, false)"


def join(slices: Sequence[str]) -> str:
    """Parameters: the window; the window again, its end early enough for the current release to have logged too."""
    pairs = "list_zip(current.outputs, shadow.outputs)"
    same_numbers = f"""
        current.numbers AND shadow.numbers AND len(current.outputs) = len(shadow.outputs)
        AND list_bool_and(list_transform({pairs}, lambda pair: {_close("pair[1]", "pair[2]")}))"""
    flipped = f"""
        NOT (current.answer = shadow.answer
            OR (current.number AND shadow.number AND {_close("current.score", "shadow.score")})
            OR coalesce({same_numbers}, false))"""
    return f"""
        CREATE TABLE paired AS
        SELECT current.id IS NOT NULL AS known, shadow.whole,
            coalesce(current.status = 200, false) AS answered, coalesce(shadow.status = 200, false) AS shadowed,
            answered AND shadowed AS paired, {flipped} AS flipped,
            current.probability AND shadow.probability AS probability,
            current.score AS score, shadow.score AS shadow_score, shadow.score - current.score AS difference,
            shadow.ms::DOUBLE - current.ms::DOUBLE AS latency,
            current.t AS t, coalesce(current.input, hash(current.id)) AS input,
            list_transform({pairs}, lambda pair: abs(pair[2] - pair[1])) AS apart
            {"".join(f", current.s{number}" for number in range(len(slices)))}
        FROM current RIGHT JOIN shadow USING (id)
        WHERE current.t BETWEEN ? AND ? OR (current.id IS NULL AND shadow.t BETWEEN ? AND ?)"""


#: Of each input the pair that was asked first: a user who repeats himself is answered alike each time, and says no
#: more the second time than the first.
MAKE_FIRSTS = """
    CREATE TABLE firsts AS
    SELECT arg_min(rowid, (t, flipped, coalesce(difference, 'infinity'::DOUBLE), coalesce(score, 0.0))) AS place
    FROM paired WHERE paired GROUP BY input"""
_IS_FIRST = "rowid IN (SELECT place FROM firsts)"
COUNT_FIRSTS = f"SELECT count(*), count(*) FILTER (flipped) FROM paired WHERE {_IS_FIRST}"

#: Requests by who answered them, then what pairs have in common.
COUNT_PAIRED = """
    SELECT
        count(*) FILTER (paired) AS pairs,
        count(*) FILTER (NOT known AND shadowed AND whole) AS missing,
        count(*) FILTER (known AND NOT answered AND shadowed AND whole) AS failed_current,
        count(*) FILTER (answered AND NOT shadowed AND whole) AS failed_shadow,
        count(*) FILTER (known AND NOT answered AND NOT shadowed AND whole) AS failed_both,
        count(*) FILTER (paired AND flipped) AS flips,
        coalesce(bool_and(probability) FILTER (paired), false) AS probabilities,
        count(*) FILTER (paired AND score IS NULL AND shadow_score IS NOT NULL),
        count(*) FILTER (paired AND score IS NOT NULL AND shadow_score IS NULL)
    FROM paired"""

#: Parameters: the window. Of one side: requests answered, and requests of which anything was logged.
COUNT_ANSWERS = """
    SELECT count(*) FILTER (status = 200), count(*) FROM {name} WHERE whole AND t BETWEEN ? AND ?"""


def differences(column: str, counted: str, *, firsts: bool = False) -> str:
    """Count, sums, quantiles and histogram of a column of ``paired``. Parameter: the edges of the histogram.

    :param counted: what quantiles and histogram are of. :param firsts: of the first pair of each input only.
    """
    of = f" AND {_IS_FIRST}" if firsts else ""
    return f"""
        SELECT count({column}), sum({column}), sum(abs({column})), sum({column} ** 2),
            quantile_cont({counted}, {list(QUANTILES)}), histogram({counted}, ?)
        FROM paired WHERE paired AND isfinite({column}){of}"""


#: Parameters: how many outputs. Place from 1, pairs, sum of absolute differences of each.
COUNT_OUTPUTS = """
    SELECT place, count(apart[place]), sum(apart[place])
    FROM paired, range(1, ? + 1) AS places(place)
    WHERE paired AND apart IS NOT NULL AND isfinite(apart[place])
    GROUP BY place ORDER BY place"""

MAX_OUTPUTS = "SELECT coalesce(max(len(apart)), 0) FROM paired WHERE paired"


def group_by_slice(number: int) -> str:
    """Table ``sliced``: one row for each value of the slice."""
    return f"""
        CREATE OR REPLACE TABLE sliced AS
        SELECT s{number} AS value, count(*) AS pairs, count(*) FILTER (flipped) AS flips, count(difference) AS count,
            coalesce(sum(difference), 0.0) AS total, coalesce(sum(difference ** 2), 0.0) AS squares,
            count(*) FILTER ({_IS_FIRST}) AS inputs, count(*) FILTER (flipped AND {_IS_FIRST}) AS flipped_inputs
        FROM paired WHERE paired GROUP BY value"""


COUNT_SLICES = f"SELECT count(*), count(*) FILTER (pairs >= {MIN_PAIRS}), coalesce(sum(pairs), 0) FROM sliced"
TOP_SLICES_QUERY = f"""
    SELECT value, pairs, flips, count, total, squares, inputs, flipped_inputs FROM sliced WHERE pairs >= {MIN_PAIRS}
    ORDER BY pairs DESC, value LIMIT {MAX_VALUES}"""

#: Parameter: one of how many pairs is taken.
SCORES = """
    SELECT coalesce(score, 'nan'::DOUBLE) AS current, coalesce(shadow_score, 'nan'::DOUBLE) AS shadow
    FROM paired WHERE paired AND rowid % ? = 0"""
SCORES_OF_FIRSTS = f"{SCORES} AND {_IS_FIRST}"


def fetch(database: Any, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
    """The one row that ``sql`` gives."""
    row: tuple[Any, ...] = database.execute(sql, parameters).fetchone()
    return row
