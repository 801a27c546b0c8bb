"""Pandas tables as Great Expectations can judge them, and what it would let pass without having judged anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.great_expectations.suite import ROW
from airflow_provider_mlpipex.domain.quality.expectations import Expectation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult

#: They divide by the spread of a column: without one, or with infinities, every value would pass.
_OF_SPREAD = ("column_value_z_scores_to_be_less_than", "column_values_to_not_be_outliers")


def plain_frame(frame: pd.DataFrame, columns: Collection[str]) -> pd.DataFrame:
    """``frame`` with rows numbered from 0, and ``columns`` in NumPy's own types.

    Great Expectations stumbles over ``pd.NA``, categories and Arrow-backed columns. Times with a zone stay as they are.
    """
    import pandas as pd

    frame = frame.reset_index(drop=True)
    odd = [
        name
        for name, dtype in frame.dtypes.items()
        if name in columns
        and isinstance(dtype, pd.api.extensions.ExtensionDtype)
        and not isinstance(dtype, pd.DatetimeTZDtype)
    ]
    return frame.assign(**{str(name): _plain(frame[name]) for name in odd})


def with_moments(frame: pd.DataFrame, columns: Collection[str]) -> pd.DataFrame:
    """``frame`` with ``columns`` as moments in UTC, wherever every value of a column is one.

    What was trained on as a timestamp is served as ISO text, and a data source may give dates: bounds hold for the
    same moments in whichever form. A column that holds anything else stays as it is, and cannot be judged by moments.
    """
    moments = {name: _moments(frame[name]) for name in columns if name in frame.columns}
    return frame.assign(**{name: values for name, values in moments.items() if values is not None})


def _moments(values: pd.Series) -> pd.Series | None:
    import pandas as pd

    if values.dtype.kind == "M":
        return values.dt.tz_localize("UTC") if values.dt.tz is None else values.dt.tz_convert("UTC")
    present = values.dropna()
    if values.dtype.kind != "O" or not all(isinstance(value, str | date) for value in present):
        return None
    try:
        return pd.to_datetime(values.map(str, na_action="ignore"), utc=True, format="ISO8601")
    except (ValueError, OverflowError):  # a word, or a year that no timestamp reaches
        return None


def _plain(values: pd.Series) -> pd.Series:
    import numpy as np
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    kind = getattr(values.dtype, "kind", "O")
    missing = values.isna()
    array: np.ndarray[Any, Any]
    if kind in "iuf" and (kind == "f" or missing.any()):
        array = values.to_numpy(dtype="float64", na_value=np.nan)
    elif kind in "iu":
        array = values.to_numpy(dtype="int64" if kind == "i" else "uint64")
    elif kind == "b" and not missing.any():
        array = values.to_numpy(dtype="bool")
    elif kind == "M":
        return values.astype("datetime64[ns, UTC]" if getattr(values.dt, "tz", None) else "datetime64[ns]")
    else:
        array = values.to_numpy(dtype=object)
        array[missing.to_numpy()] = None
    return pd.Series(array, index=values.index, name=values.name)


def repeated_columns(frame: pd.DataFrame) -> list[str]:
    """Names that more than one column bears: nobody could say which of them is judged."""
    return sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})


def name_rows(report: ExpectationSuiteValidationResult, frame: pd.DataFrame, key: Sequence[str]) -> None:
    """Put the ``key`` of offending rows beside their values; Great Expectations gave the numbers of the rows.

    To let it look up the key itself costs ten seconds where a million rows offend.
    """
    for outcome in report.results:
        result = outcome.result or {}
        numbers = [at for at in result.get("partial_unexpected_index_list") or () if isinstance(at, int)]
        values = result.get("partial_unexpected_list") or ()
        if not numbers:
            continue
        names = list(key) or [ROW]
        rows = frame.iloc[numbers]
        keys = [list(rows[column]) for column in key] if key else [numbers]
        config = outcome.expectation_config
        judged = config.kwargs if config is not None else {}
        result["unexpected_index_column_names"] = names
        result["partial_unexpected_index_list"] = [
            {**_by_column(value, judged), **dict(zip(names, named, strict=True))}
            for value, *named in zip(values, *keys, strict=False)
        ]


def _by_column(value: Any, judged: Mapping[str, Any]) -> dict[str, Any]:
    """An offending value, or the values of several columns, with the names of their columns."""
    if isinstance(value, Mapping):
        return dict(value)
    if "column_A" in judged and isinstance(value, (list, tuple)):
        return dict(zip((judged["column_A"], judged["column_B"]), value, strict=True))
    return {judged["column"]: value} if "column" in judged else {}


def unjudgeable(frame: pd.DataFrame, expectations: Sequence[Expectation]) -> Mapping[int, str]:
    """Index of an expectation -> why it cannot judge the values of its column, where it would pass all the same."""
    reasons: dict[int, str] = {}
    for at, expectation in enumerate(expectations):
        if expectation.column is None or expectation.column not in frame.columns:
            continue
        values = frame[expectation.column].dropna()
        if expectation.expect in _OF_SPREAD:
            why = _no_spread(values)
        elif expectation.expect == "column_values_to_not_be_in_set":
            why = _other_kind(values, expectation.arguments["value_set"])
        else:
            why = ""
        if why:
            reasons[at] = why
    return reasons


def _no_spread(values: pd.Series) -> str:
    import numpy as np

    if values.dtype.kind not in "iuf" or values.empty:
        return ""
    infinite = int(np.isinf(values.to_numpy(dtype="float64")).sum())
    if infinite:
        return f"{infinite} infinite values, so that no spread can be computed"
    return f"every value is {values.iloc[0]}, so that there is no spread" if values.min() == values.max() else ""


def _other_kind(values: pd.Series, forbidden: Any) -> str:
    """Numbers are never among forbidden texts, nor texts among forbidden numbers: that is no success."""
    kinds = {isinstance(value, str) for value in forbidden}
    if values.empty or len(kinds) != 1:
        return ""
    forbids_text = kinds.pop()
    holds_text = values.dtype.kind == "O" and isinstance(values.iloc[0], str)
    if forbids_text == holds_text:
        return ""
    held, compared = ("text", "numbers") if holds_text else (str(values.dtype), "text")
    return f"the column holds {held}, value_set holds {compared}"
