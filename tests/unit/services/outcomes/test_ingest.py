"""Late labels: what is refused, what is counted, which release they are of, and what they say of it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from airflow_provider_mlpipex.domain.errors import (
    ConfigurationInvalid,
    DataQualityFailed,
    OutcomeConflict,
    PlaneUnavailable,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import Label, LabelledPrediction
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim
from airflow_provider_mlpipex.domain.rollout.traffic_plan import Mirror, TrafficPlan
from airflow_provider_mlpipex.services.outcomes import ingest as outcome_ingest
from airflow_provider_mlpipex.services.outcomes import metrics as outcome_metrics
from airflow_provider_mlpipex.services.outcomes.ingest import Ingested
from tests.support.factories import make_release
from tests.support.rollouts import ENDPOINT, World

TASK = "  task: binary"
OLD = make_release("1.0.0").id
MONDAY = datetime(2026, 3, 2, 8, tzinfo=UTC)


@pytest.fixture
def world() -> World:
    world = World()
    world.first_release()
    return world


@pytest.fixture
def current(world: World) -> str:
    assert world.state.current is not None
    return world.state.current.id


def answer(world: World, release: str, *rids: str, score: float = 0.75) -> None:
    for rid in rids:
        world.memory.plane.answer(ENDPOINT, rid, {release: score}, labels={release: str(int(score > 0.5))})


def ingest(world: World, *rows: tuple[Any, ...], correct: bool = False, **columns: list[Any]) -> Ingested:
    table = pd.DataFrame({"request_id": [row[0] for row in rows], "label": [row[1] for row in rows], **columns})
    return outcome_ingest.ingest(world.platform, ENDPOINT, table, subject="labels.csv", correct=correct)


def kept(world: World) -> dict[str, Label]:
    found = {}
    for release in world.memory.outcomes.spans(ENDPOINT):
        found |= {one.request_id: one.label for one in world.memory.outcomes.read(ENDPOINT, release)}
    return found


# Joining.


def test_a_label_joins_the_release_that_answered_the_client(world: World, current: str) -> None:
    world.bring("run-2", "1.1.0", to="shadow")
    candidate = world.state.rollout
    assert candidate is not None
    both = {current: 0.25, candidate.candidate.id: 0.75}
    world.memory.plane.answer(ENDPOINT, "a", both, labels={release: "0" for release in both})
    found = ingest(world, ("a", 1))
    assert (found.added, found.releases, found.unmatched) == (1, {current: 1}, 0)
    (outcome,) = world.memory.outcomes.read(ENDPOINT, current)
    assert (outcome.score, outcome.predicted, outcome.label, outcome.kind) == (0.25, "0", 1.0, "probability")


def test_the_same_file_again_changes_nothing_even_when_the_log_is_gone(world: World, current: str) -> None:
    answer(world, current, "a", "b")
    first = ingest(world, ("a", 1), ("b", 0))
    world.memory.plane._endpoints[ENDPOINT].answers.clear()
    entries = len(world.events())
    again = ingest(world, ("a", 1), ("b", 0))
    assert (first.added, again.added, again.unchanged, again.unmatched) == (2, 0, 2, 0)
    assert (kept(world), len(world.events())) == ({"a": 1.0, "b": 0.0}, entries)


def test_ids_without_a_record_are_counted_with_how_far_back_the_log_reaches(world: World, current: str) -> None:
    answer(world, current, "a")
    oldest = world.clock.now()
    found = ingest(world, ("a", 1), *((f"gone-{n}", 0) for n in range(7)))
    assert (found.rows, found.added, found.unmatched) == (8, 1, 7)
    assert found.some_unmatched == tuple(f"gone-{n}" for n in range(5))
    assert found.log_since.keys() == {current}
    assert abs(found.log_since[current] - oldest) < timedelta(seconds=1)


def test_an_id_that_stands_for_several_requests_is_ambiguous(world: World, current: str) -> None:
    answer(world, current, "a", score=0.75)
    answer(world, current, "a", score=0.25)
    found = ingest(world, ("a", 1))
    assert (found.added, found.ambiguous, found.unmatched, kept(world)) == (0, 1, 0, {})


def test_a_row_of_a_request_with_many_is_named_like_in_the_log(world: World, current: str) -> None:
    answer(world, current, "a", "a#1")
    assert ingest(world, ("a#1", 1)).added == 1
    assert kept(world) == {"a#1": 1.0}


def test_a_plane_that_is_away_keeps_nothing(world: World, current: str) -> None:
    answer(world, current, "a")
    world.memory.plane.away = True
    with pytest.raises(PlaneUnavailable):
        ingest(world, ("a", 1))
    assert kept(world) == {}


# Bad tables.


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"id": ["a"], "label": [1]}, "columns request_id"),
        ({"request_id": ["a"], "fraud": [1]}, "columns label"),
        ({}, "the table has no columns"),
        ({"request_id": [], "label": []}, "0 rows"),
        ({"request_id": ["a", None], "label": [1, 1]}, r"1 unusable ids, in rows 2"),
        ({"request_id": ["a", " "], "label": [1, 1]}, r"1 unusable ids, in rows 2"),
        ({"request_id": [float("nan")] * 5, "label": [1] * 5}, r"in rows 1, 2, 3 and 2 more"),
        ({"request_id": ["x" * 201], "label": [1]}, "1 to 200 characters"),
        ({"request_id": ["a", "a"], "label": [1, 0]}, r"1 ids with several labels: a"),
        ({"request_id": ["a"], "label": [float("inf")]}, "1 unusable labels, in rows 1: inf"),
        ({"request_id": ["a"], "label": [Decimal("Infinity")]}, "1 unusable labels, in rows 1"),
        ({"request_id": ["a"], "label": [2**53 + 1]}, r"1 unusable labels, in rows 1: 9007199254740993.*up to 2\^53"),
        ({"request_id": ["a"], "label": [1], "observed_at": [1772353980]}, "column observed_at"),
        ({"request_id": ["a"], "label": [[1]]}, "unusable labels, in rows 1: list"),
        ({"request_id": ["a"], "label": ["x" * 201]}, "text of at most 200"),
        ({"request_id": ["a"], "label": [1], "observed_at": ["yesterday"]}, "column observed_at"),
        ({"request_id": ["a", "b"], "label": [1, "fraud"]}, "numbers and text together"),
        ({"request_id": ["a", "b", "c"], "label": [0, 1, 2]}, "3 classes of a binary task"),
    ],
)
def test_a_bad_table_is_refused_whole(world: World, current: str, table: dict[str, list[Any]], said: str) -> None:
    answer(world, current, "a", "b", "c")
    with pytest.raises(DataQualityFailed, match=said) as refused:
        outcome_ingest.ingest(world.platform, ENDPOINT, pd.DataFrame(table), subject="labels.csv")
    assert refused.value.thing.startswith("labels.csv")
    assert "nothing was kept" in refused.value.remedy
    assert kept(world) == {}


def test_a_third_class_in_a_later_file_is_refused(world: World, current: str) -> None:
    answer(world, current, "a", "b", "c")
    ingest(world, ("a", "ham"), ("b", "spam"))
    with pytest.raises(DataQualityFailed, match="3 classes of a binary task: 'eggs', 'ham', 'spam'"):
        ingest(world, ("c", "eggs"))
    with pytest.raises(DataQualityFailed, match="numbers and text together"):
        ingest(world, ("c", 1))


def test_what_has_no_label_yet_and_what_is_said_twice_is_counted(world: World, current: str) -> None:
    answer(world, current, "a", "b")
    found = ingest(world, ("a", 1.0), ("b", None), ("a", 1.0))
    assert (found.rows, found.added, found.unlabelled, found.repeated) == (3, 1, 1, 1)
    assert kept(world) == {"a": 1.0}


def test_another_label_than_the_kept_one_is_refused_unless_it_is_a_correction(world: World, current: str) -> None:
    answer(world, current, "a", "b")
    ingest(world, ("a", 1))
    with pytest.raises(OutcomeConflict, match="--correct"):
        ingest(world, ("b", 0), ("a", 0))
    assert kept(world) == {"a": 1.0}
    found = ingest(world, ("b", 0), ("a", 0), correct=True)
    assert (found.added, found.corrected, kept(world)) == (1, 1, {"a": 0.0, "b": 0.0})


def test_a_correction_of_all_labels_may_be_of_another_kind_and_one_of_some_may_not(world: World, current: str) -> None:
    answer(world, current, "a", "b")
    ingest(world, ("a", "yes"), ("b", "no"))
    with pytest.raises(DataQualityFailed, match="numbers and text together"):
        ingest(world, ("a", 1), correct=True)
    assert ingest(world, ("a", 1), ("b", 0), correct=True).corrected == 2
    assert kept(world) == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize("labels", [[True, False], ["1", "0"], [np.int8(1), np.int8(0)], [1.0, 0.0]])
def test_the_same_labels_however_a_reader_hands_them_out(world: World, current: str, labels: list[Any]) -> None:
    answer(world, current, "a", "7")
    ingest(world, ("a", labels[0]), (7.0, labels[1]))
    assert kept(world) == {"a": 1.0, "7": 0.0}


@pytest.mark.parametrize(
    "moments",
    [
        ["2026-04-01T10:00:00+02:00", None],
        ["2026-04-01 08:00", ""],
        [datetime(2026, 4, 1, 8), None],
        [datetime(2026, 4, 1, 8, tzinfo=UTC), None],
    ],
)
def test_when_a_label_was_known_is_kept_in_utc(world: World, current: str, moments: list[Any]) -> None:
    answer(world, current, "a", "b")
    ingest(world, ("a", 1), ("b", 1), observed_at=moments)
    observed = [one.observed_at for one in world.memory.outcomes.read(ENDPOINT, current)]
    assert observed == [datetime(2026, 4, 1, 8, tzinfo=UTC), None]


def test_an_endpoint_of_which_no_manifest_says_the_task_takes_no_labels(world: World) -> None:
    table = pd.DataFrame({"request_id": ["a"], "label": [1]})
    with pytest.raises(ConfigurationInvalid, match="no manifest that says its task"):
        outcome_ingest.ingest(world.platform, EndpointRef.parse("production/nobody"), table, subject="labels.csv")


def test_text_is_no_truth_of_a_regression() -> None:
    judged = (("accuracy at least 60%", "mae at most 3"), ("accuracy within", "mae within"))
    world = World((TASK, "  task: regression"), *judged, ("predict_proba", "predict"))
    world.open("run-1", "1.0.0")
    with pytest.raises(DataQualityFailed, match="text \\('late'\\) where the model predicts numbers"):
        ingest(world, ("a", "late"), ("b", 3))


# Metrics.


def row(
    number: int, label: Label, *, score: float | None = 0.5, kind: str = "probability", **changes: Any
) -> LabelledPrediction:
    fields = {"release": OLD, "served_at": MONDAY, "predicted": "", "probabilities": None}
    return LabelledPrediction(
        **{"request_id": f"r{number}", "kind": kind, "score": score, "label": label, **fields, **changes}
    )


def measured(
    task: Any, rows: list[LabelledPrediction], labels: list[Label] | None = None
) -> outcome_metrics.Performance:
    known = sorted({one.label for one in rows}, key=str) if labels is None else labels
    return outcome_metrics.measure(task, rows, known, release=OLD, since=MONDAY, until=MONDAY)


def test_a_binary_model_is_measured_from_its_scores() -> None:
    chance = random.Random(7)
    truth = [float(chance.random() < 0.3) for _ in range(500)]
    scores = [min(max(0.3 + 0.2 * label + chance.gauss(0, 0.2), 0.01), 0.99) for label in truth]
    rows = [row(n, label, score=score) for n, (label, score) in enumerate(zip(truth, scores, strict=True))]
    found = measured("binary", rows)
    assert found.metrics["auc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found.metrics["log_loss"] == pytest.approx(log_loss(truth, scores))
    agreed = [(score >= 0.5) == (label == 1.0) for label, score in zip(truth, scores, strict=True)]
    assert found.metrics["accuracy"] == pytest.approx(sum(agreed) / 500)
    assert (found.samples, found.why) == (500, "")


def test_classes_in_text_are_sorted_as_the_model_sorts_them() -> None:
    rows = [row(1, "spam", score=0.9), row(2, "ham", score=0.2), row(3, "spam", score=0.4)]
    assert measured("binary", rows).metrics["accuracy"] == pytest.approx(2 / 3)
    assert measured("binary", rows).metrics["recall"] == pytest.approx(0.5)


def test_a_day_of_one_class_only_is_not_taken_for_the_other_one() -> None:
    rows = [row(1, "ham", score=0.1), row(2, "ham", score=0.2)]
    found = measured("binary", rows, ["ham", "spam"])
    assert found.metrics["accuracy"] == 1.0 and "auc" not in found.metrics
    unknown = measured("binary", rows, ["ham"])
    assert (unknown.metrics, unknown.why) == ({}, "labels of 1 classes so far, and the model knows 2")
    assert measured("binary", [row(1, 1.0, score=0.9)]).metrics["accuracy"] == 1.0, "0 and 1 are known"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 2.0)])
def test_a_model_that_answers_labels_is_measured_by_them(low: float, high: float) -> None:
    said = [high, low, high, low]
    rows = [row(n, label, score=said[n], kind="number") for n, label in enumerate([high, low, low, low])]
    found = measured("binary", rows)
    assert (found.metrics["accuracy"], found.metrics["precision"]) == (0.75, 0.5)
    assert "auc" not in found.metrics, "labels are no probabilities"


def test_several_classes_with_probabilities_with_numbers_and_with_text() -> None:
    chances = [(0.7, 0.2, 0.1), (0.1, 0.8, 0.1), (0.2, 0.2, 0.6), (0.5, 0.3, 0.2)]
    rows = [
        row(n, label, score=max(chances[n]), probabilities=chances[n]) for n, label in enumerate(["a", "b", "c", "b"])
    ]
    found = measured("multiclass", rows)
    assert found.metrics["accuracy"] == 0.75 and found.metrics.keys() >= {"auc", "log_loss", "f1_macro"}
    pairs = [(0.0, 0.0), (2.0, 1.0), (1.0, 1.0)]
    numbers = [row(n, label, score=said, kind="number") for n, (label, said) in enumerate(pairs)]
    assert measured("multiclass", numbers).metrics["accuracy"] == pytest.approx(2 / 3)
    said_of = {"x": "x", "y": "z", "z": "z"}
    words = [row(n, of, score=None, kind="text", predicted=said) for n, (of, said) in enumerate(said_of.items())]
    assert measured("multiclass", words).metrics["accuracy"] == pytest.approx(2 / 3)


def test_a_regression_is_measured_in_its_own_unit() -> None:
    rows = [row(n, label, score=said, kind="number") for n, (label, said) in enumerate([(10.0, 12.0), (20.0, 19.0)])]
    found = measured("regression", [*rows, row(9, 3.0, score=None, kind="number")])
    assert found.metrics["mae"] == 1.5 and found.metrics["bias"] == 0.5
    assert (found.samples, found.unscored) == (2, 1)


@pytest.mark.parametrize(
    ("task", "rows", "why"),
    [
        ("binary", [row(1, 1.0, score=None, kind="number")], "no answer with a finite number"),
        ("binary", [row(1, 1.0), row(2, 1.0, kind="number")], "several kinds: number, probability"),
        ("binary", [row(1, 1.0, kind="several")], "several outputs"),
        ("binary", [row(1, "yes", kind="number"), row(2, "no", kind="number")], "labels are text"),
        ("binary", [row(1, 1.0, kind="text", predicted="yes")], "labels are numbers"),
        ("regression", [row(1, 1.0)], "answers probability"),
        ("multiclass", [row(1, 1.0, kind="number", score=0.3), row(2, 0.0, kind="number")], "none of the labels"),
        ("multiclass", [row(1, "a", probabilities=(0.2, 0.3, 0.5)), row(2, "b")], "labels of 2 classes so far"),
    ],
)
def test_what_cannot_be_measured_says_why(task: str, rows: list[LabelledPrediction], why: str) -> None:
    found = measured(task, rows)
    assert found.metrics == {}
    assert why in found.why


def test_performance_by_release_and_period(world: World, current: str) -> None:
    world.clock.advance((MONDAY - world.clock.now()).total_seconds())
    other = make_release("1.1.0").id
    for day, release, score in ((0, current, 0.9), (0, current, 0.2), (1, current, 0.8), (8, other, 0.9)):
        world.clock.advance((MONDAY + timedelta(days=day) - world.clock.now()).total_seconds())
        answer(world, release, f"{day}-{score}", score=score)
    ingest(world, ("0-0.9", 1), ("0-0.2", 1), ("1-0.8", 1), ("8-0.9", 0))
    daily = outcome_ingest.performance(world.platform, ENDPOINT, by="day")
    assert [(one.release, one.since.day, one.samples, one.metrics["accuracy"]) for one in daily] == [
        (current, 2, 2, 0.5),
        (current, 3, 1, 1.0),
        (other, 10, 1, 0.0),
    ]
    weekly = outcome_ingest.performance(world.platform, ENDPOINT, by="week")
    assert [(one.since, one.until - one.since, one.samples) for one in weekly] == [
        (datetime(2026, 3, 2, tzinfo=UTC), timedelta(days=7), 3),
        (datetime(2026, 3, 9, tzinfo=UTC), timedelta(days=7), 1),
    ]
    whole = outcome_ingest.performance(world.platform, ENDPOINT, release=current)
    assert [(one.release, one.samples) for one in whole] == [(current, 3)]
    since = MONDAY + timedelta(hours=1)
    late = outcome_ingest.performance(world.platform, ENDPOINT, release=current, since=since)
    assert [one.samples for one in late] == [1]
    assert outcome_ingest.performance(world.platform, ENDPOINT, release="9.9.9-rt1.0.0-00000000") == []


def test_a_mirror_that_ended_is_a_mirror_still(world: World, current: str) -> None:
    candidate = world.release("1.1.0")
    plane = world.memory.plane
    plane.ensure(ENDPOINT, candidate, timeout_s=1)
    mirror = Mirror(release=candidate.id, fraction=1.0)
    claim = HeadClaim(head=plane.heads(ENDPOINT)[str(ENDPOINT)])
    plane.apply(TrafficPlan(endpoint=ENDPOINT, current=current, mirror=mirror, lease_s=60.0), claim=claim)
    answer(world, candidate.id, "only-mirrored")
    plane.apply(TrafficPlan(endpoint=ENDPOINT, current=candidate.id), claim=claim)
    answer(world, candidate.id, "served")
    found = ingest(world, ("only-mirrored", 1), ("served", 1))
    assert (found.releases, found.unmatched) == ({candidate.id: 1}, 1)
