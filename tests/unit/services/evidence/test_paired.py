"""What a shadow's gates get from paired answers: values, sufficient statistics, and what pairs alone can tell."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.metrics import METRICS, PAIRED
from airflow_provider_mlpipex.domain.gates.sentence_grammar import read_sentence
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged
from airflow_provider_mlpipex.domain.shadow.comparison import Differences, ShadowComparison
from airflow_provider_mlpipex.domain.shadow.report import report, tell_slice
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summed, interval
from airflow_provider_mlpipex.services.evidence.live import measure
from airflow_provider_mlpipex.services.evidence.paired import from_comparison
from tests.support.prediction_logs import NEW, OLD, Logs
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, SHADOW_S, World

ALPHA = 0.01


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def evidence_of(
    comparison: ShadowComparison, *, mirrored: int | None = None, lossy: bool = False
) -> dict[str, Evidence]:
    sent = comparison.shadow_log.requests if mirrored is None else mirrored
    return {item.metric: item for item in from_comparison(comparison, mirrored=sent, lossy=lossy)}


def verdict(gate: str | dict[str, Any], found: dict[str, Evidence]) -> GateResult:
    """What a shadow's gate says of paired evidence, looked at again and again."""
    written = read_sentence(gate, source="shadow") if isinstance(gate, str) else {"name": "it", **gate}
    asked = Gate.model_validate(written)
    evidence = found[asked.metric.partition(".")[2]]
    return judge(asked, evidence, now=evidence.until, alpha=ALPHA)


def pairs_of(outputs: Sequence[tuple[Any, Any]]) -> list[tuple[str, Any, Any]]:
    return [(f"r-{number}", current, shadow) for number, (current, shadow) in enumerate(outputs)]


# Labels swapped between requests: what distributions cannot see.


def test_labels_swapped_between_requests_are_seen_by_pairs_and_by_no_distribution(logs: Logs) -> None:
    """The shadow gives every answer of the current release, but to other requests."""
    chance = random.Random(5)
    answers = [[1 - p, p] for p in (chance.random() for _ in range(1000))]
    swapped = [answers[number ^ 1] for number in range(len(answers))]
    logs.both(*pairs_of(list(zip(answers, swapped, strict=True))))
    found = evidence_of(logs.compare())
    for distance in ("psi", "ks", "js"):
        assert found[distance].value == pytest.approx(0.0, abs=1e-12)
        assert verdict(f"{distance} under 0.05 from at least 500 pairs", found).verdict == "pass"
    assert found["mean_difference"].value == pytest.approx(0.0, abs=1e-12)
    flips = verdict("flip rate at most 5% from at least 500 pairs", found)
    assert flips.verdict == "fail"
    assert 0.4 < (flips.evidence.value or 0) < 0.6
    assert verdict("mean absolute difference at most 0.05", found).verdict == "fail"
    assert verdict("p95 difference at most 0.2", found).verdict == "fail"


def test_a_shift_of_all_scores_is_seen_by_distributions_as_well(logs: Logs) -> None:
    chance = random.Random(5)
    scores = [chance.random() for _ in range(1000)]
    logs.both(*pairs_of([(score, score + 0.5) for score in scores]))
    found = evidence_of(logs.compare())
    for gate in ("psi under 0.2", "ks under 0.2", "js under 0.2", "mean difference at most 0.1"):
        assert verdict(gate, found).verdict == "fail", gate


# Every kind of model.

GOOD_AND_BAD = {
    "binary": ([0.7, 0.3], [0.68, 0.32], [0.3, 0.7]),
    "multiclass": ([0.2, 0.5, 0.3], [0.25, 0.45, 0.3], [0.5, 0.2, 0.3]),
    "several": ({"delay": "none", "gate": "A1"}, {"gate": "A1", "delay": "none"}, {"delay": "none", "gate": "B2"}),
    "text": ("on time", "on time", "late"),
}


