"""Control arm: a bad release goes back as soon as without one, and an outage takes none back.

The release that was current fails 0.3 % of its requests and keeps 1, 5 or 10 % of 30 a second; the promoted one fails
2, 5 or 30 %, of which its gate allows 1 %. Then an upstream fails 30 % of both for half a minute. Column *before*: a
limit was excused as long as the new release was not shown to be worse, measured in 30 watches a cell.
"""

from __future__ import annotations

import statistics

import numpy as np

from benchmarks.rollouts import Watched, play_watch
from benchmarks.table import Bar, Table

SEED = 20130601
RATE = 30.0
GATE = {"name": "errors", "metric": "serving.error_rate", "max": "1%", "window": "1m"}
ERRORS = (0.02, 0.05, 0.30)
CONTROLS = (None, "1%", "5%", "10%")
OLD = 0.003
FALSE_ALARMS = 0.05
#: Median seconds until the rollback under the rule of before; ``inf``: not once in 30 watches of half an hour.
BEFORE = {
    (0.02, "1%"): float("inf"),
    (0.02, "5%"): 1140.0,
    (0.02, "10%"): 720.0,
    (0.05, "1%"): 1440.0,
    (0.05, "5%"): 300.0,
    (0.05, "10%"): 150.0,
    (0.30, "1%"): 165.0,
    (0.30, "5%"): 45.0,
    (0.30, "10%"): 23.0,
}


def run(*, quick: bool = False) -> Table:
    runs, outages = (15, 12) if quick else (30, 200)
    table = Table(("what happens", "control", "runs", "taken back", "median s", "before", "bad answers"))
    slowest = 0.0
    for error in ERRORS:
        alone = float("nan")
        for control in CONTROLS:
            played = [_bad_release(error, control, number) for number in range(runs)]
            took = [each.reverted_after for each in played if each.reverted_after is not None]
            # A median over all of them: what was never taken back took for ever.
            median = statistics.median([*took, *[float("inf")] * (runs - len(took))])
            if control is None:
                alone = median
            else:
                slowest = max(slowest, median / alone)
            table.rows.append(
                (
                    f"fails {100 * error:g}% after promotion",
                    control or "none",
                    runs,
                    f"{len(took)} of {runs}",
                    f"{median:.0f}",
                    _before(error, control),
                    f"{statistics.mean(each.bad for each in played):.0f}",
                )
            )
    worst = 0.0
    for control in CONTROLS:
        played = [_outage(control, number) for number in range(outages if control else max(6, outages // 10))]
        back = sum(each.reverted_after is not None for each in played)
        notified = sum(each.notified for each in played)
        worst = max(worst, back / len(played)) if control else worst
        shown = f"{back} of {len(played)} (on-call notified of {notified})"
        table.rows.append(("upstream fails 30% for 30 s", control or "none", len(played), shown, "", "", ""))
    table.bars = [
        Bar("slowest cell beside no control arm", slowest, 1.5, " times"),
        Bar("outages of both releases that take one back", 100 * worst, 100 * FALSE_ALARMS, "%"),
    ]
    return table


def _before(error: float, control: str | None) -> str:
    return "" if control is None else f"{BEFORE[error, control]:.0f}"


def _rollback(control: str | None) -> dict[str, object]:
    return {"window": "30m", **({"control": control} if control else {}), "gates": [GATE]}


def _bad_release(error: float, control: str | None, number: int) -> Watched:
    return play_watch(
        _rollback(control), lambda who, _: error if who == "new" else OLD, (SEED, number), rate=RATE, seconds=1800.0
    )


def _outage(control: str | None, number: int) -> Watched:
    begins = float(np.random.default_rng([SEED, 1, number]).uniform(30.0, 120.0))

    def failing(_: str, at: float) -> float:
        return 0.3 if begins <= at < begins + 30.0 else OLD

    return play_watch(_rollback(control), failing, (SEED, 1, number), rate=RATE, seconds=begins + 150.0)
