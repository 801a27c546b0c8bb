from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.gates.patience import PATIENCE, excludes
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning.honest_release import patience_at, waiting, waits
from airflow_provider_mlpipex.domain.planning.plan import plan, render
from airflow_provider_mlpipex.domain.statistics.binomial import at_most, more_than
from tests.support.manifests import make_manifest


def spec(limit: str = "1%", **gate: Any) -> EnvironmentSpec:
    errors = {"name": "errors", "metric": "canary.error_rate", "max": limit, **gate}
    return EnvironmentSpec.model_validate(
        {"canary": {"steps": ["5%", "100%"], "step_duration": "10m", "gates": [errors]}}
    )


@given(st.integers(0, 300), st.integers(1, 20_000), st.floats(0.0001, 0.5))
def test_the_chance_of_more_bad_ones_is_the_binomial_one(bad: int, trials: int, share: float) -> None:
    # Beyond 200 expected ones the normal approximation is taken, and is good to a hundredth.
    assert more_than(min(bad, trials), trials, share) == pytest.approx(
        scipy_stats.binom.sf(min(bad, trials), trials, share), abs=1e-8 if trials * share <= 200 else 0.01
    )


@given(st.integers(1, 20_000), st.floats(0.0001, 0.5), st.data())
def test_the_chance_of_so_few_bad_ones_is_the_binomial_one(trials: int, share: float, data: st.DataObject) -> None:
    few = data.draw(st.integers(0, int(share * trials)))
    assert at_most(few, trials, share) == pytest.approx(scipy_stats.binom.cdf(few, trials, share), rel=1e-7, abs=1e-300)


def test_the_plan_agrees_with_simulation() -> None:
    """A release at 0.8 of a limit of 0.1 %, 2,700 requests at the end of its time in the first step."""
    generator, waited, runs = random.Random(20130201), 0, 400
    for _ in range(runs):
        bad = sum(generator.random() < 0.0008 for _ in range(2700))
        waited += not (bad <= 2.7 or excludes(bad, 2700, 0.002))
    first = EnvironmentSpec.model_validate(
        {
            "canary": {
                "steps": ["5%"],
                "step_duration": "10m",
                "gates": [{"name": "errors", "metric": "canary.error_rate", "max": "0.1%"}],
            }
        }
    )
    assert waited / runs == pytest.approx(waits(first, 30.0, 0.8, 3.0), abs=0.06)


def test_less_traffic_and_a_smaller_limit_wait_more_often() -> None:
    busy, quiet, tight = waiting(spec(), 30.0), waiting(spec(), 3.0), waiting(spec("0.1%"), 30.0)
    assert busy.good < busy.fair < quiet.fair
    assert busy.fair < 0.02 and tight.fair > 0.05
    assert tight.works_from is not None and busy.works_from is not None and tight.works_from > 5 * busy.works_from


def test_from_the_stated_traffic_on_it_works() -> None:
    stated = waiting(spec(), 30.0).works_from
    assert stated is not None
    assert waiting(spec(), stated).fair <= 0.05 < waiting(spec(), stated / 2).fair


@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0, 5.0, 30.0])
def test_a_trial_has_as_much_time_as_keeps_people_from_being_called_for_nothing(rate: float) -> None:
    lasting = patience_at(spec(), rate)
    works_from = waiting(spec(), rate).works_from
    assert works_from is not None
    if rate >= works_from:
        assert waits(spec(), rate, 0.8, lasting) <= spec().false_alarms
        assert lasting == PATIENCE or waits(spec(), rate, 0.8, lasting - 0.5) > spec().false_alarms, "and no more"
    else:
        assert lasting == PATIENCE, "more time of so little traffic would not tell either: a person is asked soon"


def test_thin_traffic_has_longer_and_unknown_traffic_the_usual_time() -> None:
    assert patience_at(spec(), 7.0) > patience_at(spec(), 30.0) == PATIENCE == patience_at(spec(), None)


def test_what_never_has_its_samples_always_waits() -> None:
    assert waits(spec(min_samples=10_000), 1.0, 0.5, 3.0) == 1.0
    assert waiting(spec(advisory=True), 0.001).fair == 0.0


def test_the_plan_says_how_often_a_person_is_asked() -> None:
    text = render(plan(make_manifest(), "production"))
    assert "Waits for a person at most" in text and "on, at most 5% of those at 0.8 wait" in text
    assert "Waits for a person" not in render(plan(make_manifest(), "staging"))


def test_a_policy_that_is_mostly_wrong_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="would wait for a person"):
        make_manifest(
            ("max: 1%, min_samples: 100", "max: 0.02%"),
            ("step_duration: 15m", "step_duration: 45m"),
            ("steps: [5%, 50%, 100%]", "steps: [5%, 6%, 7%, 8%, 100%]"),
        )
