from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.drift.report import MEASURES
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.diff import diff, release_changes
from airflow_provider_mlpipex.domain.manifest.drills_block import DrillsSpec
from airflow_provider_mlpipex.domain.manifest.gates_diff import diff_gates
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.review_block import ReviewSpec, review_needed, stricter_review
from tests.support.factories import make_release, make_snapshot
from tests.support.manifests import make_manifest

PRODUCTION = "environments.production"


def changed(*edits: tuple[str, str]) -> list[tuple[str, str]]:
    return [(change.kind, change.what) for change in diff(make_manifest(), make_manifest(*edits))]


@pytest.mark.parametrize(
    ("edit", "kind", "what"),
    [
        (("  version: auto", "  version: 1.1.0"), "model", "model.version"),
        (("depth: 3", "depth: 4"), "model", "training.parameters.depth"),
        (("version: 1.0.0", "version: 1.0.1"), "runtime", "runtime.version"),
        (("train: 60d", "train: 90d"), "data", "data.window.train"),
        (("[amount, country]", "[country, amount]"), "features", "features.columns"),
        (("expected_rate: 10/s", "expected_rate: 20/s"), "policy", "traffic.expected_rate"),
        (("team: risk", "team: fraud"), "policy", "owner.team"),
        (("timeout: 24h", "timeout: 12h"), "policy", f"{PRODUCTION}.review.timeout"),
        (("channel: on-call", "channel: chat"), "policy", f"{PRODUCTION}.alerts.channel"),
        (("environments:\n", "environments:\n  lab: {}\n"), "policy", "environments.lab"),
    ],
)
def test_each_difference_has_its_kind(edit: tuple[str, str], kind: str, what: str) -> None:
    assert changed(edit) == [(kind, what)]


ALERTS = "alerts: {on: [rolled-back], channel: on-call}"
LOOSENINGS = [
    (("within 0.5%", "within 1%"), f"{PRODUCTION}.gates accuracy-within threshold"),
    (("under 120 ms", "under 130 ms"), f"{PRODUCTION}.shadow.gates latency-p95-max threshold"),
    (("at least 60%", "at least 50%"), "environments.staging.gates accuracy-min threshold"),
    (("min_samples: 100", "min_samples: 50"), f"{PRODUCTION}.canary.gates errors min_samples"),
    (("max: 1%", "max: 1%, advisory: true"), f"{PRODUCTION}.canary.gates errors advisory"),
    (("window: 1m", "window: 2m"), f"{PRODUCTION}.rollback.gates failing window"),
    (("window: 1m", "window: 1m, min_samples: 300"), f"{PRODUCTION}.rollback.gates failing min_samples"),
    (("duration: 10m", "duration: 5m"), f"{PRODUCTION}.shadow duration"),
    (("fraction: 50%", "fraction: 40%"), f"{PRODUCTION}.shadow fraction"),
    (("min_pairs: 500", "min_pairs: 400"), f"{PRODUCTION}.shadow min_pairs"),
    (("step_duration: 15m", "step_duration: 14m"), f"{PRODUCTION}.canary step_duration"),
    (("step_duration: 15m", "step_duration: 15m\n      ignore_first: 1m"), f"{PRODUCTION}.canary ignore_first"),
    (("[5%, 50%, 100%]", "[5%, 60%, 100%]"), f"{PRODUCTION}.canary steps"),
    (("[5%, 50%, 100%]", "[5%, 100%]"), f"{PRODUCTION}.canary steps"),
    (("window: 30m", "window: 29m"), f"{PRODUCTION}.rollback window"),
    (("[data]", "[data, policy]"), f"{PRODUCTION}.review of policy"),
    (("auto_approve: [data]", "required_for: [runtime, gate-loosened]"), f"{PRODUCTION}.review of model"),
    (("mostly: 0.99", "mostly: 0.98"), "quality.snapshot column_values_to_not_be_null amount"),
    (("mostly: 0.99", "mostly: 0.99\n      row_condition: x"), "quality.snapshot column_values_to_not_be_null amount"),
    ((ALERTS, f"{ALERTS}\n    drills: {{allowed: true}}"), f"{PRODUCTION}.drills"),
    (("  staging:\n    serve: false\n    gates: [accuracy at least 60%]\n", ""), "environments.staging"),
]


@pytest.mark.parametrize(("edit", "what"), LOOSENINGS, ids=[f"{what} {edit[1][:20]}" for edit, what in LOOSENINGS])
def test_a_loosening_is_decided_by_the_numbers(edit: tuple[str, str], what: str) -> None:
    assert ("gate-loosened", what) in changed(edit)


