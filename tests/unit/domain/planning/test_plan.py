from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.planning.plan import RolloutPlan, plan, render
from airflow_provider_mlpipex.domain.planning.sampling import REVERT, look_every
from tests.support.manifests import make_manifest

#: Of a step of 15 and a watch of 30 minutes.
LOOK_AND_REVERT = look_every(timedelta(minutes=15)) + REVERT


def test_the_steps_of_a_whole_rollout() -> None:
    planned = plan(make_manifest(), "production")
    stages = [step.stage for step in planned.steps]
    assert stages == ["gate", "review", "shadow", "canary", "canary", "canary", "promote", "watch"]
    assert planned.time_to_promote == timedelta(minutes=10 + 3 * 15)
    assert planned.review_at_most == timedelta(hours=24)
    assert planned.watched_for == timedelta(minutes=30)


def test_samples_are_computed_from_rate_share_and_time() -> None:
    steps = plan(make_manifest(), "production").steps
    assert [step.expected_samples for step in steps if step.share] == [3000, 450, 4500, 8550, 18000]


def test_the_time_to_roll_back_is_evidence_look_and_revert() -> None:
    planned = plan(make_manifest(), "production")
    first_canary, watch = planned.steps[3], planned.steps[-1]
    # 5% of 10/s: the first critical error can be seen after 2 s. Two failures in a row are no 1% after 4 s, and a third
    # shows that the current release, which has none of 57, is better.
    assert [gate.detects_after for gate in first_canary.gates] == [timedelta(seconds=2), timedelta(seconds=6)]
    assert first_canary.rolls_back_after == (
        timedelta(seconds=2) + LOOK_AND_REVERT,
        timedelta(seconds=6) + LOOK_AND_REVERT,
    )
    assert watch.rolls_back_after == (timedelta(seconds=1) + LOOK_AND_REVERT,) * 2
    assert planned.time_to_roll_back == timedelta(seconds=6) + LOOK_AND_REVERT


def test_a_plan_says_what_each_gate_can_decide() -> None:
    planned = plan(make_manifest(("max: 1%, min_samples: 100", "max: 1%, detects: 6%")), "production")
    errors = [step.gates[1] for step in planned.steps if step.stage == "canary"]
    assert [gate.alpha for gate in errors] == [pytest.approx(0.05 / 5)] * 3
    assert all(before.excess > after.excess for before, after in pairwise(errors) if before.excess and after.excess)
    assert "needs about" in errors[0].says and "15m decides" in errors[0].says
    assert planned.steps[3].gates[0].alpha is None, "a count is exact"
    assert (planned.false_alarms, planned.sequences) == (0.05, 5)
    text = render(planned)
    assert errors[0].says in text
    assert "False alarms       at most 5% a rollout, shared by 5 gates and steps" in text


def test_a_control_arm_is_planned_with_what_it_costs() -> None:
    control = ("window: 30m", "window: 30m\n      control: 5%")
    alone, beside = plan(make_manifest(), "production"), plan(make_manifest(control), "production")
    watch = beside.steps[-1]
    assert watch.share == 0.95 and watch.expected_samples == 17_100
    assert "5% of the requests stay on the previous release until the watch is over" in render(beside)
    assert "an outage of both releases shows in the control arm after 1 s" in watch.gates[0].says
    assert "a limit that breaks gives it 50% for a moment" in watch.notes[1]
    assert watch.gates[0].detects_after == alone.steps[-1].gates[0].detects_after, "an arm must not make it slower"


def test_an_exposure_budget_is_planned_with_lengths_and_cost() -> None:
    zero = ("zero critical errors in a 30-minute canary window", "at most 20 critical errors")
    budget = make_manifest(("step_duration: 15m", "exposure: {max_bad: 60, effect: 5%}"), zero)
    canary = [step for step in plan(budget, "production").steps if step.stage == "canary"]
    assert [step.share for step in canary] == [0.05, 0.5, 0.95]
    assert canary[0].duration > 9 * canary[1].duration > 15 * canary[2].duration > timedelta(0)
    assert "bad predictions, of 60 at most, until an excess of 5% is found (errors)" in canary[0].notes[0]
    assert canary[0].notes[0] in render(plan(budget, "production"))