@pytest.mark.parametrize("kind", GOOD_AND_BAD)
def test_a_classifier_that_answers_otherwise_too_often_fails(logs: Logs, kind: str) -> None:
    current, same, other = GOOD_AND_BAD[kind]
    logs.both(*pairs_of([(current, same)] * 940 + [(current, other)] * 60))
    found = evidence_of(logs.compare())
    assert verdict("flip rate at most 10% from at least 500 pairs", found).verdict == "pass"
    assert verdict("flip rate at most 2% from at least 500 pairs", found).verdict == "fail"
    assert verdict("agreement at least 90%", found).verdict == "pass"
    assert found["flip_rate"].summary == Counted(events=60, trials=1000)


@pytest.mark.parametrize("answer", [lambda value: value, lambda value: [value, 3.0]], ids=["one", "several"])
def test_a_regression_is_judged_by_its_differences(logs: Logs, answer: Any) -> None:
    chance = random.Random(3)
    logs.both(*pairs_of([(answer(20.0), answer(20.0 + chance.gauss(0.5, 1.0))) for _ in range(1000)]))
    found = evidence_of(logs.compare())
    assert verdict("mean absolute difference at most 2", found).verdict == "pass"
    assert verdict("mean absolute difference at most 0.5", found).verdict == "fail"
    assert verdict("mean difference at most 0.2", found).verdict == "fail"
    assert verdict({"metric": "shadow.mean_difference", "min": -0.2}, found).verdict == "pass"
    assert verdict("p95 difference at most 4", found).verdict == "pass"
    assert verdict("p95 difference at most 1", found).verdict == "fail"
    assert found["flip_rate"].value == 1.0


def test_means_of_probabilities_are_bounded_and_those_of_numbers_are_not(logs: Logs) -> None:
    logs.both(*pairs_of([([0.5, 0.5], [0.4, 0.6])] * 40))
    bounded = evidence_of(logs.compare())["mean_difference"].summary
    assert isinstance(bounded, Summed) and (bounded.lower, bounded.upper) == (-1.0, 1.0)
    logs.both(("another", 0.5, 0.6))
    unbounded = evidence_of(logs.compare())["mean_absolute_difference"].summary
    assert isinstance(unbounded, Summed) and (unbounded.lower, unbounded.upper) == (None, None)


def test_answers_that_are_no_numbers_have_flips_and_no_differences(logs: Logs) -> None:
    logs.both(*pairs_of([("cat", "cat")] * 40))
    found = evidence_of(logs.compare())
    assert verdict("flip rate at most 5%", found).verdict == "pass"
    for gate in ("mean absolute difference at most 1", "p95 difference at most 1", "psi under 0.2"):
        assert verdict(gate, found).verdict == "inconclusive", gate


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_shadow_that_answers_no_finite_number_does_not_pass(logs: Logs, broken: float) -> None:
    logs.both(*pairs_of([(1.0, 1.0)] * 500 + [(1.0, broken)] * 500))
    found = evidence_of(logs.compare())
    assert verdict("flip rate at most 5%", found).verdict == "fail"
    assert verdict("psi under 0.2", found).verdict == "fail", "what is no number is a group of its own"


# Latency, errors, what is missing.


def test_a_slower_shadow_is_seen_request_by_request(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}", ms=10.0 + n % 50) for n in range(1000)))
    logs.write(NEW, *(logs.answer(f"r-{n}", ms=40.0 + n % 50) for n in range(1000)))
    found = evidence_of(logs.compare())
    assert found["latency_difference_p95"].value == pytest.approx(30.0)
    assert verdict("p95 latency difference under 50 ms", found).verdict == "pass"
    assert verdict("p95 latency difference under 20 ms", found).verdict == "fail"


def test_a_faster_shadow_passes_and_its_interval_is_told(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}", ms=40.0) for n in range(1000)))
    logs.write(NEW, *(logs.answer(f"r-{n}", ms=10.0) for n in range(1000)))
    passed = verdict("p95 latency difference under 1 ms", evidence_of(logs.compare()))
    assert (passed.verdict, passed.margin) == ("pass", pytest.approx(31.0))
    assert passed.interval is not None
    assert 25.0 < passed.interval[0] <= 31.0 <= passed.interval[1] < 40.0