@pytest.mark.parametrize(
    ("edit", "what"),
    [case for case in LOOSENINGS if "row_condition" not in case[0][1] and "staging:" not in case[0][0]],
)
def test_undoing_a_loosening_is_a_tightening(edit: tuple[str, str], what: str) -> None:
    undone = diff(make_manifest(edit), make_manifest())
    assert ("gate-tightened", what) in [(change.kind, change.what) for change in undone]


def test_a_removed_gate_is_loosened_and_a_new_one_tightened() -> None:
    gate = "        - zero critical errors in a 30-minute canary window\n"
    what = f"{PRODUCTION}.canary.gates critical-errors-max-30m"
    assert changed((gate, "")) == [("gate-loosened", what)]
    added = diff(make_manifest((gate, "")), make_manifest())
    assert [(change.kind, change.what, change.before) for change in added] == [("gate-tightened", what, "none")]


def test_a_gate_that_asks_something_else_is_another_gate() -> None:
    kinds = [kind for kind, _ in changed(("metric: canary.error_rate, max: 1%", "metric: canary.latency_p99, max: 1s"))]
    assert kinds == ["gate-tightened", "gate-loosened"]


def test_points_and_parts_of_the_baseline_are_other_questions() -> None:
    part, points, tighter = (
        Gate.model_validate({"name": "it", "metric": "evaluation.accuracy", "within": within})
        for within in ("0.5% of the baseline", "0.5 points", "0.4 points")
    )
    kinds = [change.kind for change in diff_gates("gates", [part], [points])]
    assert kinds == ["gate-loosened", "gate-tightened"], "which is stricter hangs on the baseline"
    (change,) = diff_gates("gates", [points], [tighter])
    assert (change.kind, change.before) == ("gate-tightened", "evaluation.accuracy within 0.5 points of the baseline")


def without(stage: str) -> Manifest:
    payload = make_manifest().to_json()
    payload["environments"]["production"][stage] = None
    return Manifest.model_validate(payload)


def drifting(**block: Any) -> Manifest:
    payload = make_manifest().to_json()
    payload["environments"]["production"]["drift"] = block
    return Manifest.model_validate(payload)


@pytest.mark.parametrize(
    ("strict", "loose", "aspect"),
    [
        ({"limits": {"psi": 0.1}}, {"limits": {"psi": 0.2}}, "limit of psi"),
        ({"limits": {"psi": 0.2, "ks": 0.1}}, {"limits": {"psi": 0.2}}, "limit of ks"),
        ({"damage": 0.1}, {"damage": 0.3}, "damage"),
        ({"alpha": "5%"}, {"alpha": "1%"}, "alpha"),
        ({"max_dropped": "1%"}, {"max_dropped": "2%"}, "max_dropped"),
        ({"alert": True}, {"alert": False}, "alert"),
        ({}, {"batches": False}, "batches"),
    ],
)
def test_what_counts_as_drift_is_compared_number_by_number(
    strict: dict[str, Any], loose: dict[str, Any], aspect: str
) -> None:
    what = f"{PRODUCTION}.drift {aspect}"
    (change,) = diff(drifting(**strict), drifting(**loose))
    assert (change.kind, change.what) == ("gate-loosened", what)
    (undone,) = diff(drifting(**loose), drifting(**strict))
    assert (undone.kind, undone.what) == ("gate-tightened", what)
    assert (undone.before, undone.after) == (change.after, change.before)


@pytest.mark.parametrize("cycles", [(None, False), (False, True)])
def test_another_cycle_of_drift_is_not_only_stricter(cycles: tuple[bool | None, bool | None]) -> None:
    (change,) = diff(*(drifting(cycle=cycle) for cycle in cycles))
    assert (change.kind, change.what) == ("gate-loosened", f"{PRODUCTION}.drift cycle")


@pytest.mark.parametrize("seasons", [(None, "day"), ("day", "week"), ("week", None)])
def test_another_season_of_drift_is_not_only_stricter(seasons: tuple[str | None, str | None]) -> None:
    (change,) = diff(*(drifting(season=season) for season in seasons))
    assert (change.kind, change.what) == ("gate-loosened", f"{PRODUCTION}.drift season")


