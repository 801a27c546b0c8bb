"""Sample-ratio mismatch: the closed form against an integral, honest splits that are looked at all the time, and how
soon a canary of 5 % that gets 2 % is found."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import integrate, stats

from airflow_provider_mlpipex.domain.gates.evidence import Split
from airflow_provider_mlpipex.domain.gates.split import SPLIT_ALPHA, mismatch
from airflow_provider_mlpipex.domain.statistics.splits import is_mismatch, log_evidence_against_shares

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = "1.0.0-rt1.0.0-aaaaaaaa", "1.1.0-rt1.0.0-aaaaaaaa"


@pytest.mark.parametrize(("counts", "share"), [((2, 98), 0.05), ((0, 40), 0.05), ((30, 70), 0.25), ((7, 0), 0.5)])
def test_two_arms_are_the_integral_of_the_likelihood_ratio_over_all_shares(
    counts: tuple[int, int], share: float
) -> None:
    first, second = counts
    prior = stats.beta(0.5, 0.5)

    def ratio(p: float) -> float:
        return float((p / share) ** first * ((1 - p) / (1 - share)) ** second)

    expected, _ = integrate.quad(lambda t: ratio(prior.ppf(t)), 0, 1, limit=500)
    assert log_evidence_against_shares(counts, (share, 1 - share)) == pytest.approx(math.log(expected), abs=1e-4)


def test_three_arms_are_the_mean_of_the_likelihood_ratio_over_a_dirichlet() -> None:
    counts, shares = (4, 9, 27), (0.05, 0.15, 0.8)
    drawn = np.random.default_rng(1).dirichlet([0.5] * 3, 2_000_000)
    logs = (np.log(np.clip(drawn, 1e-300, 1)) - np.log(shares)) @ np.array(counts)
    expected = math.log(np.exp(logs - logs.max()).mean()) + logs.max()
    assert log_evidence_against_shares(counts, shares) == pytest.approx(expected, abs=0.02)


def _alarms(share: float, planned: float, *, units: int, splits: int, alpha: float) -> list[int | None]:
    """After how many units each split alarms, asked after every single one; ``None``: never."""
    chance = np.random.default_rng(7)
    n = np.arange(1, units + 1)
    found: list[int | None] = []
    for _ in range(splits):
        k = np.cumsum(chance.random(units) < share)
        # The same martingale by another closed form: posterior odds of beta functions.
        logs = stats.betabinom.logpmf(k, n, 0.5, 0.5) - stats.binom.logpmf(k, n, planned)
        beyond = np.flatnonzero(logs > math.log(1 / alpha))
        found.append(int(n[beyond[0]]) if beyond.size else None)
        at = int(n[beyond[0]]) if beyond.size else units
        assert is_mismatch([int(k[at - 1]), at - int(k[at - 1])], [planned, 1 - planned], alpha=alpha) == bool(
            beyond.size
        )
    return found


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_honest_splits_alarm_at_most_alpha_of_the_time_however_often_they_are_looked_at(share: float) -> None:
    alarms = sum(at is not None for at in _alarms(share, share, units=4000, splits=400, alpha=0.05))
    # More than 400 * 5 % by three standard deviations would be a broken promise.
    assert alarms <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_a_canary_of_five_percent_that_gets_two_is_found() -> None:
    found = _alarms(0.02, 0.05, units=4000, splits=200, alpha=SPLIT_ALPHA)
    assert all(at is not None for at in found)
    assert np.median([at for at in found if at is not None]) < 1500, "users; 50 s of new ones at 30 a second"


def test_shares_that_are_none_are_refused() -> None:
    for counts, shares in (([1], [1.0]), ([1, 2], [0.5, 0.6]), ([1, 2], [0.0, 1.0]), ([-1, 2], [0.5, 0.5])):
        with pytest.raises(ValueError, match="shares"):
            log_evidence_against_shares(counts, shares)


def split_of(units: dict[str, int], *, users: int | None = None, weights: dict[str, int] | None = None) -> Split:
    of = weights or {OLD: 9_500, NEW: 500}
    return Split(since=NOW, weights=of, units=units, users=sum(units.values()) if users is None else users)


def test_what_is_wrong_is_said_by_release_and_of_whom() -> None:
    said = mismatch(split_of({OLD: 1960, NEW: 40}))
    assert said is not None and "of 2,000 users" in said and f"{NEW} got 2% where 5% were planned" in said
    assert "of 2,000 requests" in str(mismatch(split_of({OLD: 1960, NEW: 40}, users=0)))
    assert "users and requests without one" in str(mismatch(split_of({OLD: 1960, NEW: 40}, users=7)))


@pytest.mark.parametrize(
    "split",
    [split_of({OLD: 1900, NEW: 100}), split_of({}), split_of({OLD: 5000}, weights={OLD: 10_000})],
    ids=["as planned", "nobody came", "nothing is split"],
)
def test_what_may_be_the_plan_is_none(split: Split) -> None:
    assert mismatch(split) is None
