"""One faulty batch of fifty: how often it is found and named first, and how often one is named that is not faulty.

Before, a look judged the window as a whole: a fault of one batch moved it by a fiftieth.

``python -m benchmarks faulty_batches``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from airflow_provider_mlpipex.domain.drift.batch_faults import counts_of, find_faults
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import make_reference
from airflow_provider_mlpipex.domain.drift.report import BatchFaults
from airflow_provider_mlpipex.domain.drift.sketches import merge
from benchmarks.table import Bar, Table

BATCHES, ROWS, TRAINED, FAULTY = 50, 400, 20_000, "b07"
ALPHA = 0.01
NOISE = 4
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


def run(*, quick: bool = False) -> Table:
    looks, honest_looks = (5, 20) if quick else (40, 300)
    chance = np.random.default_rng(11)
    world = _World(chance)
    table = Table(("fault of one batch of 50", "window fails (before)", "found", "named first", "others named"))
    least_found = 1.0
    for name, fault in FAULTS.items():
        results = [world.look(fault) for _ in range(looks)]
        named = [list(dict.fromkeys(one.batch for one in found.faults)) for _, found in results]
        found_share = float(np.mean([FAULTY in batches for batches in named]))
        first = float(np.mean([batches[:1] == [FAULTY] for batches in named]))
        others = float(np.mean([bool(set(batches) - {FAULTY}) for batches in named]))
        before = float(np.mean([failed for failed, _ in results]))
        least_found = min(least_found, found_share, first)
        table.rows.append((name, f"{before:.0%}", f"{found_share:.0%}", f"{first:.0%}", f"{others:.0%}"))
    alarms = float(np.mean([bool(world.look(None)[1].faults) for _ in range(honest_looks)]))
    table.rows.append(("none", "", "", "", f"{alarms:.2%} of {honest_looks} looks"))
    table.bars = [
        Bar("faulty batch found and named first, hardest fault", least_found * 100, 95, " %", at_least=True),
        Bar("looks in which a batch is named and none is faulty", alarms * 100, ALPHA * 100, " %"),
    ]
    return table


class _World:
    def __init__(self, chance: np.random.Generator) -> None:
        self._chance = chance
        rows = self._rows(TRAINED)
        self.reference = make_reference(rows, scores=_scores(rows))

    def _rows(self, rows: int) -> Rows:
        chance = self._chance
        return {
            "amount": chance.gamma(4.0, 5.0, rows),
            "kind": chance.choice(_CATEGORIES, rows, p=_SHARES).astype(object),
            **{f"noise{number}": chance.normal(size=rows) for number in range(NOISE)},
        }

    def look(self, fault: Fault | None) -> tuple[bool, BatchFaults]:
        """Whether the window as a whole fails, and the faulty batches that are named."""
        batches = {}
        for number in range(BATCHES):
            name, rows = f"b{number:02d}", self._rows(ROWS)
            if fault is not None and name == FAULTY:
                fault(self._chance, rows)
            batches[name] = self.reference.sketch(rows, scores=_scores(rows))
        by_column = {
            column: {batch: sketches[column] for batch, sketches in batches.items()}
            for column in self.reference.columns
        }
        whole = check(self.reference, {column: merge(parts.values()) for column, parts in by_column.items()})
        counts = {column: counts_of(self.reference.columns[column], parts) for column, parts in by_column.items()}
        return whole.verdict == "fail", find_faults(self.reference, counts, alpha=ALPHA)


def _scores(rows: Rows) -> Any:
    amount = np.nan_to_num(np.asarray(rows["amount"], dtype=float), nan=20.0)
    return 1 / (1 + np.exp(2 - np.clip(amount, -100, 100) / 10))


if __name__ == "__main__":
    print(run().render())