@pytest.mark.parametrize("windows", [("1h", "2h"), ("2h", "1h")])
def test_another_window_of_drift_is_not_only_stricter(windows: tuple[str, str]) -> None:
    (change,) = diff(*(drifting(window=window) for window in windows))
    assert (change.kind, change.what) == ("gate-loosened", f"{PRODUCTION}.drift window")
    assert (change.before, change.after) == windows


def test_the_order_of_drift_limits_means_nothing() -> None:
    one, other = drifting(limits={"psi": 0.3, "ks": 0.2}), drifting(limits={"ks": 0.2, "psi": 0.3})
    assert (diff(one, other), one.digest) == ((), other.digest)


def test_a_drift_block_is_a_demand_and_a_manifest_without_one_keeps_its_digest() -> None:
    without_it, with_it = make_manifest(), drifting()
    assert "drift" not in without_it.to_json()["environments"]["production"]
    added, removed = diff(without_it, with_it), diff(with_it, without_it)
    assert [(change.kind, change.what) for change in added] == [("gate-tightened", f"{PRODUCTION}.drift")]
    assert [(change.kind, change.what) for change in removed] == [("gate-loosened", f"{PRODUCTION}.drift")]


@pytest.mark.parametrize("stage", ["review", "shadow", "canary", "rollback"])
def test_a_removed_stage_is_a_loosening(stage: str) -> None:
    removed, added = diff(make_manifest(), without(stage)), diff(without(stage), make_manifest())
    assert [(change.kind, change.what) for change in removed] == [("gate-loosened", f"{PRODUCTION}.{stage}")]
    assert [(change.kind, change.what) for change in added] == [("gate-tightened", f"{PRODUCTION}.{stage}")]


def sliced(columns: str) -> Manifest:
    return make_manifest(("min_pairs: 500", f"min_pairs: 500\n      slices: [{columns}]"))


@pytest.mark.parametrize(
    ("before", "after", "kind", "shown"),
    [
        ("", "country", "gate-tightened", ("none", "country")),
        ("country", "country, amount", "gate-tightened", ("country", "amount, country")),
        ("country, amount", "amount", "gate-loosened", ("amount, country", "amount")),
        ("country", "amount", "gate-loosened", ("country", "amount")),
    ],
)
def test_more_slices_are_a_tightening_and_others_a_loosening(
    before: str, after: str, kind: str, shown: tuple[str, str]
) -> None:
    (change,) = diff(sliced(before), sliced(after))
    assert (change.kind, change.what) == (kind, f"{PRODUCTION}.shadow slices")
    assert (change.before, change.after) == shown


def test_the_order_of_slices_means_nothing() -> None:
    assert diff(sliced("country, amount"), sliced("amount, country")) == ()


def test_what_people_read_first_comes_first() -> None:
    edits = (("team: risk", "team: fraud"), ("min_pairs: 500", "min_pairs: 400"), ("depth: 3", "depth: 4"))
    assert [kind for kind, _ in changed(*edits)] == ["model", "gate-loosened", "policy"]


