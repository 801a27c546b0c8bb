"""A starting ``quality:`` block, written from what a table holds.

The same table gives the same text. Every line says what was observed, so that a person can decide what should hold; the
table itself passes what is proposed for it, unless it holds what no table should (infinities).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.services.quality.check import require_columns

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
    from airflow_provider_mlpipex.domain.manifest.training_block import TrainingSpec

#: Distinct values that a set may list, and rows for each of them, or it is no set but a sample.
MAX_SET, ROWS_A_VALUE = 20, 5
#: Room around the observed numbers: of a range, on each side; of a share of missing values; of the number of rows.
RANGE_ROOM, MISSING_ROOM, ROWS_ROOM = 0.1, 0.5, 2.0
#: Digits that a proposed bound has; observed numbers get more.
_DIGITS = 2
#: Integers beyond this are not exact in a manifest.
_MAX_BOUND = 10**15
#: Integers of more distinct values than this get a range: a set of months would refuse the next one.
_MAX_FLAG = 2
#: Share of served rows for which the inputs of predictions must be like those of the table.
_SERVED = 0.99
_TYPES = {"integer": ["int64", "int32", "float64"], "number": ["float64", "float32"], "text": ["str"]}


class Line(NamedTuple):
    """One expectation and what was observed; without an expectation, only a remark."""

    expectation: dict[str, Any] | None
    observed: str


def propose(table: pd.DataFrame, *, subject: str, key: Sequence[str] = (), manifest: Manifest | None = None) -> str:
    """A ``quality:`` block for ``table`` as YAML, ready to be pasted into a manifest.

    :param subject: where the table comes from, for the comment on top.
    :param key: columns that name a row; proposed to be unique if they are. Those of ``manifest`` if not given.
    :param manifest: whose features and target the table holds; adds what should hold for predictions.
    :raises DataQualityFailed: the table is empty, or lacks a column of ``key``.
    """
    if table.empty:
        raise DataQualityFailed(
            subject, value="no rows", limit="at least one row", remedy="profile a table that is as it should be"
        )
    key = key or (manifest.quality.key if manifest else ())
    require_columns(table, key, subject=subject)
    lines = [_rows(table), *_key(table, key)]
    for name in dict.fromkeys(map(str, table.columns)):
        lines += _column(name, table.loc[:, [str(column) == name for column in table.columns]])
    text = [
        f"# Proposed from {subject}: {len(table)} rows, {table.shape[1]} columns.",
        "# Each line says what was observed. Tighten what you know, remove what need not hold, then keep it in review.",
        "quality:",
        *([f"  key: {_inline(list(key))}"] if key else []),
        "  snapshot:",
        *map(_written, lines),
    ]
    if manifest is not None:
        text += ["  predictions:", *map(_written, _predictions(table, manifest, subject))]
    return "\n".join(text)


def _written(line: Line) -> str:
    if line.expectation is None:
        return f"    # {line.observed}"
    return f"    - {_inline(line.expectation)} # {line.observed}"


def _inline(value: Any) -> str:
    """YAML on one line, that every reader of YAML understands alike: what could be anything but text is quoted."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_inline(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value.lower() not in _NO_TEXT else _quoted(value)
    return json.dumps(value)


_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_TEXT = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")


def _quoted(text: str) -> str:
    plain = (char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in text)
    return f'"{"".join(plain)}"'


def _rows(table: pd.DataFrame) -> Line:
    lowest, highest = _down(len(table) / ROWS_ROOM), _up(len(table) * ROWS_ROOM)
    bounds = {"min_value": max(1, int(lowest)), "max_value": int(highest)}
    return Line({"expect": "table_row_count_to_be_between", **bounds}, f"{len(table)} rows")


def _key(table: pd.DataFrame, key: Sequence[str]) -> Iterator[Line]:
    if not key:
        return
    repeated = int(table.duplicated(list(key)).sum())
    if repeated or bool(table[list(key)].isna().any(axis=None)):
        yield Line(None, f"{', '.join(key)}: not unique, or missing somewhere; {repeated} rows repeat an earlier one")
    elif len(key) == 1:
        yield Line({"expect": "column_values_to_be_unique", "column": key[0]}, "no repetition")
    else:
        yield Line({"expect": "compound_columns_to_be_unique", "column_list": list(key)}, "no repetition")