def test_one_error_of_the_shadow_alone_is_too_many_for_a_gate_that_allows_none(logs: Logs) -> None:
    logs.both(*pairs_of([([0.5, 0.5], [0.5, 0.5])] * 40))
    logs.write(OLD, logs.answer("e-1"), logs.error("e-2"))
    logs.write(NEW, logs.error("e-1"), logs.answer("e-2"))
    found = evidence_of(logs.compare())
    assert (found["one_sided_errors"].value, found["one_sided_errors"].samples) == (1.0, 41)
    assert verdict("zero one-sided errors", found).verdict == "fail"
    assert verdict("at most 1 one-sided errors", found).verdict == "pass"


def test_missing_halves_count_on_either_side(logs: Logs) -> None:
    logs.both(*pairs_of([(1.0, 1.0)] * 90))
    logs.write(NEW, *(logs.answer(f"only-{n}", 1.0) for n in range(10)))
    found = evidence_of(logs.compare(), mirrored=120)
    assert found["missing_share"].value == pytest.approx((10 + 20) / 120)
    assert found["missing_share"].summary == Counted(events=30, trials=120)
    assert verdict("missing share at most 5%", found).verdict == "fail"
    assert evidence_of(logs.compare(), mirrored=80)["missing_share"].value == pytest.approx(0.1), (
        "telemetry may be late"
    )


def test_ids_that_were_used_twice_or_not_at_all_are_not_missing(logs: Logs) -> None:
    for release in (OLD, NEW):
        logs.write(release, *(logs.answer(rid) for rid in ["r-1", "r-1", "", "", "r-2"]))
    assert evidence_of(logs.compare(), mirrored=5)["missing_share"].value == 0.0


def test_clocks_too_far_apart_are_missing_pairs_and_no_silent_pass(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}", ago=400) for n in range(200)))
    logs.write(NEW, *(logs.answer(f"r-{n}", ago=20) for n in range(200)))
    found = evidence_of(logs.compare())
    assert verdict("missing share at most 1%", found).verdict == "fail"
    assert verdict("flip rate at most 5%", found).verdict == "inconclusive"


def test_an_empty_window_is_inconclusive_for_every_gate(logs: Logs) -> None:
    found = evidence_of(logs.compare(slices=["carrier"]))
    assert set(found) == set(PAIRED)
    for gate in ("flip rate at most 5%", "worst slice flip rate at most 5%", "missing share at most 1%", "psi under 1"):
        assert verdict(gate, found).verdict == "inconclusive", gate
    assert report(logs.compare())["pairs"] == 0


def test_what_too_many_lost_predictions_leave_says_nothing(logs: Logs) -> None:
    logs.both(*pairs_of([(1.0, 2.0)] * 100))
    assert {item.value for item in evidence_of(logs.compare(), lossy=True).values()} == {None}


# Slices.


def slices_of(logs: Logs, *, bad: str = "UA", flips: int = 80) -> ShadowComparison:
    """Three carriers with 400 pairs each; one of them flips."""
    for carrier in ("AA", "DL", "UA"):
        wrong = flips if carrier == bad else 4
        for number in range(400):
            other = [0.3, 0.7] if number < wrong else [0.7, 0.3]
            rid, inputs = f"{carrier}-{number}", {"hour": number % 24, "carrier": carrier, "flight": number}
            logs.write(OLD, logs.answer(rid, [0.7, 0.3], inputs=inputs))
            logs.write(NEW, logs.answer(rid, other, inputs=inputs))
    return logs.compare(slices=["carrier", "hour"])


# Users who repeat themselves.


def test_one_user_who_asks_a_hundred_times_is_one_input(logs: Logs) -> None:
    """He gets another answer each time; everybody else gets the same as before."""
    for number in range(400):
        inputs = {"amount": 1.5 if number < 100 else number}
        logs.write(OLD, logs.answer(f"r-{number}", [0.7, 0.3], inputs=inputs))
        logs.write(NEW, logs.answer(f"r-{number}", [0.3, 0.7] if number < 100 else [0.7, 0.3], inputs=inputs))
    compared = logs.compare()
    assert (compared.pairs, compared.flips, compared.inputs, compared.flipped_inputs) == (400, 100, 301, 1)
    found = evidence_of(compared)
    flips = verdict("flip rate at most 5% from at least 300 pairs", found)
    assert flips.verdict == "inconclusive", "users got it, and one input proves nothing: a person decides"
    assert "observed 25% of 301 distinct inputs from 400 samples" in flips.reason
    assert verdict("agreement at least 95% from at least 300 pairs", found).verdict == "inconclusive"
    assert report(compared)["distinct_inputs"] == 301