#: Read once: what Hypothesis draws from must not be slow, however busy the machine is.
WRITTEN = make_manifest().to_json()


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Manifests that differ in the numbers of their demands; they need not obey the rules."""
    payload = deepcopy(WRITTEN)
    production = payload["environments"]["production"]
    percent = st.integers(min_value=1, max_value=99).map(lambda n: f"{n}%")
    minutes = st.integers(min_value=1, max_value=60).map(lambda n: f"{n}m")
    production["shadow"].update(fraction=draw(percent), duration=draw(minutes), min_pairs=draw(st.integers(1, 900)))
    production["canary"]["step_duration"] = draw(minutes)
    errors = production["canary"]["gates"][1]
    errors.update(max=draw(percent), min_samples=draw(st.integers(1, 900)), window=draw(st.none() | minutes))
    errors.update(advisory=draw(st.booleans()), max_age=draw(st.none() | minutes))
    production["rollback"]["gates"][0].update(window=draw(st.none() | minutes), min_samples=draw(st.integers(1, 900)))
    if draw(st.booleans()):
        production["canary"]["gates"].pop(0)
    payload["quality"]["snapshot"][0]["mostly"] = draw(st.integers(1, 100)) / 100
    if draw(st.booleans()):
        limits = draw(st.dictionaries(st.sampled_from(MEASURES), st.floats(0.01, 0.99), min_size=1))
        production["drift"] = {"limits": limits, "damage": draw(st.floats(0, 2)), "alpha": draw(percent)}
    kinds = draw(st.lists(st.sampled_from(["model", "runtime", "data", "features"]), unique=True))
    production["review"].update(required_for=kinds[:2], auto_approve=kinds[2:])
    return Manifest.model_validate(payload)


@given(manifests())
def test_a_manifest_does_not_differ_from_itself(manifest: Manifest) -> None:
    assert diff(manifest, manifest) == ()


@given(manifests(), manifests())
def test_there_is_a_difference_wherever_the_digest_differs(a: Manifest, b: Manifest) -> None:
    assert bool(diff(a, b)) == (a.digest != b.digest)


@given(manifests(), manifests())
def test_tightened_one_way_is_loosened_the_other(a: Manifest, b: Manifest) -> None:
    def told(changes: tuple[Change, ...]) -> set[tuple[str, str, str, str]]:
        return {(change.kind, change.what, change.before, change.after) for change in changes}

    opposite = {"gate-tightened": "gate-loosened", "gate-loosened": "gate-tightened"}
    mirrored = {(opposite.get(kind, kind), what, after, before) for kind, what, before, after in told(diff(b, a))}
    assert told(diff(a, b)) == mirrored


def test_for_a_metric_that_should_rise_a_lower_minimum_is_looser() -> None:
    def auc(**spec: Any) -> list[Gate]:
        return [Gate.model_validate({"name": "auc", "metric": "evaluation.auc", **spec})]

    assert next(diff_gates("gates", auc(min="80%"), auc(min="70%"))).kind == "gate-loosened"
    assert next(diff_gates("gates", auc(improves="2%"), auc(improves="1%"))).kind == "gate-loosened"
    assert next(diff_gates("gates", auc(within="2%"), auc(within="1%"))).kind == "gate-tightened"


def test_expectations_are_compared_by_their_bounds() -> None:
    between = "expect: column_values_to_be_between\n      column: amount\n      min_value: {}\n      max_value: {}"
    original = "expect: column_values_to_not_be_null\n      column: amount\n      mostly: 0.99"

    def kind(before: tuple[float, float], after: tuple[float, float]) -> str:
        manifests = [make_manifest((original, between.format(*bounds))) for bounds in (before, after)]
        return diff(*manifests)[0].kind

    assert kind((0, 10), (0, 9)) == "gate-tightened"
    assert kind((0, 10), (1, 10)) == "gate-tightened"
    assert kind((0, 10), (0, 11)) == "gate-loosened"
    assert kind((0, 10), (1, 11)) == "gate-loosened"


SET = "expect: column_values_to_be_in_set\n      column: country\n      value_set: {}"
NOT_IN_SET = SET.replace("to_be_in", "to_not_be_in")
NOT_NULL = "expect: column_values_to_not_be_null\n      column: amount\n      mostly: 0.99"


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (SET.format("[a, b]"), SET.format("[a]"), ["gate-tightened"]),
        (SET.format("[a]"), SET.format("[a, b]"), ["gate-loosened"]),
        (SET.format("[a, b]"), SET.format("[b, c]"), ["gate-loosened"]),
        (SET.format("[a, b]"), SET.format("[b, a]"), ["policy"]),
        # A smaller set of what is forbidden demands less, and so may any other argument.
        (NOT_IN_SET.format("[a, b]"), NOT_IN_SET.format("[a]"), ["gate-loosened"]),
        (NOT_NULL, f"{NOT_NULL}\n      severity: warning", ["gate-loosened"]),
        (f"{NOT_NULL}\n      severity: info", f"{NOT_NULL}\n      severity: warning", ["gate-tightened"]),
        (NOT_NULL, f"{NOT_NULL}\n      notes: seen in May", ["policy"]),
        (NOT_NULL, NOT_NULL.replace("amount", "country"), ["gate-tightened", "gate-loosened"]),
    ],
)
def test_expectations_are_compared_by_what_they_demand(before: str, after: str, kinds: list[str]) -> None:
    manifests = [make_manifest((NOT_NULL, text)) for text in (before, after)]
    assert [change.kind for change in diff(*manifests)] == kinds


@pytest.mark.parametrize("judged", ["snapshot", "features", "predictions"])
def test_a_dropped_expectation_is_a_loosening(judged: str) -> None:
    block = f"  {judged}:\n    - {{expect: column_values_to_not_be_null, column: amount}}\n"
    original = "  snapshot:\n    - expect: column_values_to_not_be_null\n      column: amount\n      mostly: 0.99\n"
    with_it, without_it = make_manifest((original, block)), make_manifest((original, "  results: elsewhere\n"))
    what = f"quality.{judged} column_values_to_not_be_null amount"
    assert ("gate-loosened", what) in [(change.kind, change.what) for change in diff(with_it, without_it)]
    assert ("gate-tightened", what) in [(change.kind, change.what) for change in diff(without_it, with_it)]
    assert ("policy", "quality.results") in [(change.kind, change.what) for change in diff(with_it, without_it)]


def test_the_key_of_rows_is_policy() -> None:
    assert changed(("quality:\n", "quality:\n  key: id\n")) == [("policy", "quality.key")]


def test_release_changes_name_what_is_served_otherwise() -> None:
    first = make_release("1.0.0")
    assert release_changes(first, first) == ()
    assert release_changes(first, make_release("1.0.0", manifest="second")) == ()
    assert [change.kind for change in release_changes(first, make_release("1.0.0", runtime="1.1.0"))] == ["runtime"]
    assert [change.kind for change in release_changes(first, make_release("1.1.0"))] == ["model", "data"]
    assert [change.before for change in release_changes(None, first)] == ["none", "none", "none"]


def test_the_same_version_with_other_bytes_is_a_model_change() -> None:
    first = make_release("1.0.0")
    model = first.model.model_copy(update={"artifact_digest": make_snapshot("other").digest})
    assert [change.kind for change in release_changes(first, first.model_copy(update={"model": model}))] == ["model"]


def change(kind: str) -> Change:
    return Change.model_validate({"kind": kind, "what": "it", "before": "a", "after": "b"})


@pytest.mark.parametrize(
    ("kinds", "person", "why"),
    [
        ([], False, "nothing changed"),
        (["data"], False, "only data changed"),
        (["data", "gate-tightened"], False, "only data, gate-tightened changed"),
        (["data", "model"], True, "required_for names model"),
        (["gate-loosened"], True, "required_for names gate-loosened"),
        (["policy"], True, "auto_approve does not name policy"),
    ],
)
def test_a_person_is_needed_unless_policy_names_every_change(kinds: list[str], person: bool, why: str) -> None:
    review = ReviewSpec(auto_approve=("data", "gate-tightened"))
    need = review_needed([change(kind) for kind in kinds], review)
    assert (need.needs_person, need.why) == (person, why)
    assert bool(need.auto_approved_by) == (not person and bool(kinds))


def test_a_manifest_cannot_excuse_itself_from_review() -> None:
    strict, lax = ReviewSpec(auto_approve=("data",)), ReviewSpec(required_for=(), auto_approve=("model", "data"))
    assert stricter_review(strict, None) == strict
    assert stricter_review(None, strict) == strict
    assert stricter_review(None, None) is None
    together = stricter_review(strict, lax)
    assert together is not None
    assert review_needed([change("model")], together).needs_person
    assert not review_needed([change("data")], together).needs_person


@pytest.mark.parametrize(
    ("serves_in_staging", "said", "allowed"),
    [
        (True, {}, {"staging": True, "production": False}),
        (True, {"production": True}, {"staging": True, "production": True}),
        (True, {"staging": False}, {"staging": False, "production": False}),
        (False, {}, {"staging": False, "production": False}),
    ],
)
def test_only_the_last_environment_that_serves_asks_for_a_word_before_it_is_broken(
    serves_in_staging: bool, said: dict[str, bool], allowed: dict[str, bool]
) -> None:
    manifest = make_manifest()
    environments = {
        name: spec.model_copy(
            update={
                "serve": name == "production" or serves_in_staging,
                "drills": DrillsSpec(allowed=said[name]) if name in said else None,
            }
        )
        for name, spec in manifest.environments.items()
    }
    manifest = manifest.model_copy(update={"environments": environments})
    assert {name: manifest.drills_in(name) for name in environments} == allowed


def test_a_drill_less_often_is_looser_and_one_more_often_is_stricter() -> None:
    weekly, monthly, never = (
        make_manifest((ALERTS, f"{ALERTS}\n    drills: {{allowed: true{every}}}"))
        for every in (", every: 7d", ", every: 30d", "")
    )
    for before, after, kind in (
        (weekly, monthly, "gate-loosened"),
        (monthly, weekly, "gate-tightened"),
        (monthly, never, "gate-loosened"),
        (never, weekly, "gate-tightened"),
    ):
        assert [(change.kind, change.what) for change in diff(before, after)] == [(kind, f"{PRODUCTION}.drills every")]
