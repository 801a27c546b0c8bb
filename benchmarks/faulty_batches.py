"""One faulty batch of fifty: how often it is found and named first, and how often one is named that is not faulty.

Before, a look judged the window as a whole: a fault of one batch moved it by a fiftieth. Then rows that training never
had, spread evenly: no batch stands out, and the window as a whole is what fails.

``python -m benchmarks faulty_batches``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from airflow_provider_mlpipex.domain.drift.batch_faults import counts_of, find_faults
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import make_reference
from airflow_provider_mlpipex.domain.drift.report import BatchFaults, DriftReport
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, merge
from benchmarks.table import Bar, Table

BATCHES, ROWS, TRAINED, FAULTY = 50, 400, 20_000, "b07"
ALPHA = 0.01
NOISE = 4
#: Honest batches that a faulty one is put among.
_POOL = 400
_CATEGORIES, _SHARES = list("abcdefgh"), [0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05]
Rows = dict[str, Any]
Fault = Callable[[np.random.Generator, Rows], None]


def _set(column: str, value: Any, share: float) -> Fault:
    def broken(chance: np.random.Generator, rows: Rows) -> None:
        rows[column][chance.random(ROWS) < share] = value

    return broken


def _shift(chance: np.random.Generator, rows: Rows) -> None:
    rows["amount"] += 10.0


FAULTS: dict[str, Fault] = {
    "1 sd": _shift,
    "zeros": _set("amount", 0.0, 1.0),
    "-999": _set("amount", -999.0, 1.0),
    "null": _set("amount", np.nan, 1.0),
    "new category": _set("kind", "??", 1.0),
    "-999 in 2% of rows": _set("amount", -999.0, 0.02),
    "null in 2% of rows": _set("amount", np.nan, 0.02),
    "new category in 2% of rows": _set("kind", "??", 0.02),
    "-999 in 10% of rows": _set("amount", -999.0, 0.1),
}


#: The same rows in every batch: none stands out, and training had none of them.
EVENLY = ("-999 in 2% of rows", "null in 2% of rows", "new category in 2% of rows")


def run(*, quick: bool = False) -> Table:
    looks, honest_looks = (10, 20) if quick else (400, 300)
    batches = _Batches(np.random.default_rng(11))
    table = Table(("fault", "looks", "window fails by its measures (before)", "found", "named first", "others named"))
    least_found = 1.0
    for name, fault in FAULTS.items():
        results = [batches.look({FAULTY: fault}) for _ in range(looks)]
        named = [list(dict.fromkeys(one.batch for one in faults.faults)) for _, faults in results]
        found_share = float(np.mean([FAULTY in batches for batches in named]))
        first = float(np.mean([batches[:1] == [FAULTY] for batches in named]))
        others = float(np.mean([bool(set(batches) - {FAULTY}) for batches in named]))
        before = float(np.mean([_by_measures(report) for report, _ in results]))
        least_found = min(least_found, found_share, first)
        shown = (f"{before:.0%}", f"{found_share:.1%}", f"{first:.1%}", f"{others:.1%}")
        table.rows.append((f"{name}, one batch of 50", looks, *shown))
    evenly = 1.0
    for name in EVENLY:
        results = [batches.look(dict.fromkeys(batches.names, FAULTS[name])) for _ in range(max(5, looks // 10))]
        found_share = float(np.mean([report.verdict == "fail" for report, _ in results]))
        before = float(np.mean([_by_measures(report) for report, _ in results]))
        evenly = min(evenly, found_share)
        some = float(np.mean([bool(faults.faults) for _, faults in results]))
        table.rows.append(
            (f"{name}, every batch", len(results), f"{before:.0%}", f"{found_share:.1%}", "", f"{some:.1%}")
        )
    honest = [batches.look({}, fresh=True) for _ in range(honest_looks)]
    alarms = float(np.mean([bool(faults.faults) for _, faults in honest]))
    whole = float(np.mean([report.verdict == "fail" for report, _ in honest]))
    table.rows.append(("none", honest_looks, "", f"{whole:.1%}", "", f"{alarms:.2%}"))
    table.bars = [
        Bar("faulty batch found and named first, hardest fault", least_found * 100, 95, " %", at_least=True),
        Bar("rows astray evenly in every batch found, hardest fault", evenly * 100, 95, " %", at_least=True),
        Bar("looks in which a batch is named and none is faulty", alarms * 100, ALPHA * 100, " %"),
        Bar("looks at windows without a fault that fail", whole * 100, ALPHA * 100, " %"),
    ]
    return table


def _by_measures(report: DriftReport) -> bool:
    """Whether any measure of a distribution is beyond its limit."""
    return any(measured.verdict == "fail" for column in report.columns for measured in column.measures)


class _Batches:
    """Batches of a window. Honest ones are counted once and drawn from, where they are only compared with; where it is
    asked how often an honest one is named, all are new."""

    def __init__(self, chance: np.random.Generator) -> None:
        self._chance = chance
        self.names = [f"b{number:02d}" for number in range(BATCHES)]
        rows = self._rows(TRAINED)
        self.reference = make_reference(rows, scores=_scores(rows))
        self._honest = [self._batch(None) for _ in range(_POOL)]

    def _rows(self, rows: int) -> Rows:
        chance = self._chance
        return {
            "amount": chance.gamma(4.0, 5.0, rows),
            "kind": chance.choice(_CATEGORIES, rows, p=_SHARES).astype(object),
            **{f"noise{number}": chance.normal(size=rows) for number in range(NOISE)},
        }

    def _batch(self, fault: Fault | None) -> dict[str, Sketch]:
        rows = self._rows(ROWS)
        if fault is not None:
            fault(self._chance, rows)
        return self.reference.sketch(rows, scores=_scores(rows))

    def look(self, faults: dict[str, Fault], *, fresh: bool = False) -> tuple[DriftReport, BatchFaults]:
        """What is said of the window as a whole, and the faulty batches that are named."""
        drawn = self._chance.permutation(_POOL)
        batches = {
            name: self._batch(faults.get(name)) if fresh or name in faults else self._honest[drawn[at]]
            for at, name in enumerate(self.names)
        }
        by_column = {
            column: {batch: sketches[column] for batch, sketches in batches.items()}
            for column in self.reference.columns
        }
        whole = check(self.reference, {column: merge(parts.values()) for column, parts in by_column.items()})
        counts = {column: counts_of(self.reference.columns[column], parts) for column, parts in by_column.items()}
        return whole, find_faults(self.reference, counts, alpha=ALPHA)


def _scores(rows: Rows) -> Any:
    amount = np.nan_to_num(np.asarray(rows["amount"], dtype=float), nan=20.0)
    return 1 / (1 + np.exp(2 - np.clip(amount, -100, 100) / 10))


if __name__ == "__main__":
    print(run().render())