def test_distinct_inputs_that_flip_are_proof(logs: Logs) -> None:
    for number in range(400):
        other = [0.3, 0.7] if number % 4 == 0 else [0.7, 0.3]
        logs.write(OLD, logs.answer(f"r-{number}", [0.7, 0.3], inputs={"amount": number}))
        logs.write(NEW, logs.answer(f"r-{number}", other, inputs={"amount": number}))
    found = evidence_of(logs.compare())
    assert verdict("flip rate at most 5% from at least 300 pairs", found).verdict == "fail"


@pytest.mark.parametrize("inputs", [{}, None], ids=["without columns", "nobody knows"])
def test_rows_of_which_nobody_knows_what_was_asked_are_each_their_own(
    logs: Logs, inputs: dict[str, Any] | None
) -> None:
    given = {} if inputs is None else {"inputs": inputs}
    logs.both(*((f"r-{n}", [0.8, 0.2], [0.4, 0.6]) for n in range(30)), **given)
    for sliced in ([], ["carrier"]):
        assert logs.compare(slices=sliced).inputs == 30


def test_values_of_other_columns_are_other_inputs(logs: Logs) -> None:
    for number, inputs in enumerate([{"a": 1}, {"b": 1}, {"a": 1, "b": None}, {"a": 1}]):
        for release in (OLD, NEW):
            logs.write(release, logs.answer(f"r-{number}", inputs=inputs))
    for sliced in ([], ["a"]):
        assert logs.compare(slices=sliced).inputs == 3


@pytest.mark.parametrize("repeats", ["once each", "five times each", "20 on average", "ten inputs make half"])
def test_the_interval_of_the_flip_rate_holds_however_often_users_repeat_themselves(repeats: str) -> None:
    """Looked at 25 times while 4,000 pairs come; pairs by themselves miss up to every second time."""
    chance, pairs, truth, missed = np.random.default_rng(12), 4_000, 0.05, {"inputs": 0, "pairs": 0}
    looks, sequences = np.unique(np.geomspace(50, pairs, 25).astype(int)), 120
    for _ in range(sequences):
        sizes = {
            "once each": lambda: np.ones(pairs, dtype=int),
            "five times each": lambda: np.full(pairs, 5),
            "20 on average": lambda: chance.geometric(1 / 20, pairs),
            "ten inputs make half": lambda: np.maximum(1, (chance.pareto(1.2, pairs) * 2).astype(int)),
        }[repeats]()
        asked = np.repeat(np.arange(pairs), sizes)[: 4 * pairs]
        asked = chance.permutation(asked)[:pairs]
        flips = (chance.random(pairs) < truth)[asked]
        first = np.zeros(pairs, dtype=bool)
        first[np.unique(asked, return_index=True)[1]] = True
        for of, counted in (("inputs", first), ("pairs", np.ones(pairs, dtype=bool))):
            events, trials = np.cumsum(flips & counted), np.cumsum(counted)
            seen = (
                truth in interval(Counted(events=int(events[n - 1]), trials=int(trials[n - 1])), alpha=0.05)
                for n in looks
            )
            missed[of] += not all(seen)
    assert missed["inputs"] <= 0.05 * sequences + 3 * math.sqrt(0.05 * 0.95 * sequences)
    assert repeats == "once each" or missed["pairs"] > missed["inputs"]


