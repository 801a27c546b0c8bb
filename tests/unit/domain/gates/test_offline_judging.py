"""Gates on an evaluation: what a sample of fixed size shows, what it rules out, and how many rows would tell."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.statistics.same_rows import Covaried, Discordant, Estimated
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
from tests.support.factories import NOON


def gate(metric: str = "evaluation.accuracy", **spec: Any) -> Gate:
    return Gate.model_validate({"name": "it", "metric": metric, **spec})


def answered(rows: int, *, own: float, base: float, differing: float) -> Evidence:
    """Two classifiers that are right on these shares of ``rows`` and differ on so many of them."""
    ahead, behind = round(rows * (differing + own - base) / 2), round(rows * (differing - own + base) / 2)
    both = round(rows * own) - ahead
    paired = Discordant(both=both, only_candidate=ahead, only_baseline=behind, neither=rows - both - ahead - behind)
    return Evidence(
        source="evaluation",
        metric="accuracy",
        value=(both + ahead) / rows,
        baseline=(both + behind) / rows,
        samples=rows,
        baseline_samples=rows,
        since=NOON - timedelta(days=30),
        until=NOON,
        summary=Counted(events=both + ahead, trials=rows),
        paired=paired,
    )


def estimated(metric: str, own: float, base: float | None, *, deviation: float, rows: int = 5000) -> Evidence:
    """Two estimates that vary so much and hardly together."""
    variance = deviation**2
    paired = Covaried(
        rows=rows, variance=variance, baseline_variance=variance, covariance=0.5 * variance, by="bootstrap"
    )
    return Evidence(
        source="evaluation",
        metric=metric,
        value=own,
        baseline=base,
        samples=rows,
        baseline_samples=rows if base is not None else 0,
        since=NOON - timedelta(days=30),
        until=NOON,
        summary=Estimated(rows=rows, variance=variance),
        paired=None if base is None else paired,
    )


@pytest.mark.parametrize(
    ("rows", "own", "verdict"),
    [
        (1_000, 0.80, "inconclusive"),
        (5_000, 0.80, "inconclusive"),
        (50_000, 0.80, "pass"),
        (1_000, 0.83, "pass"),
        (1_000, 0.77, "fail"),
        (50_000, 0.79, "fail"),
        (1_000, 0.79, "inconclusive"),
    ],
)
def test_a_gate_beside_the_baseline_says_what_the_rows_show(rows: int, own: float, verdict: str) -> None:
    within = gate(within="0.5%")
    assert judge(within, answered(rows, own=own, base=0.8, differing=0.05), now=NOON).verdict == verdict


def test_what_the_rows_cannot_tell_comes_with_the_rows_that_would() -> None:
    """So many are enough, if they show the same; of a quarter fewer that is not so."""
    within = gate(within="0.5%")
    unclear = judge(within, answered(2_000, own=0.8, base=0.8, differing=0.05), now=NOON)
    assert unclear.verdict == "inconclusive" and unclear.rows_that_decide is not None
    assert f"about {unclear.rows_that_decide:,} would" in unclear.reason
    for share, verdict in ((1.05, "pass"), (0.75, "inconclusive")):
        more = answered(round(share * unclear.rows_that_decide), own=0.8, base=0.8, differing=0.05)
        assert judge(within, more, now=NOON).verdict == verdict


def test_on_the_very_threshold_no_number_of_rows_decides() -> None:
    at = judge(gate(min="80%"), answered(1_000, own=0.8, base=0.8, differing=0.0), now=NOON)
    assert at.verdict == "inconclusive" and "no number of rows" in at.reason
    assert at.rows_that_decide == 1_000_000_000


@pytest.mark.parametrize(("rows", "verdict"), [(1, "inconclusive"), (40, "inconclusive"), (2_000, "pass")])
def test_one_row_passes_nothing(rows: int, verdict: str) -> None:
    assert judge(gate(within="0.5%"), answered(rows, own=1.0, base=1.0, differing=0.0), now=NOON).verdict == verdict


@pytest.mark.parametrize(
    ("spec", "own", "base", "deviation", "verdict"),
    [
        ({"metric": "evaluation.auc", "within": "1%"}, 0.80, 0.80, 0.002, "pass"),
        ({"metric": "evaluation.auc", "within": "1%"}, 0.80, 0.80, 0.01, "inconclusive"),
        ({"metric": "evaluation.auc", "within": "1%"}, 0.76, 0.80, 0.01, "fail"),
        ({"metric": "evaluation.auc", "improves": "1%"}, 0.82, 0.80, 0.002, "pass"),
        ({"metric": "evaluation.auc", "improves": "1%"}, 0.80, 0.80, 0.002, "fail"),
        ({"metric": "evaluation.auc", "min": "70%"}, 0.80, None, 0.01, "pass"),
        ({"metric": "evaluation.auc", "min": "79%"}, 0.80, None, 0.01, "inconclusive"),
        ({"metric": "evaluation.auc", "min": "85%"}, 0.80, None, 0.01, "fail"),
        ({"metric": "evaluation.log_loss", "within": "5%"}, 0.50, 0.50, 0.01, "pass"),
        ({"metric": "evaluation.log_loss", "within": "5%"}, 0.56, 0.50, 0.01, "fail"),
        ({"metric": "evaluation.rmse", "max": 3}, 2.5, None, 0.2, "pass"),
        # A negative baseline, where "within" means a worse one still: the threshold is -0.33.
        ({"metric": "evaluation.r2", "within": "10%"}, -0.30, -0.30, 0.01, "pass"),
        ({"metric": "evaluation.r2", "within": "10%"}, -0.38, -0.30, 0.01, "fail"),
        ({"metric": "evaluation.bias", "within": "10%", "direction": "lower"}, 0.0, 0.0, 0.1, "inconclusive"),
    ],
)
def test_estimates_are_judged_by_how_well_they_are_known(
    spec: dict[str, Any], own: float, base: float | None, deviation: float, verdict: str
) -> None:
    of = gate(**spec)
    metric = of.metric.partition(".")[2]
    result = judge(of, estimated(metric, own, base, deviation=deviation), now=NOON)
    assert result.verdict == verdict, result.reason
    assert (result.rows_that_decide is not None) == (verdict == "inconclusive")
    assert result.interval is not None and result.alpha is None
    assert GateResult.model_validate(result.to_json()) == result


def test_other_reasons_to_wait_name_no_rows() -> None:
    """Nobody is asked about a gate that demands more samples, or whose baseline is missing."""
    few = answered(1_000, own=0.8, base=0.8, differing=0.05)
    assert judge(gate(within="0.5%", min_samples=2_000), few, now=NOON).rows_that_decide is None
    alone = few.model_copy(update={"baseline": None, "baseline_samples": 0, "paired": None})
    assert judge(gate(within="0.5%"), alone, now=NOON).rows_that_decide is None
    assert judge(gate(within="0.5%"), None, now=NOON).rows_that_decide is None


def test_evidence_of_its_value_alone_is_judged_by_it() -> None:
    """Of old ledger entries, and of a function that measures no more."""
    bare = answered(100, own=0.8, base=0.8, differing=0.1).model_copy(update={"summary": None, "paired": None})
    assert judge(gate(within="0.5%"), bare, now=NOON).verdict == "pass"


def test_differences_of_shares_are_told_in_points() -> None:
    told = judge(gate(within="0.5%"), answered(50_000, own=0.8, base=0.8, differing=0.05), now=NOON).reason
    assert "0.4 points to spare" in told and "observed 80% from 50000 samples" in told
    assert "of 50000 rows 1250 right by the new one alone, 1250 by the current one alone" in told