def _column(name: str, columns: pd.DataFrame) -> Iterator[Line]:
    if columns.shape[1] > 1:
        yield Line(None, f"{_shown(name)}: {columns.shape[1]} columns of this name, so nothing can be asked of it")
        return
    values = columns.iloc[:, 0]
    present = values.dropna()
    if present.empty:
        yield Line(None, f"{_shown(name)}: every value is missing")
        return
    yield _missing(name, values)
    kind = _kind(present)
    if kind in _TYPES:
        yield Line(
            {"expect": "column_values_to_be_in_type_list", "column": name, "type_list": _types(kind, values)},
            str(values.dtype),
        )
    yield from _content(name, present, kind)


def _content(name: str, present: pd.Series, kind: str) -> Iterator[Line]:
    if kind in ("integer", "number"):
        yield from _numbers(name, present, kind)
    elif kind in ("text", "flag"):
        yield from _set(name, present)
    elif kind == "time":
        yield Line(None, f"{_shown(name)}: {present.min()} to {present.max()}")
    else:
        yield Line(None, f"{_shown(name)}: values of mixed or nested types, so nothing more is proposed")


def _kind(present: pd.Series) -> str:
    """``integer``, ``number``, ``text``, ``flag``, ``time``, or ``other``."""
    import pandas as pd

    if isinstance(present.dtype, pd.CategoricalDtype):
        present = present.astype(present.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(present.dtype):
        return "flag"
    if pd.api.types.is_integer_dtype(present.dtype):
        return "integer"
    if pd.api.types.is_float_dtype(present.dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(present.dtype):
        return "time"
    inferred = pd.api.types.infer_dtype(present, skipna=True)
    return {"string": "text", "boolean": "flag"}.get(inferred, "other")


def _types(kind: str, values: pd.Series) -> list[str]:
    """The column's own type and its usual kin. Integers with a gap become floats, which is no change of type."""
    import numpy as np

    own = [values.dtype.name] if isinstance(values.dtype, np.dtype) and kind != "text" else []
    return list(dict.fromkeys([*own, *_TYPES[kind]]))


def _missing(name: str, values: pd.Series) -> Line:
    asked = {"expect": "column_values_to_not_be_null", "column": name}
    share = float(values.isna().mean())
    if share == 0:
        return Line(asked, "none missing")
    mostly = math.floor((1 - share * (1 + MISSING_ROOM)) * 100) / 100
    observed = f"{100 * share:.3g}% missing"
    if mostly <= 0:
        return Line(None, f"{_shown(name)}: {observed}, too many to ask for a share")
    return Line({**asked, "mostly": mostly}, observed)


def _numbers(name: str, present: pd.Series, kind: str) -> Iterator[Line]:
    import numpy as np

    numbers = present.to_numpy(dtype="float64")
    finite = numbers[np.isfinite(numbers)]
    if len(finite) < len(numbers):
        yield Line(None, f"{_shown(name)}: {len(numbers) - len(finite)} infinite values, which what follows refuses")
    if not len(finite):
        return
    lowest, highest = float(finite.min()), float(finite.max())
    distinct = np.unique(finite)
    if kind == "integer" and len(distinct) <= _MAX_FLAG and _is_set(len(distinct), len(finite)):
        yield Line(
            {"expect": "column_values_to_be_in_set", "column": name, "value_set": [int(value) for value in distinct]},
            f"{len(distinct)} distinct values",
        )
        return
    low, high = _with_room(lowest, highest)
    bounds = {"min_value": _bound(low, kind, math.floor), "max_value": _bound(high, kind, math.ceil)}
    observed = f"{lowest:.6g} to {highest:.6g}, mean {float(finite.mean()):.6g}"
    if all(abs(bound) < _MAX_BOUND for bound in bounds.values()):
        yield Line({"expect": "column_values_to_be_between", "column": name, **bounds}, observed)
    else:
        yield Line(None, f"{_shown(name)}: {observed}, too large to be bounded exactly")


def _set(name: str, present: pd.Series) -> Iterator[Line]:
    values = present.astype(object)
    distinct = values.nunique()
    if distinct > MAX_SET or not _is_set(distinct, len(values)):
        yield Line(None, f"{_shown(name)}: {distinct} distinct values, too many or too rare for a set")
        return
    plain = [bool(value) if not isinstance(value, str) else value for value in values.unique()]
    yield Line(
        {"expect": "column_values_to_be_in_set", "column": name, "value_set": sorted(plain)},
        f"{distinct} distinct values",
    )


def _is_set(distinct: int, rows: int) -> bool:
    return distinct * ROWS_A_VALUE <= rows


def _with_room(lowest: float, highest: float) -> tuple[float, float]:
    """Bounds a little outside of what was observed. What was never negative stays so, and never positive too."""
    room = RANGE_ROOM * ((highest - lowest) or abs(highest) or 1.0)
    low, high = _down(lowest - room), _up(highest + room)
    return (max(low, 0.0) if lowest >= 0 else low), (min(high, 0.0) if highest <= 0 else high)


def _bound(bound: float, kind: str, whole: Any) -> int | float:
    return int(whole(bound)) if kind == "integer" or float(bound).is_integer() else bound


def _down(number: float) -> float:
    """The next number below that has :data:`_DIGITS` digits."""
    return _rounded(number, math.floor)


def _up(number: float) -> float:
    return _rounded(number, math.ceil)


def _rounded(number: float, way: Any) -> float:
    if number == 0 or not math.isfinite(number):
        return number
    exponent = math.floor(math.log10(abs(number))) - _DIGITS + 1
    # By a whole power of ten, and not by the last bit of it: 0.5 + 0.05 has room up to 0.55, not to 0.56.
    if exponent >= 0:
        return float(way(round(number / 10**exponent, 9)) * 10**exponent)
    return float(way(round(number * 10**-exponent, 9)) / 10**-exponent)


def _predictions(table: pd.DataFrame, manifest: Manifest, subject: str) -> Iterator[Line]:
    """What should hold for served predictions: their outputs, and inputs that are like those of the table."""
    training, features = manifest.training, manifest.features.columns
    require_columns(table, (*features, *([training.target] if training else [])), subject=subject)
    yield Line({"expect": "column_values_to_not_be_null", "column": "score"}, "what is not finite is missing here")
    if training is not None:
        yield from _outputs(table[training.target].dropna(), training)
    for name in features:
        present = table[name].dropna()
        if present.empty:
            continue
        for line in _content(name, present, _kind(present)):
            if line.expectation is not None:
                yield Line({**line.expectation, "mostly": _SERVED}, line.observed)


def _outputs(target: pd.Series, training: TrainingSpec) -> Iterator[Line]:
    if training.task == "regression":
        for line in _numbers("score", target, "number"):
            yield line._replace(observed=f"{training.target}: {line.observed}")
        return
    classes = sorted(target.unique(), key=str)
    if training.predict_method == "predict_proba":
        yield Line(
            {"expect": "column_values_to_be_between", "column": "score", "min_value": 0, "max_value": 1}, "a share"
        )
        # The label of probabilities is the place of the largest.
        labels = [str(place) for place in range(len(classes))]
    else:
        labels = [_label(value) for value in classes]
    if 0 < len(classes) <= MAX_SET:
        asked = {"expect": "column_values_to_be_in_set", "column": "label", "value_set": labels}
        yield Line(asked, f"{training.target}: {len(classes)} classes")


def _label(value: Any) -> str:
    """A class as the prediction log says it."""
    import numpy as np

    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    return value if isinstance(value, str) else repr(float(value))


def _shown(name: str) -> str:
    """A column's name inside a comment: on one line, whatever it holds."""
    return name if name.isprintable() else _quoted(name)