def test_differences_and_distributions_of_one_user_who_repeats_himself_prove_nothing_either(logs: Logs) -> None:
    """His score moves by 0.4 each time, everybody else's by nothing."""
    chance = random.Random(6)
    for number in range(400):
        inputs, score = {"amount": 1.5 if number < 200 else number}, 0.1 if number < 200 else chance.uniform(0.0, 0.5)
        moved = score + 0.4 if number < 200 else score
        logs.write(OLD, logs.answer(f"r-{number}", [1.0 - score, score], inputs=inputs))
        logs.write(NEW, logs.answer(f"r-{number}", [1.0 - moved, moved], inputs=inputs))
    compared = logs.compare()
    assert compared.first_difference is not None and compared.first_scores is not None
    assert (compared.difference.count, compared.first_difference.count) == (400, 201)
    assert sum(compared.first_scores.current) == 201
    found = evidence_of(compared)
    for gate in (
        "mean difference at most 0.05",
        "mean absolute difference at most 0.05",
        "p95 difference at most 0.1",
        "psi under 0.2",
        "ks under 0.1",
    ):
        said = verdict(gate, found)
        assert said.verdict == "inconclusive", f"{gate}: users got it, and one input proves nothing: {said.reason}"
        assert "201 distinct inputs" in said.reason
    assert found["mean_difference"].value == pytest.approx(0.2)


def test_differences_of_distinct_inputs_are_proof(logs: Logs) -> None:
    for number in range(400):
        logs.write(OLD, logs.answer(f"r-{number}", [0.8, 0.2], inputs={"amount": number}))
        logs.write(NEW, logs.answer(f"r-{number}", [0.4, 0.6], inputs={"amount": number}))
    compared = logs.compare()
    assert compared.first_difference is None and compared.first_scores is None, "each pair is of an input of its own"
    assert verdict("mean absolute difference at most 0.05", evidence_of(compared)).verdict == "fail"


def test_the_interval_of_a_mean_holds_however_often_users_repeat_themselves() -> None:
    """Ten inputs make half of the pairs, looked at 25 times; pairs by themselves miss the mean more often."""
    chance, pairs, missed = np.random.default_rng(13), 3_000, {"inputs": 0, "pairs": 0}
    looks, sequences = np.unique(np.geomspace(50, pairs, 25).astype(int)), 120
    for _ in range(sequences):
        sizes = np.maximum(1, (chance.pareto(1.2, pairs) * 2).astype(int))
        asked = chance.permutation(np.repeat(np.arange(pairs), sizes)[: 4 * pairs])[:pairs]
        moved = chance.uniform(-0.2, 0.4, pairs)[asked]
        first = np.zeros(pairs, dtype=bool)
        first[np.unique(asked, return_index=True)[1]] = True
        for of, counted in (("inputs", first), ("pairs", np.ones(pairs, dtype=bool))):
            count, total, squares = (np.cumsum(part * counted) for part in (np.ones(pairs), moved, moved**2))
            seen = (
                0.1
                in interval(
                    Differences(count=int(count[n - 1]), total=total[n - 1], squares=squares[n - 1]).as_mean(bound=1.0),
                    alpha=0.05,
                )
                for n in looks
            )
            missed[of] += not all(seen)
    assert missed["inputs"] <= 0.05 * sequences + 3 * math.sqrt(0.05 * 0.95 * sequences)
    assert missed["pairs"] > missed["inputs"]


def test_a_fault_in_one_slice_fails_a_gate_on_the_worst_while_the_whole_passes(logs: Logs) -> None:
    found = evidence_of(slices_of(logs))
    assert verdict("flip rate at most 8% from at least 500 pairs", found).verdict == "pass"
    failed = verdict("worst slice flip rate at most 8% from at least 500 pairs", found)
    assert failed.verdict == "fail"
    assert failed.evidence.value == pytest.approx(0.2)
    assert "observed 20% of carrier = UA, 400 pairs, from 1200 samples" in failed.reason
    assert verdict("worst slice flip rate at most 25% from at least 500 pairs", found).verdict == "pass"


def test_the_report_names_the_worst_slice_in_words_and_stays_small(logs: Logs) -> None:
    told = report(slices_of(logs))
    (worst,) = told["slices"]
    assert tell_slice(worst).startswith("carrier = UA: flip rate 20% of 400 pairs, of all 7.33%")
    assert [(each["column"], each["values"]) for each in told["sliced"]] == [("carrier", 3), ("hour", 24)]
    assert told["distributions"]["psi"] > 0


