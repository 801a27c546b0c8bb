"""What a benchmark prints: rows of numbers, the ratios that it is about, and the bars that these must stay within."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bar:
    """A number beside the limit that the project promises.

    :param what: the sentence that is printed before the number.
    :param limit: what ``value`` may be at most; with ``at_least`` what it must be.
    :param unit: written behind both numbers.
    """

    what: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def within(self) -> bool:
        """False for NaN as well: what could not be measured keeps no promise."""
        if math.isnan(self.value):
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def render(self) -> str:
        bound = "at least" if self.at_least else "at most"
        verdict = "within" if self.within else "BEYOND"
        return f"{self.what}: {self.value:.4g}{self.unit} (bar: {bound} {self.limit:.4g}{self.unit}) {verdict}"


@dataclass
class Table:
    """:param columns: headings. :param rows: one a measured thing. :param ratios: sentences with a number in them.
    :param bars: numbers that the project promises; one beyond its limit fails ``python -m benchmarks``.
    """

    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    ratios: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    @property
    def beyond(self) -> list[Bar]:
        """The bars that were not held."""
        return [bar for bar in self.bars if not bar.within]

    def render(self) -> str:
        shown = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(row[at]) for row in shown) for at in range(len(self.columns))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in shown]
        sentences = [*self.ratios, *(bar.render() for bar in self.bars)]
        return "\n".join([*(line.rstrip() for line in lines), "", *(f"=> {sentence}" for sentence in sentences)])


def quantile(values: Sequence[float], q: float) -> float:
    """The ``q``-quantile (0 < q < 1) of at least two values."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(q * 1000) - 1]
