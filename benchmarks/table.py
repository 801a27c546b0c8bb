"""What a benchmark prints: rows of numbers, and the ratios that it is about."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """:param columns: headings. :param rows: one a measured thing. :param ratios: sentences with a number in them."""

    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    ratios: list[str] = field(default_factory=list)

    def render(self) -> str:
        shown = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(row[at]) for row in shown) for at in range(len(self.columns))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in shown]
        return "\n".join([*(line.rstrip() for line in lines), "", *(f"=> {ratio}" for ratio in self.ratios)])


def quantile(values: Sequence[float], q: float) -> float:
    """The ``q``-quantile (0 < q < 1) of at least two values."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(q * 1000) - 1]