def test_a_column_of_very_many_values_stays_bounded(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}", 1.0, inputs={"id": f"{'x' * 500}-{n}"}) for n in range(3000)))
    logs.write(OLD, *(logs.answer(f"s-{n}", 1.0, inputs={"id": f"shop-{n % 60}"}) for n in range(2400)))
    logs.write(NEW, *(logs.answer(f"r-{n}", 1.0) for n in range(3000)))
    logs.write(NEW, *(logs.answer(f"s-{n}", 1.0) for n in range(2400)))
    (found,) = logs.compare(slices=["id"]).slices
    assert (len(found.slices), found.large_enough) == (50, 61), "long values are cut, and so become one"
    assert found.others == 5400 - sum(part.pairs for part in found.slices)
    assert found.values == 61


# On the way to a verdict.


@pytest.mark.parametrize("source", ["shadow", "canary", "serving"])
def test_every_metric_that_a_gate_may_name_is_measured_or_broken(source: Any) -> None:
    world = World()
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    now = world.clock.now()
    for trouble in ("", "the log was cut"):
        world.memory.plane.telemetry_trouble = trouble
        found = measure(
            world.platform,
            ENDPOINT,
            source=source,
            judged=world.release("1.1.0").id,
            beside=first.id,
            since=now,
            until=now,
        )
        assert set(found.evidence) == {f"{source}.{metric}" for metric in METRICS[source]}
        assert all(bool(evidence.broken) == bool(trouble) for evidence in found.evidence.values())


SLICED = ("min_pairs: 500", "min_pairs: 500\n      slices: [country]")
WORST_SLICE = ("p95 latency under 120 ms", "worst slice flip rate at most 10% from at least 500 pairs")


def answer(world: World, *, flipping: str | None) -> None:
    """What 50 seconds bring: requests from two countries, of which one may get other answers."""
    plan = world.memory.plane.plan_in_force(ENDPOINT)
    assert plan is not None and plan.mirror is not None
    current, candidate = plan.current, plan.mirror.release
    world.memory.plane.serve(ENDPOINT, candidate, requests=250)
    at = world.clock.now().timestamp()
    for number in range(250):
        country = "NO" if number % 5 == 0 else "SE"
        score = 0.75 if country == flipping and number % 2 else 0.25
        scores, labels = {current: 0.25, candidate: score}, {current: "0", candidate: str(int(score > 0.5))}
        world.memory.plane.answer(
            ENDPOINT, f"{at}-{number}", scores, labels=labels, inputs={"country": country, "at": f"{at}-{number}"}
        )


@pytest.mark.parametrize(("flipping", "status"), [(None, "passed"), ("NO", "ended")])
def test_a_rollout_is_decided_by_its_worst_slice_and_the_ledger_says_which(flipping: str | None, status: str) -> None:
    world = World(SLICED, WORST_SLICE)
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    seen = world.look("run-2", "shadow")
    for _ in range(SHADOW_S // LOOK_EVERY):
        answer(world, flipping=flipping)
        world.clock.advance(LOOK_EVERY)
        seen = world.look("run-2", "shadow")
        if seen.status != "watching":
            break
    assert seen.status == status
    judged = world.events(GatesJudged)[-1]
    assert judged.facts is not None
    assert [worse["value"] for worse in judged.facts["slices"]] == ([flipping] if flipping else [])
    if flipping:
        assert "country = NO" in seen.cause


def test_a_stage_without_pairs_leaves_no_facts() -> None:
    world = World()
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-1")
    assert [judged.facts is not None for judged in world.events(GatesJudged) if judged.rollout_id == "run-2"] == [
        False,
        True,
        False,
    ]


def test_differences_know_their_spread() -> None:
    spread = Differences(count=4, total=2.0, absolute=4.0, squares=10.0, quantiles=(0.0, 1.0, 2.0, 3.0))
    assert (spread.mean, spread.mean_absolute, spread.quantile(0.5)) == (0.5, 1.0, 1.0)
    assert spread.deviation == pytest.approx(1.5)