@pytest.mark.parametrize(("stage", "seconds"), [(5, 1), (60, 6), (600, 15), (86_400, 15)])
def test_a_stage_is_looked_at_ten_times_or_every_quarter_of_a_minute(stage: int, seconds: float) -> None:
    assert look_every(timedelta(seconds=stage)) == timedelta(seconds=seconds)


def test_an_advisory_gate_rolls_nothing_back() -> None:
    advised = make_manifest(("max: 1%", "max: 1%, advisory: true"))
    assert plan(advised, "production").steps[3].rolls_back_after == (timedelta(seconds=2) + LOOK_AND_REVERT,) * 2


def test_an_environment_that_serves_nobody_only_judges() -> None:
    planned = plan(make_manifest(), "staging")
    assert [step.stage for step in planned.steps] == ["gate", "promote"]
    assert planned.time_to_roll_back is None


def test_an_environment_that_is_not_declared() -> None:
    with pytest.raises(ManifestInvalid) as refused:
        plan(make_manifest(), "prod")
    assert refused.value.value == "prod"
    assert "staging, production" in refused.value.limit


def test_a_plan_survives_json() -> None:
    planned = plan(make_manifest(), "production")
    assert RolloutPlan.model_validate(planned.to_json()) == planned


def test_the_text_names_every_step_gate_and_time() -> None:
    planned = plan(make_manifest(), "production")
    text = render(planned)
    for step in planned.steps:
        assert step.title in text
        assert all(gate.rule in text for gate in step.gates)
    assert "+0s  shadow" in text and "+10m  canary 1 of 3: 5%" in text and "+55m  watch" in text
    assert "Time to promote    55m, plus a review of at most 1d" in text
    assert "Time to roll back  up to 22s" in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_without_a_declared_rate_nothing_is_guessed() -> None:
    manifest = make_manifest(
        ("  expected_rate: 10/s", "  timeout: 2s"), ("min_pairs: 500", "min_pairs: 1"), (", min_samples: 100", "")
    )
    planned = plan(manifest, "production")
    assert planned.time_to_roll_back is None
    assert all(step.expected_samples is None for step in planned.steps)
    assert "requests in" not in render(planned)


def test_stages_whose_predictions_are_judged_say_so() -> None:
    block = "  predictions:\n    - {expect: column_values_to_not_be_null, column: score}\nfeatures:\n"
    told = plan(make_manifest(("features:\n", block)), "production")
    noted = [step.stage for step in told.steps if "at its end, 1 expectation on what was answered" in step.notes]
    assert noted == ["shadow", "canary", "canary", "canary", "watch"]
    assert "expectation" not in render(plan(make_manifest(), "production"))


@pytest.mark.parametrize(("allowed", "said"), [(True, "may be broken on purpose"), (False, "may not be broken")])
def test_a_plan_says_whether_what_serves_may_be_broken_on_purpose(allowed: bool, said: str) -> None:
    alerts = "alerts: {on: [rolled-back], channel: on-call}"
    drills = f"{alerts}\n    drills: {{allowed: {str(allowed).lower()}}}"
    assert said in render(plan(make_manifest((alerts, drills)), "production"))
    assert "on purpose" not in render(plan(make_manifest(), "production"))


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("", "windows of 1d beside the reference; its weekdays and hours apart, where its rows say that they matter"),
        ("season: week", "windows of 1d beside the same weekday and hours of the reference"),
        ("window: 6h, season: none", "windows of 6h beside all rows of the reference"),
        ("cycle: false", "windows of 1d beside all rows of the reference, whatever their time"),
    ],
)
def test_the_plan_says_with_what_drift_is_compared(block: str, says: str) -> None:
    text = render(plan(make_manifest(("    alerts: {on", f"    drift: {{{block}}}\n    alerts: {{on")), "production"))
    assert f"Drift              {says}" in text
    assert "Drift  " not in render(plan(make_manifest(), "production"))
