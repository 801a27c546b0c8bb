"""The rows that a model answers before registration, and every model server before it takes traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: Rows spread evenly over the evaluation window.
SPREAD_ROWS = 20
#: Distinct texts or categories of one column that each get a row.
MAX_VALUES = 50
#: Rows in all; a model of a thousand columns keeps a few of each.
MAX_ROWS = 500


def golden_rows(evaluated: pd.DataFrame, learned: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows that hold, of every column: a gap, the extremes, both flags, every category or text; and an even spread.

    The even spread comes first, so that a quiet first hour does not stand for the whole window. A rare value is taken
    from the training rows where the evaluation rows lack it.
    """
    import pandas as pd

    step = max(1, len(evaluated) // SPREAD_ROWS)
    spread = evaluated.iloc[::step].head(SPREAD_ROWS)
    both = evaluated if learned is None else pd.concat([evaluated, learned], ignore_index=True)
    rare: dict[Any, None] = {}
    for name in both.columns:
        rare |= dict.fromkeys(_telling(both[name]))
    chosen = both.loc[list(rare)[: MAX_ROWS - len(spread)]]
    return pd.concat([spread, chosen], ignore_index=True)


def _telling(column: pd.Series) -> list[Any]:
    """Index labels of the rows that show what ``column`` can hold."""
    missing = column.isna()
    gap = [missing.idxmax()] if missing.any() else []
    present = column[~missing]
    if not len(present):
        return gap
    if column.dtype.kind in "iufM":
        return [*gap, present.idxmin(), present.idxmax()]
    return [*gap, *present.drop_duplicates().index[:MAX_VALUES]]
