"""Predictions of a live trial, judged by real Great Expectations before more users get them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
from airflow_provider_mlpipex.domain.errors import DataQualityFailed, PlaneUnavailable
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.predictions import Prediction, PredictionSample
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged, RollbackDecided, WatchPassed
from airflow_provider_mlpipex.services.evidence.served_quality import judge_predictions, table_of
from airflow_provider_mlpipex.services.rollout.health import check_health
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from tests.support.factories import NOON
from tests.support.manifests import make_manifest
from tests.support.rollouts import ENDPOINT, LOOK_EVERY, SHADOW_S, STEP_S, WATCH_S, World

PREDICTIONS = (
    "  predictions:\n"
    "    - {expect: column_values_to_not_be_null, column: score}\n"
    "    - {expect: column_values_to_be_between, column: score, min_value: 0, max_value: 1}\n"
    '    - {expect: column_values_to_be_in_set, column: label, value_set: ["0", "1"]}\n'
    "    - {expect: column_values_to_be_between, column: amount, min_value: 0, mostly: 0.9}\n"
    "    - {expect: column_values_to_be_in_set, column: country, value_set: [NL, BE], severity: warning}\n"
)
EXPECTING = ("features:\n  columns", f"{PREDICTIONS}features:\n  columns")
GOOD = {"amount": 12.5, "country": "NL"}

Answer = tuple[float, str, Mapping[str, Any]]


class LoggingWorld(World):
    """Every release logs ten answers at each turn; ``says`` is what the release under watch answers."""

    def __init__(self, *edits: tuple[str, str], **ports: Any) -> None:
        super().__init__(EXPECTING, *edits, **{"validator": GxValidator(), **ports})
        self.says: Callable[[int], Answer] | None = lambda number: (0.25, "0", GOOD)
        self._number = 0

    def serve(self, seconds: float, **traffic: Any) -> None:
        super().serve(seconds, **traffic)
        rollout = self.state.rollout
        if rollout is None or self.says is None:
            return
        for _ in range(10):
            self._number += 1
            score, label, inputs = self.says(self._number)
            release = rollout.candidate.id
            self.memory.plane.answer(
                ENDPOINT, f"r{self._number:04}", {release: score}, labels={release: label}, inputs=inputs
            )


@pytest.fixture
def world() -> LoggingWorld:
    return LoggingWorld()


def predictions_gate(seen: WatchResult) -> GateResult:
    (found,) = [result for result in seen.results if result.gate == "predictions"]
    return found


def seconds_of(stage: str) -> float:
    return {"shadow": SHADOW_S, "canary": STEP_S, "watch": WATCH_S}[stage] + 2 * LOOK_EVERY


STAGES = [("shadow", "shadow", -1), ("canary-0", "canary", 0), ("canary-2", "canary", 2), ("watching", "watch", -1)]


@pytest.mark.parametrize(("phase", "stage", "step"), STAGES)
def test_good_predictions_let_every_stage_pass(world: LoggingWorld, phase: Any, stage: Any, step: int) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    seen = world.watch("run-2", stage, step, seconds=seconds_of(stage))
    assert (seen.status, predictions_gate(seen).verdict) == ("passed", "pass")
    assert predictions_gate(seen).evidence.samples > 100
    judged = world.events(GatesJudged)[-1]
    assert (judged.stage, [result.gate for result in judged.results][-1]) == (stage, "predictions")


@pytest.mark.parametrize(("phase", "stage", "step"), STAGES)
def test_broken_predictions_return_the_traffic_before_more_users_get_them(
    world: LoggingWorld, phase: Any, stage: Any, step: int
) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to=phase)
    # A hundredth of the answers is no probability: too few for any other gate.
    world.says = lambda number: (1.75 if number % 100 == 0 else 0.25, "0", GOOD)
    seen = world.watch("run-2", stage, step, seconds=seconds_of(stage))
    assert (seen.status, seen.verdict) == ("ended", "fail")
    assert "score: column_values_to_be_between (min_value=0, max_value=1), observed " in seen.cause
    assert "for example 1.75 in request_id=r" in seen.cause
    assert world.weights == {first.id: 10_000}
    assert world.events(RollbackDecided)[-1].cause == seen.cause
    assert world.events(GatesJudged)[-1].results[-1].gate == "predictions"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((float("nan"), "nan", GOOD), "score: column_values_to_not_be_null"),
        ((float("inf"), "inf", GOOD), "score: column_values_to_not_be_null"),
        ((0.25, "2", GOOD), "label: column_values_to_be_in_set"),
        ((0.25, "0", {"country": "NL"}), 'The column "amount" in BatchData does not exist'),
        ((0.25, "0", {"amount": "12", "country": "NL"}), "amount: column_values_to_be_between"),
        ((0.25, "0", {"amount": None, "country": "NL"}), "every value is missing"),
        ((0.25, "0", {}), "does not exist"),
    ],
    ids=["nan", "infinite", "new-label", "missing", "retyped", "no-value", "no-inputs"],
)
def test_bad_predictions_are_a_clear_verdict(world: LoggingWorld, answer: Answer, told: str) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    world.says = lambda number: answer
    seen = world.watch("run-2", "shadow", seconds=seconds_of("shadow"))
    assert (seen.status, seen.verdict) == ("ended", "fail")
    assert told in seen.cause


def test_a_warning_about_predictions_is_told_and_stops_nothing(world: LoggingWorld) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    world.says = lambda number: (0.25, "0", {**GOOD, "country": "DE"})
    seen = world.watch("run-2", "shadow", seconds=seconds_of("shadow"))
    assert (seen.status, predictions_gate(seen).verdict) == ("passed", "pass")
    assert "warning: country: column_values_to_be_in_set" in predictions_gate(seen).reason


def test_a_trial_without_predictions_never_passes(world: LoggingWorld) -> None:
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.says = None
    seen = world.watch("run-2", "canary", 0, seconds=STEP_S + LOOK_EVERY)
    assert (seen.status, predictions_gate(seen).verdict) == ("watching", "inconclusive")
    assert "no predictions of 1.1.0" in predictions_gate(seen).reason
    seen = world.watch("run-2", "canary", 0, seconds=3 * STEP_S)
    assert seen.cause.startswith("on hold") and "predictions inconclusive" in seen.cause
    assert world.weights[first.id] == 9_500


def test_a_watch_without_predictions_ends_without_a_pass(world: LoggingWorld) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    world.says = None
    assert world.watch("run-2", "watch", seconds=seconds_of("watch")).status == "passed"
    assert world.events(WatchPassed)[-1].verdict == "inconclusive"
    assert world.state.current is not None and world.state.current.model.version == "1.1.0"


def test_lossy_logs_say_nothing_about_predictions(world: LoggingWorld) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="canary-0")
    world.memory.plane.drop_predictions(ENDPOINT, world.release("1.1.0").id, 500)
    seen = world.watch("run-2", "canary", 0, seconds=STEP_S + LOOK_EVERY)
    assert (seen.status, predictions_gate(seen).verdict) == ("watching", "inconclusive")
    assert "of the predictions were lost, at most 1%" in predictions_gate(seen).reason


def test_predictions_are_judged_once_a_stage_and_only_then(world: LoggingWorld) -> None:
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    asked: list[Any] = []
    judge = GxValidator().validate

    class Counting(GxValidator):
        def validate(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(kwargs["subject"])
            return judge(*args, **kwargs)

    world.platform = replace(world.platform, validator=Counting())
    assert world.watch("run-2", "shadow", seconds=seconds_of("shadow")).status == "passed"
    assert asked == [f"predictions of {world.release('1.1.0').id}"]


def test_a_manifest_without_expectations_asks_for_no_predictions() -> None:
    world = World()
    world.first_release()
    world.bring("run-2", "1.1.0", to="shadow")
    seen = world.watch("run-2", "shadow", seconds=seconds_of("shadow"))
    assert seen.status == "passed"
    assert "predictions" not in {result.gate for result in seen.results}


# Outside of a rollout.


def health(world: LoggingWorld) -> WatchResult:
    return check_health(world.platform, ENDPOINT)


def answer_now(world: LoggingWorld, score: float, count: int = 20) -> None:
    current = world.state.current
    assert current is not None
    for number in range(count):
        world.memory.plane.answer(ENDPOINT, f"h{number}", {current.id: score}, labels={current.id: "0"}, inputs=GOOD)
    world.clock.advance(60)


def test_the_scheduled_watch_judges_predictions_too(world: LoggingWorld) -> None:
    world.first_release()
    world.clock.advance(10 * WATCH_S)
    answer_now(world, 0.25)
    assert predictions_gate(health(world)).verdict == "pass"
    world.clock.advance(10 * WATCH_S)
    answer_now(world, 7.5)
    seen = health(world)
    assert (seen.verdict, predictions_gate(seen).verdict) == ("fail", "fail")
    assert "for example 7.5 in request_id=h" in seen.cause
    assert world.alerts[-1][1] == f"{ENDPOINT} unhealthy"
    assert world.state.current is not None and world.state.current.model.version == "1.0.0"


# One judgement.


def judged(world: World, **changes: Any) -> GateResult:
    asked: dict[str, Any] = {"release_id": "1.0.0", "since": NOON - timedelta(hours=1), "until": NOON, **changes}
    (found,) = judge_predictions(world.platform, ENDPOINT, make_manifest(EXPECTING), **asked)
    return found


def test_a_plane_that_is_away_is_an_error_and_no_pass(world: LoggingWorld) -> None:
    world.memory.plane.away = True
    found = judged(world)
    assert found.verdict == "error" and PlaneUnavailable.__name__ not in found.reason
    assert "serving plane in memory" in found.reason


def test_a_validator_that_gives_up_is_an_error_and_no_pass() -> None:
    class Broken(GxValidator):
        def validate(self, *args: Any, **kwargs: Any) -> Any:
            raise DataQualityFailed("Great Expectations", value="gave up")

    world = LoggingWorld(validator=Broken())
    now = world.clock.now()
    world.memory.plane.answer(ENDPOINT, "r1", {"1.0.0": 0.25})
    assert judged(world, since=now, until=now).verdict == "error"


def test_the_whole_result_is_kept_where_the_user_points(tmp_path: Path) -> None:
    world = LoggingWorld(validator=GxValidator(tmp_path))
    now = world.clock.now()
    world.memory.plane.answer(ENDPOINT, "r1", {"1.0.0": 7.5}, labels={"1.0.0": "0"}, inputs=GOOD)
    found = judged(world, since=now, until=now)
    (page,) = tmp_path.glob("fraud-scorer/validations/predictions/*/*/result.html")
    assert str(page) in found.reason
    assert "r1" in page.read_text(encoding="utf-8")


def test_the_table_has_inputs_outputs_and_what_names_a_row() -> None:
    rows = (
        Prediction(request_id="a", at=NOON, inputs={"amount": 1.0}, output=[0.25, 0.75], score=0.75, label="1"),
        Prediction(request_id="b", at=NOON, batch="monday", output={"price": 3, "risk": "low"}, score=3.0, label="3.0"),
        Prediction(request_id="c", at=NOON, inputs={"amount": None, "score": "an input"}, output=float("nan")),
    )
    table = table_of(PredictionSample(release="1.0.0", since=NOON, until=NOON, rows=rows, total=3))
    assert set(table.columns) == {
        "request_id", "at", "batch", "score", "label", "amount",
        "output_0", "output_1", "output_price", "output_risk",
    }  # fmt: skip
    assert table["score"].isna().tolist() == [False, False, True]
    assert (table["score"].dtype, table["at"].dtype) == ("float64", pd.DatetimeTZDtype(tz="UTC"))
    assert table["batch"].tolist() == ["", "monday", ""]
