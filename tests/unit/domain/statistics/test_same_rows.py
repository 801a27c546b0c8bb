"""Two models on the same rows: published examples, other people's programs, and what simulation says of the promise."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from statsmodels.stats.proportion import proportion_confint

from airflow_provider_mlpipex.domain.statistics.same_rows import (
    MIN_ROWS,
    Covaried,
    Discordant,
    Estimated,
    estimate,
    excess_on_same_rows,
    share_of_rows,
)

cells = st.integers(0, 400)


def difference(both: int, own: int, base: int, neither: int, *, sides: float = 0.95, scale: float = 1.0) -> list[float]:
    paired = Discordant(both=both, only_candidate=own, only_baseline=base, neither=neither)
    found = excess_on_same_rows(paired, own=0.0, base=0.0, scale=scale, level=1 - (1 - sides) / 2)
    assert found is not None
    return [found.lower, found.upper]


@pytest.mark.parametrize(
    ("counts", "sides", "published"),
    [
        # Airway hyper-responsiveness before and after stem cell transplantation: Fagerland, Lydersen & Laake (2014).
        ((1, 1, 7, 12), 0.95, (-0.517, -0.026)),
        # Tang, Ling & Tian (2010).
        ((8, 3, 1, 2), 0.95, (-0.1670, 0.4327)),
        # scoreci.mp(25, 28, 618, 0.9) of the R package PropCIs.
        ((0, 28, 25, 565), 0.9, (-0.0148, 0.0247)),
    ],
)
def test_the_interval_is_tangos(
    counts: tuple[int, int, int, int], sides: float, published: tuple[float, float]
) -> None:
    digits = len(str(published[0]).partition(".")[2])
    assert difference(*counts, sides=sides) == pytest.approx(published, abs=0.51 * 10**-digits)


@settings(max_examples=25, deadline=None)
@given(own=cells, base=cells, rest=st.integers(1, 5000))
def test_the_interval_is_where_tangos_formula_crosses(own: int, base: int, rest: int) -> None:
    """The formula of the paper, whose restricted estimate is the root of a quadratic; here it is a multiplier."""
    rows = own + base + rest

    def score(gap: float) -> float:
        a = 2 * rows
        b = -own - base + (2 * rows - own + base) * gap
        c = -base * gap * (1 - gap)
        restricted = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
        return (own - base - rows * gap) / math.sqrt(rows * (2 * restricted + gap * (1 - gap)))

    z, observed = NormalDist().inv_cdf(0.975), (own - base) / rows
    lower = brentq(lambda gap: score(gap) - z, -1 + 1e-12, observed - 1e-12)
    upper = brentq(lambda gap: score(gap) + z, observed + 1e-12, 1 - 1e-12)
    assert difference(rest, own, base, 0) == pytest.approx((lower, upper), abs=1e-6)


def test_a_scaled_baseline_is_the_published_interval_of_the_paired_ratio() -> None:
    """Of the example above the ratio lies between 0.065 and 0.907 (Fagerland, Lydersen & Laake 2014, table IV)."""
    assert difference(1, 1, 7, 12, scale=0.065)[0] == pytest.approx(0.0, abs=5e-4)
    assert difference(1, 1, 7, 12, scale=0.907)[1] == pytest.approx(0.0, abs=5e-4)


@settings(max_examples=25, deadline=None)
@given(events=cells, others=cells)
def test_one_share_is_wilsons_interval(events: int, others: int) -> None:
    if not events + others:
        assert share_of_rows(events, events, level=0.95) is None
        return
    found = share_of_rows(events, events + others, level=0.95)
    assert found is not None
    wanted = proportion_confint(events, events + others, alpha=0.1, method="wilson")
    assert [found.lower, found.upper] == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(both=cells, own=cells, base=cells, neither=cells, scale=st.sampled_from([0.8, 0.995, 1.0, 1.01, 1.5]))
def test_every_table_has_an_interval_that_holds_what_was_observed(
    both: int, own: int, base: int, neither: int, scale: float
) -> None:
    rows = both + own + base + neither
    if not rows:
        assert excess_on_same_rows(
            Discordant(both=0, only_candidate=0, only_baseline=0, neither=0), own=0, base=0, scale=scale, level=0.95
        ) is None  # fmt: skip
        return
    lower, upper = difference(both, own, base, neither, scale=scale)
    observed = (both + own - scale * (both + base)) / rows
    assert -scale - 1e-9 <= lower <= observed + 1e-9 and observed - 1e-9 <= upper <= 1 + 1e-9
    mirrored = difference(both, base, own, neither)
    assert difference(both, own, base, neither) == pytest.approx([-mirrored[1], -mirrored[0]], abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.995])
def test_what_is_worse_by_just_the_margin_passes_in_one_of_twenty(scale: float) -> None:
    """Over 2,000 evaluations of 2,000 rows: the promise of a gate, for a candidate that lies on its threshold."""
    generator, margin, disagree = np.random.default_rng(5), 0.01 if scale == 1.0 else 0.0, 0.06
    base = 0.8
    apart = margin if scale == 1.0 else base * (1 - scale)
    only_own = (disagree - apart) / 2
    chances = [base - only_own - apart, only_own, only_own + apart, 1 - base - only_own]
    tables = generator.multinomial(2000, chances, 2000)
    distinct, counts = np.unique(tables[:, 1:3], axis=0, return_counts=True)
    passed = 0
    for (own, alone), count in zip(distinct.tolist(), counts.tolist(), strict=True):
        both = round(2000 * chances[0])
        lower, _ = difference(both, own, alone, 2000 - both - own - alone, sides=0.9, scale=scale)
        passed += count * (lower >= -margin)
    assert 0.03 <= passed / 2000 <= 0.065


def test_estimates_of_few_rows_say_nothing() -> None:
    few = Covaried(rows=MIN_ROWS - 1, variance=0.0, baseline_variance=0.0, covariance=0.0, by="delong")
    assert excess_on_same_rows(few, own=1.0, base=1.0, scale=1.0, level=0.95) is None
    assert estimate(1.0, Estimated(rows=MIN_ROWS - 1, variance=0.0), level=0.95) is None


def test_what_varies_together_is_known_better() -> None:
    apart = Covaried(rows=500, variance=4e-4, baseline_variance=4e-4, covariance=0.0, by="bootstrap")
    together = apart.model_copy(update={"covariance": 3.8e-4})
    wide, narrow = (excess_on_same_rows(each, own=0.8, base=0.8, scale=1.0, level=0.95) for each in (apart, together))
    assert wide is not None and narrow is not None
    assert wide.upper == pytest.approx(NormalDist().inv_cdf(0.95) * math.sqrt(8e-4))
    assert narrow.upper == pytest.approx(wide.upper * math.sqrt(0.05))
