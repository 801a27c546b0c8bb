"""Offline gates: how often an evaluation refuses a model that is as good, or lets through one that is a point worse.

Two classifiers answer the same rows: the current one is right on 80 % of them, and they differ on 5 %, by chance alone
or by a point more. The gate is the README's, ``accuracy within 0.5% of the baseline``, judged by ``judge`` as a release
judges it; column *before*: by the two values alone. A ranking (AUC) beside it, where scores of a row are alike. 200
evaluations a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.planning.evaluation_rows import needed_rows
from airflow_provider_mlpipex.domain.planning.synthetic_evidence import MOMENT
from airflow_provider_mlpipex.services.training import same_rows
from airflow_provider_mlpipex.services.training.evaluation import evaluate
from airflow_provider_mlpipex.services.training.same_rows import Answers
from benchmarks.table import Bar, Table

SEED = 20130801
BASE, DIFFERING = 0.8, 0.05
RIGHT = Gate.model_validate({"name": "accuracy", "metric": "evaluation.accuracy", "within": "0.5%"})
RANKED = Gate.model_validate({"name": "auc", "metric": "evaluation.auc", "within": "1%"})
ROWS = (1_000, 5_000, 20_000)
#: How far the candidate is behind, in points.
BEHIND = (0.0, 1.0)

Played = Callable[[np.random.Generator, int, float], tuple[Answers, Answers]]


def run(*, quick: bool = False) -> Table:
    runs = 40 if quick else 200
    table = Table(("gate", "rows", "candidate", "before: passes", "fails", "now: passes", "asks", "fails"))
    wrong = {"as good, refused": 0.0, "a point worse, let through": 0.0}
    for gate, played, sizes in ((RIGHT, _classified, ROWS), (RANKED, _ranked, ROWS[:2])):
        some = runs if gate is RIGHT else runs // 4
        for rows in sizes:
            for behind in BEHIND:
                before, now = _verdicts(gate, played, rows, behind, some)
                shown = [before["pass"], before["fail"], now["pass"], now["inconclusive"], now["fail"]]
                who = "a point worse" if behind else "as good"
                table.rows.append((gate.name, rows, who, *(f"{100 * count / some:.1f}%" for count in shown)))
                what, bad = ("a point worse, let through", "pass") if behind else ("as good, refused", "fail")
                wrong[what] = max(wrong[what], 100 * now[bad] / some)
    needed = needed_rows(RIGHT)
    assert needed is not None
    _, enough = _verdicts(RIGHT, _classified, needed.rows, 0.0, runs // 4)
    table.ratios = [f"plan: {RIGHT.rule} needs {needed.says}"]
    table.bars = [
        # One of 20 is promised; of 200 evaluations as many as 7.5 % are chance.
        *(Bar(what, most, 7.5, "%") for what, most in wrong.items()),
        Bar("as good, passes with the rows of the plan", 400 * enough["pass"] / runs, 70.0, "%", at_least=True),
    ]
    return table


def _verdicts(gate: Gate, played: Played, rows: int, behind: float, runs: int) -> tuple[Counter[str], Counter[str]]:
    before, now = Counter[str](), Counter[str]()
    for number in range(runs):
        own, base = played(np.random.default_rng([SEED, rows, number]), rows, behind / 100)
        evidence = _evidence(gate, own, base, rows)
        alone = evidence.model_copy(update={"summary": None, "paired": None})
        before[judge(gate, alone, now=MOMENT).verdict] += 1
        now[judge(gate, evidence, now=MOMENT).verdict] += 1
    return before, now


def _evidence(gate: Gate, own: Answers, base: Answers, rows: int) -> Evidence:
    metric = gate.metric.partition(".")[2]
    value, baseline = (evaluate("binary", each.truth, each.answers, classes=[0, 1])[metric] for each in (own, base))
    known = same_rows.sample("binary", [metric], own, base)[metric]
    return Evidence(
        source="evaluation",
        metric=metric,
        value=value,
        baseline=baseline,
        samples=rows,
        baseline_samples=rows,
        summary=known.own,
        paired=known.paired,
        since=MOMENT,
        until=MOMENT,
    )


def _classified(generator: np.random.Generator, rows: int, behind: float) -> tuple[Answers, Answers]:
    """Labels; the candidate is right where the current one is not on so much fewer rows than the other way round."""
    ahead, back = (DIFFERING - behind) / 2, (DIFFERING + behind) / 2
    drawn = generator.choice(4, rows, p=[BASE - back, ahead, back, 1 - BASE - ahead])
    truth = generator.integers(0, 2, rows)
    mine, theirs = np.isin(drawn, [0, 1]), np.isin(drawn, [0, 2])
    return (
        Answers(truth, np.where(mine, truth, 1 - truth), [0, 1]),
        Answers(truth, np.where(theirs, truth, 1 - truth), [0, 1]),
    )


def _ranked(generator: np.random.Generator, rows: int, behind: float) -> tuple[Answers, Answers]:
    """Scores that are 95 % alike; one in ten rows is positive, the current model's area is 80 %."""
    from scipy.stats import norm

    truth = (generator.random(rows) < 0.1).astype(int)
    shared, mine, theirs = generator.normal(size=(3, rows))
    answers = []
    for own, area in ((mine, BASE - behind), (theirs, BASE)):
        noise = np.sqrt(0.95) * shared + np.sqrt(0.05) * own
        score = norm.cdf(noise + np.sqrt(2) * norm.ppf(area) * truth)
        answers.append(Answers(truth, np.column_stack([1 - score, score]), [0, 1]))
    return answers[0], answers[1]
