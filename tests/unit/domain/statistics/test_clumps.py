from __future__ import annotations

import random

import pytest
from scipy import stats as scipy_stats

from airflow_provider_mlpipex.domain.statistics.clumps import are_clumped, blocks_to_exceed, log_capital, mean_exceeds

LIMIT, ALPHA = 0.01, 0.05


def bursts(generator: random.Random, mean: float, rho: float, blocks: int, requests: int) -> list[tuple[int, int]]:
    """Errors and requests of blocks that are good or bad as a whole: beta-binomial."""
    spread = 1 / rho - 1
    shares = [generator.betavariate(mean * spread, (1 - mean) * spread) for _ in range(blocks)]
    return [(sum(generator.random() < p for _ in range(requests)), requests) for p in shares]


def test_independent_failures_are_hardly_ever_called_clumped() -> None:
    generator = random.Random(20130301)
    called = 0
    for _ in range(200):
        called += are_clumped([(sum(generator.random() < 0.05 for _ in range(200)), 200) for _ in range(20)])
    # 200 runs at 1 %: more than 8 has probability below 0.1 %.
    assert called <= 8


def test_the_threshold_is_that_of_chi_squared() -> None:
    """Two kinds of blocks, moved apart until SciPy's test and this one change their minds: at the same difference."""
    verdicts = []
    for difference in range(0, 60, 3):
        blocks = [(100 + difference, 1000), (100 - difference, 1000)] * 10
        p = scipy_stats.chi2_contingency([[e for e, _ in blocks], [n - e for e, n in blocks]]).pvalue
        verdicts.append((are_clumped(blocks), p < 0.01, p))
    assert all(ours == theirs for ours, theirs, p in verdicts if abs(p - 0.01) > 0.002)
    assert {ours for ours, _, _ in verdicts} == {True, False}


def test_bursts_are_seen() -> None:
    generator = random.Random(20130302)
    assert sum(are_clumped(bursts(generator, 0.02, 0.1, 30, 500)) for _ in range(40)) >= 38


@pytest.mark.parametrize("blocks", [[], [(5, 10)] * 3, [(0, 100)] * 20, [(100, 100)] * 20, [(0, 0)] * 20])
def test_of_too_little_nothing_is_said(blocks: list[tuple[int, int]]) -> None:
    assert not are_clumped(blocks)


def test_betting_on_blocks_holds_its_alpha_under_bursts_at_the_limit_itself() -> None:
    generator, wrong = random.Random(20130303), 0
    for _ in range(200):
        shares = [events / n for events, n in bursts(generator, LIMIT, 0.1, 30, 60)]
        wrong += any(mean_exceeds(shares[:k], LIMIT, alpha=ALPHA) for k in range(1, 31))
    # 200 runs at 5 %: more than 20 has probability below 0.1 %.
    assert wrong <= 20


def test_betting_on_blocks_finds_what_is_bad() -> None:
    generator, found = random.Random(20130304), 0
    for _ in range(40):
        shares = [sum(generator.random() < 0.05 for _ in range(90)) / 90 for _ in range(20)]
        found += mean_exceeds(shares, LIMIT, alpha=0.003)
    assert found >= 39


def test_a_total_failure_takes_the_blocks_that_are_stated() -> None:
    needed = blocks_to_exceed(LIMIT, alpha=0.003)
    assert 2 <= needed <= 3
    assert not mean_exceeds([1.0] * (needed - 1), LIMIT, alpha=0.003)
    assert log_capital([], LIMIT) == pytest.approx(0.0)


def test_a_mean_that_cannot_be_bet_on_is_refused() -> None:
    with pytest.raises(ValueError, match="strictly between"):
        log_capital([0.5], 0.0)
